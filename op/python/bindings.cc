// SPDX-License-Identifier: LGPL-3.0-or-later
// The kernels for NumPy, without TensorFlow: for tests, benchmarks and the data tools.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <stdexcept>
#include <thread>
#include <tuple>

#include "op/kernels/activation_names.h"
#include "op/kernels/embedding.h"
#include "op/kernels/environment.h"
#include "op/kernels/first_exception.h"
#include "op/kernels/fitting.h"
#include "op/kernels/instruction_set.h"
#include "op/kernels/most_panels.h"
#include "op/kernels/readout.h"
#include "op/kernels/series.h"
#include "op/python/atoms_binding.h"
#include "op/shared/boxes.h"
#include "op/shared/ops_version.h"

namespace dpmask {
namespace {

template <typename T>
Array<T> like(const Array<T>& array) {
  return Array<T>(std::vector<py::ssize_t>(array.shape(), array.shape() + array.ndim()));
}

template <typename T>
std::vector<Array<T>> like(const std::vector<Array<T>>& arrays) {
  std::vector<Array<T>> all;
  for (const Array<T>& array : arrays) all.push_back(like(array));
  return all;
}

template <typename T>
std::vector<T*> pointers(std::vector<Array<T>>& arrays) {
  std::vector<T*> all;
  for (Array<T>& array : arrays) all.push_back(array.mutable_data());
  return all;
}

// Requires that each net's parameters have the sizes of one net's.
template <typename T>
void require_sizes(const std::vector<Array<T>>& parameters, const std::vector<int64_t>& sizes) {
  for (size_t p = 0; p < parameters.size(); ++p) {
    require(parameters[p].size() == sizes[p % sizes.size()],
            "parameter " + std::to_string(p) + " must have " +
                std::to_string(sizes[p % sizes.size()]) + " entries");
  }
}

Parallel threads(int count) {
  require(count >= 1, "threads must be at least 1, not " + std::to_string(count));
  return [count](int64_t n, const std::function<void(int64_t)>& body) {
    std::atomic<int64_t> next{0};
    FirstException first;
    const auto work = [&] {
      for (int64_t k = next++; k < n; k = next++) first.guard([&] { body(k); });
    };
    std::vector<std::thread> others;
    try {
      for (int t = 1; t < count; ++t) others.emplace_back(work);
    } catch (const std::exception&) {  // the system has no more threads; those there will do
    }
    work();
    for (std::thread& other : others) other.join();
    first.rethrow();
  };
}

struct ForceArrays {
  explicit ForceArrays(const Atoms& atoms)
      : force({atoms.nframes(), atoms.nslots(), int64_t{3}}), virial({atoms.nframes(), int64_t{9}}),
        atom_virial({atoms.nframes(), atoms.nslots(), int64_t{9}}) {
    for (Array<double>* array : {&force, &virial, &atom_virial}) {
      std::fill(array->mutable_data(), array->mutable_data() + array->size(), 0.0);
    }
  }
  Forces view() {
    return {force.mutable_data(), virial.mutable_data(), atom_virial.mutable_data()};
  }
  py::tuple tuple() const { return py::make_tuple(force, virial, atom_virial); }
  Array<double> force, virial, atom_virial;
};

ForceCotangents cotangents(const Atoms& atoms, const Array<double>& force,
                           const Array<double>& virial, const Array<double>& atom_virial) {
  const int64_t nslots = atoms.nframes() * atoms.nslots();
  require(force.size() == 3 * nslots, "the cotangent of force must be [nframes, nslots, 3]");
  require(virial.size() == 9 * atoms.nframes(), "the cotangent of virial must be [nframes, 9]");
  require(atom_virial.size() == 9 * nslots,
          "the cotangent of atom_virial must be [nframes, nslots, 9]");
  return {force.data(), virial.data(), atom_virial.data()};
}

// Embedding<T> with the arrays that it points to.
template <typename T>
class EmbeddingOfArrays {
 public:
  EmbeddingOfArrays(const Atoms& atoms, std::vector<int64_t> neuron, bool resnet_dt,
                    const std::string& activation, std::vector<int32_t> net,
                    std::vector<Array<T>> parameters, double n, int nthreads)
      : atoms_(atoms), parameters_(std::move(parameters)), parallel_(threads(nthreads)),
        embedding_{atoms.view(), atoms.coord(), {}, {}, n} {
    EmbeddingNets<T>& nets = embedding_.nets;
    nets.neuron = std::move(neuron);
    nets.resnet_dt = resnet_dt;
    std::tie(nets.activation, nets.threshold) = activation_named(activation);
    nets.net = std::move(net);
    for (const Array<T>& parameter : parameters_) nets.parameters.push_back(parameter.data());
    check();
    series_ = fit_series(embedding_, parallel_);
    embedding_.series = series_.view();
  }

  // Another series, as fit_table returns it, in the place of the batch's own.
  void use_table(const Array<int64_t>& first, const Array<double>& panels, const Array<T>& C) {
    const int64_t npanels = panels.size() / 2;
    const int64_t nnets = series_.view().nnets;
    require(first.size() == nnets + 1 && first.at(0) == 0 && first.at(nnets) == npanels,
            "first must have an entry for each net and end with the number of panels");
    for (int64_t net = 0; net < nnets; ++net) {
      require(first.at(net) <= first.at(net + 1), "first must not decrease");
    }
    require(panels.size() == 2 * npanels, "panels must have the shape [npanels, 2]");
    require(C.size() == npanels * kTerms * embedding_.nets.neuron.back(),
            "C must have the shape [npanels, 16, M1]");
    series_ = {{first.data(), first.data() + first.size()},
               {panels.data(), panels.data() + panels.size()},
               {C.data(), C.data() + C.size()}};
    embedding_.series = series_.view();
  }
  std::vector<int64_t> npanels() const {
    std::vector<int64_t> all;
    for (size_t net = 0; net + 1 < series_.first.size(); ++net) {
      all.push_back(series_.first[net + 1] - series_.first[net]);
    }
    return all;
  }
  std::vector<int64_t> most_panels() const { return dpmask::most_panels(embedding_); }
  // first, panels and C of the series in use.
  py::tuple series() const {
    const int64_t M1 = embedding_.nets.neuron.back();
    const int64_t npanels = series_.first.back();
    return py::make_tuple(Array<int64_t>(series_.first.size(), series_.first.data()),
                          Array<double>({npanels, int64_t{2}}, series_.panels.data()),
                          Array<T>({npanels, kTerms, M1}, series_.C.data()));
  }
  Array<T> embed() const {
    Array<T> X = like_X();
    dpmask::embed(embedding_, X.mutable_data(), parallel_);
    return X;
  }
  std::vector<Array<T>> embed_grad(const Array<T>& dX) const {
    require_X(dX);
    return gradients([&](const NetGradients<T>& by_nets) {
      dpmask::embed_grad(embedding_, dX.data(), by_nets, parallel_);
    });
  }
  py::tuple force(const Array<T>& A) const {
    require_X(A);
    ForceArrays out(atoms_);
    dpmask::force(embedding_, A.data(), out.view(), parallel_);
    return out.tuple();
  }
  py::tuple force_grad(const Array<T>& A, const Array<double>& force, const Array<double>& virial,
                       const Array<double>& atom_virial) const {
    require_X(A);
    const ForceCotangents given = cotangents(atoms_, force, virial, atom_virial);
    Array<T> dA = like_X();
    const std::vector<Array<T>> grads = gradients([&](const NetGradients<T>& by_nets) {
      dpmask::force_grad(embedding_, A.data(), given, dA.mutable_data(), by_nets, parallel_);
    });
    return py::make_tuple(dA, grads);
  }

 private:
  // The gradient by all parameters: what a kernel finds for nets without a series, and what its dC
  // gives for those with one.
  template <typename Kernel>
  std::vector<Array<T>> gradients(Kernel&& kernel) const {
    std::vector<Array<T>> direct = like(parameters_);
    std::vector<Array<T>> by_series = like(parameters_);
    std::vector<T> dC(series_.C.size());
    kernel(NetGradients<T>{dC.data(), pointers(direct)});
    fit_series_grad(embedding_.nets, embedding_.series, dC.data(), pointers(by_series), parallel_);
    for (size_t p = 0; p < direct.size(); ++p) {
      const T* share = by_series[p].data();
      T* sum = direct[p].mutable_data();
      for (py::ssize_t k = 0; k < direct[p].size(); ++k) sum[k] += share[k];
    }
    return direct;
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
  void require_X(const Array<T>& X) const {
    require(X.size() == like_X().size(), "X-like arrays must have the shape [real atoms, 4, M1]");
  }
  Array<T> like_X() const {
    return Array<T>({embedding_.atoms.size, int64_t{4}, embedding_.nets.neuron.back()});
  }

  const Atoms& atoms_;
  std::vector<Array<T>> parameters_;
  Parallel parallel_;
  Embedding<T> embedding_;
  SeriesArrays<T> series_;
};

template <typename T>
void bind_embedding(py::module_& m, const char* name) {
  using E = EmbeddingOfArrays<T>;
  py::class_<E>(m, name, "X of the real atoms, its reverse, and the gradients of both.")
      .def(py::init<const Atoms&, std::vector<int64_t>, bool, const std::string&,
                    std::vector<int32_t>, std::vector<Array<T>>, double, int>(),
           py::arg("atoms"), py::kw_only(), py::arg("neuron"), py::arg("resnet_dt"),
           py::arg("activation"), py::arg("net"), py::arg("parameters"), py::arg("n"),
           py::arg("threads") = 1, py::keep_alive<1, 2>())
      .def("use_table", &E::use_table, py::arg("first"), py::arg("panels"), py::arg("C"))
      .def("npanels", &E::npanels)
      .def("most_panels", &E::most_panels)
      .def("series", &E::series)
      .def("embed", &E::embed)
      .def("embed_grad", &E::embed_grad, py::arg("dX"))
      .def("force", &E::force, py::arg("A"))
      .def("force_grad", &E::force_grad, py::arg("A"), py::arg("force"), py::arg("virial"),
           py::arg("atom_virial"));
}

template <typename T>
void bind_fit_table(py::module_& m, const char* name) {
  m.def(
      name,
      [](std::vector<int64_t> neuron, bool resnet_dt, const std::string& activation,
         const std::vector<Array<T>>& parameters, double lower, double upper, double narrowest,
         int nthreads) {
        require(!neuron.empty() && *std::min_element(neuron.begin(), neuron.end()) >= 1,
                "neuron must be positive");
        require(lower < upper && narrowest > 0, "there must be lower < upper and narrowest > 0");
        EmbeddingNets<T> nets{std::move(neuron), resnet_dt, {}, 0, {}, {}};
        std::tie(nets.activation, nets.threshold) = activation_named(activation);
        require(
            parameters.size() % nets.nparameters() == 0,
            "parameters must hold " + std::to_string(nets.nparameters()) + " arrays for each net");
        require_sizes(parameters, nets.sizes());
        for (const Array<T>& parameter : parameters) nets.parameters.push_back(parameter.data());
        const SeriesArrays<T> table = fit_table(nets, lower, upper, narrowest, threads(nthreads));
        const int64_t npanels = table.first.back();
        Array<int64_t> first(table.first.size(), table.first.data());
        Array<double> panels({npanels, int64_t{2}}, table.panels.data());
        Array<T> C({npanels, kTerms, nets.neuron.back()}, table.C.data());
        return py::make_tuple(first, panels, C);
      },
      "The nets' series for all s from lower to upper: first, panels, C of Series.", py::kw_only(),
      py::arg("neuron"), py::arg("resnet_dt"), py::arg("activation"), py::arg("parameters"),
      py::arg("lower"), py::arg("upper"), py::arg("narrowest"), py::arg("threads") = 1);
}

template <typename T>
Contraction<T> contraction(const Array<T>& X, int64_t M2) {
  require(X.ndim() == 3 && X.shape(1) == 4, "X must have the shape [size, 4, M1]");
  require(M2 >= 1 && M2 <= X.shape(2), "M2 must be between 1 and M1");
  return {X.shape(0), X.shape(2), M2};
}

// Fitting<T> with the arrays that it points to.
template <typename T>
class FittingOfArrays {
 public:
  FittingOfArrays(Array<int64_t> type_first, Array<T> D, std::vector<int64_t> neuron,
                  bool resnet_dt, const std::string& activation, std::vector<Array<T>> parameters,
                  int nthreads)
      : type_first_(std::move(type_first)), D_(std::move(D)), parameters_(std::move(parameters)),
        parallel_(threads(nthreads)) {
    require(type_first_.ndim() == 1 && type_first_.size() >= 2 && type_first_.at(0) == 0,
            "type_first must begin with 0");
    require(D_.ndim() == 2, "D must have the shape [size, ninputs]");
    FittingNets<T>& nets = fitting_.nets;
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
    for (const Array<T>& parameter : parameters_) nets.parameters.push_back(parameter.data());
    fitting_.type_first = type_first_.data();
    fitting_.D = D_.data();
  }

  py::tuple energies() const {
    Array<T> e(fitting_.size());
    Array<T> A = like(D_);
    Array<T> z(fitting_.z_size());
    dpmask::energies(fitting_, e.mutable_data(), A.mutable_data(), z.mutable_data(), parallel_);
    return py::make_tuple(e, A, z);
  }
  // D comes from X; the one given tells its shape.
  py::tuple read_out(const Atoms& atoms, const Array<T>& X, int64_t M2,
                     const Array<double>& bias) const {
    const Contraction<T> shape = contraction(X, M2);
    require(shape.size == fitting_.size() && shape.M1 * M2 == fitting_.nets.ninputs,
            "X must have a row for each of D, and M1 * M2 columns of D");
    require(atoms.view().size == shape.size && bias.size() == fitting_.nets.ntypes,
            "there must be as many atoms as rows of X, and a bias for each type");
    Array<T> D = like(D_), A_D = like(D_), z(fitting_.z_size()), e(shape.size), A = like(X);
    Array<double> energy(atoms.nframes()), atom_energy({atoms.nframes(), atoms.nslots()});
    std::fill_n(atom_energy.mutable_data(), atom_energy.size(), 0.0);
    const Readout<T> readout = {atoms.view(),       shape,           fitting_, D.mutable_data(),
                                A_D.mutable_data(), z.mutable_data()};
    dpmask::read_out(readout, X.data(), e.mutable_data(), A.mutable_data(), parallel_);
    spread_energies(atoms.view(), bias.data(), e.data(),
                    {energy.mutable_data(), atom_energy.mutable_data()}, parallel_);
    return py::make_tuple(energy, atom_energy, A);
  }
  py::tuple energies_grad(const Array<T>& z, const Array<T>& de, const Array<T>& dA) const {
    require(z.size() == fitting_.z_size() && de.size() == fitting_.size() && dA.size() == D_.size(),
            "z, de and dA must be shaped as energies returns them");
    Array<T> dD = like(D_);
    std::vector<Array<T>> grads = like(parameters_);
    dpmask::energies_grad(fitting_, z.data(), de.data(), dA.data(), dD.mutable_data(),
                          pointers(grads), parallel_);
    return py::make_tuple(dD, grads);
  }

 private:
  Array<int64_t> type_first_;
  Array<T> D_;
  std::vector<Array<T>> parameters_;
  Parallel parallel_;
  Fitting<T> fitting_;
};

template <typename T>
void bind_fitting(py::module_& m, const char* name) {
  using F = FittingOfArrays<T>;
  py::class_<F>(m, name, "Atomic energies, their derivative by D, and the gradient of both.")
      .def(py::init<Array<int64_t>, Array<T>, std::vector<int64_t>, bool, const std::string&,
                    std::vector<Array<T>>, int>(),
           py::arg("type_first"), py::arg("D"), py::kw_only(), py::arg("neuron"),
           py::arg("resnet_dt"), py::arg("activation"), py::arg("parameters"),
           py::arg("threads") = 1)
      .def("energies", &F::energies)
      .def("read_out", &F::read_out, py::arg("atoms"), py::arg("X"), py::arg("M2"), py::arg("bias"))
      .def("energies_grad", &F::energies_grad, py::arg("z"), py::arg("de"), py::arg("dA"));
}

template <typename T>
void bind_contraction(py::module_& m, const std::string& bits) {
  const auto nthreads = py::arg("threads") = 1;
  m.def(("contract" + bits).c_str(),
        [](const Array<T>& X, const Array<T>& Y, int64_t M2, int nthreads) {
          const Contraction<T> shape = contraction(X, M2);
          require(Y.size() == X.size(), "Y must have the shape of X");
          Array<T> B({shape.size, shape.M1, M2});
          contract(shape, X.data(), Y.data(), B.mutable_data(), threads(nthreads));
          return B;
        },
        py::arg("X"), py::arg("Y"), py::arg("M2"), nthreads);
  m.def(("contract_reverse" + bits).c_str(),
        [](const Array<T>& Y, const Array<T>& gB, int64_t M2, int nthreads) {
          const Contraction<T> shape = contraction(Y, M2);
          require(gB.size() == shape.size * shape.M1 * M2, "gB must have the shape [size, M1, M2]");
          Array<T> gX = like(Y);
          contract_reverse(shape, Y.data(), gB.data(), gX.mutable_data(), threads(nthreads));
          return gX;
        },
        py::arg("Y"), py::arg("gB"), py::arg("M2"), nthreads);
}

}  // namespace
}  // namespace dpmask

PYBIND11_MODULE(_kernels, m) {
  using namespace dpmask;
  m.doc() = "The kernels of deepmd-mask on NumPy arrays; op/kernels documents them.";
  m.attr("OPS_VERSION") = kOpsVersion;
  m.def("instruction_set", &instruction_set,
        "The instruction set in use: \"avx512\", \"avx2\" or \"baseline\".");
  m.def("reason_against_box", &reason_against_box,
        "Why periodic input is refused; empty if DP_MASK_IGNORE_BOX allows it.");
  bind_real_atoms(m);
  m.def(
      "environment",
      [](const Atoms& atoms) {
        Array<double> R({count_pairs(atoms.view()), int64_t{4}});
        environment(atoms.view(), atoms.coord(), R.mutable_data());
        return R;
      },
      py::arg("atoms"));
  m.def(
      "environment_force",
      [](const Atoms& atoms, const Array<double>& dR) {
        require(dR.size() == 4 * count_pairs(atoms.view()), "dR must have the shape [pairs, 4]");
        ForceArrays out(atoms);
        environment_force(atoms.view(), atoms.coord(), dR.data(), out.view());
        return out.tuple();
      },
      py::arg("atoms"), py::arg("dR"));
  m.def(
      "environment_force_grad",
      [](const Atoms& atoms, const Array<double>& force, const Array<double>& virial,
         const Array<double>& atom_virial) {
        Array<double> ddR({count_pairs(atoms.view()), int64_t{4}});
        environment_force_grad(atoms.view(), atoms.coord(),
                               cotangents(atoms, force, virial, atom_virial), ddR.mutable_data());
        return ddR;
      },
      py::arg("atoms"), py::arg("force"), py::arg("virial"), py::arg("atom_virial"));
  bind_embedding<float>(m, "Embedding32");
  bind_embedding<double>(m, "Embedding64");
  bind_fit_table<float>(m, "fit_table32");
  bind_fit_table<double>(m, "fit_table64");
  bind_contraction<float>(m, "32");
  bind_contraction<double>(m, "64");
  bind_fitting<float>(m, "Fitting32");
  bind_fitting<double>(m, "Fitting64");
}
