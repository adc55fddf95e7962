// SPDX-License-Identifier: LGPL-3.0-or-later
// One ordered pair of two rows of RealAtoms: its row of the environment matrix, and what becomes of
// the derivatives by that. Static for the reason given in environment_row.h, and always inlined, so
// that nothing of an instruction set stands outside its namespace.
#pragma once

#include <cstdint>

#include "op/kernels/atoms.h"
#include "op/kernels/forces.h"
#include "op/shared/device.h"
#include "op/shared/environment_row.h"

namespace dpmask {

DPMASK_INLINE EnvironmentRow row_of_pair(const RealAtoms& atoms, const double* coord, int64_t i,
                                         int64_t j) {
  return environment_row(coord + 3 * atoms.slot[i], coord + 3 * atoms.slot[j],
                         weight_of_pair(atoms.group, i, j, atoms.weight[j]));
}

// The same, given s.
DPMASK_INLINE EnvironmentRow row_of_pair(const RealAtoms& atoms, const double* coord, int64_t i,
                                         int64_t j, double s) {
  return environment_row(coord + 3 * atoms.slot[i], coord + 3 * atoms.slot[j],
                         weight_of_pair(atoms.group, i, j, atoms.weight[j]), s);
}

// Sets those of the pair of that number, given dR = dE/dR [4] and ds = dE/ds beyond what s does
// through R.
DPMASK_INLINE void set_derivatives(const EnvironmentRow& row, const double* dR, double ds,
                                   int64_t number, const PairDerivatives& of_pairs) {
  environment_reverse(row, dR, ds, of_pairs.dr + 3 * number);
  if (of_pairs.dw != nullptr) of_pairs.dw[number] = environment_by_weight(row, dR);
}

}  // namespace dpmask
