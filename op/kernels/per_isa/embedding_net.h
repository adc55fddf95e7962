// SPDX-License-Identifier: LGPL-3.0-or-later
// The embedding net on a tile of pairs: its value, its derivative by s, and their reverse.
#pragma once

#include <Eigen/Core>
#include <vector>

#include "op/kernels/embedding.h"
#include "op/kernels/per_isa/activate.h"
#include "op/kernels/per_isa/products.h"

// In a namespace of its instruction set, for the reason given in direct_units.cc.
namespace dpmask::DPMASK_ISA {

template <typename T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <typename T>
using RowVector = Eigen::Matrix<T, 1, Eigen::Dynamic>;

// A layer of one net on a tile of pairs (rows):
//   z = h W + b,  a = phi(z),  output = a * timestep + skip(h),
// where skip(h) is h, (h, h) or nothing. Beside each value v its derivative by s, written dv, is
// carried forward if kDerivative. For the reverse pass, gv is the derivative of the loss by v.
template <typename T>
class LayerOnTile {
 public:
  LayerOnTile(const EmbeddingNets<T>& nets, int64_t layer, int64_t first_parameter,
              int64_t capacity)
      : first_parameter_(first_parameter), in_(nets.inputs(layer)), out_(nets.outputs(layer)),
        has_skip_(nets.has_skip(layer)), has_timestep_(nets.has_timestep(layer)),
        activation_(nets.activation), threshold_(nets.threshold) {
    for (Matrix<T>* m : {&z_, &dz_, &a_, &d1_, &d2_, &gz_, &gdz_, &output, &doutput}) {
      m->resize(capacity, out_);
    }
    for (Matrix<T>* m : {&gh, &gdh}) m->resize(capacity, in_);
  }

  // kOrder is how many derivatives of phi the passes to come need; parameters are the net's.
  template <bool kDerivative, int kOrder>
  void forward(int64_t size, const Matrix<T>& h, const Matrix<T>& dh, const T* const* parameters) {
    parameters += first_parameter_;
    const Eigen::Map<const Matrix<T>> W(parameters[0], in_, out_);
    const Eigen::Map<const RowVector<T>> b(parameters[1], out_);
    auto z = z_.topRows(size);
    z.rowwise() = b;
    increase_by_product(factor(h.topRows(size)), factor(W), result(z));
    activate_all<kOrder>(activation_, threshold_, size * out_, z_.data(), a_.data(), d1_.data(),
                         d2_.data());
    const T* timestep = has_timestep_ ? parameters[2] : nullptr;
    add_skip(size, a_.topRows(size), h, timestep, output);
    if (!kDerivative) return;
    set_product(factor(dh.topRows(size)), factor(W), result(dz_.topRows(size)));
    add_skip(size, d1_.topRows(size).cwiseProduct(dz_.topRows(size)), dh, timestep, doutput);
  }

  // Adds to the gradient of the parameters, and sets gh and gdh unless this is the first layer.
  // Changes goutput and gdoutput.
  template <bool kDerivative>
  void reverse(int64_t size, const Matrix<T>& h, const Matrix<T>& dh, const T* const* parameters,
               Matrix<T>& goutput, Matrix<T>& gdoutput, T* const* gradient, bool first) {
    parameters += first_parameter_;
    gradient += first_parameter_;
    const Eigen::Map<const Matrix<T>> W(parameters[0], in_, out_);
    if (!first) reverse_skip<kDerivative>(size, goutput, gdoutput);
    if (has_timestep_)
      reverse_timestep<kDerivative>(size, parameters[2], goutput, gdoutput, gradient[2]);
    flat(gz_, size) = flat(goutput, size) * flat(d1_, size);
    if (kDerivative) {
      flat(gz_, size) += flat(gdoutput, size) * flat(d2_, size) * flat(dz_, size);
      flat(gdz_, size) = flat(gdoutput, size) * flat(d1_, size);
    }
    Eigen::Map<Matrix<T>> gW(gradient[0], in_, out_);
    Eigen::Map<RowVector<T>> gb(gradient[1], out_);
    const auto gz = gz_.topRows(size);
    const auto gdz = gdz_.topRows(size);
    increase_by_product<Transposed::left>(factor(h.topRows(size)), factor(gz), result(gW));
    add_rows(gz, gb);
    if (kDerivative) {
      increase_by_product<Transposed::left>(factor(dh.topRows(size)), factor(gdz), result(gW));
    }
    if (first) return;
    increase_by_product<Transposed::right>(factor(gz), factor(W), result(gh.topRows(size)));
    if (!kDerivative) return;
    increase_by_product<Transposed::right>(factor(gdz), factor(W), result(gdh.topRows(size)));
  }

  const Matrix<T>& z() const { return z_; }

  Matrix<T> output, doutput;
  Matrix<T> gh, gdh;

 private:
  using Flat = Eigen::Map<Eigen::Array<T, Eigen::Dynamic, 1>>;
  static Flat flat(Matrix<T>& m, int64_t size) { return Flat(m.data(), size * m.cols()); }

  // target = value * timestep + skip(h)
  template <typename Value>
  void add_skip(int64_t size, const Value& value, const Matrix<T>& h, const T* timestep_data,
                Matrix<T>& target) const {
    if (!has_skip_) {
      target.topRows(size) = value;
      return;
    }
    for (int64_t column = 0; column < out_; column += in_) {
      auto out = target.block(0, column, size, in_).array();
      const auto v = value.middleCols(column, in_).array();
      if (has_timestep_) {
        const Eigen::Map<const RowVector<T>> timestep(timestep_data + column, in_);
        out = v.rowwise() * timestep.array() + h.topRows(size).array();
      } else {
        out = v + h.topRows(size).array();
      }
    }
  }

  // Eigen's own sum over rows takes another order where the array is aligned otherwise.
  template <typename Rows, typename Sum>
  static void add_rows(const Rows& rows, Sum& sum) {
    for (int64_t p = 0; p < rows.rows(); ++p) sum += rows.row(p);
  }

  template <bool kDerivative>
  void reverse_skip(int64_t size, const Matrix<T>& goutput, const Matrix<T>& gdoutput) {
    gh.topRows(size).setZero();
    if (kDerivative) gdh.topRows(size).setZero();
    if (!has_skip_) return;
    for (int64_t column = 0; column < out_; column += in_) {
      gh.topRows(size) += goutput.block(0, column, size, in_);
      if (kDerivative) gdh.topRows(size) += gdoutput.block(0, column, size, in_);
    }
  }

  template <bool kDerivative>
  void reverse_timestep(int64_t size, const T* timestep_data, Matrix<T>& goutput,
                        Matrix<T>& gdoutput, T* gradient) {
    const Eigen::Map<const RowVector<T>> timestep(timestep_data, out_);
    Eigen::Map<RowVector<T>> gtimestep(gradient, out_);
    add_rows(goutput.topRows(size).cwiseProduct(a_.topRows(size)), gtimestep);
    goutput.topRows(size).array().rowwise() *= timestep.array();
    if (!kDerivative) return;
    add_rows(gdoutput.topRows(size).cwiseProduct(d1_.topRows(size)).cwiseProduct(dz_.topRows(size)),
             gtimestep);
    gdoutput.topRows(size).array().rowwise() *= timestep.array();
  }

  int64_t first_parameter_;  // of the layer among those of its net
  int64_t in_, out_;
  bool has_skip_, has_timestep_;
  Activation activation_;
  double threshold_;
  Matrix<T> z_, dz_, a_, d1_, d2_, gz_, gdz_;  // d1 = phi'(z), d2 = phi''(z)
};

// A net on tiles of at most `capacity` pairs. The caller sets s, and the derivatives gG and gdG of
// the loss before a reverse pass; parameters and gradient list the arrays of one net.
template <typename T>
class NetOnTile {
 public:
  NetOnTile(const EmbeddingNets<T>& nets, int64_t capacity) : s(capacity, 1), ds_(capacity, 1) {
    ds_.setOnes();
    layers_.reserve(nets.nlayers());
    for (int64_t layer = 0; layer < nets.nlayers(); ++layer) {
      layers_.emplace_back(nets, layer, arrays_before(nets, layer), capacity);
    }
    gG.resize(capacity, nets.neuron.back());
    gdG.resize(capacity, nets.neuron.back());
  }

  const Matrix<T>& G() const { return layers_.back().output; }
  const Matrix<T>& dG() const { return layers_.back().doutput; }
  const Matrix<T>& z(int64_t layer) const { return layers_[layer].z(); }

  template <bool kDerivative, int kOrder>
  void forward(int64_t size, const T* const* parameters) {
    const Matrix<T>* h = &s;
    const Matrix<T>* dh = &ds_;
    for (LayerOnTile<T>& layer : layers_) {
      layer.template forward<kDerivative, kOrder>(size, *h, *dh, parameters);
      h = &layer.output;
      dh = &layer.doutput;
    }
  }

  template <bool kDerivative>
  void reverse(int64_t size, const T* const* parameters, T* const* gradient) {
    Matrix<T>* goutput = &gG;
    Matrix<T>* gdoutput = &gdG;
    for (size_t l = layers_.size(); l-- > 0;) {
      layers_[l].template reverse<kDerivative>(size, l == 0 ? s : layers_[l - 1].output,
                                               l == 0 ? ds_ : layers_[l - 1].doutput, parameters,
                                               *goutput, *gdoutput, gradient, l == 0);
      goutput = &layers_[l].gh;
      gdoutput = &layers_[l].gdh;
    }
  }

  Matrix<T> s;        // [capacity, 1]
  Matrix<T> gG, gdG;  // [capacity, M1]

 private:
  Matrix<T> ds_;  // ds/ds = 1
  std::vector<LayerOnTile<T>> layers_;
};

}  // namespace dpmask::DPMASK_ISA
