// SPDX-License-Identifier: LGPL-3.0-or-later
#include "net_series.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "embedding_units.h"
#include "instruction_set.h"

namespace dpmask {
namespace {

constexpr int64_t kTerms[] = {16, 32, 64, 128};

// How far a series may be from its net, relative to the largest G: rounding error, which grows with
// the number of terms, and in float32 less than that, since a force has the derivative's error.
template <typename T>
double tolerance(int64_t terms) {
  return std::is_same_v<T, double> ? 1e-14 + 2.5e-16 * static_cast<double>(terms) : 1e-9;
}

template <typename T>
EmbeddingNets<double> in_double(const EmbeddingNets<T>& nets,
                                std::vector<std::vector<double>>* converted) {
  EmbeddingNets<double> copy{nets.neuron,    nets.resnet_dt, nets.activation,
                             nets.threshold, nets.net,       {}};
  const std::vector<int64_t> sizes = nets.sizes();
  for (size_t p = 0; p < nets.parameters.size(); ++p) {
    if constexpr (std::is_same_v<T, double>) {
      copy.parameters.push_back(nets.parameters[p]);
    } else {
      const T* first = nets.parameters[p];
      converted->emplace_back(first, first + sizes[p % sizes.size()]);
      copy.parameters.push_back(converted->back().data());
    }
  }
  return copy;
}

// Activation functions with kinks have no series worth the trial.
bool is_smooth(Activation activation) {
  return activation != Activation::relu && activation != Activation::relu6 &&
         activation != Activation::silut;
}

// The pairs of each net.
template <typename T>
std::vector<int64_t> count_pairs_of_nets(const Embedding<T>& embedding, const Pairs& pairs) {
  const RealAtoms& atoms = embedding.atoms;
  const EmbeddingNets<T>& nets = embedding.nets;
  std::vector<int64_t> counts(nets.nnets(), 0);
  for (int64_t i = 0; i < atoms.size; ++i) {
    for (int64_t t = 0; t < atoms.ntypes; ++t) {
      const int32_t net = nets.net[pairs.type[i] * atoms.ntypes + t];
      const int64_t group = t * atoms.nframes + pairs.frame[i];
      const int64_t itself = t == pairs.type[i] ? 1 : 0;
      if (net >= 0) counts[net] += atoms.first[group + 1] - atoms.first[group] - itself;
    }
  }
  return counts;
}

// A bound for the slope along s of what enters any neuron: per neuron, the weights' magnitudes
// times the bounds of the layer before, an activation function's slope being at most
// kSteepestActivation.
double steepest_neuron(const EmbeddingNets<double>& nets, int64_t net) {
  constexpr double kSteepestActivation = 1.13;  // gelu's; the others' are 1.1 or less
  const double* const* parameters = &nets.parameters[net * nets.nparameters()];
  std::vector<double> h = {1};
  double steepest = 0;
  for (int64_t layer = 0; layer < nets.nlayers(); ++layer) {
    const int64_t in = nets.inputs(layer), out = nets.outputs(layer);
    std::vector<double> z(out, 0.0);
    for (int64_t i = 0; i < in; ++i) {
      for (int64_t o = 0; o < out; ++o) z[o] += std::abs(parameters[0][i * out + o]) * h[i];
    }
    for (int64_t o = 0; o < out; ++o) {
      steepest = std::max(steepest, z[o]);
      const double timestep = nets.has_timestep(layer) ? std::abs(parameters[2][o]) : 1.0;
      z[o] = z[o] * timestep * kSteepestActivation + (nets.has_skip(layer) ? h[o % in] : 0.0);
    }
    h = z;
    parameters += nets.has_timestep(layer) ? 3 : 2;
  }
  return steepest;
}

struct Interval {
  double least = std::numeric_limits<double>::infinity();
  double largest = 0;
};

// The interval of 1/s^2 = |r|^2 over all pairs.
Interval squared_distances(const RealAtoms& atoms, const Pairs& pairs, const double* coord,
                           const Parallel& parallel) {
  std::vector<Interval> of_unit(pairs.nunits());
  parallel(pairs.nunits(), [&](int64_t unit) {
    Interval found;
    for (int64_t i = pairs.unit_first[unit]; i < pairs.unit_first[unit + 1]; ++i) {
      const double* r_i = coord + 3 * atoms.slot[i];
      for_each_in_frame(atoms, pairs, i, [&](int64_t j) {
        if (j == i) return;
        const double* r_j = coord + 3 * atoms.slot[j];
        double r2 = 0;
        for (int a = 0; a < 3; ++a) r2 += (r_j[a] - r_i[a]) * (r_j[a] - r_i[a]);
        found.least = std::min(found.least, r2);
        found.largest = std::max(found.largest, r2);
      });
    }
    of_unit[unit] = found;
  });
  Interval all;
  for (const Interval& found : of_unit) {
    all.least = std::min(all.least, found.least);
    all.largest = std::max(all.largest, found.largest);
  }
  return all;
}

}  // namespace

template <typename T>
SeriesOfNets<T>::SeriesOfNets(const Embedding<T>& embedding, const Pairs& pairs,
                              const Parallel& parallel)
    : fit_(DPMASK_CHOOSE(series_fit)), nets_(in_double(embedding.nets, &converted_)),
      series_(nets_.nnets()) {
  const std::vector<int64_t> counts = count_pairs_of_nets(embedding, pairs);
  const int64_t most = counts.empty() ? 0 : *std::max_element(counts.begin(), counts.end());
  if (most < kTerms[0] || !is_smooth(nets_.activation)) return;
  const Interval r2 =
      squared_distances(embedding.atoms, pairs, embedding.coord, for_light_work(pairs, parallel));
  const double least = 1 / std::sqrt(r2.largest);
  const double largest = 1 / std::sqrt(r2.least);
  NetSeries<double> blank;
  blank.middle = (least + largest) / 2;
  // Pairs that are all of one length still need nodes that differ.
  blank.half_width = std::max((largest - least) / 2, 0.01 * blank.middle);
  if (!std::isfinite(blank.half_width) || blank.half_width <= 0) return;
  parallel(nets_.nnets(), [&](int64_t net) {
    const double slope = steepest_neuron(nets_, net);
    for (int64_t terms : kTerms) {
      if (terms > counts[net]) return;
      // Between two nodes, pi half_width / terms apart or less, nothing may happen unseen: what
      // enters a neuron changes by pi at most.
      if (terms < slope * blank.half_width) continue;
      NetSeries<double> series = blank;
      series.terms = terms;
      series.C.resize(terms * nets_.neuron.back());
      if (!fit_.fit(nets_, net, tolerance<T>(terms), &series)) continue;
      series_[net] = {terms, series.middle, series.half_width, {series.C.begin(), series.C.end()}};
      return;
    }
  });
}

template <typename T>
void SeriesOfNets<T>::gradient(int64_t net, const std::vector<T>& dC, T* const* dparameters) const {
  const std::vector<int64_t> sizes = nets_.sizes();
  std::vector<std::vector<double>> sums;
  std::vector<double*> arrays;
  for (int64_t size : sizes) arrays.push_back(sums.emplace_back(size, 0.0).data());
  const NetSeries<T>& series = series_[net];
  const NetSeries<double> given = {
      series.terms, series.middle, series.half_width, {dC.begin(), dC.end()}};
  fit_.gradient(nets_, net, given, arrays.data());
  for (size_t p = 0; p < sizes.size(); ++p) {
    std::copy(sums[p].begin(), sums[p].end(), dparameters[p]);
  }
}

template class SeriesOfNets<float>;
template class SeriesOfNets<double>;

}  // namespace dpmask
