// SPDX-License-Identifier: LGPL-3.0-or-later
// Products, the contraction and the fitting nets for arrays of Python.
#include <tuple>

#include "cuda/common/product.h"
#include "cuda/descriptor.h"
#include "cuda/fitting.h"
#include "cuda/readout.h"
#include "op/kernels/activation_names.h"
#include "op/python/cuda_bindings.h"

namespace dpmask::cuda {
namespace {

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

}  // namespace

template <typename T>
void bind_fitting(py::module_& m, const std::string& bits) {
  const auto stream = py::arg("stream");
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

  m.def(("product_workspace" + bits).c_str(), &product_workspace<T>);
  m.def(("multiply" + bits).c_str(),
        [](const py::object& left, const py::object& right, const py::object& out,
           const py::object& bias, const py::object& add, const py::object& left2,
           const py::object& right2, const py::object& workspace, int64_t rows, int64_t columns,
           int64_t depth, bool left_transposed, bool right_transposed, uintptr_t stream) {
          const auto optional = [](const py::object& array, const char* name, int64_t size) {
            return array.is_none() ? nullptr : pointer<T>(array, name, size);
          };
          const Product<T> product{rows,
                                   columns,
                                   depth,
                                   pointer<T>(left, "left", rows * depth),
                                   left_transposed ? 1 : depth,
                                   left_transposed ? rows : 1,
                                   pointer<T>(right, "right", depth * columns),
                                   right_transposed ? 1 : columns,
                                   right_transposed ? depth : 1,
                                   pointer<T>(out, "out", rows * columns),
                                   optional(bias, "bias", columns),
                                   optional(add, "add", rows * columns),
                                   optional(left2, "left2", rows * depth),
                                   optional(right2, "right2", depth * columns)};
          multiply<T>({product}, pointer<T>(workspace, "workspace", product_workspace<T>()),
                      as_stream(stream));
        },
        py::arg("left"), py::arg("right"), py::arg("out"), py::arg("bias"), py::arg("add"),
        py::arg("left2"), py::arg("right2"), py::arg("workspace"), py::kw_only(), py::arg("rows"),
        py::arg("columns"), py::arg("depth"), py::arg("left_transposed"),
        py::arg("right_transposed"), stream);
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
  m.def(("weigh" + bits).c_str(),
        [](const DeviceAtoms& d, T factor, int64_t width, const py::object& A, uintptr_t stream) {
          weigh(d.atoms, factor, width, pointer<T>(A, "A", d.atoms.size * width),
                as_stream(stream));
        },
        py::arg("atoms"), py::arg("factor"), py::arg("width"), py::arg("A"), stream);
  m.def(("spread_energies" + bits).c_str(),
        [](const DeviceAtoms& d, const py::object& bias, const py::object& e,
           const py::object& energy, const py::object& atom_energy, uintptr_t stream) {
          spread_energies<T>(d.atoms, reals(bias, "bias", d.atoms.ntypes),
                             pointer<T>(e, "e", d.atoms.size),
                             {reals(energy, "energy", d.atoms.nframes),
                              reals(atom_energy, "atom_energy", d.atoms.nframes * d.nslots)},
                             as_stream(stream));
        },
        py::arg("atoms"), py::arg("bias"), py::arg("e"), py::arg("energy"), py::arg("atom_energy"),
        stream);
}
template void bind_fitting<float>(py::module_&, const std::string&);
template void bind_fitting<double>(py::module_&, const std::string&);

}  // namespace dpmask::cuda
