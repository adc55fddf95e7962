// SPDX-License-Identifier: LGPL-3.0-or-later
// The CUDA kernels for anything with __cuda_array_interface__ (CuPy, PyTorch). The caller makes
// every array, with the shapes of kernels.h, and names the stream.
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>

#include "kernels.h"

namespace py = pybind11;

namespace dpmask::cuda {
namespace {

// The device pointer of an array of a given type and number of elements.
template <typename T>
T* pointer(const py::object& array, const char* name, const char* type, int64_t elements) {
  const py::dict interface = array.attr("__cuda_array_interface__");
  int64_t size = 1;
  for (const py::handle extent : interface["shape"].cast<py::tuple>()) {
    size *= extent.cast<int64_t>();
  }
  if (interface["typestr"].cast<std::string>() != type || size != elements) {
    throw std::invalid_argument(std::string(name) + " must have " + std::to_string(elements) +
                                " elements of type " + type);
  }
  if (interface.contains("strides") && !interface["strides"].is_none()) {
    throw std::invalid_argument(std::string(name) + " must be contiguous");
  }
  return reinterpret_cast<T*>(interface["data"].cast<py::tuple>()[0].cast<uintptr_t>());
}

double* reals(const py::object& array, const char* name, int64_t elements) {
  return pointer<double>(array, name, "<f8", elements);
}
int64_t* integers(const py::object& array, const char* name, int64_t elements) {
  return pointer<int64_t>(array, name, "<i8", elements);
}

cudaStream_t as_stream(uintptr_t stream) { return reinterpret_cast<cudaStream_t>(stream); }

void check_launch() {
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}

// Real atoms and pair numbers on the device; keeps the arrays alive.
struct DeviceAtoms {
  DeviceAtoms(py::dict arrays_, int64_t nframes, int64_t nslots_, int64_t ntypes, int64_t size,
              int64_t npairs_)
      : arrays(std::move(arrays_)), nslots(nslots_), npairs(npairs_) {
    atoms = {nframes,
             ntypes,
             size,
             integers(arrays["slot"], "slot", size),
             reals(arrays["weight"], "weight", size),
             integers(arrays["first"], "first", ntypes * nframes + 1)};
    pairs = {integers(arrays["frame"], "frame", size), integers(arrays["local"], "local", size),
             integers(arrays["rows"], "rows", size),
             integers(arrays["rows_first"], "rows_first", nframes + 1),
             integers(arrays["pair_first"], "pair_first", nframes + 1)};
    coord = reals(arrays["coord"], "coord", 3 * nframes * nslots);
  }
  template <typename Struct>
  Struct forces(const py::object& force, const py::object& virial,
                const py::object& atom_virial) const {
    return {reals(force, "force", 3 * atoms.nframes * nslots),
            reals(virial, "virial", 9 * atoms.nframes),
            reals(atom_virial, "atom_virial", 9 * atoms.nframes * nslots)};
  }

  py::dict arrays;
  int64_t nslots, npairs;
  RealAtoms atoms;
  PairNumbers pairs;
  const double* coord;
};

}  // namespace
}  // namespace dpmask::cuda

PYBIND11_MODULE(_cuda_kernels, m) {
  using namespace dpmask;
  using namespace dpmask::cuda;
  m.doc() = "The CUDA kernels of deepmd-mask; cuda/kernels.h documents them.";
  py::class_<DeviceAtoms>(m, "DeviceAtoms")
      .def(py::init<py::dict, int64_t, int64_t, int64_t, int64_t, int64_t>(), py::arg("arrays"),
           py::kw_only(), py::arg("nframes"), py::arg("nslots"), py::arg("ntypes"), py::arg("size"),
           py::arg("npairs"));
  m.def(
      "number_pairs",
      [](const DeviceAtoms& d, uintptr_t stream) {
        number_pairs(d.atoms, d.pairs, as_stream(stream));
        check_launch();
      },
      py::arg("atoms"), py::arg("stream"));
  m.def(
      "environment",
      [](const DeviceAtoms& d, const py::object& R, uintptr_t stream) {
        environment(d.atoms, d.pairs, d.coord, reals(R, "R", 4 * d.npairs), as_stream(stream));
        check_launch();
      },
      py::arg("atoms"), py::arg("R"), py::arg("stream"));
  m.def(
      "environment_force",
      [](const DeviceAtoms& d, const py::object& dR, const py::object& dr, const py::object& force,
         const py::object& virial, const py::object& atom_virial, uintptr_t stream) {
        environment_force(d.atoms, d.pairs, d.coord, reals(dR, "dR", 4 * d.npairs),
                          reals(dr, "dr", 3 * d.npairs),
                          d.forces<Forces>(force, virial, atom_virial), as_stream(stream));
        check_launch();
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
        check_launch();
      },
      py::arg("atoms"), py::arg("force"), py::arg("virial"), py::arg("atom_virial"), py::arg("ddR"),
      py::arg("stream"));
}
