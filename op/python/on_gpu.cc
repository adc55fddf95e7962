// SPDX-License-Identifier: LGPL-3.0-or-later
#include "op/python/on_gpu.h"

#include <cstdlib>

#include "cuda/common/allocation.h"

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

std::shared_ptr<void> allocate_on_gpu(int64_t bytes) {
#ifndef DPMASK_EMULATED
  const cudaStream_t stream = gpu_settings().stream;
  if (gpu_settings().use_pool && bytes > 0) {
    void* array = nullptr;
    cuda::require_success(cudaMallocAsync(&array, bytes, stream));
    return {array, [stream](void* memory) { cudaFreeAsync(memory, stream); }};
  }
#endif
  std::shared_ptr<void> memory = cuda::allocate_on_device(bytes);
#ifndef DPMASK_EMULATED
  // initcheck of compute-sanitizer can see what was never written only where nothing was.
  static const bool leave_unwritten = std::getenv("DPMASK_LEAVE_UNWRITTEN") != nullptr;
  if (!leave_unwritten) {
    cuda::require_success(cudaMemsetAsync(memory.get(), 0xff, bytes, stream));  // NaN
  }
#endif
  return memory;
}

void copy_to_gpu(const void* host, int64_t bytes, void* array) {
  cuda::copy_to_device(host, bytes, array, gpu_settings().stream);
  cuda::wait_for(gpu_settings().stream);
}

void copy_from_gpu(const void* array, int64_t bytes, void* host) {
  cuda::copy_to_host(array, bytes, host, gpu_settings().stream);
  cuda::wait_for(gpu_settings().stream);
}

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
