// SPDX-License-Identifier: LGPL-3.0-or-later
// Atoms and forces on a device, and the environment matrix.
#pragma once

#include <algorithm>
#include <optional>

#include "op/kernels/environment.h"
#include "op/python/atoms.h"

namespace dpmask {

// Real atoms on a device, and their coordinates; RealAtoms::first stays the host's.
template <typename Device>
class AtomsOn {
 public:
  explicit AtomsOn(const Atoms& atoms)
      : host_(atoms.view()), slot_(host_.slot, host_.size), weight_(host_.weight, host_.size),
        group_(host_.group, host_.group == nullptr ? 0 : host_.size),
        coord_(atoms.coord(), 3 * atoms.nframes() * atoms.nslots()), nslots_(atoms.nslots()) {}

  RealAtoms view() const {
    RealAtoms atoms = host_;
    atoms.slot = slot_.data();
    atoms.weight = weight_.data();
    if (atoms.group != nullptr) atoms.group = group_.data();
    return atoms;
  }
  const double* coord() const { return coord_.data(); }
  int64_t nframes() const { return host_.nframes; }
  int64_t nslots() const { return nslots_; }

 private:
  RealAtoms host_;
  typename Device::template Copy<int64_t> slot_;
  typename Device::template Copy<double> weight_;
  typename Device::template Copy<int64_t> group_;
  typename Device::template Copy<double> coord_;
  int64_t nslots_;
};

// The weight gradient, too, if there are groups.
template <typename Device>
struct ForceArrays {
  explicit ForceArrays(const AtomsOn<Device>& atoms)
      : force(Device::template zeros<double>({atoms.nframes(), atoms.nslots(), 3})),
        virial(Device::template zeros<double>({atoms.nframes(), 9})),
        atom_virial(Device::template zeros<double>({atoms.nframes(), atoms.nslots(), 9})) {
    if (atoms.view().group == nullptr) return;
    weight_gradient = Device::template zeros<double>({atoms.nframes(), atoms.nslots()});
  }
  Forces view() {
    return {force.mutable_data(), virial.mutable_data(), atom_virial.mutable_data(),
            weight_gradient ? weight_gradient->mutable_data() : nullptr};
  }
  py::tuple tuple() const {
    if (weight_gradient) return py::make_tuple(force, virial, atom_virial, *weight_gradient);
    return py::make_tuple(force, virial, atom_virial);
  }
  typename Device::template Array<double> force, virial, atom_virial;
  std::optional<typename Device::template Array<double>> weight_gradient;
};

template <typename Device, typename Doubles = typename Device::template Array<double>>
ForceCotangents cotangents(const AtomsOn<Device>& atoms, const Doubles& force,
                           const Doubles& virial, const Doubles& atom_virial) {
  const int64_t nslots = atoms.nframes() * atoms.nslots();
  require(force.size() == 3 * nslots, "the cotangent of force must be [nframes, nslots, 3]");
  require(virial.size() == 9 * atoms.nframes(), "the cotangent of virial must be [nframes, 9]");
  require(atom_virial.size() == 9 * nslots,
          "the cotangent of atom_virial must be [nframes, nslots, 9]");
  return {force.data(), virial.data(), atom_virial.data()};
}

template <typename Device>
void bind_environment(py::module_& m) {
  using Doubles = typename Device::template Array<double>;
  const auto make_rows = [](const Atoms& atoms) {
    return Device::template make<double>({count_pairs(atoms.view()), 4});
  };
  m.def(
      "environment",
      [make_rows](const Atoms& given) {
        const AtomsOn<Device> atoms(given);
        Doubles R = make_rows(given);
        const Device device(1);
        auto&& call = device.call();
        environment(atoms.view(), atoms.coord(), R.mutable_data(), call);
        return R;
      },
      py::arg("atoms"));
  m.def(
      "environment_force",
      [](const Atoms& given, const Doubles& dR) {
        require(dR.size() == 4 * count_pairs(given.view()), "dR must have the shape [pairs, 4]");
        const AtomsOn<Device> atoms(given);
        ForceArrays<Device> out(atoms);
        const Device device(1);
        auto&& call = device.call();
        environment_force(atoms.view(), atoms.coord(), dR.data(), out.view(), call);
        return out.tuple();
      },
      py::arg("atoms"), py::arg("dR"));
  m.def(
      "environment_force_grad",
      [make_rows](const Atoms& given, const Doubles& force, const Doubles& virial,
                  const Doubles& atom_virial) {
        const AtomsOn<Device> atoms(given);
        const ForceCotangents by_forces = cotangents(atoms, force, virial, atom_virial);
        Doubles ddR = make_rows(given);
        const Device device(1);
        auto&& call = device.call();
        environment_force_grad(atoms.view(), atoms.coord(), by_forces, ddR.mutable_data(), call);
        return ddR;
      },
      py::arg("atoms"), py::arg("force"), py::arg("virial"), py::arg("atom_virial"));
}

}  // namespace dpmask
