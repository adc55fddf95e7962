// SPDX-License-Identifier: LGPL-3.0-or-later
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/common/embedding.h"
#include "op/kernels/embedding.h"

namespace dpmask::cuda {

// The series of the nets in two steps, since it is the device that knows how many panels there are.
// Room for kMostPanels of a net is enough; a net that needs more has no series.
constexpr int64_t kMostPanels = 64;

template <typename T>
struct FoundPanels {
  int64_t capacity;  // panels of each net that there is room for
  int64_t* count;    // [nnets]; how many panels the net has
  double* panels;    // [nnets, capacity, 2]
  T* C;              // [nnets, capacity, kTerms, M1]
};

// Finds the panels, given a list of nets.parameters and most_panels of the nets, [nnets].
// embedding.series is not used, but for nnets. workspace has find_panels_workspace numbers.
template <typename T>
int64_t find_panels_workspace(const EmbeddingNets<T>& nets, int64_t nnets, int64_t size);
template <typename T>
void find_panels(const Embedding<T>& embedding, const EmbeddingNets<T>& nets,
                 const T* const* parameters, const int64_t* most, const FoundPanels<T>& found,
                 double* workspace, cudaStream_t stream);

// The arrays of Series, given its first [nnets + 1].
template <typename T>
void join_panels(const FoundPanels<T>& found, int64_t nnets, int64_t M1, const int64_t* first,
                 double* panels, T* C, cudaStream_t stream);

// dparameters, given dC of all panels [npanels, 2]; first [nnets + 1] is the host's Series::first.
// 0 for nets without panels. workspace has series_workspace(nets, first) numbers.
template <typename T>
int64_t series_workspace(const EmbeddingNets<T>& nets, const int64_t* first);
template <typename T>
void fit_panels_grad(const EmbeddingNets<T>& nets, const int64_t* first, const double* panels,
                     const T* dC, const std::vector<T*>& dparameters, double* workspace,
                     cudaStream_t stream);

}  // namespace dpmask::cuda
