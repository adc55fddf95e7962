// SPDX-License-Identifier: LGPL-3.0-or-later
// The kernels' inner part, built once for each instruction set. A unit is the set of all pairs of
// a few centre atoms; units can run side by side, since each writes only what is its own.
#pragma once

#include "kernels.h"
#include "pairs.h"

namespace dpmask {

template <typename T>
struct EmbeddingUnits {
  // X of the unit's centres.
  void (*embed)(const Embedding<T>&, const Pairs&, int64_t unit, T* X);
  // Adds the unit's share of dparameters to gradient, a list of the nets' parameters in one array
  // each; nullptr for a net that no pair of the unit uses.
  void (*embed_grad)(const Embedding<T>&, const Pairs&, int64_t unit, const T* dX,
                     const std::vector<T*>& gradient);
  // dr [npairs, 3] of the unit's pairs: dE/dr of each.
  void (*force)(const Embedding<T>&, const Pairs&, int64_t unit, const T* A, double* dr);
  // dA of the unit's centres, and gradient as in embed_grad.
  void (*force_grad)(const Embedding<T>&, const Pairs&, int64_t unit, const T* A,
                     const ForceCotangents&, T* dA, const std::vector<T*>& gradient);
};

// The units built for each instruction set. embedding_units.cc defines one of them, the one whose
// name the build gives it.
template <typename T>
EmbeddingUnits<T> embedding_units_baseline();
template <typename T>
EmbeddingUnits<T> embedding_units_avx2();
template <typename T>
EmbeddingUnits<T> embedding_units_avx512();

}  // namespace dpmask
