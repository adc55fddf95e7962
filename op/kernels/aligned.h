// SPDX-License-Identifier: LGPL-3.0-or-later
// Arrays that kernels read again and again.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace dpmask {

// Memory that begins where a line of the cache does, so that packets, where a row is whole packets,
// are not in two of them: loading one that is takes twice as long.
template <typename T>
struct OnLines {
  using value_type = T;
  static constexpr std::align_val_t kLine{64};

  OnLines() = default;
  template <typename Other>
  OnLines(const OnLines<Other>&) {}

  T* allocate(std::size_t size) { return static_cast<T*>(::operator new(size * sizeof(T), kLine)); }
  void deallocate(T* array, std::size_t) { ::operator delete(array, kLine); }

  template <typename Other>
  bool operator==(const OnLines<Other>&) const {
    return true;
  }
  template <typename Other>
  bool operator!=(const OnLines<Other>&) const {
    return false;
  }
};

template <typename T>
using Aligned = std::vector<T, OnLines<T>>;

}  // namespace dpmask
