// SPDX-License-Identifier: LGPL-3.0-or-later
// The moments: a block has a centre atom, and takes its neighbours in batches, sorted by panel. Of
// a pair, M += v R^T + v' S^T with v_k = T_k(x_ij), v' = dv/ds and, for the moments, R = R_ij / n
// and S = 0; for their tangents, R = dR_ij/dt / n and S = R_ij ds/dt / n. The sorted pairs are cut
// into runs, each of one panel. A thread adds up a run in registers, and then the sums of the runs
// of each panel are added up.
#include "cuda/series/moments.h"

#include "cuda/common/batch.h"
#include "cuda/common/pairs.h"
#include "cuda/series/chebyshev.h"

namespace dpmask::cuda {
namespace {

constexpr int64_t kBatch = 2048;       // neighbours that are sorted at once, at most
constexpr int64_t kShared = 32 << 10;  // bytes of moments to add up in shared memory
constexpr int kAtOnce = 4;  // neighbours of a thread that do not wait for each other's memory
constexpr int kMostCounts = 1 << 13;  // of neighbours, by strip and panel
constexpr int kStrips = 64;           // into which a batch is cut for counting, at most
constexpr int kOfStrip = 16;          // neighbours of a strip, at least

template <bool kTangent, typename T>
struct SetMoments {
  Embedding<T> e;
  ForceCotangents cotangents;  // of the tangents
  Part part;
  int64_t batch;
  T* moments;
  double by_n = 1 / e.n;

  struct Shared {
    T* M;  // [npanels, kTerms, 4], with a stride between terms
    int64_t stride;
    T* of_runs;          // [kTerms, kPitch]; a column of the sums of the threads' runs
    double* s;           // [batch]
    double* end;         // [npanels]; where each panel ends; in the place of the next two
    int32_t* total;      // [npanels + 1]; neighbours of each panel; the last are without a series
    int32_t* runs;       // [npanels + 1]; into which they are cut
    int32_t* first;      // [npanels + 1]; the first of them among the sorted
    int32_t* first_run;  // [npanels + 1]
    uint16_t* counts;    // [npanels + 1, strips], with a distance that is odd
    uint16_t* panel;     // [batch]
    uint16_t* before;    // [batch]; neighbours of the same panel and strip
    uint16_t* sorted;    // [batch]; places in the batch
  };
  static constexpr int kPitch = kThreads + 1;  // for terms to be in different banks

  // What a thread has added up.
  struct Sums {
    T of[kTerms][4];
  };

  DPMASK_DEVICE static int64_t in_shared(int64_t npanels) {  // bytes of M
    const int64_t size = npanels * kTerms * 4 * static_cast<int64_t>(sizeof(T));
    return size <= kShared ? size : 0;
  }
  DPMASK_DEVICE int most_strips() const {
    const int count = kMostCounts / static_cast<int>(part.npanels + 1);
    return larger(smaller(count, kStrips), 1);
  }
  int64_t shared() const {
    const int64_t counted = part.npanels + 1;
    return in_shared(part.npanels) + kTerms * kPitch * sizeof(T) + batch * sizeof(double) +
           counted * (4 * sizeof(int32_t) + (most_strips() | 1) * sizeof(uint16_t)) +
           3 * batch * sizeof(uint16_t);
  }
  int64_t blocks() const { return part.npanels == 0 ? 0 : part.rows(); }

  DPMASK_KERNEL void operator()(const Block& block) const {
    const int64_t i = part.begin + block.index, size = frame_size(e.pairs, i);
    const int64_t frame_begin = e.pairs.rows_first[e.pairs.frame[i]];
    const Shared at = deal_out(block, i);
    block.each(part.height() * 4, [=](int64_t k) { at.M[k / 4 * at.stride + k % 4] = 0; });
    for (int64_t begin = 0; begin < size; begin += batch) {
      const int count = static_cast<int>(smaller(size - begin, batch));
      const int of_run = pairs_of_run(count);
      find_panels(block, at, i, frame_begin + begin, count);
      sort(block, at, count, of_run);
      add_up(block, at, i, frame_begin + begin, of_run);
    }
    T* own = moments + part.moments(0, i);
    if (at.M == own) return;
    const int64_t rows = part.rows();
    block.each(part.height() * 4, [=](int64_t k) { own[k / 4 * 4 * rows + k % 4] = at.M[k]; });
  }

  DPMASK_KERNEL Shared deal_out(const Block& block, int64_t i) const {
    const int64_t counted = part.npanels + 1, of_M = in_shared(part.npanels);
    Shared at;
    at.M = of_M > 0 ? reinterpret_cast<T*>(block.shared) : moments + part.moments(0, i);
    at.stride = of_M > 0 ? 4 : 4 * part.rows();
    at.s = reinterpret_cast<double*>(block.shared + of_M);
    at.end = at.s + batch;
    at.total = reinterpret_cast<int32_t*>(at.end);
    at.runs = at.total + counted;
    at.first = at.runs + counted;
    at.first_run = at.first + counted;
    at.of_runs = reinterpret_cast<T*>(at.first_run + counted);
    at.counts = reinterpret_cast<uint16_t*>(at.of_runs + kTerms * kPitch);
    at.panel = at.counts + counted * (most_strips() | 1);
    at.before = at.panel + batch;
    at.sorted = at.before + batch;
    return at;
  }

  // The pairs of a run, but that the last one of each panel may have fewer: as few as leave about
  // one run to each thread.
  DPMASK_KERNEL int pairs_of_run(int count) const {
    const int full_runs = kThreads - static_cast<int>(part.npanels);
    return ceil_div(count, larger(full_runs, kThreads / 2));
  }

  // Sets s and the panels of a batch's neighbours.
  DPMASK_KERNEL void find_panels(const Block& block, const Shared& at, int64_t i, int64_t begin,
                                 int count) const {
    const int64_t place_i = e.pairs.rows_first[e.pairs.frame[i]] + e.pairs.local[i];
    const int64_t own = place_i - begin;
    const int64_t* rows = e.pairs.rows + begin;
    const int32_t* nets = e.net + e.pairs.type[i] * e.atoms.ntypes;
    const int none = static_cast<int>(part.npanels);
    block.each(none, [=](int64_t k) { at.end[k] = end_of_panel(e.series, part.first + k); });
    const int rounds = ceil_div(count, kAtOnce * kThreads);
    block.each(rounds * kThreads, [=](int64_t k) {
      const int first = static_cast<int>(k) / kThreads * kAtOnce * kThreads + k % kThreads;
      double s[kAtOnce];
      int low[kAtOnce], high[kAtOnce];
      int32_t net[kAtOnce];
      DPMASK_UNROLL
      for (int q = 0; q < kAtOnce; ++q) {
        const int p = smaller(first + q * kThreads, count - 1);
        s[q] = row_at(e.pairs, place_i, begin + p).s;
        net[q] = nets[e.pairs.type[rows[p]]];
      }
      DPMASK_UNROLL
      for (int q = 0; q < kAtOnce; ++q) {
        const int64_t* ends = e.series.first + larger(net[q], 0);
        low[q] = static_cast<int>(ends[0] - part.first);
        high[q] = static_cast<int>(ends[1] - part.first) - 1;
      }
      DPMASK_UNROLL
      for (int q = 0; q < kAtOnce; ++q) {
        const int p = first + q * kThreads;
        const bool has_series = net[q] >= 0 && low[q] <= high[q];
        if (p < count && p != own && has_series) continue;
        low[q] = none;
        high[q] = none;
      }
      for (bool searches = true; searches;) {
        searches = false;
        DPMASK_UNROLL
        for (int q = 0; q < kAtOnce; ++q) {
          if (low[q] >= high[q]) continue;
          halve_panels(s[q], [=](int panel) { return at.end[panel]; }, low + q, high + q);
          searches = true;
        }
      }
      DPMASK_UNROLL
      for (int q = 0; q < kAtOnce; ++q) {
        const int p = first + q * kThreads;
        if (p >= count) continue;
        at.s[p] = s[q];
        at.panel[p] = static_cast<uint16_t>(low[q]);
      }
    });
  }

  // Sorts the batch by panel: a thread counts the neighbours of a strip.
  DPMASK_KERNEL void sort(const Block& block, const Shared& at, int count, int of_run) const {
    const int counted = static_cast<int>(part.npanels) + 1, most = most_strips();
    // Odd distances between threads, which so are in different banks.
    const int of_strip = larger(ceil_div(count, most), kOfStrip) | 1;
    const int strips = ceil_div(count, of_strip), pitch = strips | 1;
    block.each(counted * pitch, [=](int64_t k) { at.counts[k] = 0; });
    block.each(strips, [=](int64_t strip) {
      const int first = static_cast<int>(strip) * of_strip;
      const int end = smaller(first + of_strip, count);
      for (int p = first; p < end; ++p) at.before[p] = at.counts[at.panel[p] * pitch + strip]++;
    });
    block.each(counted, [=](int64_t panel) {
      int sum = 0;
      uint16_t* counts = at.counts + panel * pitch;
      for (int strip = 0; strip < strips; ++strip) {
        const int of_strip = counts[strip];
        counts[strip] = static_cast<uint16_t>(sum);
        sum += of_strip;
      }
      at.total[panel] = sum;
      at.runs[panel] = ceil_div(sum, of_run);
    });
    block.each(counted, [=](int64_t panel) {
      int sum = 0, runs = 0;
      for (int before = 0; before < panel; ++before) {
        sum += at.total[before];
        runs += at.runs[before];
      }
      at.first[panel] = sum;
      at.first_run[panel] = runs;
    });
    block.each(count, [=](int64_t k) {
      const int p = static_cast<int>(k), panel = at.panel[p];
      const int in_panel = at.counts[panel * pitch + p / of_strip] + at.before[p];
      at.sorted[at.first[panel] + in_panel] = static_cast<uint16_t>(p);
    });
  }

  // Adds the sorted pairs to M, as many runs at a time as there are threads.
  DPMASK_KERNEL void add_up(const Block& block, const Shared& at, int64_t i, int64_t begin,
                            int of_run) const {
    const int nruns = at.first_run[part.npanels];
    for (int first = 0; first < nruns; first += kThreads) {
      Private<Sums> sums;
      block.threads([&](int thread) {
        sums[thread] = {};
        if (first + thread < nruns) add_run(at, i, begin, of_run, first + thread, &sums[thread]);
      });
      const int low = panel_of_run(at, first);
      const int high = panel_of_run(at, smaller(first + kThreads, nruns) - 1);
      DPMASK_UNROLL
      for (int c = 0; c < 4; ++c) {
        block.threads([&](int thread) {
          DPMASK_UNROLL
          for (int k = 0; k < kTerms; ++k) at.of_runs[k * kPitch + thread] = sums[thread].of[k][c];
        });
        block.each((high + 1 - low) * kTerms, [=](int64_t k) {
          const int64_t panel = low + k / kTerms, term = low * kTerms + k;
          const int begin = at.first_run[panel] - first, end = at.first_run[panel + 1] - first;
          const T* of_runs = at.of_runs + term % kTerms * kPitch;
          T sum = 0;
          for (int run = larger(begin, 0); run < smaller(end, kThreads); ++run) sum += of_runs[run];
          at.M[term * at.stride + c] += sum;
        });
      }
    }
  }

  DPMASK_KERNEL int panel_of_run(const Shared& at, int run) const {
    int low = 0, high = static_cast<int>(part.npanels) - 1;
    const auto last_run = [=](int panel) { return at.first_run[panel + 1] - 1; };
    while (low < high) halve_panels(run, last_run, &low, &high);
    return low;
  }

  DPMASK_KERNEL void add_run(const Shared& at, int64_t i, int64_t begin, int length, int run,
                             Sums* sums) const {
    const int panel = panel_of_run(at, run);
    const Panel here = panel_at(e.series, part.first + panel);
    const int first = at.first[panel] + (run - at.first_run[panel]) * length;
    const int end = smaller(first + length, at.first[panel + 1]);
    for (int p = first; p < end; ++p) {
      add_pair(here, i, begin + at.sorted[p], at.s[at.sorted[p]], sums);
    }
  }

  DPMASK_KERNEL void add_pair(const Panel& panel, int64_t i, int64_t place, double s,
                              Sums* sums) const {
    const double* position = e.pairs.position + 4 * place;
    const double* r_i = e.coord + 3 * e.atoms.slot[i];
    const EnvironmentRow row = environment_row(r_i, position, position[3], s);
    double tR[4], ts = 0;
    if (kTangent) {
      double u[3];
      pair_cotangent(e.atoms, e.pairs, cotangents, i, e.pairs.rows[place], row.r, u);
      ts = environment_tangent(row, u, tR);
    }
    T R[4], S[4];
    for (int c = 0; c < 4; ++c) {
      R[c] = static_cast<T>((kTangent ? tR[c] : row.R[c]) * by_n);
      S[c] = static_cast<T>(row.R[c] * ts * by_n);
    }
    for_terms<T>(panel, s, [&](int k, T value, T slope) {
      for (int c = 0; c < 4; ++c) {
        sums->of[k][c] += value * R[c];
        if (kTangent) sums->of[k][c] += slope * S[c];
      }
    });
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
