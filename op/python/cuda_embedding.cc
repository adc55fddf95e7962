// SPDX-License-Identifier: LGPL-3.0-or-later
// The embedding for arrays of Python.
#include <tuple>

#include "cuda/direct/direct.h"
#include "cuda/embedding.h"
#include "cuda/series/fit_series.h"
#include "op/kernels/activation_names.h"
#include "op/kernels/most_panels.h"
#include "op/python/atoms_binding.h"
#include "op/python/cuda_bindings.h"

namespace dpmask::cuda {
namespace {

// The nets and the atoms, with the kernels of the embedding.
template <typename T>
class DeviceEmbedding {
 public:
  DeviceEmbedding(const DeviceAtoms& atoms, py::dict arrays, std::vector<int64_t> neuron,
                  bool resnet_dt, const std::string& activation, py::list parameters, double n,
                  std::vector<int32_t> net, std::vector<int64_t> first)
      : atoms_(atoms), arrays_(std::move(arrays)), parameters_(std::move(parameters)),
        net_(std::move(net)), first_(std::move(first)) {
    const int64_t nnets = static_cast<int64_t>(first_.size()) - 1;
    nets_.neuron = std::move(neuron);
    nets_.resnet_dt = resnet_dt;
    std::tie(nets_.activation, nets_.threshold) = activation_named(activation);
    for (T* array : pointers<T>(parameters_, nets_.sizes())) nets_.parameters.push_back(array);
    if (nets_.nnets() != nnets || nets_.parameters.size() % nets_.nparameters() != 0) {
      throw std::invalid_argument("parameters must hold " + std::to_string(nets_.nparameters()) +
                                  " arrays for each net");
    }
    const int64_t M1 = nets_.neuron.back(), ntypes = atoms.atoms.ntypes, npanels = first_.back();
    if (static_cast<int64_t>(net_.size()) != ntypes * ntypes) {
      throw std::invalid_argument("net must have ntypes * ntypes entries");
    }
    for (int64_t k = 0; k < nnets; ++k) all_have_series_ &= first_[k] < first_[k + 1];
    embedding_ = {atoms.atoms,
                  atoms.pairs,
                  atoms.coord,
                  pointer<int32_t>(arrays_["net"], "net", ntypes * ntypes),
                  {nnets, integers(arrays_["first"], "first", nnets + 1),
                   reals(arrays_["panels"], "panels", 2 * npanels),
                   pointer<T>(arrays_["C"], "C", npanels * kTerms * M1)},
                  npanels,
                  M1,
                  n,
                  {atoms.first.data(), first_.data(), net_.data()}};
  }

  // How many numbers of T, or of float64, each workspace has.
  py::dict workspaces() const {
    py::dict sizes;
    sizes["direct"] = all_have_series_ ? 0 : direct_workspace(nets_);
    sizes["moments"] = moments_workspace(embedding_);
    sizes["sums"] = sums_workspace(embedding_);
    sizes["series"] = series_workspace(nets_, first_.data());
    sizes["find"] = find_panels_workspace(nets_, embedding_.series.nnets, embedding_.atoms.size);
    return sizes;
  }
  // The most panels that each net may have for these atoms, of which the device has a copy.
  std::vector<int64_t> most_panels(const Atoms& atoms) const {
    EmbeddingNets<T> nets = nets_;
    nets.net = net_;
    require(atoms.ntypes() == atoms_.atoms.ntypes, "the atoms must be those of the device");
    return dpmask::most_panels(
        dpmask::Embedding<T>{atoms.view(), atoms.coord(), nets, {}, embedding_.n});
  }
  void embed(const py::object& X, const py::object& moments, const py::object& direct,
             uintptr_t stream) const {
    dpmask::cuda::embed(embedding_, nets(), like_X(X), of_moments(moments), workspace(direct),
                        as_stream(stream));
  }
  void embed_grad(const py::object& dX, const py::object& dC, const py::list& gradient,
                  const py::object& moments, const py::object& direct, uintptr_t stream) const {
    dpmask::cuda::embed_grad<T>(embedding_, nets(), like_X(dX), gradients(dC, gradient),
                                of_moments(moments), workspace(direct), as_stream(stream));
  }
  // dr is not used, and may be empty, where all nets have a series.
  void force(const py::object& A, const py::object& force, const py::object& virial,
             const py::object& atom_virial, const py::object& moments, const py::object& sums,
             const py::object& dr, const py::object& direct, uintptr_t stream) const {
    dpmask::cuda::force<T>(embedding_, nets(), like_X(A),
                           atoms_.forces<Forces>(force, virial, atom_virial), of_moments(moments),
                           reals(sums, "sums", sums_workspace(embedding_)),
                           reals(dr, "dr", all_have_series_ ? 0 : 3 * atoms_.npairs),
                           workspace(direct), as_stream(stream));
  }
  void force_grad(const py::object& A, const py::object& force, const py::object& virial,
                  const py::object& atom_virial, const py::object& dA, const py::object& dC,
                  const py::list& gradient, const py::object& moments, const py::object& direct,
                  uintptr_t stream) const {
    dpmask::cuda::force_grad<T>(embedding_, nets(), like_X(A),
                                atoms_.forces<ForceCotangents>(force, virial, atom_virial),
                                like_X(dA), gradients(dC, gradient), of_moments(moments),
                                workspace(direct), as_stream(stream));
  }
  // Pointers to the parameters are an array of integers.
  void find_panels(const py::object& parameters, const py::object& most, int64_t capacity,
                   const py::object& count, const py::object& panels, const py::object& C,
                   const py::object& workspace, uintptr_t stream) const {
    const int64_t nnets = embedding_.series.nnets, size = embedding_.atoms.size;
    const int64_t* list = integers(parameters, "parameters", nets_.parameters.size());
    dpmask::cuda::find_panels(
        embedding_, nets_, reinterpret_cast<const T* const*>(list), integers(most, "most", nnets),
        found(capacity, count, panels, C),
        reals(workspace, "workspace", find_panels_workspace(nets_, nnets, size)),
        as_stream(stream));
  }
  // Sets the arrays of the series from what was found.
  void join_panels(int64_t capacity, const py::object& count, const py::object& panels,
                   const py::object& C, uintptr_t stream) const {
    const int64_t nnets = embedding_.series.nnets, npanels = embedding_.npanels;
    dpmask::cuda::join_panels(
        found(capacity, count, panels, C), nnets, embedding_.M1, embedding_.series.first,
        reals(arrays_["panels"], "panels", 2 * npanels),
        pointer<T>(arrays_["C"], "C", npanels * kTerms * embedding_.M1), as_stream(stream));
  }
  void fit_panels_grad(const py::object& dC, const py::list& gradient, const py::object& workspace,
                       uintptr_t stream) const {
    const NetGradients<T> by_nets = gradients(dC, gradient);
    dpmask::cuda::fit_panels_grad<T>(
        nets_, first_.data(), embedding_.series.panels, by_nets.C, by_nets.parameters,
        reals(workspace, "workspace", series_workspace(nets_, first_.data())), as_stream(stream));
  }

 private:
  const EmbeddingNets<T>* nets() const { return all_have_series_ ? nullptr : &nets_; }
  T* like_X(const py::object& X) const {
    return pointer<T>(X, "an array like X", 4 * embedding_.atoms.size * embedding_.M1);
  }
  T* workspace(const py::object& direct) const {
    return pointer<T>(direct, "direct", all_have_series_ ? 0 : direct_workspace(nets_));
  }
  T* of_moments(const py::object& moments) const {
    T* workspace = pointer<T>(moments, "moments", moments_workspace(embedding_));
    if (reinterpret_cast<uintptr_t>(workspace) % 16 != 0) {
      throw std::invalid_argument("moments must begin at a multiple of 16 bytes");
    }
    return workspace;
  }
  NetGradients<T> gradients(const py::object& dC, const py::list& gradient) const {
    if (gradient.size() != parameters_.size()) {
      throw std::invalid_argument("the gradient must have an array for each of the parameters");
    }
    return {pointer<T>(dC, "dC", embedding_.npanels * kTerms * embedding_.M1),
            pointers<T>(gradient, nets_.sizes())};
  }
  FoundPanels<T> found(int64_t capacity, const py::object& count, const py::object& panels,
                       const py::object& C) const {
    const int64_t nnets = embedding_.series.nnets, npanels = nnets * capacity;
    return {capacity, integers(count, "count", nnets), reals(panels, "panels", 2 * npanels),
            pointer<T>(C, "C", npanels * kTerms * embedding_.M1)};
  }

  const DeviceAtoms& atoms_;
  py::dict arrays_;
  py::list parameters_;
  std::vector<int32_t> net_;
  std::vector<int64_t> first_;  // both as on the device
  bool all_have_series_ = true;
  EmbeddingNets<T> nets_;
  Embedding<T> embedding_;
};

}  // namespace

template <typename T>
void bind_embedding(py::module_& m, const std::string& bits) {
  using E = DeviceEmbedding<T>;
  const auto stream = py::arg("stream"), direct = py::arg("direct"), moments = py::arg("moments");
  py::class_<E>(m, ("DeviceEmbedding" + bits).c_str())
      .def(py::init<const DeviceAtoms&, py::dict, std::vector<int64_t>, bool, const std::string&,
                    py::list, double, std::vector<int32_t>, std::vector<int64_t>>(),
           py::arg("atoms"), py::arg("arrays"), py::kw_only(), py::arg("neuron"),
           py::arg("resnet_dt"), py::arg("activation"), py::arg("parameters"), py::arg("n"),
           py::arg("net"), py::arg("first"), py::keep_alive<1, 2>())
      .def("workspaces", &E::workspaces)
      .def("most_panels", &E::most_panels, py::arg("atoms"))
      .def("embed", &E::embed, py::arg("X"), moments, direct, stream)
      .def("embed_grad", &E::embed_grad, py::arg("dX"), py::arg("dC"), py::arg("gradient"), moments,
           direct, stream)
      .def("force", &E::force, py::arg("A"), py::arg("force"), py::arg("virial"),
           py::arg("atom_virial"), moments, py::arg("sums"), py::arg("dr"), direct, stream)
      .def("force_grad", &E::force_grad, py::arg("A"), py::arg("force"), py::arg("virial"),
           py::arg("atom_virial"), py::arg("dA"), py::arg("dC"), py::arg("gradient"), moments,
           direct, stream)
      .def("find_panels", &E::find_panels, py::arg("parameters"), py::arg("most"),
           py::arg("capacity"), py::arg("count"), py::arg("panels"), py::arg("C"),
           py::arg("workspace"), stream)
      .def("join_panels", &E::join_panels, py::arg("capacity"), py::arg("count"), py::arg("panels"),
           py::arg("C"), stream)
      .def("fit_panels_grad", &E::fit_panels_grad, py::arg("dC"), py::arg("gradient"),
           py::arg("workspace"), stream);
}
template void bind_embedding<float>(py::module_&, const std::string&);
template void bind_embedding<double>(py::module_&, const std::string&);

}  // namespace dpmask::cuda
