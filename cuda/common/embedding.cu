// SPDX-License-Identifier: LGPL-3.0-or-later
#include "cuda/common/embedding.h"

namespace dpmask::cuda {

template <typename T>
DeviceEmbedding<T> on_device(const Embedding<T>& e, Gpu& gpu) {
  const NumberedAtoms numbered = number_pairs(e.atoms, e.coord, gpu);
  Series<T> series = e.series;
  series.first = gpu.copy(e.series.first, series.nnets + 1);
  return {numbered.atoms,
          numbered.pairs,
          e.coord,
          gpu.copy(e.nets.net.data(), static_cast<int64_t>(e.nets.net.size())),
          series,
          e.series.npanels(),
          e.nets.neuron.back(),
          e.n,
          {e.atoms.first, e.series.first, e.nets.net.data()}};
}
template DeviceEmbedding<float> on_device<float>(const Embedding<float>&, Gpu&);
template DeviceEmbedding<double> on_device<double>(const Embedding<double>&, Gpu&);

}  // namespace dpmask::cuda
