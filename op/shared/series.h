// SPDX-License-Identifier: LGPL-3.0-or-later
// What the CPU and the CUDA kernels for series share. Functions that both compile are static, as in
// environment.h.
#pragma once

#include <functional>
#include <vector>

#include "op/kernels/kernels.h"
#include "op/shared/device.h"

namespace dpmask {

// How large the last coefficients may be, relative to the largest G: rounding error, and in float32
// less than that, since a force has the derivative's error.
template <typename T>
constexpr double kTolerance = sizeof(T) == sizeof(double) ? 1.4e-14 : 1e-9;

// No activation function is steeper: gelu's slope is at most 1.13, the others' are 1.1 or less.
constexpr double kSteepestActivation = 1.13;

// Where a series that was found is put.
template <typename T>
struct SeriesMemory {
  double* panels;
  T* C;
};

// Called with Series::first as soon as that is known.
template <typename T>
using AllocateSeries = std::function<SeriesMemory<T>(const std::vector<int64_t>& first)>;

// The most panels that the series of each net may have in fit_series; 0 if it gets none.
// embedding.series is not used.
template <typename T>
std::vector<int64_t> most_panels(const Embedding<T>& embedding);

template <typename T>
DPMASK_DEVICE static inline double end_of_panel(const Series<T>& series, int64_t panel) {
  return series.middle(panel) + series.half_width(panel);
}

// Leaves that half of the panels low, ..., high in which s is, or to which it is nearer; end(k) is
// where panel k ends.
template <typename Value, typename Index, typename End>
DPMASK_DEVICE static inline void halve_panels(Value s, const End& end, Index* low, Index* high) {
  const Index between = (*low + *high) / 2;
  if (s <= end(between)) {
    *high = between;
  } else {
    *low = between + 1;
  }
}

// The panel of a net in which s is, or the nearest.
template <typename T>
DPMASK_DEVICE static inline int64_t panel_of(const Series<T>& series, int64_t net, double s) {
  int64_t low = series.first[net], high = series.first[net + 1] - 1;
  while (low < high) {
    halve_panels(s, [&](int64_t k) { return end_of_panel(series, k); }, &low, &high);
  }
  return low;
}

}  // namespace dpmask
