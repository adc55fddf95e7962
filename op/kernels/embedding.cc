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

// The moments of all units.
template <typename T>
class AllMoments {
 public:
  // is_pair says whether there are two arrays like the moments.
  AllMoments(const EmbeddingWork<T>& work, bool is_pair)
      : unit_first_(work.pairs.unit_first), npanels_(work.embedding.series.npanels()),
        M1_(work.embedding.nets.neuron.back()),
        count_(work.cpu.template allocate_zeros<int64_t>(2 * npanels_ * work.pairs.nunits)),
        centre_(work.cpu.template allocate<int64_t>(npanels_ * work.embedding.atoms.size)),
        M_(allocate(work)), second_(is_pair ? allocate(work) : nullptr),
        blocks_(work.cpu.template allocate<T>(work.embedding.atoms.size * 4 * M1_)) {}

  UnitMoments<T> operator[](int64_t unit) const {
    const int64_t first = unit_first_[unit], before = npanels_ * first * 4 * kTerms;
    int64_t* counts = count_ + 2 * npanels_ * unit;
    return {unit_first_[unit + 1] - first,
            counts,
            centre_ + npanels_ * first,
            M_ + before,
            second_ == nullptr ? nullptr : second_ + before,
            counts + npanels_,
            blocks_ + first * 4 * M1_};
  }

  // Sets dC [npanels, kTerms, M1] to the sum of M_i dX_i over all centres.
  void add_up(const EmbeddingWork<T>& work, const T* dX, T* dC) const {
    const int64_t of_panel = kTerms * M1_;
    work.cpu.parallel(npanels_, [&](int64_t panel) {
      std::fill_n(dC + panel * of_panel, of_panel, T(0));
      for (int64_t unit = 0; unit < work.pairs.nunits; ++unit) {
        work.by_series.add_gradient(work.embedding, (*this)[unit], panel, dX, dC);
      }
    });
  }

 private:
  // Most of a long list of panels is never used, so nothing is set to zero.
  T* allocate(const EmbeddingWork<T>& work) const {
    return work.cpu.template allocate<T>(npanels_ * work.embedding.atoms.size * 4 * kTerms);
  }

  const int64_t* unit_first_;
  int64_t npanels_, M1_;
  int64_t *count_, *centre_;
  T *M_, *second_, *blocks_;
};

}  // namespace

template <typename T>
void embed(const Embedding<T>& embedding, T* X, Cpu& cpu) {
  const EmbeddingWork<T> work(embedding, cpu);
  const AllMoments<T> moments(work, false);
  work.clear(X);
  work.for_each_unit([&](int64_t unit) {
    work.direct.embed(embedding, work.pairs, unit, X);
    work.by_series.moments(embedding, work.pairs, unit, moments[unit]);
    work.by_series.add_X(embedding, moments[unit], X);
  });
}

template <typename T>
void embed_grad(const Embedding<T>& embedding, const T* dX, const NetGradients<T>& gradients,
                Cpu& cpu) {
  const EmbeddingWork<T> work(embedding, cpu);
  const AllMoments<T> moments(work, false);
  UnitGradients<T> of_units(embedding, work.pairs);
  work.for_each_unit([&](int64_t unit) {
    work.direct.embed_grad(embedding, work.pairs, unit, dX, of_units.of_unit(unit));
    work.by_series.moments(embedding, work.pairs, unit, moments[unit]);
  });
  of_units.add_up(gradients.parameters, cpu);
  moments.add_up(work, dX, gradients.C);
}

template <typename T>
void force(const Embedding<T>& embedding, const T* A, const Forces& out, Cpu& cpu) {
  const EmbeddingWork<T> work(embedding, cpu);
  const AllMoments<T> moments(work, true);
  double* dr = cpu.allocate_zeros<double>(3 * work.pairs.npairs);
  work.for_each_unit([&](int64_t unit) {
    work.direct.force(embedding, work.pairs, unit, A, dr);
    work.by_series.force(embedding, work.pairs, unit, A, moments[unit], dr);
  });
  gather_forces(embedding.atoms, work.pairs, embedding.coord, dr, out, cpu);
}

// With the derivative of M_i along all u_ij in the place of M_i, and A in that of dX, dX is dA and
// the gradient of the nets is found as embed_grad does.
template <typename T>
void force_grad(const Embedding<T>& embedding, const T* A, const ForceCotangents& cotangents, T* dA,
                const NetGradients<T>& gradients, Cpu& cpu) {
  const EmbeddingWork<T> work(embedding, cpu);
  const AllMoments<T> tangents(work, true);
  UnitGradients<T> of_units(embedding, work.pairs);
  work.clear(dA);
  work.for_each_unit([&](int64_t unit) {
    work.direct.force_grad(embedding, work.pairs, unit, A, cotangents, dA, of_units.of_unit(unit));
    work.by_series.moments_tangent(embedding, work.pairs, cotangents, unit, tangents[unit]);
    work.by_series.add_X(embedding, tangents[unit], dA);
  });
  of_units.add_up(gradients.parameters, cpu);
  tangents.add_up(work, A, gradients.C);
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
