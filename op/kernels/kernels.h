// SPDX-License-Identifier: LGPL-3.0-or-later
// The kernels' interface: what each array holds, its shape and its order. Nothing here knows of
// TensorFlow. Letters are those of docs/theory.md; arrays are row-major.
//
// Coordinates, forces and virials are float64 in every precision, because differences of
// coordinates lose digits in float32. T is the precision of the embedding nets and of X.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "op/shared/device.h"

namespace dpmask {

// Calls body(0), ..., body(n - 1), in any order and on any thread. The results of the kernels do
// not depend on how it does so.
using Parallel = std::function<void(int64_t n, const std::function<void(int64_t)>& body)>;

// One batch of frames as DeePMD-kit hands it over, padded to a common number of slots.
struct PaddedBatch {
  int64_t nframes;
  int64_t nslots;  // slots per frame, real and virtual atoms together
  int64_t ntypes;
  const double* coord;  // [nframes, nslots, 3]; never read where mask is 0
  const int32_t* type;  // [nframes, nslots]
  const double* mask;   // [nframes, nslots]; 1 is a real atom, 0 a virtual one
};

// The real atoms of a batch, sorted by type, then frame, then slot.
struct RealAtoms {
  int64_t nframes;
  int64_t ntypes;
  int64_t size;
  const int64_t* slot;   // [size]; frame * nslots + slot
  const double* weight;  // [size]; w, the mask of each atom
  const int64_t* first;  // [ntypes * nframes + 1]; atoms of type t in frame f are the rows
                         // first[t * nframes + f] to first[t * nframes + f + 1]
};

struct RealAtomList {
  std::vector<int64_t> slot;
  std::vector<double> weight;
  std::vector<int64_t> first;
  double min_distance;  // between real atoms of a frame; infinity where no frame has two
};

// Finds the real atoms of a batch.
// Throws std::invalid_argument, naming frame, atom and value, if a mask is neither 0 nor 1, a type
// is not in [0, ntypes), a coordinate of a real atom is not finite, or two real atoms coincide
// (r < 1e-6). Virtual atoms may also have type -1.
RealAtomList find_real_atoms(const PaddedBatch& batch);

enum class Activation { linear, relu, relu6, softplus, sigmoid, tanh, gelu, gelu_tf, silu, silut };

// The embedding nets N: one input, s; one output vector, G. All have the same shape.
template <typename T>
struct EmbeddingNets {
  std::vector<int64_t> neuron;  // width of each layer; the last is M1
  bool resnet_dt;               // layers with a skip connection have a timestep
  Activation activation;
  double threshold;                  // of silut
  std::vector<int32_t> net;          // [ntypes * ntypes]; the net of (t_i, t_j), or -1 if excluded
  std::vector<const T*> parameters;  // net after net, layer after layer: matrix [in, out],
                                     // bias [out] and, where has_timestep, timestep [out]

  int64_t nlayers() const { return static_cast<int64_t>(neuron.size()); }
  int64_t inputs(int64_t layer) const { return layer == 0 ? 1 : neuron[layer - 1]; }
  int64_t outputs(int64_t layer) const { return neuron[layer]; }
  int64_t nparameters() const {  // arrays of one net
    int64_t count = 0;
    for (int64_t layer = 0; layer < nlayers(); ++layer) count += has_timestep(layer) ? 3 : 2;
    return count;
  }
  int64_t nnets() const { return static_cast<int64_t>(parameters.size()) / nparameters(); }
  bool has_skip(int64_t layer) const {
    return outputs(layer) == inputs(layer) || outputs(layer) == 2 * inputs(layer);
  }
  bool has_timestep(int64_t layer) const { return resnet_dt && has_skip(layer); }
  // Sizes of the parameters of one net, in their order.
  std::vector<int64_t> sizes() const {
    std::vector<int64_t> all;
    for (int64_t layer = 0; layer < nlayers(); ++layer) {
      all.push_back(inputs(layer) * outputs(layer));
      all.push_back(outputs(layer));
      if (has_timestep(layer)) all.push_back(outputs(layer));
    }
    return all;
  }
};

// The nets as Chebyshev series of s, piece by piece. Panels are intervals of s, the panels of a net
// adjacent and ascending; in each, with T_k(cos t) = cos(k t),
//   G(s) = sum_k T_k(x) C_k,   x = (s - middle) / half_width.
// Below its first and above its last panel a net goes on as a straight line. A net without panels
// has no series: its pairs go through its layers.
constexpr int64_t kTerms = 16;

template <typename T>
struct Series {
  int64_t nnets;
  const int64_t* first;  // [nnets + 1]; net k has the panels first[k] to first[k + 1]
  const double* panels;  // [npanels, 2]; middle and half_width
  const T* C;            // [npanels, kTerms, M1]

  DPMASK_DEVICE int64_t npanels() const { return first[nnets]; }
  DPMASK_DEVICE bool has(int64_t net) const { return first[net] < first[net + 1]; }
  DPMASK_DEVICE double middle(int64_t panel) const { return panels[2 * panel]; }
  DPMASK_DEVICE double half_width(int64_t panel) const { return panels[2 * panel + 1]; }
};

// A series with the arrays that it points to.
template <typename T>
struct SeriesArrays {
  std::vector<int64_t> first;
  std::vector<double> panels;
  std::vector<T> C;

  Series<T> view() const {
    return {static_cast<int64_t>(first.size()) - 1, first.data(), panels.data(), C.data()};
  }
};

// What all kernels of the embedding share.
template <typename T>
struct Embedding {
  RealAtoms atoms;
  const double* coord;    // [nframes, nslots, 3]
  EmbeddingNets<T> nets;  // parameters may be missing where all nets have a series
  Series<T> series;
  double n;  // the normalisation, sum(sel)
};

// The series of the nets on the interval of s that a batch spans, right to rounding error. A net
// gets none if its activation function has a kink, or if its pairs cost less than its series would.
// embedding.series is not used.
template <typename T>
SeriesArrays<T> fit_series(const Embedding<T>& embedding, const Parallel& parallel);

// The same for all s from lower to upper, however many panels it takes; but where a panel would be
// narrower than `narrowest`, it is taken as it is. Panels end where G has a kink, so all nets have
// a series then.
template <typename T>
SeriesArrays<T> fit_table(const EmbeddingNets<T>& nets, double lower, double upper,
                          double narrowest, const Parallel& parallel);

// dparameters, shaped as nets.parameters: the gradient of a loss L, given dC = dL/dC; 0 for nets
// without a series.
template <typename T>
void fit_series_grad(const EmbeddingNets<T>& nets, const Series<T>& series, const T* dC,
                     const std::vector<T*>& dparameters, const Parallel& parallel);

// X [size, 4, M1]: X_i = (1/n) sum_j R_ij^T G_ij.
template <typename T>
void embed(const Embedding<T>& embedding, T* X, const Parallel& parallel);

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
                const Parallel& parallel);

// Forces and virials; the arrays must be zero on entry, since only real atoms are written.
struct Forces {
  double* force;        // [nframes, nslots, 3]; F_i = -dE/dr_i
  double* virial;       // [nframes, 9]; -dE/d(strain), row: direction of the force
  double* atom_virial;  // [nframes, nslots, 9]; sums to virial, each pair's share given to j
};

// Forces, given A = dE/dX [size, 4, M1].
template <typename T>
void force(const Embedding<T>& embedding, const T* A, const Forces& out, const Parallel& parallel);

// Cotangents of a loss L of forces and virials, shaped as in Forces.
struct ForceCotangents {
  const double* force;
  const double* virial;
  const double* atom_virial;
};

// The gradient of force: dA = dL/dA [size, 4, M1] and that by the nets, given A and dL/d(forces).
template <typename T>
void force_grad(const Embedding<T>& embedding, const T* A, const ForceCotangents& cotangents, T* dA,
                const NetGradients<T>& gradients, const Parallel& parallel);

// The symmetric bilinear form whose diagonal is the descriptor, D = contract(X, X):
//   B_ab = (1/2) sum_c (X_ca Y_cb + Y_ca X_cb),  a < M1, b < M2
// for each atom, given X and Y [size, 4, M1]; B is [size, M1, M2].
template <typename T>
struct Contraction {
  int64_t size, M1, M2;
};

template <typename T>
void contract(const Contraction<T>& shape, const T* X, const T* Y, T* B, const Parallel& parallel);

// The gradient of contract by X [size, 4, M1], given Y and gB = dL/dB [size, M1, M2].
template <typename T>
void contract_reverse(const Contraction<T>& shape, const T* Y, const T* gB, T* gX,
                      const Parallel& parallel);

// The fitting nets F, one for each type: hidden layers, then one number for each atom.
template <typename T>
struct FittingNets {
  int64_t ntypes;
  int64_t ninputs;              // numbers for each atom: D, and what else the net is given
  std::vector<int64_t> neuron;  // width of each hidden layer
  bool resnet_dt;               // layers with a skip connection have a timestep
  Activation activation;
  double threshold;                  // of silut
  std::vector<const T*> parameters;  // type after type, layer after layer: matrix [in, out],
                                     // bias [out] and, where has_timestep, timestep [out]; the
                                     // last layer is not hidden and has one output

  int64_t nhidden() const { return static_cast<int64_t>(neuron.size()); }
  int64_t inputs(int64_t layer) const { return layer == 0 ? ninputs : neuron[layer - 1]; }
  int64_t outputs(int64_t layer) const { return layer == nhidden() ? 1 : neuron[layer]; }
  bool has_skip(int64_t layer) const {
    return 0 < layer && layer < nhidden() && outputs(layer) == inputs(layer);
  }
  bool has_timestep(int64_t layer) const { return resnet_dt && has_skip(layer); }
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
  FittingNets<T> nets;
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
void energies(const Fitting<T>& fitting, T* e, T* A, T* z, const Parallel& parallel);

// The gradient of a loss L: dD [size, ninputs] and dparameters, shaped as nets.parameters, given z
// of energies, de = dL/de [size] and dA = dL/dA [size, ninputs].
template <typename T>
void energies_grad(const Fitting<T>& fitting, const T* z, const T* de, const T* dA, T* dD,
                   const std::vector<T*>& dparameters, const Parallel& parallel);

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
void read_out(const Readout<T>& readout, const T* X, T* e, T* A, const Parallel& parallel);

// Energies with the bias b of each type, E_i = w_i (e_i + b_{t_i}).
struct Energies {
  double* energy;  // [nframes]
  double*
      atom_energy;  // [nframes, nslots]; must be zero on entry, since only real atoms are written
};

// Given e [size] and bias [ntypes]. Sums go through the rows of RealAtoms.
template <typename T>
void spread_energies(const RealAtoms& atoms, const double* bias, const T* e, const Energies& out,
                     const Parallel& parallel);

// The environment matrix by itself, as tests and analysis want it. Pairs (i, j) of real atoms of
// one frame are numbered densely: frame after frame, i after i, each in order of the rows of
// RealAtoms; i = j is there and zero.
int64_t count_pairs(const RealAtoms& atoms);

// R [pairs, 4].
void environment(const RealAtoms& atoms, const double* coord, double* R);

// Forces and virials, given dR = dE/dR [pairs, 4].
void environment_force(const RealAtoms& atoms, const double* coord, const double* dR,
                       const Forces& out);

// The gradient of environment_force: ddR = dL/d(dR) [pairs, 4].
void environment_force_grad(const RealAtoms& atoms, const double* coord,
                            const ForceCotangents& cotangents, double* ddR);

// The instruction set that the kernels use: "avx512", "avx2" or "baseline"; the best that the
// machine offers, or the one named by the environment variable DP_MASK_ISA.
std::string instruction_set();

}  // namespace dpmask
