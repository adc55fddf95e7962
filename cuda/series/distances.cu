// SPDX-License-Identifier: LGPL-3.0-or-later
#include "cuda/series/distances.h"

#include "op/shared/environment_row.h"

namespace dpmask::cuda {
namespace {

struct ExtremesOfRow {
  RealAtoms atoms;
  PairNumbers pairs;
  const double* coord;
  Extremes* of_rows;
  static constexpr int64_t kShared = kThreads * sizeof(Extremes);
  DPMASK_KERNEL void operator()(const Block& block) const {
    const int64_t i = block.index;
    const auto of = [this, i](int64_t local) {
      const int64_t j = row_in_frame(pairs, i, local);
      if (j == i) return Extremes{kFar, 0};
      const double r2 = squared_distance(coord + 3 * atoms.slot[i], coord + 3 * atoms.slot[j]);
      return Extremes{r2, r2};
    };
    Extremes* shares = reinterpret_cast<Extremes*>(block.shared);
    find_extremes(block, frame_size(pairs, i), of, shares, of_rows + i);
  }
};

}  // namespace

template <typename T>
const Extremes* extremes_of_rows(const DeviceEmbedding<T>& e, Gpu& gpu) {
  Extremes* of_rows = gpu.allocate<Extremes>(e.atoms.size);
  launch(e.atoms.size, ExtremesOfRow::kShared, gpu.stream(),
         ExtremesOfRow{e.atoms, e.pairs, e.coord, of_rows});
  return of_rows;
}
template const Extremes* extremes_of_rows<float>(const DeviceEmbedding<float>&, Gpu&);
template const Extremes* extremes_of_rows<double>(const DeviceEmbedding<double>&, Gpu&);

}  // namespace dpmask::cuda
