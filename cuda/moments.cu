// SPDX-License-Identifier: LGPL-3.0-or-later
// The moments: a block has a centre atom, and takes its neighbours in batches, sorted by panel. Of
// a pair, M += v R^T + v' S^T with v_k = T_k(x_ij), v' = dv/ds and, for the moments, R = R_ij / n
// and S = 0; for their tangents, R = dR_ij/dt / n and S = R_ij ds/dt / n.
#include "batch.h"
#include "chebyshev.h"
#include "moments.h"
#include "pair_rows.h"

namespace dpmask::cuda {
namespace {

constexpr int64_t kBatch = 1024;              // neighbours that are sorted at once, at most
constexpr int kGroups = kThreads / kTerms;    // of threads, one for each term
constexpr int kOfGroup = kThreads / kGroups;  // pairs of a group in a chunk
constexpr int64_t kShared = 32 << 10;         // bytes of moments to add up in shared memory
constexpr int64_t kStrips = 32, kCounts = 1 << 14;

// A chunk of pairs, one for each thread; in shared memory.
template <bool kTangent, typename T>
struct Chunk {
  Four<T> R[kThreads], S[kTangent ? kThreads : 1];
  T value[kTerms][kThreads + 1], slope[kTangent ? kTerms : 1][kThreads + 1];  // v and v'
  int32_t panel[kThreads];                                                    // of the part's
};

// The sums of each group for its first panel and its last, which may be those of the groups beside
// it; in the place of a chunk.
template <typename T>
struct Ends {
  T sum[2 * kGroups][4][kTerms];
  int32_t panel[2 * kGroups];  // -1 where there is none
};

// What a thread has added up, for its term.
template <typename T>
struct Sums {
  Four<T> sum, first;
  int32_t panel, first_panel;  // -1 before there is one
};

template <bool kTangent, typename T>
struct SetMoments {
  Embedding<T> e;
  ForceCotangents cotangents;  // of the tangents
  Part part;
  int64_t batch;
  T* moments;
  double by_n = 1 / e.n;

  using OfChunk = Chunk<kTangent, T>;
  static_assert(sizeof(Ends<T>) <= sizeof(OfChunk));
  struct Shared {
    OfChunk* chunk;
    T* M;  // [npanels, kTerms, 4], with a stride between terms
    int64_t stride;
    double* s;         // [batch]
    int32_t* total;    // [npanels + 1]; neighbours of each panel; the last are without a series
    int32_t* first;    // [npanels + 1]; the first of them among the sorted
    uint16_t* counts;  // [npanels + 1, strips]
    uint16_t* panel;   // [batch]
    uint16_t* sorted;  // [batch]; places in the batch
    int64_t strips;    // of a batch, each counted by a thread
  };

  DPMASK_DEVICE static int64_t in_shared(int64_t npanels) {  // bytes of M
    const int64_t size = npanels * kTerms * 4 * static_cast<int64_t>(sizeof(T));
    return size <= kShared ? size : 0;
  }
  DPMASK_DEVICE static int64_t strips(int64_t npanels) {
    const int64_t count = kCounts / (npanels + 1);
    return count < 1 ? 1 : count > kStrips ? kStrips : count;
  }
  int64_t shared() const {
    const int64_t counted = part.npanels + 1;
    return sizeof(OfChunk) + in_shared(part.npanels) + batch * sizeof(double) +
           counted * (2 * sizeof(int32_t) + strips(part.npanels) * sizeof(uint16_t)) +
           2 * batch * sizeof(uint16_t);
  }
  int64_t blocks() const { return part.npanels == 0 ? 0 : part.rows(); }

  DPMASK_KERNEL void operator()(const Block& block) const {
    const int64_t i = part.begin + block.index, size = frame_size(e.pairs, i);
    const int64_t frame_begin = e.pairs.rows_first[e.pairs.frame[i]];
    const Shared at = deal_out(block, i);
    block.each(part.height() * 4, [=](int64_t k) { at.M[k / 4 * at.stride + k % 4] = 0; });
    for (int64_t begin = 0; begin < size; begin += batch) {
      const int64_t count = size - begin < batch ? size - begin : batch;
      sort(block, at, i, frame_begin + begin, count);
      add_up(block, at, i, frame_begin + begin, at.first[part.npanels]);
    }
    T* own = moments + part.moments(0, i);
    if (at.M == own) return;
    const int64_t rows = part.rows();
    block.each(part.height() * 4, [=](int64_t k) { own[k / 4 * 4 * rows + k % 4] = at.M[k]; });
  }

  DPMASK_KERNEL Shared deal_out(const Block& block, int64_t i) const {
    const int64_t counted = part.npanels + 1, of_M = in_shared(part.npanels);
    Shared at;
    at.chunk = reinterpret_cast<OfChunk*>(block.shared);
    unsigned char* rest = block.shared + sizeof(OfChunk);
    at.M = of_M > 0 ? reinterpret_cast<T*>(rest) : moments + part.moments(0, i);
    at.stride = of_M > 0 ? 4 : 4 * part.rows();
    at.strips = strips(part.npanels);
    at.s = reinterpret_cast<double*>(rest + of_M);
    at.total = reinterpret_cast<int32_t*>(at.s + batch);
    at.first = at.total + counted;
    at.counts = reinterpret_cast<uint16_t*>(at.first + counted);
    at.panel = at.counts + counted * at.strips;
    at.sorted = at.panel + batch;
    return at;
  }

  // Sorts the neighbours at `count` places from `begin` on by panel: each thread counts, then
  // places, those of a strip.
  DPMASK_KERNEL void sort(const Block& block, const Shared& at, int64_t i, int64_t begin,
                          int64_t count) const {
    const int64_t npanels = part.npanels, strips = at.strips;
    const int64_t of_strip = (count + strips - 1) / strips;
    const int64_t type_i = e.pairs.type[i];
    const int64_t place_i = e.pairs.rows_first[e.pairs.frame[i]] + e.pairs.local[i];
    block.each(count, [=](int64_t p) {
      int64_t panel = -1;
      if (begin + p != place_i) {
        at.s[p] = row_at(e.pairs, place_i, begin + p).s;
        panel = panel_of_pair(e, type_i, e.pairs.type[e.pairs.rows[begin + p]], at.s[p]);
      }
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
      at.total[panel] = sum;
    });
    block.each(npanels + 1, [=](int64_t panel) {
      int32_t sum = 0;
      for (int64_t before = 0; before < panel; ++before) sum += at.total[before];
      at.first[panel] = sum;
    });
    block.each(strips, [=](int64_t strip) {
      const int64_t end = (strip + 1) * of_strip < count ? (strip + 1) * of_strip : count;
      for (int64_t p = strip * of_strip; p < end; ++p) {
        const int64_t panel = at.panel[p];
        at.sorted[at.first[panel] + at.counts[panel * strips + strip]++] = static_cast<uint16_t>(p);
      }
    });
  }

  // Adds the sorted pairs to M. Each group of threads has a stretch of them, of which it takes a
  // few at a time.
  DPMASK_KERNEL void add_up(const Block& block, const Shared& at, int64_t i, int64_t begin,
                            int64_t npairs) const {
    const int64_t stretch = (npairs + kGroups - 1) / kGroups;
    Private<Sums<T>> sums;
    block.threads([&](int thread) { sums[thread] = {{}, {}, -1, -1}; });
    for (int64_t done = 0; done < stretch; done += kOfGroup) {
      block.threads([&](int thread) {
        const int64_t p = thread / kOfGroup * stretch + done + thread % kOfGroup;
        if (p < npairs && done + thread % kOfGroup < stretch) {
          fill(at, thread, i, begin, at.sorted[p]);
        }
      });
      block.threads([&](int thread) {
        const int64_t group = thread / kTerms, first = group * stretch + done;
        int64_t count = stretch - done < kOfGroup ? stretch - done : kOfGroup;
        if (npairs - first < count) count = npairs - first;
        if (count > 0) {
          add_to(at, thread % kTerms, static_cast<int>(group * kOfGroup), static_cast<int>(count),
                 &sums[thread]);
        }
      });
    }
    block.threads([&](int thread) {
      Ends<T>* ends = reinterpret_cast<Ends<T>*>(at.chunk);
      const int group = thread / kTerms, k = thread % kTerms;
      for (int c = 0; c < 4; ++c) {
        ends->sum[2 * group][c][k] = sums[thread].first.of[c];
        ends->sum[2 * group + 1][c][k] = sums[thread].sum.of[c];
      }
      if (k > 0) return;
      ends->panel[2 * group] = sums[thread].first_panel;
      ends->panel[2 * group + 1] = sums[thread].panel;
    });
    block.each(kTerms * 4, [=](int64_t ck) {
      const Ends<T>* ends = reinterpret_cast<const Ends<T>*>(at.chunk);
      const int64_t c = ck / kTerms, k = ck % kTerms;
      for (int end = 0; end < 2 * kGroups; ++end) {
        const int32_t panel = ends->panel[end];
        if (panel >= 0) at.M[(panel * kTerms + k) * at.stride + c] += ends->sum[end][c][k];
      }
    });
  }

  DPMASK_KERNEL void fill(const Shared& at, int p, int64_t i, int64_t begin, int64_t place) const {
    OfChunk* chunk = at.chunk;
    const double* position = e.pairs.position + 4 * (begin + place);
    const double* r_i = e.coord + 3 * e.atoms.slot[i];
    const EnvironmentRow row = environment_row(r_i, position, position[3], at.s[place]);
    const int32_t panel = at.panel[place];
    chunk->panel[p] = panel;
    for_terms(e.series, part.first + panel, row.s, [=](int k, T value, T slope) {
      chunk->value[k][p] = value;
      if (kTangent) chunk->slope[k][p] = slope;
    });
    double tR[4], ts = 0;
    if (kTangent) {
      double u[3];
      pair_cotangent(e.atoms, e.pairs, cotangents, i, e.pairs.rows[begin + place], row.r, u);
      ts = environment_tangent(row, u, tR);
    }
    Four<T> R, S;
    for (int c = 0; c < 4; ++c) {
      R.of[c] = static_cast<T>((kTangent ? tR[c] : row.R[c]) * by_n);
      S.of[c] = static_cast<T>(row.R[c] * ts * by_n);
    }
    chunk->R[p] = R;
    if (kTangent) chunk->S[p] = S;
  }

  // Adds pairs of a chunk, for one term.
  DPMASK_KERNEL void add_to(const Shared& at, int k, int first, int count, Sums<T>* sums) const {
    const OfChunk& chunk = *at.chunk;
    const bool of_one_panel =
        chunk.panel[first] == sums->panel && chunk.panel[first + count - 1] == sums->panel;
    if (of_one_panel && count == kOfGroup) {  // most are, and this is faster
      DPMASK_UNROLL
      for (int p = 0; p < kOfGroup; ++p) add_pair(chunk, k, first + p, &sums->sum);
      return;
    }
    for (int p = first; p < first + count; ++p) {
      const int32_t panel = chunk.panel[p];
      if (panel != sums->panel) {
        if (sums->first_panel < 0) {
          sums->first = sums->sum;
          sums->first_panel = sums->panel;
        } else {  // no other group has pairs in this panel
          T* M = at.M + (sums->panel * kTerms + k) * at.stride;
          for (int c = 0; c < 4; ++c) M[c] += sums->sum.of[c];
        }
        sums->sum = {};
        sums->panel = panel;
      }
      add_pair(chunk, k, p, &sums->sum);
    }
  }
  DPMASK_KERNEL static void add_pair(const OfChunk& chunk, int k, int p, Four<T>* sum) {
    const Four<T> R = chunk.R[p];
    const T value = chunk.value[k][p];
    for (int c = 0; c < 4; ++c) sum->of[c] += value * R.of[c];
    if (!kTangent) return;
    const Four<T> S = chunk.S[p];
    const T slope = chunk.slope[k][p];
    for (int c = 0; c < 4; ++c) sum->of[c] += slope * S.of[c];
  }
};

template <bool kTangent, typename T>
void set(const Embedding<T>& e, const Slab& slab, const ForceCotangents& cotangents, T* moments,
         cudaStream_t stream) {
  std::vector<SetMoments<kTangent, T>> items;
  int64_t shared = 0;
  for (const Part& part : slab.parts) {
    if (part.npanels > UINT16_MAX) {
      throw std::invalid_argument("the CUDA kernels take tables of up to " +
                                  std::to_string(UINT16_MAX) + " panels for the pairs of an atom");
    }
    const int64_t batch = std::min(kBatch, slab.largest);
    items.push_back({e, cotangents, part, batch, moments});
    shared = std::max(shared, items.back().shared());
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
