// SPDX-License-Identifier: LGPL-3.0-or-later
// op/kernels/descriptor.h on a GPU.
#pragma once

#include "cuda/common/gpu.h"
#include "op/kernels/descriptor.h"

namespace dpmask {

template <typename T>
void contract(const Contraction<T>& shape, const T* X, const T* Y, T* B, Gpu& gpu);
template <typename T>
void contract_reverse(const Contraction<T>& shape, const T* Y, const T* gB, T* gX, Gpu& gpu);

}  // namespace dpmask
