// SPDX-License-Identifier: LGPL-3.0-or-later
// The kernels of nets with a series, on a unit of work.
// Built once for each instruction set. A unit is the set of all pairs of a few centre atoms; units
// can run side by side, since each writes only what is its own.
#pragma once

#include <algorithm>
#include <cstdint>

#include "op/kernels/embedding.h"
#include "op/kernels/pairs.h"
#include "op/shared/series.h"

namespace dpmask {

// What C is multiplied with, panel by panel. X is linear in C:
//   n X_i = sum over panels and their rows k of centre i of w_k^T (P_k C)
// Either each pair has rows of its own, P = T(x_ij) with w = R_ij; or each centre has four in
// succession, its moments
//   M_i = sum_j T(x_ij)^T R_ij   [kTerms, 4]
// over its pairs in that panel, with unit vectors w, which are not stored. What is stored is
// divided by n: w of pairs, and moments.
template <typename T>
struct UnitRows {
  int64_t* first;      // [npanels + 1]; panel k has the rows first[k] to first[k + 1]
  bool* are_of_pairs;  // [npanels]
  T* P;                // [rows, kTerms]
  T* w;                // [rows, 4]; of pairs
  int64_t* centre;     // [rows]; row of RealAtoms
};

// Whether rows of pairs are less work than moments: they have to go to the four rows of their
// centre afterwards, so that one costs kTerms + 4 where a row of moments costs kTerms.
inline bool is_less_work(int64_t rows_of_pairs, int64_t ncentres) {
  return rows_of_pairs * (kTerms + 4) < 4 * ncentres * kTerms;
}

// A bound for the rows of a unit, given how many rows its pairs would have, and its centres: in
// each panel the rows are those of less work, and at most four for a centre.
inline int64_t most_rows(int64_t rows_of_pairs, int64_t ncentres, int64_t npanels) {
  return std::min(rows_of_pairs * (kTerms + 4) / kTerms, 4 * ncentres * npanels);
}

// How many rows of pairs a pair has, for each of the functions below.
constexpr int64_t kRowsOfPair = 1;
constexpr int64_t kTangentRowsOfPair = 2;  // T(x_ij) with dR/dt, T'(x_ij) with R ds/dt

// The nets that have a series.
template <typename T>
struct SeriesUnits {
  // Sets the rows for X.
  void (*rows)(const Embedding<T>&, const Pairs&, int64_t unit, const UnitRows<T>&);
  // Sets the rows for the derivative of X along the cotangents u of the pairs, dr/dt = u.
  void (*tangent_rows)(const Embedding<T>&, const Pairs&, const ForceCotangents&, int64_t unit,
                       const UnitRows<T>&);
  // Adds to X what the rows give.
  void (*add_X)(const Embedding<T>&, const UnitRows<T>&, T* X);
  // dC += sum_k P_k^T (w_k dX_i) for one panel
  void (*add_gradient)(const Embedding<T>&, const UnitRows<T>&, int64_t panel, const T* dX, T* dC);
  // The derivatives of the unit's pairs, set, not added to. Uses rows for what it likes.
  void (*force)(const Embedding<T>&, const Pairs&, int64_t unit, const T* A,
                const UnitRows<T>& rows, const PairDerivatives& out);
};

// What is built for each instruction set.
template <typename T>
SeriesUnits<T> series_units_baseline();
template <typename T>
SeriesUnits<T> series_units_avx2();
template <typename T>
SeriesUnits<T> series_units_avx512();

}  // namespace dpmask
