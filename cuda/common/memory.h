// SPDX-License-Identifier: LGPL-3.0-or-later
// Small copies to and from the host, and zeros.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/common/stream.h"

namespace dpmask::cuda {

// Copies an array of the host, which may change at once.
template <typename T>
void upload(const T* host, int64_t size, T* array, cudaStream_t stream);

// Waits for what the stream has been given, and copies an array to the host.
template <typename T>
void download(const T* array, int64_t size, T* host, cudaStream_t stream);

// Sets arrays to 0; sizes as many as there are, or as begin anew.
template <typename T>
void clear(const std::vector<T*>& arrays, const std::vector<int64_t>& sizes, cudaStream_t stream);

// sum += share, both [size].
template <typename T>
void add(const T* share, int64_t size, T* sum, cudaStream_t stream);

}  // namespace dpmask::cuda
