// SPDX-License-Identifier: LGPL-3.0-or-later
// Compiled once for each instruction set; direct_units.cc says what that asks of the code.
#include "op/kernels/descriptor_units.h"

#include "op/kernels/instruction_set.h"
#include "op/kernels/per_isa/row_products.h"

namespace dpmask {
namespace DPMASK_ISA {
namespace {

template <typename T>
void contract(const Contraction<T>& shape, const T* X_all, const T* Y_all, T* B_all) {
  using namespace row_products;
  const int64_t M1 = shape.M1, M2 = shape.M2;
  const bool are_alike = X_all == Y_all;  // so are then both terms
  for (int64_t i = 0; i < shape.size; ++i) {
    const T *X = X_all + 4 * M1 * i, *Y = Y_all + 4 * M1 * i;
    T* B = B_all + M1 * M2 * i;
    for_each_group<kRows>(M1, [&](auto rows, int64_t a) {
      for_each_columns<T, Packet<T>, kPackets>(0, M2, [&](auto columns, int64_t b) {
        using Part = decltype(columns);
        using P = typename Part::OfPacket;
        P sum[decltype(rows)::value][Part::kCount];
        clear(sum);
        multiply(X + a, 1, M1, 4, Y + b, M1, sum);
        if (!are_alike) multiply(Y + a, 1, M1, 4, X + b, M1, sum);
        const P factor = packets::pset1<P>(are_alike ? T(1) : T(0.5));
        for (int r = 0; r < rows; ++r) {
          for (P& part : sum[r]) part = packets::pmul(part, factor);
          store(columns, sum[r], B + (a + r) * M2 + b);
        }
      });
    });
  }
}

template <typename T>
void reverse(const Contraction<T>& shape, const T* Y_all, const T* gB_all, T* gX_all) {
  const int64_t M1 = shape.M1, M2 = shape.M2;
  for (int64_t i = 0; i < shape.size; ++i) {
    const T* Y = Y_all + 4 * M1 * i;
    const Submatrix<const T> gB = {gB_all + M1 * M2 * i, M1, M2, M2};
    T* gX = gX_all + 4 * M1 * i;
    set_row_product_transposed<T>({Y, 4, M2, M1}, gB, gX, M1);
    add_row_product<4>(Y, M1, 1, gB, gX, M1);
    for (int64_t k = 0; k < 4 * M1; ++k) gX[k] /= 2;
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
