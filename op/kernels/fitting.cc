// SPDX-License-Identifier: LGPL-3.0-or-later
// The fitting nets' outer part, and the way from X through them. A thread takes some atoms of one
// type through their whole net and back, so that its parameters are still near when they are read
// again. The gradient, whose terms are sums over all atoms of a type, goes layer after layer, the
// work of a layer cut into parts.
#include <algorithm>

#include "op/kernels/descriptor_units.h"
#include "op/kernels/fitting_units.h"
#include "op/kernels/instruction_set.h"
#include "op/kernels/kernels.h"

namespace dpmask {
namespace {

constexpr int64_t kRowsOfNet = 32;  // that a thread takes through a whole net
constexpr int64_t kRowsOfPart = 256;
constexpr int64_t kColumnsOfPart = 96;  // whole packets in all instruction sets
constexpr int64_t kInputsOfPart = 128;

template <typename T>
class Work {
 public:
  Work(const Fitting<T>& fitting, const Parallel& parallel)
      : nets_(fitting.nets), fitting_(fitting), parallel_(parallel),
        units(DPMASK_CHOOSE(fitting_units, <T>)) {}

  const FittingNets<T>& nets_;
  const Fitting<T>& fitting_;
  const Parallel& parallel_;
  FittingUnits<T> units;

  // A hidden or the last layer of type t.
  FittingLayer<T> layer(int64_t t, int64_t l) const {
    const T* const* p = &nets_.parameters[place(t, l)];
    return {nets_.inputs(l),
            nets_.outputs(l),
            p[0],
            p[1],
            nets_.has_timestep(l) ? p[2] : nullptr,
            nets_.has_skip(l),
            nets_.activation,
            nets_.threshold};
  }

  // Where the parameters of that layer begin.
  int64_t place(int64_t t, int64_t l) const {
    int64_t first = 0;
    int64_t of_net = 0;
    for (int64_t k = 0; k <= nets_.nhidden(); ++k) {
      if (k == l) first = of_net;
      of_net += nets_.has_timestep(k) ? 3 : 2;
    }
    return t * of_net + first;
  }

  // Calls body(t, rows, columns): rows of the type's own, at most rows_of_part at a time and in
  // parts of one size, the largest parts first.
  template <typename Body>
  void for_each_part(int64_t width, int64_t columns_of_part, int64_t rows_of_part,
                     Body&& body) const {
    struct Part {
      int64_t t;
      Range rows, columns;
    };
    std::vector<Part> parts;
    for (int64_t t = 0; t < nets_.ntypes; ++t) {
      const int64_t of_type = (count(t) + rows_of_part - 1) / rows_of_part;
      for (int64_t k = 0; k < of_type; ++k) {
        const int64_t row = count(t) * k / of_type, end = count(t) * (k + 1) / of_type;
        for (int64_t column = 0; column < width; column += columns_of_part) {
          parts.push_back(
              {t, {row, end - row}, {column, std::min(columns_of_part, width - column)}});
        }
      }
    }
    std::stable_sort(parts.begin(), parts.end(), [](const Part& first, const Part& second) {
      return first.rows.count > second.rows.count;
    });
    parallel_(static_cast<int64_t>(parts.size()),
              [&](int64_t k) { body(parts[k].t, parts[k].rows, parts[k].columns); });
  }

  int64_t count(int64_t t) const { return fitting_.type_first[t + 1] - fitting_.type_first[t]; }

  // The rows of type t of an array.
  template <typename U>
  U* of_type(U* array, int64_t t, int64_t width) const {
    return array + fitting_.type_first[t] * width;
  }

  // Where each hidden layer begins in z.
  int64_t z_first(int64_t l) const {
    int64_t first = 0;
    for (int64_t k = 0; k < l; ++k) first += fitting_.size() * nets_.neuron[k];
    return first;
  }

  // An array of numbers for each atom.
  std::vector<T> array(int64_t width) const { return std::vector<T>(fitting_.size() * width); }

  // Takes rows of type t through the whole net and back.
  void energies(int64_t t, Range rows, T* e, T* A, T* z) const {
    std::vector<FittingLayer<T>> layers;
    std::vector<T*> z_of_layers;
    for (int64_t l = 0; l <= nets_.nhidden(); ++l) {
      layers.push_back(layer(t, l));
      if (l == nets_.nhidden()) break;
      const int64_t out = nets_.outputs(l);
      z_of_layers.push_back(of_type(z + z_first(l), t, out) + rows.first * out);
    }
    const int64_t first = rows.first * nets_.ninputs;
    units.energies(layers, rows.count, of_type(fitting_.D, t, nets_.ninputs) + first, z_of_layers,
                   of_type(e, t, 1) + rows.first, of_type(A, t, nets_.ninputs) + first);
  }

  // Calls body(row, t, parameters of the last layer) for each atom.
  template <typename Body>
  void for_each_atom(Body&& body) const {
    for (int64_t t = 0; t < nets_.ntypes; ++t) {
      const FittingLayer<T> last = layer(t, nets_.nhidden());
      for (int64_t row = fitting_.type_first[t]; row < fitting_.type_first[t + 1]; ++row) {
        body(row, t, last);
      }
    }
  }
};

}  // namespace

template <typename T>
void energies(const Fitting<T>& fitting, T* e, T* A, T* z, const Parallel& parallel) {
  const Work<T> work(fitting, parallel);
  work.for_each_part(1, 1, kRowsOfNet,
                     [&](int64_t t, Range rows, Range) { work.energies(t, rows, e, A, z); });
}

// A is twice the gradient of the contraction by one of its arguments, since both are X.
template <typename T>
void read_out(const Readout<T>& readout, const T* X, T* e, T* A, const Parallel& parallel) {
  const ContractionUnits<T> units = DPMASK_CHOOSE(contraction_units, <T>);
  const int64_t M1 = readout.shape.M1, M2 = readout.shape.M2, x = 4 * M1, d = M1 * M2;
  Fitting<T> fitting = readout.fitting;
  fitting.D = readout.D;
  const Work<T> work(fitting, parallel);
  work.for_each_part(1, 1, kRowsOfNet, [&](int64_t t, Range rows, Range) {
    const int64_t first = fitting.type_first[t] + rows.first;
    const Contraction<T> some = {rows.count, M1, M2};
    units.contract(some, X + x * first, X + x * first, readout.D + d * first);
    work.energies(t, rows, e, readout.A_D, readout.z);
    units.reverse(some, X + x * first, readout.A_D + d * first, A + x * first);
    for (int64_t i = first; i < first + rows.count; ++i) {
      const T factor = static_cast<T>(2 * readout.atoms.weight[i]);
      for (int64_t k = x * i; k < x * (i + 1); ++k) A[k] *= factor;
    }
  });
}

template <typename T>
void spread_energies(const RealAtoms& atoms, const double* bias, const T* e, const Energies& out,
                     const Parallel&) {
  std::fill_n(out.energy, atoms.nframes, 0.0);
  for (int64_t t = 0; t < atoms.ntypes; ++t) {
    for (int64_t frame = 0; frame < atoms.nframes; ++frame) {
      const int64_t* group = atoms.first + t * atoms.nframes + frame;
      for (int64_t i = group[0]; i < group[1]; ++i) {
        const double energy = atoms.weight[i] * (e[i] + bias[t]);
        out.atom_energy[atoms.slot[i]] = energy;
        out.energy[frame] += energy;
      }
    }
  }
}

// L = sum (de e + de/dD dA): the last term is the derivative of e along dD := dA, so that the
// reverse pass through value and derivative gives the whole gradient.
template <typename T>
void energies_grad(const Fitting<T>& fitting, const T* z, const T* de, const T* dA, T* dD,
                   const std::vector<T*>& dparameters, const Parallel& parallel) {
  const Work<T> work(fitting, parallel);
  const FittingNets<T>& nets = fitting.nets;
  const int64_t nhidden = nets.nhidden();
  const std::vector<int64_t> sizes = nets.sizes();
  for (size_t p = 0; p < dparameters.size(); ++p) {
    const int64_t t = static_cast<int64_t>(p / sizes.size());
    if (work.count(t) == 0) std::fill_n(dparameters[p], sizes[p % sizes.size()], T(0));
  }

  // h[l] is the input of layer l, dh[l] its derivative along dD; gh[l] and gdh[l] are the
  // derivatives of L by both.
  std::vector<std::vector<T>> h(nhidden + 1), dh(nhidden + 1), dz(nhidden), gh(nhidden + 1),
      gdh(nhidden + 1), gz(nhidden), gdz(nhidden);
  const auto input = [&](int64_t l) { return l == 0 ? fitting.D : h[l].data(); };
  const auto dinput = [&](int64_t l) { return l == 0 ? dA : dh[l].data(); };
  const auto by_input = [&](int64_t l) { return l == 0 ? dD : gh[l].data(); };
  const auto by_dinput = [&](int64_t l) { return gdh[l].data(); };
  gdh[0] = work.array(nhidden == 0 ? nets.ninputs : 0);  // not wanted
  for (int64_t l = 0; l < nhidden; ++l) {
    h[l + 1] = dh[l + 1] = gh[l + 1] = gdh[l + 1] = dz[l] = gz[l] = gdz[l] =
        work.array(nets.neuron[l]);
  }
  for (int64_t l = 0; l < nhidden; ++l) {
    const int64_t in = nets.inputs(l), out = nets.outputs(l);
    work.for_each_part(out, kColumnsOfPart, kRowsOfPart, [&](int64_t t, Range rows, Range columns) {
      work.units.tangent(work.layer(t, l), rows, columns, work.of_type(input(l), t, in),
                         work.of_type(dinput(l), t, in), work.of_type(z + work.z_first(l), t, out),
                         work.of_type(h[l + 1].data(), t, out), work.of_type(dz[l].data(), t, out),
                         work.of_type(dh[l + 1].data(), t, out));
    });
  }

  const int64_t width = nets.inputs(nhidden);
  for (int64_t t = 0; t < nets.ntypes; ++t) {
    std::fill_n(dparameters[work.place(t, nhidden)], width, T(0));
    dparameters[work.place(t, nhidden) + 1][0] = 0;
  }
  work.for_each_atom([&](int64_t row, int64_t t, const FittingLayer<T>& last) {
    T* gW = dparameters[work.place(t, nhidden)];
    for (int64_t c = 0; c < width; ++c) {
      const int64_t k = row * width + c;
      gW[c] += input(nhidden)[k] * de[row] + dinput(nhidden)[k];
      by_input(nhidden)[k] = last.W[c] * de[row];
      by_dinput(nhidden)[k] = last.W[c];
    }
    dparameters[work.place(t, nhidden) + 1][0] += de[row];
  });

  const auto grad_activation = [&](int64_t l, int64_t t, Range columns) {
    const int64_t out = nets.outputs(l);
    const auto of_type = [&](auto* array) { return work.of_type(array, t, out); };
    T* const* gradient = &dparameters[work.place(t, l)];
    work.units.grad_activation(work.layer(t, l), work.count(t), columns,
                               of_type(z + work.z_first(l)), of_type(dz[l].data()),
                               of_type(gh[l + 1].data()), of_type(gdh[l + 1].data()),
                               of_type(gz[l].data()), of_type(gdz[l].data()), gradient[1],
                               nets.has_timestep(l) ? gradient[2] : nullptr);
  };
  // Rows of a part, which adds up over them.
  const int64_t all = std::max<int64_t>(fitting.size(), 1);
  if (nhidden > 0) {
    work.for_each_part(width, kColumnsOfPart, all, [&](int64_t t, Range, Range columns) {
      grad_activation(nhidden - 1, t, columns);
    });
  }
  for (int64_t l = nhidden - 1; l >= 0; --l) {
    const int64_t in = nets.inputs(l), out = nets.outputs(l);
    work.for_each_part(in, kInputsOfPart, all, [&](int64_t t, Range rows, Range inputs) {
      const FittingLayer<T> layer = work.layer(t, l);
      const T* gz_t = work.of_type(gz[l].data(), t, out);
      const T* gdz_t = work.of_type(gdz[l].data(), t, out);
      work.units.reverse(layer, rows, inputs, gz_t, work.of_type(gh[l + 1].data(), t, out),
                         work.of_type(by_input(l), t, in));
      work.units.grad_matrix(layer, rows.count, inputs, work.of_type(input(l), t, in),
                             work.of_type(dinput(l), t, in), gz_t, gdz_t,
                             dparameters[work.place(t, l)]);
      if (l == 0) return;
      work.units.reverse(layer, rows, inputs, gdz_t, work.of_type(gdh[l + 1].data(), t, out),
                         work.of_type(by_dinput(l), t, in));
      grad_activation(l - 1, t, inputs);
    });
  }
}

#define DPMASK_INSTANTIATE(T)                                                                  \
  template void energies<T>(const Fitting<T>&, T*, T*, T*, const Parallel&);                   \
  template void read_out<T>(const Readout<T>&, const T*, T*, T*, const Parallel&);             \
  template void spread_energies<T>(const RealAtoms&, const double*, const T*, const Energies&, \
                                   const Parallel&);                                           \
  template void energies_grad<T>(const Fitting<T>&, const T*, const T*, const T*, T*,          \
                                 const std::vector<T*>&, const Parallel&)
DPMASK_INSTANTIATE(float);
DPMASK_INSTANTIATE(double);

}  // namespace dpmask
