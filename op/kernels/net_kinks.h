// SPDX-License-Identifier: LGPL-3.0-or-later
// Where embedding nets have kinks.
#pragma once

#include <cstdint>
#include <vector>

#include "op/kernels/embedding.h"

namespace dpmask {

// lower, upper and, ascending between them, all s at which what enters a neuron of the net crosses
// a kink of the activation function, so that G or a derivative of it jumps.
std::vector<double> ends_at_kinks(const EmbeddingNets<double>& nets, int64_t net, double lower,
                                  double upper);

}  // namespace dpmask
