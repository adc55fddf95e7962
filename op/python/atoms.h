// SPDX-License-Identifier: LGPL-3.0-or-later
// The real atoms of NumPy's arrays, for the Python modules of both the CPU's and the CUDA kernels.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "op/kernels/atoms.h"
#include "op/python/arrays.h"
#include "op/python/atom_error.h"

namespace dpmask {

// The real atoms of a batch, with the coordinates that belong to them.
class Atoms {
 public:
  Atoms(Array<double> coord, Array<int32_t> type, Array<double> mask, int64_t ntypes,
        const std::optional<Array<int64_t>>& group)
      : coord_(std::move(coord)) {
    require(type.ndim() == 2, "type must have the shape [nframes, nslots]");
    nframes_ = type.shape(0);
    nslots_ = type.shape(1);
    ntypes_ = ntypes;
    require(ntypes >= 1 && ntypes <= kMostTypes,
            "ntypes must be between 1 and " + std::to_string(kMostTypes));
    require(coord_.size() == 3 * nframes_ * nslots_,
            "coord must have the shape [nframes, nslots, 3]");
    require(mask.size() == nframes_ * nslots_, "mask must have the shape [nframes, nslots]");
    require(!group || group->size() == nframes_ * nslots_,
            "group must have the shape [nframes, nslots]");
    const FoundAtoms found = find_real_atoms({nframes_, nslots_, ntypes, coord_.data(), type.data(),
                                              mask.data(), group ? group->data() : nullptr},
                                             *arena_);
    atoms_ = found.atoms;
    min_distance_ = found.min_distance;
  }

  const RealAtoms& view() const { return atoms_; }
  const double* coord() const { return coord_.data(); }
  int64_t nframes() const { return nframes_; }
  int64_t nslots() const { return nslots_; }
  double min_distance() const { return min_distance_; }
  Array<int64_t> slot() const { return Array<int64_t>(atoms_.size, atoms_.slot); }
  Array<int64_t> first() const { return Array<int64_t>(ntypes_ * nframes_ + 1, atoms_.first); }
  Array<double> weight() const { return Array<double>(atoms_.size, atoms_.weight); }
  Array<double> coordinates() const { return coord_; }
  int64_t ntypes() const { return ntypes_; }
  void set_weight(Array<double> weight) {
    require(weight.size() == atoms_.size, "weight must have one number for each real atom");
    double* copy = arena_->allocate<double>(atoms_.size);
    std::copy_n(weight.data(), atoms_.size, copy);
    atoms_.weight = copy;
  }

 private:
  Array<double> coord_;
  int64_t nframes_, nslots_, ntypes_;
  std::unique_ptr<Arena> arena_ = std::make_unique<Arena>();  // of atoms_
  RealAtoms atoms_;
  double min_distance_;
};

// In the module m.
inline void bind_real_atoms(py::module_& m) {
  bind_atom_error(m);
  py::class_<Atoms>(m, "RealAtoms", py::module_local(),
                    "The real atoms of padded frames, sorted by type, then frame, then slot.\n\n"
                    "Raises AtomError, which has frame, atom and value, where an atom is bad.")
      .def(py::init<Array<double>, Array<int32_t>, Array<double>, int64_t,
                    const std::optional<Array<int64_t>>&>(),
           py::arg("coord"), py::arg("type"), py::arg("mask"), py::arg("ntypes"),
           py::arg("group") = py::none())
      .def_property_readonly("slot", &Atoms::slot)
      .def_property_readonly("first", &Atoms::first)
      .def_property_readonly("weight", &Atoms::weight)
      .def_property_readonly("coord", &Atoms::coordinates)
      .def_property_readonly("ntypes", &Atoms::ntypes)
      .def_property_readonly("min_distance", &Atoms::min_distance)
      .def("set_weight", &Atoms::set_weight, py::arg("weight"));
}

}  // namespace dpmask
