// SPDX-License-Identifier: LGPL-3.0-or-later
// Several pieces of work, of a kind but for their pointers and sizes, by one kernel.
#pragma once

#include <algorithm>
#include <vector>

#include "launch.h"

namespace dpmask::cuda {

constexpr int kMostItems = 16;  // what the arguments of a kernel hold; more take more kernels

// An Item has blocks(), how many it needs, and the operator of a kernel.
template <typename Item>
struct Batch {
  int count;
  int64_t first[kMostItems + 1];  // block of each item
  Item items[kMostItems];
  DPMASK_KERNEL void operator()(const Block& block) const {
    int k = 0;
    while (block.index >= first[k + 1]) ++k;
    items[k](Block{block.index - first[k], block.shared});
  }
};

template <typename Item>
void launch_all(const std::vector<Item>& items, cudaStream_t stream, int64_t shared = 0) {
  for (size_t begin = 0; begin < items.size(); begin += kMostItems) {
    Batch<Item> batch{};
    batch.count = static_cast<int>(std::min<size_t>(kMostItems, items.size() - begin));
    for (int k = 0; k < batch.count; ++k) {
      batch.items[k] = items[begin + k];
      batch.first[k + 1] = batch.first[k] + batch.items[k].blocks();
    }
    launch(batch.first[batch.count], shared, stream, batch);
  }
}

// out = bias + add + left right + left2 right2, where what is nullptr is left out. left(i, k) is
// left[i * left_row + k * left_step], right(k, j) is right[k * right_row + j * right_step]; out
// and add are row-major, bias has a number for each column.
template <typename T>
struct Product {
  int64_t rows, columns, depth;
  const T* left;
  int64_t left_row, left_step;
  const T* right;
  int64_t right_row, right_step;
  T* out;
  const T* bias = nullptr;
  const T* add = nullptr;
  const T* left2 = nullptr;
  const T* right2 = nullptr;

  static constexpr int kRows = 8;  // of a block: each thread has a column of them
  int64_t blocks() const { return (rows + kRows - 1) / kRows * column_blocks(); }
  DPMASK_DEVICE int64_t column_blocks() const { return (columns + kThreads - 1) / kThreads; }
  DPMASK_KERNEL void operator()(const Block& block) const {
    const int64_t row = block.index / column_blocks() * kRows;
    const int64_t first = block.index % column_blocks() * kThreads;
    const int64_t count = columns - first < kThreads ? columns - first : kThreads;
    block.each(count, [=](int64_t k) {
      if (row + kRows <= rows) {
        of_column<true>(row, first + k, kRows);
      } else {
        of_column<false>(row, first + k, static_cast<int>(rows - row));
      }
    });
  }

 private:
  // With kAll, the loops over rows have a known length, and sums stay in registers.
  template <bool kAll>
  DPMASK_KERNEL void of_column(int64_t row, int64_t column, int nrows) const {
    const int n = kAll ? kRows : nrows;
    T sums[kRows];
    for (int i = 0; i < n; ++i) {
      const int64_t place = (row + i) * columns + column;
      sums[i] = (bias == nullptr ? T(0) : bias[column]) + (add == nullptr ? T(0) : add[place]);
    }
    for (int64_t k = 0; k < depth; ++k) {
      const T of_right = right[k * right_row + column * right_step];
      for (int i = 0; i < n; ++i) {
        sums[i] += left[(row + i) * left_row + k * left_step] * of_right;
      }
    }
    for (int64_t k = 0; k < (left2 == nullptr ? 0 : depth); ++k) {
      const T of_right = right2[k * right_row + column * right_step];
      for (int i = 0; i < n; ++i) {
        sums[i] += left2[(row + i) * left_row + k * left_step] * of_right;
      }
    }
    for (int i = 0; i < n; ++i) out[(row + i) * columns + column] = sums[i];
  }
};

}  // namespace dpmask::cuda
