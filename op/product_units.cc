// SPDX-License-Identifier: LGPL-3.0-or-later
// Compiled once for each instruction set; embedding_units.cc says what that asks of the code.
#include "product_units.h"

#include <Eigen/Core>
#include <type_traits>

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

#define DPMASK_JOIN_(a, b) a##b
#define DPMASK_JOIN(a, b) DPMASK_JOIN_(a, b)
#define DPMASK_UNITS DPMASK_JOIN(product_units_, DPMASK_ISA)

template <typename T>
ProductUnits<T> DPMASK_UNITS() {
  return {DPMASK_ISA::product<T>, DPMASK_ISA::product_transposed<T>, DPMASK_ISA::outer<T>};
}
template ProductUnits<float> DPMASK_UNITS<float>();
template ProductUnits<double> DPMASK_UNITS<double>();

}  // namespace dpmask
