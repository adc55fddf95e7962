// SPDX-License-Identifier: LGPL-3.0-or-later
// The descriptor from X.
#pragma once

#include <cstdint>

#include "op/kernels/cpu.h"

namespace dpmask {

// The symmetric bilinear form whose diagonal is the descriptor, D = contract(X, X):
//   B_ab = (1/2) sum_c (X_ca Y_cb + Y_ca X_cb),  a < M1, b < M2
// for each atom, given X and Y [size, 4, M1]; B is [size, M1, M2].
template <typename T>
struct Contraction {
  int64_t size, M1, M2;
};

template <typename T>
void contract(const Contraction<T>& shape, const T* X, const T* Y, T* B, Cpu& cpu);

// The gradient of contract by X [size, 4, M1], given Y and gB = dL/dB [size, M1, M2].
template <typename T>
void contract_reverse(const Contraction<T>& shape, const T* Y, const T* gB, T* gX, Cpu& cpu);

}  // namespace dpmask
