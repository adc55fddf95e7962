// SPDX-License-Identifier: LGPL-3.0-or-later
#include "op/kernels/pairs.h"

#include <algorithm>

namespace dpmask {
namespace {

// A unit is small enough that a frame of 40 atoms keeps two threads busy, and large enough that its
// tiles are full. There are not many units either, since each has its own gradient of parameters.
constexpr int64_t kPairsPerUnit = 1024;
constexpr int64_t kUnits = 64;

}  // namespace

Pairs::Pairs(const RealAtoms& atoms, Cpu& cpu)
    : type(cpu.allocate<int64_t>(atoms.size)), frame(cpu.allocate<int64_t>(atoms.size)),
      local(cpu.allocate<int64_t>(atoms.size)),
      frame_size(cpu.allocate_zeros<int64_t>(atoms.nframes)),
      pair_first(cpu.allocate<int64_t>(atoms.size)), npairs(0),
      unit_first(cpu.allocate<int64_t>(atoms.size + 1)), nunits(0) {
  for (int64_t t = 0; t < atoms.ntypes; ++t) {
    for (int64_t f = 0; f < atoms.nframes; ++f) {
      const int64_t group = t * atoms.nframes + f;
      for (int64_t row = atoms.first[group]; row < atoms.first[group + 1]; ++row) {
        type[row] = t;
        frame[row] = f;
        local[row] = frame_size[f]++;
      }
    }
  }
  int64_t* frame_first = cpu.allocate<int64_t>(atoms.nframes);
  for (int64_t f = 0; f < atoms.nframes; ++f) {
    frame_first[f] = npairs;
    npairs += frame_size[f] * frame_size[f];
  }
  // As many units for each of four threads, and all alike.
  const int64_t wanted = (npairs / kPairsPerUnit + 3) / 4 * 4;
  const int64_t pairs_per_unit = wanted == 0 ? kPairsPerUnit : npairs / std::min(wanted, kUnits);
  int64_t pairs_in_unit = 0;
  unit_first[0] = 0;
  for (int64_t row = 0; row < atoms.size; ++row) {
    const int64_t neighbours = frame_size[frame[row]];
    pair_first[row] = frame_first[frame[row]] + local[row] * neighbours;
    pairs_in_unit += neighbours;
    if (pairs_in_unit >= pairs_per_unit || row + 1 == atoms.size) {
      unit_first[++nunits] = row + 1;
      pairs_in_unit = 0;
    }
  }
}

bool unit_has_net(const RealAtoms& atoms, const Pairs& pairs, int64_t unit,
                  const std::vector<int32_t>& net_of, int64_t net) {
  for (int64_t i = pairs.unit_first[unit]; i < pairs.unit_first[unit + 1]; ++i) {
    for (int64_t t = 0; t < atoms.ntypes; ++t) {
      const int64_t group = t * atoms.nframes + pairs.frame[i];
      const bool empty = atoms.first[group] == atoms.first[group + 1];
      if (!empty && net_of[pairs.type[i] * atoms.ntypes + t] == net) return true;
    }
  }
  return false;
}

PairDerivatives allocate_derivatives(const Pairs& pairs, const Forces& out, Cpu& cpu) {
  const bool wants_dw = out.weight_gradient != nullptr;
  return {cpu.allocate<double>(3 * pairs.npairs),
          wants_dw ? cpu.allocate<double>(pairs.npairs) : nullptr};
}

void clear_derivatives(const Pairs& pairs, int64_t unit, const PairDerivatives& of_pairs) {
  for (int64_t i = pairs.unit_first[unit]; i < pairs.unit_first[unit + 1]; ++i) {
    const int64_t first = pairs.pair_first[i], count = pairs.frame_size[pairs.frame[i]];
    std::fill_n(of_pairs.dr + 3 * first, 3 * count, 0.0);
    if (of_pairs.dw != nullptr) std::fill_n(of_pairs.dw + first, count, 0.0);
  }
}

void gather_forces(const RealAtoms& atoms, const Pairs& pairs, const double* coord,
                   const PairDerivatives& of_pairs, const Forces& out, Cpu& cpu) {
  const bool wants_virials = out.atom_virial != nullptr;
  const double *dr = of_pairs.dr, *dw = of_pairs.dw;
  const auto gather = [&](int64_t i) {
    const double* r_i = coord + 3 * atoms.slot[i];
    double force[3] = {}, atom_virial[9] = {};
    for_each_in_frame(atoms, pairs, i, [&](int64_t j) {
      const double* r_j = coord + 3 * atoms.slot[j];
      const double* dr_ij = dr + 3 * pairs.number(i, j);
      const double* dr_ji = dr + 3 * pairs.number(j, i);
      for (int a = 0; a < 3; ++a) force[a] += dr_ij[a] - dr_ji[a];
      if (!wants_virials) return;
      for (int a = 0; a < 3; ++a) {
        for (int b = 0; b < 3; ++b) atom_virial[3 * a + b] -= dr_ji[a] * (r_i[b] - r_j[b]);
      }
    });
    for (int a = 0; a < 3; ++a) out.force[3 * atoms.slot[i] + a] += force[a];
    for (int ab = 0; wants_virials && ab < 9; ++ab) {
      out.atom_virial[9 * atoms.slot[i] + ab] += atom_virial[ab];
    }
  };
  const auto gather_by_weight = [&](int64_t i) {
    double sum = 0;
    for_each_in_frame(atoms, pairs, i, [&](int64_t j) {
      if (!are_of_group(atoms.group, i, j)) sum += dw[pairs.number(j, i)];
    });
    out.weight_gradient[atoms.slot[i]] += sum;
  };
  for_each_light_unit(pairs, cpu, [&](int64_t unit) {
    for (int64_t i = pairs.unit_first[unit]; i < pairs.unit_first[unit + 1]; ++i) {
      gather(i);
      if (dw != nullptr) gather_by_weight(i);
    }
  });
  for (int64_t i = 0; wants_virials && i < atoms.size; ++i) {
    for (int ab = 0; ab < 9; ++ab) {
      out.virial[9 * pairs.frame[i] + ab] += out.atom_virial[9 * atoms.slot[i] + ab];
    }
  }
}

}  // namespace dpmask
