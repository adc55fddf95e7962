// SPDX-License-Identifier: LGPL-3.0-or-later
// The terms of a series at a point, for the kernels.
#pragma once

#include "cuda/common/embedding.h"
#include "cuda/common/launch.h"
#include "op/shared/series.h"

namespace dpmask::cuda {

// Where a panel is on the line of s.
struct Panel {
  double middle, by_width;  // 1 / half_width
};
template <typename T>
DPMASK_KERNEL Panel panel_at(const Series<T>& series, int64_t panel) {
  return {series.middle(panel), 1 / series.half_width(panel)};
}

// Calls term(k, T_k(x), dT_k/ds) for k = 0, ..., kTerms - 1, in order; beyond the panel they go on
// as straight lines. T_k' = k U_{k-1}, which is k^2 at 1 and (-1)^(k-1) k^2 at -1.
template <typename T, typename Term>
DPMASK_KERNEL void for_terms(const Panel& panel, double s, const Term& term) {
  const T x = static_cast<T>((s - panel.middle) * panel.by_width);
  const T within = x < -1 ? T(-1) : x > 1 ? T(1) : x;
  const T by_s = static_cast<T>(panel.by_width);
  const T beyond[2] = {(x - within) * within, x - within};        // for even and odd k
  T value = 1, next_value = within, second = 0, next_second = 1;  // T_k, T_{k+1}; U_{k-1}, U_k
  DPMASK_UNROLL
  for (int k = 0; k < kTerms; ++k) {
    term(k, value + static_cast<T>(k * k) * beyond[k % 2], static_cast<T>(k) * second * by_s);
    const T value_after = 2 * within * next_value - value;
    const T second_after = 2 * within * next_second - second;
    value = next_value;
    next_value = value_after;
    second = next_second;
    next_second = second_after;
  }
}

// The panel of a pair of atoms of these types at distance 1/s, or -1 if it has no series.
template <typename T>
DPMASK_KERNEL int64_t panel_of_pair(const DeviceEmbedding<T>& e, int64_t type_i, int64_t type_j,
                                    double s) {
  const int32_t net = e.net[type_i * e.atoms.ntypes + type_j];
  return net < 0 || !e.series.has(net) ? -1 : panel_of(e.series, net, s);
}

}  // namespace dpmask::cuda
