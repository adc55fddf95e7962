// SPDX-License-Identifier: LGPL-3.0-or-later
// The work of fitting nets in parts, for threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "op/kernels/fitting.h"
#include "op/kernels/fitting_units.h"
#include "op/kernels/instruction_set.h"
#include "op/kernels/parallel.h"

namespace dpmask {

// Atoms of a type that a thread takes through their whole net and back, so that its parameters are
// still near when they are read again.
constexpr int64_t kRowsOfNet = 32;

template <typename T>
class FittingParts {
 public:
  FittingParts(const Fitting<T>& fitting, const Parallel& parallel)
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

}  // namespace dpmask
