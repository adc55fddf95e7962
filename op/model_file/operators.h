// SPDX-License-Identifier: LGPL-3.0-or-later
// The operators of this package in a graph, and what their attributes and inputs say.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "op/model_file/graph.h"
#include "op/potential/model.h"

namespace dpmask {

// Nets as an operator has them.
struct NetsOfOperator {
  NetShape shape;
  bool is_single;                 // float32, not float64
  std::vector<Input> parameters;  // net after net
};

// What a graph computes.
struct Operators {
  std::vector<int64_t> sel;
  double n;
  int64_t M2;
  std::vector<int32_t> net;
  NetsOfOperator embedding, fitting;
  std::vector<Input> table;  // first, panels and C; empty if the graph fits series by itself
  bool is_whole;             // one operator, Potential, does all
  Input energies;            // the bias of Potential; or else what atomic energies come from

  int64_t ntypes() const { return static_cast<int64_t>(sel.size()); }
};

// Throws Unknown if the graph is of another descriptor, of the built-in or of a later version of
// this package, Damaged if it is of no version.
void require_known(const Graph& graph);

// Of a graph that is known. Throws Unknown if it computes something else than energies and forces
// of a model with se_a_mask, Damaged if its operators contradict each other, or if one lacks
// something.
Operators find_operators(const Graph& graph);

// The nets of an operator Energies.
NetsOfOperator fitting_of(const Node& energies);

}  // namespace dpmask
