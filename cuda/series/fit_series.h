// SPDX-License-Identifier: LGPL-3.0-or-later
// op/kernels/series.h on a GPU. Arrays are the device's, but for RealAtoms::first, Series::first
// and EmbeddingNets::net.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/common/gpu.h"
#include "op/kernels/series.h"

namespace dpmask {

namespace cuda {
constexpr int64_t kMostPanels = 64;  // of a net; one that needs more has no series
}

// Since it is the device that knows how many panels there are, this waits for it.
template <typename T>
void fit_series(const Embedding<T>& embedding, const AllocateSeries<T>& allocate, Gpu& gpu);

template <typename T>
void fit_series_grad(const EmbeddingNets<T>& nets, const Series<T>& series, const T* dC,
                     const std::vector<T*>& dparameters, Gpu& gpu);

}  // namespace dpmask
