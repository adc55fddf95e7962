// SPDX-License-Identifier: LGPL-3.0-or-later
#include "op/kernels/sorted_pairs.h"

#include <algorithm>
#include <utility>

#include "op/kernels/instruction_set.h"
#include "op/kernels/series_units.h"

namespace dpmask {
namespace {

template <typename T>
double* ends_of_panels(const Series<T>& series, Cpu& cpu) {
  double* end = cpu.allocate<double>(series.npanels());
  for (int64_t panel = 0; panel < series.npanels(); ++panel) {
    end[panel] = end_of_panel(series, panel);
  }
  return end;
}

// Beyond so many cells, several panels are in one, and there is a search among these.
constexpr int64_t kCellsOfPanel = 4, kMostCells = 256;

template <typename T>
PanelGrid grid_of_net(const Series<T>& series, const double* end, int64_t net, Cpu& cpu) {
  const int64_t first = series.first[net], last = series.first[net + 1] - 1;
  const int64_t ncells = std::min(kCellsOfPanel * (last + 1 - first), kMostCells);
  const double begin = series.middle(first) - series.half_width(first);
  const double width = (end[last] - begin) / static_cast<double>(ncells);
  const PanelGrid grid = {begin, 1 / width, static_cast<double>(ncells - 1),
                          cpu.allocate<int32_t>(ncells), cpu.allocate<int32_t>(ncells)};
  constexpr double kMargin = 1e-6;  // of a cell's width, more than its number is rounded by
  const auto go_on = [&](int64_t panel, double cells) {
    while (panel < last && end[panel] < begin + cells * width) ++panel;
    return static_cast<int32_t>(panel);
  };
  int32_t low = static_cast<int32_t>(first), high = low;
  for (int64_t cell = 0; cell < ncells; ++cell) {
    grid.lowest[cell] = low = go_on(low, static_cast<double>(cell) - kMargin);
    grid.highest[cell] = high = go_on(high, static_cast<double>(cell + 1) + kMargin);
  }
  return grid;
}

template <typename T>
PanelGrid* grids_of_nets(const Series<T>& series, const double* end, Cpu& cpu) {
  PanelGrid* grids = cpu.allocate<PanelGrid>(series.nnets);
  for (int64_t net = 0; net < series.nnets; ++net) {
    if (series.has(net)) grids[net] = grid_of_net(series, end, net, cpu);
  }
  return grids;
}

double* positions_of_rows(const RealAtoms& atoms, const double* coord, Cpu& cpu) {
  double* position = cpu.allocate<double>(3 * atoms.size);
  for (int64_t i = 0; i < atoms.size; ++i) {
    for (int a = 0; a < 3; ++a) position[a * atoms.size + i] = coord[3 * atoms.slot[i] + a];
  }
  return position;
}

// Sets the rank of the pairs of a unit, and counts them: adds to `at` [1 + npanels], by panel,
// those of none first.
void rank(const Pairs& pairs, int64_t unit, const LocatedPairs& located, int64_t* at) {
  for (int64_t i = pairs.unit_first[unit]; i < pairs.unit_first[unit + 1]; ++i) {
    const int64_t first = pairs.pair_first[i], end = first + pairs.frame_size[pairs.frame[i]];
    for (int64_t pair = first; pair < end; ++pair) {
      located.rank[pair] = static_cast<int32_t>(at[1 + located.panel[pair]]++);
    }
  }
}

// Puts the pairs of a unit to their places, given where those of each panel begin. That nothing is
// counted here, and nothing asked, lets the processor write several at a time.
void put(const RealAtoms& atoms, const Pairs& pairs, int64_t unit, const LocatedPairs& located,
         const int64_t* at, SortedPair* all) {
  for (int64_t i = pairs.unit_first[unit]; i < pairs.unit_first[unit + 1]; ++i) {
    int64_t pair = pairs.pair_first[i];
    for_each_in_frame(atoms, pairs, i, [&](int64_t j) {
      all[at[1 + located.panel[pair]] + located.rank[pair]] = {
          static_cast<int32_t>(i), static_cast<int32_t>(j), located.s[pair]};
      ++pair;
    });
  }
}

}  // namespace

template <typename T>
SortedPairs sort_pairs(const Embedding<T>& embedding, const Pairs& pairs, Cpu& cpu) {
  const Series<T>& series = embedding.series;
  const RealAtoms& atoms = embedding.atoms;
  const int64_t npanels = series.npanels(), nunits = pairs.nunits;
  int64_t* first = cpu.allocate<int64_t>(npanels * nunits + 1);
  first[0] = 0;
  SortedPair* all = cpu.allocate<SortedPair>(pairs.npairs + SortedPairs::kBehind);
  std::fill_n(all + pairs.npairs, SortedPairs::kBehind, SortedPair{});
  if (npanels == 0) return {nunits, first, all};

  const Cpu::Scope scope(cpu);
  const double* end = ends_of_panels(series, cpu);
  const LocatedPairs located = {positions_of_rows(atoms, embedding.coord, cpu),
                                end,
                                grids_of_nets(series, end, cpu),
                                cpu.allocate<double>(pairs.npairs),
                                cpu.allocate<int32_t>(pairs.npairs),
                                cpu.allocate<int32_t>(pairs.npairs)};
  const auto locate = DPMASK_CHOOSE(series_units, <T>).locate;
  const int64_t nplaces = 1 + npanels;
  int64_t* places = cpu.allocate<int64_t>(nunits * nplaces);
  const auto places_of = [&](int64_t unit) { return places + unit * nplaces; };
  for_each_light_unit(pairs, cpu, [&](int64_t unit) {
    locate(embedding, pairs, unit, located);
    std::fill_n(places_of(unit), nplaces, 0);
    rank(pairs, unit, located, places_of(unit));
  });
  int64_t next = 0;
  const auto begin_here = [&](int64_t* place) { next += std::exchange(*place, next); };
  for (int64_t panel = 0; panel < npanels; ++panel) {
    for (int64_t unit = 0; unit < nunits; ++unit) {
      begin_here(places_of(unit) + 1 + panel);
      first[panel * nunits + unit + 1] = next;
    }
  }
  for (int64_t unit = 0; unit < nunits; ++unit) begin_here(places_of(unit));
  for_each_light_unit(
      pairs, cpu, [&](int64_t unit) { put(atoms, pairs, unit, located, places_of(unit), all); });
  return {nunits, first, all};
}
template SortedPairs sort_pairs<float>(const Embedding<float>&, const Pairs&, Cpu&);
template SortedPairs sort_pairs<double>(const Embedding<double>&, const Pairs&, Cpu&);

}  // namespace dpmask
