// SPDX-License-Identifier: LGPL-3.0-or-later
// A GPU that work is given to.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/common/memory.h"
#include "cuda/common/stream.h"

namespace dpmask {

// The stream that work goes to, and memory. What is given a Gpu as its last argument orchestrates
// the kernels: their order, and the arrays between them. Who calls it decides where memory comes
// from.
class Gpu {
 public:
  explicit Gpu(cudaStream_t stream) : stream_(stream) {}
  virtual ~Gpu() = default;
  Gpu(const Gpu&) = delete;

  cudaStream_t stream() const { return stream_; }

  // Memory of the device, which nothing has been written to, for as long as this object lives. It
  // begins at a multiple of 16 bytes.
  template <typename T>
  T* allocate(int64_t size) {
    return static_cast<T*>(allocate_bytes(size * static_cast<int64_t>(sizeof(T))));
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
  virtual void* allocate_bytes(int64_t size) = 0;

  cudaStream_t stream_;
};

template <typename T>
void clear(const std::vector<T*>& arrays, const std::vector<int64_t>& sizes, Gpu& gpu) {
  cuda::clear(arrays, sizes, gpu.stream());
}

}  // namespace dpmask
