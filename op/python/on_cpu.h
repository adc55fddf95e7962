// SPDX-License-Identifier: LGPL-3.0-or-later
// The CPU as the device of the bindings.
#pragma once

#include <algorithm>
#include <memory>

#include "op/potential/workers.h"
#include "op/python/arrays.h"

namespace dpmask {

// A device says what arrays it has, copies the host's to itself, and gives kernels their last
// argument.
class OnCpu {
 public:
  template <typename T>
  using Array = dpmask::Array<T>;

  explicit OnCpu(int nthreads) : workers_(std::make_shared<Workers>(nthreads)) {}

  // What a kernel is given as its last argument; on a GPU, for one call.
  CpuOfWorkers call() const { return CpuOfWorkers(*workers_); }

  // An array of the host, while that is there.
  template <typename T>
  struct Copy {
    Copy(const T* host, int64_t) : array(host) {}
    const T* data() const { return array; }
    const T* array;
  };

  // As a potential's, it begins where a line of the cache does.
  template <typename T>
  static Array<T> make(const Shape& shape) {
    int64_t bytes = sizeof(T);
    for (int64_t length : shape) bytes *= length;
    using Memory = std::shared_ptr<void>;
    auto memory = std::make_unique<Memory>(Arena::of_host(bytes));
    T* array = static_cast<T*>(memory->get());
    const py::capsule owner(memory.get(), [](void* of) { delete static_cast<Memory*>(of); });
    memory.release();  // which is the capsule's
    return Array<T>(shape, array, owner);
  }
  template <typename T>
  static Array<T> zeros(const Shape& shape) {
    Array<T> array(shape);
    std::fill_n(array.mutable_data(), array.size(), T(0));
    return array;
  }
  // One that nobody else changes.
  template <typename T>
  static Array<T> copy(const Array<T>& array) {
    Array<T> own = make<T>(shape_of(array));
    std::copy_n(array.data(), array.size(), own.mutable_data());
    return own;
  }
  template <typename T>
  static void add(const Array<T>& share, Array<T>* sum) {
    const T* from = share.data();
    T* to = sum->mutable_data();
    for (py::ssize_t k = 0; k < share.size(); ++k) to[k] += from[k];
  }

 private:
  std::shared_ptr<Workers> workers_;
};

}  // namespace dpmask
