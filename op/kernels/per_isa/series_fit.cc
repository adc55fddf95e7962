// SPDX-License-Identifier: LGPL-3.0-or-later
// Compiled once for each instruction set; direct_units.cc says what that asks of the code.
#include "op/kernels/series_fit.h"

#include <algorithm>
#include <cmath>

#include "op/kernels/instruction_set.h"
#include "op/kernels/per_isa/series_rows.h"
#include "op/kernels/per_isa/tiles.h"
#include "op/shared/chebyshev.h"

namespace dpmask {
namespace DPMASK_ISA {
namespace {

using Square = Eigen::Matrix<double, kTerms, kTerms, Eigen::RowMajor>;

// G at the nodes = at_nodes() C
const Square& at_nodes() {
  static const Square matrix = [] {
    Square of_nodes;
    for (int64_t m = 0; m < kTerms; ++m) {
      for (int64_t k = 0; k < kTerms; ++k) of_nodes(m, k) = cosine_of_step(k * step_of_node(m));
    }
    return of_nodes;
  }();
  return matrix;
}

// C = interpolation() G, with G at the nodes.
const Square& interpolation() {
  static const Square matrix = [] {
    Square of_nodes = at_nodes().transpose();
    for (int64_t k = 0; k < kTerms; ++k) of_nodes.row(k) *= interpolation_factor(k);
    return of_nodes;
  }();
  return matrix;
}

// s at a node of a panel [2].
double node_of(const double* panel, int64_t m) { return panel[0] + panel[1] * at_nodes()(m, 1); }

// Calls body(panel, place, net) for each panel: its nodes are the rows of the tile `net` from place
// on, which run(size, net) has dealt with.
template <typename Run, typename Body>
void for_each_panel(const EmbeddingNets<double>& nets, int64_t npanels, const double* panels,
                    Run&& run, Body&& body) {
  NetOnTile<double>& net = net_on_tile(nets);
  constexpr int64_t kPanels = kTile / kTerms;
  for (int64_t first = 0; first < npanels; first += kPanels) {
    const int64_t count = std::min(kPanels, npanels - first);
    for (int64_t p = 0; p < count; ++p) {
      const double* panel = panels + 2 * (first + p);
      for (int64_t m = 0; m < kTerms; ++m) {
        net.s(p * kTerms + m, 0) = node_of(panel, m);
      }
    }
    run(count * kTerms, net, first);
    for (int64_t p = 0; p < count; ++p) body(first + p, p * kTerms, net);
  }
}

void interpolate(const EmbeddingNets<double>& nets, int64_t index, int64_t npanels,
                 const double* panels, double* C, double* largest) {
  const double* const* parameters = &nets.parameters[index * nets.nparameters()];
  const int64_t M1 = nets.neuron.back();
  const auto run = [&](int64_t size, NetOnTile<double>& net, int64_t) {
    net.forward<false, 0>(size, parameters);
  };
  for_each_panel(nets, npanels, panels, run, [&](int64_t panel, int64_t place, const auto& net) {
    const auto G = net.G().middleRows(place, kTerms);
    const Submatrix<double> C_of_panel = {C + panel * kTerms * M1, kTerms, M1, M1};
    set_product(factor(interpolation()), factor(G), C_of_panel);
    largest[panel] = G.cwiseAbs().maxCoeff();
  });
}

double difference(int64_t M1, const double* panel, const double* C, int64_t npanels,
                  const double* panels, const double* C_of_panels) {
  const int64_t first_of_net[] = {0, 1};
  const Series<double> series = {1, first_of_net, panel, C};
  Square T;
  Matrix<double> G(kTerms, M1), others(kTerms, M1);
  double largest = 0;
  for (int64_t p = 0; p < npanels; ++p, panels += 2, C_of_panels += kTerms * M1) {
    SortedPair nodes[kTerms];
    for (int64_t m = 0; m < kTerms; ++m) nodes[m] = {0, 0, node_of(panels, m)};
    set_terms<1>(series, 0, nodes, nodes + kTerms, T.data());
    set_product(factor(T), {C, kTerms, M1, M1}, result(G));
    set_product(factor(at_nodes()), {C_of_panels, kTerms, M1, M1}, result(others));
    for (int64_t m = 0; m < kTerms; ++m) {
      if (std::abs(nodes[m].s - panel[0]) <= panel[1]) {
        largest = std::max(largest, (G.row(m) - others.row(m)).cwiseAbs().maxCoeff());
      }
    }
  }
  return largest;
}

void neurons(const EmbeddingNets<double>& nets, int64_t index, int64_t layer, int64_t size,
             const double* s, double* z) {
  const double* const* parameters = &nets.parameters[index * nets.nparameters()];
  NetOnTile<double>& net = net_on_tile(nets);
  const int64_t width = nets.outputs(layer);
  for (int64_t first = 0; first < size; first += kTile) {
    const int64_t count = std::min(kTile, size - first);
    net.s.topRows(count) = Eigen::Map<const Matrix<double>>(s + first, count, 1);
    net.forward<false, 0>(count, parameters);
    Eigen::Map<Matrix<double>>(z + first * width, count, width) = net.z(layer).topRows(count);
  }
}

void gradient(const EmbeddingNets<double>& nets, int64_t index, int64_t npanels,
              const double* panels, const double* dC, double* const* gradient) {
  const double* const* parameters = &nets.parameters[index * nets.nparameters()];
  const int64_t M1 = nets.neuron.back();
  const auto run = [&](int64_t size, NetOnTile<double>& net, int64_t first) {
    net.forward<false, 1>(size, parameters);
    for (int64_t place = 0; place < size; place += kTerms, ++first) {
      const Submatrix<const double> dC_of_panel = {dC + first * kTerms * M1, kTerms, M1, M1};
      set_product<Transposed::left>(factor(interpolation()), dC_of_panel,
                                    result(net.gG.middleRows(place, kTerms)));
    }
    net.reverse<false>(size, parameters, gradient);
  };
  for_each_panel(nets, npanels, panels, run, [](int64_t, int64_t, const auto&) {});
}

}  // namespace
}  // namespace DPMASK_ISA

SeriesFit DPMASK_OF_THIS_SET(series_fit)() {
  return {DPMASK_ISA::interpolate, DPMASK_ISA::difference, DPMASK_ISA::neurons,
          DPMASK_ISA::gradient};
}

}  // namespace dpmask
