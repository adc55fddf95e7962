// SPDX-License-Identifier: LGPL-3.0-or-later
// The environment matrix by itself.
#pragma once

#include "cuda/common/pairs.h"

namespace dpmask::cuda {

// R [pairs, 4].
void environment(const RealAtoms& atoms, const PairNumbers& pairs, const double* coord, double* R,
                 cudaStream_t stream);

// Forces and virials, which must be zero on entry, given dR = dE/dR [pairs, 4]. dr [pairs, 3] is
// scratch.
void environment_force(const RealAtoms& atoms, const PairNumbers& pairs, const double* coord,
                       const double* dR, double* dr, const Forces& out, cudaStream_t stream);

// ddR = dL/d(dR) [pairs, 4].
void environment_force_grad(const RealAtoms& atoms, const PairNumbers& pairs, const double* coord,
                            const ForceCotangents& cotangents, double* ddR, cudaStream_t stream);

}  // namespace dpmask::cuda
