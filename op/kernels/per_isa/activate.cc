// SPDX-License-Identifier: LGPL-3.0-or-later
// Compiled once for each instruction set; direct_units.cc says what that asks of the code.
#include "op/kernels/per_isa/activate.h"

#include <Eigen/Core>

#include "op/shared/activation_formulas.h"

namespace dpmask::DPMASK_ISA {

template <int kOrder, typename T>
void activate_all(Activation activation, double silut_threshold, int64_t size, T* z, T* a, T* d1,
                  T* d2) {
  using Numbers = Eigen::Map<Eigen::Array<T, Eigen::Dynamic, 1>>;
  activate<kOrder>(activation, silut_threshold, Numbers(z, size), Numbers(a, size),
                   Numbers(d1, kOrder >= 1 ? size : 0), Numbers(d2, kOrder >= 2 ? size : 0));
}

#define DPMASK_INSTANTIATE(kOrder, T) \
  template void activate_all<kOrder, T>(Activation, double, int64_t, T*, T*, T*, T*)
DPMASK_INSTANTIATE(0, float);
DPMASK_INSTANTIATE(0, double);
DPMASK_INSTANTIATE(1, float);
DPMASK_INSTANTIATE(1, double);
DPMASK_INSTANTIATE(2, float);
DPMASK_INSTANTIATE(2, double);

}  // namespace dpmask::DPMASK_ISA
