// SPDX-License-Identifier: LGPL-3.0-or-later
// The outer part of the embedding's kernels: cuts the work into units, runs them, adds up what they
// give.
#include "op/kernels/embedding.h"

#include <algorithm>

#include "op/kernels/direct_units.h"
#include "op/kernels/instruction_set.h"
#include "op/kernels/pairs.h"
#include "op/kernels/series_units.h"
#include "op/kernels/sorted_pairs.h"
#include "op/kernels/unit_gradients.h"

namespace dpmask {
namespace {

// A share of the work is one thread's; beyond so many centres, X of a share leaves its cache.
constexpr int64_t kCentresOfShare = 128;

// What the kernels of the embedding begin with.
template <typename T>
struct EmbeddingWork {
  EmbeddingWork(const Embedding<T>& of, Cpu& with)
      : embedding(of), cpu(with), scope(with), pairs(of.atoms, with),
        sorted(sort_pairs(of, pairs, with)), direct(DPMASK_CHOOSE(direct_units, <T>)),
        by_series(DPMASK_CHOOSE(series_units, <T>)) {}

  // Calls body(unit) for each unit.
  template <typename Body>
  void for_each_unit(const Body& body) const {
    cpu.parallel(pairs.nunits, body);
  }

  // Calls body(units) for shares of the units: as few as keep all threads busy, since each share
  // reads all of C. They do not take equally long, so that threads have two each where it pays.
  template <typename Body>
  void for_each_share(const Body& body) const {
    const int64_t threads = cpu.threads();
    const int64_t least = threads > 1 && pairs.npairs > kFewPairs ? 2 : 1;
    const int64_t rounds = std::max(least, 1 + embedding.atoms.size / (kCentresOfShare * threads));
    const int64_t nshares = std::min(rounds * threads, pairs.nunits);
    cpu.parallel(nshares, [&](int64_t share) {
      body(Units{share * pairs.nunits / nshares, (share + 1) * pairs.nunits / nshares});
    });
  }

  // Zeroes what an array shaped like X has of the centres of these units.
  void clear(const Units& units, T* X) const {
    const int64_t of_centre = 4 * embedding.nets.neuron.back();
    std::fill(X + pairs.unit_first[units.first] * of_centre,
              X + pairs.unit_first[units.end] * of_centre, T(0));
  }

  // Sets dC [npanels, kTerms, M1]; add(panel, its dC) adds to that.
  template <typename Add>
  void set_gradient(T* dC, const Add& add) const {
    const int64_t of_panel = kTerms * embedding.nets.neuron.back();
    cpu.parallel(embedding.series.npanels(), [&](int64_t panel) {
      std::fill_n(dC + panel * of_panel, of_panel, T(0));
      add(panel, dC + panel * of_panel);
    });
  }

  const Embedding<T>& embedding;
  Cpu& cpu;
  Cpu::Scope scope;
  Pairs pairs;
  SortedPairs sorted;
  DirectUnits<T> direct;
  SeriesUnits<T> by_series;
};

template <typename T>
void embed(const EmbeddingWork<T>& work, T* X) {
  work.for_each_share([&](const Units& units) {
    work.clear(units, X);
    for (int64_t unit = units.first; unit < units.end; ++unit) {
      work.direct.embed(work.embedding, work.pairs, unit, X);
    }
    work.by_series.embed(work.embedding, work.sorted, units, X);
  });
}

template <typename T>
void force(const EmbeddingWork<T>& work, const T* A, const Forces& out) {
  const PairDerivatives of_pairs = allocate_derivatives(work.pairs, out, work.cpu);
  work.for_each_share([&](const Units& units) {
    for (int64_t unit = units.first; unit < units.end; ++unit) {
      clear_derivatives(work.pairs, unit, of_pairs);
      work.direct.force(work.embedding, work.pairs, unit, A, of_pairs);
    }
    work.by_series.force(work.embedding, work.pairs, work.sorted, units, A, of_pairs);
  });
  gather_forces(work.embedding.atoms, work.pairs, work.embedding.coord, of_pairs, out, work.cpu);
}

}  // namespace

template <typename T>
void embed(const Embedding<T>& embedding, T* X, Cpu& cpu) {
  embed(EmbeddingWork<T>(embedding, cpu), X);
}

template <typename T>
void embed_grad(const Embedding<T>& embedding, const T* dX, const NetGradients<T>& gradients,
                Cpu& cpu) {
  const EmbeddingWork<T> work(embedding, cpu);
  UnitGradients<T> of_units(embedding, work.pairs);
  work.for_each_unit([&](int64_t unit) {
    work.direct.embed_grad(embedding, work.pairs, unit, dX, of_units.of_unit(unit));
  });
  of_units.add_up(gradients.parameters, cpu);
  work.set_gradient(gradients.C, [&](int64_t panel, T* dC) {
    work.by_series.gradient(embedding, work.sorted, panel, dX, dC);
  });
}

template <typename T>
void force(const Embedding<T>& embedding, const T* A, const Forces& out, Cpu& cpu) {
  force(EmbeddingWork<T>(embedding, cpu), A, out);
}

template <typename T>
void embed_and_force(const Embedding<T>& embedding, T* X, const Callback<>& set_A, const T* A,
                     const Forces& out, Cpu& cpu) {
  const EmbeddingWork<T> work(embedding, cpu);
  embed(work, X);
  set_A();
  if (out.force != nullptr) force(work, A, out);
}

// With the derivative of X along all u_ij in the place of X, and A in that of dX, X is dA and the
// gradient of the nets is found as embed_grad does.
template <typename T>
void force_grad(const Embedding<T>& embedding, const T* A, const ForceCotangents& cotangents, T* dA,
                const NetGradients<T>& gradients, Cpu& cpu) {
  const EmbeddingWork<T> work(embedding, cpu);
  UnitGradients<T> of_units(embedding, work.pairs);
  work.for_each_share([&](const Units& units) {
    work.clear(units, dA);
    for (int64_t unit = units.first; unit < units.end; ++unit) {
      work.direct.force_grad(embedding, work.pairs, unit, A, cotangents, dA,
                             of_units.of_unit(unit));
    }
    work.by_series.embed_tangent(embedding, work.pairs, work.sorted, cotangents, units, dA);
  });
  of_units.add_up(gradients.parameters, cpu);
  work.set_gradient(gradients.C, [&](int64_t panel, T* dC) {
    work.by_series.tangent_gradient(embedding, work.pairs, work.sorted, cotangents, panel, A, dC);
  });
}

#define DPMASK_INSTANTIATE(T)                                                               \
  template void embed<T>(const Embedding<T>&, T*, Cpu&);                                    \
  template void embed_grad<T>(const Embedding<T>&, const T*, const NetGradients<T>&, Cpu&); \
  template void force<T>(const Embedding<T>&, const T*, const Forces&, Cpu&);               \
  template void embed_and_force<T>(const Embedding<T>&, T*, const Callback<>&, const T*,    \
                                   const Forces&, Cpu&);                                    \
  template void force_grad<T>(const Embedding<T>&, const T*, const ForceCotangents&, T*,    \
                              const NetGradients<T>&, Cpu&)
DPMASK_INSTANTIATE(float);
DPMASK_INSTANTIATE(double);

}  // namespace dpmask
