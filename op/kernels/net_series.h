// SPDX-License-Identifier: LGPL-3.0-or-later
// The series of one net while it is being found, always in float64.
#pragma once

#include <cstdint>
#include <vector>

#include "op/kernels/embedding.h"

namespace dpmask {

struct NetSeries {
  std::vector<double> panels = {};  // [npanels, 2]; ascending
  std::vector<double> C = {};       // [npanels, kTerms, M1]
  std::vector<bool> is_good = {};   // [npanels]; or taken as it is
  double largest = 0;               // |G| at the nodes

  int64_t npanels() const { return static_cast<int64_t>(is_good.size()); }
  double middle(int64_t panel) const { return panels[2 * panel]; }
  double half_width(int64_t panel) const { return panels[2 * panel + 1]; }
  double begin(int64_t panel) const { return middle(panel) - half_width(panel); }
  double end(int64_t panel) const { return middle(panel) + half_width(panel); }
  // Adds one with these coefficients, [kTerms, M1].
  void add(double middle, double half_width, const double* C_of_panel, int64_t M1, bool good);
  // Adds panels first, ..., last - 1 of another one.
  void add(const NetSeries& other, int64_t first, int64_t last, int64_t M1);
};

// The same with as few panels as will do: each as wide as it can be while it differs by at most
// `tolerance` times the largest G from good ones of the given panels, at all of their nodes in it.
// Those that are not good remain, and so do ends, which no panel is to reach across.
NetSeries widened(const EmbeddingNets<double>& nets, int64_t net, const NetSeries& given,
                  const std::vector<double>& ends, double tolerance);

}  // namespace dpmask
