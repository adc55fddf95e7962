// SPDX-License-Identifier: LGPL-3.0-or-later
// The stream that all work goes to.
//
// The kernels of this folder and those that build on it are CUDA twins of op/kernels, with their
// names, arrays and numbering. Unless said otherwise, pointers are to device memory, which the
// caller owns, workspaces among it; sizes and lists of pointers are the host's. Workspaces begin at
// multiples of 16 bytes. Only download waits. Sums are gathered in a fixed order: the same input
// gives the same bits.
#pragma once

#ifdef DPMASK_EMULATED  // on the CPU, see launch.h
using cudaStream_t = struct CUstream_st*;
#else
#include <cuda_runtime.h>

#include <new>
#include <stdexcept>
#include <string>
#endif

namespace dpmask::cuda {

#ifdef DPMASK_EMULATED
inline bool backwards = false;                  // see launch.h
inline cudaStream_t expected_stream = nullptr;  // kernels on another one are an error
#else
// Throws std::bad_alloc or std::runtime_error.
inline void require_success(cudaError_t error) {
  if (error == cudaSuccess) return;
  if (error == cudaErrorMemoryAllocation) throw std::bad_alloc();
  std::string message = std::string("CUDA: ") + cudaGetErrorString(error);
  if (error == cudaErrorNoKernelImageForDevice) {
    message +=
        "; a GPU of compute capability 8.0 or later is needed. CUDA_VISIBLE_DEVICES= leaves all to "
        "the CPU";
  }
  throw std::runtime_error(message);
}
#endif

}  // namespace dpmask::cuda
