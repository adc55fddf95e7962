// SPDX-License-Identifier: LGPL-3.0-or-later
// The series of the nets by the rules of op/kernels/series.cc, and the gradient through them.
#include "cuda/series/fit_series.h"

#include <algorithm>
#include <numeric>

#include "cuda/common/net_tile.h"
#include "cuda/series/find_panels.h"
#include "cuda/series/nodes.h"
#include "op/kernels/most_panels.h"

namespace dpmask::cuda {
namespace {

// A block for each panel that there is room for.
template <typename T>
struct JoinPanels {
  FoundPanels<T> found;
  int64_t of_panel;      // numbers of C
  const int64_t* first;  // [nnets + 1]
  double* panels;
  T* C;
  DPMASK_KERNEL void operator()(const Block& block) const {
    const int64_t net = block.index / found.capacity, place = block.index % found.capacity;
    if (place >= first[net + 1] - first[net]) return;
    const int64_t from = block.index, to = first[net] + place;
    block.each(2, [=](int64_t k) { panels[2 * to + k] = found.panels[2 * from + k]; });
    block.each(of_panel, [=](int64_t k) { C[to * of_panel + k] = found.C[from * of_panel + k]; });
  }
};

// A block takes every nblocks'th panel of a net.
template <typename T>
struct GradientOfPanels {
  Net<T> net;
  int64_t nblocks, npanels;
  const double* panels;
  const T* dC;  // [npanels, kTerms, M1]
  double* scratch;
  int64_t scratch_size;
  double* shares;
  int64_t gradient_size;
  Cosines cosines;
  int64_t blocks() const { return nblocks; }
  DPMASK_KERNEL void operator()(const Block& block) const {
    const NetOnTile<double, T> on_tile(net, scratch + block.index * scratch_size);
    const int64_t M1 = net.out(net.nlayers - 1);
    double* share = shares + block.index * gradient_size;
    block.each(gradient_size, [=](int64_t k) { share[k] = 0; });
    for (int64_t panel = block.index; panel < npanels; panel += nblocks) {
      set_nodes(block, on_tile, cosines, panels[2 * panel], panels[2 * panel + 1]);
      on_tile.template forward<false, 1>(block, kTerms);
      block.each(kTerms * M1, [=](int64_t nm) {
        const int64_t node = nm / M1, m = nm % M1;
        double sum = 0;
        for (int64_t k = 0; k < kTerms; ++k) {
          sum += cosines.interpolation(k, node) * dC[(panel * kTerms + k) * M1 + m];
        }
        on_tile.gG()[nm] = sum;
      });
      on_tile.template reverse<false>(block, kTerms, share);
    }
  }
};

// Blocks for the panels of a net: one for each, or in proportion if there are too many.
template <typename T>
int64_t gradient_blocks(const EmbeddingNets<T>& nets, const int64_t* first, int64_t net) {
  const int64_t npanels = first[net + 1] - first[net], total = first[nets.nnets()];
  return total <= kBlocks ? npanels : ceil_div(npanels * kBlocks, total);
}

}  // namespace
}  // namespace dpmask::cuda

namespace dpmask {

template <typename T>
void fit_series(const Embedding<T>& given, const AllocateSeries<T>& allocate, Gpu& gpu) {
  const std::vector<int64_t> most = most_panels(given);
  const int64_t nnets = static_cast<int64_t>(most.size());
  std::vector<int64_t> first(nnets + 1, 0);
  const int64_t largest = nnets == 0 ? 0 : *std::max_element(most.begin(), most.end());
  const int64_t capacity = std::min(largest, cuda::kMostPanels);
  if (capacity == 0) {
    allocate(first);
    return;
  }
  Embedding<T> e = given;
  e.series = {nnets, first.data(), nullptr, nullptr};
  const cuda::FoundPanels<T> found = cuda::find_panels(e, most, capacity, gpu);
  cuda::download(found.count, nnets, first.data() + 1, gpu.stream());
  std::partial_sum(first.begin(), first.end(), first.begin());
  const SeriesMemory<T> memory = allocate(first);
  cuda::launch(nnets * capacity, 0, gpu.stream(),
               cuda::JoinPanels<T>{found, kTerms * given.nets.neuron.back(),
                                   gpu.copy(first.data(), nnets + 1), memory.panels, memory.C});
}

template <typename T>
void fit_series_grad(const EmbeddingNets<T>& nets, const Series<T>& series, const T* dC,
                     const std::vector<T*>& dparameters, Gpu& gpu) {
  const int64_t scratch_size = cuda::NetOnTile<double, T>::scratch_size(nets);
  const int64_t share = cuda::gradient_size(nets), of_panel = kTerms * nets.neuron.back();
  std::vector<cuda::GradientOfPanels<T>> gradients;
  std::vector<cuda::AddShares<double, T>> sums;
  for (int64_t net = 0; net < nets.nnets(); ++net) {
    const int64_t first = series.first[net], npanels = series.first[net + 1] - first;
    const int64_t blocks = cuda::gradient_blocks(nets, series.first, net);
    double* scratch = gpu.allocate<double>(blocks * scratch_size);
    double* shares = gpu.allocate<double>(blocks * share);
    gradients.push_back({cuda::net_of(nets, net), blocks, npanels, series.panels + 2 * first,
                         dC + first * of_panel, scratch, scratch_size, shares, share,
                         cuda::Cosines()});
    cuda::append_shares(nets, shares, blocks, &dparameters[net * nets.nparameters()], &sums);
  }
  cuda::launch_all<cuda::kManyThreads>(gradients, gpu.stream());
  cuda::launch_all(sums, gpu.stream());
}

#define DPMASK_INSTANTIATE(T)                                                           \
  template void fit_series<T>(const Embedding<T>&, const AllocateSeries<T>&, Gpu&);     \
  template void fit_series_grad<T>(const EmbeddingNets<T>&, const Series<T>&, const T*, \
                                   const std::vector<T*>&, Gpu&)
DPMASK_INSTANTIATE(float);
DPMASK_INSTANTIATE(double);

}  // namespace dpmask
