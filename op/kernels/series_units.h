// SPDX-License-Identifier: LGPL-3.0-or-later
// The kernels of nets with a series. Built once for each instruction set.
//
// X is linear in C. A panel gives
//   n X_i += sum over its rows k of centre i of w_k^T (P_k C)
// Either each of the centre's pairs in it has rows of its own, P = T(x_ij) with w = R_ij; or the
// centre has four, its moments
//   M_i = sum_j T(x_ij)^T R_ij   [kTerms, 4]
// over these pairs, with unit vectors w.
#pragma once

#include <cstdint>

#include "op/kernels/embedding.h"
#include "op/kernels/pairs.h"
#include "op/kernels/sorted_pairs.h"
#include "op/shared/series.h"

namespace dpmask {

// Whether rows of pairs are less work than the moments of their centre: they have to go to the four
// rows of X_i afterwards, so that one costs kTerms + 4 where a row of moments costs kTerms.
inline bool is_less_work(int64_t rows_of_pairs) {
  return rows_of_pairs * (kTerms + 4) < 4 * kTerms;
}

// Cells of equal width that lead to the panels of a net: s in a cell is in one of the panels
// lowest, ..., highest of the cell.
struct PanelGrid {
  double begin, by_width, last;  // s; 1/width of a cell; number of the last cell
  int32_t *lowest, *highest;
};

// Pairs on the way to SortedPairs, by their numbers.
struct LocatedPairs {
  static constexpr int32_t kNone = -1;  // of a net without a series, or of an atom with itself

  const double* position;  // [3, size]; of rows of RealAtoms
  const double* end;       // [npanels]; where each panel ends
  const PanelGrid* grid;   // [nnets]; of nets with a series
  double* s;               // [npairs]; 0 of those that have no panel
  int32_t* panel;          // [npairs]; or kNone
  int32_t* rank;           // [npairs]; among those of its unit and panel, set once these are known
};

// Some units, one after the other; they are of one thread, which alone writes what is theirs.
struct Units {
  int64_t first, end;
};

template <typename T>
struct SeriesUnits {
  // Sets s and panel of the pairs of a unit.
  void (*locate)(const Embedding<T>&, const Pairs&, int64_t unit, const LocatedPairs&);
  // Adds to X, of the centres of these units.
  void (*embed)(const Embedding<T>&, const SortedPairs&, const Units&, T* X);
  // The same for the derivative of X along the cotangents u of the pairs, dr/dt = u.
  void (*embed_tangent)(const Embedding<T>&, const Pairs&, const SortedPairs&,
                        const ForceCotangents&, const Units&, T* tX);
  // Adds to dC of one panel, [kTerms, M1], the derivative of sum(X dX) by C.
  void (*gradient)(const Embedding<T>&, const SortedPairs&, int64_t panel, const T* dX, T* dC);
  // The same for sum(tX A).
  void (*tangent_gradient)(const Embedding<T>&, const Pairs&, const SortedPairs&,
                           const ForceCotangents&, int64_t panel, const T* A, T* dC);
  // The derivatives of the pairs whose centres are in these units, set, not added to.
  void (*force)(const Embedding<T>&, const Pairs&, const SortedPairs&, const Units&, const T* A,
                const PairDerivatives& out);
};

// What is built for each instruction set.
template <typename T>
SeriesUnits<T> series_units_baseline();
template <typename T>
SeriesUnits<T> series_units_avx2();
template <typename T>
SeriesUnits<T> series_units_avx512();

}  // namespace dpmask
