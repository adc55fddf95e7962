// SPDX-License-Identifier: LGPL-3.0-or-later
// Which panels the series of the nets have. A panel is halved until the last coefficients of its
// series are lost in the rounding error of the net. In a table, which is made once, panels also end
// where a net has a kink, and are then joined to as few as will do.
#include "op/kernels/series.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <type_traits>

#include "op/kernels/instruction_set.h"
#include "op/kernels/most_panels.h"
#include "op/kernels/net_kinks.h"
#include "op/kernels/net_series.h"
#include "op/kernels/pairs.h"
#include "op/kernels/series_fit.h"
#include "op/shared/activation.h"
#include "op/shared/environment_row.h"

namespace dpmask {
namespace {

// The nets in float64.
template <typename T>
class InDouble {
 public:
  explicit InDouble(const EmbeddingNets<T>& nets)
      : nets_{nets.neuron, nets.resnet_dt, nets.activation, nets.threshold, nets.net, {}} {
    const std::vector<int64_t> sizes = nets.sizes();
    for (size_t p = 0; p < nets.parameters.size(); ++p) {
      if constexpr (std::is_same_v<T, double>) {
        nets_.parameters.push_back(nets.parameters[p]);
      } else {
        const T* first = nets.parameters[p];
        converted_.emplace_back(first, first + sizes[p % sizes.size()]);
        nets_.parameters.push_back(converted_.back().data());
      }
    }
  }
  InDouble(const InDouble&) = delete;  // nets_ points into converted_

  const EmbeddingNets<double>& nets() const { return nets_; }
  int64_t nnets() const { return nets_.nnets(); }

 private:
  std::vector<std::vector<double>> converted_;
  EmbeddingNets<double> nets_;
};

// A bound for the slope along s of what enters any neuron: per neuron, the weights' magnitudes
// times the bounds of the layer before, an activation function's slope being at most
// kSteepestActivation.
double steepest_neuron(const EmbeddingNets<double>& nets, int64_t net) {
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
      const double timestep = nets.has_timestep(layer) ? parameters[2][o] : 1.0;
      z[o] = slope_bound(z[o], timestep, nets.has_skip(layer) ? h[o % in] : 0.0);
    }
    h = z;
    parameters += nets.has_timestep(layer) ? 3 : 2;
  }
  return steepest;
}

struct Interval {
  double lower, upper;
};

// The interval of s over all pairs.
template <typename T>
Interval interval_of_pairs(const Embedding<T>& embedding, const Pairs& pairs, Cpu& cpu) {
  const RealAtoms& atoms = embedding.atoms;
  struct Extremes {
    double least = std::numeric_limits<double>::infinity();
    double largest = 0;
  };
  std::vector<Extremes> of_unit(pairs.nunits);  // of |r|^2
  for_each_light_unit(pairs, cpu, [&](int64_t unit) {
    Extremes found;
    for (int64_t i = pairs.unit_first[unit]; i < pairs.unit_first[unit + 1]; ++i) {
      const double* r_i = embedding.coord + 3 * atoms.slot[i];
      for_each_in_frame(atoms, pairs, i, [&](int64_t j) {
        if (j == i) return;
        const double r2 = squared_distance(r_i, embedding.coord + 3 * atoms.slot[j]);
        found.least = std::min(found.least, r2);
        found.largest = std::max(found.largest, r2);
      });
    }
    of_unit[unit] = found;
  });
  Extremes all;
  for (const Extremes& found : of_unit) {
    all.least = std::min(all.least, found.least);
    all.largest = std::max(all.largest, found.largest);
  }
  const double lower = 1 / std::sqrt(all.largest), upper = 1 / std::sqrt(all.least);
  return {lower, std::max(upper, kLeastRatio * lower)};
}

struct Bounds {
  int64_t most_panels;  // a net that needs more gets none
  double narrowest;     // a panel that would be narrower when halved is taken as it is
};

// Whether the last coefficients are lost in rounding error.
bool is_good(const double* C, int64_t M1, double bound) {
  return std::all_of(C + (kTerms - 2) * M1, C + kTerms * M1,
                     [&](double last) { return std::abs(last) <= bound; });  // NaN is not
}

// The panels to begin with, [npanels, 2]. None reaches across an end.
std::vector<double> first_panels(const std::vector<double>& ends, double steepest,
                                 const Bounds& bounds) {
  std::vector<double> panels;
  for (size_t e = 0; e + 1 < ends.size(); ++e) {
    const double half = (ends[e + 1] - ends[e]) / 2;
    const double wanted = panels_wanted(steepest, half);
    const double possible = std::floor(2 * half / bounds.narrowest);
    const double count = std::max(1.0, std::min(wanted, possible));
    const double left =
        static_cast<double>(bounds.most_panels) - static_cast<double>(panels.size()) / 2;
    if (!(count <= left)) return {};
    for (int64_t p = 0; p < static_cast<int64_t>(count); ++p) {
      panels.push_back(ends[e] + half / count * static_cast<double>(2 * p + 1));
      panels.push_back(half / count);
    }
  }
  return panels;
}

// Puts the panels in ascending order.
NetSeries ascending(const NetSeries& series, int64_t M1) {
  std::vector<int64_t> order(series.npanels());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int64_t a, int64_t b) { return series.middle(a) < series.middle(b); });
  NetSeries sorted;
  sorted.largest = series.largest;
  sorted.panels.reserve(series.panels.size());
  sorted.C.reserve(series.C.size());
  for (int64_t p : order) sorted.add(series, p, p + 1, M1);
  return sorted;
}

// Halves the panels between the ends that are not good, level after level.
NetSeries fit_net(const EmbeddingNets<double>& nets, int64_t net, const std::vector<double>& ends,
                  double tolerance, const Bounds& bounds) {
  const SeriesFit fit = DPMASK_CHOOSE(series_fit);
  const int64_t M1 = nets.neuron.back();
  const double steepest =
      kinks_of(nets.activation, nets.threshold).straight ? 0 : steepest_neuron(nets, net);
  std::vector<double> level = first_panels(ends, steepest, bounds);
  NetSeries found;
  while (!level.empty()) {
    const int64_t count = static_cast<int64_t>(level.size()) / 2;
    if (count + found.npanels() > bounds.most_panels) return {};
    std::vector<double> C(count * kTerms * M1), largest_of(count);
    fit.interpolate(nets, net, count, level.data(), C.data(), largest_of.data());
    for (double value : largest_of) found.largest = std::max(found.largest, value);
    std::vector<double> halves;
    for (int64_t p = 0; p < count; ++p) {
      const double middle = level[2 * p], half_width = level[2 * p + 1];
      const double* C_p = &C[p * kTerms * M1];
      const bool good = is_good(C_p, M1, tolerance * found.largest);
      if (good || half_width < bounds.narrowest) {
        found.add(middle, half_width, C_p, M1, good);
      } else {
        for (int side : {-1, 1}) {
          halves.insert(halves.end(), {middle + side * half_width / 2, half_width / 2});
        }
      }
    }
    level = halves;
  }
  return ascending(found, M1);
}

// Puts the nets' panels one after the other.
template <typename T>
SeriesArrays<T> joined(const std::vector<NetSeries>& nets) {
  SeriesArrays<T> all;
  all.first.push_back(0);
  size_t size = 0;
  for (const NetSeries& net : nets) size += net.C.size();
  all.C.reserve(size);  // megabytes, in each step of training
  for (const NetSeries& net : nets) {
    all.panels.insert(all.panels.end(), net.panels.begin(), net.panels.end());
    all.C.insert(all.C.end(), net.C.begin(), net.C.end());
    all.first.push_back(all.first.back() + net.npanels());
  }
  return all;
}

}  // namespace

template <typename T>
SeriesArrays<T> fit_series(const Embedding<T>& embedding, Cpu& cpu) {
  const InDouble<T> in_double(embedding.nets);
  const EmbeddingNets<double>& nets = in_double.nets();
  const std::vector<int64_t> most = most_panels(embedding);
  std::vector<NetSeries> all(most.size());
  if (std::any_of(most.begin(), most.end(), [](int64_t count) { return count > 0; })) {
    const Cpu::Scope scope(cpu);
    const Pairs pairs(embedding.atoms, cpu);
    const Interval interval = interval_of_pairs(embedding, pairs, cpu);
    cpu.parallel(static_cast<int64_t>(most.size()), [&](int64_t net) {
      const Bounds bounds = {most[net], 0.0};
      all[net] = fit_net(nets, net, {interval.lower, interval.upper}, kTolerance<T>, bounds);
    });
  }
  return joined<T>(all);
}

template <typename T>
SeriesArrays<T> fit_table(const EmbeddingNets<T>& given, double lower, double upper,
                          double narrowest, int64_t most_panels, Cpu& cpu) {
  const InDouble<T> in_double(given);
  std::vector<NetSeries> all(in_double.nnets());
  const Bounds bounds = {most_panels, narrowest};
  cpu.parallel(in_double.nnets(), [&](int64_t net) {
    const std::vector<double> ends = ends_at_kinks(in_double.nets(), net, lower, upper);
    const NetSeries found = fit_net(in_double.nets(), net, ends, kTolerance<T>, bounds);
    all[net] = widened(in_double.nets(), net, found, ends, kTableTolerance<T>);
  });
  return joined<T>(all);
}

template <typename T>
void fit_series_grad(const EmbeddingNets<T>& given, const Series<T>& series, const T* dC,
                     const std::vector<T*>& dparameters, Cpu& cpu) {
  const InDouble<T> in_double(given);
  const EmbeddingNets<double>& nets = in_double.nets();
  const SeriesFit fit = DPMASK_CHOOSE(series_fit);
  const std::vector<int64_t> sizes = nets.sizes();
  const int64_t of_panel = kTerms * nets.neuron.back();
  cpu.parallel(series.nnets, [&](int64_t net) {
    std::vector<std::vector<double>> sums;
    std::vector<double*> arrays;
    for (int64_t size : sizes) arrays.push_back(sums.emplace_back(size, 0.0).data());
    const int64_t first = series.first[net], last = series.first[net + 1];
    const std::vector<double> of_net(dC + first * of_panel, dC + last * of_panel);
    fit.gradient(nets, net, last - first, series.panels + 2 * first, of_net.data(), arrays.data());
    for (size_t p = 0; p < sizes.size(); ++p) {
      std::copy(sums[p].begin(), sums[p].end(), dparameters[net * sizes.size() + p]);
    }
  });
}

#define DPMASK_INSTANTIATE(T)                                                                     \
  template SeriesArrays<T> fit_series<T>(const Embedding<T>&, Cpu&);                              \
  template SeriesArrays<T> fit_table<T>(const EmbeddingNets<T>&, double, double, double, int64_t, \
                                        Cpu&);                                                    \
  template void fit_series_grad<T>(const EmbeddingNets<T>&, const Series<T>&, const T*,           \
                                   const std::vector<T*>&, Cpu&)
DPMASK_INSTANTIATE(float);
DPMASK_INSTANTIATE(double);

}  // namespace dpmask
