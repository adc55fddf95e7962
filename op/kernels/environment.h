// SPDX-License-Identifier: LGPL-3.0-or-later
#pragma once

#include <cstdint>

#include "op/kernels/atoms.h"
#include "op/kernels/cpu.h"
#include "op/kernels/forces.h"

namespace dpmask {

// The environment matrix by itself, as tests and analysis want it. Pairs (i, j) of real atoms of
// one frame are numbered densely: frame after frame, i after i, each in order of the rows of
// RealAtoms; i = j is there and zero.
int64_t count_pairs(const RealAtoms& atoms);

// R [pairs, 4].
void environment(const RealAtoms& atoms, const double* coord, double* R, Cpu& cpu);

// Forces and virials, given dR = dE/dR [pairs, 4].
void environment_force(const RealAtoms& atoms, const double* coord, const double* dR,
                       const Forces& out, Cpu& cpu);

// The gradient of environment_force: ddR = dL/d(dR) [pairs, 4].
void environment_force_grad(const RealAtoms& atoms, const double* coord,
                            const ForceCotangents& cotangents, double* ddR, Cpu& cpu);

}  // namespace dpmask
