// SPDX-License-Identifier: LGPL-3.0-or-later
// Which nets have enough pairs in a batch for a series.
#pragma once

#include <cstdint>
#include <vector>

#include "op/kernels/embedding.h"

namespace dpmask {

// The most panels that the series of each net may have in fit_series; 0 if it gets none.
// embedding.series is not used.
template <typename T>
std::vector<int64_t> most_panels(const Embedding<T>& embedding);

}  // namespace dpmask
