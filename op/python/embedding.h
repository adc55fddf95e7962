// SPDX-License-Identifier: LGPL-3.0-or-later
// The embedding on a device.
#pragma once

#include <pybind11/stl.h>

#include <tuple>
#include <utility>

#include "op/kernels/activation_names.h"
#include "op/kernels/embedding.h"
#include "op/kernels/most_panels.h"
#include "op/kernels/series.h"
#include "op/python/environment.h"

namespace dpmask {

// Embedding<T> with the arrays that it points to.
template <typename T, typename Device>
class EmbeddingOfArrays {
 public:
  template <typename Number>
  using On = typename Device::template Array<Number>;
  using Doubles = On<double>;

  EmbeddingOfArrays(const Atoms& atoms, std::vector<int64_t> neuron, bool resnet_dt,
                    const std::string& activation, std::vector<int32_t> net,
                    std::vector<On<T>> parameters, double n, int nthreads)
      : device_(nthreads), atoms_(atoms), parameters_(std::move(parameters)),
        embedding_{atoms_.view(), atoms_.coord(), nets_, {}, n} {
    nets_.neuron = std::move(neuron);
    nets_.resnet_dt = resnet_dt;
    std::tie(nets_.activation, nets_.threshold) = activation_named(activation);
    nets_.net = std::move(net);
    for (const On<T>& parameter : parameters_) nets_.parameters.push_back(parameter.data());
    check();
    find_series();
  }

  // Lets the device choose the panels, as when the object was made.
  void find_series() {
    const int64_t M1 = embedding_.nets.neuron.back();
    auto&& call = device_.call();
    const AllocateSeries<T> allocate = [&](const std::vector<int64_t>& first) -> SeriesMemory<T> {
      first_ = first;
      panels_ = Device::template make<double>({first.back(), 2});
      C_ = Device::template make<T>({first.back(), kTerms, M1});
      return {panels_.mutable_data(), C_.mutable_data()};
    };
    fit_series(embedding_, allocate, call);
    set_series();
  }

  // Another series, as fit_table returns it, in the place of the batch's own.
  void use_table(const Array<int64_t>& first, const Doubles& panels, const On<T>& C) {
    const int64_t npanels = panels.size() / 2;
    const int64_t nnets = embedding_.series.nnets;
    require(first.size() == nnets + 1 && first.at(0) == 0 && first.at(nnets) == npanels,
            "first must have an entry for each net and end with the number of panels");
    for (int64_t net = 0; net < nnets; ++net) {
      require(first.at(net) <= first.at(net + 1), "first must not decrease");
    }
    require(panels.size() == 2 * npanels, "panels must have the shape [npanels, 2]");
    require(C.size() == npanels * kTerms * embedding_.nets.neuron.back(),
            "C must have the shape [npanels, 16, M1]");
    first_.assign(first.data(), first.data() + first.size());
    panels_ = Device::copy(panels);
    C_ = Device::copy(C);
    set_series();
  }
  std::vector<int64_t> npanels() const {
    std::vector<int64_t> all;
    for (size_t net = 0; net + 1 < first_.size(); ++net) {
      all.push_back(first_[net + 1] - first_[net]);
    }
    return all;
  }
  std::vector<int64_t> most_panels() const { return dpmask::most_panels(embedding_); }
  // first, panels and C of the series in use.
  py::tuple series() const {
    return py::make_tuple(Array<int64_t>(first_.size(), first_.data()), Device::copy(panels_),
                          Device::copy(C_));
  }
  On<T> embed() const {
    On<T> X = like_X();
    auto&& call = device_.call();
    dpmask::embed(embedding_, X.mutable_data(), call);
    return X;
  }
  std::vector<On<T>> embed_grad(const On<T>& dX) const {
    require_X(dX);
    return gradients([&](const NetGradients<T>& by_nets, auto& call) {
      dpmask::embed_grad(embedding_, dX.data(), by_nets, call);
    });
  }
  py::tuple force(const On<T>& A) const {
    require_X(A);
    ForceArrays<Device> out(atoms_);
    auto&& call = device_.call();
    dpmask::force(embedding_, A.data(), out.view(), call);
    return out.tuple();
  }
  // X, and what force gives: in one, as an evaluation has them.
  py::tuple embed_and_force(const On<T>& A) const {
    require_X(A);
    On<T> X = like_X();
    ForceArrays<Device> out(atoms_);
    auto&& call = device_.call();
    const auto has_A = [] {};
    dpmask::embed_and_force(embedding_, X.mutable_data(), Callback<>(has_A), A.data(), out.view(),
                            call);
    return py::make_tuple(X) + out.tuple();
  }
  py::tuple force_grad(const On<T>& A, const Doubles& force, const Doubles& virial,
                       const Doubles& atom_virial) const {
    require_X(A);
    const ForceCotangents given = cotangents(atoms_, force, virial, atom_virial);
    On<T> dA = like_X();
    const std::vector<On<T>> grads = gradients([&](const NetGradients<T>& by_nets, auto& call) {
      dpmask::force_grad(embedding_, A.data(), given, dA.mutable_data(), by_nets, call);
    });
    return py::make_tuple(dA, grads);
  }

 private:
  // The gradient by all parameters: what a kernel finds for nets without a series, and what its dC
  // gives for those with one.
  template <typename Kernel>
  std::vector<On<T>> gradients(Kernel&& kernel) const {
    std::vector<On<T>> direct = like_parameters(), by_series = like_parameters();
    On<T> dC = Device::template make<T>(shape_of(C_));
    auto&& call = device_.call();
    kernel(NetGradients<T>{dC.mutable_data(), pointers(direct)}, call);
    fit_series_grad(embedding_.nets, embedding_.series, dC.data(), pointers(by_series), call);
    for (size_t p = 0; p < direct.size(); ++p) Device::add(by_series[p], &direct[p]);
    return direct;
  }
  std::vector<On<T>> like_parameters() const {
    std::vector<On<T>> all;
    for (const On<T>& array : parameters_) all.push_back(Device::template make<T>(shape_of(array)));
    return all;
  }
  void set_series() {
    embedding_.series = {static_cast<int64_t>(first_.size()) - 1, first_.data(), panels_.data(),
                         C_.data()};
  }
  void check() const {
    const EmbeddingNets<T>& nets = embedding_.nets;
    const int64_t ntypes = embedding_.atoms.ntypes;
    require(!nets.neuron.empty(), "neuron must name at least one layer");
    for (int64_t width : nets.neuron) require(width >= 1, "neuron must be positive");
    require(embedding_.n > 0, "n must be positive");
    require(static_cast<int64_t>(nets.net.size()) == ntypes * ntypes,
            "net must have ntypes * ntypes entries");
    const std::vector<int64_t> sizes = nets.sizes();
    require(parameters_.size() % sizes.size() == 0,
            "parameters must hold " + std::to_string(sizes.size()) + " arrays for each net");
    const int64_t nnets = static_cast<int64_t>(parameters_.size() / sizes.size());
    for (int32_t net : nets.net) {
      require(net >= -1 && net < nnets, "net " + std::to_string(net) + " has no parameters");
    }
    require_sizes(parameters_, sizes);
  }
  void require_X(const On<T>& X) const {
    require(X.size() == 4 * embedding_.atoms.size * embedding_.nets.neuron.back(),
            "X-like arrays must have the shape [real atoms, 4, M1]");
  }
  On<T> like_X() const {
    return Device::template make<T>({embedding_.atoms.size, 4, embedding_.nets.neuron.back()});
  }

  Device device_;
  AtomsOn<Device> atoms_;
  std::vector<On<T>> parameters_;
  EmbeddingNets<T> nets_;
  Embedding<T> embedding_;
  std::vector<int64_t> first_;  // of the series, as its panels and C
  Doubles panels_;
  On<T> C_;
};

template <typename T, typename Device>
void bind_embedding(py::module_& m, const char* name) {
  using E = EmbeddingOfArrays<T, Device>;
  py::class_<E>(m, name, py::module_local(),
                "X of the real atoms, its reverse, and the gradients of both.")
      .def(py::init<const Atoms&, std::vector<int64_t>, bool, const std::string&,
                    std::vector<int32_t>, std::vector<typename E::template On<T>>, double, int>(),
           py::arg("atoms"), py::kw_only(), py::arg("neuron"), py::arg("resnet_dt"),
           py::arg("activation"), py::arg("net"), py::arg("parameters"), py::arg("n"),
           py::arg("threads") = 1, py::keep_alive<1, 2>())
      .def("find_series", &E::find_series)
      .def("use_table", &E::use_table, py::arg("first"), py::arg("panels"), py::arg("C"))
      .def("npanels", &E::npanels)
      .def("most_panels", &E::most_panels)
      .def("series", &E::series)
      .def("embed", &E::embed)
      .def("embed_grad", &E::embed_grad, py::arg("dX"))
      .def("force", &E::force, py::arg("A"))
      .def("embed_and_force", &E::embed_and_force, py::arg("A"))
      .def("force_grad", &E::force_grad, py::arg("A"), py::arg("force"), py::arg("virial"),
           py::arg("atom_virial"));
}

}  // namespace dpmask
