// SPDX-License-Identifier: LGPL-3.0-or-later
// A GPU as the device of op/potential/potential_on.h.
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cuda/common/allocation.h"
#include "cuda/common/current_gpu.h"
#include "cuda/common/gpu.h"
#include "op/kernels/arena.h"
#include "op/potential/workers.h"

namespace dpmask {

// The GPU of the thread that makes it. Several threads may evaluate, each with a Run of its own.
class GpuDevice {
 public:
  static constexpr bool kHasMixed = false;

  // With this many threads of the host for what is made when models are opened. Throws
  // std::runtime_error where there is no GPU.
  explicit GpuDevice(int64_t threads);

  int64_t threads() const { return 1; }
  Cpu& host() { return host_; }
  template <typename T>
  const T* keep(const T* host, int64_t size) {
    const cuda::OnGpuOfNumber current(number_);
    T* array = kept_.allocate<T>(size);
    cuda::copy_to_device(host, size * static_cast<int64_t>(sizeof(T)), array, stream_.get());
    cuda::wait_for(stream_.get());
    return array;
  }

  class Run;

 private:
  // Not in a forked process, by CUDA's rules: throws std::runtime_error.
  int of_this_process() const;

  Workers workers_;
  CpuOfWorkers host_;
  int number_;
  pid_t process_;
  cuda::OwnStream stream_;
  Arena kept_;
};

// A stream, and the memory of the evaluations that go through it, one at a time.
class GpuDevice::Run : private cuda::OwnStream, public Gpu {
 public:
  explicit Run(GpuDevice& device);

  // One evaluation; or a part of it, within that.
  class Scope {
   public:
    explicit Scope(Run& run);
    ~Scope();
    Scope(const Scope&) = delete;

   private:
    Run& run_;
    cuda::OnGpuOfNumber current_;
    Arena::Scope memory_, for_copies_;
  };

  using Kernels = Gpu;
  template <typename Body>
  void for_each_model(int64_t n, const Body& body) {
    for (int64_t k = 0; k < n; ++k) {
      const Scope scope(*this);
      body(k, kernels());
    }
  }
  template <typename T>
  const T* upload(const T* host, int64_t size) {
    T* copy = for_copies_.allocate<T>(size);
    std::copy_n(host, size, copy);
    T* array = allocate<T>(size);
    is_busy_ = true;
    cuda::copy_to_device(copy, size * static_cast<int64_t>(sizeof(T)), array, stream());
    return array;
  }
  double* output(double* host, int64_t size);
  void finish();

 private:
  Gpu& kernels();
  struct Output {
    double* host;  // nullptr if it is not wanted
    double* array;
    int64_t size;
    double* copy;  // of the host's memory for copies
  };
  void* allocate_bytes(int64_t size) override;
  void end_evaluation() noexcept;

  GpuDevice& device_;
  Arena memory_, for_copies_;
  std::vector<Output> outputs_;
  size_t ncleared_ = 0;  // of the outputs, from the first
  int nscopes_ = 0;
  bool is_busy_ = false;  // with what nobody has waited for
};

}  // namespace dpmask
