// SPDX-License-Identifier: LGPL-3.0-or-later
// The row of the environment matrix of one ordered pair (i, j), its reverse and its tangent.
// r = r_j - r_i is the separation, w the weight w_ij of atom j for atom i. A Number is one of a
// pair, or a vector of those of several pairs side by side. The functions are static because this
// file is compiled for several instruction sets, whose copies the linker must not merge.
#pragma once

#include <cmath>

#include "op/shared/device.h"

namespace dpmask {

template <typename Number>
struct EnvironmentRowOf {
  Number r[3];
  Number w;
  Number s;     // 1/r
  Number R[4];  // w (1/r, x/r^2, y/r^2, z/r^2)
};
using EnvironmentRow = EnvironmentRowOf<double>;

// |r|^2.
DPMASK_DEVICE static inline double squared_distance(const double* r_i, const double* r_j) {
  double r2 = 0;
  for (int a = 0; a < 3; ++a) r2 += (r_j[a] - r_i[a]) * (r_j[a] - r_i[a]);
  return r2;
}

// s, given |r|^2.
DPMASK_DEVICE static inline double inverse_distance(double r2) {
#ifdef __CUDA_ARCH__
  return rsqrt(r2);  // half the work
#else
  return 1 / sqrt(r2);
#endif
}

// Sets the row, given s.
template <typename Number>
DPMASK_INLINE void set_environment_row(const Number* r_i, const Number* r_j, const Number& w,
                                       const Number& s, EnvironmentRowOf<Number>* row) {
  for (int a = 0; a < 3; ++a) row->r[a] = r_j[a] - r_i[a];
  row->w = w;
  row->s = s;
  row->R[0] = w * s;
  for (int a = 0; a < 3; ++a) row->R[1 + a] = w * row->r[a] * s * s;
}

// The row, given s.
DPMASK_DEVICE static inline EnvironmentRow environment_row(const double* r_i, const double* r_j,
                                                           double w, double s) {
  EnvironmentRow row;
  set_environment_row(r_i, r_j, w, s, &row);
  return row;
}

// The row.
DPMASK_DEVICE static inline EnvironmentRow environment_row(const double* r_i, const double* r_j,
                                                           double w) {
  return environment_row(r_i, r_j, w, inverse_distance(squared_distance(r_i, r_j)));
}

// dE/dr [3], given dR = dE/dR [4] and ds = dE/ds beyond what s does through R.
template <typename Number>
DPMASK_INLINE void environment_reverse(const EnvironmentRowOf<Number>& row, const Number* dR,
                                       const Number& ds, Number* dr) {
  const Number s2 = row.s * row.s;
  const Number radial = dR[1] * row.r[0] + dR[2] * row.r[1] + dR[3] * row.r[2];
  for (int a = 0; a < 3; ++a) {
    dr[a] = -row.r[a] * row.s * s2 * (row.w * dR[0] + ds) +
            row.w * (dR[1 + a] * s2 - 2 * s2 * s2 * row.r[a] * radial);
  }
}

// Sets dE/dw = R0 . dE/dR, R0 being the row without weight, given dR = dE/dR [4].
template <typename Number>
DPMASK_INLINE void environment_by_weight(const EnvironmentRowOf<Number>& row, const Number* dR,
                                         Number* dw) {
  const Number radial = dR[1] * row.r[0] + dR[2] * row.r[1] + dR[3] * row.r[2];
  *dw = row.s * dR[0] + row.s * row.s * radial;
}

// The derivatives tR [4] of R and, returned, of s along dr/dt = u [3].
DPMASK_DEVICE static inline double environment_tangent(const EnvironmentRow& row, const double* u,
                                                       double* tR) {
  const double s2 = row.s * row.s;
  const double radial = row.r[0] * u[0] + row.r[1] * u[1] + row.r[2] * u[2];
  const double ts = -row.s * s2 * radial;
  tR[0] = row.w * ts;
  for (int a = 0; a < 3; ++a) {
    tR[1 + a] = row.w * (u[a] * s2 - 2 * s2 * s2 * row.r[a] * radial);
  }
  return ts;
}

}  // namespace dpmask
