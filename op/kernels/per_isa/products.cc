// SPDX-License-Identifier: LGPL-3.0-or-later
// Compiled once for each instruction set; direct_units.cc says what that asks of the code.
#include "op/kernels/per_isa/products.h"

#include <Eigen/Core>

namespace dpmask::DPMASK_ISA {
namespace {

template <typename T>
using Map = Eigen::Map<
    std::conditional_t<std::is_const_v<T>,
                       const Eigen::Matrix<std::remove_const_t<T>, Eigen::Dynamic, Eigen::Dynamic,
                                           Eigen::RowMajor>,
                       Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>,
    0, Eigen::OuterStride<>>;

template <typename T>
Map<T> map(Submatrix<T> part) {
  return {part.data, part.rows, part.columns, Eigen::OuterStride<>(part.stride)};
}

// Calls body(left right), with the one that is to be transposed so.
template <Transposed transposed, typename T, typename Body>
void with_product(Submatrix<const T> left, Submatrix<const T> right, Body&& body) {
  if constexpr (transposed == Transposed::left) {
    body(map(left).transpose() * map(right));
  } else if constexpr (transposed == Transposed::right) {
    body(map(left) * map(right).transpose());
  } else {
    body(map(left) * map(right));
  }
}

}  // namespace

template <Transposed transposed, typename T>
void set_product(Submatrix<const T> left, Submatrix<const T> right, Submatrix<T> out) {
  with_product<transposed>(left, right, [&](const auto& product) { map(out).noalias() = product; });
}

template <Transposed transposed, typename T>
void increase_by_product(Submatrix<const T> left, Submatrix<const T> right, Submatrix<T> out) {
  with_product<transposed>(left, right,
                           [&](const auto& product) { map(out).noalias() += product; });
}

#define DPMASK_INSTANTIATE(transposed, T)                                                         \
  template void set_product<transposed, T>(Submatrix<const T>, Submatrix<const T>, Submatrix<T>); \
  template void increase_by_product<transposed, T>(Submatrix<const T>, Submatrix<const T>,        \
                                                   Submatrix<T>)
DPMASK_INSTANTIATE(Transposed::none, float);
DPMASK_INSTANTIATE(Transposed::none, double);
DPMASK_INSTANTIATE(Transposed::left, float);
DPMASK_INSTANTIATE(Transposed::left, double);
DPMASK_INSTANTIATE(Transposed::right, float);
DPMASK_INSTANTIATE(Transposed::right, double);

}  // namespace dpmask::DPMASK_ISA
