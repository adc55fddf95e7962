// SPDX-License-Identifier: LGPL-3.0-or-later
// The GPU that a thread works with, and streams of it.
#pragma once

#include <string>

#include "cuda/common/stream.h"

namespace dpmask::cuda {

// Why there is none that the kernels can run on; empty if there is one.
std::string reason_against_gpu();

// The number of the thread's GPU. Throws std::runtime_error where there is none.
int current_gpu();

// Makes a GPU that of this thread, and at its end what was before: that may be a context of the
// driver's which somebody else has made and goes on to use, as OpenMM does.
class OnGpuOfNumber {
 public:
  explicit OnGpuOfNumber(int number);
  ~OnGpuOfNumber();
  OnGpuOfNumber(const OnGpuOfNumber&) = delete;

 private:
  [[maybe_unused]] void* before_ = nullptr;  // CUcontext
};

// A stream of a GPU, which waits for no other.
class OwnStream {
 public:
  explicit OwnStream(int number);
  ~OwnStream();
  OwnStream(const OwnStream&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

}  // namespace dpmask::cuda
