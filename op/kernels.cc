// SPDX-License-Identifier: LGPL-3.0-or-later
// The outer part of the embedding's kernels: cuts the work into units, runs them, adds up what they
// give.
#include "kernels.h"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

#include "embedding_units.h"
#include "environment.h"
#include "instruction_set.h"
#include "net_series.h"
#include "pairs.h"
#include "unit_gradients.h"

namespace dpmask {
namespace {

constexpr const char* kNames[] = {"baseline", "avx2", "avx512"};

InstructionSet best_instruction_set() {
#ifdef DPMASK_X86
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw")) {
    return InstructionSet::avx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return InstructionSet::avx2;
#endif
  return InstructionSet::baseline;
}

void serial(int64_t n, const std::function<void(int64_t)>& body) {
  for (int64_t k = 0; k < n; ++k) body(k);
}

// Calls body(i, j, pair) for each ordered pair of different real atoms of a frame.
template <typename Body>
void for_each_pair(const RealAtoms& atoms, const Pairs& pairs, Body&& body) {
  for (int64_t i = 0; i < atoms.size; ++i) {
    for_each_in_frame(atoms, pairs, i, [&](int64_t j) {
      if (j != i) body(i, j, pairs.number(i, j));
    });
  }
}

EnvironmentRow row_of(const RealAtoms& atoms, const double* coord, int64_t i, int64_t j) {
  return environment_row(coord + 3 * atoms.slot[i], coord + 3 * atoms.slot[j], atoms.weight[j]);
}

}  // namespace

InstructionSet chosen_instruction_set() {
  const InstructionSet best = best_instruction_set();
  const char* wish = std::getenv("DP_MASK_ISA");
  if (wish == nullptr) return best;
  for (int isa = 0; isa <= static_cast<int>(best); ++isa) {
    if (std::string(wish) == kNames[isa]) return static_cast<InstructionSet>(isa);
  }
  throw std::invalid_argument(std::string("DP_MASK_ISA is \"") + wish +
                              "\"; this machine offers up to \"" + kNames[static_cast<int>(best)] +
                              "\" of \"baseline\", \"avx2\", \"avx512\"");
}

std::string instruction_set() { return kNames[static_cast<int>(chosen_instruction_set())]; }

namespace {

// What the kernels of the embedding begin with.
template <typename T>
struct Work {
  Work(const Embedding<T>& of, const Parallel& with)
      : embedding(of), parallel(with), pairs(of.atoms), series(of, pairs, with),
        units{DPMASK_CHOOSE(direct_units, <T>), DPMASK_CHOOSE(series_units, <T>)} {}

  // Calls body(units, unit) for each unit, for the nets without a series and for those with one.
  template <typename Body>
  void for_each_unit(Body&& body) const {
    parallel(pairs.nunits(), [&](int64_t unit) {
      for (const EmbeddingUnits<T>& of_kind : units) body(of_kind, unit);
    });
  }

  // Zeroes an array shaped like X.
  void clear(T* X) const {
    std::fill(X, X + embedding.atoms.size * 4 * embedding.nets.neuron.back(), T(0));
  }

  const Embedding<T>& embedding;
  const Parallel& parallel;
  Pairs pairs;
  SeriesOfNets<T> series;
  EmbeddingUnits<T> units[2];
};

}  // namespace

template <typename T>
std::vector<int64_t> series_terms(const Embedding<T>& embedding, const Parallel& parallel) {
  const Work<T> work(embedding, parallel);
  std::vector<int64_t> terms;
  for (int64_t net = 0; net < embedding.nets.nnets(); ++net) {
    terms.push_back(work.series[net].terms);
  }
  return terms;
}

template <typename T>
void embed(const Embedding<T>& embedding, T* X, const Parallel& parallel) {
  const Work<T> work(embedding, parallel);
  work.clear(X);
  work.for_each_unit([&](const EmbeddingUnits<T>& units, int64_t unit) {
    units.embed(embedding, work.pairs, work.series.data(), unit, X);
  });
}

template <typename T>
void embed_grad(const Embedding<T>& embedding, const T* dX, const std::vector<T*>& dparameters,
                const Parallel& parallel) {
  const Work<T> work(embedding, parallel);
  UnitGradients<T> gradients(embedding, work.pairs, work.series);
  work.for_each_unit([&](const EmbeddingUnits<T>& units, int64_t unit) {
    units.embed_grad(embedding, work.pairs, work.series.data(), unit, dX, gradients.of_unit(unit));
  });
  gradients.add_up(dparameters, parallel);
}

template <typename T>
void force(const Embedding<T>& embedding, const T* A, const Forces& out, const Parallel& parallel) {
  const Work<T> work(embedding, parallel);
  std::vector<double> dr(3 * work.pairs.npairs, 0.0);
  work.for_each_unit([&](const EmbeddingUnits<T>& units, int64_t unit) {
    units.force(embedding, work.pairs, work.series.data(), unit, A, dr.data());
  });
  gather_forces(embedding.atoms, work.pairs, embedding.coord, dr.data(), out, parallel);
}

template <typename T>
void force_grad(const Embedding<T>& embedding, const T* A, const ForceCotangents& cotangents, T* dA,
                const std::vector<T*>& dparameters, const Parallel& parallel) {
  const Work<T> work(embedding, parallel);
  UnitGradients<T> gradients(embedding, work.pairs, work.series);
  work.clear(dA);
  work.for_each_unit([&](const EmbeddingUnits<T>& units, int64_t unit) {
    units.force_grad(embedding, work.pairs, work.series.data(), unit, A, cotangents, dA,
                     gradients.of_unit(unit));
  });
  gradients.add_up(dparameters, parallel);
}

#define DPMASK_INSTANTIATE(T)                                                            \
  template std::vector<int64_t> series_terms<T>(const Embedding<T>&, const Parallel&);   \
  template void embed<T>(const Embedding<T>&, T*, const Parallel&);                      \
  template void embed_grad<T>(const Embedding<T>&, const T*, const std::vector<T*>&,     \
                              const Parallel&);                                          \
  template void force<T>(const Embedding<T>&, const T*, const Forces&, const Parallel&); \
  template void force_grad<T>(const Embedding<T>&, const T*, const ForceCotangents&, T*, \
                              const std::vector<T*>&, const Parallel&)
DPMASK_INSTANTIATE(float);
DPMASK_INSTANTIATE(double);

int64_t count_pairs(const RealAtoms& atoms) { return Pairs(atoms).npairs; }

void environment(const RealAtoms& atoms, const double* coord, double* R) {
  const Pairs pairs(atoms);
  std::fill(R, R + 4 * pairs.npairs, 0.0);
  for_each_pair(atoms, pairs, [&](int64_t i, int64_t j, int64_t pair) {
    const EnvironmentRow row = row_of(atoms, coord, i, j);
    std::copy(row.R, row.R + 4, R + 4 * pair);
  });
}

void environment_force(const RealAtoms& atoms, const double* coord, const double* dR,
                       const Forces& out) {
  const Pairs pairs(atoms);
  std::vector<double> dr(3 * pairs.npairs, 0.0);
  for_each_pair(atoms, pairs, [&](int64_t i, int64_t j, int64_t pair) {
    environment_reverse(row_of(atoms, coord, i, j), dR + 4 * pair, 0.0, &dr[3 * pair]);
  });
  gather_forces(atoms, pairs, coord, dr.data(), out, serial);
}

void environment_force_grad(const RealAtoms& atoms, const double* coord,
                            const ForceCotangents& cotangents, double* ddR) {
  const Pairs pairs(atoms);
  std::fill(ddR, ddR + 4 * pairs.npairs, 0.0);
  for_each_pair(atoms, pairs, [&](int64_t i, int64_t j, int64_t pair) {
    const EnvironmentRow row = row_of(atoms, coord, i, j);
    double u[3];
    pair_cotangent(atoms, pairs, cotangents, i, j, row.r, u);
    environment_tangent(row, u, ddR + 4 * pair);
  });
}

}  // namespace dpmask
