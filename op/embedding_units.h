// SPDX-License-Identifier: LGPL-3.0-or-later
// The kernels' inner part, built once for each instruction set. A unit is the set of all pairs of
// a few centre atoms; units can run side by side, since each writes only what is its own.
#pragma once

#include "kernels.h"
#include "net_series.h"
#include "pairs.h"

namespace dpmask {

// There are two of these: one takes the nets that have a series, the other those that have none.
// Both add their share to what is there.
template <typename T>
struct EmbeddingUnits {
  // X of the unit's centres.
  void (*embed)(const Embedding<T>&, const Pairs&, const NetSeries<T>* series, int64_t unit, T* X);
  // gradient is a list like the nets' parameters, with an array for each; of a net with a series,
  // the first of its arrays is the gradient by C, and the others do not exist.
  void (*embed_grad)(const Embedding<T>&, const Pairs&, const NetSeries<T>* series, int64_t unit,
                     const T* dX, T* const* gradient);
  // dr [npairs, 3] of the unit's pairs: dE/dr of each, set, not added to.
  void (*force)(const Embedding<T>&, const Pairs&, const NetSeries<T>* series, int64_t unit,
                const T* A, double* dr);
  // dA of the unit's centres, and gradient as in embed_grad.
  void (*force_grad)(const Embedding<T>&, const Pairs&, const NetSeries<T>* series, int64_t unit,
                     const T* A, const ForceCotangents&, T* dA, T* const* gradient);
};

// What is built for each instruction set: the build gives the name of one to direct_units.cc and
// series_units.cc, which then define its functions.
#define DPMASK_DECLARE_UNITS(isa)         \
  template <typename T>                   \
  EmbeddingUnits<T> direct_units_##isa(); \
  template <typename T>                   \
  EmbeddingUnits<T> series_units_##isa(); \
  SeriesFit series_fit_##isa()
DPMASK_DECLARE_UNITS(baseline);
DPMASK_DECLARE_UNITS(avx2);
DPMASK_DECLARE_UNITS(avx512);

}  // namespace dpmask
