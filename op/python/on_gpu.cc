// SPDX-License-Identifier: LGPL-3.0-or-later
#include "op/python/on_gpu.h"

#include <algorithm>
#include <cstdlib>
#include <new>
#include <string>

namespace dpmask {

GpuSettings& gpu_settings() {
#ifdef DPMASK_EMULATED
  static GpuSettings settings = {reinterpret_cast<cudaStream_t>(4711)};  // no pointer
  cuda::expected_stream = settings.stream;
#else
  static GpuSettings settings = {nullptr};
#endif
  return settings;
}

#ifdef DPMASK_EMULATED
std::shared_ptr<void> allocate_on_gpu(int64_t bytes) {
  gpu_settings().allocated += bytes;
  std::shared_ptr<void> memory(::operator new(bytes),
                               [](void* array) { ::operator delete(array); });
  std::fill_n(static_cast<unsigned char*>(memory.get()), bytes, 0xff);  // NaN
  return memory;
}

void copy_to_gpu(const void* host, int64_t bytes, void* array) {
  std::copy_n(static_cast<const char*>(host), bytes, static_cast<char*>(array));
}

void copy_from_gpu(const void* array, int64_t bytes, void* host) {
  std::copy_n(static_cast<const char*>(array), bytes, static_cast<char*>(host));
}
#else
std::shared_ptr<void> allocate_on_gpu(int64_t bytes) {
  // initcheck of compute-sanitizer can see what was never written only where nothing was.
  static const bool leave_unwritten = std::getenv("DPMASK_LEAVE_UNWRITTEN") != nullptr;
  GpuSettings& settings = gpu_settings();
  settings.allocated += bytes;
  void* array = nullptr;
  if (settings.use_pool && bytes > 0) {
    const cudaStream_t stream = settings.stream;
    cuda::require_success(cudaMallocAsync(&array, bytes, stream));
    return {array, [stream](void* memory) { cudaFreeAsync(memory, stream); }};
  }
  cuda::require_success(cudaMalloc(&array, bytes));
  std::shared_ptr<void> memory(array, [](void* all) { cudaFree(all); });
  if (!leave_unwritten) {
    cuda::require_success(cudaMemsetAsync(array, 0xff, bytes, settings.stream));  // NaN
  }
  return memory;
}

void copy_to_gpu(const void* host, int64_t bytes, void* array) {
  const cudaStream_t stream = gpu_settings().stream;
  cuda::require_success(cudaMemcpyAsync(array, host, bytes, cudaMemcpyHostToDevice, stream));
  cuda::require_success(cudaStreamSynchronize(stream));
}

void copy_from_gpu(const void* array, int64_t bytes, void* host) {
  const cudaStream_t stream = gpu_settings().stream;
  cuda::require_success(cudaMemcpyAsync(host, array, bytes, cudaMemcpyDeviceToHost, stream));
  cuda::require_success(cudaStreamSynchronize(stream));
}
#endif

namespace {

py::array to_host(const DeviceArray& array) {
  py::array host(array.type, array.shape);
  copy_from_gpu(array.memory.get(), host.nbytes(), host.mutable_data());
  return host;
}

}  // namespace

void bind_device_array(py::module_& m) {
  py::class_<DeviceArray>(m, "DeviceArray", py::module_local(), "An array on the GPU.")
      .def_readonly("shape", &DeviceArray::shape)
      .def(
          "__array__",
          [](const DeviceArray& array, const py::object& dtype, const py::object&) {
            const py::object host = to_host(array);
            return dtype.is_none() ? host : host.attr("astype")(dtype);
          },
          py::arg("dtype") = py::none(), py::arg("copy") = py::none())
#ifndef DPMASK_EMULATED
      .def_property_readonly("__cuda_array_interface__",
                             [](const DeviceArray& array) {
                               py::dict interface;
                               interface["shape"] = py::tuple(py::cast(array.shape));
                               interface["typestr"] = array.type.attr("str");
                               interface["data"] = py::make_tuple(
                                   reinterpret_cast<uintptr_t>(array.memory.get()), false);
                               interface["version"] = 3;
                               interface["stream"] = py::none();
                               return interface;
                             })
#endif
      ;
}

}  // namespace dpmask
