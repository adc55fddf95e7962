// SPDX-License-Identifier: LGPL-3.0-or-later
#pragma once

// For functions that the CPU and the CUDA kernels share. A call on the GPU would need a stack.
#ifdef __CUDACC__
#define DPMASK_DEVICE __host__ __device__ __attribute__((always_inline))
#else
#define DPMASK_DEVICE
#endif

// For those of them that a compiler for the CPU may take for too long to be inlined.
#define DPMASK_INLINE DPMASK_DEVICE static inline __attribute__((always_inline))
