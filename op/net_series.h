// SPDX-License-Identifier: LGPL-3.0-or-later
// Embedding nets as Chebyshev series. A net is a smooth function of the one number s = 1/r, and a
// batch asks for it at thousands of s: on the interval of s that the batch spans,
//   G(s) = sum_k T_k(x) C_k,   x = (s - middle) / half_width,   T_k(cos t) = cos(k t),
// to rounding error, with C [terms, M1] from the net at as many nodes as there are terms. X is
// linear in C:
//   X_i = (1/n) M_i^T C,   M_i = sum_j T(x_ij)^T R_ij   [terms, 4],
// so that the pairs meet numbers of `terms`, not of layers of the net; the nodes alone go through
// the net, and back through it for the gradient by its parameters.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"
#include "pairs.h"

namespace dpmask {

// The series of one net on one batch.
template <typename T>
struct NetSeries {
  int64_t terms = 0;  // 0: no series is good enough, or not worth it; the pairs go through the net
  double middle = 0, half_width = 0;  // of the interval of s
  std::vector<T> C;                   // [terms, M1]
};

// Between a net and its series.
struct SeriesFit {
  // Sets C, given all else; returns whether the series is nowhere further from the net than
  // tolerance times the largest G, nor its derivative further from the net's than forces bear.
  bool (*fit)(const EmbeddingNets<double>&, int64_t net, double tolerance,
              NetSeries<double>* series);
  // Adds to the gradient of the net's parameters, a list of its arrays, given that by C as dC.C.
  void (*gradient)(const EmbeddingNets<double>&, int64_t net, const NetSeries<double>& dC,
                   double* const* gradient);
};

// The series of all nets. They are fitted in float64 in every precision: a derivative by s
// multiplies the error of C_k by up to k^2.
template <typename T>
class SeriesOfNets {
 public:
  // A net gets none if none of up to 128 terms renders it to rounding error, if it has fewer pairs
  // than its series would have terms, or if its activation function has a kink.
  SeriesOfNets(const Embedding<T>& embedding, const Pairs& pairs, const Parallel& parallel);
  SeriesOfNets(const SeriesOfNets&) = delete;  // nets_ points into converted_

  const NetSeries<T>& operator[](int64_t net) const { return series_[net]; }
  const NetSeries<T>* data() const { return series_.data(); }

  // Sets the gradient of the parameters of a net, given that by C.
  void gradient(int64_t net, const std::vector<T>& dC, T* const* dparameters) const;

 private:
  SeriesFit fit_;
  std::vector<std::vector<double>> converted_;  // parameters that are not float64
  EmbeddingNets<double> nets_;
  std::vector<NetSeries<T>> series_;
};

}  // namespace dpmask
