// SPDX-License-Identifier: LGPL-3.0-or-later
#include "op/kernels/net_kinks.h"

#include <algorithm>

#include "op/kernels/instruction_set.h"
#include "op/kernels/series_fit.h"
#include "op/shared/activation.h"

namespace dpmask {
namespace {

// Kinks of G that are closer than this, relative to the interval, count as one: in a panel as
// narrow as that, rounding errors of G take too many digits of its derivative.
constexpr double kNearest = 1e-9;

// Where neither a neuron's input nor its slope jumps, the input is asked for at so many points of
// the interval; if phi is made of straight lines, its ends suffice.
constexpr int64_t kLookouts = 4096;

// Halvings of the distance of two points after which nothing is left between them.
constexpr int kHalvings = 60;

// What enters a neuron crosses a kink of phi between two values of s.
struct Crossing {
  double before, after;
  int64_t neuron;
  double kink;
  bool rises;
};

// The crossings of a layer between each two adjacent points.
std::vector<Crossing> find_crossings(const EmbeddingNets<double>& nets, int64_t net, int64_t layer,
                                     const std::vector<double>& kinks,
                                     const std::vector<double>& points) {
  const SeriesFit fit = DPMASK_CHOOSE(series_fit);
  const int64_t width = nets.outputs(layer);
  std::vector<double> z(points.size() * width);
  fit.neurons(nets, net, layer, static_cast<int64_t>(points.size()), points.data(), z.data());
  std::vector<Crossing> found;
  for (size_t p = 0; p + 1 < points.size(); ++p) {
    for (int64_t o = 0; o < width; ++o) {
      const double before = z[p * width + o], after = z[(p + 1) * width + o];
      for (double kink : kinks) {
        if ((before > kink) == (after > kink)) continue;
        found.push_back({points[p], points[p + 1], o, kink, after > before});
      }
    }
  }
  return found;
}

// Bisects until nothing is left between before and after.
void locate(const EmbeddingNets<double>& nets, int64_t net, int64_t layer,
            std::vector<Crossing>* crossings) {
  const SeriesFit fit = DPMASK_CHOOSE(series_fit);
  const int64_t width = nets.outputs(layer);
  std::vector<double> s(crossings->size()), z(crossings->size() * width);
  for (int halving = 0; halving < kHalvings; ++halving) {
    for (size_t c = 0; c < s.size(); ++c) {
      s[c] = ((*crossings)[c].before + (*crossings)[c].after) / 2;
    }
    fit.neurons(nets, net, layer, static_cast<int64_t>(s.size()), s.data(), z.data());
    for (size_t c = 0; c < s.size(); ++c) {
      Crossing& crossing = (*crossings)[c];
      const bool is_above = z[c * width + crossing.neuron] > crossing.kink;
      (is_above == crossing.rises ? crossing.after : crossing.before) = s[c];
    }
  }
}

}  // namespace

// Layer after layer: between the kinks of the layers before, what enters a layer is smooth, and a
// straight line if phi is made of straight lines.
std::vector<double> ends_at_kinks(const EmbeddingNets<double>& nets, int64_t net, double lower,
                                  double upper) {
  const Kinks kinks = kinks_of(nets.activation, nets.threshold);
  if (kinks.at.empty()) return {lower, upper};
  const double length = upper - lower;
  const int64_t nlookouts = kinks.straight ? 1 : kLookouts;
  std::vector<double> points, found;
  for (int64_t p = 0; p <= nlookouts; ++p) {
    points.push_back(lower + length * static_cast<double>(p) / static_cast<double>(nlookouts));
  }
  for (int64_t layer = 0; layer < nets.nlayers(); ++layer) {
    std::vector<Crossing> crossings = find_crossings(nets, net, layer, kinks.at, points);
    locate(nets, net, layer, &crossings);
    for (const Crossing& crossing : crossings) {
      found.push_back(crossing.after);
      points.push_back(crossing.after);
    }
    std::sort(points.begin(), points.end());
  }
  std::sort(found.begin(), found.end());
  std::vector<double> ends = {lower};
  for (double kink : found) {
    const double nearest = std::min(kink - ends.back(), upper - kink);
    if (nearest > kNearest * length) ends.push_back(kink);
  }
  ends.push_back(upper);
  return ends;
}

}  // namespace dpmask
