// SPDX-License-Identifier: LGPL-3.0-or-later
// Compiled once for each instruction set; direct_units.cc says what that asks of the code.
#include "op/kernels/fitting_units.h"

#include <Eigen/Core>
#include <type_traits>

#include "op/kernels/instruction_set.h"
#include "op/kernels/per_isa/activate.h"
#include "op/kernels/per_isa/few_rows.h"
#include "op/kernels/per_isa/products.h"

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
Submatrix<T> submatrix(T* data, int64_t stride, Range rows, Range columns) {
  return {data + rows.first * stride + columns.first, rows.count, columns.count, stride};
}

// In gradients, from so many rows of x on, Eigen's products, which first copy both factors, are
// faster than those of few_rows.h (AVX2, float64). In `energies` they are not: a thread goes
// through a whole net, whose parameters come from afar, and to copy them first takes more than it
// saves.
constexpr int64_t kManyRows = 48;

// y += x W
template <typename T>
void add_x_W(Submatrix<const T> x, Submatrix<const T> W, Submatrix<T> y) {
  if (x.rows >= kManyRows) return increase_by_product(x, W, y);
  add_product<T>(x, W, y);
}

// y += x W^T
template <typename T, typename Stored>
void add_x_transposed_W(Submatrix<const T> x, Submatrix<const Stored> W, Submatrix<T> y) {
  if constexpr (std::is_same_v<T, Stored>) {
    if (x.rows >= kManyRows) return increase_by_product<Transposed::right>(x, W, y);
  }
  add_product_transposed<T>(x, W, y);
}

// W = x^T y + dx^T dy; x and dx are alike, and so are y and dy.
template <typename T>
void set_outer_products(Submatrix<const T> x, Submatrix<const T> y, Submatrix<const T> dx,
                        Submatrix<const T> dy, Submatrix<T> W) {
  if (x.rows < kManyRows) return set_outer<T>(x, y, dx.data, dy.data, W);
  set_product<Transposed::left>(x, y, W);
  increase_by_product<Transposed::left>(dx, dy, W);
}

// Calls body(W) with some rows of the layer's W, as they are stored.
template <typename T, typename Body>
void with_rows_of_W(const FittingLayer<T>& layer, Range rows, Body&& body) {
  const auto some = [&](const auto* W) { return submatrix(W, layer.out, rows, {0, layer.out}); };
  if (layer.in_float32 == nullptr) {
    body(some(layer.W));
  } else {
    body(some(layer.in_float32));
  }
}

// phi(z) and its first derivatives, for columns of z. Where there is a timestep, multiplied by it.
template <int kOrder, typename T>
struct ActivatedColumns {
  ActivatedColumns(const FittingLayer<T>& layer, Range columns, const Map<const T>& z)
      : phi(z.rows(), z.cols()), d1(kOrder >= 1 ? z.rows() : 0, z.cols()),
        d2(kOrder >= 2 ? z.rows() : 0, z.cols()) {
    Array<T> copy = z;
    activate_all<kOrder>(layer.activation, layer.threshold, copy.size(), copy.data(), phi.data(),
                         d1.data(), d2.data());
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
void tangent(const FittingLayer<T>& layer, Range rows, Range columns, const LayerValues<T>& v) {
  Map<T> dz = part(v.dz, layer.out, rows, columns);
  dz.setZero();
  add_x_W<T>(submatrix(v.dh, layer.in, rows, {0, layer.in}),
             submatrix(layer.W, layer.out, {0, layer.in}, columns),
             submatrix(v.dz, layer.out, rows, columns));
  const ActivatedColumns<1, T> a(layer, columns, part(v.z, layer.out, rows, columns));
  Map<T> output = part(v.output, layer.out, rows, columns);
  Map<T> doutput = part(v.doutput, layer.out, rows, columns);
  output = a.phi;
  doutput = a.d1 * dz;
  if (!layer.has_skip) return;
  output += part(v.h, layer.in, rows, columns);
  doutput += part(v.dh, layer.in, rows, columns);
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
  with_rows_of_W(layer, inputs, [&](auto W) {
    add_x_transposed_W<T>(submatrix(gz, layer.out, rows, {0, layer.out}), W,
                          submatrix(gh, layer.in, rows, inputs));
  });
}

// outputs = phi(z) and d1 = phi'(z) of a layer on some rows, both multiplied by the timestep, if
// there is one.
template <typename T>
void activate_rows(const FittingLayer<T>& layer, int64_t nrows, T* z, T* outputs, T* d1) {
  activate_all<1, T>(layer.activation, layer.threshold, nrows * layer.out, z, outputs, d1, nullptr);
  if (layer.timestep == nullptr) return;
  const auto timestep = Eigen::Map<const RowArray<T>>(layer.timestep, layer.out);
  for (T* a : {outputs, d1}) {
    part(a, layer.out, {0, nrows}, {0, layer.out}).rowwise() *= timestep;
  }
}

template <typename T>
void energies(const FittingNetOnRows<T>& net, const T* D, const RowsOfZ<T>& all_z, T* e, T* A,
              T* scratch) {
  const int64_t nhidden = net.nhidden, nrows = net.nrows;
  const Range rows = {0, nrows};
  int64_t nnumbers = 0, widest = 0;
  for (int64_t l = 0; l < nhidden; ++l) {
    nnumbers += nrows * padded(net.layers[l].out);
    widest = std::max(widest, padded(net.layers[l].out));
  }
  // Of all hidden layers: outputs, and phi'(z), later gz. Of one: the derivative of e by its
  // output.
  T *outputs = scratch, *gz = outputs + nnumbers, *goutput = gz + nnumbers;
  T* gh = goutput + nrows * widest;
  T* z_of_layer = all_z.z;
  const T* h = D;
  int64_t first = 0;
  for (int64_t l = 0; l < nhidden; ++l) {
    const FittingLayer<T>& layer = net.layers[l];
    const Range columns = {0, layer.out};
    T* z = z_of_layer + all_z.first * layer.out;
    part(z, layer.out, rows, columns).rowwise() = Eigen::Map<const RowArray<T>>(layer.b, layer.out);
    with_rows_of_W(layer, {0, layer.in}, [&](auto W) {
      add_product<T>(submatrix(h, layer.in, rows, {0, layer.in}), W,
                     submatrix(z, layer.out, rows, columns));
    });
    activate_rows(layer, nrows, z, outputs + first, gz + first);
    Map<T> output = part(outputs + first, layer.out, rows, columns);
    if (layer.has_skip) output += part(h, layer.in, rows, columns);
    h = outputs + first;
    first += nrows * padded(layer.out);
    z_of_layer += all_z.size * layer.out;
  }
  const FittingLayer<T>& last = net.layers[nhidden];
  T* by_h = nhidden == 0 ? A : goutput;
  for (int64_t row = 0; row < nrows; ++row) {
    e[row] = last.b[0];
    for (int64_t c = 0; c < last.in; ++c) {
      e[row] += h[row * last.in + c] * last.W[c];
      by_h[row * last.in + c] = last.W[c];
    }
  }
  for (int64_t l = nhidden - 1; l >= 0; --l) {
    const FittingLayer<T>& layer = net.layers[l];
    const Range columns = {0, layer.out};
    first -= nrows * padded(layer.out);
    T* by_input = l == 0 ? A : gh;
    part(gz + first, layer.out, rows, columns) *= part<const T>(goutput, layer.out, rows, columns);
    reverse<T>(layer, rows, {0, layer.in}, gz + first, goutput, by_input);
    T* const free = goutput;
    goutput = gh;
    gh = free;
  }
}

template <typename T>
void grad_activation(const FittingLayer<T>& layer, int64_t nrows, Range columns,
                     const LayerValues<T>& v, T* gb, T* gtimestep) {
  const Range rows = {0, nrows};
  const auto of = [&](const T* values) { return part(values, layer.out, rows, columns); };
  const ActivatedColumns<2, T> a(layer, columns, of(v.z));
  Map<T> gz = part(v.gz, layer.out, rows, columns);
  Map<T> gdz = part(v.gdz, layer.out, rows, columns);
  gz = of(v.goutput) * a.d1 + of(v.gdoutput) * a.d2 * of(v.dz);
  gdz = of(v.gdoutput) * a.d1;
  const auto gradient = [&](T* g) {
    return Eigen::Map<RowArray<T>>(g + columns.first, columns.count);
  };
  // Row by row: Eigen's own sum takes another order where the array is aligned otherwise.
  gradient(gb).setZero();
  for (int64_t r = 0; r < nrows; ++r) gradient(gb) += gz.row(r);
  if (layer.timestep == nullptr) return;
  FittingLayer<T> bare = layer;
  bare.timestep = nullptr;
  const ActivatedColumns<1, T> unscaled(bare, columns, of(v.z));
  const Array<T> terms = of(v.goutput) * unscaled.phi + of(v.gdoutput) * unscaled.d1 * of(v.dz);
  gradient(gtimestep).setZero();
  for (int64_t r = 0; r < nrows; ++r) gradient(gtimestep) += terms.row(r);
}

template <typename T>
void grad_matrix(const FittingLayer<T>& layer, int64_t nrows, Range inputs, const LayerValues<T>& v,
                 T* gW) {
  const Range rows = {0, nrows};
  const Range columns = {0, layer.out};
  const auto in = [&](const T* array) { return submatrix(array, layer.in, rows, inputs); };
  const auto out = [&](const T* array) { return submatrix(array, layer.out, rows, columns); };
  set_outer_products<T>(in(v.h), out(v.gz), in(v.dh), out(v.gdz),
                        submatrix(gW, layer.out, inputs, columns));
}

}  // namespace
}  // namespace DPMASK_ISA

template <typename T>
FittingUnits<T> DPMASK_OF_THIS_SET(fitting_units)() {
  return {DPMASK_ISA::energies<T>, DPMASK_ISA::tangent<T>, DPMASK_ISA::reverse<T>,
          DPMASK_ISA::grad_activation<T>, DPMASK_ISA::grad_matrix<T>};
}
template FittingUnits<float> DPMASK_OF_THIS_SET(fitting_units)<float>();
template FittingUnits<double> DPMASK_OF_THIS_SET(fitting_units)<double>();

}  // namespace dpmask
