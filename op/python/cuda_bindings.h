// SPDX-License-Identifier: LGPL-3.0-or-later
// The parts of the Python module of the CUDA kernels.
#pragma once

#include "op/python/cuda_arrays.h"

namespace dpmask::cuda {

// Names end with bits, 32 or 64, those of T.
template <typename T>
void bind_embedding(py::module_& m, const std::string& bits);
template <typename T>
void bind_fitting(py::module_& m, const std::string& bits);

}  // namespace dpmask::cuda
