// SPDX-License-Identifier: LGPL-3.0-or-later
// The gradient of the nets' parameters, first by unit, so that no two threads add to one number and
// the order of the additions does not depend on the threads.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "kernels.h"
#include "net_series.h"
#include "pairs.h"

namespace dpmask {

template <typename T>
class UnitGradients {
 public:
  UnitGradients(const Embedding<T>& embedding, const Pairs& pairs, const SeriesOfNets<T>& series)
      : nets_(embedding.nets), series_(series), nunits_(pairs.nunits()), used_(nunits_),
        arrays_(nunits_ * nets_.parameters.size(), nullptr), storage_(nunits_) {
    for (int64_t net = 0; net < nets_.nnets(); ++net) {
      if (series_[net].terms > 0) {
        sizes_.push_back({static_cast<int64_t>(series_[net].C.size())});
      } else {
        sizes_.push_back(nets_.sizes());
      }
    }
    for (int64_t unit = 0; unit < nunits_; ++unit) {
      for (int64_t net = 0; net < nets_.nnets(); ++net) {
        used_[unit].push_back(unit_has_net(embedding.atoms, pairs, unit, nets_.net, net));
      }
    }
  }

  // Zeroed arrays for one unit, listed as EmbeddingUnits wants them; called by the thread that
  // uses them. A second call for the unit returns the same.
  T* const* of_unit(int64_t unit) {
    T** list = arrays_.data() + unit * nets_.parameters.size();
    if (storage_[unit]) return list;
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
  void add_up(const std::vector<T*>& dparameters, const Parallel& parallel) const {
    const std::vector<int64_t> sizes = nets_.sizes();
    parallel(nets_.nnets(), [&](int64_t net) {
      const int64_t first = net * nets_.nparameters();
      if (series_[net].terms > 0) {
        std::vector<T> dC(series_[net].C.size(), T(0));
        add_units(first, static_cast<int64_t>(dC.size()), dC.data());
        series_.gradient(net, dC, &dparameters[first]);
      } else {
        for (size_t p = 0; p < sizes.size(); ++p) {
          std::fill(dparameters[first + p], dparameters[first + p] + sizes[p], T(0));
          add_units(first + p, sizes[p], dparameters[first + p]);
        }
      }
    });
  }

 private:
  // Calls body(place in the list, size) for each array of the unit.
  template <typename Body>
  void for_each_array(int64_t unit, Body&& body) const {
    for (int64_t net = 0; net < nets_.nnets(); ++net) {
      if (!used_[unit][net]) continue;
      for (size_t p = 0; p < sizes_[net].size(); ++p) {
        body(net * nets_.nparameters() + p, sizes_[net][p]);
      }
    }
  }

  void add_units(int64_t place, int64_t size, T* sum) const {
    for (int64_t unit = 0; unit < nunits_; ++unit) {
      const T* share = arrays_[unit * nets_.parameters.size() + place];
      if (share == nullptr) continue;
      for (int64_t k = 0; k < size; ++k) sum[k] += share[k];
    }
  }

  const EmbeddingNets<T>& nets_;
  const SeriesOfNets<T>& series_;
  int64_t nunits_;
  std::vector<std::vector<int64_t>> sizes_;  // of the arrays of each net
  std::vector<std::vector<bool>> used_;      // [units, nets]
  std::vector<T*> arrays_;                   // [units, parameters]
  std::vector<std::unique_ptr<T[]>> storage_;
};

}  // namespace dpmask
