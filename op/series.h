// SPDX-License-Identifier: LGPL-3.0-or-later
// What is computed for single numbers of a series. Static, as in environment.h.
#pragma once

#include "device.h"
#include "kernels.h"

namespace dpmask {

// The panel of a net in which s is, or the nearest.
template <typename T>
DPMASK_DEVICE static inline int64_t panel_of(const Series<T>& series, int64_t net, double s) {
  int64_t low = series.first[net], high = series.first[net + 1] - 1;
  while (low < high) {
    const int64_t between = (low + high) / 2;
    if (s <= series.middle(between) + series.half_width(between)) {
      high = between;
    } else {
      low = between + 1;
    }
  }
  return low;
}

}  // namespace dpmask
