// SPDX-License-Identifier: LGPL-3.0-or-later
// The nodes of a panel, at which a net runs as on a tile of pairs, in float64.
#pragma once

#include "cuda/common/net_tile.h"
#include "op/shared/chebyshev.h"

namespace dpmask::cuda {

constexpr int kManyThreads = 512;  // of a block, where there are few blocks

// The cosines of chebyshev.h.
struct Cosines {
  double of[kPeriod];
  Cosines() {
    for (int64_t step = 0; step < kPeriod; ++step) of[step] = cosine_of_step(step);
  }
  DPMASK_KERNEL double node(int64_t node) const { return of[step_of_node(node)]; }
  DPMASK_KERNEL double interpolation(int64_t k, int64_t node) const {
    return interpolation_factor(k) * of[k * step_of_node(node) % kPeriod];
  }
};

template <typename T>
DPMASK_KERNEL void set_nodes(const Block& block, const NetOnTile<double, T>& on_tile,
                             const Cosines& cosines, double middle, double half_width) {
  block.each(kTerms, [=, &cosines](int64_t node) {
    on_tile.s()[node] = middle + half_width * cosines.node(node);
  });
}

}  // namespace dpmask::cuda
