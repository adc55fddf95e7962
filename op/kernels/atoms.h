// SPDX-License-Identifier: LGPL-3.0-or-later
// The real atoms of a batch. This and the other headers of this folder are the kernels' interface:
// what each array holds, its shape and its order. Nothing here knows of TensorFlow. Letters are
// those of docs/theory.md; arrays are row-major.
//
// Coordinates, forces and virials are float64 in every precision, because differences of
// coordinates lose digits in float32. T is the precision of the embedding nets and of X.
#pragma once

#include <cstdint>

#include "op/kernels/arena.h"
#include "op/shared/device.h"

namespace dpmask {

constexpr int64_t kMostTypes = 1 << 16;  // so that counts by type and frame cannot overflow

// One batch of frames as DeePMD-kit hands it over, padded to a common number of slots.
struct PaddedBatch {
  int64_t nframes;
  int64_t nslots;  // slots per frame, real and virtual atoms together
  int64_t ntypes;
  const double* coord;  // [nframes, nslots, 3]; never read where mask is 0
  const int32_t* type;  // [nframes, nslots]
  const double* mask;   // [nframes, nslots]; 1 is a real atom, 0 a virtual one; with groups also
                        // between, a real atom that is there in part
  const int64_t* group = nullptr;  // [nframes, nslots], any numbers: the group of each atom, its
                                   // residue mostly; never read where mask is 0
};

// The real atoms of a batch, sorted by type, then frame, then slot.
struct RealAtoms {
  int64_t nframes;
  int64_t ntypes;
  int64_t size;
  const int64_t* slot;   // [size]; frame * nslots + slot
  const double* weight;  // [size]; w, the mask of each atom
  const int64_t* first;  // [ntypes * nframes + 1]; atoms of type t in frame f are the rows
                         // first[t * nframes + f] to first[t * nframes + f + 1]
  const int64_t* group = nullptr;  // [size]; or nullptr: each atom is by itself
};

// Whether two rows are of one group. This and the next function are static, since they are compiled
// for several instruction sets, as environment_row.h says.
DPMASK_DEVICE static inline bool are_of_group(const int64_t* group, int64_t i, int64_t j) {
  return group != nullptr && group[i] == group[j];
}

// w_ij, the weight of atom j for atom i: that of atom j, but 1 within a group, whose own bonds a
// fraction must not weaken.
DPMASK_DEVICE static inline double weight_of_pair(const int64_t* group, int64_t i, int64_t j,
                                                  double w_j) {
  return are_of_group(group, i, j) ? 1.0 : w_j;
}

struct FoundAtoms {
  RealAtoms atoms;
  double min_distance;  // between real atoms of a frame; infinity where no frame has two
};

// Finds the real atoms of a batch; their arrays are the arena's.
// Throws AtomError of atom_error.h if a mask is neither 0 nor 1 or, with groups, not from 0 to 1,
// if real atoms of a group differ in it, a type is not in [0, ntypes), a coordinate of a real atom
// is not finite, or two real atoms coincide (r < 1e-6). Virtual atoms may also have type -1.
FoundAtoms find_real_atoms(const PaddedBatch& batch, Arena& arena);

}  // namespace dpmask
