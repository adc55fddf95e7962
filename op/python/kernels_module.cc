// SPDX-License-Identifier: LGPL-3.0-or-later
// The kernels for NumPy, without TensorFlow: for tests, benchmarks and the data tools.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <limits>
#include <tuple>

#include "op/kernels/activation_names.h"
#include "op/kernels/instruction_set.h"
#include "op/python/embedding.h"
#include "op/python/fitting.h"
#include "op/python/on_cpu.h"
#include "op/python/potential.h"
#include "op/python/without_lock.h"
#include "op/shared/boxes.h"
#include "op/shared/ops_version.h"

namespace dpmask {
namespace {

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
        const OnCpu device(nthreads);
        auto&& call = device.call();
        const SeriesArrays<T> table =
            fit_table(nets, lower, upper, narrowest, std::numeric_limits<int64_t>::max(), call);
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
  m.def(
      "require_activation", [](const std::string& name) { activation_named(name); },
      "Raises ValueError if no activation function has this name.", py::arg("name"));
  bind_real_atoms(m);
  bind_environment<OnCpu>(m);
  bind_embedding<float, OnCpu>(m, "Embedding32");
  bind_embedding<double, OnCpu>(m, "Embedding64");
  bind_fit_table<float>(m, "fit_table32");
  bind_fit_table<double>(m, "fit_table64");
  bind_fitting<float, OnCpu>(m, "Fitting32");
  bind_fitting<double, OnCpu>(m, "Fitting64");
  bind_contraction<float, OnCpu>(m, "32");
  bind_contraction<double, OnCpu>(m, "64");
  bind_model(m);
  bind_sel_bound(m);
  bind_potential(
      m,
      [](const std::vector<const ModelOfArrays*>& models, int64_t threads) {
        const std::vector<AnyModel> given = models_of(models);
        std::unique_ptr<Potential> opened;
        without_lock([&] { opened = open_potential(given, threads); });
        return opened;
      },
      py::arg("threads") = 0);
}
