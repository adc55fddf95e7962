// SPDX-License-Identifier: LGPL-3.0-or-later
#pragma once

#include <Eigen/Core>
#include <cstdint>

namespace dpmask::DPMASK_ISA {

// An array that a thread keeps, as large as the largest that it needed so far.
template <typename T>
class Grown {
 public:
  T* of(int64_t size) {
    if (array_.size() < size) array_.resize(size);
    return array_.data();
  }

 private:
  Eigen::Array<T, Eigen::Dynamic, 1> array_;
};

}  // namespace dpmask::DPMASK_ISA
