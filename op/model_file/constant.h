// SPDX-License-Identifier: LGPL-3.0-or-later
// Constants of a graph.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "op/model_file/graph.h"

namespace dpmask {

// TensorFlow's numbers of types.
enum class Type { float32 = 1, float64 = 2, int32 = 3, text = 7, int64 = 9, boolean = 10 };

// Numbers with their shape. Those of integers and float32 are the same in float64; a model has no
// integer beyond 2^53.
struct Numbers {
  Type type;
  std::vector<int64_t> shape;
  std::vector<double> values;
};

// Reads the constants of one file. Each may have one number that stands for all, as TensorFlow
// writes what is all the same, and each may be asked for several times; but all that is read has no
// more numbers than the file has bytes, and some for those that stand for all.
class Constants {
 public:
  explicit Constants(size_t file_size);
  // The numbers of a node of the operator Const. Throws Damaged, which names it, if it has none,
  // or others than its shape says.
  Numbers numbers(const Node& node);
  // The one text of such a node.
  std::string text(const Node& node) const;

 private:
  int64_t left_;  // numbers
};

}  // namespace dpmask
