// SPDX-License-Identifier: LGPL-3.0-or-later
// Numbers the ordered pairs of real atoms and cuts the centre atoms into units of work.
#pragma once

#include <cstdint>
#include <vector>

#include "op/kernels/atoms.h"
#include "op/kernels/cpu.h"
#include "op/kernels/forces.h"

namespace dpmask {

struct Pairs {
  Pairs(const RealAtoms& atoms, Cpu& cpu);  // within a Scope of its caller's

  int64_t* type;        // [size]; of each row of RealAtoms
  int64_t* frame;       // [size]
  int64_t* local;       // [size]; place of the atom among those of its frame
  int64_t* frame_size;  // [nframes]; real atoms
  int64_t* pair_first;  // [size]; number of the pair (row, local 0)
  int64_t npairs;       // sum of frame_size^2, the pairs i = j included
  int64_t* unit_first;  // [nunits + 1]; the centre rows of each unit of work
  int64_t nunits;

  int64_t number(int64_t i, int64_t j) const { return pair_first[i] + local[j]; }
};

// Calls body(j) for each row j of the frame of row i, in the order of their local numbers.
template <typename Body>
void for_each_in_frame(const RealAtoms& atoms, const Pairs& pairs, int64_t i, Body&& body) {
  for (int64_t t = 0; t < atoms.ntypes; ++t) {
    const int64_t group = t * atoms.nframes + pairs.frame[i];
    for (int64_t j = atoms.first[group]; j < atoms.first[group + 1]; ++j) body(j);
  }
}

// With so few pairs, to wake threads takes longer than light work, and to read C once more takes
// longer than a thread waits for another.
constexpr int64_t kFewPairs = 4096;

// Calls body(unit) for each unit, for some nanoseconds of work with each pair: without threads
// where waking them takes longer.
template <typename Body>
void for_each_light_unit(const Pairs& pairs, Cpu& cpu, const Body& body) {
  if (pairs.npairs > kFewPairs) {
    cpu.parallel(pairs.nunits, body);
  } else {
    for (int64_t unit = 0; unit < pairs.nunits; ++unit) body(unit);
  }
}

// Whether pairs of the unit may be of the net; net_of is EmbeddingNets::net.
bool unit_has_net(const RealAtoms& atoms, const Pairs& pairs, int64_t unit,
                  const std::vector<int32_t>& net_of, int64_t net);

// For what out wants, not initialised.
PairDerivatives allocate_derivatives(const Pairs& pairs, const Forces& out, Cpu& cpu);

// Zeroes those of the pairs of a unit's centres, since not all pairs have derivatives.
void clear_derivatives(const Pairs& pairs, int64_t unit, const PairDerivatives& of_pairs);

// Adds -dE/dr of every pair to the forces and virials of its two atoms, and dE/dw_ij to the weight
// gradient of atom j. Each atom gathers what is its own, so that the order of the additions is
// always the same.
void gather_forces(const RealAtoms& atoms, const Pairs& pairs, const double* coord,
                   const PairDerivatives& of_pairs, const Forces& out, Cpu& cpu);

}  // namespace dpmask
