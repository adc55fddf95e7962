// SPDX-License-Identifier: LGPL-3.0-or-later
// The potential for NumPy, whatever its device.
#pragma once

#include <pybind11/stl.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>

#include "op/kernels/atom_error.h"
#include "op/potential/potential.h"
#include "op/potential/sel_bound.h"
#include "op/python/arrays.h"
#include "op/python/without_lock.h"

namespace dpmask {

template <typename T>
Aligned<T> aligned(const Array<T>& array) {
  return {array.data(), array.data() + array.size()};
}

template <typename T>
std::vector<Aligned<T>> all_aligned(const py::list& arrays) {
  std::vector<Aligned<T>> all;
  for (const py::handle& one : arrays) {
    const auto array = Array<T>::ensure(one);
    require(static_cast<bool>(array), "parameters must be arrays of numbers");
    all.push_back(aligned(array));
  }
  return all;
}

template <typename Number>
std::vector<Number> vector_of(const Array<Number>& array) {
  return {array.data(), array.data() + array.size()};
}

using TableArrays = std::tuple<Array<int64_t>, Array<double>, py::array>;

// The arguments of _kernels.Model, but for the precision in which numbers are given.
struct ModelArguments {
  double n;
  int64_t M2;
  std::vector<int32_t> net;
  NetShape embedding;
  py::list parameters;
  std::optional<TableArrays> table;
  std::optional<double> min_distance;
  NetShape fitting;
  py::list fitting_parameters;
  Array<double> bias;
  bool is_mixed;

  template <typename T>
  AnyModel model() const {
    auto made = std::make_shared<Model<T>>();
    made->n = n;
    made->M2 = M2;
    made->net = net;
    made->embedding = embedding;
    made->parameters = all_aligned<T>(parameters);
    if (table) {
      const auto& [first, panels, C] = *table;
      made->table = {vector_of(first), vector_of(panels), aligned<T>(C)};
    }
    made->min_distance = min_distance;
    made->fitting = fitting;
    made->fitting_parameters = all_aligned<T>(fitting_parameters);
    made->bias = vector_of(bias);
    made->is_mixed = is_mixed;
    made->check();
    return made;
  }
};

// AnyModel as a class of Python.
struct ModelOfArrays {
  AnyModel model;
};

inline void bind_model(py::module_& m) {
  py::class_<ModelOfArrays>(m, "Model", py::module_local(),
                            "A model, whose arrays are copied; op/potential/model.h says what they "
                            "are. Raises ValueError if anything does not fit.")
      .def(py::init([](const std::string& precision, double n, int64_t M2, std::vector<int32_t> net,
                       std::vector<int64_t> neuron, bool resnet_dt, const std::string& activation,
                       const py::list& parameters, const std::optional<TableArrays>& table,
                       std::optional<double> min_distance, std::vector<int64_t> fitting_neuron,
                       bool fitting_resnet_dt, const std::string& fitting_activation,
                       const py::list& fitting_parameters, const Array<double>& bias) {
             require(precision == "float64" || precision == "float32" || precision == "mixed",
                     "precision must be \"float64\", \"float32\" or \"mixed\", not \"" + precision +
                         "\"");
             const ModelArguments given = {
                 n,
                 M2,
                 std::move(net),
                 {std::move(neuron), resnet_dt, activation},
                 parameters,
                 table,
                 min_distance,
                 {std::move(fitting_neuron), fitting_resnet_dt, fitting_activation},
                 fitting_parameters,
                 bias,
                 precision == "mixed"};
             return ModelOfArrays{precision == "float32" ? given.model<float>()
                                                         : given.model<double>()};
           }),
           py::kw_only(), py::arg("precision"), py::arg("n"), py::arg("M2"), py::arg("net"),
           py::arg("neuron"), py::arg("resnet_dt"), py::arg("activation"), py::arg("parameters"),
           py::arg("table"), py::arg("min_distance"), py::arg("fitting_neuron"),
           py::arg("fitting_resnet_dt"), py::arg("fitting_activation"),
           py::arg("fitting_parameters"), py::arg("bias"));
}

// Types of an array as kernels take them; those out of range stay out of any type map.
inline std::vector<int32_t> in_range(const Array<int64_t>& types) {
  using Limits = std::numeric_limits<int32_t>;
  std::vector<int32_t> all(types.size());
  std::transform(types.data(), types.data() + types.size(), all.begin(), [](int64_t type) {
    return static_cast<int32_t>(std::clamp<int64_t>(type, Limits::min(), Limits::max()));
  });
  return all;
}

// Evaluates; an error names the type that was given.
inline void evaluate_frames(Potential& potential, const Frames& frames, const Results& results,
                            const int64_t* given) {
  try {
    without_lock([&] { potential.evaluate(frames, results); });
  } catch (const AtomError& error) {
    AtomFault fault = error.fault;
    if (fault.code == AtomFault::Code::type)
      fault.type = given[fault.frame * frames.natoms + fault.atom];
    throw AtomError(fault);
  }
}

// Energy, energies, forces, virial and atomic virials, the last two None unless wanted; with groups
// the weight gradient, too.
inline py::tuple evaluate(Potential& potential, const Array<int64_t>& types,
                          const Array<double>& positions,
                          const std::optional<Array<double>>& weights, bool virial,
                          const std::optional<Array<int64_t>>& groups) {
  require(types.ndim() == 2, "types must have the shape [nframes, natoms]");
  const int64_t nframes = types.shape(0), natoms = types.shape(1), nmodels = potential.nmodels();
  require(shape_of(positions) == Shape{nframes, natoms, 3},
          "positions must have the shape [nframes, natoms, 3]");
  require(!weights || shape_of(*weights) == shape_of(types),
          "weights must have the shape of types");
  require(!groups || shape_of(*groups) == shape_of(types), "groups must have the shape of types");
  Array<double> energy({nmodels, nframes}), energies({nmodels, nframes, natoms});
  Array<double> forces({nmodels, nframes, natoms, int64_t{3}});
  std::optional<Array<double>> of_frame, of_atom, by_weight;
  if (virial) {
    of_frame = Array<double>({nmodels, nframes, int64_t{9}});
    of_atom = Array<double>({nmodels, nframes, natoms, int64_t{9}});
  }
  if (groups) by_weight = Array<double>({nmodels, nframes, natoms});
  const std::vector<int32_t> kernels_types = in_range(types);
  const Frames frames = {nframes,
                         natoms,
                         kernels_types.data(),
                         positions.data(),
                         weights ? weights->data() : nullptr,
                         groups ? groups->data() : nullptr};
  const Results results = {energy.mutable_data(),
                           energies.mutable_data(),
                           forces.mutable_data(),
                           of_frame ? of_frame->mutable_data() : nullptr,
                           of_atom ? of_atom->mutable_data() : nullptr,
                           by_weight ? by_weight->mutable_data() : nullptr};
  evaluate_frames(potential, frames, results, types.data());
  if (by_weight) return py::make_tuple(energy, energies, forces, of_frame, of_atom, *by_weight);
  return py::make_tuple(energy, energies, forces, of_frame, of_atom);
}

// open(models, options...) opens them on the device of the module m.
template <typename Open, typename... Options>
void bind_potential(py::module_& m, Open&& open, const Options&... options) {
  py::class_<Potential>(m, "Potential", py::module_local(),
                        "Opened models; several of one number of types are a committee.")
      .def(py::init(open), py::arg("models"), options...)
      .def_property_readonly("ntypes", &Potential::ntypes)
      .def_property_readonly("threads", &Potential::threads)
      .def("evaluate", &evaluate, py::arg("types"), py::arg("positions"),
           py::arg("weights") = py::none(), py::arg("virial") = false,
           py::arg("groups") = py::none(),
           "types [nframes, natoms], positions [nframes, natoms, 3] and weights, the mask, "
           "[nframes, natoms], in any order; groups [nframes, natoms] let weights be fractions."
           "\n\nReturns energy [nmodels, nframes], energies "
           "[nmodels, nframes, natoms], forces [nmodels, nframes, natoms, 3] and, if asked for, "
           "virial [nmodels, nframes, 9] and atom_virial [nmodels, nframes, natoms, 9], or None; "
           "with "
           "groups also weight_gradient [nmodels, nframes, natoms].\n"
           "Raises AtomError, which has frame, atom and value, where an atom is bad.");
}

inline void bind_sel_bound(py::module_& m) {
  py::class_<SelBound>(m, "SelBound", py::module_local(),
                       "The most real atoms of each type that models were trained for.")
      .def(py::init<std::vector<int64_t>, std::vector<std::string>>(), py::arg("sel"),
           py::arg("type_map"))
      .def(
          "warning",
          [](SelBound& bound, const Array<int64_t>& types,
             const std::optional<Array<double>>& weights) {
            if (bound.has_warned()) return std::string();
            require(types.ndim() == 2, "types must have the shape [nframes, natoms]");
            require(!weights || shape_of(*weights) == shape_of(types),
                    "weights must have the shape of types");
            const std::vector<int32_t> kernels_types = in_range(types);
            return bound.warning({types.shape(0), types.shape(1), kernels_types.data(), nullptr,
                                  weights ? weights->data() : nullptr});
          },
          py::arg("types"), py::arg("weights") = py::none(),
          "What to warn of, after an evaluation of these arrays; empty mostly, and always once "
          "there was something.");
}

inline std::vector<AnyModel> models_of(const std::vector<const ModelOfArrays*>& given) {
  std::vector<AnyModel> models;
  for (const ModelOfArrays* one : given) {
    require(one != nullptr, "None is no model");
    models.push_back(one->model);
  }
  return models;
}

}  // namespace dpmask
