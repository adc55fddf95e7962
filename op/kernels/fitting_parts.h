// SPDX-License-Identifier: LGPL-3.0-or-later
// The work of fitting nets in parts, for threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <tuple>
#include <vector>

#include "op/kernels/cpu.h"
#include "op/kernels/fitting.h"
#include "op/kernels/fitting_units.h"
#include "op/kernels/instruction_set.h"

namespace dpmask {

// Atoms of a type that a thread takes through their whole net and back, so that its parameters are
// still near when they are read again.
constexpr int64_t kRowsOfNet = 32;

template <typename T>
class FittingParts {
 public:
  FittingParts(const Fitting<T>& fitting, Cpu& cpu)
      : nets_(fitting.nets), fitting_(fitting), cpu_(cpu), units(DPMASK_CHOOSE(fitting_units, <T>)),
        layers_(cpu.allocate<FittingLayer<T>>(nets_.ntypes * nets_.nlayers())) {
    for (int64_t t = 0; t < nets_.ntypes; ++t) {
      for (int64_t l = 0; l < nets_.nlayers(); ++l) layers_[index(t, l)] = make_layer(t, l);
    }
  }

  const FittingNets<T>& nets_;
  const Fitting<T>& fitting_;
  Cpu& cpu_;
  FittingUnits<T> units;

  // A hidden or the last layer of type t.
  const FittingLayer<T>& layer(int64_t t, int64_t l) const { return layers_[index(t, l)]; }

  // Calls body(t, rows, columns): rows of the type's own, at most rows_of_part at a time and in
  // parts of one size, the largest parts first.
  template <typename Body>
  void for_each_part(int64_t width, int64_t columns_of_part, int64_t rows_of_part,
                     Body&& body) const {
    struct Part {
      int64_t t;
      Range rows, columns;
    };
    const Cpu::Scope scope(cpu_);
    const int64_t of_rows = (width + columns_of_part - 1) / columns_of_part;
    Part* parts = cpu_.allocate<Part>((fitting_.size() / rows_of_part + nets_.ntypes) * of_rows);
    int64_t nparts = 0;
    for (int64_t t = 0; t < nets_.ntypes; ++t) {
      const int64_t rows = fitting_.count(t), of_type = (rows + rows_of_part - 1) / rows_of_part;
      for (int64_t k = 0; k < of_type; ++k) {
        const int64_t row = rows * k / of_type, end = rows * (k + 1) / of_type;
        for (int64_t column = 0; column < width; column += columns_of_part) {
          parts[nparts++] = {
              t, {row, end - row}, {column, std::min(columns_of_part, width - column)}};
        }
      }
    }
    std::sort(parts, parts + nparts, [](const Part& one, const Part& other) {
      const auto order = [](const Part& part) {
        return std::make_tuple(-part.rows.count, part.t, part.rows.first, part.columns.first);
      };
      return order(one) < order(other);
    });
    cpu_.parallel(nparts, [&](int64_t k) { body(parts[k].t, parts[k].rows, parts[k].columns); });
  }

  // An array of so many numbers for each atom, not initialised.
  T* array(int64_t width) const { return cpu_.allocate<T>(fitting_.size() * width); }

  // Takes rows of type t through the whole net and back. All arrays are those of all atoms.
  void energies(int64_t t, Range rows, T* e, T* A, T* z) const {
    int64_t total = 0, widest = 0;
    for (int64_t width : nets_.neuron) {
      total += padded(width);
      widest = std::max(widest, padded(width));
    }
    const Arena::Scope scope(Arena::of_thread());
    T* scratch = Arena::of_thread().allocate<T>(rows.count * 2 * (total + widest));
    const int64_t first = fitting_.type_first[t] + rows.first;
    units.energies({&layers_[index(t, 0)], nets_.nhidden(), rows.count},
                   fitting_.D + first * nets_.ninputs, {z, fitting_.size(), first}, e + first,
                   A + first * nets_.ninputs, scratch);
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

 private:
  int64_t index(int64_t t, int64_t l) const { return t * nets_.nlayers() + l; }
  FittingLayer<T> make_layer(int64_t t, int64_t l) const {
    const int64_t place = nets_.place(t, l);
    const T* const* p = &nets_.parameters[place];
    return {nets_.inputs(l),
            nets_.outputs(l),
            p[0],
            nets_.in_float32.empty() ? nullptr : nets_.in_float32[place],
            p[1],
            nets_.has_timestep(l) ? p[2] : nullptr,
            nets_.has_skip(l),
            nets_.activation,
            nets_.threshold};
  }

  FittingLayer<T>* layers_;  // [ntypes, layers]
};

}  // namespace dpmask
