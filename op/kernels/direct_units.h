// SPDX-License-Identifier: LGPL-3.0-or-later
// The kernels of nets without a series, on a unit of work.
// Built once for each instruction set. A unit is the set of all pairs of a few centre atoms; units
// can run side by side, since each writes only what is its own.
#pragma once

#include <cstdint>

#include "op/kernels/embedding.h"
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
  // The derivatives of the unit's pairs, set, not added to.
  void (*force)(const Embedding<T>&, const Pairs&, int64_t unit, const T* A,
                const PairDerivatives& out);
  // dA of the unit's centres, and gradient as in embed_grad.
  void (*force_grad)(const Embedding<T>&, const Pairs&, int64_t unit, const T* A,
                     const ForceCotangents&, T* dA, T* const* gradient);
};

// What is built for each instruction set.
template <typename T>
DirectUnits<T> direct_units_baseline();
template <typename T>
DirectUnits<T> direct_units_avx2();
template <typename T>
DirectUnits<T> direct_units_avx512();

}  // namespace dpmask
