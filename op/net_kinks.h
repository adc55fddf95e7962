// SPDX-License-Identifier: LGPL-3.0-or-later
// Where embedding nets have kinks.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"

namespace dpmask {

// Where an activation function phi or a derivative of it jumps.
struct Kinks {
  std::vector<double> at;
  bool straight;  // phi is a straight line between them
};

// Those of an activation function; threshold is silut's.
Kinks kinks_of(Activation activation, double threshold);

// lower, upper and, ascending between them, all s at which what enters a neuron of the net crosses
// a kink of the activation function, so that G or a derivative of it jumps.
std::vector<double> ends_at_kinks(const EmbeddingNets<double>& nets, int64_t net, double lower,
                                  double upper);

}  // namespace dpmask
