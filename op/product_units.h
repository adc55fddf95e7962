// SPDX-License-Identifier: LGPL-3.0-or-later
// Products of the fitting nets' matrices, built once for each instruction set.
#pragma once

#include <cstdint>

namespace dpmask {

// A row-major matrix within a larger one: rows are `stride` elements apart.
template <typename T>
struct Block {
  T* data;
  int64_t rows, columns, stride;
};

template <typename T>
struct ProductUnits {
  void (*product)(Block<const T> x, Block<const T> W, Block<T> y);             // y = x W
  void (*product_transposed)(Block<const T> x, Block<const T> W, Block<T> y);  // y = x W^T
  void (*outer)(Block<const T> x, Block<const T> y, Block<T> dW);              // dW = x^T y
};

template <typename T>
ProductUnits<T> product_units_baseline();
template <typename T>
ProductUnits<T> product_units_avx2();
template <typename T>
ProductUnits<T> product_units_avx512();

}  // namespace dpmask
