// SPDX-License-Identifier: LGPL-3.0-or-later
// A model as whoever reads one hands it over: arrays of the host, its own.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "op/kernels/aligned.h"
#include "op/kernels/embedding.h"
#include "op/kernels/fitting.h"
#include "op/kernels/series.h"

namespace dpmask {

// The shape of nets, as users write it.
struct NetShape {
  std::vector<int64_t> neuron;  // width of each layer; of fitting nets, of each hidden layer
  bool resnet_dt = false;
  std::string activation = "tanh";  // as of activation_named
};

// T is the precision of all nets.
template <typename T>
struct Model {
  double n = 0;              // the normalisation, sum(sel)
  int64_t M2 = 0;            // axis_neuron
  std::vector<int32_t> net;  // [ntypes * ntypes]; as EmbeddingNets::net
  NetShape embedding;
  std::vector<Aligned<T>> parameters;    // as EmbeddingNets::parameters; empty where a table has
                                         // all nets
  std::optional<SeriesArrays<T>> table;  // taken as it is; where there is none, opening makes one
  std::optional<double> min_distance;    // the shortest of the training data, if known
  NetShape fitting;
  std::vector<Aligned<T>> fitting_parameters;  // as FittingNets::parameters
  bool is_mixed = false;     // the fitting nets' matrices are held in float32, T being float64
  std::vector<double> bias;  // [ntypes]; of the energy

  int64_t ntypes() const { return static_cast<int64_t>(bias.size()); }
  // Both point into this model.
  EmbeddingNets<T> embedding_nets() const;
  FittingNets<T> fitting_nets() const;
  // Throws std::invalid_argument if anything does not fit, so that whatever passes can be
  // evaluated.
  void check() const;
};

// One of either precision, which several potentials may share.
using AnyModel =
    std::variant<std::shared_ptr<const Model<float>>, std::shared_ptr<const Model<double>>>;

}  // namespace dpmask
