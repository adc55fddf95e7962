// SPDX-License-Identifier: LGPL-3.0-or-later
// op/kernels/fitting.h on a GPU. Arrays are the device's, but for Fitting::type_first.
#pragma once

#include <vector>

#include "cuda/common/gpu.h"
#include "op/kernels/fitting.h"

namespace dpmask {

template <typename T>
void energies(const Fitting<T>& fitting, T* e, T* A, T* z, Gpu& gpu);
template <typename T>
void energies_grad(const Fitting<T>& fitting, const T* z, const T* de, const T* dA, T* dD,
                   const std::vector<T*>& dparameters, Gpu& gpu);

}  // namespace dpmask
