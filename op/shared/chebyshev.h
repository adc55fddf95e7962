// SPDX-License-Identifier: LGPL-3.0-or-later
// Interpolation at the zeros of T_kTerms, x_m = cos(pi (2 m + 1) / (2 kTerms)): with G there,
//   C_k = sum_m interpolation_factor(k) cos(k pi (2 m + 1) / (2 kTerms)) G_m.
// Angles are counted in steps of pi / (2 kTerms). Functions are static, as in environment_row.h.
#pragma once

#include <cmath>
#include <cstdint>

#include "op/shared/device.h"
#include "op/shared/series.h"

namespace dpmask {

constexpr int64_t kPeriod = 4 * kTerms;  // of the cosine, in such steps

// On the host alone: a GPU is given what it needs.
static inline double cosine_of_step(int64_t step) {
  return std::cos(std::acos(-1.0) * static_cast<double>(step % kPeriod) / (2 * kTerms));
}

DPMASK_DEVICE static inline int64_t step_of_node(int64_t node) { return 2 * node + 1; }

DPMASK_DEVICE static inline double interpolation_factor(int64_t k) {
  return (k == 0 ? 1.0 : 2.0) / kTerms;
}

}  // namespace dpmask
