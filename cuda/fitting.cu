// SPDX-License-Identifier: LGPL-3.0-or-later
// The fitting nets, in the letters of op/kernels/fitting.cc and op/kernels/fitting_units.h: layer
// after layer, the layers of all types together. Sums over rows are products with ones.
#include "cuda/fitting.h"

#include "cuda/common/activation.h"
#include "cuda/common/batch.h"
#include "cuda/common/product.h"

namespace dpmask::cuda {
namespace {

// A hidden layer on the rows of its type; arrays that a step does not use are nullptr.
template <typename T>
struct Layer {
  int64_t rows, in, out;
  const T *W, *b, *timestep;
  bool has_skip;
  Activation activation;
  double threshold;
  const T *h, *dh;
  T *z, *dz, *output, *doutput;  // z is not written after it was made
  T *goutput, *gdoutput, *gz, *gdz;
  T* gfactor;  // of each row, the derivative by timestep

  DPMASK_KERNEL T factor(int64_t column) const {
    return timestep == nullptr ? T(1) : timestep[column];
  }
};

// Calls Step::at(layer, k) for each k of rows * out.
template <typename T, typename Step>
struct EachNumber {
  Layer<T> layer;
  int64_t blocks() const { return blocks_for(layer.rows * layer.out); }
  DPMASK_KERNEL void operator()(const Block& block) const {
    block.share(layer.rows * layer.out, [this](int64_t k) { Step::at(layer, k); });
  }
};

struct Output {  // from z and h and, for the derivative, dz and dh
  template <typename T>
  DPMASK_KERNEL static void at(const Layer<T>& l, int64_t k) {
    const T factor = l.factor(k % l.out);
    const Activated<T> a = activated<1>(l.activation, l.threshold, l.z[k]);
    l.output[k] = a.phi * factor + (l.has_skip ? l.h[k] : T(0));
    if (l.doutput == nullptr) return;
    l.doutput[k] = a.d1 * factor * l.dz[k] + (l.has_skip ? l.dh[k] : T(0));
  }
};

struct ReverseActivation {  // gz from goutput
  template <typename T>
  DPMASK_KERNEL static void at(const Layer<T>& l, int64_t k) {
    const Activated<T> a = activated<1>(l.activation, l.threshold, l.z[k]);
    l.gz[k] = l.goutput[k] * a.d1 * l.factor(k % l.out);
  }
};

struct GradActivation {  // gz, gdz and gfactor from goutput and gdoutput
  template <typename T>
  DPMASK_KERNEL static void at(const Layer<T>& l, int64_t k) {
    const T factor = l.factor(k % l.out);
    const Activated<T> a = activated<2>(l.activation, l.threshold, l.z[k]);
    l.gz[k] = (l.goutput[k] * a.d1 + l.gdoutput[k] * a.d2 * l.dz[k]) * factor;
    l.gdz[k] = l.gdoutput[k] * a.d1 * factor;
    if (l.timestep == nullptr) return;
    l.gfactor[k] = l.goutput[k] * a.phi + l.gdoutput[k] * a.d1 * l.dz[k];
  }
};

// by_input = W times factor, or W, for the rows of a type; W is the last layer's.
template <typename T>
struct LastInput {
  int64_t rows, width;
  const T *W, *factor;
  T* by_input;
  int64_t blocks() const { return blocks_for(rows * width); }
  DPMASK_KERNEL void operator()(const Block& block) const {
    block.share(rows * width, [this](int64_t k) {
      by_input[k] = W[k % width] * (factor == nullptr ? T(1) : factor[k / width]);
    });
  }
};

template <typename T>
struct SetOne {
  T* ones;
  DPMASK_KERNEL void operator()(int64_t k) const { ones[k] = 1; }
};

// Where the values of all layers lie. With the derivative along dD, also dh, dz, gdh, gdz, and what
// is summed over rows.
template <typename T>
struct Values {
  Values(const Fitting<T>& fitting, bool derivative, Gpu& gpu) {
    const int64_t nhidden = fitting.nets.nhidden();
    for (auto* all : {&h, &gh, &gz, &dh, &dz, &gdh, &gdz}) all->assign(nhidden + 1, nullptr);
    products = gpu.allocate<T>(product_workspace<T>());
    int64_t widest = 0;
    for (int64_t l = 0; l < nhidden; ++l) {
      const int64_t size = fitting.size() * fitting.nets.neuron[l];
      for (T** array : {&h[l + 1], &gh[l + 1], &gz[l]}) *array = gpu.allocate<T>(size);
      if (!derivative) continue;
      for (T** array : {&dh[l + 1], &dz[l], &gdh[l + 1], &gdz[l]}) *array = gpu.allocate<T>(size);
      if (fitting.nets.has_timestep(l)) widest = std::max(widest, size);
    }
    if (!derivative) return;
    gfactor = gpu.allocate<T>(widest);
    ones = gpu.allocate<T>(fitting.size());
  }
  // Of layer l: its input h[l], the derivative gh[l] by it, gz[l] that by z.
  std::vector<T*> h, gh, gz, dh, dz, gdh, gdz;
  T* gfactor = nullptr;  // of one layer
  T* ones = nullptr;     // a row of as many as there are atoms
  T* products;           // their workspace
};

template <typename T>
class FittingOnGpu {
 public:
  FittingOnGpu(const Fitting<T>& fitting, cudaStream_t stream)
      : nets_(fitting.nets), fitting_(fitting), stream_(stream) {}

  int64_t rows(int64_t t) const { return fitting_.type_first[t + 1] - fitting_.type_first[t]; }
  template <typename U>
  U* of_type(U* array, int64_t t, int64_t width) const {
    return array == nullptr ? nullptr : array + fitting_.type_first[t] * width;
  }
  // Where the parameters of layer l of type t begin.
  int64_t place(int64_t t, int64_t l) const {
    int64_t first = 0, of_net = 0;
    for (int64_t k = 0; k <= nets_.nhidden(); ++k) {
      if (k == l) first = of_net;
      of_net += nets_.has_timestep(k) ? 3 : 2;
    }
    return t * of_net + first;
  }
  const T* parameter(int64_t t, int64_t l, int which) const {
    return nets_.parameters[place(t, l) + which];
  }
  int64_t z_first(int64_t l) const {
    int64_t first = 0;
    for (int64_t k = 0; k < l; ++k) first += fitting_.size() * nets_.neuron[k];
    return first;
  }

  Layer<T> layer(const Values<T>& v, int64_t t, int64_t l, T* z) const {
    const int64_t in = nets_.inputs(l), out = nets_.outputs(l);
    const auto of = [&](auto* array, int64_t width) { return of_type(array, t, width); };
    return {rows(t),
            in,
            out,
            parameter(t, l, 0),
            parameter(t, l, 1),
            nets_.has_timestep(l) ? parameter(t, l, 2) : nullptr,
            nets_.has_skip(l),
            nets_.activation,
            nets_.threshold,
            of(v.h[l], in),
            of(v.dh[l], in),
            of(z + z_first(l), out),
            of(v.dz[l], out),
            of(v.h[l + 1], out),
            of(v.dh[l + 1], out),
            of(v.gh[l + 1], out),
            of(v.gdh[l + 1], out),
            of(v.gz[l], out),
            of(v.gdz[l], out),
            of(v.gfactor, out)};
  }

  template <typename Step>
  void for_elements(const Values<T>& v, int64_t l, T* z) const {
    std::vector<EachNumber<T, Step>> all;
    for (int64_t t = 0; t < nets_.ntypes; ++t) all.push_back({layer(v, t, l, z)});
    launch_all(all, stream_);
  }
  // Multiplies what add(t, all) adds to all for the types t.
  template <typename Add>
  void multiply(const Values<T>& v, const Add& add) const {
    std::vector<Product<T>> all;
    for (int64_t t = 0; t < nets_.ntypes; ++t) add(t, all);
    cuda::multiply(all, v.products, stream_);
  }

  // z = b + h W, or dz = dh W
  void forward(const Values<T>& v, int64_t l, T* z, bool derivative) const {
    multiply(v, [&](int64_t t, auto& all) {
      const Layer<T> a = layer(v, t, l, z);
      all.push_back({a.rows,
                     a.out,
                     a.in,
                     {derivative ? a.dh : a.h, a.in, 1},
                     {a.W, a.out, 1},
                     derivative ? a.dz : a.z,
                     derivative ? nullptr : a.b});
    });
  }
  // gh = skip(goutput) + gz W^T and, where there is gdh, the same with d.
  void reverse(const Values<T>& v, int64_t l, T* z) const {
    multiply(v, [&](int64_t t, auto& all) {
      const Layer<T> a = layer(v, t, l, z);
      const auto add = [&](T* gh, const T* goutput, const T* gz) {
        all.push_back({a.rows,
                       a.in,
                       a.out,
                       {gz, a.out, 1},
                       {a.W, 1, a.out},
                       of_type(gh, t, a.in),
                       nullptr,
                       a.has_skip ? goutput : nullptr});
      };
      add(v.gh[l], a.goutput, a.gz);
      if (v.gdh[l] != nullptr) add(v.gdh[l], a.gdoutput, a.gdz);
    });
  }
  // gW = h^T gz + dh^T gdz, and the sums of gz and gfactor.
  void grad_parameters(const Values<T>& v, int64_t l, T* z, const std::vector<T*>& gradient) const {
    multiply(v, [&](int64_t t, auto& all) {
      const Layer<T> a = layer(v, t, l, z);
      T* const* out = &gradient[place(t, l)];
      all.push_back({a.in,
                     a.out,
                     a.rows,
                     {a.h, 1, a.in},
                     {a.gz, a.out, 1},
                     out[0],
                     nullptr,
                     nullptr,
                     a.dh,
                     a.gdz});
      all.push_back({1, a.out, a.rows, {v.ones, 0, 1}, {a.gz, a.out, 1}, out[1]});
      if (a.timestep == nullptr) return;
      all.push_back({1, a.out, a.rows, {v.ones, 0, 1}, {a.gfactor, a.out, 1}, out[2]});
    });
  }

  // The last layer: e = b + h W
  void last(const Values<T>& v, T* e) const {
    const int64_t l = nets_.nhidden(), width = nets_.inputs(l);
    multiply(v, [&](int64_t t, auto& all) {
      all.push_back({rows(t),
                     1,
                     width,
                     {of_type(v.h[l], t, width), width, 1},
                     {parameter(t, l, 0), 1, 1},
                     of_type(e, t, 1),
                     parameter(t, l, 1)});
    });
  }
  // gh = de W, or W without de, and, where there is gdh, gdh = W.
  void last_reverse(const Values<T>& v, const T* de) const {
    const int64_t l = nets_.nhidden(), width = nets_.inputs(l);
    std::vector<LastInput<T>> all;
    for (int64_t t = 0; t < nets_.ntypes; ++t) {
      const auto add = [&](T* gh, const T* factor) {
        all.push_back(
            {rows(t), width, parameter(t, l, 0), of_type(factor, t, 1), of_type(gh, t, width)});
      };
      add(v.gh[l], de);
      if (v.gdh[l] != nullptr) add(v.gdh[l], nullptr);
    }
    launch_all(all, stream_);
  }
  // gW = h^T de + dh^T 1, and the sum of de.
  void last_grad(const Values<T>& v, const T* de, const std::vector<T*>& gradient) const {
    const int64_t l = nets_.nhidden(), width = nets_.inputs(l);
    multiply(v, [&](int64_t t, auto& all) {
      const T* of_rows = of_type(de, t, 1);
      T* const* out = &gradient[place(t, l)];
      all.push_back({width,
                     1,
                     rows(t),
                     {of_type(v.h[l], t, width), 1, width},
                     {of_rows, 1, 1},
                     out[0],
                     nullptr,
                     nullptr,
                     of_type(v.dh[l], t, width),
                     v.ones});
      all.push_back({1, 1, rows(t), {v.ones, 0, 1}, {of_rows, 1, 1}, out[1]});
    });
  }

 private:
  const FittingNets<T>& nets_;
  const Fitting<T>& fitting_;
  cudaStream_t stream_;
};

}  // namespace
}  // namespace dpmask::cuda

namespace dpmask {

template <typename T>
void energies(const Fitting<T>& fitting, T* e, T* A, T* z, Gpu& gpu) {
  const cuda::FittingOnGpu<T> work(fitting, gpu.stream());
  const int64_t nhidden = fitting.nets.nhidden();
  cuda::Values<T> v(fitting, false, gpu);
  v.h[0] = const_cast<T*>(fitting.D);  // only read
  v.gh[0] = A;
  for (int64_t l = 0; l < nhidden; ++l) {
    work.forward(v, l, z, false);
    work.template for_elements<cuda::Output>(v, l, z);
  }
  work.last(v, e);
  work.last_reverse(v, nullptr);
  for (int64_t l = nhidden - 1; l >= 0; --l) {
    work.template for_elements<cuda::ReverseActivation>(v, l, z);
    work.reverse(v, l, z);
  }
}

template <typename T>
void energies_grad(const Fitting<T>& fitting, const T* const_z, const T* de, const T* dA, T* dD,
                   const std::vector<T*>& dparameters, Gpu& gpu) {
  const cuda::FittingOnGpu<T> work(fitting, gpu.stream());
  const int64_t nhidden = fitting.nets.nhidden();
  T* z = const_cast<T*>(const_z);  // only read, as D and dA
  cuda::Values<T> v(fitting, true, gpu);
  v.h[0] = const_cast<T*>(fitting.D);
  v.dh[0] = const_cast<T*>(dA);
  v.gh[0] = dD;
  cuda::for_each(fitting.size(), gpu.stream(), cuda::SetOne<T>{v.ones});
  for (int64_t l = 0; l < nhidden; ++l) {
    work.forward(v, l, z, true);
    work.template for_elements<cuda::Output>(v, l, z);
  }
  work.last_grad(v, de, dparameters);
  work.last_reverse(v, de);
  for (int64_t l = nhidden - 1; l >= 0; --l) {
    work.template for_elements<cuda::GradActivation>(v, l, z);
    work.grad_parameters(v, l, z, dparameters);
    work.reverse(v, l, z);
  }
}

#define DPMASK_INSTANTIATE(T)                                                         \
  template void energies<T>(const Fitting<T>&, T*, T*, T*, Gpu&);                     \
  template void energies_grad<T>(const Fitting<T>&, const T*, const T*, const T*, T*, \
                                 const std::vector<T*>&, Gpu&)
DPMASK_INSTANTIATE(float);
DPMASK_INSTANTIATE(double);

}  // namespace dpmask
