// SPDX-License-Identifier: LGPL-3.0-or-later
// op/kernels/embedding.h on a GPU. Arrays are the device's, but what one checks and counts with is
// the host's: RealAtoms::first, Series::first and EmbeddingNets::net. Nets without a series have at
// most kMostLayers layers, or there is std::invalid_argument.
#pragma once

#include "cuda/common/gpu.h"
#include "op/kernels/embedding.h"

namespace dpmask {

template <typename T>
void embed(const Embedding<T>& embedding, T* X, Gpu& gpu);
template <typename T>
void embed_grad(const Embedding<T>& embedding, const T* dX, const NetGradients<T>& gradients,
                Gpu& gpu);
template <typename T>
void force(const Embedding<T>& embedding, const T* A, const Forces& out, Gpu& gpu);
template <typename T>
void embed_and_force(const Embedding<T>& embedding, T* X, const Callback<>& set_A, const T* A,
                     const Forces& out, Gpu& gpu) {
  embed(embedding, X, gpu);
  set_A();
  if (out.force != nullptr) force(embedding, A, out, gpu);
}
template <typename T>
void force_grad(const Embedding<T>& embedding, const T* A, const ForceCotangents& cotangents, T* dA,
                const NetGradients<T>& gradients, Gpu& gpu);

}  // namespace dpmask
