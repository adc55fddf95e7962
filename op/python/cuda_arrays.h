// SPDX-License-Identifier: LGPL-3.0-or-later
// Arrays of Python on the device, as pointers.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cuda/common/pairs.h"

namespace dpmask::cuda {

namespace py = pybind11;

#ifdef DPMASK_EMULATED
constexpr const char* kInterface = "__array_interface__";
#else
constexpr const char* kInterface = "__cuda_array_interface__";
#endif

template <typename T>
const char* type_of();
template <>
inline const char* type_of<double>() {
  return "<f8";
}
template <>
inline const char* type_of<float>() {
  return "<f4";
}
template <>
inline const char* type_of<int64_t>() {
  return "<i8";
}
template <>
inline const char* type_of<int32_t>() {
  return "<i4";
}

// The device pointer of an array of a given type and number of elements.
template <typename T>
T* pointer(const py::handle& array, const std::string& name, int64_t elements) {
  const py::dict interface = array.attr(kInterface);
  int64_t size = 1;
  for (const py::handle extent : interface["shape"].cast<py::tuple>()) {
    size *= extent.cast<int64_t>();
  }
  if (interface["typestr"].cast<std::string>() != type_of<T>() || size != elements) {
    throw std::invalid_argument(name + " must have " + std::to_string(elements) +
                                " elements of type " + type_of<T>());
  }
  if (interface.contains("strides") && !interface["strides"].is_none()) {
    throw std::invalid_argument(name + " must be contiguous");
  }
  return reinterpret_cast<T*>(interface["data"].cast<py::tuple>()[0].cast<uintptr_t>());
}

inline double* reals(const py::handle& array, const char* name, int64_t elements) {
  return pointer<double>(array, name, elements);
}
inline int64_t* integers(const py::handle& array, const char* name, int64_t elements) {
  return pointer<int64_t>(array, name, elements);
}

// The arrays of all nets, each of which has arrays of the given sizes.
template <typename T>
std::vector<T*> pointers(const py::list& arrays, const std::vector<int64_t>& sizes) {
  std::vector<T*> all;
  for (const py::handle array : arrays) {
    const std::string name = "parameter " + std::to_string(all.size());
    all.push_back(pointer<T>(array, name, sizes[all.size() % sizes.size()]));
  }
  return all;
}

inline cudaStream_t as_stream(uintptr_t stream) { return reinterpret_cast<cudaStream_t>(stream); }

// Real atoms and pair numbers on the device; keeps the arrays alive.
struct DeviceAtoms {
  DeviceAtoms(py::dict arrays_, std::vector<int64_t> first_, int64_t nframes, int64_t nslots_,
              int64_t ntypes, int64_t npairs_)
      : arrays(std::move(arrays_)), first(std::move(first_)), nslots(nslots_), npairs(npairs_) {
    if (static_cast<int64_t>(first.size()) != ntypes * nframes + 1) {
      throw std::invalid_argument("first must have ntypes * nframes + 1 entries");
    }
    const int64_t size = first.back();
    atoms = {nframes,
             ntypes,
             size,
             integers(arrays["slot"], "slot", size),
             reals(arrays["weight"], "weight", size),
             integers(arrays["first"], "first", ntypes * nframes + 1)};
    pairs = {integers(arrays["type"], "type", size),
             integers(arrays["frame"], "frame", size),
             integers(arrays["local"], "local", size),
             integers(arrays["rows"], "rows", size),
             reals(arrays["position"], "position", 4 * size),
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
  std::vector<int64_t> first;  // the host's copy of RealAtoms::first
  int64_t nslots, npairs;
  RealAtoms atoms;
  PairNumbers pairs;
  const double* coord;
};

}  // namespace dpmask::cuda
