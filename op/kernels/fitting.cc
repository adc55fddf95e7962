// SPDX-License-Identifier: LGPL-3.0-or-later
// The fitting nets' outer part. The gradient, whose terms are sums over all atoms of a type, goes
// layer after layer, the work of a layer cut into parts.
#include "op/kernels/fitting.h"

#include <algorithm>

#include "op/kernels/fitting_parts.h"

namespace dpmask {
namespace {

constexpr int64_t kRowsOfPart = 256;
constexpr int64_t kColumnsOfPart = 96;  // whole packets in all instruction sets
constexpr int64_t kInputsOfPart = 128;

}  // namespace

template <typename T>
void energies(const Fitting<T>& fitting, T* e, T* A, T* z, const Parallel& parallel) {
  const FittingParts<T> work(fitting, parallel);
  work.for_each_part(1, 1, kRowsOfNet,
                     [&](int64_t t, Range rows, Range) { work.energies(t, rows, e, A, z); });
}

// L = sum (de e + de/dD dA): the last term is the derivative of e along dD := dA, so that the
// reverse pass through value and derivative gives the whole gradient.
template <typename T>
void energies_grad(const Fitting<T>& fitting, const T* z, const T* de, const T* dA, T* dD,
                   const std::vector<T*>& dparameters, const Parallel& parallel) {
  const FittingParts<T> work(fitting, parallel);
  const FittingNets<T>& nets = fitting.nets;
  const int64_t nhidden = nets.nhidden();
  const std::vector<int64_t> sizes = nets.sizes();
  for (size_t p = 0; p < dparameters.size(); ++p) {
    const int64_t t = static_cast<int64_t>(p / sizes.size());
    if (work.count(t) == 0) std::fill_n(dparameters[p], sizes[p % sizes.size()], T(0));
  }

  // h[l] is the input of layer l, dh[l] its derivative along dD; gh[l] and gdh[l] are the
  // derivatives of L by both.
  std::vector<std::vector<T>> h(nhidden + 1), dh(nhidden + 1), dz(nhidden), gh(nhidden + 1),
      gdh(nhidden + 1), gz(nhidden), gdz(nhidden);
  const auto input = [&](int64_t l) { return l == 0 ? fitting.D : h[l].data(); };
  const auto dinput = [&](int64_t l) { return l == 0 ? dA : dh[l].data(); };
  const auto by_input = [&](int64_t l) { return l == 0 ? dD : gh[l].data(); };
  const auto by_dinput = [&](int64_t l) { return gdh[l].data(); };
  gdh[0] = work.array(nhidden == 0 ? nets.ninputs : 0);  // not wanted
  for (int64_t l = 0; l < nhidden; ++l) {
    h[l + 1] = dh[l + 1] = gh[l + 1] = gdh[l + 1] = dz[l] = gz[l] = gdz[l] =
        work.array(nets.neuron[l]);
  }
  for (int64_t l = 0; l < nhidden; ++l) {
    const int64_t in = nets.inputs(l), out = nets.outputs(l);
    work.for_each_part(out, kColumnsOfPart, kRowsOfPart, [&](int64_t t, Range rows, Range columns) {
      work.units.tangent(work.layer(t, l), rows, columns, work.of_type(input(l), t, in),
                         work.of_type(dinput(l), t, in), work.of_type(z + work.z_first(l), t, out),
                         work.of_type(h[l + 1].data(), t, out), work.of_type(dz[l].data(), t, out),
                         work.of_type(dh[l + 1].data(), t, out));
    });
  }

  const int64_t width = nets.inputs(nhidden);
  for (int64_t t = 0; t < nets.ntypes; ++t) {
    std::fill_n(dparameters[work.place(t, nhidden)], width, T(0));
    dparameters[work.place(t, nhidden) + 1][0] = 0;
  }
  work.for_each_atom([&](int64_t row, int64_t t, const FittingLayer<T>& last) {
    T* gW = dparameters[work.place(t, nhidden)];
    for (int64_t c = 0; c < width; ++c) {
      const int64_t k = row * width + c;
      gW[c] += input(nhidden)[k] * de[row] + dinput(nhidden)[k];
      by_input(nhidden)[k] = last.W[c] * de[row];
      by_dinput(nhidden)[k] = last.W[c];
    }
    dparameters[work.place(t, nhidden) + 1][0] += de[row];
  });

  const auto grad_activation = [&](int64_t l, int64_t t, Range columns) {
    const int64_t out = nets.outputs(l);
    const auto of_type = [&](auto* array) { return work.of_type(array, t, out); };
    T* const* gradient = &dparameters[work.place(t, l)];
    work.units.grad_activation(work.layer(t, l), work.count(t), columns,
                               of_type(z + work.z_first(l)), of_type(dz[l].data()),
                               of_type(gh[l + 1].data()), of_type(gdh[l + 1].data()),
                               of_type(gz[l].data()), of_type(gdz[l].data()), gradient[1],
                               nets.has_timestep(l) ? gradient[2] : nullptr);
  };
  // Rows of a part, which adds up over them.
  const int64_t all = std::max<int64_t>(fitting.size(), 1);
  if (nhidden > 0) {
    work.for_each_part(width, kColumnsOfPart, all, [&](int64_t t, Range, Range columns) {
      grad_activation(nhidden - 1, t, columns);
    });
  }
  for (int64_t l = nhidden - 1; l >= 0; --l) {
    const int64_t in = nets.inputs(l), out = nets.outputs(l);
    work.for_each_part(in, kInputsOfPart, all, [&](int64_t t, Range rows, Range inputs) {
      const FittingLayer<T> layer = work.layer(t, l);
      const T* gz_t = work.of_type(gz[l].data(), t, out);
      const T* gdz_t = work.of_type(gdz[l].data(), t, out);
      work.units.reverse(layer, rows, inputs, gz_t, work.of_type(gh[l + 1].data(), t, out),
                         work.of_type(by_input(l), t, in));
      work.units.grad_matrix(layer, rows.count, inputs, work.of_type(input(l), t, in),
                             work.of_type(dinput(l), t, in), gz_t, gdz_t,
                             dparameters[work.place(t, l)]);
      if (l == 0) return;
      work.units.reverse(layer, rows, inputs, gdz_t, work.of_type(gdh[l + 1].data(), t, out),
                         work.of_type(by_dinput(l), t, in));
      grad_activation(l - 1, t, inputs);
    });
  }
}

#define DPMASK_INSTANTIATE(T)                                                         \
  template void energies<T>(const Fitting<T>&, T*, T*, T*, const Parallel&);          \
  template void energies_grad<T>(const Fitting<T>&, const T*, const T*, const T*, T*, \
                                 const std::vector<T*>&, const Parallel&)
DPMASK_INSTANTIATE(float);
DPMASK_INSTANTIATE(double);

}  // namespace dpmask
