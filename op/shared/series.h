// SPDX-License-Identifier: LGPL-3.0-or-later
// Nets as Chebyshev series. Functions that CPU and CUDA kernels compile are static, as in
// environment_row.h.
#pragma once

#include <cmath>
#include <cstdint>

#include "op/shared/device.h"

namespace dpmask {

// The nets as Chebyshev series of s, piece by piece. Panels are intervals of s, the panels of a net
// adjacent and ascending; in each, with T_k(cos t) = cos(k t),
//   G(s) = sum_k T_k(x) C_k,   x = (s - middle) / half_width.
// Below its first and above its last panel a net goes on as a straight line. A net without panels
// has no series: its pairs go through its layers.
constexpr int64_t kTerms = 16;

template <typename T>
struct Series {
  int64_t nnets;
  const int64_t* first;  // [nnets + 1]; net k has the panels first[k] to first[k + 1]
  const double* panels;  // [npanels, 2]; middle and half_width
  const T* C;            // [npanels, kTerms, M1]

  DPMASK_DEVICE int64_t npanels() const { return first[nnets]; }
  DPMASK_DEVICE bool has(int64_t net) const { return first[net] < first[net + 1]; }
  DPMASK_DEVICE double middle(int64_t panel) const { return panels[2 * panel]; }
  DPMASK_DEVICE double half_width(int64_t panel) const { return panels[2 * panel + 1]; }
};

// How large the last coefficients may be, relative to the largest G. A force, which has the
// derivative's error, is then as exact as this, and the gradient of its loss by the nets to some
// ten times of it; in float32 both are lost in rounding error.
template <typename T>
constexpr double kTolerance = sizeof(T) == sizeof(double) ? 1e-12 : 1e-9;

// How far a table may be from a net at the nodes of a series as exact as above, relative to the
// largest G. The derivative by s is that times some hundred divided by a panel's width: forces then
// agree to 1e-10 of the largest or better.
template <typename T>
constexpr double kTableTolerance = kTolerance<T> / 10;

// No activation function is steeper: gelu's slope is at most 1.13, the others' are 1.1 or less.
constexpr double kSteepestActivation = 1.13;

// A bound for the slope along s of a layer's output: z bounds what enters the neuron, skipped what
// goes around it.
DPMASK_DEVICE static inline double slope_bound(double z, double timestep, double skipped) {
  return z * std::abs(timestep) * kSteepestActivation + skipped;
}

// How many panels an interval of this half width has before any is halved; 0 stands for one, too,
// and an int64 may be too small. Between two nodes, at most pi half_width / kTerms apart, nothing
// may happen unseen: what enters a neuron, whose slope is at most `steepest`, is to change by pi at
// most.
DPMASK_DEVICE static inline double panels_wanted(double steepest, double half_width) {
  return std::ceil(steepest * half_width / kTerms);
}

// The interval of a series ends at this times its beginning, at least: pairs that are all of one
// length still need nodes that differ.
constexpr double kLeastRatio = 1.02;

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
