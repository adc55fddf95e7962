// SPDX-License-Identifier: LGPL-3.0-or-later
// op/kernels/readout.h on a GPU. Arrays are the device's, but for RealAtoms::first and
// Fitting::type_first.
#pragma once

#include "cuda/common/gpu.h"
#include "op/kernels/readout.h"

namespace dpmask {

template <typename T>
void read_out(const Readout<T>& readout, const T* X, T* e, T* A, Gpu& gpu);
template <typename T>
void spread_energies(const RealAtoms& atoms, const double* bias, const T* e, const Energies& out,
                     Gpu& gpu);

}  // namespace dpmask
