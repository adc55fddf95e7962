// SPDX-License-Identifier: LGPL-3.0-or-later
// Activation functions with their first and second derivatives, on Eigen arrays or what has their
// interface.
#pragma once

#include <cmath>

#include "op/shared/activation.h"
#include "op/shared/device.h"

namespace dpmask::DPMASK_ISA {

// silu, for activate.
template <int kOrder, typename Array>
DPMASK_DEVICE inline void activate_silu(const Array& z, Array a, Array d1, Array d2) {
  using T = typename Array::Scalar;
  a = z.logistic();  // for now
  if constexpr (kOrder >= 2) d2 = a * (T(1) - a) * (T(2) + z * (T(1) - T(2) * a));
  if constexpr (kOrder >= 1) d1 = a * (T(1) + z * (T(1) - a));
  a = z * a;
}

// Sets a = phi(z) and, as far as kOrder asks, d1 = phi'(z) and d2 = phi''(z). The arrays may not
// overlap. The names are DeePMD-kit's.
template <int kOrder, typename Array>
DPMASK_DEVICE inline void activate(Activation activation, double silut_threshold, const Array& z,
                                   Array a, Array d1, Array d2) {
  using T = typename Array::Scalar;
  constexpr bool first = kOrder >= 1;
  constexpr bool second = kOrder >= 2;
  switch (activation) {
    case Activation::linear:
      a = z;
      if constexpr (first) d1.setOnes();
      if constexpr (second) d2.setZero();
      return;
    case Activation::relu:
      a = z.cwiseMax(T(0));
      if constexpr (first) d1 = (z > T(0)).template cast<T>();
      if constexpr (second) d2.setZero();
      return;
    case Activation::relu6:
      a = z.cwiseMax(T(0)).cwiseMin(T(6));
      if constexpr (first) d1 = (z > T(0) && z < T(6)).template cast<T>();
      if constexpr (second) d2.setZero();
      return;
    case Activation::softplus:  // log(1 + e^z), written so that e^z cannot overflow
      a = z.cwiseMax(T(0)) + (-z.abs()).exp().log1p();
      if constexpr (first) d1 = z.logistic();
      if constexpr (second) d2 = d1 * (T(1) - d1);
      return;
    case Activation::sigmoid:
      a = z.logistic();
      if constexpr (first) d1 = a * (T(1) - a);
      if constexpr (second) d2 = d1 * (T(1) - T(2) * a);
      return;
    case Activation::tanh:
      a = z.tanh();
      if constexpr (first) d1 = T(1) - a * a;
      if constexpr (second) d2 = T(-2) * a * d1;
      return;
    case Activation::gelu:
    case Activation::gelu_tf: {               // z/2 (1 + tanh(u)), u = c (z + k z^3)
      const T c = T(0.79788456080286535588);  // sqrt(2/pi)
      // gelu_tf is TensorFlow's own, which rounds k to float32 in every precision.
      const T k = activation == Activation::gelu_tf ? T(0.044715f) : T(0.044715);
      const auto u1 = c * (T(1) + T(3) * k * z * z);  // u'
      a = (c * (z + k * z * z * z)).tanh();           // tanh(u), for now
      if constexpr (second) {
        d2 = (T(1) - a * a) * (u1 + T(3) * c * k * z * z - z * a * u1 * u1);
      }
      if constexpr (first) d1 = T(0.5) * (T(1) + a + z * (T(1) - a * a) * u1);
      a = T(0.5) * z * (T(1) + a);
      return;
    }
    case Activation::silu:
      activate_silu<kOrder, Array>(z, a, d1, d2);
      return;
    case Activation::silut: {  // silu below the threshold, a tanh with the same slope above
      const T threshold = T(silut_threshold);
      const T sigma = T(1) / (T(1) + std::exp(-threshold));
      const T value = threshold * sigma;
      const T slope = sigma * (T(1) + threshold * (T(1) - sigma));
      activate_silu<kOrder, Array>(z, a, d1, d2);
      const auto below = z < threshold;
      const auto above = (slope * (z - threshold)).tanh();
      if constexpr (second) {
        d2 = below.select(d2, T(-2) * slope * slope * above * (T(1) - above * above));
      }
      if constexpr (first) d1 = below.select(d1, slope * (T(1) - above * above));
      a = below.select(a, above + value);
      return;
    }
  }
}

}  // namespace dpmask::DPMASK_ISA
