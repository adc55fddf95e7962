// SPDX-License-Identifier: LGPL-3.0-or-later
// The moments: a block has a centre atom, and takes its neighbours in batches, sorted by panel. Of
// a pair, M += v R^T + s S^T with v_k = T_k(x_ij), s_k = dT_k/ds and, for the moments, R = R_ij / n
// and S = 0; for their tangents, R = dR_ij/dt / n and S = R_ij ds/dt / n.
#include "batch.h"
#include "chebyshev.h"
#include "moments.h"
#include "pair_rows.h"

namespace dpmask::cuda {
namespace {

constexpr int kBatch = 1024;                  // neighbours that are sorted at once
constexpr int kGroups = kThreads / kTerms;    // of threads, one for each term
constexpr int kOfGroup = kThreads / kGroups;  // pairs
constexpr int64_t kShared = 32 << 10;         // bytes of moments to add up in shared memory
constexpr int64_t kStrips = 32, kCounts = 1 << 14;

// A chunk of pairs, one for each thread, sorted by panel; in shared memory.
template <bool kTangent, typename T>
struct Chunk {
  Four<T> R[kThreads], S[kTangent ? kThreads : 1];
  T value[kTerms][kThreads + 1], slope[kTangent ? kTerms : 1][kThreads + 1];  // v and s
  // The first and the last panel of a group may be those of the groups beside it: their sums are
  // added up in order.
  T sums[kGroups][2][4][kTerms];
  int32_t panel_of_sums[kGroups][2];  // -1 where there is none
  int32_t panel[kThreads];            // of the part's
};

template <bool kTangent, typename T>
struct SetMoments {
  Embedding<T> e;
  ForceCotangents cotangents;  // of the tangents
  Part part;
  T* moments;

  using OfChunk = Chunk<kTangent, T>;
  struct Shared {
    OfChunk* chunk;
    T* M;  // [npanels, kTerms, 4], with a stride between terms
    int64_t stride;
    int32_t* first;    // [npanels + 2]; of each panel's neighbours among the sorted
    uint16_t* counts;  // [npanels + 1, strips]; the last are pairs without a series
    uint16_t* panel;   // [kBatch]; of the unsorted
    uint16_t* sorted;  // [kBatch]; place in the batch
    int64_t strips;    // of a batch, each counted by a thread
  };

  static bool sums_in_shared(int64_t npanels) {
    return npanels * kTerms * 4 * static_cast<int64_t>(sizeof(T)) <= kShared;
  }
  DPMASK_DEVICE static int64_t strips(int64_t npanels) {
    const int64_t count = kCounts / (npanels + 1);
    return count < 1 ? 1 : count > kStrips ? kStrips : count;
  }
  static int64_t shared(int64_t npanels) {
    return sizeof(OfChunk) + (sums_in_shared(npanels) ? npanels * kTerms * 4 * sizeof(T) : 0) +
           (npanels + 2) * sizeof(int32_t) +
           ((npanels + 1) * strips(npanels) + 2 * kBatch) * sizeof(uint16_t);
  }
  int64_t blocks() const { return part.npanels == 0 ? 0 : part.rows(); }

  DPMASK_KERNEL void operator()(const Block& block) const {
    const int64_t i = part.begin + block.index, size = frame_size(e.pairs, i);
    const Shared at = deal_out(block, i);
    block.each(part.height() * 4, [=](int64_t k) { at.M[k / 4 * at.stride + k % 4] = 0; });
    for (int64_t first = 0; first < size; first += kBatch) {
      const int64_t count = size - first < kBatch ? size - first : kBatch;
      sort(block, at, i, first, count);
      const int64_t with_series = at.first[part.npanels];
      for (int64_t begin = 0; begin < with_series; begin += kThreads) {
        const int64_t left = with_series - begin;
        const int npairs = left < kThreads ? static_cast<int>(left) : kThreads;
        fill(block, at, i, first, begin, npairs);
        add_up(block, at, npairs);
      }
    }
    T* own = moments + part.moments(0, i);
    if (at.M == own) return;
    const int64_t rows = part.rows();
    block.each(part.height() * 4, [=](int64_t k) { own[k / 4 * 4 * rows + k % 4] = at.M[k]; });
  }

  DPMASK_KERNEL Shared deal_out(const Block& block, int64_t i) const {
    Shared at;
    at.chunk = reinterpret_cast<OfChunk*>(block.shared);
    unsigned char* rest = block.shared + sizeof(OfChunk);
    const int64_t of_sums = part.height() * 4 * static_cast<int64_t>(sizeof(T));
    if (of_sums <= kShared) {
      at.M = reinterpret_cast<T*>(rest);
      at.stride = 4;
      rest += of_sums;
    } else {
      at.M = moments + part.moments(0, i);
      at.stride = 4 * part.rows();
    }
    at.strips = strips(part.npanels);
    at.first = reinterpret_cast<int32_t*>(rest);
    at.counts = reinterpret_cast<uint16_t*>(at.first + part.npanels + 2);
    at.panel = at.counts + (part.npanels + 1) * at.strips;
    at.sorted = at.panel + kBatch;
    return at;
  }

  // Sorts `count` neighbours from `begin` on by panel: each thread counts, then places, those of a
  // strip.
  DPMASK_KERNEL void sort(const Block& block, const Shared& at, int64_t i, int64_t begin,
                          int64_t count) const {
    const int64_t npanels = part.npanels, strips = at.strips;
    const int64_t of_strip = (count + strips - 1) / strips;
    block.each(count, [=](int64_t p) {
      const int64_t j = row_in_frame(e.pairs, i, begin + p);
      const double s = i == j ? 0 : row_of(e.atoms, e.coord, i, j).s;
      const int64_t panel = panel_of_pair(e, i, j, s);
      at.panel[p] = static_cast<uint16_t>(panel < 0 ? npanels : panel - part.first);
    });
    block.each(strips, [=](int64_t strip) {
      for (int64_t panel = 0; panel <= npanels; ++panel) at.counts[panel * strips + strip] = 0;
      const int64_t end = (strip + 1) * of_strip < count ? (strip + 1) * of_strip : count;
      for (int64_t p = strip * of_strip; p < end; ++p) ++at.counts[at.panel[p] * strips + strip];
    });
    block.each(npanels + 1, [=](int64_t panel) {
      int sum = 0;
      for (int64_t strip = 0; strip < strips; ++strip) {
        const uint16_t of_one = at.counts[panel * strips + strip];
        at.counts[panel * strips + strip] = static_cast<uint16_t>(sum);
        sum += of_one;
      }
      at.first[panel + 1] = sum;
    });
    block.each(1, [=](int64_t) {
      at.first[0] = 0;
      for (int64_t panel = 0; panel <= npanels; ++panel) at.first[panel + 1] += at.first[panel];
    });
    block.each(strips, [=](int64_t strip) {
      const int64_t end = (strip + 1) * of_strip < count ? (strip + 1) * of_strip : count;
      for (int64_t p = strip * of_strip; p < end; ++p) {
        const int64_t panel = at.panel[p];
        at.sorted[at.first[panel] + at.counts[panel * strips + strip]++] = static_cast<uint16_t>(p);
      }
    });
  }

  DPMASK_KERNEL void fill(const Block& block, const Shared& at, int64_t i, int64_t first,
                          int64_t begin, int npairs) const {
    block.each(npairs, [=](int64_t p) {
      OfChunk* chunk = at.chunk;
      const int64_t place = at.sorted[begin + p];
      const int64_t j = row_in_frame(e.pairs, i, first + place);
      const EnvironmentRow row = row_of(e.atoms, e.coord, i, j);
      const int64_t panel = at.panel[place];
      chunk->panel[p] = static_cast<int32_t>(panel);
      for_terms(e.series, part.first + panel, row.s, [=](int k, T value, T slope) {
        chunk->value[k][p] = value;
        if (kTangent) chunk->slope[k][p] = slope;
      });
      double tR[4], ts = 0;
      if (kTangent) {
        double u[3];
        pair_cotangent(e.atoms, e.pairs, cotangents, i, j, row.r, u);
        ts = environment_tangent(row, u, tR);
      }
      Four<T> R, S;
      for (int c = 0; c < 4; ++c) {
        R.of[c] = static_cast<T>((kTangent ? tR[c] : row.R[c]) / e.n);
        S.of[c] = static_cast<T>(row.R[c] * ts / e.n);
      }
      chunk->R[p] = R;
      if (kTangent) chunk->S[p] = S;
    });
  }

  // Adds a chunk to M: each group of threads some pairs, a thread for each term.
  DPMASK_KERNEL void add_up(const Block& block, const Shared& at, int npairs) const {
    block.threads([=](int thread) {
      OfChunk* chunk = at.chunk;
      const int group = thread / kTerms, k = thread % kTerms;
      const int begin = group * kOfGroup;
      const int end = begin + kOfGroup < npairs ? begin + kOfGroup : npairs;
      if (k == 0) chunk->panel_of_sums[group][0] = chunk->panel_of_sums[group][1] = -1;
      Four<T> sum = {};
      bool is_first = true;
      for (int p = begin; p < end; ++p) {
        const Four<T> R = chunk->R[p];
        const T value = chunk->value[k][p];
        for (int c = 0; c < 4; ++c) sum.of[c] += value * R.of[c];
        if (kTangent) {
          const Four<T> S = chunk->S[p];
          const T slope = chunk->slope[k][p];
          for (int c = 0; c < 4; ++c) sum.of[c] += slope * S.of[c];
        }
        const int32_t panel = chunk->panel[p];
        if (p + 1 < end && chunk->panel[p + 1] == panel) continue;
        if (is_first || p + 1 == end) {
          const int which = is_first ? 0 : 1;
          for (int c = 0; c < 4; ++c) chunk->sums[group][which][c][k] = sum.of[c];
          if (k == 0) chunk->panel_of_sums[group][which] = panel;
        } else {  // no other group has pairs in this panel
          T* M = at.M + (panel * kTerms + k) * at.stride;
          for (int c = 0; c < 4; ++c) M[c] += sum.of[c];
        }
        sum = {};
        is_first = false;
      }
    });
    block.each(kTerms * 4, [=](int64_t ck) {
      const OfChunk* chunk = at.chunk;
      const int64_t c = ck / kTerms, k = ck % kTerms;
      int32_t panel = -1;
      T sum = 0;
      for (int which = 0; which < 2 * kGroups; ++which) {
        const int32_t next = chunk->panel_of_sums[which / 2][which % 2];
        if (next < 0) continue;
        if (next != panel) {
          if (panel >= 0) at.M[(panel * kTerms + k) * at.stride + c] += sum;
          panel = next;
          sum = 0;
        }
        sum += chunk->sums[which / 2][which % 2][c][k];
      }
      if (panel >= 0) at.M[(panel * kTerms + k) * at.stride + c] += sum;
    });
  }
};

template <bool kTangent, typename T>
void set(const Embedding<T>& e, const Slab& slab, const ForceCotangents& cotangents, T* moments,
         cudaStream_t stream) {
  using Kernel = SetMoments<kTangent, T>;
  std::vector<Kernel> items;
  int64_t shared = 0;
  for (const Part& part : slab.parts) {
    items.push_back({e, cotangents, part, moments});
    shared = std::max(shared, Kernel::shared(part.npanels));
  }
  launch_all(items, stream, shared);
}

}  // namespace

template <typename T>
void set_moments(const Embedding<T>& e, const Slab& slab, T* moments, cudaStream_t stream) {
  set<false>(e, slab, {}, moments, stream);
}
template <typename T>
void set_moment_tangents(const Embedding<T>& e, const Slab& slab, const ForceCotangents& cotangents,
                         T* moments, cudaStream_t stream) {
  set<true>(e, slab, cotangents, moments, stream);
}

#define DPMASK_INSTANTIATE(T)                                                                    \
  template void set_moments<T>(const Embedding<T>&, const Slab&, T*, cudaStream_t);              \
  template void set_moment_tangents<T>(const Embedding<T>&, const Slab&, const ForceCotangents&, \
                                       T*, cudaStream_t)
DPMASK_INSTANTIATE(float);
DPMASK_INSTANTIATE(double);

}  // namespace dpmask::cuda
