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

  Layer<T> layer(const Values<T>& v, int64_t t, int64_t l, T* z) const {
    const auto in = [&](T* array) { return of_type(array, t, nets_.inputs(l)); };
    const auto out = [&](T* array) { return of_type(array, t, nets_.outputs(l)); };
    const T* const* p = parameters(t, l);
    Layer<T> a;
    a.rows = fitting_.count(t);
    a.in = nets_.inputs(l);
    a.out = nets_.outputs(l);
    a.W = p[0];
    a.b = p[1];
    a.timestep = nets_.has_timestep(l) ? p[2] : nullptr;
    a.has_skip = nets_.has_skip(l);
    a.activation = nets_.activation;
    a.threshold = nets_.threshold;
    a.h = in(v.h[l]);
    a.dh = in(v.dh[l]);
    a.z = out(z + fitting_.z_first(l));
    a.dz = out(v.dz[l]);
    a.output = out(v.h[l + 1]);
    a.doutput = out(v.dh[l + 1]);
    a.goutput = out(v.gh[l + 1]);
    a.gdoutput = out(v.gdh[l + 1]);
    a.gz = out(v.gz[l]);
    a.gdz = out(v.gdz[l]);
    a.gfactor = out(v.gfactor);
    return a;
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
      const Factor<T> left = {derivative ? a.dh : a.h, a.in, 1};
      all.push_back({a.rows, a.out, a.in, left, {a.W, a.out, 1}, derivative ? a.dz : a.z});
      if (!derivative) all.back().bias = a.b;
    });
  }
  // gh = skip(goutput) + gz W^T and, where there is gdh, the same with d.
  void reverse(const Values<T>& v, int64_t l, T* z) const {
    multiply(v, [&](int64_t t, auto& all) {
      const Layer<T> a = layer(v, t, l, z);
      const auto add = [&](T* gh, const T* goutput, const T* gz) {
        all.push_back({a.rows, a.in, a.out, {gz, a.out, 1}, {a.W, 1, a.out}, of_type(gh, t, a.in)});
        if (a.has_skip) all.back().add = goutput;
      };
      add(v.gh[l], a.goutput, a.gz);
      if (v.gdh[l] != nullptr) add(v.gdh[l], a.gdoutput, a.gdz);
    });
  }
  // gW = h^T gz + dh^T gdz, and the sums of gz and gfactor.
  void grad_parameters(const Values<T>& v, int64_t l, T* z, const std::vector<T*>& gradient) const {
    multiply(v, [&](int64_t t, auto& all) {
      const Layer<T> a = layer(v, t, l, z);
      T* const* out = &gradient[nets_.place(t, l)];
      all.push_back({a.in, a.out, a.rows, {a.h, 1, a.in}, {a.gz, a.out, 1}, out[0]});
      all.back().left2 = a.dh;
      all.back().right2 = a.gdz;
      all.push_back({1, a.out, a.rows, {v.ones, 0, 1}, {a.gz, a.out, 1}, out[1]});
      if (a.timestep == nullptr) return;
      all.push_back({1, a.out, a.rows, {v.ones, 0, 1}, {a.gfactor, a.out, 1}, out[2]});
    });
  }

  // The last layer: e = b + h W
  void last(const Values<T>& v, T* e) const {
    const int64_t l = nets_.nhidden(), width = nets_.inputs(l);
    multiply(v, [&](int64_t t, auto& all) {
      const Factor<T> h = {of_type(v.h[l], t, width), width, 1};
      const T* const* p = parameters(t, l);
      all.push_back({fitting_.count(t), 1, width, h, {p[0], 1, 1}, of_type(e, t, 1)});
      all.back().bias = p[1];
    });
  }
  // gh = de W, or W without de, and, where there is gdh, gdh = W.
  void last_reverse(const Values<T>& v, const T* de) const {
    const int64_t l = nets_.nhidden(), width = nets_.inputs(l);
    std::vector<LastInput<T>> all;
    for (int64_t t = 0; t < nets_.ntypes; ++t) {
      const auto add = [&](T* gh, const T* factor) {
        all.push_back({fitting_.count(t), width, parameters(t, l)[0], of_type(factor, t, 1),
                       of_type(gh, t, width)});
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
      const int64_t rows = fitting_.count(t);
      const Factor<T> h = {of_type(v.h[l], t, width), 1, width}, by_e = {of_type(de, t, 1), 1, 1};
      T* const* out = &gradient[nets_.place(t, l)];
      all.push_back({width, 1, rows, h, by_e, out[0]});
      all.back().left2 = of_type(v.dh[l], t, width);
      all.back().right2 = v.ones;
      all.push_back({1, 1, rows, {v.ones, 0, 1}, by_e, out[1]});
    });
  }

 private:
  template <typename U>
  U* of_type(U* array, int64_t t, int64_t width) const {
    return fitting_.of_type(array, t, width);
  }
  const T* const* parameters(int64_t t, int64_t l) const {
    return &nets_.parameters[nets_.place(t, l)];
  }

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
