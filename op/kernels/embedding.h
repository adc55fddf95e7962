// SPDX-License-Identifier: LGPL-3.0-or-later
// X of the real atoms and forces, from the embedding nets or their series.
#pragma once

#include <cstdint>
#include <vector>

#include "op/kernels/atoms.h"
#include "op/kernels/cpu.h"
#include "op/kernels/forces.h"
#include "op/kernels/parameters.h"
#include "op/shared/activation.h"
#include "op/shared/series.h"

namespace dpmask {

// The embedding nets N: one input, s; one output vector, G. All have the same shape.
template <typename T>
struct EmbeddingNets {
  std::vector<int64_t> neuron;  // width of each layer; the last is M1
  bool resnet_dt;               // layers with a skip connection have a timestep
  Activation activation;
  double threshold;                  // of silut
  std::vector<int32_t> net;          // [ntypes * ntypes]; the net of (t_i, t_j), or -1 if excluded
  std::vector<const T*> parameters;  // as parameters.h says

  int64_t nlayers() const { return static_cast<int64_t>(neuron.size()); }
  int64_t inputs(int64_t layer) const { return layer == 0 ? 1 : neuron[layer - 1]; }
  int64_t outputs(int64_t layer) const { return neuron[layer]; }
  int64_t nparameters() const { return arrays_before(*this, nlayers()); }  // of one net
  int64_t nnets() const { return static_cast<int64_t>(parameters.size()) / nparameters(); }
  bool has_skip(int64_t layer) const {
    return outputs(layer) == inputs(layer) || outputs(layer) == 2 * inputs(layer);
  }
  bool has_timestep(int64_t layer) const { return resnet_dt && has_skip(layer); }
  // Sizes of the parameters of one net, in their order.
  std::vector<int64_t> sizes() const { return sizes_of_arrays(*this); }
};

// What all kernels of the embedding share.
template <typename T>
struct Embedding {
  RealAtoms atoms;
  const double* coord;           // [nframes, nslots, 3]
  const EmbeddingNets<T>& nets;  // parameters may be missing where all nets have a series
  Series<T> series;
  double n;  // the normalisation, sum(sel)
};

// X [size, 4, M1]: X_i = (1/n) sum_j R_ij^T G_ij, where R_ij has the factor w_ij.
template <typename T>
void embed(const Embedding<T>& embedding, T* X, Cpu& cpu);

// The gradient of a loss by what the nets are: dC of those with a series, and dparameters, shaped
// as nets.parameters, of the others (0 for those with a series).
template <typename T>
struct NetGradients {
  T* C;
  std::vector<T*> parameters;
};

// The gradient of a loss L by the nets, given dX = dL/dX [size, 4, M1].
template <typename T>
void embed_grad(const Embedding<T>& embedding, const T* dX, const NetGradients<T>& gradients,
                Cpu& cpu);

// Forces at fixed weights and, if wanted, what pairs give of dE/dw, given A = dE/dX [size, 4, M1].
template <typename T>
void force(const Embedding<T>& embedding, const T* A, const Forces& out, Cpu& cpu);

// embed, what makes A of X, and force, unless out.force is nullptr. The CPU finds and sorts the
// pairs once.
template <typename T>
void embed_and_force(const Embedding<T>& embedding, T* X, const Callback<>& set_A, const T* A,
                     const Forces& out, Cpu& cpu);

// The gradient of force: dA = dL/dA [size, 4, M1] and that by the nets, given A and dL/d(forces).
template <typename T>
void force_grad(const Embedding<T>& embedding, const T* A, const ForceCotangents& cotangents, T* dA,
                const NetGradients<T>& gradients, Cpu& cpu);

}  // namespace dpmask
