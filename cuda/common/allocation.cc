// SPDX-License-Identifier: LGPL-3.0-or-later
#include "cuda/common/allocation.h"

#include <algorithm>
#include <atomic>
#include <exception>

#include "cuda/common/current_gpu.h"
#include "op/kernels/arena.h"
#ifdef DPMASK_EMULATED
#include "cuda/emulated/access.h"
#endif

namespace dpmask::cuda {
namespace {

std::atomic<int64_t> allocated{0};

#ifndef DPMASK_EMULATED
// Memory of the current GPU, which is given back to it, whichever is current then.
std::shared_ptr<void> owned(void* memory, int number, cudaError_t (*free)(void*)) {
  return {memory, [number, free](void* all) {
            try {
              const OnGpuOfNumber current(number);
              free(all);
            } catch (const std::exception&) {  // there is no GPU any more: the process ends
            }
          }};
}
#endif

}  // namespace

int64_t allocated_on_device() { return allocated; }

#ifdef DPMASK_EMULATED
std::shared_ptr<void> allocate_on_device(int64_t bytes) {
  std::shared_ptr<void> memory = Arena::of_host(bytes);
  std::fill_n(static_cast<unsigned char*>(memory.get()), bytes, 0xff);
  allocated += bytes;
  return memory;
}

std::shared_ptr<void> allocate_for_copies(int64_t bytes) { return Arena::of_host(bytes); }

void copy_to_device(const void* host, int64_t bytes, void* array, cudaStream_t) {
  const DeviceAccess access(Access::to_device);
  std::copy_n(static_cast<const char*>(host), bytes, static_cast<char*>(array));
}

void copy_to_host(const void* array, int64_t bytes, void* host, cudaStream_t) {
  const DeviceAccess access(Access::to_host);
  std::copy_n(static_cast<const char*>(array), bytes, static_cast<char*>(host));
}

void wait_for(cudaStream_t) {}
#else
std::shared_ptr<void> allocate_on_device(int64_t bytes) {
  const int number = current_gpu();
  void* memory = nullptr;
  require_success(cudaMalloc(&memory, bytes));
  allocated += bytes;
  return owned(memory, number, cudaFree);
}

std::shared_ptr<void> allocate_for_copies(int64_t bytes) {
  const int number = current_gpu();
  void* memory = nullptr;
  require_success(cudaMallocHost(&memory, bytes));
  return owned(memory, number, cudaFreeHost);
}

void copy_to_device(const void* host, int64_t bytes, void* array, cudaStream_t stream) {
  require_success(cudaMemcpyAsync(array, host, bytes, cudaMemcpyHostToDevice, stream));
}

void copy_to_host(const void* array, int64_t bytes, void* host, cudaStream_t stream) {
  require_success(cudaMemcpyAsync(host, array, bytes, cudaMemcpyDeviceToHost, stream));
}

void wait_for(cudaStream_t stream) { require_success(cudaStreamSynchronize(stream)); }
#endif

}  // namespace dpmask::cuda
