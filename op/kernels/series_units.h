// SPDX-License-Identifier: LGPL-3.0-or-later
// The kernels of nets with a series, on a unit of work.
// Built once for each instruction set. A unit is the set of all pairs of a few centre atoms; units
// can run side by side, since each writes only what is its own.
#pragma once

#include <cstdint>

#include "op/kernels/embedding.h"
#include "op/kernels/pairs.h"

namespace dpmask {

// What C is multiplied with, panel by panel; see are_fewer. X is linear in C:
//   X_i = sum over panels and their rows k of centre i of w_k^T (P_k C)
// Rows of pairs have P = T(x_ij) and w = R_ij / n; four rows in succession, the moments of a
// centre,
//   M_i = (1/n) sum_j R_ij^T T(x_ij)   [4, kTerms]
// over its pairs in that panel, have unit vectors w, which are not stored.
template <typename T>
struct UnitRows {
  int64_t* first;      // [npanels + 1]; panel k has the rows first[k] to first[k + 1]
  bool* are_of_pairs;  // [npanels]
  T* P;                // [rows, kTerms]
  T* w;                // [rows, 4]; of pairs
  int64_t* centre;     // [rows]; row of RealAtoms
};

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
  // dr [npairs, 3] of the unit's pairs: dE/dr of each, set, not added to. Uses rows for what it
  // likes.
  void (*force)(const Embedding<T>&, const Pairs&, int64_t unit, const T* A,
                const UnitRows<T>& rows, double* dr);
};

// What is built for each instruction set.
template <typename T>
SeriesUnits<T> series_units_baseline();
template <typename T>
SeriesUnits<T> series_units_avx2();
template <typename T>
SeriesUnits<T> series_units_avx512();

}  // namespace dpmask
