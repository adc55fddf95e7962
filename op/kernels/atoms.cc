// SPDX-License-Identifier: LGPL-3.0-or-later
// Finds the real atoms of a padded batch, and says what is wrong with a bad one.
#include "op/kernels/atoms.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <tuple>

#include "op/kernels/atom_error.h"
#include "op/shared/environment_row.h"

namespace dpmask {
namespace {

constexpr double kCoincident = 1e-6;  // units of length; 1/r^2 is lost in rounding soon after

void check_atom(const PaddedBatch& batch, int64_t frame, int64_t atom) {
  const int64_t slot = frame * batch.nslots + atom;
  const double mask = batch.mask[slot];
  const int32_t type = batch.type[slot];
  AtomFault fault{AtomFault::Code::mask, frame, atom};
  const bool is_weight = batch.group == nullptr ? mask == 0 || mask == 1 : 0 <= mask && mask <= 1;
  if (!is_weight) {
    fault.code = batch.group == nullptr ? AtomFault::Code::mask : AtomFault::Code::weight;
    fault.value = mask;
    throw AtomError(fault);
  }
  if (type >= batch.ntypes || type < -1 || (type == -1 && mask != 0)) {
    fault.code = AtomFault::Code::type;
    fault.ntypes = batch.ntypes;
    fault.type = type;
    throw AtomError(fault);
  }
  if (mask == 0) return;
  for (int axis = 0; axis < 3; ++axis) {
    const double x = batch.coord[3 * slot + axis];
    if (std::isfinite(x)) continue;
    fault.code = AtomFault::Code::coordinate;
    fault.axis = axis;
    fault.value = x;
    throw AtomError(fault);
  }
}

// The atoms of a group have one weight.
void check_groups(const PaddedBatch& batch, int64_t frame, Arena& arena) {
  if (batch.group == nullptr) return;
  const Arena::Scope scope(arena);
  const double* mask = batch.mask + frame * batch.nslots;
  const int64_t* group = batch.group + frame * batch.nslots;
  int64_t* atoms = arena.allocate<int64_t>(batch.nslots);
  int64_t* end = atoms;
  for (int64_t atom = 0; atom < batch.nslots; ++atom) {
    if (mask[atom] != 0) *end++ = atom;
  }
  std::sort(atoms, end, [=](int64_t one, int64_t other) {
    return std::tie(group[one], one) < std::tie(group[other], other);
  });
  for (const int64_t *first = atoms, *atom = atoms; atom < end; ++atom) {
    if (group[*first] != group[*atom]) first = atom;
    if (mask[*first] == mask[*atom]) continue;
    AtomFault fault{AtomFault::Code::group, frame, *first, *atom};
    fault.value = mask[*first];
    fault.other_value = mask[*atom];
    throw AtomError(fault);
  }
}

struct Point {
  double r[3];
  int64_t atom;
};

struct Points {
  Point* all;
  int64_t size;
};

// The real atoms of a frame, sorted by that coordinate which spans most.
Points sorted_points(const PaddedBatch& batch, int64_t frame, int* axis, Arena& arena) {
  Points points = {arena.allocate<Point>(batch.nslots), 0};
  double lowest[3], highest[3];
  std::fill_n(lowest, 3, std::numeric_limits<double>::infinity());
  std::fill_n(highest, 3, -std::numeric_limits<double>::infinity());
  for (int64_t atom = 0; atom < batch.nslots; ++atom) {
    const int64_t slot = frame * batch.nslots + atom;
    if (batch.mask[slot] == 0) continue;
    const double* r = batch.coord + 3 * slot;
    points.all[points.size++] = {{r[0], r[1], r[2]}, atom};
    for (int a = 0; a < 3; ++a) {
      lowest[a] = std::min(lowest[a], r[a]);
      highest[a] = std::max(highest[a], r[a]);
    }
  }
  *axis = 0;
  for (int a = 1; a < 3; ++a) {
    if (highest[a] - lowest[a] > highest[*axis] - lowest[*axis]) *axis = a;
  }
  std::sort(points.all, points.all + points.size,
            [a = *axis](const Point& p, const Point& q) { return p.r[a] < q.r[a]; });
  return points;
}

// A sweep along the sorted points: what is farther along the axis than the shortest distance so far
// is farther altogether. Of several coincidences the first in the order of atoms is the error.
double shortest_distance(const PaddedBatch& batch, int64_t frame, Arena& arena) {
  const Arena::Scope scope(arena);
  constexpr double kCoincident2 = kCoincident * kCoincident;
  int axis;
  const Points sorted = sorted_points(batch, frame, &axis, arena);
  const Point* points = sorted.all;
  double shortest = std::numeric_limits<double>::infinity();
  std::optional<AtomFault> first;  // its atoms in order
  for (int64_t a = 0; a < sorted.size; ++a) {
    const double* p = points[a].r;
    for (int64_t b = a + 1; b < sorted.size; ++b) {
      const double* q = points[b].r;
      const double along = p[axis] - q[axis];
      if (along * along >= std::max(shortest, kCoincident2)) break;
      const double r2 = squared_distance(p, q);
      shortest = std::min(shortest, r2);
      if (r2 >= kCoincident2) continue;
      const auto [one, other] = std::minmax(points[a].atom, points[b].atom);
      if (first && std::tie(first->atom, first->other) <= std::tie(one, other)) continue;
      first = AtomFault{AtomFault::Code::coincident, frame, one, other};
      first->value = std::sqrt(r2);
    }
  }
  if (first) throw AtomError(*first);
  return std::sqrt(shortest);
}

}  // namespace

FoundAtoms find_real_atoms(const PaddedBatch& batch, Arena& arena) {
  const int64_t nruns = batch.ntypes * batch.nframes;  // of rows that have one type and frame
  int64_t* first = arena.allocate<int64_t>(nruns + 1);
  std::fill_n(first, nruns + 1, 0);  // for now, the size of each run after its place
  double min_distance = std::numeric_limits<double>::infinity();
  for (int64_t frame = 0; frame < batch.nframes; ++frame) {
    for (int64_t atom = 0; atom < batch.nslots; ++atom) {
      check_atom(batch, frame, atom);
      if (batch.mask[frame * batch.nslots + atom] == 0) continue;
      ++first[batch.type[frame * batch.nslots + atom] * batch.nframes + frame + 1];
    }
    check_groups(batch, frame, arena);
    min_distance = std::min(min_distance, shortest_distance(batch, frame, arena));
  }
  std::partial_sum(first, first + nruns + 1, first);

  const int64_t size = first[nruns];
  int64_t* slots = arena.allocate<int64_t>(size);
  double* weight = arena.allocate<double>(size);
  int64_t* group = batch.group == nullptr ? nullptr : arena.allocate<int64_t>(size);
  int64_t* next = arena.allocate<int64_t>(nruns);
  std::copy_n(first, nruns, next);
  for (int64_t frame = 0; frame < batch.nframes; ++frame) {
    for (int64_t atom = 0; atom < batch.nslots; ++atom) {
      const int64_t slot = frame * batch.nslots + atom;
      if (batch.mask[slot] == 0) continue;
      const int64_t row = next[batch.type[slot] * batch.nframes + frame]++;
      slots[row] = slot;
      weight[row] = batch.mask[slot];
      if (group != nullptr) group[row] = batch.group[slot];
    }
  }
  return {{batch.nframes, batch.ntypes, size, slots, weight, first, group}, min_distance};
}

}  // namespace dpmask
