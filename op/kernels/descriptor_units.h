// SPDX-License-Identifier: LGPL-3.0-or-later
// The contraction of a few atoms, built once for each instruction set.
#pragma once

#include "op/kernels/descriptor.h"

namespace dpmask {

// As in descriptor.h, for all atoms of the shape.
template <typename T>
struct ContractionUnits {
  void (*contract)(const Contraction<T>&, const T* X, const T* Y, T* B);
  void (*reverse)(const Contraction<T>&, const T* Y, const T* gB, T* gX);
};

template <typename T>
ContractionUnits<T> contraction_units_baseline();
template <typename T>
ContractionUnits<T> contraction_units_avx2();
template <typename T>
ContractionUnits<T> contraction_units_avx512();

}  // namespace dpmask
