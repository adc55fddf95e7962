// SPDX-License-Identifier: LGPL-3.0-or-later
// The fitting nets.
#pragma once

#include <cstdint>
#include <vector>

#include "op/kernels/cpu.h"
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
  std::vector<const T*> parameters;      // type after type, layer after layer: matrix [in, out],
                                         // bias [out] and, where has_timestep, timestep [out]; the
                                         // last layer is not hidden and has one output
  std::vector<const float*> in_float32;  // as parameters: the matrices of hidden layers that are
                                         // read instead, or nullptr; empty where there are none

  int64_t nhidden() const { return static_cast<int64_t>(neuron.size()); }
  int64_t inputs(int64_t layer) const { return layer == 0 ? ninputs : neuron[layer - 1]; }
  int64_t outputs(int64_t layer) const { return layer == nhidden() ? 1 : neuron[layer]; }
  bool has_skip(int64_t layer) const {
    return 0 < layer && layer < nhidden() && outputs(layer) == inputs(layer);
  }
  bool has_timestep(int64_t layer) const { return resnet_dt && has_skip(layer); }
  // Calls body(place among the parameters) for each matrix but those of last layers.
  template <typename Body>
  void for_each_hidden_matrix(const Body& body) const {
    size_t place = 0;
    for (int64_t t = 0; t < ntypes; ++t) {
      for (int64_t layer = 0; layer <= nhidden(); ++layer) {
        if (layer < nhidden()) body(place);
        place += has_timestep(layer) ? 3 : 2;
      }
    }
  }
  // Sizes of the parameters of one net, in their order.
  std::vector<int64_t> sizes() const {
    std::vector<int64_t> all;
    for (int64_t layer = 0; layer <= nhidden(); ++layer) {
      all.push_back(inputs(layer) * outputs(layer));
      all.push_back(outputs(layer));
      if (has_timestep(layer)) all.push_back(outputs(layer));
    }
    return all;
  }
};

template <typename T>
struct Fitting {
  const FittingNets<T>& nets;
  const int64_t* type_first;  // [ntypes + 1]; atoms of type t are rows type_first[t] to [t + 1]
  const T* D;                 // [size, ninputs]

  int64_t size() const { return type_first[nets.ntypes]; }
  // Numbers of z: for each hidden layer, [size, width].
  int64_t z_size() const {
    int64_t total = 0;
    for (int64_t width : nets.neuron) total += size() * width;
    return total;
  }
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
