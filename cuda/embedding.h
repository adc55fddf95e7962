// SPDX-License-Identifier: LGPL-3.0-or-later
// X and forces, with all nets.
#pragma once

#include <cstdint>

#include "cuda/common/embedding.h"
#include "op/kernels/embedding.h"

namespace dpmask::cuda {

// In the following, `moments` is a workspace of moments_workspace(embedding) numbers T. `nets` is
// nullptr if all nets have a series; the list nets->net is not used. `direct`, where there are
// nets, is a workspace of direct_workspace<T>(*nets) numbers T. At most kMostLayers layers, or
// there is std::invalid_argument.
template <typename T>
int64_t moments_workspace(const Embedding<T>& embedding);

// X [size, 4, M1].
template <typename T>
void embed(const Embedding<T>& embedding, const EmbeddingNets<T>* nets, T* X, T* moments, T* direct,
           cudaStream_t stream);

// gradients.C and gradients.parameters, given dX [size, 4, M1]; without nets, only the former.
template <typename T>
void embed_grad(const Embedding<T>& embedding, const EmbeddingNets<T>* nets, const T* dX,
                const NetGradients<T>& gradients, T* moments, T* direct, cudaStream_t stream);

// Numbers of the workspace `sums` of force.
template <typename T>
int64_t sums_workspace(const Embedding<T>& embedding);

// Forces and virials, which must be zero on entry, given A = dE/dX. dr, where there are nets, is
// scratch [pairs, 3].
template <typename T>
void force(const Embedding<T>& embedding, const EmbeddingNets<T>* nets, const T* A,
           const Forces& out, T* moments, double* sums, double* dr, T* direct, cudaStream_t stream);

// dA [size, 4, M1] and gradients as in embed_grad.
template <typename T>
void force_grad(const Embedding<T>& embedding, const EmbeddingNets<T>* nets, const T* A,
                const ForceCotangents& cotangents, T* dA, const NetGradients<T>& gradients,
                T* moments, T* direct, cudaStream_t stream);

}  // namespace dpmask::cuda
