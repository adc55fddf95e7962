// SPDX-License-Identifier: LGPL-3.0-or-later
// The rows and numbers of pairs, for the kernels.
#pragma once

#include "cuda/common/launch.h"
#include "op/shared/environment.h"

namespace dpmask::cuda {

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
  return environment_row(pairs.position + 4 * place_i, position, position[3]);
}

DPMASK_KERNEL EnvironmentRow row_of(const RealAtoms& atoms, const double* coord, int64_t i,
                                    int64_t j) {
  return environment_row(coord + 3 * atoms.slot[i], coord + 3 * atoms.slot[j], atoms.weight[j]);
}

// u [3]: the derivative of the loss by dE/dr of the pair of rows (i, j), separation r [3].
DPMASK_KERNEL void pair_cotangent(const RealAtoms& atoms, const PairNumbers& pairs,
                                  const ForceCotangents& cotangents, int64_t i, int64_t j,
                                  const double* r, double* u) {
  const double* virial = cotangents.virial + 9 * pairs.frame[i];
  const double* atom_virial = cotangents.atom_virial + 9 * atoms.slot[j];
  for (int a = 0; a < 3; ++a) {
    u[a] = cotangents.force[3 * atoms.slot[i] + a] - cotangents.force[3 * atoms.slot[j] + a];
    for (int b = 0; b < 3; ++b) u[a] -= (virial[3 * a + b] + atom_virial[3 * a + b]) * r[b];
  }
}

// Sets dr [pairs, 3] to 0.
void clear_pairs(const RealAtoms& atoms, const PairNumbers& pairs, double* dr, cudaStream_t stream);

// Adds -dE/dr of every pair, dr [pairs, 3], to the forces and atomic virials of its two atoms: each
// atom gathers what is its own.
void gather_forces(const RealAtoms& atoms, const PairNumbers& pairs, const double* coord,
                   const double* dr, const Forces& out, cudaStream_t stream);

// Sets the virials of the frames from those of the atoms.
void add_up_virial(const RealAtoms& atoms, const PairNumbers& pairs, const Forces& out,
                   cudaStream_t stream);

}  // namespace dpmask::cuda
