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
#include "cuda/series/sorted_batch.h"

namespace dpmask::cuda {
namespace {

constexpr int64_t kMostShared = 32 << 10;   // bytes of moments to add up in shared memory
constexpr int kPitchOfRuns = kThreads + 1;  // of threads' sums, for terms to be in different banks

// What a thread has added up.
template <typename T>
struct SumsOfRun {
  T of[kTerms][4];
};

// The moments of one centre atom.
template <typename T>
struct MomentsOfAtom {
  T* M;  // [npanels, kTerms, 4], with a stride between terms
  int64_t stride;
};

template <bool kTangent, typename T>
struct SetMoments {
  DeviceEmbedding<T> e;
  ForceCotangents cotangents;  // of the tangents
  Section section;
  int64_t capacity;  // of a batch
  T* moments;
  double by_n = 1 / e.n;

  // Shared memory: M if there is room, the sums of the threads' runs [kTerms, kPitchOfRuns], the
  // batch.
  static constexpr int64_t kOfRuns = kTerms * kPitchOfRuns * sizeof(T);
  DPMASK_DEVICE int64_t of_M() const {
    const int64_t size = section.npanels * kTerms * 4 * static_cast<int64_t>(sizeof(T));
    return size <= kMostShared ? size : 0;
  }
  int64_t shared() const { return of_M() + kOfRuns + sorted_batch_size(section.npanels, capacity); }
  int64_t blocks() const { return section.npanels == 0 ? 0 : section.rows(); }

  DPMASK_KERNEL void operator()(const Block& block) const {
    const int64_t i = section.begin + block.index, size = frame_size(e.pairs, i);
    const int64_t frame_begin = e.pairs.rows_first[e.pairs.frame[i]];
    const SortedBatch at =
        sorted_batch_in(block.shared + of_M() + kOfRuns, section.npanels, capacity);
    const MomentsOfAtom<T> sum = moments_of(block, i);
    block.each(section.height() * 4, [=](int64_t k) { sum.M[k / 4 * sum.stride + k % 4] = 0; });
    for (int64_t begin = 0; begin < size; begin += capacity) {
      const int count = static_cast<int>(smaller(size - begin, capacity));
      const int of_run = pairs_of_run(count);
      look_up_panels(block, at, e, section, i, frame_begin + begin, count);
      sort_by_panel(block, at, count, of_run);
      add_up(block, at, i, frame_begin + begin, of_run, sum);
    }
    T* own = moments + section.place_of(0, i);
    if (sum.M == own) return;
    const int64_t rows = section.rows();
    block.each(section.height() * 4, [=](int64_t k) { own[k / 4 * 4 * rows + k % 4] = sum.M[k]; });
  }

  DPMASK_KERNEL MomentsOfAtom<T> moments_of(const Block& block, int64_t i) const {
    if (of_M() > 0) return {reinterpret_cast<T*>(block.shared), 4};
    return {moments + section.place_of(0, i), 4 * section.rows()};
  }

  // The pairs of a run, but that the last one of each panel may have fewer: as few as leave about
  // one run to each thread.
  DPMASK_KERNEL int pairs_of_run(int count) const {
    const int full_runs = kThreads - static_cast<int>(section.npanels);
    return ceil_div(count, larger(full_runs, kThreads / 2));
  }

  // Adds the sorted pairs to M, as many runs at a time as there are threads.
  DPMASK_KERNEL void add_up(const Block& block, const SortedBatch& at, int64_t i, int64_t begin,
                            int of_run, const MomentsOfAtom<T>& sum) const {
    const int nruns = at.first_run[section.npanels];
    for (int first = 0; first < nruns; first += kThreads) {
      Private<SumsOfRun<T>> sums;
      block.threads([&](int thread) {
        sums[thread] = {};
        if (first + thread < nruns) add_run(at, i, begin, of_run, first + thread, &sums[thread]);
      });
      const int last = smaller(first + kThreads, nruns) - 1;
      add_runs(block, at, first, last, &sums, sum);
    }
  }

  // Adds the sums of some runs to the moments of their panels, component after component.
  DPMASK_KERNEL void add_runs(const Block& block, const SortedBatch& at, int first, int last,
                              Private<SumsOfRun<T>>* sums, const MomentsOfAtom<T>& sum) const {
    T* all = reinterpret_cast<T*>(block.shared + of_M());
    const int low = panel_of_run(at, first), high = panel_of_run(at, last);
    DPMASK_UNROLL
    for (int c = 0; c < 4; ++c) {
      block.threads([&](int thread) {
        DPMASK_UNROLL
        for (int k = 0; k < kTerms; ++k) all[k * kPitchOfRuns + thread] = (*sums)[thread].of[k][c];
      });
      block.each((high + 1 - low) * kTerms, [=](int64_t k) {
        const int64_t panel = low + k / kTerms, term = low * kTerms + k;
        const int begin = at.first_run[panel] - first, end = at.first_run[panel + 1] - first;
        const T* of_term = all + term % kTerms * kPitchOfRuns;
        T of_panel = 0;
        for (int run = larger(begin, 0); run < smaller(end, kThreads); ++run) {
          of_panel += of_term[run];
        }
        sum.M[term * sum.stride + c] += of_panel;
      });
    }
  }

  DPMASK_KERNEL void add_run(const SortedBatch& at, int64_t i, int64_t begin, int length, int run,
                             SumsOfRun<T>* sums) const {
    const int panel = panel_of_run(at, run);
    const Panel here = panel_at(e.series, section.first + panel);
    const int first = at.first[panel] + (run - at.first_run[panel]) * length;
    const int end = smaller(first + length, at.first[panel + 1]);
    for (int p = first; p < end; ++p) {
      add_pair(here, i, begin + at.sorted[p], at.s[at.sorted[p]], sums);
    }
  }

  DPMASK_KERNEL void add_pair(const Panel& panel, int64_t i, int64_t place, double s,
                              SumsOfRun<T>* sums) const {
    const double* position = e.pairs.position + 4 * place;
    const double* r_i = e.coord + 3 * e.atoms.slot[i];
    const double w = weight_of_pair(e.atoms.group, i, e.pairs.rows[place], position[3]);
    const EnvironmentRow row = environment_row(r_i, position, w, s);
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
void set(const DeviceEmbedding<T>& e, const Slab& slab, const ForceCotangents& cotangents,
         T* moments, cudaStream_t stream) {
  std::vector<SetMoments<kTangent, T>> items;
  int64_t shared = 0;
  for (const Section& section : slab.sections) {
    if (section.npanels > UINT16_MAX) {
      throw std::invalid_argument("the CUDA kernels take tables of up to " +
                                  std::to_string(UINT16_MAX) + " panels for the pairs of an atom");
    }
    const int64_t batch = std::min(kBatch, slab.largest);
    items.push_back({e, cotangents, section, batch, moments});
    shared = std::max(shared, items.back().shared());
  }
  launch_all(items, stream, shared);
}

}  // namespace

template <typename T>
void set_moments(const DeviceEmbedding<T>& e, const Slab& slab, T* moments, cudaStream_t stream) {
  set<false>(e, slab, {}, moments, stream);
}
template <typename T>
void set_moment_tangents(const DeviceEmbedding<T>& e, const Slab& slab,
                         const ForceCotangents& cotangents, T* moments, cudaStream_t stream) {
  set<true>(e, slab, cotangents, moments, stream);
}

#define DPMASK_INSTANTIATE(T)                                                             \
  template void set_moments<T>(const DeviceEmbedding<T>&, const Slab&, T*, cudaStream_t); \
  template void set_moment_tangents<T>(const DeviceEmbedding<T>&, const Slab&,            \
                                       const ForceCotangents&, T*, cudaStream_t)
DPMASK_INSTANTIATE(float);
DPMASK_INSTANTIATE(double);

}  // namespace dpmask::cuda
