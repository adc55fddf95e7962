// SPDX-License-Identifier: LGPL-3.0-or-later
// The activation functions of op/shared/activation_formulas.h for one number.
#pragma once

#include <cmath>

#define DPMASK_ISA device
#include "cuda/common/launch.h"
#include "op/shared/activation_formulas.h"

namespace dpmask::cuda {

struct Condition {
  bool holds;
  DPMASK_KERNEL friend Condition operator&&(Condition a, Condition b) {
    return {a.holds && b.holds};
  }
  template <typename T>
  DPMASK_KERNEL T cast() const {
    return holds ? T(1) : T(0);
  }
  template <typename Number>
  DPMASK_KERNEL auto select(Number a, Number b) const {
    return holds ? a.value() : b.value();
  }
};

// An array of one number: its own, or one that lies elsewhere and is assigned to.
template <typename T>
class Number {
 public:
  using Scalar = T;
  DPMASK_KERNEL Number(T value) : own_(value), elsewhere_(nullptr) {}  // implicit, as in formulas
  DPMASK_KERNEL explicit Number(T* elsewhere) : own_(0), elsewhere_(elsewhere) {}
  DPMASK_KERNEL Number(const Number& other) : own_(other.own_), elsewhere_(other.elsewhere_) {}
  DPMASK_KERNEL Number& operator=(const Number& other) {
    (elsewhere_ == nullptr ? own_ : *elsewhere_) = other.value();
    return *this;
  }
  DPMASK_KERNEL T value() const { return elsewhere_ == nullptr ? own_ : *elsewhere_; }

  DPMASK_KERNEL void setOnes() { *this = Number(T(1)); }
  DPMASK_KERNEL void setZero() { *this = Number(T(0)); }
  DPMASK_KERNEL Number cwiseMax(T other) const { return value() > other ? value() : other; }
  DPMASK_KERNEL Number cwiseMin(T other) const { return value() < other ? value() : other; }
  DPMASK_KERNEL Number abs() const { return std::abs(value()); }
  DPMASK_KERNEL Number exp() const { return std::exp(value()); }
  DPMASK_KERNEL Number log1p() const { return std::log1p(value()); }
  DPMASK_KERNEL Number tanh() const { return std::tanh(value()); }
  DPMASK_KERNEL Number logistic() const { return T(1) / (T(1) + std::exp(-value())); }
  DPMASK_KERNEL Number operator-() const { return -value(); }
  DPMASK_KERNEL friend Number operator+(Number a, Number b) { return a.value() + b.value(); }
  DPMASK_KERNEL friend Number operator-(Number a, Number b) { return a.value() - b.value(); }
  DPMASK_KERNEL friend Number operator*(Number a, Number b) { return a.value() * b.value(); }
  DPMASK_KERNEL friend Condition operator<(Number a, Number b) { return {a.value() < b.value()}; }
  DPMASK_KERNEL friend Condition operator>(Number a, Number b) { return {a.value() > b.value()}; }

 private:
  T own_;
  T* elsewhere_;
};

template <typename T>
struct Activated {  // phi(z) and its derivatives
  T phi, d1, d2;
};

template <int kOrder, typename T>
DPMASK_KERNEL Activated<T> activated(Activation activation, double threshold, T z) {
  Activated<T> out{};
  device::activate<kOrder>(activation, threshold, Number<T>(z), Number<T>(&out.phi),
                           Number<T>(&out.d1), Number<T>(&out.d2));
  return out;
}

}  // namespace dpmask::cuda
