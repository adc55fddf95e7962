// SPDX-License-Identifier: LGPL-3.0-or-later
// Forces of the pairs that have a series: rectangles of some centre atoms and some neighbours.
#pragma once

#include "cuda/series/slabs.h"

namespace dpmask::cuda {

// Numbers that add_rectangle_forces adds up for what `out` wants.
int64_t rectangle_sums_size(const Slab& slab, const std::vector<int64_t>& largest,
                            const Forces& out);

// Adds forces, atomic virials and, if wanted, the weight gradient of the slab's atoms, given gM as
// the moments lie. largest are the most centre atoms that each section has in a frame.
template <typename T>
void add_rectangle_forces(const DeviceEmbedding<T>& embedding, const Slab& slab,
                          const std::vector<int64_t>& largest, const T* gM, double* sums,
                          const Forces& out, cudaStream_t stream);

}  // namespace dpmask::cuda
