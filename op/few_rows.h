// SPDX-License-Identifier: LGPL-3.0-or-later
// Products of matrices of a few dozen rows with matrices of many columns, in which reading the
// large one is most of the work. Eigen's own products copy it into another order first; these read
// it where it is, once. In a namespace of its instruction set, for the reason given in
// direct_units.cc.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cstdint>

namespace dpmask::DPMASK_ISA {

// A row-major matrix within a larger one: rows are `stride` elements apart.
template <typename T>
struct Block {
  T* data;
  int64_t rows, columns, stride;
};

namespace few_rows {

namespace packets = Eigen::internal;

template <typename T>
using Packet = typename packets::packet_traits<T>::type;
template <typename T>
constexpr int kLanes = packets::packet_traits<T>::size;

// The sums held in registers at a time: kRows rows of kPackets packets.
constexpr int kRows = EIGEN_ARCH_DEFAULT_NUMBER_OF_REGISTERS >= 32 ? 8 : 4;
constexpr int kPackets = 3;
template <typename T>
constexpr int kColumns = kPackets * kLanes<T>;

// left [rows, depth] times right [depth, columns], as far as the first entries of each go: left(i,
// l) is left[i * row + l * step], right(l, column) is right[l * stride + column].
template <typename T>
struct Factors {
  int64_t depth;
  const T* left;
  int64_t row, step;
  const T* right;
  int64_t stride;
  // What to fetch meanwhile: at depth l, kPackets packets from ahead + l * ahead_step on. The
  // hardware does not guess what comes after a short row or a long stride.
  const T* ahead;
  int64_t ahead_step;
};

// sums [nrows, kColumns]: the sum of `count` products, npackets packets of columns of it. All
// loops over registers are unrolled, or the compiler keeps sums in memory.
template <int nrows, int npackets, typename T>
void multiply(const Factors<T>* factors, int count, T* sums) {
  Packet<T> sum[nrows][npackets];
#pragma GCC unroll 8
  for (int i = 0; i < nrows; ++i) {
#pragma GCC unroll 3
    for (int v = 0; v < npackets; ++v) sum[i][v] = packets::pset1<Packet<T>>(T(0));
  }
  for (const Factors<T>* f = factors; f < factors + count; ++f) {
    const int64_t row = f->row, step = f->step, stride = f->stride, ahead_step = f->ahead_step;
    const T* left = f->left;
    const T* right = f->right;
    const T* ahead = f->ahead;
    for (int64_t l = 0; l < f->depth; ++l) {
      Packet<T> of_right[npackets];
#pragma GCC unroll 3
      for (int v = 0; v < npackets; ++v) {
        of_right[v] = packets::ploadu<Packet<T>>(right + v * kLanes<T>);
        packets::prefetch(ahead + v * kLanes<T>);
      }
#pragma GCC unroll 8
      for (int i = 0; i < nrows; ++i) {
        const Packet<T> of_left = packets::pset1<Packet<T>>(left[i * row]);
#pragma GCC unroll 3
        for (int v = 0; v < npackets; ++v) {
          sum[i][v] = packets::pmadd(of_left, of_right[v], sum[i][v]);
        }
      }
      left += step;
      right += stride;
      ahead += ahead_step;
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < nrows; ++i) {
#pragma GCC unroll 3
    for (int v = 0; v < npackets; ++v) {
      packets::pstoreu(sums + i * kColumns<T> + v * kLanes<T>, sum[i][v]);
    }
  }
}

// The same for up to kColumns columns, of which right must have whole packets.
template <int nrows, typename T>
void multiply(const Factors<T>* factors, int count, int64_t columns, T* sums) {
  const int64_t npackets = (columns + kLanes<T> - 1) / kLanes<T>;
  if (npackets == 1) return multiply<nrows, 1>(factors, count, sums);
  if (npackets == 2) return multiply<nrows, 2>(factors, count, sums);
  multiply<nrows, kPackets>(factors, count, sums);
}

// The same for as many rows as one call can take of nrows; returns how many.
template <typename T>
int64_t multiply(const Factors<T>* factors, int count, int64_t nrows, int64_t columns, T* sums) {
  if (nrows >= kRows) {
    multiply<kRows>(factors, count, columns, sums);
    return kRows;
  }
  if (nrows >= 4) {
    multiply<4>(factors, count, columns, sums);
    return 4;
  }
  multiply<1>(factors, count, columns, sums);
  return 1;
}

template <typename T>
using Scratch = Eigen::Array<T, Eigen::Dynamic, 1>;

// Calls body(columns of this slice, its first column, its data, their stride) for slices of up to
// kColumns columns; the last is copied and filled up with zeros where it ends within a packet.
template <typename T, typename Body>
void for_each_slice(Block<const T> matrix, Body&& body) {
  for (int64_t first = 0; first < matrix.columns; first += kColumns<T>) {
    const int64_t columns = std::min<int64_t>(kColumns<T>, matrix.columns - first);
    if (columns % kLanes<T> == 0) {
      body(columns, first, matrix.data + first, matrix.stride);
      continue;
    }
    Scratch<T> padded = Scratch<T>::Zero(matrix.rows * kColumns<T>);
    for (int64_t l = 0; l < matrix.rows; ++l) {
      std::copy_n(matrix.data + l * matrix.stride + first, columns,
                  padded.data() + l * kColumns<T>);
    }
    body(columns, first, padded.data(), kColumns<T>);
  }
}

}  // namespace few_rows

// y += x W
template <typename T>
void add_product(Block<const T> x, Block<const T> W, Block<T> y) {
  using namespace few_rows;
  T sums[kRows * kColumns<T>];
  constexpr int64_t kDepth = 64;  // rows of W that lie side by side, to be fetched together
  for (int64_t k = 0; k < W.rows; k += kDepth) {
    const int64_t depth = std::min(kDepth, W.rows - k);
    const Block<const T> W_k = {W.data + k * W.stride, depth, W.columns, W.stride};
    for_each_slice(W_k, [&](int64_t columns, int64_t first, const T* slice, int64_t stride) {
      for (int64_t row = 0, nrows; row < x.rows; row += nrows) {
        const Factors<T> factors = {depth,  x.data + row * x.stride + k, x.stride, 1, slice,
                                    stride, slice + kDepth * stride,     stride};
        nrows = multiply(&factors, 1, x.rows - row, columns, sums);
        for (int64_t i = 0; i < nrows; ++i) {
          T* out = y.data + (row + i) * y.stride + first;
          for (int64_t c = 0; c < columns; ++c) out[c] += sums[i * kColumns<T> + c];
        }
      }
    });
  }
}

// y += x W^T, computed as W x^T so that W is read row by row.
template <typename T>
void add_product_transposed(Block<const T> x, Block<const T> W, Block<T> y) {
  using namespace few_rows;
  const int64_t stride = (x.rows + kColumns<T> - 1) / kColumns<T> * kColumns<T>;
  Scratch<T> x_transposed = Scratch<T>::Zero(x.columns * stride);
  for (int64_t r = 0; r < x.rows; ++r) {
    for (int64_t l = 0; l < x.columns; ++l) x_transposed[l * stride + r] = x.data[r * x.stride + l];
  }
  Scratch<T> product(W.rows * stride);
  T sums[kRows * kColumns<T>];
  for (int64_t k = 0, count = 1; k < W.rows; k += count) {
    for (int64_t row = 0; row < x.rows; row += kColumns<T>) {
      const int64_t rows = std::min<int64_t>(kColumns<T>, x.rows - row);
      // Ahead: the rows that come next, spread over the depth.
      const T* W_k = W.data + k * W.stride;
      const Factors<T> factors = {
          x.columns, W_k, W.stride, 1, x_transposed.data() + row, stride, W_k + kRows * W.stride,
          kRows};
      count = multiply(&factors, 1, W.rows - k, rows, sums);
      for (int64_t i = 0; i < count; ++i) {
        std::copy_n(sums + i * kColumns<T>, rows, product.data() + (k + i) * stride + row);
      }
    }
  }
  for (int64_t r = 0; r < x.rows; ++r) {
    T* out = y.data + r * y.stride;
    for (int64_t k = 0; k < W.rows; ++k) out[k] += product[k * stride + r];
  }
}

// W = x^T y + dx^T dy; the rows of y and dy go on to a whole number of packets.
template <typename T>
void set_outer(Block<const T> x, Block<const T> y, Block<const T> dx, Block<const T> dy,
               Block<T> W) {
  using namespace few_rows;
  T sums[kRows * kColumns<T>];
  for (int64_t k = 0, count = 1; k < W.rows; k += count) {
    for (int64_t first = 0; first < W.columns; first += kColumns<T>) {
      const int64_t columns = std::min<int64_t>(kColumns<T>, W.columns - first);
      const Factors<T> factors[] = {
          {x.rows, x.data + k, 1, x.stride, y.data + first, y.stride, y.data + first, y.stride},
          {dx.rows, dx.data + k, 1, dx.stride, dy.data + first, dy.stride, dy.data + first,
           dy.stride}};
      count = multiply(factors, 2, W.rows - k, columns, sums);
      for (int64_t i = 0; i < count; ++i) {
        std::copy_n(sums + i * kColumns<T>, columns, W.data + (k + i) * W.stride + first);
      }
    }
  }
}

}  // namespace dpmask::DPMASK_ISA
