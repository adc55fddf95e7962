// SPDX-License-Identifier: LGPL-3.0-or-later
// Which panels the series of a net needs, by the rules of op/kernels/series.cc, and its series.
#pragma once

#include <vector>

#include "cuda/common/gpu.h"
#include "op/kernels/embedding.h"

namespace dpmask::cuda {

template <typename T>
struct FoundPanels {
  int64_t capacity;  // panels of each net that there is room for
  int64_t* count;    // [nnets]; how many panels the net has
  double* panels;    // [nnets, capacity, 2]
  T* C;              // [nnets, capacity, kTerms, M1]
};

// The panels of all nets. most [nnets] is the most that each may have.
template <typename T>
FoundPanels<T> find_panels(const Embedding<T>& embedding, const std::vector<int64_t>& most,
                           int64_t capacity, Gpu& gpu);

}  // namespace dpmask::cuda
