// SPDX-License-Identifier: LGPL-3.0-or-later
// The series of the nets by the rules of op/kernels/series.cc, and the gradient through them. The
// nodes of a panel are a tile of a net, in float64.
#include "cuda/series/fit_series.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "cuda/common/embedding.h"
#include "cuda/common/net_tile.h"
#include "cuda/common/pairs.h"
#include "op/kernels/most_panels.h"
#include "op/shared/chebyshev.h"

namespace dpmask::cuda {
namespace {

// The cosines of chebyshev.h.
struct Cosines {
  double of[kPeriod];
  Cosines() {
    for (int64_t step = 0; step < kPeriod; ++step) of[step] = cosine_of_step(step);
  }
  DPMASK_KERNEL double node(int64_t node) const { return of[step_of_node(node)]; }
  DPMASK_KERNEL double interpolation(int64_t k, int64_t node) const {
    return interpolation_factor(k) * of[k * step_of_node(node) % kPeriod];
  }
};

constexpr int kMany = 512;  // threads of a block, where there are few blocks

template <typename T>
DPMASK_KERNEL void set_nodes(const Block& block, const NetOnTile<double, T>& on_tile,
                             const Cosines& cosines, double middle, double half_width) {
  block.each(kTerms, [=, &cosines](int64_t node) {
    on_tile.s()[node] = middle + half_width * cosines.node(node);
  });
}

// ---- Which panels -------------------------------------------------------------------------------

template <typename T>
struct FoundPanels {
  int64_t capacity;  // panels of each net that there is room for
  int64_t* count;    // [nnets]; how many panels the net has
  double* panels;    // [nnets, capacity, 2]
  T* C;              // [nnets, capacity, kTerms, M1]
};

// The larger one; NaN, if there is one, which then is larger than all.
DPMASK_KERNEL double larger_or_nan(double a, double b) { return a > b || a != a ? a : b; }

struct Extremes {  // of |r|^2
  double least, largest;
  DPMASK_KERNEL void join(const Extremes& other) {
    if (other.least < least) least = other.least;
    if (other.largest > largest) largest = other.largest;
  }
};
constexpr double kFar = std::numeric_limits<double>::infinity();

// Sets result to the extremes of of(0), ..., of(n - 1). shares [kThreads] are the block's.
template <typename Of>
DPMASK_KERNEL void find_extremes(const Block& block, int64_t n, const Of& of, Extremes* shares,
                                 Extremes* result) {
  block.each(kThreads, [=](int64_t thread) {
    Extremes mine = {kFar, 0};
    for (int64_t k = thread; k < n; k += kThreads) mine.join(of(k));
    shares[thread] = mine;
  });
  block.each(1, [=](int64_t) {
    Extremes all = {kFar, 0};
    for (int thread = 0; thread < kThreads; ++thread) all.join(shares[thread]);
    *result = all;
  });
}

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
      double r2 = 0;
      for (int a = 0; a < 3; ++a) {
        const double r = coord[3 * atoms.slot[j] + a] - coord[3 * atoms.slot[i] + a];
        r2 += r * r;
      }
      return Extremes{r2, r2};
    };
    Extremes* shares = reinterpret_cast<Extremes*>(block.shared);
    find_extremes(block, frame_size(pairs, i), of, shares, of_rows + i);
  }
};

// A block for each net halves its panels from left to right, until all are good or they are too
// many.
template <typename T>
struct FindPanels {
  static constexpr int kShares = 16;
  Net<T> shape;                // of all nets
  const T* const* parameters;  // [nnets, nparameters]
  int64_t nparameters;
  const int64_t* most;
  int64_t size;
  const Extremes* of_rows;  // [size]
  FoundPanels<T> found;
  double* scratch;  // of each net
  int64_t of_tile, of_net;
  Cosines cosines;

  struct Search {  // in shared memory
    Net<T> net;
    Extremes shares[kThreads], all;
    double steepest, largest;
    double of_shares[kShares][2];  // the last coefficients and G, the largest of some columns
    bool good;
  };

  DPMASK_KERNEL void operator()(const Block& block) const {
    const int64_t index = block.index;
    const int64_t room = most[index] < found.capacity ? most[index] : found.capacity;
    Search* search = reinterpret_cast<Search*>(block.shared);
    int64_t count = 0;
    if (room > 0) {
      const T* const* list = parameters + index * nparameters;
      block.each(1, [=](int64_t) {
        search->net = shape;
        search->net.parameters = arrays_of(shape, list);
        search->steepest = search->largest = 0;
      });
      const Extremes* rows = of_rows;
      find_extremes(
          block, size, [rows](int64_t i) { return rows[i]; }, search->shares, &search->all);
      if (shape.activation != Activation::linear)
        find_steepest(block, search, scratch + index * of_net + of_tile);
      count = halve(block, search, room);
    }
    block.each(1, [=](int64_t) { found.count[index] = count; });
  }

  // memory has 1 + 2 numbers for each neuron.
  DPMASK_KERNEL void find_steepest(const Block& block, Search* search, double* memory) const {
    double* h = memory;  // bounds of what enters a layer
    block.each(1, [=](int64_t) { h[0] = 1; });
    for (int l = 0; l < shape.nlayers; ++l) {
      const int64_t in = shape.in(l), out = shape.out(l);
      double *z = h + in, *output = z + out;
      block.each(out, [=](int64_t o) {
        const NetArrays<const T>& arrays = search->net.parameters;
        z[o] = 0;
        for (int64_t i = 0; i < in; ++i) z[o] += std::abs(double{arrays.W[l][i * out + o]}) * h[i];
        const T* timestep = arrays.timestep[l];
        output[o] = slope_bound(z[o], timestep == nullptr ? 1.0 : double{timestep[o]},
                                shape.has_skip[l] ? h[o % in] : 0.0);
      });
      block.each(1, [=](int64_t) {
        for (int64_t o = 0; o < out; ++o) {
          if (z[o] > search->steepest) search->steepest = z[o];
        }
      });
      h = output;
    }
  }

  // Returns the number of panels, 0 if there are not to be any.
  DPMASK_KERNEL int64_t halve(const Block& block, Search* search, int64_t room) const {
    const double lower = 1 / sqrt(search->all.largest), shortest = 1 / sqrt(search->all.least);
    const double upper = larger(shortest, kLeastRatio * lower);
    const double wanted = ceil(search->steepest * (upper - lower) / 2 / kTerms);
    if (!(wanted <= static_cast<double>(room))) return 0;
    const int64_t nfirst = wanted > 1 ? static_cast<int64_t>(wanted) : 1;
    const double half_width = (upper - lower) / 2 / static_cast<double>(nfirst);
    const auto middle = [=](int64_t p) {
      return lower + half_width * static_cast<double>(2 * p + 1);
    };
    for (int64_t p = 0; p < nfirst; ++p) look_at(block, search, middle(p), half_width);
    int64_t count = 0;
    for (int64_t p = 0; p < nfirst; ++p) {
      // The panel is the one of this number among the 2^level parts of the first.
      int64_t level = 0, number = 0;
      do {
        const double half = ldexp(half_width, -static_cast<int>(level));
        const double between = middle(p) - half_width + half * static_cast<double>(2 * number + 1);
        look_at(block, search, between, half);
        if (search->good) {
          if (count == room) return 0;
          append(block, search, between, half, count++);
          for (++number; level > 0 && number % 2 == 0; --level) number /= 2;
        } else {
          if (++level == room) return 0;  // level + 1 panels at least
          number *= 2;
        }
      } while (level > 0);
    }
    return count;
  }

  // Runs the net at the nodes of a panel, and sees whether the last coefficients of its series are
  // lost in rounding error.
  DPMASK_KERNEL void look_at(const Block& block, Search* search, double middle,
                             double half_width) const {
    const NetOnTile<double, T> on_tile = net_of_block(block, search);
    set_nodes(block, on_tile, cosines, middle, half_width);
    on_tile.template forward<false, 0>(block, kTerms);
    const int64_t M1 = shape.out(shape.nlayers - 1);
    double* last = scratch + block.index * of_net + of_tile;  // of each column
    double* largest = last + M1;                              // G of each column
    block.each(M1, [=](int64_t m) {
      double C[2] = {}, most_G = 0;
      for (int64_t node = 0; node < kTerms; ++node) {
        const double G = on_tile.G()[node * M1 + m];
        for (int k = 0; k < 2; ++k) C[k] += cosines.interpolation(kTerms - 2 + k, node) * G;
        most_G = larger_or_nan(most_G, std::abs(G));
      }
      last[m] = larger_or_nan(std::abs(C[0]), std::abs(C[1]));
      largest[m] = most_G;
    });
    block.each(kShares, [=](int64_t share) {
      double most[2] = {};
      for (int64_t m = share; m < M1; m += kShares) {
        most[0] = larger_or_nan(most[0], last[m]);
        most[1] = larger_or_nan(most[1], largest[m]);
      }
      for (int k = 0; k < 2; ++k) search->of_shares[share][k] = most[k];
    });
    block.each(1, [=](int64_t) {
      double most = 0;
      for (int share = 0; share < kShares; ++share) {
        most = larger_or_nan(most, search->of_shares[share][0]);
        search->largest = larger_or_nan(search->largest, search->of_shares[share][1]);
      }
      search->good = most <= kTolerance<T> * search->largest;
    });
  }

  // Puts the panel that was looked at to those that were found.
  DPMASK_KERNEL void append(const Block& block, Search* search, double middle, double half_width,
                            int64_t place) const {
    const NetOnTile<double, T> on_tile = net_of_block(block, search);
    const int64_t M1 = shape.out(shape.nlayers - 1);
    const int64_t panel = block.index * found.capacity + place;
    T* C = found.C + panel * kTerms * M1;
    double* panels = found.panels + 2 * panel;
    block.each(kTerms * M1, [=](int64_t km) {
      double sum = 0;
      for (int64_t node = 0; node < kTerms; ++node) {
        sum += cosines.interpolation(km / M1, node) * on_tile.G()[node * M1 + km % M1];
      }
      C[km] = static_cast<T>(sum);
    });
    block.each(2, [=](int64_t k) { panels[k] = k == 0 ? middle : half_width; });
  }

  DPMASK_KERNEL NetOnTile<double, T> net_of_block(const Block& block, Search* search) const {
    return {search->net, scratch + block.index * of_net};
  }
};

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

// ---- Gradient -----------------------------------------------------------------------------------

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

template <typename T>
int64_t bounds_size(const EmbeddingNets<T>& nets) {  // memory of find_steepest
  int64_t total = 1;
  for (int64_t width : nets.neuron) total += 2 * width;
  return total;
}

// The panels of all nets, with the room that there was for them.
template <typename T>
FoundPanels<T> find_panels(const dpmask::Embedding<T>& e, const std::vector<int64_t>& most,
                           int64_t capacity, Gpu& gpu) {
  const EmbeddingNets<T>& nets = e.nets;
  const int64_t nnets = e.series.nnets, of_tile = NetOnTile<double, T>::scratch_size(nets);
  const int64_t of_net = of_tile + bounds_size(nets);
  const FoundPanels<T> found = {capacity, gpu.allocate<int64_t>(nnets),
                                gpu.allocate<double>(nnets * capacity * 2),
                                gpu.allocate<T>(nnets * capacity * kTerms * nets.neuron.back())};
  Extremes* of_rows = gpu.allocate<Extremes>(e.atoms.size);
  const Embedding<T> on_gpu = on_device(e, gpu);
  launch(e.atoms.size, ExtremesOfRow::kShared, gpu.stream(),
         ExtremesOfRow{on_gpu.atoms, on_gpu.pairs, e.coord, of_rows});
  using Kernel = FindPanels<T>;
  launch<kMany>(nnets, sizeof(typename Kernel::Search), gpu.stream(),
                Kernel{net_of(nets, 0), gpu.copy_pointers(nets.parameters), nets.nparameters(),
                       gpu.copy(most.data(), nnets), e.atoms.size, of_rows, found,
                       gpu.allocate<double>(nnets * of_net), of_tile, of_net, Cosines()});
  return found;
}

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
  cuda::launch_all<cuda::kMany>(gradients, gpu.stream());
  cuda::launch_all(sums, gpu.stream());
}

#define DPMASK_INSTANTIATE(T)                                                           \
  template void fit_series<T>(const Embedding<T>&, const AllocateSeries<T>&, Gpu&);     \
  template void fit_series_grad<T>(const EmbeddingNets<T>&, const Series<T>&, const T*, \
                                   const std::vector<T*>&, Gpu&)
DPMASK_INSTANTIATE(float);
DPMASK_INSTANTIATE(double);

}  // namespace dpmask
