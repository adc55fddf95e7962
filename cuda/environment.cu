// SPDX-License-Identifier: LGPL-3.0-or-later
#include "../op/environment.h"
#include "kernels.h"

namespace dpmask::cuda {
namespace {

constexpr int kThreads = 128;

// The group t * nframes + f of a row: the last that begins at or before it and is not empty.
__device__ int64_t group_of(const RealAtoms& atoms, int64_t row) {
  int64_t low = 0;
  int64_t high = atoms.ntypes * atoms.nframes;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    if (atoms.first[middle] <= row) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

__device__ int64_t group_size(const RealAtoms& atoms, int64_t type, int64_t frame) {
  const int64_t group = type * atoms.nframes + frame;
  return atoms.first[group + 1] - atoms.first[group];
}

__global__ void sum_frames(RealAtoms atoms, PairNumbers pairs) {
  pairs.rows_first[0] = pairs.pair_first[0] = 0;
  for (int64_t f = 0; f < atoms.nframes; ++f) {
    int64_t size = 0;
    for (int64_t t = 0; t < atoms.ntypes; ++t) size += group_size(atoms, t, f);
    pairs.rows_first[f + 1] = pairs.rows_first[f] + size;
    pairs.pair_first[f + 1] = pairs.pair_first[f] + size * size;
  }
}

__global__ void number_rows(RealAtoms atoms, PairNumbers pairs) {
  const int64_t row = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (row >= atoms.size) return;
  const int64_t group = group_of(atoms, row);
  const int64_t frame = group % atoms.nframes;
  int64_t local = row - atoms.first[group];
  for (int64_t t = 0; t < group / atoms.nframes; ++t) local += group_size(atoms, t, frame);
  pairs.frame[row] = frame;
  pairs.local[row] = local;
  pairs.rows[pairs.rows_first[frame] + local] = row;
}

__device__ EnvironmentRow row_of(const RealAtoms& atoms, const double* coord, int64_t i,
                                 int64_t j) {
  return environment_row(coord + 3 * atoms.slot[i], coord + 3 * atoms.slot[j], atoms.weight[j]);
}

// Calls body(j, pair (i, j), pair (j, i)) for the atoms j of the frame of row i, which is the
// block's; the block's threads share them.
template <typename Body>
__device__ void for_each_neighbour(const PairNumbers& pairs, int64_t i, Body&& body) {
  const int64_t frame = pairs.frame[i];
  const int64_t* rows = pairs.rows + pairs.rows_first[frame];
  const int64_t size = pairs.rows_first[frame + 1] - pairs.rows_first[frame];
  for (int64_t local = threadIdx.x; local < size; local += blockDim.x) {
    body(rows[local], pairs.pair_first[frame] + pairs.local[i] * size + local,
         pairs.pair_first[frame] + local * size + pairs.local[i]);
  }
}

__global__ void environment_of_row(RealAtoms atoms, PairNumbers pairs, const double* coord,
                                   double* R) {
  const int64_t i = blockIdx.x;
  for_each_neighbour(pairs, i, [&](int64_t j, int64_t pair, int64_t) {
    const EnvironmentRow row = i == j ? EnvironmentRow{} : row_of(atoms, coord, i, j);
    for (int k = 0; k < 4; ++k) R[4 * pair + k] = row.R[k];
  });
}

__global__ void reverse_of_row(RealAtoms atoms, PairNumbers pairs, const double* coord,
                               const double* dR, double* dr) {
  const int64_t i = blockIdx.x;
  for_each_neighbour(pairs, i, [&](int64_t j, int64_t pair, int64_t) {
    if (i == j) {
      for (int a = 0; a < 3; ++a) dr[3 * pair + a] = 0;
    } else {
      environment_reverse(row_of(atoms, coord, i, j), dR + 4 * pair, 0.0, dr + 3 * pair);
    }
  });
}

// One block for each atom: every thread adds up its share, then a tree adds up the threads.
__global__ void gather_of_row(RealAtoms atoms, PairNumbers pairs, const double* coord,
                              const double* dr, Forces out) {
  __shared__ double sums[12][kThreads];
  const int64_t i = blockIdx.x;
  const int64_t slot_i = atoms.slot[i];
  double mine[12] = {};  // force, then atom_virial
  for_each_neighbour(pairs, i, [&](int64_t j, int64_t ij, int64_t ji) {
    for (int a = 0; a < 3; ++a) {
      mine[a] += dr[3 * ij + a] - dr[3 * ji + a];
      for (int b = 0; b < 3; ++b) {
        const double r_ji = coord[3 * slot_i + b] - coord[3 * atoms.slot[j] + b];
        mine[3 + 3 * a + b] -= dr[3 * ji + a] * r_ji;
      }
    }
  });
  for (int c = 0; c < 12; ++c) sums[c][threadIdx.x] = mine[c];
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x >= half) continue;
    for (int c = 0; c < 12; ++c) sums[c][threadIdx.x] += sums[c][threadIdx.x + half];
  }
  if (threadIdx.x != 0) return;
  for (int a = 0; a < 3; ++a) out.force[3 * slot_i + a] = sums[a][0];
  for (int ab = 0; ab < 9; ++ab) out.atom_virial[9 * slot_i + ab] = sums[3 + ab][0];
}

__global__ void add_up_virial(RealAtoms atoms, PairNumbers pairs, Forces out) {
  const int64_t frame = blockIdx.x;
  const int ab = threadIdx.x;
  double sum = 0;
  for (int64_t k = pairs.rows_first[frame]; k < pairs.rows_first[frame + 1]; ++k) {
    sum += out.atom_virial[9 * atoms.slot[pairs.rows[k]] + ab];
  }
  out.virial[9 * frame + ab] = sum;
}

__global__ void tangent_of_row(RealAtoms atoms, PairNumbers pairs, const double* coord,
                               ForceCotangents cotangents, double* ddR) {
  const int64_t i = blockIdx.x;
  for_each_neighbour(pairs, i, [&](int64_t j, int64_t pair, int64_t) {
    double* out = ddR + 4 * pair;
    for (int k = 0; k < 4; ++k) out[k] = 0;
    if (i == j) return;
    const EnvironmentRow row = row_of(atoms, coord, i, j);
    const double* virial = cotangents.virial + 9 * pairs.frame[i];
    const double* atom_virial = cotangents.atom_virial + 9 * atoms.slot[j];
    double u[3];
    for (int a = 0; a < 3; ++a) {
      u[a] = cotangents.force[3 * atoms.slot[i] + a] - cotangents.force[3 * atoms.slot[j] + a];
      for (int b = 0; b < 3; ++b) u[a] -= (virial[3 * a + b] + atom_virial[3 * a + b]) * row.r[b];
    }
    environment_tangent(row, u, out);
  });
}

}  // namespace

void number_pairs(const RealAtoms& atoms, const PairNumbers& pairs, cudaStream_t stream) {
  sum_frames<<<1, 1, 0, stream>>>(atoms, pairs);
  if (atoms.size == 0) return;
  const unsigned blocks = static_cast<unsigned>((atoms.size + kThreads - 1) / kThreads);
  number_rows<<<blocks, kThreads, 0, stream>>>(atoms, pairs);
}

void environment(const RealAtoms& atoms, const PairNumbers& pairs, const double* coord, double* R,
                 cudaStream_t stream) {
  if (atoms.size == 0) return;
  const unsigned blocks = static_cast<unsigned>(atoms.size);
  environment_of_row<<<blocks, kThreads, 0, stream>>>(atoms, pairs, coord, R);
}

void environment_force(const RealAtoms& atoms, const PairNumbers& pairs, const double* coord,
                       const double* dR, double* dr, const Forces& out, cudaStream_t stream) {
  if (atoms.size == 0) return;
  const unsigned blocks = static_cast<unsigned>(atoms.size);
  reverse_of_row<<<blocks, kThreads, 0, stream>>>(atoms, pairs, coord, dR, dr);
  gather_of_row<<<blocks, kThreads, 0, stream>>>(atoms, pairs, coord, dr, out);
  add_up_virial<<<static_cast<unsigned>(atoms.nframes), 9, 0, stream>>>(atoms, pairs, out);
}

void environment_force_grad(const RealAtoms& atoms, const PairNumbers& pairs, const double* coord,
                            const ForceCotangents& cotangents, double* ddR, cudaStream_t stream) {
  if (atoms.size == 0) return;
  const unsigned blocks = static_cast<unsigned>(atoms.size);
  tangent_of_row<<<blocks, kThreads, 0, stream>>>(atoms, pairs, coord, cotangents, ddR);
}

}  // namespace dpmask::cuda
