// SPDX-License-Identifier: LGPL-3.0-or-later
// op/kernels/environment.h on a GPU. Arrays are the device's, but for RealAtoms::first.
#pragma once

#include "cuda/common/gpu.h"
#include "op/kernels/environment.h"

namespace dpmask {

void environment(const RealAtoms& atoms, const double* coord, double* R, Gpu& gpu);
void environment_force(const RealAtoms& atoms, const double* coord, const double* dR,
                       const Forces& out, Gpu& gpu);
void environment_force_grad(const RealAtoms& atoms, const double* coord,
                            const ForceCotangents& cotangents, double* ddR, Gpu& gpu);

}  // namespace dpmask
