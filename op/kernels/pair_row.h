// SPDX-License-Identifier: LGPL-3.0-or-later
// One ordered pair of two rows of RealAtoms: its row of the environment matrix, what becomes of the
// derivatives by that, and its cotangent. Static for the reason given in environment_row.h, and
// always inlined, so that nothing of an instruction set stands outside its namespace.
#pragma once

#include <cstdint>

#include "op/kernels/atoms.h"
#include "op/kernels/forces.h"
#include "op/kernels/pairs.h"
#include "op/shared/device.h"
#include "op/shared/environment_row.h"
#include "op/shared/pair_cotangent.h"

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
  if (of_pairs.dw != nullptr) environment_by_weight(row, dR, of_pairs.dw + number);
}

// u [3]: the derivative of the loss by dE/dr of the pair of rows (i, j), separation r [3].
DPMASK_INLINE void pair_cotangent(const RealAtoms& atoms, const Pairs& pairs,
                                  const ForceCotangents& cotangents, int64_t i, int64_t j,
                                  const double* r, double* u) {
  pair_cotangent(cotangents.force + 3 * atoms.slot[i], cotangents.force + 3 * atoms.slot[j],
                 cotangents.virial + 9 * pairs.frame[i], cotangents.atom_virial + 9 * atoms.slot[j],
                 r, u);
}

}  // namespace dpmask
