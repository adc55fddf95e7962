// SPDX-License-Identifier: LGPL-3.0-or-later
// Compiled once for each instruction set; embedding_units.cc says what that asks of the code.
#include "product_units.h"

#include <Eigen/Core>
#include <type_traits>

#include "instruction_set.h"

namespace dpmask {
namespace DPMASK_ISA {
namespace {

template <typename T>
auto map(Block<T> block) {
  using Matrix =
      Eigen::Matrix<std::remove_const_t<T>, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using Target = std::conditional_t<std::is_const_v<T>, const Matrix, Matrix>;
  return Eigen::Map<Target, 0, Eigen::OuterStride<>>(block.data, block.rows, block.columns,
                                                     Eigen::OuterStride<>(block.stride));
}

template <typename T>
void product(Block<const T> x, Block<const T> W, Block<T> y) {
  map(y).noalias() = map(x) * map(W);
}

template <typename T>
void product_transposed(Block<const T> x, Block<const T> W, Block<T> y) {
  map(y).noalias() = map(x) * map(W).transpose();
}

template <typename T>
void outer(Block<const T> x, Block<const T> y, Block<T> dW) {
  map(dW).noalias() = map(x).transpose() * map(y);
}

}  // namespace
}  // namespace DPMASK_ISA

template <typename T>
ProductUnits<T> DPMASK_OF_THIS_SET(product_units)() {
  return {DPMASK_ISA::product<T>, DPMASK_ISA::product_transposed<T>, DPMASK_ISA::outer<T>};
}
template ProductUnits<float> DPMASK_OF_THIS_SET(product_units)<float>();
template ProductUnits<double> DPMASK_OF_THIS_SET(product_units)<double>();

}  // namespace dpmask
