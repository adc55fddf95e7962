// SPDX-License-Identifier: LGPL-3.0-or-later
#pragma once

// For functions that the CPU and the CUDA kernels share.
#ifdef __CUDACC__
#define DPMASK_DEVICE __host__ __device__
#else
#define DPMASK_DEVICE
#endif
