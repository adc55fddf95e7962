// SPDX-License-Identifier: LGPL-3.0-or-later
// A GPU as the device of the bindings. Each array is an allocation of its own, of exactly its size,
// and not a number where nothing was written, so that tools and tests see what goes beyond its ends
// or is forgotten.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "cuda/common/gpu.h"
#include "op/python/arrays.h"

namespace dpmask {

// Of this module: the stream that all work goes to, and whether memory comes from the driver's pool
// instead, unwritten, for benchmarks.
struct GpuSettings {
  cudaStream_t stream;
  bool use_pool = false;
  int64_t allocated = 0;  // bytes so far
};
GpuSettings& gpu_settings();

std::shared_ptr<void> allocate_on_gpu(int64_t bytes);
void copy_to_gpu(const void* host, int64_t bytes, void* array);
void copy_from_gpu(const void* array, int64_t bytes, void* host);

// An array of any type, as Python has it: with __cuda_array_interface__, and NumPy copies it.
struct DeviceArray {
  std::shared_ptr<void> memory;
  Shape shape;
  py::dtype type;
};
void bind_device_array(py::module_& m);

// An array of the device: its own, or that of an object of Python with __cuda_array_interface__.
template <typename T>
class GpuArray {
 public:
  GpuArray() = default;
  GpuArray(std::shared_ptr<void> memory, Shape shape)
      : memory_(std::move(memory)), shape_(std::move(shape)) {}

  int ndim() const { return static_cast<int>(shape_.size()); }
  int64_t shape(int k) const { return shape_.at(k); }
  int64_t size() const {
    int64_t size = 1;
    for (int64_t extent : shape_) size *= extent;
    return size;
  }
  const T* data() const { return static_cast<const T*>(memory_.get()); }
  T* mutable_data() { return static_cast<T*>(memory_.get()); }
  DeviceArray for_python() const { return {memory_, shape_, py::dtype::of<T>()}; }

 private:
  std::shared_ptr<void> memory_;
  Shape shape_;
};

// Memory of one call of a kernel.
class GpuOfCall : public Gpu {
 public:
  GpuOfCall() : Gpu(gpu_settings().stream) {}

 private:
  void* allocate_bytes(int64_t size) override {
    memory_.push_back(allocate_on_gpu(size));
    return memory_.back().get();
  }
  std::vector<std::shared_ptr<void>> memory_;
};

// As OnCpu.
class OnGpu {
 public:
  template <typename T>
  using Array = GpuArray<T>;

  explicit OnGpu(int /* threads */) {}

  GpuOfCall call() const { return GpuOfCall(); }

  template <typename T>
  struct Copy {
    Copy(const T* host, int64_t size) : memory(allocate_on_gpu(size * sizeof(T))) {
      copy_to_gpu(host, size * sizeof(T), memory.get());
    }
    const T* data() const { return static_cast<const T*>(memory.get()); }
    std::shared_ptr<void> memory;
  };

  template <typename T>
  static Array<T> make(const Shape& shape) {
    int64_t size = sizeof(T);
    for (int64_t extent : shape) size *= extent;
    return {allocate_on_gpu(size), shape};
  }
  template <typename T>
  static Array<T> zeros(const Shape& shape) {
    Array<T> array = make<T>(shape);
    cuda::clear<T>({array.mutable_data()}, {array.size()}, gpu_settings().stream);
    return array;
  }
  template <typename T>
  static Array<T> copy(const Array<T>& array) {
    return array;  // which Python cannot change
  }
  template <typename T>
  static void add(const Array<T>& share, Array<T>* sum) {
    cuda::add(share.data(), share.size(), sum->mutable_data(), gpu_settings().stream);
  }
};

}  // namespace dpmask

namespace pybind11::detail {

template <typename T>
struct type_caster<dpmask::GpuArray<T>> {
  PYBIND11_TYPE_CASTER(dpmask::GpuArray<T>, const_name("array"));

  bool load(handle source, bool) {
    if (hasattr(source, "__cuda_array_interface__")) return load_interface(source);
    const auto host = dpmask::Array<T>::ensure(source);
    if (!host) return false;
    value = dpmask::OnGpu::make<T>(dpmask::shape_of(host));
    dpmask::copy_to_gpu(host.data(), host.nbytes(), value.mutable_data());
    return true;
  }
  static handle cast(const dpmask::GpuArray<T>& array, return_value_policy, handle) {
    return pybind11::cast(array.for_python()).release();
  }

 private:
  // Without a copy, so of this type and contiguous.
  bool load_interface(handle source) {
    const dict interface = source.attr("__cuda_array_interface__");
    const bool is_of_type = dtype(interface["typestr"].cast<std::string>()).equal(dtype::of<T>());
    const bool is_contiguous = !interface.contains("strides") || interface["strides"].is_none();
    if (!is_of_type || !is_contiguous) return false;
    dpmask::Shape shape;
    for (handle extent : interface["shape"].cast<tuple>()) shape.push_back(extent.cast<int64_t>());
    const auto address = interface["data"].cast<tuple>()[0].cast<uintptr_t>();
    const auto owner = std::make_shared<object>(reinterpret_borrow<object>(source));
    value = {std::shared_ptr<void>(owner, reinterpret_cast<void*>(address)), shape};
    return true;
  }
};

}  // namespace pybind11::detail
