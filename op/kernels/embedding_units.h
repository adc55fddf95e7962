// SPDX-License-Identifier: LGPL-3.0-or-later
// The kernels' inner part, built once for each instruction set. A unit is the set of all pairs of
// a few centre atoms; units can run side by side, since each writes only what is its own.
#pragma once

#include "op/kernels/kernels.h"
#include "op/kernels/pairs.h"

namespace dpmask {

// The nets that have no series. Each function adds its share to what is there.
template <typename T>
struct DirectUnits {
  // X of the unit's centres.
  void (*embed)(const Embedding<T>&, const Pairs&, int64_t unit, T* X);
  // gradient is a list like the nets' parameters, with an array for each.
  void (*embed_grad)(const Embedding<T>&, const Pairs&, int64_t unit, const T* dX,
                     T* const* gradient);
  // dr [npairs, 3] of the unit's pairs: dE/dr of each, set, not added to.
  void (*force)(const Embedding<T>&, const Pairs&, int64_t unit, const T* A, double* dr);
  // dA of the unit's centres, and gradient as in embed_grad.
  void (*force_grad)(const Embedding<T>&, const Pairs&, int64_t unit, const T* A,
                     const ForceCotangents&, T* dA, T* const* gradient);
};

// kTerms numbers for each component of R, centre after centre, for the centres of a unit that have
// pairs in a panel: the moments
//   M_i = sum_j T(x_ij)^T R_ij   [kTerms, 4]
// over the pairs in that panel, or what they are to be multiplied with. X is linear in C:
//   X_i = (1/n) sum_panels M_i^T C.
template <typename T>
struct Moments {
  int64_t ncentres;  // of the unit
  int64_t* count;    // [npanels]; centres with pairs there
  int64_t* centre;   // [npanels, ncentres]; their rows of RealAtoms
  T* M;              // [npanels, ncentres, 4, kTerms], as far as count goes
};

// The nets that have a series.
template <typename T>
struct SeriesUnits {
  // Sets M_i / n.
  void (*moments)(const Embedding<T>&, const Pairs&, int64_t unit, const Moments<T>&);
  // Sets the derivative of M_i / n along the cotangents u of the pairs, dr/dt = u.
  void (*moments_tangent)(const Embedding<T>&, const Pairs&, const ForceCotangents&, int64_t unit,
                          const Moments<T>&);
  // X_i += M_i^T C
  void (*add_X)(const Embedding<T>&, const Moments<T>&, T* X);
  // dC += M_i dX_i for one panel
  void (*add_gradient)(const Embedding<T>&, const Moments<T>&, int64_t panel, const T* dX, T* dC);
  // dr [npairs, 3] of the unit's pairs: dE/dr of each, set, not added to. Uses moments for what it
  // likes.
  void (*force)(const Embedding<T>&, const Pairs&, int64_t unit, const T* A, const Moments<T>&,
                double* dr);
};

// Between a net and its series, in float64 in every precision: a derivative by s multiplies the
// error of C_k by up to k^2.
struct SeriesFit {
  // C [npanels, kTerms, M1] of panels [npanels, 2] by interpolation at the zeros of T_kTerms, and
  // largest [npanels], the largest |G| there.
  void (*interpolate)(const EmbeddingNets<double>&, int64_t net, int64_t npanels,
                      const double* panels, double* C, double* largest);
  // z [size, width], what enters the neurons of a layer for s [size].
  void (*neurons)(const EmbeddingNets<double>&, int64_t net, int64_t layer, int64_t size,
                  const double* s, double* z);
  // Adds to the gradient of the net's parameters, a list of its arrays, given dC of its panels.
  void (*gradient)(const EmbeddingNets<double>&, int64_t net, int64_t npanels, const double* panels,
                   const double* dC, double* const* gradient);
};

// What is built for each instruction set: the build gives the name of one to direct_units.cc and
// series_units.cc, which then define its functions.
#define DPMASK_DECLARE_UNITS(isa)      \
  template <typename T>                \
  DirectUnits<T> direct_units_##isa(); \
  template <typename T>                \
  SeriesUnits<T> series_units_##isa(); \
  SeriesFit series_fit_##isa()
DPMASK_DECLARE_UNITS(baseline);
DPMASK_DECLARE_UNITS(avx2);
DPMASK_DECLARE_UNITS(avx512);

}  // namespace dpmask
