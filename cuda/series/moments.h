// SPDX-License-Identifier: LGPL-3.0-or-later
#pragma once

#include "cuda/series/slabs.h"

namespace dpmask::cuda {

// Sets the moments of a slab.
template <typename T>
void set_moments(const DeviceEmbedding<T>& embedding, const Slab& slab, T* moments,
                 cudaStream_t stream);

// Sets their derivatives along the cotangents u of the pairs, dr/dt = u.
template <typename T>
void set_moment_tangents(const DeviceEmbedding<T>& embedding, const Slab& slab,
                         const ForceCotangents& cotangents, T* moments, cudaStream_t stream);

}  // namespace dpmask::cuda
