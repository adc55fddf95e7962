// SPDX-License-Identifier: LGPL-3.0-or-later
#include "cuda/series/find_panels.h"

#include "cuda/common/embedding.h"
#include "cuda/common/net_tile.h"
#include "cuda/series/distances.h"
#include "cuda/series/nodes.h"
#include "op/shared/series.h"

namespace dpmask::cuda {
namespace {

constexpr int kColumnShares = 16;

// The larger one; NaN, if there is one, which then is larger than all.
DPMASK_KERNEL double larger_or_nan(double a, double b) { return a > b || a != a ? a : b; }

// What the block of a net has in shared memory.
template <typename T>
struct Search {
  Net<T> net;
  Extremes shares[kThreads], all;
  double steepest, largest;            // of the net: bounds |dz/ds|; |G| at all nodes so far
  double of_shares[kColumnShares][2];  // the last coefficients and G, the largest of some columns
  bool good;                           // the panel that was looked at
};

// ---- How steep a net is -------------------------------------------------------------------------

// Memory that follows: 1 + 2 numbers for each neuron.
template <typename T>
int64_t bounds_size(const EmbeddingNets<T>& nets) {
  int64_t total = 1;
  for (int64_t width : nets.neuron) total += 2 * width;
  return total;
}

// Layer by layer, bounds of |dz/ds| and of the slopes of outputs. Sets the steepest z.
template <typename T>
DPMASK_KERNEL void find_steepest(const Block& block, const Net<T>& shape, Search<T>* search,
                                 double* memory) {
  double* h = memory;  // bounds of what enters a layer
  block.each(1, [=](int64_t) { h[0] = 1; });
  for (int l = 0; l < shape.nlayers; ++l) {
    const int64_t in = shape.in(l), out = shape.out(l);
    const bool has_skip = shape.has_skip[l];
    double *z = h + in, *output = z + out;
    block.each(out, [=](int64_t o) {
      const NetArrays<const T>& arrays = search->net.parameters;
      z[o] = 0;
      for (int64_t i = 0; i < in; ++i) z[o] += std::abs(double{arrays.W[l][i * out + o]}) * h[i];
      const T* timestep = arrays.timestep[l];
      output[o] = slope_bound(z[o], timestep == nullptr ? 1.0 : double{timestep[o]},
                              has_skip ? h[o % in] : 0.0);
    });
    block.each(1, [=](int64_t) {
      for (int64_t o = 0; o < out; ++o) {
        if (z[o] > search->steepest) search->steepest = z[o];
      }
    });
    h = output;
  }
}

// ---- One panel ----------------------------------------------------------------------------------

struct PanelPlace {
  double middle, half_width;
};

// The last coefficients of a panel's series and G at its nodes, the larger ones of each column.
template <typename T>
DPMASK_KERNEL void measure_columns(const Block& block, const NetOnTile<double, T>& on_tile,
                                   const Cosines& cosines, int64_t M1, double* last,
                                   double* largest) {
  block.each(M1, [=, &cosines](int64_t m) {
    double C[2] = {}, most_G = 0;
    for (int64_t node = 0; node < kTerms; ++node) {
      const double G = on_tile.G()[node * M1 + m];
      for (int k = 0; k < 2; ++k) C[k] += cosines.interpolation(kTerms - 2 + k, node) * G;
      most_G = larger_or_nan(most_G, std::abs(G));
    }
    last[m] = larger_or_nan(std::abs(C[0]), std::abs(C[1]));
    largest[m] = most_G;
  });
}

// Tells from these whether the last coefficients are lost in rounding error.
template <typename T>
DPMASK_KERNEL void judge(const Block& block, int64_t M1, const double* last, const double* largest,
                         Search<T>* search) {
  block.each(kColumnShares, [=](int64_t share) {
    double most[2] = {};
    for (int64_t m = share; m < M1; m += kColumnShares) {
      most[0] = larger_or_nan(most[0], last[m]);
      most[1] = larger_or_nan(most[1], largest[m]);
    }
    for (int k = 0; k < 2; ++k) search->of_shares[share][k] = most[k];
  });
  block.each(1, [=](int64_t) {
    double most = 0;
    for (int share = 0; share < kColumnShares; ++share) {
      most = larger_or_nan(most, search->of_shares[share][0]);
      search->largest = larger_or_nan(search->largest, search->of_shares[share][1]);
    }
    search->good = most <= kTolerance<T> * search->largest;
  });
}

// Puts the panel at whose nodes the net ran last to those that were found.
template <typename T>
DPMASK_KERNEL void append(const Block& block, const NetOnTile<double, T>& on_tile,
                          const Cosines& cosines, int64_t M1, const PanelPlace& place,
                          int64_t panel, const FoundPanels<T>& found) {
  T* C = found.C + panel * kTerms * M1;
  double* panels = found.panels + 2 * panel;
  block.each(kTerms * M1, [=, &cosines](int64_t km) {
    double sum = 0;
    for (int64_t node = 0; node < kTerms; ++node) {
      sum += cosines.interpolation(km / M1, node) * on_tile.G()[node * M1 + km % M1];
    }
    C[km] = static_cast<T>(sum);
  });
  block.each(2, [=](int64_t k) { panels[k] = k == 0 ? place.middle : place.half_width; });
}

// ---- All panels of a net ------------------------------------------------------------------------

// The equal panels that are there before any is halved.
struct FirstPanels {
  double lower, upper, wanted;  // as many are wanted, at least one there is
  DPMASK_KERNEL int64_t count() const { return wanted > 1 ? static_cast<int64_t>(wanted) : 1; }
  DPMASK_KERNEL double half_width() const {
    return (upper - lower) / 2 / static_cast<double>(count());
  }
};

template <typename T>
DPMASK_KERNEL FirstPanels first_panels(const Search<T>& search) {
  const double lower = 1 / sqrt(search.all.largest), shortest = 1 / sqrt(search.all.least);
  const double upper = larger(shortest, kLeastRatio * lower);
  return {lower, upper, panels_wanted(search.steepest, (upper - lower) / 2)};
}

// A block for each net halves its panels from left to right, until all are good or they are too
// many.
template <typename T>
struct FindPanels {
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

  DPMASK_KERNEL void operator()(const Block& block) const {
    const int64_t index = block.index;
    const int64_t room = most[index] < found.capacity ? most[index] : found.capacity;
    Search<T>* search = reinterpret_cast<Search<T>*>(block.shared);
    int64_t count = 0;
    if (room > 0) {
      begin(block, search);
      count = halve(block, search, room);
    }
    block.each(1, [=](int64_t) { found.count[index] = count; });
  }

  DPMASK_KERNEL void begin(const Block& block, Search<T>* search) const {
    const T* const* list = parameters + block.index * nparameters;
    block.each(1, [=](int64_t) {
      search->net = shape;
      search->net.parameters = arrays_of(shape, list);
      search->steepest = search->largest = 0;
    });
    const Extremes* rows = of_rows;
    find_extremes(block, size, [rows](int64_t i) { return rows[i]; }, search->shares, &search->all);
    if (shape.activation != Activation::linear) {
      find_steepest(block, shape, search, scratch + block.index * of_net + of_tile);
    }
  }

  // Returns the number of panels, 0 if there are not to be any.
  DPMASK_KERNEL int64_t halve(const Block& block, Search<T>* search, int64_t room) const {
    const FirstPanels first = first_panels(*search);
    if (!(first.wanted <= static_cast<double>(room))) return 0;
    const int64_t nfirst = first.count();
    const double half_width = first.half_width();
    const auto middle = [=](int64_t p) {
      return first.lower + half_width * static_cast<double>(2 * p + 1);
    };
    for (int64_t p = 0; p < nfirst; ++p) look_at(block, search, {middle(p), half_width});
    int64_t count = 0;
    for (int64_t p = 0; p < nfirst; ++p) {
      // The panel is the one of this number among the 2^level sections of the first.
      int64_t level = 0, number = 0;
      do {
        const double half = ldexp(half_width, -static_cast<int>(level));
        const double left = middle(p) - half_width;
        const PanelPlace place = {left + half * static_cast<double>(2 * number + 1), half};
        look_at(block, search, place);
        if (search->good) {
          if (count == room) return 0;
          append(block, net_of_block(block, search), cosines, M1(), place,
                 block.index * found.capacity + count++, found);
          for (++number; level > 0 && number % 2 == 0; --level) number /= 2;
        } else {
          if (++level == room) return 0;  // level + 1 panels at least
          number *= 2;
        }
      } while (level > 0);
    }
    return count;
  }

  // Runs the net at the nodes of a panel, and sees whether it is good.
  DPMASK_KERNEL void look_at(const Block& block, Search<T>* search, const PanelPlace& place) const {
    const NetOnTile<double, T> on_tile = net_of_block(block, search);
    set_nodes(block, on_tile, cosines, place.middle, place.half_width);
    on_tile.template forward<false, 0>(block, kTerms);
    double* last = scratch + block.index * of_net + of_tile;
    double* largest = last + M1();
    measure_columns(block, on_tile, cosines, M1(), last, largest);
    judge(block, M1(), last, largest, search);
  }

  DPMASK_KERNEL int64_t M1() const { return shape.out(shape.nlayers - 1); }
  DPMASK_KERNEL NetOnTile<double, T> net_of_block(const Block& block, Search<T>* search) const {
    return {search->net, scratch + block.index * of_net};
  }
};

}  // namespace

template <typename T>
FoundPanels<T> find_panels(const Embedding<T>& e, const std::vector<int64_t>& most,
                           int64_t capacity, Gpu& gpu) {
  const EmbeddingNets<T>& nets = e.nets;
  const int64_t nnets = e.series.nnets, of_tile = NetOnTile<double, T>::scratch_size(nets);
  const int64_t of_net = of_tile + bounds_size(nets);
  const FoundPanels<T> found = {capacity, gpu.allocate<int64_t>(nnets),
                                gpu.allocate<double>(nnets * capacity * 2),
                                gpu.allocate<T>(nnets * capacity * kTerms * nets.neuron.back())};
  const Extremes* of_rows = extremes_of_rows(on_device(e, gpu), gpu);
  launch<kManyThreads>(
      nnets, sizeof(Search<T>), gpu.stream(),
      FindPanels<T>{net_of(nets, 0), gpu.copy_pointers(nets.parameters), nets.nparameters(),
                    gpu.copy(most.data(), nnets), e.atoms.size, of_rows, found,
                    gpu.allocate<double>(nnets * of_net), of_tile, of_net, Cosines()});
  return found;
}

template FoundPanels<float> find_panels<float>(const Embedding<float>&, const std::vector<int64_t>&,
                                               int64_t, Gpu&);
template FoundPanels<double> find_panels<double>(const Embedding<double>&,
                                                 const std::vector<int64_t>&, int64_t, Gpu&);

}  // namespace dpmask::cuda
