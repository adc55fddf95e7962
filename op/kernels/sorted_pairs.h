// SPDX-License-Identifier: LGPL-3.0-or-later
// The pairs of nets with a series, sorted by panel, so that C of a panel is read once for all of a
// share of the work.
#pragma once

#include <cstdint>

#include "op/kernels/embedding.h"
#include "op/kernels/pairs.h"

namespace dpmask {

// An ordered pair of centre atom i and neighbour j.
struct SortedPair {
  int32_t i, j;  // rows of RealAtoms
  double s;      // 1/r
};

// Sorted by panel, then by unit, then by centre atom, then by neighbour.
struct SortedPairs {
  // Vectors of pairs are read whole, and none is longer: behind the last are the pairs without a
  // panel, and then so many empty ones.
  static constexpr int64_t kBehind = 16;

  int64_t nunits;
  const int64_t* first;  // [npanels * nunits + 1]; those of a panel in a unit
  const SortedPair* all;

  // Those of a panel in this unit, and in all that follow, are those from here on; up to here, if
  // the unit is nunits.
  const SortedPair* from(int64_t panel, int64_t unit) const {
    return all + first[panel * nunits + unit];
  }
};

// In memory of `cpu`, within a Scope of the caller's.
template <typename T>
SortedPairs sort_pairs(const Embedding<T>& embedding, const Pairs& pairs, Cpu& cpu);

}  // namespace dpmask
