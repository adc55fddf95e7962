// SPDX-License-Identifier: LGPL-3.0-or-later
#pragma once

#include "op/shared/device.h"

namespace dpmask {

// u [3]: the derivative of a loss by dE/dr of the ordered pair (i, j), separation r [3], given its
// derivatives by the forces of both atoms [3], by the virial of their frame and by the atomic
// virial of j [9].
DPMASK_DEVICE static inline void pair_cotangent(const double* force_i, const double* force_j,
                                                const double* virial, const double* atom_virial_j,
                                                const double* r, double* u) {
  for (int a = 0; a < 3; ++a) {
    u[a] = force_i[a] - force_j[a];
    for (int b = 0; b < 3; ++b) u[a] -= (virial[3 * a + b] + atom_virial_j[3 * a + b]) * r[b];
  }
}

}  // namespace dpmask
