// SPDX-License-Identifier: LGPL-3.0-or-later
#pragma once

#include <cstdint>

namespace dpmask::DPMASK_ISA {

// A row-major matrix within a larger one: rows are `stride` elements apart.
template <typename T>
struct Submatrix {
  T* data;
  int64_t rows, columns, stride;
};

}  // namespace dpmask::DPMASK_ISA
