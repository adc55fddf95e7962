// SPDX-License-Identifier: LGPL-3.0-or-later
// Products of a few rows with a small matrix W, which the nearest caches hold: too small for
// Eigen's, which first copy both. Sums stay in registers, and what is done with them is the
// caller's, so that they need not go through memory. A row of a result has the same bits however
// many rows there are. In a namespace of its instruction set, for the reason given in
// direct_units.cc.
#pragma once

#include "op/kernels/per_isa/few_rows.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wignored-attributes"

namespace dpmask::DPMASK_ISA {

namespace row_products {

using namespace few_rows;

constexpr int kRows = 4;                          // of x at a time
constexpr int kPackets = kRegisters / kRows / 2;  // of columns: half of all registers hold sums

template <int nrows, int count, typename P>
void clear(P (&sum)[nrows][count]) {
  using Number = typename packets::unpacket_traits<P>::type;
#pragma GCC unroll 8
  for (int r = 0; r < nrows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < count; ++v) sum[r][v] = packets::pset1<P>(Number(0));
  }
}

// sum += x W for some rows of x and some columns of W. In memory the numbers of x are so far apart:
// those of one column, and those of one row.
template <int nrows, int count, typename P, typename T>
void multiply(const T* x, int64_t in_column, int64_t in_row, int64_t depth, const T* W,
              int64_t W_stride, P (&sum)[nrows][count]) {
  constexpr int lanes = packets::unpacket_traits<P>::size;
  for (int64_t k = 0; k < depth; ++k, W += W_stride) {
    P of_W[count];
#pragma GCC unroll 8
    for (int v = 0; v < count; ++v) of_W[v] = packets::ploadu<P>(W + v * lanes);
#pragma GCC unroll 8
    for (int r = 0; r < nrows; ++r) {
      const P of_x = packets::pset1<P>(x[r * in_column + k * in_row]);
#pragma GCC unroll 8
      for (int v = 0; v < count; ++v) sum[r][v] = packets::pmadd(of_x, of_W[v], sum[r][v]);
    }
  }
}

template <typename Part, typename T>
void store(Part, const typename Part::OfPacket* sum, T* y) {
  constexpr int lanes = packets::unpacket_traits<typename Part::OfPacket>::size;
#pragma GCC unroll 8
  for (int v = 0; v < Part::kCount; ++v) packets::pstoreu(y + v * lanes, sum[v]);
}

// y += factor sum
template <typename Part, typename T>
void add(Part, const typename Part::OfPacket* sum, T factor, T* y) {
  using P = typename Part::OfPacket;
  constexpr int lanes = packets::unpacket_traits<P>::size;
#pragma GCC unroll 8
  for (int v = 0; v < Part::kCount; ++v) {
    T* place = y + v * lanes;
    packets::pstoreu(place,
                     packets::pmadd(packets::pset1<P>(factor), sum[v], packets::ploadu<P>(place)));
  }
}

// y [nx, lanes] = x W^T for so many rows of x, and as many of W as a packet has lanes: the packets
// of sums are transposed, so that adding them gives y.
template <int nx, typename T>
void set_dots(const T* x, int64_t x_stride, int64_t depth, const T* W, int64_t W_stride, T* y,
              int64_t y_stride) {
  using P = Packet<T>;
  constexpr int lanes = kLanes<T>;
  packets::PacketBlock<P, lanes> sum[nx];
#pragma GCC unroll 4
  for (int r = 0; r < nx; ++r) {
#pragma GCC unroll 16
    for (int l = 0; l < lanes; ++l) sum[r].packet[l] = packets::pset1<P>(T(0));
  }
  int64_t k = 0;
  for (; k + lanes <= depth; k += lanes) {
    P of_x[nx];
#pragma GCC unroll 4
    for (int r = 0; r < nx; ++r) of_x[r] = packets::ploadu<P>(x + r * x_stride + k);
#pragma GCC unroll 16
    for (int l = 0; l < lanes; ++l) {
      const P of_W = packets::ploadu<P>(W + l * W_stride + k);
#pragma GCC unroll 4
      for (int r = 0; r < nx; ++r)
        sum[r].packet[l] = packets::pmadd(of_x[r], of_W, sum[r].packet[l]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < nx; ++r) {
    packets::ptranspose(sum[r]);
    P total = sum[r].packet[0];
#pragma GCC unroll 16
    for (int l = 1; l < lanes; ++l) total = packets::padd(total, sum[r].packet[l]);
    T* out = y + r * y_stride;
    packets::pstoreu(out, total);
    for (int64_t m = k; m < depth; ++m) {
      for (int l = 0; l < lanes; ++l) out[l] += x[r * x_stride + m] * W[l * W_stride + m];
    }
  }
}

}  // namespace row_products

// y [rows of x, columns of W] = x W
template <typename T>
void set_row_product(Submatrix<const T> x, Submatrix<const T> W, T* y) {
  using namespace row_products;
  for_each_columns<T, Packet<T>, kPackets>(0, W.columns, [&](auto columns, int64_t column) {
    using Part = decltype(columns);
    for_each_group<kRows>(x.rows, [&](auto rows, int64_t row) {
      typename Part::OfPacket sum[decltype(rows)::value][Part::kCount];
      clear(sum);
      multiply(x.data + row * x.stride, x.stride, 1, x.columns, W.data + column, W.stride, sum);
      for (int r = 0; r < rows; ++r) store(columns, sum[r], y + (row + r) * W.columns + column);
    });
  });
}

// y += x W for so many rows of x, at most kRows; in_column and in_row are as in multiply. The
// product is summed by itself, so that what is added up in blocks keeps its digits.
template <int nrows, typename T>
void add_row_product(const T* x, int64_t in_column, int64_t in_row, Submatrix<const T> W, T* y,
                     int64_t y_stride) {
  using namespace row_products;
  static_assert(nrows <= kRows);
  for_each_columns<T, Packet<T>, kPackets>(0, W.columns, [&](auto columns, int64_t column) {
    using Part = decltype(columns);
    typename Part::OfPacket sum[nrows][Part::kCount];
    clear(sum);
    multiply(x, in_column, in_row, W.rows, W.data + column, W.stride, sum);
#pragma GCC unroll 8
    for (int r = 0; r < nrows; ++r) add(columns, sum[r], T(1), y + column + r * y_stride);
  });
}

// y [kColumns, columns of W] += x^T W; x is [rows of W, kColumns].
template <int64_t kColumns, typename T>
void add_transposed_row_product(const T* x, Submatrix<const T> W, T* y) {
  using row_products::kRows;
  static_assert(kColumns % kRows == 0);
  for (int64_t k = 0; k < kColumns; k += kRows) {
    add_row_product<kRows>(x + k, 1, kColumns, W, y + k * W.columns, W.columns);
  }
}

// y [4] = x g, where x is [4, size].
template <typename T>
void set_four_dots(const T* x, const T* g, int64_t size, T* y) {
  using namespace row_products;
  using P = Packet<T>;
  P sum[4];
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) sum[c] = packets::pset1<P>(T(0));
  int64_t m = 0;
  for (; m + kLanes<T> <= size; m += kLanes<T>) {
    const P of_g = packets::ploadu<P>(g + m);
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c)
      sum[c] = packets::pmadd(packets::ploadu<P>(x + c * size + m), of_g, sum[c]);
  }
  for (int c = 0; c < 4; ++c) {
    y[c] = packets::predux(sum[c]);
    for (int64_t rest = m; rest < size; ++rest) y[c] += x[c * size + rest] * g[rest];
  }
}

// y = x W^T
template <typename T>
void set_row_product_transposed(Submatrix<const T> x, Submatrix<const T> W, T* y,
                                int64_t y_stride) {
  using namespace row_products;
  constexpr int lanes = kLanes<T>, nx = lanes < kRegisters / 2 ? kRegisters / 2 / lanes : 1;
  for_each_group<nx>(x.rows, [&](auto count, int64_t row) {
    const T* of_x = x.data + row * x.stride;
    T* out = y + row * y_stride;
    int64_t k = 0;
    for (; k + lanes <= W.rows; k += lanes) {
      set_dots<count>(of_x, x.stride, W.columns, W.data + k * W.stride, W.stride, out + k,
                      y_stride);
    }
    for (; k < W.rows; ++k) {
      for (int r = 0; r < count; ++r) {
        T sum = 0;
        for (int64_t m = 0; m < W.columns; ++m) {
          sum += of_x[r * x.stride + m] * W.data[k * W.stride + m];
        }
        out[r * y_stride + k] = sum;
      }
    }
  });
}

}  // namespace dpmask::DPMASK_ISA

#pragma GCC diagnostic pop
