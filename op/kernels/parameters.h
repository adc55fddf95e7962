// SPDX-License-Identifier: LGPL-3.0-or-later
// The order of nets' parameters: net after net, layer after layer, matrix [in, out], bias [out]
// and, where has_timestep, timestep [out]. Static for the reason given in environment_row.h.
#pragma once

#include <cstdint>
#include <vector>

namespace dpmask {

// Arrays of one net before those of this layer; if it is nlayers(), all.
template <typename Nets>
static inline int64_t arrays_before(const Nets& nets, int64_t layer) {
  int64_t count = 0;
  for (int64_t l = 0; l < layer; ++l) count += nets.has_timestep(l) ? 3 : 2;
  return count;
}

// The sizes of the arrays of one net.
template <typename Nets>
static inline std::vector<int64_t> sizes_of_arrays(const Nets& nets) {
  std::vector<int64_t> all;
  for (int64_t layer = 0; layer < nets.nlayers(); ++layer) {
    all.push_back(nets.inputs(layer) * nets.outputs(layer));
    all.push_back(nets.outputs(layer));
    if (nets.has_timestep(layer)) all.push_back(nets.outputs(layer));
  }
  return all;
}

}  // namespace dpmask
