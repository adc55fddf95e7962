// SPDX-License-Identifier: LGPL-3.0-or-later
// The fitting nets.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/common/stream.h"
#include "op/kernels/fitting.h"

namespace dpmask::cuda {

// e [size], A [size, ninputs] and z [z_size]; fitting.type_first is the host's. workspace has
// energies_workspace(fitting) numbers.
template <typename T>
int64_t energies_workspace(const Fitting<T>& fitting);
template <typename T>
void energies(const Fitting<T>& fitting, T* e, T* A, T* z, T* workspace, cudaStream_t stream);

// dD [size, ninputs] and dparameters, given z of energies, de [size] and dA [size, ninputs].
// workspace has energies_grad_workspace(fitting) numbers.
template <typename T>
int64_t energies_grad_workspace(const Fitting<T>& fitting);
template <typename T>
void energies_grad(const Fitting<T>& fitting, const T* z, const T* de, const T* dA, T* dD,
                   const std::vector<T*>& dparameters, T* workspace, cudaStream_t stream);

}  // namespace dpmask::cuda
