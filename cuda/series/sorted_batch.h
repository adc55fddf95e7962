// SPDX-License-Identifier: LGPL-3.0-or-later
// The neighbours of a centre atom, a batch at a time, sorted by the panels of their pairs, in the
// shared memory of a block.
#pragma once

#include "cuda/common/pairs.h"
#include "cuda/series/chebyshev.h"
#include "cuda/series/slabs.h"

namespace dpmask::cuda {

constexpr int64_t kBatch = 2048;      // neighbours that are sorted at once, at most
constexpr int kSearches = 4;          // of a thread that do not wait for each other's memory
constexpr int kMostCounts = 1 << 13;  // of neighbours, by strip and panel
constexpr int kStrips = 64;           // into which a batch is cut for counting, at most
constexpr int kOfStrip = 16;          // neighbours of a strip, at least

// A panel's neighbours are cut into runs. Panels have their numbers within a section; one more, the
// last, is of the neighbours without a series.
struct SortedBatch {
  int npanels;
  int64_t capacity;    // neighbours
  double* s;           // [capacity]
  double* end;         // [npanels]; where each panel ends; in the place of the next two
  int32_t* total;      // [npanels + 1]; neighbours of each panel
  int32_t* runs;       // [npanels + 1]; into which they are cut
  int32_t* first;      // [npanels + 1]; the first of them among the sorted
  int32_t* first_run;  // [npanels + 1]
  uint16_t* counts;    // [npanels + 1, strips], with a distance that is odd
  uint16_t* panel;     // [capacity]
  uint16_t* before;    // [capacity]; neighbours of the same panel and strip
  uint16_t* sorted;    // [capacity]; places in the batch
};

DPMASK_DEVICE inline int most_strips(int64_t npanels) {
  return larger(smaller(kMostCounts / static_cast<int>(npanels + 1), kStrips), 1);
}

// Bytes of a batch's memory.
inline int64_t sorted_batch_size(int64_t npanels, int64_t capacity) {
  const int64_t counted = npanels + 1;
  return capacity * (sizeof(double) + 3 * sizeof(uint16_t)) +
         counted * (4 * sizeof(int32_t) + (most_strips(npanels) | 1) * sizeof(uint16_t));
}

DPMASK_KERNEL SortedBatch sorted_batch_in(unsigned char* memory, int64_t npanels,
                                          int64_t capacity) {
  const int64_t counted = npanels + 1;
  SortedBatch at;
  at.npanels = static_cast<int>(npanels);
  at.capacity = capacity;
  at.s = reinterpret_cast<double*>(memory);
  at.end = at.s + capacity;
  at.total = reinterpret_cast<int32_t*>(at.end);
  at.runs = at.total + counted;
  at.first = at.runs + counted;
  at.first_run = at.first + counted;
  at.counts = reinterpret_cast<uint16_t*>(at.first_run + counted);
  at.panel = at.counts + counted * (most_strips(npanels) | 1);
  at.before = at.panel + capacity;
  at.sorted = at.before + capacity;
  return at;
}

// ---- Panels -------------------------------------------------------------------------------------

// A thread's neighbours, kThreads apart, on their way to their panels. What would wait for memory,
// or for the step before, is done for all of them in turn.
struct PanelSearch {
  int first, count;  // place in the batch of the first one; of the batch
  double s[kSearches];
  int32_t net[kSearches];
  int low[kSearches], high[kSearches];  // the panel is one of these and those between

  DPMASK_KERNEL int place(int q) const { return first + q * kThreads; }

  // begin is the place of the batch among PairNumbers::rows.
  template <typename T>
  DPMASK_KERNEL void read_nets(const DeviceEmbedding<T>& e, int64_t i, int64_t begin) {
    const int64_t place_i = e.pairs.rows_first[e.pairs.frame[i]] + e.pairs.local[i];
    const int64_t* rows = e.pairs.rows + begin;
    const int32_t* nets = e.net + e.pairs.type[i] * e.atoms.ntypes;
    DPMASK_UNROLL
    for (int q = 0; q < kSearches; ++q) {
      const int p = smaller(place(q), count - 1);
      s[q] = row_at(e.pairs, place_i, begin + p).s;
      net[q] = nets[e.pairs.type[rows[p]]];
    }
  }

  // own is the place of the centre atom itself.
  template <typename T>
  DPMASK_KERNEL void read_panels(const Series<T>& series, const Section& section, int64_t own) {
    const int none = static_cast<int>(section.npanels);
    DPMASK_UNROLL
    for (int q = 0; q < kSearches; ++q) {
      const int64_t* ends = series.first + larger(net[q], 0);
      low[q] = static_cast<int>(ends[0] - section.first);
      high[q] = static_cast<int>(ends[1] - section.first) - 1;
    }
    DPMASK_UNROLL
    for (int q = 0; q < kSearches; ++q) {
      const bool has_series = net[q] >= 0 && low[q] <= high[q];
      if (place(q) < count && place(q) != own && has_series) continue;
      low[q] = none;
      high[q] = none;
    }
  }

  DPMASK_KERNEL void halve(const double* ends) {
    for (bool searches = true; searches;) {
      searches = false;
      DPMASK_UNROLL
      for (int q = 0; q < kSearches; ++q) {
        if (low[q] >= high[q]) continue;
        halve_panels(s[q], [=](int panel) { return ends[panel]; }, low + q, high + q);
        searches = true;
      }
    }
  }

  DPMASK_KERNEL void write(const SortedBatch& at) const {
    DPMASK_UNROLL
    for (int q = 0; q < kSearches; ++q) {
      if (place(q) >= count) continue;
      at.s[place(q)] = s[q];
      at.panel[place(q)] = static_cast<uint16_t>(low[q]);
    }
  }
};

// Sets s and the panels of the neighbours of i from `begin` in PairNumbers::rows on.
template <typename T>
DPMASK_KERNEL void look_up_panels(const Block& block, const SortedBatch& at,
                                  const DeviceEmbedding<T>& e, const Section& section, int64_t i,
                                  int64_t begin, int count) {
  const int64_t own = e.pairs.rows_first[e.pairs.frame[i]] + e.pairs.local[i] - begin;
  const Series<T> series = e.series;
  block.each(at.npanels,
             [=, &section](int64_t k) { at.end[k] = end_of_panel(series, section.first + k); });
  const int rounds = ceil_div(count, kSearches * kThreads);
  block.each(rounds * kThreads, [=, &e, &section](int64_t k) {
    const int round = static_cast<int>(k) / kThreads, thread = static_cast<int>(k) % kThreads;
    PanelSearch search;
    search.first = round * kSearches * kThreads + thread;
    search.count = count;
    search.read_nets(e, i, begin);
    search.read_panels(e.series, section, own);
    search.halve(at.end);
    search.write(at);
  });
}

// ---- Order --------------------------------------------------------------------------------------

// Counts the neighbours of each panel, a thread those of a strip.
DPMASK_KERNEL void count_strips(const Block& block, const SortedBatch& at, int count, int of_strip,
                                int pitch) {
  const int strips = ceil_div(count, of_strip);
  block.each((at.npanels + 1) * pitch, [=](int64_t k) { at.counts[k] = 0; });
  block.each(strips, [=](int64_t strip) {
    const int first = static_cast<int>(strip) * of_strip;
    const int end = smaller(first + of_strip, count);
    for (int p = first; p < end; ++p) at.before[p] = at.counts[at.panel[p] * pitch + strip]++;
  });
}

// Sets counts to those of the strips before, and total, runs and where they begin.
DPMASK_KERNEL void add_up_counts(const Block& block, const SortedBatch& at, int strips, int pitch,
                                 int of_run) {
  block.each(at.npanels + 1, [=](int64_t panel) {
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
  block.each(at.npanels + 1, [=](int64_t panel) {
    int sum = 0, runs = 0;
    for (int before = 0; before < panel; ++before) {
      sum += at.total[before];
      runs += at.runs[before];
    }
    at.first[panel] = sum;
    at.first_run[panel] = runs;
  });
}

// Sorts the batch by panel, and cuts each panel's neighbours into runs of this many or fewer.
DPMASK_KERNEL void sort_by_panel(const Block& block, const SortedBatch& at, int count, int of_run) {
  // Odd distances between threads, which so are in different banks.
  const int of_strip = larger(ceil_div(count, most_strips(at.npanels)), kOfStrip) | 1;
  const int strips = ceil_div(count, of_strip), pitch = strips | 1;
  count_strips(block, at, count, of_strip, pitch);
  add_up_counts(block, at, strips, pitch, of_run);
  block.each(count, [=](int64_t k) {
    const int p = static_cast<int>(k), panel = at.panel[p];
    const int in_panel = at.counts[panel * pitch + p / of_strip] + at.before[p];
    at.sorted[at.first[panel] + in_panel] = static_cast<uint16_t>(p);
  });
}

DPMASK_KERNEL int panel_of_run(const SortedBatch& at, int run) {
  int low = 0, high = at.npanels - 1;
  const auto last_run = [=](int panel) { return at.first_run[panel + 1] - 1; };
  while (low < high) halve_panels(run, last_run, &low, &high);
  return low;
}

}  // namespace dpmask::cuda
