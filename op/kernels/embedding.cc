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

  // A bound for the rows of a unit.
  int64_t most_rows_of(int64_t unit, int64_t rows_of_pair) const {
    const int64_t* first = pairs.unit_first + unit;
    int64_t npairs = 0;  // and those of an atom with itself
    for (int64_t i = first[0]; i < first[1]; ++i) npairs += pairs.frame_size[pairs.frame[i]];
    return most_rows(rows_of_pair * npairs, first[1] - first[0], embedding.series.npanels());
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

// The rows of all units or, in memory of the calling thread, of one.
template <typename T>
UnitRows<T> allocate_rows(Arena& arena, int64_t nunits, int64_t npanels, int64_t most) {
  return {arena.allocate<int64_t>(nunits * (npanels + 1)), arena.allocate<bool>(nunits * npanels),
          arena.allocate<T>(most * kTerms), arena.allocate<T>(most * 4),
          arena.allocate<int64_t>(most)};
}

template <typename T>
class RowsOfUnit {
 public:
  RowsOfUnit(const EmbeddingWork<T>& work, int64_t unit)
      : scope_(arena_), rows_(allocate_rows<T>(arena_, 1, work.embedding.series.npanels(),
                                               work.most_rows_of(unit, kRowsOfPair))) {}
  const UnitRows<T>& operator*() const { return rows_; }

 private:
  Arena& arena_ = Arena::of_thread();
  Arena::Scope scope_;
  UnitRows<T> rows_;
};

// The rows of all units, for gradients.
template <typename T>
class AllRows {
 public:
  AllRows(const EmbeddingWork<T>& work, int64_t rows_of_pair)
      : work_(work), npanels_(work.embedding.series.npanels()),
        before_(work.cpu.template allocate<int64_t>(work.pairs.nunits + 1)) {
    before_[0] = 0;
    for (int64_t unit = 0; unit < work.pairs.nunits; ++unit) {
      before_[unit + 1] = before_[unit] + work.most_rows_of(unit, rows_of_pair);
    }
    // Not set to zero: most of it is never used.
    all_ =
        allocate_rows<T>(work.cpu.arena(), work.pairs.nunits, npanels_, before_[work.pairs.nunits]);
  }

  UnitRows<T> operator[](int64_t unit) const {
    const int64_t row = before_[unit];
    return {all_.first + unit * (npanels_ + 1), all_.are_of_pairs + unit * npanels_,
            all_.P + row * kTerms, all_.w + row * 4, all_.centre + row};
  }

  // Sets dC [npanels, kTerms, M1] to what SeriesUnits::add_gradient gives, over all units.
  void add_up(const T* dX, T* dC) const {
    const int64_t of_panel = kTerms * work_.embedding.nets.neuron.back();
    work_.cpu.parallel(npanels_, [&](int64_t panel) {
      std::fill_n(dC + panel * of_panel, of_panel, T(0));
      for (int64_t unit = 0; unit < work_.pairs.nunits; ++unit) {
        work_.by_series.add_gradient(work_.embedding, (*this)[unit], panel, dX, dC);
      }
    });
  }

 private:
  const EmbeddingWork<T>& work_;
  int64_t npanels_;
  int64_t* before_;  // [nunits + 1]; rows of the units before
  UnitRows<T> all_;
};

}  // namespace

template <typename T>
void embed(const Embedding<T>& embedding, T* X, Cpu& cpu) {
  const EmbeddingWork<T> work(embedding, cpu);
  work.clear(X);
  work.for_each_unit([&](int64_t unit) {
    work.direct.embed(embedding, work.pairs, unit, X);
    const RowsOfUnit<T> rows(work, unit);
    work.by_series.rows(embedding, work.pairs, unit, *rows);
    work.by_series.add_X(embedding, *rows, X);
  });
}

template <typename T>
void embed_grad(const Embedding<T>& embedding, const T* dX, const NetGradients<T>& gradients,
                Cpu& cpu) {
  const EmbeddingWork<T> work(embedding, cpu);
  const AllRows<T> rows(work, kRowsOfPair);
  UnitGradients<T> of_units(embedding, work.pairs);
  work.for_each_unit([&](int64_t unit) {
    work.direct.embed_grad(embedding, work.pairs, unit, dX, of_units.of_unit(unit));
    work.by_series.rows(embedding, work.pairs, unit, rows[unit]);
  });
  of_units.add_up(gradients.parameters, cpu);
  rows.add_up(dX, gradients.C);
}

template <typename T>
void force(const Embedding<T>& embedding, const T* A, const Forces& out, Cpu& cpu) {
  const EmbeddingWork<T> work(embedding, cpu);
  const PairDerivatives of_pairs = allocate_derivatives(work.pairs, out, cpu);
  work.for_each_unit([&](int64_t unit) {
    work.direct.force(embedding, work.pairs, unit, A, of_pairs);
    work.by_series.force(embedding, work.pairs, unit, A, *RowsOfUnit<T>(work, unit), of_pairs);
  });
  gather_forces(embedding.atoms, work.pairs, embedding.coord, of_pairs, out, cpu);
}

// With the rows of the derivative of X along all u_ij in the place of those of X, and A in that of
// dX, X is dA and the gradient of the nets is found as embed_grad does.
template <typename T>
void force_grad(const Embedding<T>& embedding, const T* A, const ForceCotangents& cotangents, T* dA,
                const NetGradients<T>& gradients, Cpu& cpu) {
  const EmbeddingWork<T> work(embedding, cpu);
  const AllRows<T> tangents(work, kTangentRowsOfPair);
  UnitGradients<T> of_units(embedding, work.pairs);
  work.clear(dA);
  work.for_each_unit([&](int64_t unit) {
    work.direct.force_grad(embedding, work.pairs, unit, A, cotangents, dA, of_units.of_unit(unit));
    work.by_series.tangent_rows(embedding, work.pairs, cotangents, unit, tangents[unit]);
    work.by_series.add_X(embedding, tangents[unit], dA);
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
