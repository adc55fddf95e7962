// SPDX-License-Identifier: LGPL-3.0-or-later
// Products of matrices of a few dozen rows with large ones, W, in which reading W is most of the
// work. Eigen's own products copy it into another order first; these read it where it is, once and
// from end to end, which is how memory is fastest. A row of a result has the same bits however many
// rows there are. In a namespace of its instruction set, for the reason given in
// direct_units.cc.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "op/kernels/per_isa/submatrix.h"

// A packet as template argument loses its alignment's attribute, which stands for nothing there.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wignored-attributes"

namespace dpmask::DPMASK_ISA {

namespace few_rows {

namespace packets = Eigen::internal;

template <typename T>
using Packet = typename packets::packet_traits<T>::type;
template <typename T>
constexpr int kLanes = packets::packet_traits<T>::size;
// Half of a packet; of the smallest, a number.
template <typename P, typename T>
using Half = std::conditional_t<std::is_same_v<typename packets::unpacket_traits<P>::half, P>, T,
                                typename packets::unpacket_traits<P>::half>;

// Registers that hold numbers, and how many rows of W are worked off at a time: two packets of each
// in add_product, three packets of their sums in set_outer, beside what else a product needs.
constexpr int kRegisters = EIGEN_ARCH_DEFAULT_NUMBER_OF_REGISTERS;
constexpr int kRowsOfW = kRegisters / 4;

// Calls body(number of rows, a constant; first of them) for `most` rows at a time, from the given
// one on, then for half as many, and so on.
template <int most, typename Body>
void for_each_group(int64_t nrows, Body&& body, int64_t row = 0) {
  for (; row + most <= nrows; row += most) body(std::integral_constant<int, most>(), row);
  if constexpr (most > 1) for_each_group<most / 2>(nrows, body, row);
}

// Fetches into the second-level cache what the group of rows after the next one holds there:
// while many rows of x pass, the processor cannot look that far ahead by itself.
template <int rows_of_group, typename T>
void fetch_ahead(const T* W, int64_t W_stride) {
  __builtin_prefetch(W + 2 * rows_of_group * W_stride, 0, 2);
}

// `count` packets P of columns.
template <typename P, int count>
struct Columns {
  using OfPacket = P;
  static constexpr int kCount = count;
};

// Calls body(Columns, first of them) for columns up to ncolumns: as many packets at a time as
// allowed, then one by one, then smaller ones.
template <typename T, typename P, int most, typename Body>
void for_each_columns(int64_t first, int64_t ncolumns, Body&& body) {
  constexpr int lanes = packets::unpacket_traits<P>::size;
  for (; first + most * lanes <= ncolumns; first += most * lanes) body(Columns<P, most>(), first);
  for (; first + lanes <= ncolumns; first += lanes) body(Columns<P, 1>(), first);
  if constexpr (lanes > 1) for_each_columns<T, Half<P, T>, most>(first, ncolumns, body);
}

// A packet of numbers that may be stored in another precision.
template <typename P, typename Stored>
P load_as(const Stored* from) {
  using T = typename packets::unpacket_traits<P>::type;
  constexpr int lanes = packets::unpacket_traits<P>::size;
  if constexpr (std::is_same_v<Stored, T>) {
    return packets::ploadu<P>(from);
  } else if constexpr (lanes == 1) {
    return *from;
  } else {
    typedef Stored Narrow __attribute__((vector_size(lanes * sizeof(Stored))));
    typedef T Wide __attribute__((vector_size(lanes * sizeof(T))));
    Narrow stored;
    std::memcpy(&stored, from, sizeof(stored));
    return (P) __builtin_convertvector(stored, Wide);
  }
}

// y += x W for `depth` rows of W and some columns, which stay in registers while all rows of x
// pass. All loops over registers are unrolled, or the compiler keeps in memory what should be
// there.
template <int depth, typename P, int count, typename T, typename Stored>
void add_rows_of_W(Columns<P, count>, int64_t nrows, const T* x, int64_t x_stride, const Stored* W,
                   int64_t W_stride, T* y, int64_t y_stride) {
  constexpr int lanes = packets::unpacket_traits<P>::size;
  P of_W[depth][count];
#pragma GCC unroll 8
  for (int l = 0; l < depth; ++l) {
#pragma GCC unroll 2
    for (int v = 0; v < count; ++v) {
      of_W[l][v] = load_as<P>(W + l * W_stride + v * lanes);
      fetch_ahead<depth>(W + l * W_stride + v * lanes, W_stride);
    }
  }
  for (int64_t row = 0; row < nrows; ++row, x += x_stride, y += y_stride) {
    P sum[count];
#pragma GCC unroll 2
    for (int v = 0; v < count; ++v) sum[v] = packets::ploadu<P>(y + v * lanes);
#pragma GCC unroll 8
    for (int l = 0; l < depth; ++l) {
      const P of_x = packets::pset1<P>(x[l]);
#pragma GCC unroll 2
      for (int v = 0; v < count; ++v) sum[v] = packets::pmadd(of_x, of_W[l][v], sum[v]);
    }
#pragma GCC unroll 2
    for (int v = 0; v < count; ++v) packets::pstoreu(y + v * lanes, sum[v]);
  }
}

// Writes what is stored as T.
template <typename T, typename Stored>
void convert(const Stored* from, int64_t size, T* to) {
  for_each_columns<T, Packet<T>, 1>(0, size, [&](auto columns, int64_t k) {
    using P = typename decltype(columns)::OfPacket;
    packets::pstoreu(to + k, load_as<P>(from + k));
  });
}

// y [nx, nW] += x W^T for so many rows of x and W, whose sums stay in registers.
template <int nx, int nW, typename T>
void add_dots(int64_t depth, const T* x, int64_t x_stride, const T* W, int64_t W_stride, T* y,
              int64_t y_stride) {
  using P = Packet<T>;
  P sum[nx][nW];
#pragma GCC unroll 8
  for (int i = 0; i < nx; ++i) {
#pragma GCC unroll 8
    for (int k = 0; k < nW; ++k) sum[i][k] = packets::pset1<P>(T(0));
  }
  int64_t l = 0;
  for (; l + kLanes<T> <= depth; l += kLanes<T>) {
    P of_W[nW];
#pragma GCC unroll 8
    for (int k = 0; k < nW; ++k) {
      of_W[k] = packets::ploadu<P>(W + k * W_stride + l);
      fetch_ahead<nW>(W + k * W_stride + l, W_stride);
    }
#pragma GCC unroll 8
    for (int i = 0; i < nx; ++i) {
      const P of_x = packets::ploadu<P>(x + i * x_stride + l);
#pragma GCC unroll 8
      for (int k = 0; k < nW; ++k) sum[i][k] = packets::pmadd(of_x, of_W[k], sum[i][k]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < nx; ++i) {
#pragma GCC unroll 8
    for (int k = 0; k < nW; ++k) {
      T rest = packets::predux(sum[i][k]);
      for (int64_t m = l; m < depth; ++m) rest += x[i * x_stride + m] * W[k * W_stride + m];
      y[i * y_stride + k] += rest;
    }
  }
}

// nk rows of W = x^T y + dx^T dy and some columns, whose sums stay in registers.
template <int nk, typename P, int count, typename T>
void set_rows(Columns<P, count>, int64_t nrows, const T* x, const T* dx, int64_t x_stride,
              const T* y, const T* dy, int64_t y_stride, T* W, int64_t W_stride) {
  constexpr int lanes = packets::unpacket_traits<P>::size;
  P sum[nk][count];
#pragma GCC unroll 8
  for (int k = 0; k < nk; ++k) {
#pragma GCC unroll 3
    for (int v = 0; v < count; ++v) sum[k][v] = packets::pset1<P>(T(0));
  }
  const auto add = [&](const T* left, const T* right) {
    P of_right[count];
#pragma GCC unroll 3
    for (int v = 0; v < count; ++v) of_right[v] = packets::ploadu<P>(right + v * lanes);
#pragma GCC unroll 8
    for (int k = 0; k < nk; ++k) {
      const P of_left = packets::pset1<P>(left[k]);
#pragma GCC unroll 3
      for (int v = 0; v < count; ++v) sum[k][v] = packets::pmadd(of_left, of_right[v], sum[k][v]);
    }
  };
  for (int64_t row = 0; row < nrows; ++row) add(x + row * x_stride, y + row * y_stride);
  for (int64_t row = 0; row < nrows; ++row) add(dx + row * x_stride, dy + row * y_stride);
#pragma GCC unroll 8
  for (int k = 0; k < nk; ++k) {
#pragma GCC unroll 3
    for (int v = 0; v < count; ++v) packets::pstoreu(W + k * W_stride + v * lanes, sum[k][v]);
  }
}

}  // namespace few_rows

// y += x W
template <typename T, typename Stored>
void add_product(Submatrix<const T> x, Submatrix<const Stored> W, Submatrix<T> y) {
  using namespace few_rows;
  // Rows of x may lie so that they displace each other from the cache; copies side by side do not.
  static thread_local Eigen::Array<T, Eigen::Dynamic, 1> near;
  if (near.size() < x.rows * kRowsOfW) near.resize(x.rows * kRowsOfW);
  for_each_group<kRowsOfW>(W.rows, [&](auto depth, int64_t k) {
    for (int64_t row = 0; row < x.rows; ++row) {
      for (int l = 0; l < depth; ++l) near[row * kRowsOfW + l] = x.data[row * x.stride + k + l];
    }
    for_each_columns<T, Packet<T>, 2>(0, W.columns, [&](auto columns, int64_t first) {
      add_rows_of_W<depth>(columns, x.rows, near.data(), kRowsOfW, W.data + k * W.stride + first,
                           W.stride, y.data + first, y.stride);
    });
  });
}

// y += x W^T
template <typename T, typename Stored>
void add_product_transposed(Submatrix<const T> x, Submatrix<const Stored> W, Submatrix<T> y) {
  using namespace few_rows;
  constexpr int nx = kRegisters >= 32 ? 5 : 2, nW = 4;
  // Rows of W as T, where they are stored as something else: so they are converted once.
  static thread_local Eigen::Array<T, Eigen::Dynamic, 1> converted;
  if constexpr (!std::is_same_v<T, Stored>) {
    if (converted.size() < nW * W.columns) converted.resize(nW * W.columns);
  }
  for_each_group<nW>(W.rows, [&](auto rows_of_W, int64_t k) {
    const Stored* stored = W.data + k * W.stride;
    const T* of_W;
    int64_t stride = W.stride;
    if constexpr (std::is_same_v<T, Stored>) {
      of_W = stored;
    } else {
      of_W = converted.data();
      stride = W.columns;
      for (int r = 0; r < rows_of_W; ++r) {
        convert(stored + r * W.stride, W.columns, converted.data() + r * stride);
      }
    }
    for_each_group<nx>(x.rows, [&](auto rows_of_x, int64_t row) {
      add_dots<rows_of_x, rows_of_W>(W.columns, x.data + row * x.stride, x.stride, of_W, stride,
                                     y.data + row * y.stride + k, y.stride);
    });
  });
}

// W = x^T y + dx^T dy; x and dx are alike, and so are y and dy.
template <typename T>
void set_outer(Submatrix<const T> x, Submatrix<const T> y, const T* dx, const T* dy,
               Submatrix<T> W) {
  using namespace few_rows;
  for_each_group<kRowsOfW>(W.rows, [&](auto rows, int64_t k) {
    for_each_columns<T, Packet<T>, 3>(0, W.columns, [&](auto columns, int64_t first) {
      set_rows<rows>(columns, x.rows, x.data + k, dx + k, x.stride, y.data + first, dy + first,
                     y.stride, W.data + k * W.stride + first, W.stride);
    });
  });
}

}  // namespace dpmask::DPMASK_ISA

#pragma GCC diagnostic pop
