// SPDX-License-Identifier: LGPL-3.0-or-later
// Activation functions of many numbers, compiled in one place for each instruction set, as
// products.h is.
#pragma once

#include <cstdint>

#include "op/shared/activation.h"

namespace dpmask::DPMASK_ISA {

// a = phi(z) and, as far as kOrder asks, d1 = phi'(z) and d2 = phi''(z), all [size], none of which
// may overlap; z is only read.
template <int kOrder, typename T>
void activate_all(Activation activation, double silut_threshold, int64_t size, T* z, T* a, T* d1,
                  T* d2);

}  // namespace dpmask::DPMASK_ISA
