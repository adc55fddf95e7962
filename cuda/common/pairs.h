// SPDX-License-Identifier: LGPL-3.0-or-later
// The pairs of real atoms: their numbers and rows, and what atoms gather from them.
#pragma once

#include "cuda/common/gpu.h"
#include "cuda/common/launch.h"
#include "op/kernels/atoms.h"
#include "op/kernels/forces.h"
#include "op/kernels/pair_row.h"
#include "op/shared/pair_cotangent.h"

namespace dpmask::cuda {

// Numbers the ordered pairs of real atoms as op/kernels says.
struct PairNumbers {
  int64_t* type;        // [size]; of each row of RealAtoms
  int64_t* frame;       // [size]
  int64_t* local;       // [size]; place of the atom among those of its frame
  int64_t* rows;        // [size]; the rows of frame after frame, in the order of local
  double* position;     // [size, 4]; x, y, z and w of these rows
  int64_t* group;       // [size]; of these rows; or nullptr, as RealAtoms::group
  int64_t* rows_first;  // [nframes + 1]; where the rows of each frame begin
  int64_t* pair_first;  // [nframes + 1]; first pair of each frame; the last is their number
};

// Real atoms with all arrays on the device, and the numbers of their pairs.
struct NumberedAtoms {
  RealAtoms atoms;
  PairNumbers pairs;
};

// RealAtoms::first is the host's.
NumberedAtoms number_pairs(const RealAtoms& atoms, const double* coord, Gpu& gpu);

DPMASK_KERNEL int64_t group_size(const RealAtoms& atoms, int64_t type, int64_t frame) {
  const int64_t group = type * atoms.nframes + frame;
  return atoms.first[group + 1] - atoms.first[group];
}

// Real atoms of the frame of row i.
DPMASK_KERNEL int64_t frame_size(const PairNumbers& pairs, int64_t i) {
  const int64_t frame = pairs.frame[i];
  return pairs.rows_first[frame + 1] - pairs.rows_first[frame];
}

// The row of an atom, by its place among those of the frame of row i.
DPMASK_KERNEL int64_t row_in_frame(const PairNumbers& pairs, int64_t i, int64_t local) {
  return pairs.rows[pairs.rows_first[pairs.frame[i]] + local];
}

// The number of the pair of row i with the atom of that place.
DPMASK_KERNEL int64_t pair_number(const PairNumbers& pairs, int64_t i, int64_t local) {
  return pairs.pair_first[pairs.frame[i]] + pairs.local[i] * frame_size(pairs, i) + local;
}

// The row of the environment matrix of two places in PairNumbers::rows.
DPMASK_KERNEL EnvironmentRow row_at(const PairNumbers& pairs, int64_t place_i, int64_t place_j) {
  const double* position = pairs.position + 4 * place_j;
  return environment_row(pairs.position + 4 * place_i, position,
                         weight_of_pair(pairs.group, place_i, place_j, position[3]));
}

// u [3]: the derivative of the loss by dE/dr of the pair of rows (i, j), separation r [3].
DPMASK_KERNEL void pair_cotangent(const RealAtoms& atoms, const PairNumbers& pairs,
                                  const ForceCotangents& cotangents, int64_t i, int64_t j,
                                  const double* r, double* u) {
  dpmask::pair_cotangent(cotangents.force + 3 * atoms.slot[i], cotangents.force + 3 * atoms.slot[j],
                         cotangents.virial + 9 * pairs.frame[i],
                         cotangents.atom_virial + 9 * atoms.slot[j], r, u);
}

// Memory for what out wants of npairs pairs.
inline PairDerivatives allocate_derivatives(int64_t npairs, const Forces& out, Gpu& gpu) {
  return {gpu.allocate<double>(3 * npairs),
          out.weight_gradient == nullptr ? nullptr : gpu.allocate<double>(npairs)};
}

// Sets it to 0.
void clear_pairs(const RealAtoms& atoms, const PairNumbers& pairs, const PairDerivatives& of_pairs,
                 cudaStream_t stream);

// Adds -dE/dr of every pair to the forces and atomic virials of its two atoms, and dE/dw_ij to the
// weight gradient of atom j: each atom gathers what is its own.
void gather_forces(const RealAtoms& atoms, const PairNumbers& pairs, const double* coord,
                   const PairDerivatives& of_pairs, const Forces& out, cudaStream_t stream);

// Sets the virials of the frames, if wanted, from those of the atoms.
void add_up_virial(const RealAtoms& atoms, const PairNumbers& pairs, const Forces& out,
                   cudaStream_t stream);

}  // namespace dpmask::cuda
