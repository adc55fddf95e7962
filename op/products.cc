// SPDX-License-Identifier: LGPL-3.0-or-later
// Products of the atoms of each type with the matrix of that type.
#include <algorithm>

#include "instruction_set.h"
#include "kernels.h"
#include "product_units.h"

namespace dpmask {
namespace {

constexpr int64_t kColumns = 64;  // of a result, for one thread to work on

// A part of one type's product: rows of that type, and some columns or rows of the result.
struct Part {
  int64_t type, first, count;
};

std::vector<Part> cut(int64_t ntypes, int64_t length) {
  std::vector<Part> parts;
  for (int64_t t = 0; t < ntypes; ++t) {
    for (int64_t first = 0; first < length; first += kColumns) {
      parts.push_back({t, first, std::min(kColumns, length - first)});
    }
  }
  return parts;
}

}  // namespace

template <typename T>
void product_by_type(const TypeProduct<T>& p, const T* x, bool transposed, T* y,
                     const Parallel& parallel) {
  const ProductUnits<T> units = DPMASK_CHOOSE(product_units, <T>);
  const int64_t in = transposed ? p.outputs : p.inputs;
  const int64_t out = transposed ? p.inputs : p.outputs;
  const std::vector<Part> parts = cut(p.ntypes, out);
  parallel(static_cast<int64_t>(parts.size()), [&](int64_t k) {
    const auto [t, first, count] = parts[k];
    const int64_t row = p.type_first[t];
    const int64_t rows = p.type_first[t + 1] - row;
    if (rows == 0) return;
    const Block<const T> x_t{x + row * in, rows, in, in};
    const Block<T> y_t{y + row * out + first, rows, count, out};
    if (transposed) {
      units.product_transposed(x_t, {p.matrices[t] + first * in, count, in, in}, y_t);
    } else {
      units.product(x_t, {p.matrices[t] + first, in, count, out}, y_t);
    }
  });
}

template <typename T>
void outer_by_type(const TypeProduct<T>& p, const T* x, const T* y,
                   const std::vector<T*>& dmatrices, const Parallel& parallel) {
  const ProductUnits<T> units = DPMASK_CHOOSE(product_units, <T>);
  const std::vector<Part> parts = cut(p.ntypes, p.inputs);
  parallel(static_cast<int64_t>(parts.size()), [&](int64_t k) {
    const auto [t, first, count] = parts[k];
    const int64_t row = p.type_first[t];
    const int64_t rows = p.type_first[t + 1] - row;
    T* dW = dmatrices[t] + first * p.outputs;
    if (rows == 0) {
      std::fill(dW, dW + count * p.outputs, T(0));
    } else {
      units.outer({x + row * p.inputs + first, rows, count, p.inputs},
                  {y + row * p.outputs, rows, p.outputs, p.outputs},
                  {dW, count, p.outputs, p.outputs});
    }
  });
}

#define DPMASK_INSTANTIATE(T)                                                                   \
  template void product_by_type<T>(const TypeProduct<T>&, const T*, bool, T*, const Parallel&); \
  template void outer_by_type<T>(const TypeProduct<T>&, const T*, const T*,                     \
                                 const std::vector<T*>&, const Parallel&)
DPMASK_INSTANTIATE(float);
DPMASK_INSTANTIATE(double);

}  // namespace dpmask
