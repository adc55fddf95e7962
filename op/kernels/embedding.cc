// SPDX-License-Identifier: LGPL-3.0-or-later
// The outer part of the embedding's kernels: cuts the work into units, runs them, adds up what they
// give.
#include "op/kernels/embedding.h"

#include <algorithm>
#include <memory>

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
  EmbeddingWork(const Embedding<T>& of, const Parallel& with)
      : embedding(of), parallel(with), pairs(of.atoms), direct(DPMASK_CHOOSE(direct_units, <T>)),
        by_series(DPMASK_CHOOSE(series_units, <T>)) {}

  // Calls body(unit) for each unit.
  template <typename Body>
  void for_each_unit(Body&& body) const {
    parallel(pairs.nunits(), body);
  }

  // Zeroes an array shaped like X.
  void clear(T* X) const {
    std::fill(X, X + embedding.atoms.size * 4 * embedding.nets.neuron.back(), T(0));
  }

  const Embedding<T>& embedding;
  const Parallel& parallel;
  Pairs pairs;
  DirectUnits<T> direct;
  SeriesUnits<T> by_series;
};

// The moments of all units.
template <typename T>
class AllMoments {
 public:
  explicit AllMoments(const EmbeddingWork<T>& work)
      : pairs_(work.pairs), npanels_(work.embedding.series.npanels()),
        count_(npanels_ * pairs_.nunits(), 0),
        centre_(new int64_t[npanels_ * work.embedding.atoms.size]),
        M_(new T[npanels_ * work.embedding.atoms.size * 4 * kTerms]) {}

  UnitMoments<T> operator[](int64_t unit) {
    const int64_t before = npanels_ * pairs_.unit_first[unit];
    return {pairs_.unit_first[unit + 1] - pairs_.unit_first[unit], count_.data() + npanels_ * unit,
            centre_.get() + before, M_.get() + before * 4 * kTerms};
  }

  // Sets dC [npanels, kTerms, M1] to the sum of M_i dX_i over all centres.
  void add_up(const EmbeddingWork<T>& work, const T* dX, T* dC) {
    const int64_t of_panel = kTerms * work.embedding.nets.neuron.back();
    work.parallel(npanels_, [&](int64_t panel) {
      std::fill_n(dC + panel * of_panel, of_panel, T(0));
      for (int64_t unit = 0; unit < pairs_.nunits(); ++unit) {
        work.by_series.add_gradient(work.embedding, (*this)[unit], panel, dX, dC);
      }
    });
  }

 private:
  const Pairs& pairs_;
  int64_t npanels_;
  std::vector<int64_t> count_;
  // Not set to zero beforehand: most of a long list of panels is never used.
  std::unique_ptr<int64_t[]> centre_;
  std::unique_ptr<T[]> M_;
};

}  // namespace

template <typename T>
void embed(const Embedding<T>& embedding, T* X, const Parallel& parallel) {
  const EmbeddingWork<T> work(embedding, parallel);
  AllMoments<T> moments(work);
  work.clear(X);
  work.for_each_unit([&](int64_t unit) {
    work.direct.embed(embedding, work.pairs, unit, X);
    work.by_series.moments(embedding, work.pairs, unit, moments[unit]);
    work.by_series.add_X(embedding, moments[unit], X);
  });
}

template <typename T>
void embed_grad(const Embedding<T>& embedding, const T* dX, const NetGradients<T>& gradients,
                const Parallel& parallel) {
  const EmbeddingWork<T> work(embedding, parallel);
  AllMoments<T> moments(work);
  UnitGradients<T> of_units(embedding, work.pairs);
  work.for_each_unit([&](int64_t unit) {
    work.direct.embed_grad(embedding, work.pairs, unit, dX, of_units.of_unit(unit));
    work.by_series.moments(embedding, work.pairs, unit, moments[unit]);
  });
  of_units.add_up(gradients.parameters, parallel);
  moments.add_up(work, dX, gradients.C);
}

template <typename T>
void force(const Embedding<T>& embedding, const T* A, const Forces& out, const Parallel& parallel) {
  const EmbeddingWork<T> work(embedding, parallel);
  AllMoments<T> moments(work);
  std::vector<double> dr(3 * work.pairs.npairs, 0.0);
  work.for_each_unit([&](int64_t unit) {
    work.direct.force(embedding, work.pairs, unit, A, dr.data());
    work.by_series.force(embedding, work.pairs, unit, A, moments[unit], dr.data());
  });
  gather_forces(embedding.atoms, work.pairs, embedding.coord, dr.data(), out, parallel);
}

// With the derivative of M_i along all u_ij in the place of M_i, and A in that of dX, dX is dA and
// the gradient of the nets is found as embed_grad does.
template <typename T>
void force_grad(const Embedding<T>& embedding, const T* A, const ForceCotangents& cotangents, T* dA,
                const NetGradients<T>& gradients, const Parallel& parallel) {
  const EmbeddingWork<T> work(embedding, parallel);
  AllMoments<T> tangents(work);
  UnitGradients<T> of_units(embedding, work.pairs);
  work.clear(dA);
  work.for_each_unit([&](int64_t unit) {
    work.direct.force_grad(embedding, work.pairs, unit, A, cotangents, dA, of_units.of_unit(unit));
    work.by_series.moments_tangent(embedding, work.pairs, cotangents, unit, tangents[unit]);
    work.by_series.add_X(embedding, tangents[unit], dA);
  });
  of_units.add_up(gradients.parameters, parallel);
  tangents.add_up(work, A, gradients.C);
}

#define DPMASK_INSTANTIATE(T)                                                            \
  template void embed<T>(const Embedding<T>&, T*, const Parallel&);                      \
  template void embed_grad<T>(const Embedding<T>&, const T*, const NetGradients<T>&,     \
                              const Parallel&);                                          \
  template void force<T>(const Embedding<T>&, const T*, const Forces&, const Parallel&); \
  template void force_grad<T>(const Embedding<T>&, const T*, const ForceCotangents&, T*, \
                              const NetGradients<T>&, const Parallel&)
DPMASK_INSTANTIATE(float);
DPMASK_INSTANTIATE(double);

}  // namespace dpmask
