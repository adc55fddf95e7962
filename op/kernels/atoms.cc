// SPDX-License-Identifier: LGPL-3.0-or-later
// Finds the real atoms of a padded batch, and says what is wrong with a bad one.
#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <stdexcept>

#include "op/kernels/kernels.h"

namespace dpmask {
namespace {

constexpr double kCoincident = 1e-6;  // units of length; 1/r^2 is lost in rounding soon after

template <typename... Parts>
[[noreturn]] void refuse(int64_t frame, int64_t atom, const Parts&... parts) {
  std::ostringstream message;
  message.precision(15);  // enough to tell 0.9999999 from 1, few enough to print 0.9 as such
  message << "frame " << frame << ", atom " << atom << ": ";
  (message << ... << parts);
  throw std::invalid_argument(message.str());
}

void check_atom(const PaddedBatch& batch, int64_t frame, int64_t atom) {
  const int64_t slot = frame * batch.nslots + atom;
  const double mask = batch.mask[slot];
  const int32_t type = batch.type[slot];
  if (mask != 0 && mask != 1) {
    refuse(frame, atom, "mask value ", mask, " is neither 0 nor 1; ",
           "aparam must be 1 for a real atom and 0 for a virtual one");
  }
  if (type >= batch.ntypes || type < -1 || (type == -1 && mask != 0)) {
    refuse(frame, atom, "type ", type, " is outside the type map, which has ", batch.ntypes,
           " types; number them from 0");
  }
  if (mask == 0) return;
  for (int a = 0; a < 3; ++a) {
    const double x = batch.coord[3 * slot + a];
    if (!std::isfinite(x)) {
      refuse(frame, atom, "coordinate ", "xyz"[a], " of a real atom is ", x,
             ", not a finite number; mend it or set the atom's mask to 0");
    }
  }
}

double shortest_distance(const PaddedBatch& batch, int64_t frame) {
  std::vector<int64_t> real;
  for (int64_t atom = 0; atom < batch.nslots; ++atom) {
    if (batch.mask[frame * batch.nslots + atom] != 0) real.push_back(atom);
  }
  const double* coord = batch.coord + 3 * frame * batch.nslots;
  double shortest = std::numeric_limits<double>::infinity();
  for (size_t a = 0; a < real.size(); ++a) {
    for (size_t b = a + 1; b < real.size(); ++b) {
      const double* p = coord + 3 * real[a];
      const double* q = coord + 3 * real[b];
      const double r2 = (p[0] - q[0]) * (p[0] - q[0]) + (p[1] - q[1]) * (p[1] - q[1]) +
                        (p[2] - q[2]) * (p[2] - q[2]);
      if (r2 < kCoincident * kCoincident) {
        refuse(frame, real[a], "at the same point as atom ", real[b], " (distance ", std::sqrt(r2),
               "); remove one of them or set its mask to 0");
      }
      shortest = std::min(shortest, r2);
    }
  }
  return std::sqrt(shortest);
}

}  // namespace

RealAtomList find_real_atoms(const PaddedBatch& batch) {
  RealAtomList list;
  list.min_distance = std::numeric_limits<double>::infinity();
  std::vector<int64_t> count(batch.ntypes * batch.nframes, 0);
  for (int64_t frame = 0; frame < batch.nframes; ++frame) {
    for (int64_t atom = 0; atom < batch.nslots; ++atom) {
      check_atom(batch, frame, atom);
      if (batch.mask[frame * batch.nslots + atom] == 0) continue;
      ++count[batch.type[frame * batch.nslots + atom] * batch.nframes + frame];
    }
    list.min_distance = std::min(list.min_distance, shortest_distance(batch, frame));
  }

  list.first.assign(1, 0);
  for (int64_t group_size : count) list.first.push_back(list.first.back() + group_size);
  list.slot.resize(list.first.back());
  list.weight.resize(list.first.back());
  std::vector<int64_t> next(list.first.begin(), list.first.end() - 1);
  for (int64_t frame = 0; frame < batch.nframes; ++frame) {
    for (int64_t atom = 0; atom < batch.nslots; ++atom) {
      const double mask = batch.mask[frame * batch.nslots + atom];
      if (mask == 0) continue;
      const int64_t slot = frame * batch.nslots + atom;
      const int64_t row = next[batch.type[slot] * batch.nframes + frame]++;
      list.slot[row] = slot;
      list.weight[row] = mask;
    }
  }
  return list;
}

}  // namespace dpmask
