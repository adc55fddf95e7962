// SPDX-License-Identifier: LGPL-3.0-or-later
// The descriptor from X.
#pragma once

#include "cuda/common/stream.h"
#include "op/kernels/descriptor.h"

namespace dpmask::cuda {

// B [size, M1, M2] of X and Y [size, 4, M1].
template <typename T>
void contract(const Contraction<T>& shape, const T* X, const T* Y, T* B, cudaStream_t stream);

// gX [size, 4, M1] of Y and gB [size, M1, M2].
template <typename T>
void contract_reverse(const Contraction<T>& shape, const T* Y, const T* gB, T* gX,
                      cudaStream_t stream);

}  // namespace dpmask::cuda
