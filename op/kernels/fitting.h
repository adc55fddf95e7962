// SPDX-License-Identifier: LGPL-3.0-or-later
// The fitting nets.
#pragma once

#include <cstdint>
#include <vector>

#include "op/kernels/cpu.h"
#include "op/kernels/parameters.h"
#include "op/shared/activation.h"

namespace dpmask {

// The fitting nets F, one for each type: hidden layers, then one number for each atom.
template <typename T>
struct FittingNets {
  int64_t ntypes;
  int64_t ninputs;              // numbers for each atom: D, and what else the net is given
  std::vector<int64_t> neuron;  // width of each hidden layer
  bool resnet_dt;               // layers with a skip connection have a timestep
  Activation activation;
  double threshold;                      // of silut
  std::vector<const T*> parameters;      // as parameters.h says; the last layer is not hidden and
                                         // has one output
  std::vector<const float*> in_float32;  // as parameters: the matrices of hidden layers that are
                                         // read instead, or nullptr; empty where there are none

  int64_t nhidden() const { return static_cast<int64_t>(neuron.size()); }
  int64_t nlayers() const { return nhidden() + 1; }
  int64_t inputs(int64_t layer) const { return layer == 0 ? ninputs : neuron[layer - 1]; }
  int64_t outputs(int64_t layer) const { return layer == nhidden() ? 1 : neuron[layer]; }
  bool has_skip(int64_t layer) const {
    return 0 < layer && layer < nhidden() && outputs(layer) == inputs(layer);
  }
  bool has_timestep(int64_t layer) const { return resnet_dt && has_skip(layer); }
  // The place of a layer's matrix among the parameters; bias and timestep follow.
  int64_t place(int64_t t, int64_t layer) const {
    return t * arrays_before(*this, nlayers()) + arrays_before(*this, layer);
  }
  // Sizes of the parameters of one net, in their order.
  std::vector<int64_t> sizes() const { return sizes_of_arrays(*this); }
};

template <typename T>
struct Fitting {
  const FittingNets<T>& nets;
  const int64_t* type_first;  // [ntypes + 1]; atoms of type t are rows type_first[t] to [t + 1]
  const T* D;                 // [size, ninputs]

  int64_t size() const { return type_first[nets.ntypes]; }
  int64_t count(int64_t t) const { return type_first[t + 1] - type_first[t]; }  // of type t
  // The rows of type t of an array [size, width]; nullptr of nullptr.
  template <typename U>
  U* of_type(U* array, int64_t t, int64_t width) const {
    return array == nullptr ? nullptr : array + type_first[t] * width;
  }
  // z has [size, width] for each hidden layer: where those of a layer begin, and numbers of all.
  int64_t z_first(int64_t layer) const {
    int64_t first = 0;
    for (int64_t l = 0; l < layer; ++l) first += size() * nets.neuron[l];
    return first;
  }
  int64_t z_size() const { return z_first(nets.nhidden()); }
};

// e [size] = F(D), its derivative A [size, ninputs] = de/dD and, for energies_grad, what z [z_size]
// enters the activation functions. A type without atoms costs nothing.
template <typename T>
void energies(const Fitting<T>& fitting, T* e, T* A, T* z, Cpu& cpu);

// The gradient of a loss L: dD [size, ninputs] and dparameters, shaped as nets.parameters, given z
// of energies, de = dL/de [size] and dA = dL/dA [size, ninputs].
template <typename T>
void energies_grad(const Fitting<T>& fitting, const T* z, const T* de, const T* dA, T* dD,
                   const std::vector<T*>& dparameters, Cpu& cpu);

}  // namespace dpmask
