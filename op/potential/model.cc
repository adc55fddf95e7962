// SPDX-License-Identifier: LGPL-3.0-or-later
#include "op/potential/model.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <tuple>

#include "op/kernels/activation_names.h"

namespace dpmask {
namespace {

// So wide are layers at most that, with kMostTypes, no product of sizes overflows.
constexpr int64_t kMostNumbers = 1 << 24;

void require(bool holds, const std::string& message) {
  if (!holds) throw std::invalid_argument(message);
}

void require_shape(const std::string& name, const NetShape& shape) {
  for (int64_t width : shape.neuron) {
    require(1 <= width && width <= kMostNumbers,
            name + "neuron must be between 1 and 2^24, not " + std::to_string(width));
  }
}

// Returns the number of nets.
template <typename T>
int64_t require_parameters(const std::string& name, const std::vector<Aligned<T>>& parameters,
                           const std::vector<int64_t>& sizes) {
  require(parameters.size() % sizes.size() == 0,
          name + "parameters must hold " + std::to_string(sizes.size()) + " arrays for each net");
  for (size_t p = 0; p < parameters.size(); ++p) {
    const int64_t size = sizes[p % sizes.size()];
    require(static_cast<int64_t>(parameters[p].size()) == size,
            name + "parameter " + std::to_string(p) + " must have " + std::to_string(size) +
                " entries, not " + std::to_string(parameters[p].size()));
  }
  return static_cast<int64_t>(parameters.size() / sizes.size());
}

// Returns the number of nets.
template <typename T>
int64_t require_table(const SeriesArrays<T>& table, int64_t M1) {
  const std::vector<int64_t>& first = table.first;
  const int64_t npanels = static_cast<int64_t>(table.panels.size()) / 2;
  require(first.size() >= 1 && first.front() == 0 && first.back() == npanels &&
              std::is_sorted(first.begin(), first.end()),
          "first of the table must begin with 0, not decrease, and end with the number of panels");
  require(static_cast<int64_t>(table.panels.size()) == 2 * npanels &&
              static_cast<int64_t>(table.C.size()) == npanels * kTerms * M1,
          "the table must have panels [npanels, 2] and C [npanels, 16, M1]");
  const Series<T> series = table.view();
  for (int64_t net = 0; net < series.nnets; ++net) {
    for (int64_t panel = first[net]; panel < first[net + 1]; ++panel) {
      const double middle = series.middle(panel), half_width = series.half_width(panel);
      const bool ascends = panel == first[net] || series.middle(panel - 1) < middle;
      require(std::isfinite(middle) && std::isfinite(half_width) && half_width > 0 && ascends,
              "panel " + std::to_string(panel) +
                  " of the table is no interval that follows the one before it");
    }
  }
  return series.nnets;
}

template <typename Nets, typename T>
Nets with_parameters(Nets nets, const NetShape& shape, const std::vector<Aligned<T>>& parameters) {
  nets.neuron = shape.neuron;
  nets.resnet_dt = shape.resnet_dt;
  std::tie(nets.activation, nets.threshold) = activation_named(shape.activation);
  for (const Aligned<T>& array : parameters) nets.parameters.push_back(array.data());
  return nets;
}

}  // namespace

template <typename T>
EmbeddingNets<T> Model<T>::embedding_nets() const {
  EmbeddingNets<T> nets{};
  nets.net = net;
  return with_parameters(nets, embedding, parameters);
}

template <typename T>
FittingNets<T> Model<T>::fitting_nets() const {
  FittingNets<T> nets{};
  nets.ntypes = ntypes();
  nets.ninputs = embedding.neuron.back() * M2;
  return with_parameters(nets, fitting, fitting_parameters);
}

template <typename T>
void Model<T>::check() const {
  require(1 <= ntypes() && ntypes() <= kMostTypes, "bias must have an entry for each type");
  require(std::isfinite(n) && n > 0, "n must be positive and finite");
  require(!embedding.neuron.empty(), "neuron must name at least one layer");
  require_shape("", embedding);
  require_shape("fitting_", fitting);
  const int64_t M1 = embedding.neuron.back();
  require(1 <= M2 && M2 <= M1, "M2 must be between 1 and M1");
  require(M1 * M2 <= std::numeric_limits<int32_t>::max(), "M1 times M2 must be less than 2^31");
  require(static_cast<int64_t>(net.size()) == ntypes() * ntypes(),
          "net must have ntypes * ntypes entries");
  require(!min_distance || (std::isfinite(*min_distance) && *min_distance > 0),
          "min_distance must be positive and finite");
  const EmbeddingNets<T> nets = embedding_nets();
  int64_t nnets = require_parameters("", parameters, nets.sizes());
  if (table) {
    const int64_t of_table = require_table(*table, M1);
    require(
        nnets == 0 || nnets == of_table,
        "there are " + std::to_string(nnets) + " nets, but a table of " + std::to_string(of_table));
    for (int64_t k = 0; nnets == 0 && k < of_table; ++k) {
      require(table->view().has(k),
              "net " + std::to_string(k) + " has neither parameters nor a table");
    }
    nnets = of_table;
  }
  for (int32_t which : net) {
    require(-1 <= which && which < nnets, "net " + std::to_string(which) + " has no parameters");
  }
  const FittingNets<T> of_types = fitting_nets();
  const int64_t found = require_parameters("fitting_", fitting_parameters, of_types.sizes());
  require(found == ntypes(), "there are fitting nets of " + std::to_string(found) + " types, but " +
                                 std::to_string(ntypes()) + " types");
}

template struct Model<float>;
template struct Model<double>;

}  // namespace dpmask
