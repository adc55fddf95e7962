// SPDX-License-Identifier: LGPL-3.0-or-later
// Allocations, which may wait for the GPU, and large copies, which do not.
#pragma once

#include <cstdint>
#include <memory>

#include "cuda/common/stream.h"

namespace dpmask::cuda {

// Memory of the current GPU, as it is; of an emulated one, not a number. Throws std::bad_alloc, or
// std::runtime_error where there is no GPU.
std::shared_ptr<void> allocate_on_device(int64_t bytes);
// How many bytes have been allocated so, by this library.
int64_t allocated_on_device();

// Memory of the host that the GPU reads and writes by itself.
std::shared_ptr<void> allocate_for_copies(int64_t bytes);

// Both are done when the stream comes to them, and have been when the host has waited for it. Of
// other memory of the host than that for copies, they may wait for the stream.
void copy_to_device(const void* host, int64_t bytes, void* array, cudaStream_t stream);
void copy_to_host(const void* array, int64_t bytes, void* host, cudaStream_t stream);
void wait_for(cudaStream_t stream);

}  // namespace dpmask::cuda
