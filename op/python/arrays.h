// SPDX-License-Identifier: LGPL-3.0-or-later
// Arrays of Python, and what is required of them.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace dpmask {

namespace py = pybind11;

// One of NumPy's.
template <typename T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

using Shape = std::vector<int64_t>;

inline void require(bool holds, const std::string& message) {
  if (!holds) throw std::invalid_argument(message);
}

// Of an array of NumPy's or of a device's.
template <typename OneArray>
Shape shape_of(const OneArray& array) {
  Shape shape;
  for (int k = 0; k < array.ndim(); ++k) shape.push_back(array.shape(k));
  return shape;
}

template <typename OneArray>
auto pointers(std::vector<OneArray>& arrays) {
  std::vector<decltype(arrays[0].mutable_data())> all;
  for (OneArray& array : arrays) all.push_back(array.mutable_data());
  return all;
}

// Requires that each net's parameters have the sizes of one net's.
template <typename OneArray>
void require_sizes(const std::vector<OneArray>& parameters, const std::vector<int64_t>& sizes) {
  for (size_t p = 0; p < parameters.size(); ++p) {
    require(parameters[p].size() == sizes[p % sizes.size()],
            "parameter " + std::to_string(p) + " must have " +
                std::to_string(sizes[p % sizes.size()]) + " entries");
  }
}

}  // namespace dpmask
