// SPDX-License-Identifier: LGPL-3.0-or-later
// The descriptor and the fitting nets on a device.
#pragma once

#include <pybind11/stl.h>

#include <tuple>
#include <type_traits>
#include <utility>

#include "op/kernels/activation_names.h"
#include "op/kernels/descriptor.h"
#include "op/kernels/fitting.h"
#include "op/kernels/readout.h"
#include "op/python/environment.h"

namespace dpmask {

template <typename OneArray>
auto contraction(const OneArray& X, int64_t M2) {
  using T = std::remove_const_t<std::remove_pointer_t<decltype(X.data())>>;
  require(X.ndim() == 3 && X.shape(1) == 4, "X must have the shape [size, 4, M1]");
  require(M2 >= 1 && M2 <= X.shape(2), "M2 must be between 1 and M1");
  return Contraction<T>{X.shape(0), X.shape(2), M2};
}

// Fitting<T> with the arrays that it points to.
template <typename T, typename Device>
class FittingOfArrays {
 public:
  using On = typename Device::template Array<T>;
  using Doubles = typename Device::template Array<double>;

  FittingOfArrays(Array<int64_t> type_first, On D, std::vector<int64_t> neuron, bool resnet_dt,
                  const std::string& activation, std::vector<On> parameters, int nthreads)
      : device_(nthreads), type_first_(std::move(type_first)), D_(std::move(D)),
        parameters_(std::move(parameters)), fitting_{nets_, nullptr, nullptr} {
    require(type_first_.ndim() == 1 && type_first_.size() >= 2 && type_first_.at(0) == 0,
            "type_first must begin with 0");
    require(D_.ndim() == 2, "D must have the shape [size, ninputs]");
    FittingNets<T>& nets = nets_;
    nets.ntypes = type_first_.size() - 1;
    for (int64_t t = 0; t < nets.ntypes; ++t) {
      require(type_first_.at(t) <= type_first_.at(t + 1), "type_first must not decrease");
    }
    require(D_.shape(0) == type_first_.at(nets.ntypes), "D must have type_first[-1] rows");
    for (int64_t width : neuron) require(width >= 1, "neuron must be positive");
    nets.ninputs = D_.shape(1);
    nets.neuron = std::move(neuron);
    nets.resnet_dt = resnet_dt;
    std::tie(nets.activation, nets.threshold) = activation_named(activation);
    const std::vector<int64_t> sizes = nets.sizes();
    require(parameters_.size() == nets.ntypes * sizes.size(),
            "parameters must hold " + std::to_string(sizes.size()) + " arrays for each type");
    require_sizes(parameters_, sizes);
    for (const On& parameter : parameters_) nets.parameters.push_back(parameter.data());
    fitting_.type_first = type_first_.data();
    fitting_.D = D_.data();
  }

  py::tuple energies() const {
    On e = make({fitting_.size()}), A = like_D(), z = make({fitting_.z_size()});
    auto&& call = device_.call();
    dpmask::energies(fitting_, e.mutable_data(), A.mutable_data(), z.mutable_data(), call);
    return py::make_tuple(e, A, z);
  }
  // D comes from X; the one given tells its shape.
  py::tuple read_out(const Atoms& given, const On& X, int64_t M2, const Doubles& bias) const {
    const Contraction<T> shape = contraction(X, M2);
    require(shape.size == fitting_.size() && shape.M1 * M2 == fitting_.nets.ninputs,
            "X must have a row for each of D, and M1 * M2 columns of D");
    require(given.view().size == shape.size && bias.size() == fitting_.nets.ntypes,
            "there must be as many atoms as rows of X, and a bias for each type");
    const AtomsOn<Device> atoms(given);
    On D = like_D(), A_D = like_D(), z = make({fitting_.z_size()}), e = make({shape.size});
    On A = make(shape_of(X));
    Doubles energy = Device::template make<double>({atoms.nframes()});
    Doubles atom_energy = Device::template zeros<double>({atoms.nframes(), atoms.nslots()});
    const Readout<T> readout = {atoms.view(),       shape,           fitting_, D.mutable_data(),
                                A_D.mutable_data(), z.mutable_data()};
    auto&& call = device_.call();
    dpmask::read_out(readout, X.data(), e.mutable_data(), A.mutable_data(), call);
    spread_energies<T>(atoms.view(), bias.data(), e.data(),
                       {energy.mutable_data(), atom_energy.mutable_data()}, call);
    return py::make_tuple(energy, atom_energy, A);
  }
  py::tuple energies_grad(const On& z, const On& de, const On& dA) const {
    require(z.size() == fitting_.z_size() && de.size() == fitting_.size() && dA.size() == D_.size(),
            "z, de and dA must be shaped as energies returns them");
    On dD = like_D();
    std::vector<On> grads;
    for (const On& parameter : parameters_) grads.push_back(make(shape_of(parameter)));
    auto&& call = device_.call();
    dpmask::energies_grad(fitting_, z.data(), de.data(), dA.data(), dD.mutable_data(),
                          pointers(grads), call);
    return py::make_tuple(dD, grads);
  }

 private:
  static On make(const Shape& shape) { return Device::template make<T>(shape); }
  On like_D() const { return make(shape_of(D_)); }

  Device device_;
  Array<int64_t> type_first_;
  On D_;
  std::vector<On> parameters_;
  FittingNets<T> nets_;
  Fitting<T> fitting_;
};

template <typename T, typename Device>
void bind_fitting(py::module_& m, const char* name) {
  using F = FittingOfArrays<T, Device>;
  using On = typename F::On;
  py::class_<F>(m, name, py::module_local(),
                "Atomic energies, their derivative by D, and the gradient of both.")
      .def(py::init<Array<int64_t>, On, std::vector<int64_t>, bool, const std::string&,
                    std::vector<On>, int>(),
           py::arg("type_first"), py::arg("D"), py::kw_only(), py::arg("neuron"),
           py::arg("resnet_dt"), py::arg("activation"), py::arg("parameters"),
           py::arg("threads") = 1)
      .def("energies", &F::energies)
      .def("read_out", &F::read_out, py::arg("atoms"), py::arg("X"), py::arg("M2"), py::arg("bias"))
      .def("energies_grad", &F::energies_grad, py::arg("z"), py::arg("de"), py::arg("dA"));
}

template <typename T, typename Device>
void bind_contraction(py::module_& m, const std::string& bits) {
  using On = typename Device::template Array<T>;
  const auto nthreads = py::arg("threads") = 1;
  m.def(("contract" + bits).c_str(),
        [](const On& X, const On& Y, int64_t M2, int nthreads) {
          const Contraction<T> shape = contraction(X, M2);
          require(Y.size() == X.size(), "Y must have the shape of X");
          On B = Device::template make<T>({shape.size, shape.M1, M2});
          const Device device(nthreads);
          auto&& call = device.call();
          contract(shape, X.data(), Y.data(), B.mutable_data(), call);
          return B;
        },
        py::arg("X"), py::arg("Y"), py::arg("M2"), nthreads);
  m.def(("contract_reverse" + bits).c_str(),
        [](const On& Y, const On& gB, int64_t M2, int nthreads) {
          const Contraction<T> shape = contraction(Y, M2);
          require(gB.size() == shape.size * shape.M1 * M2, "gB must have the shape [size, M1, M2]");
          On gX = Device::template make<T>(shape_of(Y));
          const Device device(nthreads);
          auto&& call = device.call();
          contract_reverse(shape, Y.data(), gB.data(), gX.mutable_data(), call);
          return gX;
        },
        py::arg("Y"), py::arg("gB"), py::arg("M2"), nthreads);
}

}  // namespace dpmask
