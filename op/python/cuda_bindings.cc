// SPDX-License-Identifier: LGPL-3.0-or-later
// The CUDA kernels for anything with __cuda_array_interface__ (CuPy, PyTorch); emulated on the CPU,
// for NumPy's arrays. The caller makes every array, with the shapes of kernels.h, and names the
// stream.
#include "op/python/cuda_bindings.h"

#include "cuda/common/memory.h"
#include "cuda/descriptor.h"
#include "cuda/environment.h"
#include "cuda/series/fit_series.h"
#include "op/python/atoms_binding.h"

PYBIND11_MODULE(DPMASK_MODULE, m) {
  using namespace dpmask;
  using namespace dpmask::cuda;
  m.doc() = "The CUDA kernels of deepmd-mask; the folder cuda documents them.";
  bind_real_atoms(m);
  py::class_<DeviceAtoms>(m, "DeviceAtoms")
      .def(py::init<py::dict, std::vector<int64_t>, int64_t, int64_t, int64_t, int64_t>(),
           py::arg("arrays"), py::kw_only(), py::arg("first"), py::arg("nframes"),
           py::arg("nslots"), py::arg("ntypes"), py::arg("npairs"));
  m.def(
      "upload",
      [](const std::vector<int64_t>& numbers, const py::object& array, uintptr_t stream) {
        const int64_t size = static_cast<int64_t>(numbers.size());
        upload(numbers.data(), size, integers(array, "array", size), as_stream(stream));
      },
      py::arg("numbers"), py::arg("array"), py::arg("stream"));
  m.def(
      "clear",
      [](const py::list& arrays, const std::vector<int64_t>& sizes, uintptr_t stream) {
        clear(pointers<double>(arrays, sizes), sizes, as_stream(stream));
      },
      py::arg("arrays"), py::arg("sizes"), py::arg("stream"));
  m.def(
      "number_pairs",
      [](const DeviceAtoms& d, uintptr_t stream) {
        number_pairs(d.atoms, d.coord, d.pairs, as_stream(stream));
      },
      py::arg("atoms"), py::arg("stream"));
  m.def(
      "environment",
      [](const DeviceAtoms& d, const py::object& R, uintptr_t stream) {
        environment(d.atoms, d.pairs, d.coord, reals(R, "R", 4 * d.npairs), as_stream(stream));
      },
      py::arg("atoms"), py::arg("R"), py::arg("stream"));
  m.def(
      "environment_force",
      [](const DeviceAtoms& d, const py::object& dR, const py::object& dr, const py::object& force,
         const py::object& virial, const py::object& atom_virial, uintptr_t stream) {
        environment_force(d.atoms, d.pairs, d.coord, reals(dR, "dR", 4 * d.npairs),
                          reals(dr, "dr", 3 * d.npairs),
                          d.forces<Forces>(force, virial, atom_virial), as_stream(stream));
      },
      py::arg("atoms"), py::arg("dR"), py::arg("dr"), py::arg("force"), py::arg("virial"),
      py::arg("atom_virial"), py::arg("stream"));
  m.def(
      "environment_force_grad",
      [](const DeviceAtoms& d, const py::object& force, const py::object& virial,
         const py::object& atom_virial, const py::object& ddR, uintptr_t stream) {
        environment_force_grad(d.atoms, d.pairs, d.coord,
                               d.forces<ForceCotangents>(force, virial, atom_virial),
                               reals(ddR, "ddR", 4 * d.npairs), as_stream(stream));
      },
      py::arg("atoms"), py::arg("force"), py::arg("virial"), py::arg("atom_virial"), py::arg("ddR"),
      py::arg("stream"));
  m.attr("MOST_PANELS") = kMostPanels;
  bind_embedding<float>(m, "32");
  bind_embedding<double>(m, "64");
  bind_fitting<float>(m, "32");
  bind_fitting<double>(m, "64");
#ifdef DPMASK_EMULATED
  m.def(
      "run_backwards", [](bool wish) { backwards = wish; }, py::arg("wish"),
      "Run the threads of a block, and the blocks, from the last to the first.");
  m.def(
      "expect_stream", [](uintptr_t stream) { expected_stream = as_stream(stream); },
      py::arg("stream"), "Raise an error from now on where a kernel is on another stream.");
#endif
}
