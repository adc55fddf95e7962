// SPDX-License-Identifier: LGPL-3.0-or-later
// From X through descriptor and fitting nets to energies.
#pragma once

#include <cstdint>

#include "op/kernels/atoms.h"
#include "op/kernels/cpu.h"
#include "op/kernels/descriptor.h"
#include "op/kernels/fitting.h"

namespace dpmask {

// From X to energies and their derivative by X at once, as inference wants both: D = contract(X,
// X), e [size] = F(D) and A [size, 4, M1] = dE/dX, E being the sum of w_i e_i. fitting.D is not
// used.
template <typename T>
struct Readout {
  RealAtoms atoms;
  Contraction<T> shape;
  Fitting<T> fitting;
  T *D, *A_D, *z;  // scratch: D and dE/dD [size, M1 * M2], z [z_size]
};

template <typename T>
void read_out(const Readout<T>& readout, const T* X, T* e, T* A, Cpu& cpu);

// Energies with the bias b of each type, E_i = w_i (e_i + b_{t_i}).
struct Energies {
  double* energy;  // [nframes]
  double*
      atom_energy;  // [nframes, nslots]; must be zero on entry, since only real atoms are written
  double* weight_gradient = nullptr;  // [nframes, nslots] or nullptr; added to: e_i + b_{t_i}
};

// Given e [size] and bias [ntypes]. Sums go through the rows of RealAtoms.
template <typename T>
void spread_energies(const RealAtoms& atoms, const double* bias, const T* e, const Energies& out,
                     Cpu& cpu);

}  // namespace dpmask
