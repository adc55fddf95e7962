// SPDX-License-Identifier: LGPL-3.0-or-later
// What is wrong with an atom, for Python: an exception that has it as data.
#pragma once

#include <pybind11/stl.h>

#include <exception>
#include <map>
#include <optional>

#include "op/kernels/atom_error.h"
#include "op/python/arrays.h"

namespace dpmask {

// What the caller calls the atoms: its number of each slot that it filled.
using NumberOfSlot = std::map<int64_t, int64_t>;

inline AtomFault renumbered(AtomFault fault, const NumberOfSlot& numbers) {
  fault.atom = numbers.at(fault.atom);
  if (fault.has_other()) fault.other = numbers.at(fault.other);
  return fault;
}

inline void bind_atom_fault(py::module_& m) {
  using Fault = AtomFault;
  py::class_<Fault>(m, "AtomFault", py::module_local(), "What is wrong with an atom of a batch.")
      .def_static("read", &Fault::read, py::arg("written"), "The reverse of `written`.")
      .def_readonly_static("KEY", &Fault::kKey, "Under which operators attach `written`.")
      .def_property_readonly("written", &Fault::written, "A line for programs.")
      .def_property_readonly("code", &Fault::name,
                             "\"mask\", \"type\", \"coordinate\", \"coincident\", \"weight\" or "
                             "\"group\".")
      .def_readonly("frame", &Fault::frame)
      .def_readonly("atom", &Fault::atom)
      .def_property_readonly(
          "other",
          [](const Fault& fault) {
            return fault.has_other() ? std::optional(fault.other) : std::nullopt;
          },
          "The second of two coincident atoms, or of two of a group; or None.")
      .def_property_readonly(
          "value",
          [](const Fault& fault) -> py::object {
            if (fault.code == Fault::Code::type) return py::int_(fault.type);
            return py::float_(fault.value);
          },
          "The mask, type or coordinate, or the distance of coincident atoms.")
      .def_property_readonly("what", &Fault::what, "In words, without a place.")
      .def_property_readonly("remedy", &Fault::remedy, "What the user can do.")
      .def_property_readonly("text", &Fault::text, "Both.")
      .def("message", &Fault::message, py::arg("names_frame") = true,
           "Both, after frame and atom, or after the atom alone.")
      .def("renumbered", &renumbered, py::arg("numbers"),
           "The same with other numbers of atoms, a dict from these to those.")
      .def(py::pickle([](const Fault& fault) { return fault.written(); },
                      [](const std::string& written) { return Fault::read(written); }));
}

// In the module m.
inline void bind_atom_error(py::module_& m) {
  bind_atom_fault(m);
  static const py::handle type =
      py::exception<AtomError>(m, "AtomError", PyExc_ValueError).release();
  type.attr("__doc__") = "An atom of a batch is bad; `fault` is the AtomFault.";
  py::register_local_exception_translator([](std::exception_ptr thrown) {
    try {
      if (thrown) std::rethrow_exception(thrown);
    } catch (const AtomError& error) {
      const py::object made = type(error.what());
      made.attr("fault") = error.fault;
      PyErr_SetObject(type.ptr(), made.ptr());
    }
  });
}

}  // namespace dpmask
