// SPDX-License-Identifier: LGPL-3.0-or-later
// Compiled once for each instruction set; direct_units.cc says what that asks of the code.
#include "op/kernels/descriptor_units.h"

#include <Eigen/Core>

#include "op/kernels/instruction_set.h"
#include "op/kernels/per_isa/products.h"

namespace dpmask {
namespace DPMASK_ISA {
namespace {

template <typename T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <typename T>
void contract(const Contraction<T>& shape, const T* X_all, const T* Y_all, T* B_all) {
  const int64_t M1 = shape.M1, M2 = shape.M2;
  for (int64_t i = 0; i < shape.size; ++i) {
    const Eigen::Map<const Matrix<T>> X(X_all + 4 * M1 * i, 4, M1);
    const Eigen::Map<const Matrix<T>> Y(Y_all + 4 * M1 * i, 4, M1);
    Eigen::Map<Matrix<T>> B(B_all + M1 * M2 * i, M1, M2);
    set_product<Transposed::left>(factor(X), factor(Y.leftCols(M2)), result(B));
    increase_by_product<Transposed::left>(factor(Y), factor(X.leftCols(M2)), result(B));
    B /= 2;
  }
}

template <typename T>
void reverse(const Contraction<T>& shape, const T* Y_all, const T* gB_all, T* gX_all) {
  const int64_t M1 = shape.M1, M2 = shape.M2;
  for (int64_t i = 0; i < shape.size; ++i) {
    const Eigen::Map<const Matrix<T>> Y(Y_all + 4 * M1 * i, 4, M1);
    const Eigen::Map<const Matrix<T>> gB(gB_all + M1 * M2 * i, M1, M2);
    Eigen::Map<Matrix<T>> gX(gX_all + 4 * M1 * i, 4, M1);
    set_product<Transposed::right>(factor(Y.leftCols(M2)), factor(gB), result(gX));
    increase_by_product(factor(Y), factor(gB), result(gX.leftCols(M2)));
    gX /= 2;
  }
}

}  // namespace
}  // namespace DPMASK_ISA

template <typename T>
ContractionUnits<T> DPMASK_OF_THIS_SET(contraction_units)() {
  return {DPMASK_ISA::contract<T>, DPMASK_ISA::reverse<T>};
}
template ContractionUnits<float> DPMASK_OF_THIS_SET(contraction_units)<float>();
template ContractionUnits<double> DPMASK_OF_THIS_SET(contraction_units)<double>();

}  // namespace dpmask
