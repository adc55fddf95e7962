// SPDX-License-Identifier: LGPL-3.0-or-later
// From the nets to their series and back. Built once for each instruction set.
#pragma once

#include <cstdint>

#include "op/kernels/embedding.h"

namespace dpmask {

// Between a net and its series, in float64 in every precision: a derivative by s multiplies the
// error of C_k by up to k^2.
struct SeriesFit {
  // C [npanels, kTerms, M1] of panels [npanels, 2] by interpolation at the zeros of T_kTerms, and
  // largest [npanels], the largest |G| there.
  void (*interpolate)(const EmbeddingNets<double>&, int64_t net, int64_t npanels,
                      const double* panels, double* C, double* largest);
  // How far the series of one panel [2], C [kTerms, M1], is at most from those of other panels, at
  // their nodes that are in it.
  double (*difference)(int64_t M1, const double* panel, const double* C, int64_t npanels,
                       const double* panels, const double* C_of_panels);
  // z [size, width], what enters the neurons of a layer for s [size].
  void (*neurons)(const EmbeddingNets<double>&, int64_t net, int64_t layer, int64_t size,
                  const double* s, double* z);
  // Adds to the gradient of the net's parameters, a list of its arrays, given dC of its panels.
  void (*gradient)(const EmbeddingNets<double>&, int64_t net, int64_t npanels, const double* panels,
                   const double* dC, double* const* gradient);
};

// What is built for each instruction set.
SeriesFit series_fit_baseline();
SeriesFit series_fit_avx2();
SeriesFit series_fit_avx512();

}  // namespace dpmask
