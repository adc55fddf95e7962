// SPDX-License-Identifier: LGPL-3.0-or-later
// The CUDA kernels for anything with __cuda_array_interface__ (CuPy, PyTorch); emulated on the CPU,
// for NumPy's arrays. The caller makes every array, with the shapes of kernels.h, and names the
// stream.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>
#include <tuple>

#include "../op/activation_names.h"
#include "kernels.h"

namespace py = pybind11;

namespace dpmask::cuda {
namespace {

#ifdef DPMASK_EMULATED
constexpr const char* kInterface = "__array_interface__";
#else
constexpr const char* kInterface = "__cuda_array_interface__";
#endif

template <typename T>
const char* type_of();
template <>
const char* type_of<double>() {
  return "<f8";
}
template <>
const char* type_of<float>() {
  return "<f4";
}
template <>
const char* type_of<int64_t>() {
  return "<i8";
}
template <>
const char* type_of<int32_t>() {
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

double* reals(const py::handle& array, const char* name, int64_t elements) {
  return pointer<double>(array, name, elements);
}
int64_t* integers(const py::handle& array, const char* name, int64_t elements) {
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

cudaStream_t as_stream(uintptr_t stream) { return reinterpret_cast<cudaStream_t>(stream); }

// Real atoms and pair numbers on the device; keeps the arrays alive.
struct DeviceAtoms {
  DeviceAtoms(py::dict arrays_, int64_t nframes, int64_t nslots_, int64_t ntypes, int64_t size,
              int64_t npairs_)
      : arrays(std::move(arrays_)), nslots(nslots_), npairs(npairs_) {
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
  int64_t nslots, npairs;
  RealAtoms atoms;
  PairNumbers pairs;
  const double* coord;
};

// The nets' parameters, or their gradients, and the kernels of all that has to do with them.
template <typename T>
class DeviceEmbedding {
 public:
  DeviceEmbedding(const DeviceAtoms& atoms, py::dict arrays, std::vector<int64_t> neuron,
                  bool resnet_dt, const std::string& activation, py::list parameters, double n,
                  int64_t nnets, int64_t npanels, bool all_have_series)
      : atoms_(atoms), arrays_(std::move(arrays)), parameters_(std::move(parameters)),
        all_have_series_(all_have_series) {
    nets_.neuron = std::move(neuron);
    nets_.resnet_dt = resnet_dt;
    std::tie(nets_.activation, nets_.threshold) = activation_named(activation);
    for (T* array : pointers<T>(parameters_, nets_.sizes())) nets_.parameters.push_back(array);
    if (static_cast<int64_t>(nets_.parameters.size()) != nnets * nets_.nparameters()) {
      throw std::invalid_argument("parameters must hold " + std::to_string(nets_.nparameters()) +
                                  " arrays for each net");
    }
    const int64_t M1 = nets_.neuron.back(), ntypes = atoms.atoms.ntypes;
    embedding_ = {atoms.atoms,
                  atoms.pairs,
                  atoms.coord,
                  pointer<int32_t>(arrays_["net"], "net", ntypes * ntypes),
                  {nnets, integers(arrays_["first"], "first", nnets + 1),
                   reals(arrays_["panels"], "panels", 2 * npanels),
                   pointer<T>(arrays_["C"], "C", npanels * kTerms * M1)},
                  npanels,
                  M1,
                  n};
  }

  // How many numbers of T, or of float64, each workspace has.
  py::dict workspaces() const {
    py::dict sizes;
    sizes["direct"] = all_have_series_ ? 0 : direct_workspace(nets_);
    sizes["shares"] = gradient_workspace(embedding_);
    sizes["series"] = series_workspace(nets_);
    sizes["find"] = find_panels_workspace(nets_, embedding_.series.nnets, embedding_.atoms.size);
    return sizes;
  }
  void embed(const py::object& X, const py::object& direct, uintptr_t stream) const {
    dpmask::cuda::embed(embedding_, nets(), like_X(X), workspace(direct), as_stream(stream));
  }
  void embed_grad(const py::object& dX, const py::object& dC, const py::list& gradient,
                  const py::object& shares, const py::object& direct, uintptr_t stream) const {
    dpmask::cuda::embed_grad<T>(embedding_, nets(), like_X(dX), gradients(dC, gradient),
                                of_shares(shares), workspace(direct), as_stream(stream));
  }
  void force(const py::object& A, const py::object& dr, const py::object& force,
             const py::object& virial, const py::object& atom_virial, const py::object& direct,
             uintptr_t stream) const {
    dpmask::cuda::force<T>(embedding_, nets(), like_X(A), reals(dr, "dr", 3 * atoms_.npairs),
                           atoms_.forces<Forces>(force, virial, atom_virial), workspace(direct),
                           as_stream(stream));
  }
  void force_grad(const py::object& A, const py::object& force, const py::object& virial,
                  const py::object& atom_virial, const py::object& dA, const py::object& dC,
                  const py::list& gradient, const py::object& shares, const py::object& direct,
                  uintptr_t stream) const {
    dpmask::cuda::force_grad<T>(embedding_, nets(), like_X(A),
                                atoms_.forces<ForceCotangents>(force, virial, atom_virial),
                                like_X(dA), gradients(dC, gradient), of_shares(shares),
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
  void fit_panels_grad(int64_t net, int64_t first, int64_t last, const py::object& dC,
                       const py::list& gradient, const py::object& workspace,
                       uintptr_t stream) const {
    check_panels(net, first, last);
    const int64_t of_panel = kTerms * embedding_.M1;
    const T* all = pointer<T>(dC, "dC", embedding_.npanels * of_panel);
    const std::vector<T*> arrays = pointers<T>(gradient, nets_.sizes());
    if (arrays.size() != nets_.sizes().size()) throw std::invalid_argument("arrays of one net");
    dpmask::cuda::fit_panels_grad(nets_, net, last - first, embedding_.series.panels + 2 * first,
                                  all + first * of_panel, arrays.data(), of_series(workspace),
                                  as_stream(stream));
  }

 private:
  const EmbeddingNets<T>* nets() const { return all_have_series_ ? nullptr : &nets_; }
  T* like_X(const py::object& X) const {
    return pointer<T>(X, "an array like X", 4 * embedding_.atoms.size * embedding_.M1);
  }
  T* workspace(const py::object& direct) const {
    return pointer<T>(direct, "direct", all_have_series_ ? 0 : direct_workspace(nets_));
  }
  T* of_shares(const py::object& shares) const {
    return pointer<T>(shares, "shares", gradient_workspace(embedding_));
  }
  double* of_series(const py::object& workspace) const {
    return reals(workspace, "workspace", series_workspace(nets_));
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
  void check_panels(int64_t net, int64_t first, int64_t last) const {
    if (net < 0 || net >= embedding_.series.nnets || first < 0 || first > last ||
        last > embedding_.npanels) {
      throw std::invalid_argument("there is no such net, or it has no such panels");
    }
  }

  const DeviceAtoms& atoms_;
  py::dict arrays_;
  py::list parameters_;
  bool all_have_series_;
  EmbeddingNets<T> nets_;
  Embedding<T> embedding_;
};

template <typename T>
class DeviceFitting {
 public:
  DeviceFitting(std::vector<int64_t> type_first, py::object D, int64_t ninputs,
                std::vector<int64_t> neuron, bool resnet_dt, const std::string& activation,
                py::list parameters)
      : type_first_(std::move(type_first)), D_(std::move(D)), parameters_(std::move(parameters)) {
    FittingNets<T>& nets = fitting_.nets;
    if (type_first_.size() < 2) throw std::invalid_argument("type_first must begin with 0");
    nets.ntypes = static_cast<int64_t>(type_first_.size()) - 1;
    nets.ninputs = ninputs;
    nets.neuron = std::move(neuron);
    nets.resnet_dt = resnet_dt;
    std::tie(nets.activation, nets.threshold) = activation_named(activation);
    for (T* array : pointers<T>(parameters_, nets.sizes())) nets.parameters.push_back(array);
    if (nets.parameters.size() != nets.ntypes * nets.sizes().size()) {
      throw std::invalid_argument("parameters must hold the arrays of each type");
    }
    fitting_.type_first = type_first_.data();
    fitting_.D = like_D(D_);
  }
  py::dict workspaces() const {
    py::dict sizes;
    sizes["z"] = fitting_.z_size();
    sizes["energies"] = energies_workspace(fitting_);
    sizes["energies_grad"] = energies_grad_workspace(fitting_);
    return sizes;
  }
  void energies(const py::object& e, const py::object& A, const py::object& z,
                const py::object& workspace, uintptr_t stream) const {
    dpmask::cuda::energies(fitting_, of_atoms(e), like_D(A), of_z(z),
                           pointer<T>(workspace, "workspace", energies_workspace(fitting_)),
                           as_stream(stream));
  }
  void energies_grad(const py::object& z, const py::object& de, const py::object& dA,
                     const py::object& dD, const py::list& gradient, const py::object& workspace,
                     uintptr_t stream) const {
    if (gradient.size() != parameters_.size()) {
      throw std::invalid_argument("the gradient must have an array for each of the parameters");
    }
    dpmask::cuda::energies_grad<T>(
        fitting_, of_z(z), of_atoms(de), like_D(dA), like_D(dD),
        pointers<T>(gradient, fitting_.nets.sizes()),
        pointer<T>(workspace, "workspace", energies_grad_workspace(fitting_)), as_stream(stream));
  }

 private:
  T* like_D(const py::object& D) const {
    return pointer<T>(D, "an array like D", fitting_.size() * fitting_.nets.ninputs);
  }
  T* of_atoms(const py::object& e) const { return pointer<T>(e, "e", fitting_.size()); }
  T* of_z(const py::object& z) const { return pointer<T>(z, "z", fitting_.z_size()); }

  std::vector<int64_t> type_first_;
  py::object D_;
  py::list parameters_;
  Fitting<T> fitting_;
};

template <typename T>
void bind(py::module_& m, const std::string& bits) {
  using E = DeviceEmbedding<T>;
  const auto stream = py::arg("stream"), direct = py::arg("direct"), shares = py::arg("shares");
  py::class_<E>(m, ("DeviceEmbedding" + bits).c_str())
      .def(py::init<const DeviceAtoms&, py::dict, std::vector<int64_t>, bool, const std::string&,
                    py::list, double, int64_t, int64_t, bool>(),
           py::arg("atoms"), py::arg("arrays"), py::kw_only(), py::arg("neuron"),
           py::arg("resnet_dt"), py::arg("activation"), py::arg("parameters"), py::arg("n"),
           py::arg("nnets"), py::arg("npanels"), py::arg("all_have_series"), py::keep_alive<1, 2>())
      .def("workspaces", &E::workspaces)
      .def("embed", &E::embed, py::arg("X"), direct, stream)
      .def("embed_grad", &E::embed_grad, py::arg("dX"), py::arg("dC"), py::arg("gradient"), shares,
           direct, stream)
      .def("force", &E::force, py::arg("A"), py::arg("dr"), py::arg("force"), py::arg("virial"),
           py::arg("atom_virial"), direct, stream)
      .def("force_grad", &E::force_grad, py::arg("A"), py::arg("force"), py::arg("virial"),
           py::arg("atom_virial"), py::arg("dA"), py::arg("dC"), py::arg("gradient"), shares,
           direct, stream)
      .def("find_panels", &E::find_panels, py::arg("parameters"), py::arg("most"),
           py::arg("capacity"), py::arg("count"), py::arg("panels"), py::arg("C"),
           py::arg("workspace"), stream)
      .def("join_panels", &E::join_panels, py::arg("capacity"), py::arg("count"), py::arg("panels"),
           py::arg("C"), stream)
      .def("fit_panels_grad", &E::fit_panels_grad, py::arg("net"), py::arg("first"),
           py::arg("last"), py::arg("dC"), py::arg("gradient"), py::arg("workspace"), stream);

  using F = DeviceFitting<T>;
  py::class_<F>(m, ("DeviceFitting" + bits).c_str())
      .def(py::init<std::vector<int64_t>, py::object, int64_t, std::vector<int64_t>, bool,
                    const std::string&, py::list>(),
           py::arg("type_first"), py::arg("D"), py::kw_only(), py::arg("ninputs"),
           py::arg("neuron"), py::arg("resnet_dt"), py::arg("activation"), py::arg("parameters"))
      .def("workspaces", &F::workspaces)
      .def("energies", &F::energies, py::arg("e"), py::arg("A"), py::arg("z"), py::arg("workspace"),
           stream)
      .def("energies_grad", &F::energies_grad, py::arg("z"), py::arg("de"), py::arg("dA"),
           py::arg("dD"), py::arg("gradient"), py::arg("workspace"), stream);

  m.def(("contract" + bits).c_str(),
        [](const py::object& X, const py::object& Y, const py::object& B, int64_t size, int64_t M1,
           int64_t M2, uintptr_t stream) {
          const T* X_ = pointer<T>(X, "X", 4 * size * M1);
          contract(Contraction<T>{size, M1, M2}, X_, pointer<T>(Y, "Y", 4 * size * M1),
                   pointer<T>(B, "B", size * M1 * M2), as_stream(stream));
        },
        py::arg("X"), py::arg("Y"), py::arg("B"), py::kw_only(), py::arg("size"), py::arg("M1"),
        py::arg("M2"), stream);
  m.def(("contract_reverse" + bits).c_str(),
        [](const py::object& Y, const py::object& gB, const py::object& gX, int64_t size,
           int64_t M1, int64_t M2, uintptr_t stream) {
          const T* Y_ = pointer<T>(Y, "Y", 4 * size * M1);
          contract_reverse(Contraction<T>{size, M1, M2}, Y_, pointer<T>(gB, "gB", size * M1 * M2),
                           pointer<T>(gX, "gX", 4 * size * M1), as_stream(stream));
        },
        py::arg("Y"), py::arg("gB"), py::arg("gX"), py::kw_only(), py::arg("size"), py::arg("M1"),
        py::arg("M2"), stream);
}

}  // namespace
}  // namespace dpmask::cuda

PYBIND11_MODULE(DPMASK_MODULE, m) {
  using namespace dpmask;
  using namespace dpmask::cuda;
  m.doc() = "The CUDA kernels of deepmd-mask; cuda/kernels.h documents them.";
  py::class_<DeviceAtoms>(m, "DeviceAtoms")
      .def(py::init<py::dict, int64_t, int64_t, int64_t, int64_t, int64_t>(), py::arg("arrays"),
           py::kw_only(), py::arg("nframes"), py::arg("nslots"), py::arg("ntypes"), py::arg("size"),
           py::arg("npairs"));
  m.def(
      "upload",
      [](const std::vector<int64_t>& numbers, const py::object& array, uintptr_t stream) {
        const int64_t size = static_cast<int64_t>(numbers.size());
        upload(numbers.data(), size, integers(array, "array", size), as_stream(stream));
      },
      py::arg("numbers"), py::arg("array"), py::arg("stream"));
  m.def(
      "clear",
      [](const py::list& arrays, const std::vector<int64_t>& sizes, uintptr_t stream) {
        clear(pointers<double>(arrays, sizes), sizes, as_stream(stream));
      },
      py::arg("arrays"), py::arg("sizes"), py::arg("stream"));
  m.def(
      "number_pairs",
      [](const DeviceAtoms& d, uintptr_t stream) {
        number_pairs(d.atoms, d.pairs, as_stream(stream));
      },
      py::arg("atoms"), py::arg("stream"));
  m.def(
      "environment",
      [](const DeviceAtoms& d, const py::object& R, uintptr_t stream) {
        environment(d.atoms, d.pairs, d.coord, reals(R, "R", 4 * d.npairs), as_stream(stream));
      },
      py::arg("atoms"), py::arg("R"), py::arg("stream"));
  m.def(
      "environment_force",
      [](const DeviceAtoms& d, const py::object& dR, const py::object& dr, const py::object& force,
         const py::object& virial, const py::object& atom_virial, uintptr_t stream) {
        environment_force(d.atoms, d.pairs, d.coord, reals(dR, "dR", 4 * d.npairs),
                          reals(dr, "dr", 3 * d.npairs),
                          d.forces<Forces>(force, virial, atom_virial), as_stream(stream));
      },
      py::arg("atoms"), py::arg("dR"), py::arg("dr"), py::arg("force"), py::arg("virial"),
      py::arg("atom_virial"), py::arg("stream"));
  m.def(
      "environment_force_grad",
      [](const DeviceAtoms& d, const py::object& force, const py::object& virial,
         const py::object& atom_virial, const py::object& ddR, uintptr_t stream) {
        environment_force_grad(d.atoms, d.pairs, d.coord,
                               d.forces<ForceCotangents>(force, virial, atom_virial),
                               reals(ddR, "ddR", 4 * d.npairs), as_stream(stream));
      },
      py::arg("atoms"), py::arg("force"), py::arg("virial"), py::arg("atom_virial"), py::arg("ddR"),
      py::arg("stream"));
  m.attr("MOST_PANELS") = kMostPanels;
  bind<float>(m, "32");
  bind<double>(m, "64");
#ifdef DPMASK_EMULATED
  m.def(
      "run_backwards", [](bool wish) { backwards = wish; }, py::arg("wish"),
      "Run the threads of a block, and the blocks, from the last to the first.");
#endif
}
