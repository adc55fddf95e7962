// SPDX-License-Identifier: LGPL-3.0-or-later
// Energies of atoms and frames.
#pragma once

#include <cstdint>

#include "cuda/common/stream.h"
#include "op/kernels/readout.h"

namespace dpmask::cuda {

// Multiplies the rows of A [size, width] by factor w_i.
template <typename T>
void weigh(const RealAtoms& atoms, T factor, int64_t width, T* A, cudaStream_t stream);

// Energies, whose atom_energy must be zero on entry, given e [size] and bias [ntypes].
template <typename T>
void spread_energies(const RealAtoms& atoms, const double* bias, const T* e, const Energies& out,
                     cudaStream_t stream);

}  // namespace dpmask::cuda
