// SPDX-License-Identifier: LGPL-3.0-or-later
// Several pieces of work, of a kind but for their pointers and sizes, by one kernel.
#pragma once

#include <algorithm>
#include <vector>

#include "cuda/common/launch.h"

namespace dpmask::cuda {

constexpr int kMostItems = 16;  // what the arguments of a kernel hold; more take more kernels

// An Item has blocks(), how many it needs, and the operator of a kernel.
template <typename Item>
struct Batch {
  int count;
  int64_t first[kMostItems + 1];  // block of each item
  Item items[kMostItems];
  DPMASK_KERNEL void operator()(const Block& block) const {
    int k = 0;
    while (block.index >= first[k + 1]) ++k;
    items[k](Block{block.index - first[k], block.shared});
  }
};

// shared is what each block needs of shared memory.
template <int kOfBlock = kThreads, typename Item>
void launch_all(const std::vector<Item>& items, cudaStream_t stream, int64_t shared = 0) {
  for (size_t begin = 0; begin < items.size(); begin += kMostItems) {
    Batch<Item> batch{};
    batch.count = static_cast<int>(std::min<size_t>(kMostItems, items.size() - begin));
    for (int k = 0; k < batch.count; ++k) {
      batch.items[k] = items[begin + k];
      batch.first[k + 1] = batch.first[k] + batch.items[k].blocks();
    }
    launch<kOfBlock>(batch.first[batch.count], shared, stream, batch);
  }
}

}  // namespace dpmask::cuda
