// SPDX-License-Identifier: LGPL-3.0-or-later
#include "op/kernels/readout.h"

#include <algorithm>

#include "op/kernels/descriptor_units.h"
#include "op/kernels/fitting_parts.h"

namespace dpmask {

// A is twice the gradient of the contraction by one of its arguments, since both are X.
template <typename T>
void read_out(const Readout<T>& readout, const T* X, T* e, T* A, Cpu& cpu) {
  const ContractionUnits<T> units = DPMASK_CHOOSE(contraction_units, <T>);
  const int64_t M1 = readout.shape.M1, M2 = readout.shape.M2, x = 4 * M1, d = M1 * M2;
  Fitting<T> fitting = readout.fitting;
  fitting.D = readout.D;
  const Cpu::Scope scope(cpu);
  const FittingParts<T> work(fitting, cpu);
  work.for_each_part(1, 1, kRowsOfNet, [&](int64_t t, Range rows, Range) {
    const int64_t first = fitting.type_first[t] + rows.first;
    const Contraction<T> some = {rows.count, M1, M2};
    units.contract(some, X + x * first, X + x * first, readout.D + d * first);
    work.energies(t, rows, e, readout.A_D, readout.z);
    units.reverse(some, X + x * first, readout.A_D + d * first, A + x * first);
    for (int64_t i = first; i < first + rows.count; ++i) {
      const T factor = static_cast<T>(2 * readout.atoms.weight[i]);
      for (int64_t k = x * i; k < x * (i + 1); ++k) A[k] *= factor;
    }
  });
}

template <typename T>
void spread_energies(const RealAtoms& atoms, const double* bias, const T* e, const Energies& out,
                     Cpu&) {
  std::fill_n(out.energy, atoms.nframes, 0.0);
  for (int64_t t = 0; t < atoms.ntypes; ++t) {
    for (int64_t frame = 0; frame < atoms.nframes; ++frame) {
      const int64_t* group = atoms.first + t * atoms.nframes + frame;
      for (int64_t i = group[0]; i < group[1]; ++i) {
        const double whole = e[i] + bias[t], energy = atoms.weight[i] * whole;
        out.atom_energy[atoms.slot[i]] = energy;
        out.energy[frame] += energy;
        if (out.weight_gradient != nullptr) out.weight_gradient[atoms.slot[i]] += whole;
      }
    }
  }
}

#define DPMASK_INSTANTIATE(T)                                           \
  template void read_out<T>(const Readout<T>&, const T*, T*, T*, Cpu&); \
  template void spread_energies<T>(const RealAtoms&, const double*, const T*, const Energies&, Cpu&)
DPMASK_INSTANTIATE(float);
DPMASK_INSTANTIATE(double);

}  // namespace dpmask
