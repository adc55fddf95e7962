// SPDX-License-Identifier: LGPL-3.0-or-later
// The kernels of op/kernels.h on the GPU of a TensorFlow operator: the same functions with a Gpu as
// the last argument. Arrays are the device's, but what operators check and count with is the
// host's: RealAtoms::first, Series::first, EmbeddingNets::net and Fitting::type_first.
#pragma once

#include <vector>

#include "../op/operator.h"
#include "../op/series.h"
#include "kernels.h"

namespace dpmask {

class Gpu {
 public:
  static const char* type() { return tf::DEVICE_GPU; }
  static Gpu of(tf::OpKernelContext* ctx) { return Gpu(ctx); }
  Gpu(const Gpu&) = delete;

  cudaStream_t stream() const { return stream_; }

  // Memory of the device, which nothing has been written to, for as long as this object lives.
  template <typename T>
  T* allocate(int64_t size) {
    memory_.emplace_back();
    throw_failure(
        ctx_->allocate_temp(tf::DataTypeToEnum<T>::value, shape_of({size}), &memory_.back()));
    return data<T>(&memory_.back());
  }
  template <typename T>
  T* copy(const T* host, int64_t size) {
    T* array = allocate<T>(size);
    cuda::upload(host, size, array, stream_);
    return array;
  }
  template <typename T>
  const T* const* copy_pointers(const std::vector<const T*>& pointers) {
    static_assert(sizeof(T*) == sizeof(int64_t));
    return reinterpret_cast<const T* const*>(
        copy(reinterpret_cast<const int64_t*>(pointers.data()), pointers.size()));
  }

 private:
  explicit Gpu(tf::OpKernelContext* ctx);

  tf::OpKernelContext* ctx_;
  cudaStream_t stream_;
  std::vector<tf::Tensor> memory_;
};

template <typename T>
void clear(const std::vector<T*>& arrays, const std::vector<int64_t>& sizes, Gpu& gpu) {
  cuda::clear(arrays, sizes, gpu.stream());
}

template <typename T>
void fit_series(const Embedding<T>& embedding, const AllocateSeries<T>& allocate, Gpu& gpu);
template <typename T>
void fit_series_grad(const EmbeddingNets<T>& nets, const Series<T>& series, const T* dC,
                     const std::vector<T*>& dparameters, Gpu& gpu);
template <typename T>
void embed(const Embedding<T>& embedding, T* X, Gpu& gpu);
template <typename T>
void embed_grad(const Embedding<T>& embedding, const T* dX, const NetGradients<T>& gradients,
                Gpu& gpu);
template <typename T>
void force(const Embedding<T>& embedding, const T* A, const Forces& out, Gpu& gpu);
template <typename T>
void force_grad(const Embedding<T>& embedding, const T* A, const ForceCotangents& cotangents, T* dA,
                const NetGradients<T>& gradients, Gpu& gpu);
template <typename T>
void contract(const Contraction<T>& shape, const T* X, const T* Y, T* B, Gpu& gpu);
template <typename T>
void contract_reverse(const Contraction<T>& shape, const T* Y, const T* gB, T* gX, Gpu& gpu);
template <typename T>
void energies(const Fitting<T>& fitting, T* e, T* A, T* z, Gpu& gpu);
template <typename T>
void read_out(const Readout<T>& readout, const T* X, T* e, T* A, Gpu& gpu);
template <typename T>
void spread_energies(const RealAtoms& atoms, const double* bias, const T* e, const Energies& out,
                     Gpu& gpu);
template <typename T>
void energies_grad(const Fitting<T>& fitting, const T* z, const T* de, const T* dA, T* dD,
                   const std::vector<T*>& dparameters, Gpu& gpu);

}  // namespace dpmask
