// SPDX-License-Identifier: LGPL-3.0-or-later
// The outer part of the embedding's kernels: cuts the work into units, runs them, adds up what they
// give.
#include "op/kernels/embedding.h"

#include <algorithm>

#include "op/kernels/direct_units.h"
#include "op/kernels/instruction_set.h"
#include "op/kernels/pairs.h"
#include "op/kernels/series_units.h"
#include "op/kernels/unit_gradients.h"

namespace dpmask {
namespace {

// What the kernels of the embedding begin with.
template <typename T>
struct EmbeddingWork {
  EmbeddingWork(const Embedding<T>& of, Cpu& with)
      : embedding(of), cpu(with), scope(with), pairs(of.atoms, with),
        direct(DPMASK_CHOOSE(direct_units, <T>)), by_series(DPMASK_CHOOSE(series_units, <T>)) {}

  // Calls body(unit) for each unit.
  template <typename Body>
  void for_each_unit(const Body& body) const {
    cpu.parallel(pairs.nunits, body);
  }

  // Zeroes an array shaped like X.
  void clear(T* X) const {
    std::fill(X, X + embedding.atoms.size * 4 * embedding.nets.neuron.back(), T(0));
  }

  const Embedding<T>& embedding;
  Cpu& cpu;
  Cpu::Scope scope;
  Pairs pairs;
  DirectUnits<T> direct;
  SeriesUnits<T> by_series;
};

// The moments of a unit, and scratch beside them, in memory of the calling thread.
template <typename T>
class MomentsOfUnit {
 public:
  MomentsOfUnit(const EmbeddingWork<T>& work, int64_t unit)
      : MomentsOfUnit(work, unit, nullptr, nullptr, nullptr) {}
  // All but the scratch is elsewhere.
  MomentsOfUnit(const EmbeddingWork<T>& work, int64_t unit, int64_t* count, int64_t* centre, T* M)
      : scope_(arena_) {
    const int64_t npanels = work.embedding.series.npanels();
    const int64_t ncentres = work.pairs.unit_first[unit + 1] - work.pairs.unit_first[unit];
    const int64_t size = npanels * ncentres;
    if (M == nullptr) {
      count = zeros(npanels);
      centre = arena_.allocate<int64_t>(size);
      M = arena_.allocate<T>(size * 4 * kTerms);
    }
    moments_ = {ncentres,
                count,
                centre,
                M,
                arena_.allocate<T>(size * 4 * kTerms),
                zeros(npanels),
                arena_.allocate<T>(ncentres * 4 * work.embedding.nets.neuron.back())};
  }
  const UnitMoments<T>& operator*() const { return moments_; }

 private:
  int64_t* zeros(int64_t size) {
    int64_t* array = arena_.allocate<int64_t>(size);
    std::fill_n(array, size, 0);
    return array;
  }

  Arena& arena_ = Arena::of_thread();
  Arena::Scope scope_;
  UnitMoments<T> moments_;
};

// The moments of all units, for gradients.
template <typename T>
class AllMoments {
 public:
  explicit AllMoments(const EmbeddingWork<T>& work)
      : work_(work), npanels_(work.embedding.series.npanels()),
        count_(work.cpu.template allocate_zeros<int64_t>(npanels_ * work.pairs.nunits)),
        centre_(work.cpu.template allocate<int64_t>(npanels_ * work.embedding.atoms.size)),
        // Not set to zero: most of a long list of panels is never used.
        M_(work.cpu.template allocate<T>(npanels_ * work.embedding.atoms.size * 4 * kTerms)) {}

  MomentsOfUnit<T> operator[](int64_t unit) const {
    const int64_t before = npanels_ * work_.pairs.unit_first[unit];
    return {work_, unit, count_ + npanels_ * unit, centre_ + before, M_ + before * 4 * kTerms};
  }

  // Sets dC [npanels, kTerms, M1] to the sum of M_i dX_i over all centres.
  void add_up(const T* dX, T* dC) const {
    const int64_t of_panel = kTerms * work_.embedding.nets.neuron.back();
    work_.cpu.parallel(npanels_, [&](int64_t panel) {
      std::fill_n(dC + panel * of_panel, of_panel, T(0));
      for (int64_t unit = 0; unit < work_.pairs.nunits; ++unit) {
        work_.by_series.add_gradient(work_.embedding, *(*this)[unit], panel, dX, dC);
      }
    });
  }

 private:
  const EmbeddingWork<T>& work_;
  int64_t npanels_;
  int64_t *count_, *centre_;
  T* M_;
};

}  // namespace

template <typename T>
void embed(const Embedding<T>& embedding, T* X, Cpu& cpu) {
  const EmbeddingWork<T> work(embedding, cpu);
  work.clear(X);
  work.for_each_unit([&](int64_t unit) {
    work.direct.embed(embedding, work.pairs, unit, X);
    const MomentsOfUnit<T> moments(work, unit);
    work.by_series.moments(embedding, work.pairs, unit, *moments);
    work.by_series.add_X(embedding, *moments, X);
  });
}

template <typename T>
void embed_grad(const Embedding<T>& embedding, const T* dX, const NetGradients<T>& gradients,
                Cpu& cpu) {
  const EmbeddingWork<T> work(embedding, cpu);
  const AllMoments<T> moments(work);
  UnitGradients<T> of_units(embedding, work.pairs);
  work.for_each_unit([&](int64_t unit) {
    work.direct.embed_grad(embedding, work.pairs, unit, dX, of_units.of_unit(unit));
    work.by_series.moments(embedding, work.pairs, unit, *moments[unit]);
  });
  of_units.add_up(gradients.parameters, cpu);
  moments.add_up(dX, gradients.C);
}

template <typename T>
void force(const Embedding<T>& embedding, const T* A, const Forces& out, Cpu& cpu) {
  const EmbeddingWork<T> work(embedding, cpu);
  double* dr = cpu.allocate_zeros<double>(3 * work.pairs.npairs);
  work.for_each_unit([&](int64_t unit) {
    work.direct.force(embedding, work.pairs, unit, A, dr);
    work.by_series.force(embedding, work.pairs, unit, A, *MomentsOfUnit<T>(work, unit), dr);
  });
  gather_forces(embedding.atoms, work.pairs, embedding.coord, dr, out, cpu);
}

// With the derivative of M_i along all u_ij in the place of M_i, and A in that of dX, dX is dA and
// the gradient of the nets is found as embed_grad does.
template <typename T>
void force_grad(const Embedding<T>& embedding, const T* A, const ForceCotangents& cotangents, T* dA,
                const NetGradients<T>& gradients, Cpu& cpu) {
  const EmbeddingWork<T> work(embedding, cpu);
  const AllMoments<T> tangents(work);
  UnitGradients<T> of_units(embedding, work.pairs);
  work.clear(dA);
  work.for_each_unit([&](int64_t unit) {
    work.direct.force_grad(embedding, work.pairs, unit, A, cotangents, dA, of_units.of_unit(unit));
    const MomentsOfUnit<T> of_unit = tangents[unit];
    work.by_series.moments_tangent(embedding, work.pairs, cotangents, unit, *of_unit);
    work.by_series.add_X(embedding, *of_unit, dA);
  });
  of_units.add_up(gradients.parameters, cpu);
  tangents.add_up(A, gradients.C);
}

#define DPMASK_INSTANTIATE(T)                                                               \
  template void embed<T>(const Embedding<T>&, T*, Cpu&);                                    \
  template void embed_grad<T>(const Embedding<T>&, const T*, const NetGradients<T>&, Cpu&); \
  template void force<T>(const Embedding<T>&, const T*, const Forces&, Cpu&);               \
  template void force_grad<T>(const Embedding<T>&, const T*, const ForceCotangents&, T*,    \
                              const NetGradients<T>&, Cpu&)
DPMASK_INSTANTIATE(float);
DPMASK_INSTANTIATE(double);

}  // namespace dpmask
