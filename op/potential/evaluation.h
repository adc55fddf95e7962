// SPDX-License-Identifier: LGPL-3.0-or-later
// A model's kernels, one after the other, from real atoms to energies, forces and virials: for all
// hosts, on every device.
#pragma once

#include <cstdint>

#include "op/kernels/embedding.h"
#include "op/kernels/readout.h"

namespace dpmask {

// A model and the atoms that it is evaluated for. All arrays are the device's, but those of which
// the kernels' headers say that they are the host's.
template <typename T>
struct ModelOnAtoms {
  Embedding<T> embedding;
  const FittingNets<T>& fitting;
  int64_t M2;
  const double* bias;         // [ntypes]
  const int64_t* type_first;  // [ntypes + 1]; as Fitting::type_first, the host's
};

// `device` is what kernels are given as their last argument, a Cpu or a Gpu. to_forces.force is
// nullptr if no forces are wanted. to_forces.weight_gradient, zero on entry, becomes the whole of
// dE/dw.
template <typename T, typename Device>
void evaluate(const ModelOnAtoms<T>& model, const Energies& to_energies, const Forces& to_forces,
              Device& device) {
  const Embedding<T>& embedding = model.embedding;
  const RealAtoms& atoms = embedding.atoms;
  const int64_t M1 = embedding.nets.neuron.back(), M2 = model.M2;
  const Fitting<T> fitting{model.fitting, model.type_first, nullptr};
  const auto allocate = [&](int64_t size) { return device.template allocate<T>(size); };
  T *X = allocate(4 * M1 * atoms.size), *A = allocate(4 * M1 * atoms.size);
  T *D = allocate(M1 * M2 * atoms.size), *A_D = allocate(M1 * M2 * atoms.size);
  T *e = allocate(atoms.size), *z = allocate(fitting.z_size());
  const auto set_A = [&] {
    read_out<T>({atoms, {atoms.size, M1, M2}, fitting, D, A_D, z}, X, e, A, device);
    const Energies energies = {to_energies.energy, to_energies.atom_energy,
                               to_forces.weight_gradient};
    spread_energies(atoms, model.bias, e, energies, device);
  };
  embed_and_force<T>(embedding, X, Callback<>(set_A), A, to_forces, device);
}

}  // namespace dpmask
