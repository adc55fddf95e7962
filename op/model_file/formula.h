// SPDX-License-Identifier: LGPL-3.0-or-later
// What a graph makes of constants and of the energies by the fitting nets.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "op/model_file/constant.h"

namespace dpmask {

// Numbers a F + b. What a graph has for each atom is here a number for each type, since it is the
// same for all atoms of a type, but for F, the energy of the atom by the fitting nets.
struct Affine {
  std::vector<int64_t> shape;
  std::vector<double> b;
  std::vector<double> a;  // as b; empty if F has no part in it
};

// Follows a graph from an output of a node back to its constants. It knows the few operators that
// models of this package have there, and refuses all others.
class Formula {
 public:
  // F(0) of each type, by an operator Energies that is given zeros as D.
  using InVacuum = std::function<std::vector<double>(const Node&)>;
  Formula(const Graph& graph, Constants* constants, int64_t ntypes, InVacuum in_vacuum)
      : graph_(graph), constants_(constants), ntypes_(ntypes), in_vacuum_(std::move(in_vacuum)) {}

  // Both throw Damaged or Unknown.
  Affine evaluate(const Input& input) { return evaluate(input, 0); }
  // The numbers of a constant that has integers.
  std::vector<double> integers(const Input& input);

 private:
  Affine evaluate(const Input& input, int depth);
  Affine of_energies(const Node& energies, int depth);
  Affine sliced(const Node& node, const Affine& x);

  const Graph& graph_;
  Constants* constants_;
  int64_t ntypes_;
  InVacuum in_vacuum_;
  int64_t steps_ = 0;
};

}  // namespace dpmask
