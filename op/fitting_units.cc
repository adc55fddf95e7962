// SPDX-License-Identifier: LGPL-3.0-or-later
// Compiled once for each instruction set; direct_units.cc says what that asks of the code.
#include "fitting_units.h"

#include <Eigen/Core>
#include <type_traits>

#include "activation.h"
#include "few_rows.h"
#include "instruction_set.h"

namespace dpmask {
namespace DPMASK_ISA {
namespace {

template <typename T>
using Array = Eigen::Array<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <typename T>
using RowArray = Eigen::Array<T, 1, Eigen::Dynamic>;
template <typename T>
using Map = Eigen::Map<
    std::conditional_t<std::is_const_v<T>, const Array<std::remove_const_t<T>>, Array<T>>, 0,
    Eigen::OuterStride<>>;

// Rows and columns of an array whose rows are `stride` apart.
template <typename T>
Map<T> part(T* data, int64_t stride, Range rows, Range columns) {
  return {data + rows.first * stride + columns.first, rows.count, columns.count,
          Eigen::OuterStride<>(stride)};
}

// The same as factor of a product.
template <typename T>
Block<T> block(T* data, int64_t stride, Range rows, Range columns) {
  return {data + rows.first * stride + columns.first, rows.count, columns.count, stride};
}

// phi(z) and its first derivatives, for columns of z. Where there is a timestep, multiplied by it.
template <int kOrder, typename T>
struct Activated {
  Activated(const FittingLayer<T>& layer, Range columns, const Map<const T>& z)
      : phi(z.rows(), z.cols()), d1(kOrder >= 1 ? z.rows() : 0, z.cols()),
        d2(kOrder >= 2 ? z.rows() : 0, z.cols()) {
    const auto flat = [](Array<T>& a) {
      return Eigen::Map<Eigen::Array<T, Eigen::Dynamic, 1>>(a.data(), a.size());
    };
    Array<T> copy = z;
    activate<kOrder>(layer.activation, layer.threshold, flat(copy), flat(phi), flat(d1), flat(d2));
    if (layer.timestep == nullptr) return;
    const auto timestep =
        Eigen::Map<const RowArray<T>>(layer.timestep + columns.first, columns.count);
    for (Array<T>* a : {&phi, &d1, &d2}) {
      if (a->rows() > 0) a->rowwise() *= timestep;
    }
  }
  Array<T> phi, d1, d2;
};

template <typename T>
void forward(const FittingLayer<T>& layer, Range rows, Range columns, const T* h, T* z, T* output) {
  Map<T> z_part = part(z, layer.out, rows, columns);
  z_part.rowwise() = Eigen::Map<const RowArray<T>>(layer.b + columns.first, columns.count);
  add_product<T>(block(h, layer.in, rows, {0, layer.in}),
                 block(layer.W, layer.out, {0, layer.in}, columns),
                 block(z, layer.out, rows, columns));
  const Activated<0, T> a(layer, columns, part<const T>(z, layer.out, rows, columns));
  Map<T> output_part = part(output, layer.out, rows, columns);
  output_part = a.phi;
  if (layer.has_skip) output_part += part(h, layer.in, rows, columns);
}

template <typename T>
void tangent(const FittingLayer<T>& layer, Range rows, Range columns, const T* h, const T* dh,
             const T* z, T* output, T* dz, T* doutput) {
  Map<T> dz_part = part(dz, layer.out, rows, columns);
  dz_part.setZero();
  add_product<T>(block(dh, layer.in, rows, {0, layer.in}),
                 block(layer.W, layer.out, {0, layer.in}, columns),
                 block(dz, layer.out, rows, columns));
  const Activated<1, T> a(layer, columns, part(z, layer.out, rows, columns));
  Map<T> output_part = part(output, layer.out, rows, columns);
  Map<T> doutput_part = part(doutput, layer.out, rows, columns);
  output_part = a.phi;
  doutput_part = a.d1 * dz_part;
  if (!layer.has_skip) return;
  output_part += part(h, layer.in, rows, columns);
  doutput_part += part(dh, layer.in, rows, columns);
}

template <typename T>
void reverse_activation(const FittingLayer<T>& layer, Range rows, Range columns, const T* z,
                        const T* goutput, T* gz) {
  const Activated<1, T> a(layer, columns, part(z, layer.out, rows, columns));
  part(gz, padded_width(layer.out), rows, columns) = part(goutput, layer.out, rows, columns) * a.d1;
}

template <typename T>
void reverse(const FittingLayer<T>& layer, Range rows, Range inputs, const T* gz, const T* goutput,
             T* gh) {
  Map<T> gh_part = part(gh, layer.in, rows, inputs);
  if (layer.has_skip) {
    gh_part = part(goutput, layer.out, rows, inputs);
  } else {
    gh_part.setZero();
  }
  add_product_transposed<T>(block(gz, padded_width(layer.out), rows, {0, layer.out}),
                            block(layer.W, layer.out, inputs, {0, layer.out}),
                            block(gh, layer.in, rows, inputs));
}

template <typename T>
void grad_activation(const FittingLayer<T>& layer, int64_t nrows, Range columns, const T* z,
                     const T* dz, const T* goutput, const T* gdoutput, T* gz, T* gdz, T* gb,
                     T* gtimestep) {
  const Range rows = {0, nrows};
  const auto of = [&](const T* v) { return part(v, layer.out, rows, columns); };
  const Activated<2, T> a(layer, columns, of(z));
  Map<T> gz_part = part(gz, padded_width(layer.out), rows, columns);
  Map<T> gdz_part = part(gdz, padded_width(layer.out), rows, columns);
  gz_part = of(goutput) * a.d1 + of(gdoutput) * a.d2 * of(dz);
  gdz_part = of(gdoutput) * a.d1;
  const auto gradient = [&](T* g) {
    return Eigen::Map<RowArray<T>>(g + columns.first, columns.count);
  };
  // Row by row: Eigen's own sum takes another order where the array is aligned otherwise.
  gradient(gb).setZero();
  for (int64_t r = 0; r < nrows; ++r) gradient(gb) += gz_part.row(r);
  if (layer.timestep == nullptr) return;
  FittingLayer<T> bare = layer;
  bare.timestep = nullptr;
  const Activated<1, T> unscaled(bare, columns, of(z));
  const Array<T> terms = of(goutput) * unscaled.phi + of(gdoutput) * unscaled.d1 * of(dz);
  gradient(gtimestep).setZero();
  for (int64_t r = 0; r < nrows; ++r) gradient(gtimestep) += terms.row(r);
}

template <typename T>
void grad_matrix(const FittingLayer<T>& layer, int64_t nrows, Range inputs, const T* h, const T* dh,
                 const T* gz, const T* gdz, T* gW) {
  const Range rows = {0, nrows};
  const Range columns = {0, layer.out};
  const int64_t padded = padded_width(layer.out);
  set_outer<T>(block(h, layer.in, rows, inputs), block(gz, padded, rows, columns),
               block(dh, layer.in, rows, inputs), block(gdz, padded, rows, columns),
               block(gW, layer.out, inputs, columns));
}

}  // namespace
}  // namespace DPMASK_ISA

template <typename T>
FittingUnits<T> DPMASK_OF_THIS_SET(fitting_units)() {
  return {DPMASK_ISA::forward<T>, DPMASK_ISA::tangent<T>,         DPMASK_ISA::reverse_activation<T>,
          DPMASK_ISA::reverse<T>, DPMASK_ISA::grad_activation<T>, DPMASK_ISA::grad_matrix<T>};
}
template FittingUnits<float> DPMASK_OF_THIS_SET(fitting_units)<float>();
template FittingUnits<double> DPMASK_OF_THIS_SET(fitting_units)<double>();

}  // namespace dpmask
