// SPDX-License-Identifier: LGPL-3.0-or-later
// How the kernels of this folder are written and started. A kernel is a structure that holds its
// arguments and has
//   DPMASK_KERNEL void operator()(const Block& block) const
// in which block.each(n, f) calls f(0), ..., f(n - 1) on the block's threads and waits for all of
// them. Outside of f all threads do the same. Within one call of each, no f may read what another
// writes, and what is read outside of f, the next call must not write. f captures by value, or
// `this`, so that nothing passes from one to the next but through memory, and through Private,
// which block.threads(f), where f has a thread each, may capture by reference. With block.share(n,
// f) all blocks of a kernel share 0, ..., n - 1 among them.
//
// Compiled by a C++ compiler with DPMASK_EMULATED, the same sources run on the CPU, block after
// block and f after f, so that their arithmetic can be tested where there is no GPU. With
// `backwards`, both go from the last to the first: a result that changes depends on the order.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "cuda/common/stream.h"
#include "op/shared/device.h"

#ifdef DPMASK_EMULATED
#include <algorithm>
#include <memory>

#include "cuda/emulated/access.h"
#define DPMASK_KERNEL inline
#define DPMASK_UNROLL
#else
#define DPMASK_KERNEL inline __device__ __attribute__((always_inline))
#define DPMASK_UNROLL _Pragma("unroll")  // a loop over an array that must stay in registers
#endif

namespace dpmask::cuda {

constexpr int kThreads = 128;

template <typename N>
DPMASK_DEVICE constexpr N smaller(N one, N other) {
  return one < other ? one : other;
}
template <typename N>
DPMASK_DEVICE constexpr N larger(N one, N other) {
  return one < other ? other : one;
}
// n by size, rounded up.
template <typename N>
DPMASK_DEVICE constexpr N ceil_div(N n, N size) {
  return (n + size - 1) / size;
}

// As many blocks as there must be for each to have a share of n; see Block::share.
DPMASK_DEVICE constexpr int64_t blocks_for(int64_t n) { return ceil_div<int64_t>(n, kThreads); }

inline void require_room(int64_t blocks, int64_t shared, int64_t most_shared) {
  if (shared > most_shared) {
    throw std::invalid_argument("a CUDA kernel would need " + std::to_string(shared) +
                                " bytes of shared memory, and there are " +
                                std::to_string(most_shared) +
                                ": a table has too many panels, or a net is too wide");
  }
  if (blocks > INT32_MAX) throw std::invalid_argument("too many atoms for a CUDA kernel");
}

struct Block {
  int64_t index;
  unsigned char* shared;  // as many bytes as launch was told

#ifdef DPMASK_EMULATED
  template <typename F>
  void each(int64_t n, const F& f) const {
    for (int64_t k = 0; k < n; ++k) f(backwards ? n - 1 - k : k);
  }
  template <typename F>
  void threads(const F& f) const {
    each(kThreads, [&](int64_t k) { f(static_cast<int>(k)); });
  }
#else
  template <typename F>
  DPMASK_KERNEL void each(int64_t n, const F& f) const {
    for (int64_t k = threadIdx.x; k < n; k += blockDim.x) f(k);
    __syncthreads();
  }
  template <typename F>
  DPMASK_KERNEL void threads(const F& f) const {
    f(static_cast<int>(threadIdx.x));
    __syncthreads();
  }
#endif

  // Calls f(k) for those k of 0, ..., n - 1 that are this block's, one for each thread.
  template <typename F>
  DPMASK_KERNEL void share(int64_t n, const F& f) const {
    const int64_t first = index * kThreads;
    each(smaller<int64_t>(n - first, kThreads), [first, &f](int64_t k) { f(first + k); });
  }
};

// What each thread of a block keeps for itself, in registers.
template <typename T>
class Private {
 public:
#ifdef DPMASK_EMULATED
  T& operator[](int thread) { return of_[thread]; }

 private:
  T of_[kThreads];
#else
  DPMASK_KERNEL T& operator[](int) { return own_; }

 private:
  T own_;
#endif
};

#ifdef DPMASK_EMULATED
template <int kOfBlock = kThreads, typename Body>
void launch(int64_t blocks, int64_t shared, cudaStream_t stream, const Body& body) {
  constexpr int64_t kOfHopper = 227 << 10;
  require_room(blocks, shared, kOfHopper);
  if (stream != expected_stream) throw std::logic_error("a kernel is on another stream");
  const DeviceAccess access(Access::kernel);
  for (int64_t k = 0; k < blocks; ++k) {
    const std::unique_ptr<unsigned char[]> memory(new unsigned char[shared]);
    std::fill_n(memory.get(), shared, 0xff);  // NaN where nothing was written
    body(Block{backwards ? blocks - 1 - k : k, memory.get()});
  }
}
#else
// Large blocks may have all registers of a multiprocessor; otherwise (0) the compiler decides.
template <int kOfBlock, typename Body>
__global__ void __launch_bounds__(kOfBlock, kOfBlock > kThreads ? 1 : 0)
    run(const __grid_constant__ Body body) {
  extern __shared__ __align__(16) unsigned char shared[];
  body(Block{static_cast<int64_t>(blockIdx.x), shared});
}

// Throws what require_success throws if the kernel cannot be started. With other than kThreads
// threads of a block, it may use block.each alone.
template <int kOfBlock = kThreads, typename Body>
void launch(int64_t blocks, int64_t shared, cudaStream_t stream, const Body& body) {
  constexpr int64_t kWithoutAsking = 48 << 10;
  if (blocks == 0) return;
  if (shared > kWithoutAsking) {
    int device = 0, most = 0;
    require_success(cudaGetDevice(&device));
    require_success(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
    require_room(blocks, shared, most);
  } else {
    require_room(blocks, shared, kWithoutAsking);
  }
  const auto kernel = run<kOfBlock, Body>;
  if (shared > kWithoutAsking) {
    require_success(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         static_cast<int>(shared)));
  }
  void* arguments[] = {const_cast<Body*>(&body)};
  require_success(cudaLaunchKernel(kernel, dim3(static_cast<unsigned>(blocks)), dim3(kOfBlock),
                                   arguments, static_cast<size_t>(shared), stream));
}
#endif

// Four numbers that lie side by side, to be read at once.
template <typename T>
struct alignas(16) Four {
  T of[4];
};

// Calls f(0), ..., f(n - 1) on as many blocks as that takes.
template <typename F>
struct ForEach {
  int64_t n;
  F f;
  DPMASK_KERNEL void operator()(const Block& block) const { block.share(n, f); }
};
template <typename F>
void for_each(int64_t n, cudaStream_t stream, const F& f) {
  launch(blocks_for(n), 0, stream, ForEach<F>{n, f});
}

}  // namespace dpmask::cuda
