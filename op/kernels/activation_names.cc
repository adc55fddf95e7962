// SPDX-License-Identifier: LGPL-3.0-or-later
#include "op/kernels/activation_names.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <map>
#include <stdexcept>

namespace dpmask {

std::pair<Activation, double> activation_named(const std::string& name) {
  static const std::map<std::string, Activation> kActivations = {
      {"none", Activation::linear},       {"linear", Activation::linear},
      {"relu", Activation::relu},         {"relu6", Activation::relu6},
      {"softplus", Activation::softplus}, {"sigmoid", Activation::sigmoid},
      {"tanh", Activation::tanh},         {"gelu", Activation::gelu},
      {"gelu_tf", Activation::gelu_tf},   {"silu", Activation::silu},
      {"silut", Activation::silut}};
  std::string lower = name;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const size_t colon = lower.find(':');
  const auto found = kActivations.find(lower.substr(0, colon));
  double threshold = 3;
  bool is_known = found != kActivations.end();
  if (is_known && colon != std::string::npos) {
    const char* end = lower.data() + lower.size();
    const auto [stop, error] = std::from_chars(lower.data() + colon + 1, end, threshold);
    is_known = found->second == Activation::silut && error == std::errc() && stop == end &&
               std::isfinite(threshold);
  }
  if (!is_known) throw std::invalid_argument("unknown activation function \"" + name + "\"");
  return {found->second, threshold};
}

}  // namespace dpmask
