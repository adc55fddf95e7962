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
void energies(const Fitting<T>& fitting, T* e, T* A, T* z, Cpu& cpu) {
  const Cpu::Scope scope(cpu);
  const FittingParts<T> work(fitting, cpu);
  work.for_each_part(1, 1, kRowsOfNet,
                     [&](int64_t t, Range rows, Range) { work.energies(t, rows, e, A, z); });
}

namespace {

// L = sum (de e + de/dD dA): the last term is the derivative of e along dD := dA, so that the
// reverse pass through value and derivative gives the whole gradient.
template <typename T>
class EnergiesGradient {
 public:
  EnergiesGradient(const Fitting<T>& fitting, const T* z, const T* dA, T* dD,
                   const std::vector<T*>& dparameters, Cpu& cpu)
      : parts_(fitting, cpu), fitting_(fitting), nets_(fitting.nets), z_(z), dA_(dA), dD_(dD),
        dparameters_(dparameters), h_(nhidden() + 1), dh_(nhidden() + 1), dz_(nhidden()),
        gh_(nhidden() + 1), gdh_(nhidden() + 1), gz_(nhidden()), gdz_(nhidden()) {
    if (nhidden() == 0) gdh_[0] = parts_.array(nets_.ninputs);  // not wanted, but written to
    for (int64_t l = 0; l < nhidden(); ++l) {
      for (T** array :
           {&h_[l + 1], &dh_[l + 1], &gh_[l + 1], &gdh_[l + 1], &dz_[l], &gz_[l], &gdz_[l]}) {
        *array = parts_.array(nets_.neuron[l]);
      }
    }
  }

  void clear_types_without_atoms() {
    const std::vector<int64_t> sizes = nets_.sizes();
    for (size_t p = 0; p < dparameters_.size(); ++p) {
      const int64_t t = static_cast<int64_t>(p / sizes.size());
      if (fitting_.count(t) == 0) std::fill_n(dparameters_[p], sizes[p % sizes.size()], T(0));
    }
  }

  void forward() {
    for (int64_t l = 0; l < nhidden(); ++l) {
      parts_.for_each_part(nets_.outputs(l), kColumnsOfPart, kRowsOfPart,
                           [&](int64_t t, Range rows, Range columns) {
                             parts_.units.tangent(parts_.layer(t, l), rows, columns, values(t, l));
                           });
    }
  }

  // The gradient of the last layer, and the derivatives by its input.
  void reverse_last(const T* de) {
    const int64_t width = nets_.inputs(nhidden());
    for (int64_t t = 0; t < nets_.ntypes; ++t) {
      std::fill_n(gradient(t, nhidden())[0], width, T(0));
      gradient(t, nhidden())[1][0] = 0;
    }
    const T *h = input(nhidden()), *dh = dinput(nhidden());
    T *gh = by_input(nhidden()), *gdh = gdh_[nhidden()];
    parts_.for_each_atom([&](int64_t row, int64_t t, const FittingLayer<T>& last) {
      T* gW = gradient(t, nhidden())[0];
      for (int64_t c = 0; c < width; ++c) {
        const int64_t k = row * width + c;
        gW[c] += h[k] * de[row] + dh[k];
        gh[k] = last.W[c] * de[row];
        gdh[k] = last.W[c];
      }
      gradient(t, nhidden())[1][0] += de[row];
    });
  }

  void reverse() {
    if (nhidden() == 0) return;
    // Rows of a part, which adds up over them.
    const int64_t all = std::max<int64_t>(fitting_.size(), 1);
    parts_.for_each_part(
        nets_.inputs(nhidden()), kColumnsOfPart, all,
        [&](int64_t t, Range, Range columns) { reverse_activation(nhidden() - 1, t, columns); });
    for (int64_t l = nhidden() - 1; l >= 0; --l) {
      parts_.for_each_part(
          nets_.inputs(l), kInputsOfPart, all,
          [&](int64_t t, Range rows, Range inputs) { reverse_matrix(l, t, rows, inputs); });
    }
  }

 private:
  int64_t nhidden() const { return nets_.nhidden(); }
  const T* input(int64_t l) const { return l == 0 ? fitting_.D : h_[l]; }
  const T* dinput(int64_t l) const { return l == 0 ? dA_ : dh_[l]; }
  T* by_input(int64_t l) { return l == 0 ? dD_ : gh_[l]; }
  T* const* gradient(int64_t t, int64_t l) const { return &dparameters_[nets_.place(t, l)]; }

  LayerValues<T> values(int64_t t, int64_t l) {
    const auto in = [&](auto* array) { return fitting_.of_type(array, t, nets_.inputs(l)); };
    const auto out = [&](T* array) { return fitting_.of_type(array, t, nets_.outputs(l)); };
    LayerValues<T> v;
    v.h = in(input(l));
    v.dh = in(dinput(l));
    v.z = fitting_.of_type(z_ + fitting_.z_first(l), t, nets_.outputs(l));
    v.dz = out(dz_[l]);
    v.output = out(h_[l + 1]);
    v.doutput = out(dh_[l + 1]);
    v.goutput = out(gh_[l + 1]);
    v.gdoutput = out(gdh_[l + 1]);
    v.gz = out(gz_[l]);
    v.gdz = out(gdz_[l]);
    return v;
  }

  void reverse_activation(int64_t l, int64_t t, Range columns) {
    T* const* g = gradient(t, l);
    parts_.units.grad_activation(parts_.layer(t, l), fitting_.count(t), columns, values(t, l), g[1],
                                 nets_.has_timestep(l) ? g[2] : nullptr);
  }

  void reverse_matrix(int64_t l, int64_t t, Range rows, Range inputs) {
    const FittingLayer<T> layer = parts_.layer(t, l);
    const LayerValues<T> v = values(t, l);
    const int64_t in = nets_.inputs(l);
    parts_.units.reverse(layer, rows, inputs, v.gz, v.goutput,
                         fitting_.of_type(by_input(l), t, in));
    parts_.units.grad_matrix(layer, rows.count, inputs, v, gradient(t, l)[0]);
    if (l == 0) return;
    parts_.units.reverse(layer, rows, inputs, v.gdz, v.gdoutput, fitting_.of_type(gdh_[l], t, in));
    reverse_activation(l - 1, t, inputs);
  }

  FittingParts<T> parts_;
  const Fitting<T>& fitting_;
  const FittingNets<T>& nets_;
  const T *z_, *dA_;
  T* dD_;
  const std::vector<T*>& dparameters_;
  // h[l] is the input of layer l, dh[l] its derivative along dD; gh[l] and gdh[l] are the
  // derivatives of L by both.
  std::vector<T*> h_, dh_, dz_, gh_, gdh_, gz_, gdz_;
};

}  // namespace

template <typename T>
void energies_grad(const Fitting<T>& fitting, const T* z, const T* de, const T* dA, T* dD,
                   const std::vector<T*>& dparameters, Cpu& cpu) {
  const Cpu::Scope scope(cpu);
  EnergiesGradient<T> gradient(fitting, z, dA, dD, dparameters, cpu);
  gradient.clear_types_without_atoms();
  gradient.forward();
  gradient.reverse_last(de);
  gradient.reverse();
}

#define DPMASK_INSTANTIATE(T)                                                         \
  template void energies<T>(const Fitting<T>&, T*, T*, T*, Cpu&);                     \
  template void energies_grad<T>(const Fitting<T>&, const T*, const T*, const T*, T*, \
                                 const std::vector<T*>&, Cpu&)
DPMASK_INSTANTIATE(float);
DPMASK_INSTANTIATE(double);

}  // namespace dpmask
