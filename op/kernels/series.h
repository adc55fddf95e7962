// SPDX-License-Identifier: LGPL-3.0-or-later
// The embedding nets as Chebyshev series.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "op/kernels/aligned.h"
#include "op/kernels/cpu.h"
#include "op/kernels/embedding.h"
#include "op/shared/series.h"

namespace dpmask {

// A series with the arrays that it points to.
template <typename T>
struct SeriesArrays {
  std::vector<int64_t> first;
  std::vector<double> panels;
  Aligned<T> C;

  Series<T> view() const {
    return {static_cast<int64_t>(first.size()) - 1, first.data(), panels.data(), C.data()};
  }
};

// Where a series that was found is put.
template <typename T>
struct SeriesMemory {
  double* panels;
  T* C;
};

// Called with Series::first as soon as that is known.
template <typename T>
using AllocateSeries = std::function<SeriesMemory<T>(const std::vector<int64_t>& first)>;

// The series of the nets on the interval of s that a batch spans, right to rounding error. A net
// gets none if its activation function has a kink, or if its pairs cost less than its series would.
// embedding.series is not used.
template <typename T>
SeriesArrays<T> fit_series(const Embedding<T>& embedding, Cpu& cpu);

// The same as on a GPU, which finds the number of panels before there is memory for them.
template <typename T>
void fit_series(const Embedding<T>& embedding, const AllocateSeries<T>& allocate, Cpu& cpu) {
  const SeriesArrays<T> series = fit_series(embedding, cpu);
  const SeriesMemory<T> memory = allocate(series.first);
  std::copy(series.panels.begin(), series.panels.end(), memory.panels);
  std::copy(series.C.begin(), series.C.end(), memory.C);
}

// The same for all s from lower to upper; but where a panel would be narrower than `narrowest`, it
// is taken as it is, and a net that needs more panels than `most_panels` gets none. Panels end
// where G has a kink.
template <typename T>
SeriesArrays<T> fit_table(const EmbeddingNets<T>& nets, double lower, double upper,
                          double narrowest, int64_t most_panels, Cpu& cpu);

// dparameters, shaped as nets.parameters: the gradient of a loss L, given dC = dL/dC; 0 for nets
// without a series.
template <typename T>
void fit_series_grad(const EmbeddingNets<T>& nets, const Series<T>& series, const T* dC,
                     const std::vector<T*>& dparameters, Cpu& cpu);

}  // namespace dpmask
