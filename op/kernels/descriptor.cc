// SPDX-License-Identifier: LGPL-3.0-or-later
// The contraction's outer part: a few atoms at a time for each thread.
#include "op/kernels/descriptor.h"

#include <algorithm>

#include "op/kernels/descriptor_units.h"
#include "op/kernels/instruction_set.h"

namespace dpmask {
namespace {

constexpr int64_t kAtoms = 16;

// Calls body(first, shape) for a few atoms at a time.
template <typename T, typename Body>
void for_some_atoms(const Contraction<T>& shape, Cpu& cpu, Body&& body) {
  cpu.parallel((shape.size + kAtoms - 1) / kAtoms, [&](int64_t k) {
    const int64_t first = k * kAtoms;
    body(first, Contraction<T>{std::min(kAtoms, shape.size - first), shape.M1, shape.M2});
  });
}

}  // namespace

template <typename T>
void contract(const Contraction<T>& shape, const T* X, const T* Y, T* B, Cpu& cpu) {
  const ContractionUnits<T> units = DPMASK_CHOOSE(contraction_units, <T>);
  const int64_t x = 4 * shape.M1, b = shape.M1 * shape.M2;
  for_some_atoms(shape, cpu, [&](int64_t first, const Contraction<T>& some) {
    units.contract(some, X + x * first, Y + x * first, B + b * first);
  });
}

template <typename T>
void contract_reverse(const Contraction<T>& shape, const T* Y, const T* gB, T* gX, Cpu& cpu) {
  const ContractionUnits<T> units = DPMASK_CHOOSE(contraction_units, <T>);
  const int64_t x = 4 * shape.M1, b = shape.M1 * shape.M2;
  for_some_atoms(shape, cpu, [&](int64_t first, const Contraction<T>& some) {
    units.reverse(some, Y + x * first, gB + b * first, gX + x * first);
  });
}

#define DPMASK_INSTANTIATE(T)                                                     \
  template void contract<T>(const Contraction<T>&, const T*, const T*, T*, Cpu&); \
  template void contract_reverse<T>(const Contraction<T>&, const T*, const T*, T*, Cpu&)
DPMASK_INSTANTIATE(float);
DPMASK_INSTANTIATE(double);

}  // namespace dpmask
