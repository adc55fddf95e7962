// SPDX-License-Identifier: LGPL-3.0-or-later
// The gradient of the parameters of nets without a series, first by unit, so that no two threads
// add to one number and the order of the additions does not depend on the threads.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "op/kernels/embedding.h"
#include "op/kernels/pairs.h"

namespace dpmask {

template <typename T>
class UnitGradients {
 public:
  UnitGradients(const Embedding<T>& embedding, const Pairs& pairs)
      : embedding_(embedding), sizes_(embedding.nets.sizes()), nunits_(pairs.nunits),
        used_(nunits_), arrays_(nunits_ * embedding.nets.parameters.size(), nullptr),
        storage_(nunits_) {
    const Series<T>& series = embedding.series;
    for (int64_t unit = 0; unit < nunits_; ++unit) {
      for (int64_t net = 0; net < series.nnets; ++net) {
        used_[unit].push_back(!series.has(net) &&
                              unit_has_net(embedding.atoms, pairs, unit, embedding.nets.net, net));
      }
    }
  }

  // Zeroed arrays for one unit, listed as DirectUnits wants them; called by the thread that
  // uses them.
  T* const* of_unit(int64_t unit) {
    T** list = arrays_.data() + unit * embedding_.nets.parameters.size();
    int64_t total = 0;
    for_each_array(unit, [&](int64_t, int64_t size) { total += size; });
    storage_[unit].reset(new T[total]());
    T* array = storage_[unit].get();
    for_each_array(unit, [&](int64_t place, int64_t size) {
      list[place] = array;
      array += size;
    });
    return list;
  }

  // Sets dparameters to the sum over the units.
  void add_up(const std::vector<T*>& dparameters, Cpu& cpu) const {
    cpu.parallel(static_cast<int64_t>(dparameters.size()), [&](int64_t place) {
      const int64_t size = sizes_[place % sizes_.size()];
      T* sum = dparameters[place];
      std::fill(sum, sum + size, T(0));
      for (int64_t unit = 0; unit < nunits_; ++unit) {
        const T* share = arrays_[unit * dparameters.size() + place];
        if (share == nullptr) continue;
        for (int64_t k = 0; k < size; ++k) sum[k] += share[k];
      }
    });
  }

 private:
  // Calls body(place in the list, size) for each array of the unit.
  template <typename Body>
  void for_each_array(int64_t unit, Body&& body) const {
    const int64_t of_net = static_cast<int64_t>(sizes_.size());
    for (int64_t net = 0; net < embedding_.series.nnets; ++net) {
      if (!used_[unit][net]) continue;
      for (int64_t p = 0; p < of_net; ++p) body(net * of_net + p, sizes_[p]);
    }
  }

  const Embedding<T>& embedding_;
  std::vector<int64_t> sizes_;  // of the arrays of one net
  int64_t nunits_;
  std::vector<std::vector<bool>> used_;  // [units, nets]
  std::vector<T*> arrays_;               // [units, parameters]
  std::vector<std::unique_ptr<T[]>> storage_;
};

}  // namespace dpmask
