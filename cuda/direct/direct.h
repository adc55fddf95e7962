// SPDX-License-Identifier: LGPL-3.0-or-later
// The nets without a series, which add their share to what those with one have left.
#pragma once

#include <vector>

#include "cuda/common/embedding.h"
#include "op/kernels/embedding.h"

namespace dpmask::cuda {

// Numbers T of `workspace`.
template <typename T>
int64_t direct_workspace(const EmbeddingNets<T>& nets);

// Added to X.
template <typename T>
void direct_embed(const DeviceEmbedding<T>& embedding, const EmbeddingNets<T>& nets, T* X,
                  T* workspace, cudaStream_t stream);
// gradient is set, to 0 for nets with a series.
template <typename T>
void direct_embed_grad(const DeviceEmbedding<T>& embedding, const EmbeddingNets<T>& nets,
                       const T* dX, const std::vector<T*>& gradient, T* workspace,
                       cudaStream_t stream);
// The derivatives of the pairs of these nets are set.
template <typename T>
void direct_force(const DeviceEmbedding<T>& embedding, const EmbeddingNets<T>& nets, const T* A,
                  const PairDerivatives& out, T* workspace, cudaStream_t stream);
// Added to dA; gradient as in direct_embed_grad.
template <typename T>
void direct_force_grad(const DeviceEmbedding<T>& embedding, const EmbeddingNets<T>& nets,
                       const T* A, const ForceCotangents& cotangents, T* dA,
                       const std::vector<T*>& gradient, T* workspace, cudaStream_t stream);

}  // namespace dpmask::cuda
