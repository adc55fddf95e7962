// SPDX-License-Identifier: LGPL-3.0-or-later
// The activation functions, and where they have kinks.
#pragma once

#include <vector>

namespace dpmask {

enum class Activation { linear, relu, relu6, softplus, sigmoid, tanh, gelu, gelu_tf, silu, silut };

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
