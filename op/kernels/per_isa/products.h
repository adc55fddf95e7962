// SPDX-License-Identifier: LGPL-3.0-or-later
// Products of matrices by Eigen, which takes long to compile them: so this is the one place where
// each instruction set has them. In a namespace of its instruction set, for the reason given in
// direct_units.cc.
#pragma once

#include <type_traits>

#include "op/kernels/per_isa/submatrix.h"

namespace dpmask::DPMASK_ISA {

// Which factor is transposed first.
enum class Transposed { none, left, right };

// out = left right
template <Transposed transposed = Transposed::none, typename T>
void set_product(Submatrix<const T> left, Submatrix<const T> right, Submatrix<T> out);

// out += left right
template <Transposed transposed = Transposed::none, typename T>
void increase_by_product(Submatrix<const T> left, Submatrix<const T> right, Submatrix<T> out);

// What lies in memory as a row-major matrix does, as factor or result of a product.
template <typename Matrix>
auto factor(const Matrix& matrix) {
  using T = typename Matrix::Scalar;
  return Submatrix<const T>{matrix.data(), matrix.rows(), matrix.cols(), matrix.outerStride()};
}
template <typename Matrix>
auto result(Matrix&& matrix) {
  using T = typename std::remove_reference_t<Matrix>::Scalar;
  return Submatrix<T>{matrix.data(), matrix.rows(), matrix.cols(), matrix.outerStride()};
}

}  // namespace dpmask::DPMASK_ISA
