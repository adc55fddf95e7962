// SPDX-License-Identifier: LGPL-3.0-or-later
// The kernels' outer part: cuts the work into units, runs them, adds up what they give.
#include "kernels.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <stdexcept>

#include "embedding_units.h"
#include "environment.h"
#include "instruction_set.h"
#include "pairs.h"

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

// The gradient of the nets' parameters, first by unit, so that no two threads add to one number
// and the order of the additions does not depend on the threads.
template <typename T>
class UnitGradients {
 public:
  UnitGradients(const Embedding<T>& embedding, const Pairs& pairs)
      : nets_(embedding.nets), sizes_(nets_.sizes()), nunits_(pairs.nunits()),
        arrays_(nunits_ * nets_.parameters.size(), nullptr), storage_(nunits_) {
    for (int64_t size : sizes_) net_size_ += size;
    const int64_t ntypes = embedding.atoms.ntypes;
    used_.resize(nunits_);
    for (int64_t unit = 0; unit < nunits_; ++unit) {
      std::vector<bool> seen(nnets(), false);
      for (int64_t i = pairs.unit_first[unit]; i < pairs.unit_first[unit + 1]; ++i) {
        for (int64_t t = 0; t < ntypes; ++t) {
          const int64_t group = t * embedding.atoms.nframes + pairs.frame[i];
          const int32_t net = nets_.net[pairs.type[i] * ntypes + t];
          const bool empty = embedding.atoms.first[group] == embedding.atoms.first[group + 1];
          if (net >= 0 && !empty) seen[net] = true;
        }
      }
      for (int64_t net = 0; net < nnets(); ++net) {
        if (seen[net]) used_[unit].push_back(net);
      }
    }
  }

  // Zeroed arrays for one unit, listed like the parameters; called by the thread that uses them.
  std::vector<T*> of_unit(int64_t unit) {
    const int64_t nused = static_cast<int64_t>(used_[unit].size());
    storage_[unit].reset(new T[nused * net_size_]());
    std::vector<T*> list(nets_.parameters.size(), nullptr);
    T* array = storage_[unit].get();
    for (int64_t net : used_[unit]) {
      for (size_t p = 0; p < sizes_.size(); ++p) {
        list[net * sizes_.size() + p] = array;
        array += sizes_[p];
      }
    }
    std::copy(list.begin(), list.end(), arrays_.begin() + unit * list.size());
    return list;
  }

  void add_up(const std::vector<T*>& dparameters, const Parallel& parallel) const {
    parallel(static_cast<int64_t>(dparameters.size()), [&](int64_t p) {
      T* sum = dparameters[p];
      const int64_t size = sizes_[p % sizes_.size()];
      std::fill(sum, sum + size, T(0));
      for (int64_t unit = 0; unit < nunits_; ++unit) {
        const T* share = arrays_[unit * dparameters.size() + p];
        if (share == nullptr) continue;
        for (int64_t k = 0; k < size; ++k) sum[k] += share[k];
      }
    });
  }

 private:
  int64_t nnets() const { return static_cast<int64_t>(nets_.parameters.size() / sizes_.size()); }

  const EmbeddingNets<T>& nets_;
  std::vector<int64_t> sizes_;
  int64_t nunits_;
  int64_t net_size_ = 0;
  std::vector<std::vector<int64_t>> used_;  // the nets of each unit
  std::vector<T*> arrays_;                  // [units, parameters]
  std::vector<std::unique_ptr<T[]>> storage_;
};

void serial(int64_t n, const std::function<void(int64_t)>& body) {
  for (int64_t k = 0; k < n; ++k) body(k);
}

// Calls body(i, j, pair) for each ordered pair of different real atoms of a frame.
template <typename Body>
void for_each_pair(const RealAtoms& atoms, const Pairs& pairs, Body&& body) {
  for (int64_t i = 0; i < atoms.size; ++i) {
    for_each_in_frame(atoms, pairs, i, [&](int64_t j) {
      if (j != i) body(i, j, pairs.pair_first[i] + pairs.local[j]);
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

template <typename T>
void embed(const Embedding<T>& embedding, T* X, const Parallel& parallel) {
  const Pairs pairs(embedding.atoms);
  const EmbeddingUnits<T> units = DPMASK_CHOOSE(embedding_units);
  parallel(pairs.nunits(), [&](int64_t unit) { units.embed(embedding, pairs, unit, X); });
}

template <typename T>
void embed_grad(const Embedding<T>& embedding, const T* dX, const std::vector<T*>& dparameters,
                const Parallel& parallel) {
  const Pairs pairs(embedding.atoms);
  const EmbeddingUnits<T> units = DPMASK_CHOOSE(embedding_units);
  UnitGradients<T> gradients(embedding, pairs);
  parallel(pairs.nunits(), [&](int64_t unit) {
    units.embed_grad(embedding, pairs, unit, dX, gradients.of_unit(unit));
  });
  gradients.add_up(dparameters, parallel);
}

template <typename T>
void force(const Embedding<T>& embedding, const T* A, const Forces& out, const Parallel& parallel) {
  const Pairs pairs(embedding.atoms);
  const EmbeddingUnits<T> units = DPMASK_CHOOSE(embedding_units);
  const std::unique_ptr<double[]> dr(new double[3 * pairs.npairs]);
  parallel(pairs.nunits(), [&](int64_t unit) { units.force(embedding, pairs, unit, A, dr.get()); });
  gather_forces(embedding.atoms, pairs, embedding.coord, dr.get(), out, parallel);
}

template <typename T>
void force_grad(const Embedding<T>& embedding, const T* A, const ForceCotangents& cotangents, T* dA,
                const std::vector<T*>& dparameters, const Parallel& parallel) {
  const Pairs pairs(embedding.atoms);
  const EmbeddingUnits<T> units = DPMASK_CHOOSE(embedding_units);
  UnitGradients<T> gradients(embedding, pairs);
  parallel(pairs.nunits(), [&](int64_t unit) {
    units.force_grad(embedding, pairs, unit, A, cotangents, dA, gradients.of_unit(unit));
  });
  gradients.add_up(dparameters, parallel);
}

#define DPMASK_INSTANTIATE(T)                                                            \
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
