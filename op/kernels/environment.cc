// SPDX-License-Identifier: LGPL-3.0-or-later
#include "op/kernels/environment.h"

#include <algorithm>

#include "op/kernels/pair_row.h"
#include "op/kernels/pairs.h"

namespace dpmask {
namespace {

// Calls body(i, j, pair) for each ordered pair of different real atoms of a frame.
template <typename Body>
void for_each_pair(const RealAtoms& atoms, const Pairs& pairs, Body&& body) {
  for (int64_t i = 0; i < atoms.size; ++i) {
    for_each_in_frame(atoms, pairs, i, [&](int64_t j) {
      if (j != i) body(i, j, pairs.number(i, j));
    });
  }
}

}  // namespace

int64_t count_pairs(const RealAtoms& atoms) {
  int64_t npairs = 0;
  for (int64_t frame = 0; frame < atoms.nframes; ++frame) {
    int64_t size = 0;
    for (int64_t t = 0; t < atoms.ntypes; ++t) {
      const int64_t* group = atoms.first + t * atoms.nframes + frame;
      size += group[1] - group[0];
    }
    npairs += size * size;
  }
  return npairs;
}

void environment(const RealAtoms& atoms, const double* coord, double* R, Cpu& cpu) {
  const Cpu::Scope scope(cpu);
  const Pairs pairs(atoms, cpu);
  std::fill(R, R + 4 * pairs.npairs, 0.0);
  for_each_pair(atoms, pairs, [&](int64_t i, int64_t j, int64_t pair) {
    const EnvironmentRow row = row_of_pair(atoms, coord, i, j);
    std::copy(row.R, row.R + 4, R + 4 * pair);
  });
}

void environment_force(const RealAtoms& atoms, const double* coord, const double* dR,
                       const Forces& out, Cpu& cpu) {
  const Cpu::Scope scope(cpu);
  const Pairs pairs(atoms, cpu);
  const PairDerivatives of_pairs = allocate_derivatives(pairs, out, cpu);
  for (int64_t unit = 0; unit < pairs.nunits; ++unit) clear_derivatives(pairs, unit, of_pairs);
  for_each_pair(atoms, pairs, [&](int64_t i, int64_t j, int64_t pair) {
    const EnvironmentRow row = row_of_pair(atoms, coord, i, j);
    set_derivatives(row, dR + 4 * pair, 0.0, pair, of_pairs);
  });
  gather_forces(atoms, pairs, coord, of_pairs, out, cpu);
}

void environment_force_grad(const RealAtoms& atoms, const double* coord,
                            const ForceCotangents& cotangents, double* ddR, Cpu& cpu) {
  const Cpu::Scope scope(cpu);
  const Pairs pairs(atoms, cpu);
  std::fill(ddR, ddR + 4 * pairs.npairs, 0.0);
  for_each_pair(atoms, pairs, [&](int64_t i, int64_t j, int64_t pair) {
    const EnvironmentRow row = row_of_pair(atoms, coord, i, j);
    double u[3];
    pair_cotangent(atoms, pairs, cotangents, i, j, row.r, u);
    environment_tangent(row, u, ddR + 4 * pair);
  });
}

}  // namespace dpmask
