// SPDX-License-Identifier: LGPL-3.0-or-later
#include "cuda/common/pairs.h"

namespace dpmask::cuda {
namespace {

// The group t * nframes + f of a row: the last that begins at or before it and is not empty.
DPMASK_KERNEL int64_t group_of(const RealAtoms& atoms, int64_t row) {
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

struct SumFrames {
  RealAtoms atoms;
  PairNumbers pairs;
  DPMASK_KERNEL void operator()(int64_t) const {
    pairs.rows_first[0] = pairs.pair_first[0] = 0;
    for (int64_t f = 0; f < atoms.nframes; ++f) {
      int64_t size = 0;
      for (int64_t t = 0; t < atoms.ntypes; ++t) size += group_size(atoms, t, f);
      pairs.rows_first[f + 1] = pairs.rows_first[f] + size;
      pairs.pair_first[f + 1] = pairs.pair_first[f] + size * size;
    }
  }
};

struct NumberRows {
  RealAtoms atoms;
  const double* coord;
  PairNumbers pairs;
  DPMASK_KERNEL void operator()(int64_t row) const {
    const int64_t group = group_of(atoms, row);
    const int64_t frame = group % atoms.nframes;
    int64_t local = row - atoms.first[group];
    for (int64_t t = 0; t < group / atoms.nframes; ++t) local += group_size(atoms, t, frame);
    pairs.type[row] = group / atoms.nframes;
    pairs.frame[row] = frame;
    pairs.local[row] = local;
    const int64_t place = pairs.rows_first[frame] + local;
    pairs.rows[place] = row;
    for (int a = 0; a < 3; ++a) pairs.position[4 * place + a] = coord[3 * atoms.slot[row] + a];
    pairs.position[4 * place + 3] = atoms.weight[row];
    if (pairs.group != nullptr) pairs.group[place] = atoms.group[row];
  }
};

// Every thread adds up its share of the neighbours, then one for each number adds up the threads.
struct GatherOfRow {
  RealAtoms atoms;
  PairNumbers pairs;
  const double* coord;
  PairDerivatives of_pairs;
  Forces out;
  static constexpr int kNumbers = 13;  // force, atom_virial, weight_gradient
  static constexpr int64_t kShared = kNumbers * kThreads * sizeof(double);
  DPMASK_KERNEL void operator()(const Block& block) const {
    const int64_t i = block.index;
    const int64_t slot_i = atoms.slot[i];
    double* shares = reinterpret_cast<double*>(block.shared);
    block.each(kThreads, [=](int64_t thread) {
      double mine[kNumbers] = {};
      for (int64_t local = thread; local < frame_size(pairs, i); local += kThreads) {
        const int64_t j = row_in_frame(pairs, i, local);
        const int64_t ji = pair_number(pairs, j, pairs.local[i]);
        const double* dr_ij = of_pairs.dr + 3 * pair_number(pairs, i, local);
        const double* dr_ji = of_pairs.dr + 3 * ji;
        for (int a = 0; a < 3; ++a) {
          mine[a] += dr_ij[a] - dr_ji[a];
          for (int b = 0; b < 3; ++b) {
            const double r_ji = coord[3 * slot_i + b] - coord[3 * atoms.slot[j] + b];
            mine[3 + 3 * a + b] -= dr_ji[a] * r_ji;
          }
        }
        if (of_pairs.dw != nullptr && !are_of_group(atoms.group, i, j)) mine[12] += of_pairs.dw[ji];
      }
      for (int c = 0; c < kNumbers; ++c) shares[kNumbers * thread + c] = mine[c];
    });
    block.each(kNumbers, [=](int64_t c) {
      double sum = 0;
      for (int thread = 0; thread < kThreads; ++thread) sum += shares[kNumbers * thread + c];
      if (c < 3) {
        out.force[3 * slot_i + c] += sum;
      } else if (c < 12) {
        if (out.atom_virial != nullptr) out.atom_virial[9 * slot_i + c - 3] += sum;
      } else if (of_pairs.dw != nullptr) {
        out.weight_gradient[slot_i] += sum;
      }
    });
  }
};

// A block for each frame: its threads share the atoms.
struct AddUpVirial {
  RealAtoms atoms;
  PairNumbers pairs;
  Forces out;
  static constexpr int64_t kShared = 9 * kThreads * sizeof(double);
  DPMASK_KERNEL void operator()(const Block& block) const {
    const int64_t frame = block.index;
    const int64_t* rows = pairs.rows + pairs.rows_first[frame];
    const int64_t size = pairs.rows_first[frame + 1] - pairs.rows_first[frame];
    double* shares = reinterpret_cast<double*>(block.shared);
    block.threads([=](int thread) {
      double sum[9] = {};
      for (int64_t k = thread; k < size; k += kThreads) {
        const double* of_atom = out.atom_virial + 9 * atoms.slot[rows[k]];
        for (int c = 0; c < 9; ++c) sum[c] += of_atom[c];
      }
      for (int c = 0; c < 9; ++c) shares[9 * thread + c] = sum[c];
    });
    block.each(9, [=](int64_t c) {
      double sum = 0;
      for (int thread = 0; thread < kThreads; ++thread) sum += shares[9 * thread + c];
      out.virial[9 * frame + c] = sum;
    });
  }
};

struct ClearRow {
  PairNumbers pairs;
  PairDerivatives of_pairs;
  DPMASK_KERNEL void operator()(const Block& block) const {
    const int64_t size = frame_size(pairs, block.index);
    const int64_t first = pair_number(pairs, block.index, 0);
    block.each(3 * size, [=](int64_t k) { of_pairs.dr[3 * first + k] = 0; });
    if (of_pairs.dw == nullptr) return;
    block.each(size, [=](int64_t k) { of_pairs.dw[first + k] = 0; });
  }
};

}  // namespace

NumberedAtoms number_pairs(const RealAtoms& given, const double* coord, Gpu& gpu) {
  RealAtoms atoms = given;
  atoms.first = gpu.copy(given.first, atoms.ntypes * atoms.nframes + 1);
  const auto of_rows = [&] { return gpu.allocate<int64_t>(atoms.size); };
  const auto of_frames = [&] { return gpu.allocate<int64_t>(atoms.nframes + 1); };
  double* position = gpu.allocate<double>(4 * atoms.size);
  int64_t* group = atoms.group == nullptr ? nullptr : of_rows();
  const PairNumbers pairs = {of_rows(), of_rows(), of_rows(),   of_rows(),
                             position,  group,     of_frames(), of_frames()};
  for_each(1, gpu.stream(), SumFrames{atoms, pairs});
  for_each(atoms.size, gpu.stream(), NumberRows{atoms, coord, pairs});
  return {atoms, pairs};
}

void gather_forces(const RealAtoms& atoms, const PairNumbers& pairs, const double* coord,
                   const PairDerivatives& of_pairs, const Forces& out, cudaStream_t stream) {
  launch(atoms.size, GatherOfRow::kShared, stream, GatherOfRow{atoms, pairs, coord, of_pairs, out});
}

void clear_pairs(const RealAtoms& atoms, const PairNumbers& pairs, const PairDerivatives& of_pairs,
                 cudaStream_t stream) {
  launch(atoms.size, 0, stream, ClearRow{pairs, of_pairs});
}

void add_up_virial(const RealAtoms& atoms, const PairNumbers& pairs, const Forces& out,
                   cudaStream_t stream) {
  if (out.virial == nullptr) return;
  launch(atoms.nframes, AddUpVirial::kShared, stream, AddUpVirial{atoms, pairs, out});
}

}  // namespace dpmask::cuda
