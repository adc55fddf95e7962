// SPDX-License-Identifier: LGPL-3.0-or-later
// Where activation functions have kinks.
#pragma once

#include <vector>

#include "op/kernels/kernels.h"

namespace dpmask {

// Where an activation function phi or a derivative of it jumps.
struct Kinks {
  std::vector<double> at;
  bool straight;  // phi is a straight line between them
};

// Those of an activation function; threshold is silut's.
inline Kinks kinks_of(Activation activation, double threshold) {
  switch (activation) {
    case Activation::linear:
      return {{}, true};
    case Activation::relu:
      return {{0}, true};
    case Activation::relu6:
      return {{0, 6}, true};
    case Activation::silut:
      return {{threshold}, false};
    default:
      return {{}, false};
  }
}

}  // namespace dpmask
