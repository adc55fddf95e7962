// SPDX-License-Identifier: LGPL-3.0-or-later
// Products of matrices, several at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/common/stream.h"

namespace dpmask::cuda {

// A factor: element (a, b) is data[a * row + b * column]. One of these strides should be 1, or
// reading is slow.
template <typename T>
struct Factor {
  const T* data;
  int64_t row, column;
};

// out = bias + add + left right + left2 right2, where what is nullptr is left out; left2 and right2
// have the strides of left and right. out and add are row-major, [rows, columns], and may be the
// same array; bias is [columns]. A size may be 0.
template <typename T>
struct Product {
  int64_t rows, columns, depth;
  Factor<T> left;   // [rows, depth]
  Factor<T> right;  // [depth, columns]
  T* out;
  const T* bias = nullptr;
  const T* add = nullptr;
  const T* left2 = nullptr;
  const T* right2 = nullptr;
};

// Launches all products, none of which may read what another writes. workspace has
// product_workspace<T>() numbers, 16 megabytes whatever the sizes, and is free again for what
// comes next on the stream. Sums depend on the sizes of all these products, but not on the card.
template <typename T>
int64_t product_workspace();
template <typename T>
void multiply(const std::vector<Product<T>>& products, T* workspace, cudaStream_t stream);

}  // namespace dpmask::cuda
