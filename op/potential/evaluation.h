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
struct Evaluation {
  Embedding<T> embedding;
  FittingNets<T> fitting;
  int64_t M2;
  const double* bias;         // [ntypes]
  const int64_t* type_first;  // [ntypes + 1]; as Fitting::type_first, the host's
};

// `device` is what kernels are given as their last argument, `memory` gives them arrays by
// allocate<T>(size). out_forces.force is nullptr if no forces are wanted.
template <typename T, typename Device, typename Memory>
void evaluate(const Evaluation<T>& evaluation, const Energies& out_energies,
              const Forces& out_forces, Device&& device, Memory&& memory) {
  const Embedding<T>& embedding = evaluation.embedding;
  const RealAtoms& atoms = embedding.atoms;
  const int64_t M1 = embedding.nets.neuron.back(), M2 = evaluation.M2;
  Fitting<T> fitting{evaluation.fitting, evaluation.type_first, nullptr};
  const auto allocate = [&](int64_t of_atom) {
    return memory.template allocate<T>(of_atom * atoms.size);
  };
  T *X = allocate(4 * M1), *A = allocate(4 * M1), *e = allocate(1);
  const Readout<T> readout = {atoms,
                              {atoms.size, M1, M2},
                              fitting,
                              allocate(M1 * M2),
                              allocate(M1 * M2),
                              memory.template allocate<T>(fitting.z_size())};
  embed(embedding, X, device);
  read_out(readout, X, e, A, device);
  spread_energies(atoms, evaluation.bias, e, out_energies, device);
  if (out_forces.force != nullptr) force(embedding, A, out_forces, device);
}

}  // namespace dpmask
