// SPDX-License-Identifier: LGPL-3.0-or-later
// The kernels on a GPU, with the interface of _kernels; arrays are NumPy's, or of the device, with
// __cuda_array_interface__ (CuPy, PyTorch), as results are.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

#include "cuda/common/allocation.h"
#include "cuda/common/current_gpu.h"
#include "cuda/common/memory.h"
#include "cuda/common/product.h"
#include "cuda/descriptor.h"
#include "cuda/embedding.h"
#include "cuda/environment.h"
#include "cuda/fitting.h"
#include "cuda/potential/potential.h"
#include "cuda/readout.h"
#include "cuda/series/fit_series.h"
#include "op/python/embedding.h"
#include "op/python/fitting.h"
#include "op/python/on_gpu.h"
#include "op/python/potential.h"

namespace dpmask {
namespace {

// What goes beyond the interface of _kernels, for tests.
void bind_common(py::module_& m) {
  m.def(
      "upload",
      [](const std::vector<int64_t>& numbers) {
        const int64_t size = static_cast<int64_t>(numbers.size());
        GpuArray<int64_t> array = OnGpu::make<int64_t>({size});
        cuda::upload(numbers.data(), size, array.mutable_data(), gpu_settings().stream);
        return array;
      },
      py::arg("numbers"));
  m.def(
      "clear",
      [](std::vector<GpuArray<double>> arrays, const std::vector<int64_t>& sizes) {
        cuda::clear(pointers(arrays), sizes, gpu_settings().stream);
        return arrays;
      },
      py::arg("arrays"), py::arg("sizes"));
}

template <typename T>
void bind_product(py::module_& m, const char* name) {
  using On = GpuArray<T>;
  using Optional = std::optional<On>;
  m.def(
      name,
      [](const On& left, const On& right, const Optional& left2, const Optional& right2,
         const Optional& bias, Optional add, int64_t rows, int64_t columns, int64_t depth,
         bool left_transposed, bool right_transposed, bool in_place) {
        const auto data = [](const Optional& array) { return array ? array->data() : nullptr; };
        using Factor = cuda::Factor<T>;
        On out = in_place ? *add : OnGpu::make<T>({rows, columns});
        const cuda::Product<T> product{
            rows,
            columns,
            depth,
            left_transposed ? Factor{left.data(), 1, rows} : Factor{left.data(), depth, 1},
            right_transposed ? Factor{right.data(), 1, depth} : Factor{right.data(), columns, 1},
            out.mutable_data(),
            data(bias),
            data(add),
            data(left2),
            data(right2)};
        GpuOfCall gpu;
        cuda::multiply<T>({product}, gpu.allocate<T>(cuda::product_workspace<T>()), gpu.stream());
        return out;
      },
      py::arg("left"), py::arg("right"), py::arg("left2"), py::arg("right2"), py::arg("bias"),
      py::arg("add"), py::kw_only(), py::arg("rows"), py::arg("columns"), py::arg("depth"),
      py::arg("left_transposed"), py::arg("right_transposed"), py::arg("in_place"));
}

}  // namespace
}  // namespace dpmask

PYBIND11_MODULE(DPMASK_MODULE, m) {
  using namespace dpmask;
  m.doc() = "The kernels of deepmd-mask on a GPU; op/kernels documents them.";
  bind_device_array(m);
  bind_real_atoms(m);
  bind_environment<OnGpu>(m);
  bind_embedding<float, OnGpu>(m, "Embedding32");
  bind_embedding<double, OnGpu>(m, "Embedding64");
  bind_fitting<float, OnGpu>(m, "Fitting32");
  bind_fitting<double, OnGpu>(m, "Fitting64");
  bind_contraction<float, OnGpu>(m, "32");
  bind_contraction<double, OnGpu>(m, "64");
  bind_common(m);
  bind_product<float>(m, "multiply32");
  bind_product<double>(m, "multiply64");
  m.def("allocated", &cuda::allocated_on_device, "Bytes allocated so far.");
  m.def("reason_against_gpu", &cuda::reason_against_gpu,
        "Why there is no GPU that these kernels can run on; empty if there is one.");
  bind_model(m);
  bind_potential(
      m,
      [](const std::vector<const ModelOfArrays*>& models, int64_t threads) {
        const std::vector<AnyModel> given = models_of(models);
        const py::gil_scoped_release released;
        return open_potential_on_gpu(given, threads);
      },
      py::arg("threads") = 0);
#ifdef DPMASK_EMULATED
  gpu_settings();  // names the stream
  m.def(
      "run_backwards", [](bool wish) { cuda::backwards = wish; }, py::arg("wish"),
      "Run the threads of a block, and the blocks, from the last to the first.");
#else
  m.def(
      "use_stream",
      [](uintptr_t stream) { gpu_settings().stream = reinterpret_cast<cudaStream_t>(stream); },
      py::arg("stream"), "Send all work to another stream from now on.");
  m.def(
      "use_pool", [](bool wish) { gpu_settings().use_pool = wish; }, py::arg("wish"),
      "Take memory from the driver's pool, as it is, which is faster.");
#endif
}
