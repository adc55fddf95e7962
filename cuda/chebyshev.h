// SPDX-License-Identifier: LGPL-3.0-or-later
// The terms of a series at a point, for the kernels.
#pragma once

#include "../op/series.h"
#include "launch.h"

namespace dpmask::cuda {

// Calls term(k, T_k(x), dT_k/ds) for k = 0, ..., kTerms - 1, in order; beyond the panel they go on
// as straight lines. T_k' = k U_{k-1}.
template <typename T, typename Term>
DPMASK_KERNEL void for_terms(const Series<T>& series, int64_t panel, double s, const Term& term) {
  const double by_width = 1 / series.half_width(panel);
  const T x = static_cast<T>((s - series.middle(panel)) * by_width);
  const T within = x < -1 ? T(-1) : x > 1 ? T(1) : x;
  const T by_s = static_cast<T>(by_width);
  T value = 1, next_value = within, second = 0, next_second = 1;  // T_k, T_{k+1}; U_{k-1}, U_k
  DPMASK_UNROLL
  for (int k = 0; k < kTerms; ++k) {
    const T derivative = static_cast<T>(k) * second;
    term(k, value + (x - within) * derivative, derivative * by_s);
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
DPMASK_KERNEL int64_t panel_of_pair(const Embedding<T>& e, int64_t type_i, int64_t type_j,
                                    double s) {
  const int32_t net = e.net[type_i * e.atoms.ntypes + type_j];
  return net < 0 || !e.series.has(net) ? -1 : panel_of(e.series, net, s);
}

}  // namespace dpmask::cuda
