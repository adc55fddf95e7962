// SPDX-License-Identifier: LGPL-3.0-or-later
// CUDA twins of the kernels, with the names, arrays and numbering of op/kernels.h. All pointers
// are to device memory, which the caller owns; all work goes to the given stream, and nothing
// waits for it. Sums are gathered in a fixed order: the same input gives the same bits.
#pragma once

#include <cuda_runtime.h>

#include "../op/kernels.h"

namespace dpmask::cuda {

// Numbers the ordered pairs of real atoms as op/kernels.h says.
struct PairNumbers {
  int64_t* frame;       // [size]; of each row of RealAtoms
  int64_t* local;       // [size]; place of the atom among those of its frame
  int64_t* rows;        // [size]; the rows of frame after frame, in the order of local
  int64_t* rows_first;  // [nframes + 1]; where the rows of each frame begin
  int64_t* pair_first;  // [nframes + 1]; first pair of each frame; the last is their number
};

// Fills pairs.
void number_pairs(const RealAtoms& atoms, const PairNumbers& pairs, cudaStream_t stream);

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
