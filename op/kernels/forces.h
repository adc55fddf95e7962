// SPDX-License-Identifier: LGPL-3.0-or-later
// Forces and virials, and the cotangents of a loss of them.
#pragma once

namespace dpmask {

// Forces and virials; the arrays must be zero on entry, since only real atoms are written.
struct Forces {
  double* force;   // [nframes, nslots, 3]; F_i = -dE/dr_i
  double* virial;  // [nframes, 9]; -dE/d(strain), row: direction of the force; both virials may
                   // be nullptr
  double* atom_virial;  // [nframes, nslots, 9]; sums to virial, each pair's share given to j
  double* weight_gradient = nullptr;  // [nframes, nslots] or nullptr; added to: what pairs give of
                                      // dE/dw_k, sum_i R0_ik . dE/dR_ik over i of other groups
};

// What forces are gathered from.
struct PairDerivatives {
  double* dr;  // [pairs, 3]; dE/dr
  double* dw;  // [pairs]; dE/dw_ij, or nullptr if not wanted
};

// Cotangents of a loss L of forces and virials, shaped as in Forces.
struct ForceCotangents {
  const double* force;
  const double* virial;
  const double* atom_virial;
};

}  // namespace dpmask
