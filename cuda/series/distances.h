// SPDX-License-Identifier: LGPL-3.0-or-later
// The shortest and the longest distance of a batch, which bound s.
#pragma once

#include <limits>

#include "cuda/common/embedding.h"
#include "cuda/common/launch.h"

namespace dpmask::cuda {

struct Extremes {  // of |r|^2
  double least, largest;
  DPMASK_KERNEL void join(const Extremes& other) {
    if (other.least < least) least = other.least;
    if (other.largest > largest) largest = other.largest;
  }
};
constexpr double kFar = std::numeric_limits<double>::infinity();

// Sets result to the extremes of of(0), ..., of(n - 1). shares [kThreads] are the block's.
template <typename Of>
DPMASK_KERNEL void find_extremes(const Block& block, int64_t n, const Of& of, Extremes* shares,
                                 Extremes* result) {
  block.each(kThreads, [=](int64_t thread) {
    Extremes mine = {kFar, 0};
    for (int64_t k = thread; k < n; k += kThreads) mine.join(of(k));
    shares[thread] = mine;
  });
  block.each(1, [=](int64_t) {
    Extremes all = {kFar, 0};
    for (int thread = 0; thread < kThreads; ++thread) all.join(shares[thread]);
    *result = all;
  });
}

// Those of each row's pairs, [size].
template <typename T>
const Extremes* extremes_of_rows(const DeviceEmbedding<T>& embedding, Gpu& gpu);

}  // namespace dpmask::cuda
