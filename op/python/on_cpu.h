// SPDX-License-Identifier: LGPL-3.0-or-later
// The CPU as the device of the bindings.
#pragma once

#include <algorithm>
#include <memory>

#include "op/kernels/aligned.h"
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

  // Arrays begin where lines of the cache do, as a potential's.
  template <typename T>
  static Array<T> make(const Shape& shape) {
    size_t size = 1;
    for (int64_t length : shape) size *= length;
    T* array = OnLines<T>().allocate(size);
    const py::capsule owner(array,
                            [](void* of) { OnLines<T>().deallocate(static_cast<T*>(of), 0); });
    return Array<T>(shape, array, owner);
  }
  template <typename T>
  static Array<T> zeros(const Shape& shape) {
    Array<T> array = make<T>(shape);
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
