// SPDX-License-Identifier: LGPL-3.0-or-later
// The kernels of nets with a series, on a unit of work.
// Built once for each instruction set. A unit is the set of all pairs of a few centre atoms; units
// can run side by side, since each writes only what is its own.
#pragma once

#include <cstdint>

#include "op/kernels/embedding.h"
#include "op/kernels/pairs.h"

namespace dpmask {

// kTerms numbers for each component of R, centre after centre, for the centres of a unit that have
// pairs in a panel: the moments
//   M_i = sum_j T(x_ij)^T R_ij   [kTerms, 4]
// over the pairs in that panel, or what they are to be multiplied with. X is linear in C:
//   X_i = (1/n) sum_panels M_i^T C.
template <typename T>
struct UnitMoments {
  int64_t ncentres;  // of the unit
  int64_t* count;    // [npanels]; centres with pairs there
  int64_t* centre;   // [npanels, ncentres]; their rows of RealAtoms
  T* M;              // [npanels, ncentres, 4, kTerms], as far as count goes
  // Scratch:
  T* second;      // the same once more
  int64_t* next;  // [npanels], zero on entry
  T* blocks;      // [4 * ncentres, M1]
};

// The nets that have a series.
template <typename T>
struct SeriesUnits {
  // Sets M_i / n.
  void (*moments)(const Embedding<T>&, const Pairs&, int64_t unit, const UnitMoments<T>&);
  // Sets the derivative of M_i / n along the cotangents u of the pairs, dr/dt = u.
  void (*moments_tangent)(const Embedding<T>&, const Pairs&, const ForceCotangents&, int64_t unit,
                          const UnitMoments<T>&);
  // X_i += M_i^T C
  void (*add_X)(const Embedding<T>&, const UnitMoments<T>&, T* X);
  // dC += M_i dX_i for one panel
  void (*add_gradient)(const Embedding<T>&, const UnitMoments<T>&, int64_t panel, const T* dX,
                       T* dC);
  // dr [npairs, 3] of the unit's pairs: dE/dr of each, set, not added to. Uses moments for what it
  // likes.
  void (*force)(const Embedding<T>&, const Pairs&, int64_t unit, const T* A, const UnitMoments<T>&,
                double* dr);
};

// What is built for each instruction set.
template <typename T>
SeriesUnits<T> series_units_baseline();
template <typename T>
SeriesUnits<T> series_units_avx2();
template <typename T>
SeriesUnits<T> series_units_avx512();

}  // namespace dpmask
