// SPDX-License-Identifier: LGPL-3.0-or-later
// The descriptor, and the energies of atoms: a thread for each number of the result.
#include "launch.h"

namespace dpmask::cuda {
namespace {

template <typename T>
struct Contract {
  Contraction<T> shape;
  const T *X, *Y;
  T* B;
  DPMASK_KERNEL void operator()(int64_t place) const {
    const int64_t M1 = shape.M1, M2 = shape.M2;
    const int64_t i = place / (M1 * M2), a = place / M2 % M1, b = place % M2;
    const T *X_i = X + 4 * M1 * i, *Y_i = Y + 4 * M1 * i;
    T sum = 0;
    for (int c = 0; c < 4; ++c) {
      sum += X_i[c * M1 + a] * Y_i[c * M1 + b] + Y_i[c * M1 + a] * X_i[c * M1 + b];
    }
    B[place] = sum / 2;
  }
};

template <typename T>
struct ContractReverse {
  Contraction<T> shape;
  const T *Y, *gB;
  T* gX;
  DPMASK_KERNEL void operator()(int64_t place) const {
    const int64_t M1 = shape.M1, M2 = shape.M2;
    const int64_t i = place / (4 * M1), a = place % M1;
    const T* Y_c = Y + place / M1 * M1;  // the row of this component
    const T* gB_i = gB + i * M1 * M2;
    T sum = 0;
    for (int64_t b = 0; b < M2; ++b) sum += Y_c[b] * gB_i[a * M2 + b];
    for (int64_t b = 0; b < (a < M2 ? M1 : 0); ++b) sum += Y_c[b] * gB_i[b * M2 + a];
    gX[place] = sum / 2;
  }
};

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

template <typename T>
struct SpreadEnergies {
  RealAtoms atoms;
  const double* bias;
  const T* e;
  Energies out;
  DPMASK_KERNEL void operator()(int64_t frame) const {
    double sum = 0;
    for (int64_t t = 0; t < atoms.ntypes; ++t) {
      const int64_t* group = atoms.first + t * atoms.nframes + frame;
      for (int64_t i = group[0]; i < group[1]; ++i) {
        const double energy = atoms.weight[i] * (e[i] + bias[t]);
        out.atom_energy[atoms.slot[i]] = energy;
        sum += energy;
      }
    }
    out.energy[frame] = sum;
  }
};

}  // namespace

template <typename T>
void contract(const Contraction<T>& shape, const T* X, const T* Y, T* B, cudaStream_t stream) {
  for_each(shape.size * shape.M1 * shape.M2, stream, Contract<T>{shape, X, Y, B});
}

template <typename T>
void contract_reverse(const Contraction<T>& shape, const T* Y, const T* gB, T* gX,
                      cudaStream_t stream) {
  for_each(shape.size * 4 * shape.M1, stream, ContractReverse<T>{shape, Y, gB, gX});
}

template <typename T>
void weigh(const RealAtoms& atoms, T factor, int64_t width, T* A, cudaStream_t stream) {
  for_each(atoms.size * width, stream, Weigh<T>{atoms.weight, factor, width, A});
}

template <typename T>
void spread_energies(const RealAtoms& atoms, const double* bias, const T* e, const Energies& out,
                     cudaStream_t stream) {
  for_each(atoms.nframes, stream, SpreadEnergies<T>{atoms, bias, e, out});
}

#define DPMASK_INSTANTIATE(T)                                                                  \
  template void weigh<T>(const RealAtoms&, T, int64_t, T*, cudaStream_t);                      \
  template void spread_energies<T>(const RealAtoms&, const double*, const T*, const Energies&, \
                                   cudaStream_t);                                              \
  template void contract<T>(const Contraction<T>&, const T*, const T*, T*, cudaStream_t);      \
  template void contract_reverse<T>(const Contraction<T>&, const T*, const T*, T*, cudaStream_t)
DPMASK_INSTANTIATE(float);
DPMASK_INSTANTIATE(double);

}  // namespace dpmask::cuda
