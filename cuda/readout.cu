// SPDX-License-Identifier: LGPL-3.0-or-later
#include "cuda/readout.h"

#include "cuda/common/launch.h"
#include "cuda/descriptor.h"
#include "cuda/fitting.h"

namespace dpmask::cuda {
namespace {

template <typename T>
struct Weigh {
  const double* weight;
  T factor;
  int64_t width;
  T* A;
  DPMASK_KERNEL void operator()(int64_t place) const {
    A[place] *= factor * static_cast<T>(weight[place / width]);
  }
};

// A block for each frame: its threads share the atoms.
template <typename T>
struct SpreadEnergies {
  RealAtoms atoms;
  const double* bias;
  const T* e;
  Energies out;
  static constexpr int64_t kShared = kThreads * sizeof(double);
  DPMASK_KERNEL void operator()(const Block& block) const {
    const int64_t frame = block.index;
    double* shares = reinterpret_cast<double*>(block.shared);
    block.threads([=](int thread) {
      double sum = 0;
      for (int64_t t = 0; t < atoms.ntypes; ++t) {
        const int64_t* group = atoms.first + t * atoms.nframes + frame;
        for (int64_t i = group[0] + thread; i < group[1]; i += kThreads) {
          const double whole = e[i] + bias[t], energy = atoms.weight[i] * whole;
          out.atom_energy[atoms.slot[i]] = energy;
          sum += energy;
          if (out.weight_gradient != nullptr) out.weight_gradient[atoms.slot[i]] += whole;
        }
      }
      shares[thread] = sum;
    });
    block.each(1, [=](int64_t) {
      double sum = 0;
      for (int thread = 0; thread < kThreads; ++thread) sum += shares[thread];
      out.energy[frame] = sum;
    });
  }
};

}  // namespace
}  // namespace dpmask::cuda

namespace dpmask {

template <typename T>
void read_out(const Readout<T>& readout, const T* X, T* e, T* A, Gpu& gpu) {
  Fitting<T> fitting = readout.fitting;
  fitting.D = readout.D;
  contract(readout.shape, X, X, readout.D, gpu);
  energies(fitting, e, readout.A_D, readout.z, gpu);
  contract_reverse(readout.shape, X, readout.A_D, A, gpu);
  const int64_t width = 4 * readout.shape.M1;
  cuda::for_each(readout.atoms.size * width, gpu.stream(),
                 cuda::Weigh<T>{readout.atoms.weight, T(2), width, A});
}

template <typename T>
void spread_energies(const RealAtoms& given, const double* bias, const T* e, const Energies& out,
                     Gpu& gpu) {
  RealAtoms atoms = given;
  atoms.first = gpu.copy(given.first, given.ntypes * given.nframes + 1);
  cuda::launch(atoms.nframes, cuda::SpreadEnergies<T>::kShared, gpu.stream(),
               cuda::SpreadEnergies<T>{atoms, bias, e, out});
}

#define DPMASK_INSTANTIATE(T)                                           \
  template void read_out<T>(const Readout<T>&, const T*, T*, T*, Gpu&); \
  template void spread_energies<T>(const RealAtoms&, const double*, const T*, const Energies&, Gpu&)
DPMASK_INSTANTIATE(float);
DPMASK_INSTANTIATE(double);

}  // namespace dpmask
