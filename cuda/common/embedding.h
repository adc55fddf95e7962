// SPDX-License-Identifier: LGPL-3.0-or-later
// What the kernels of the embedding share.
#pragma once

#include <cstdint>

#include "cuda/common/pairs.h"
#include "op/shared/series.h"

namespace dpmask::cuda {

// What the host, too, has a copy of, to plan with.
struct HostCopies {
  const int64_t* atoms_first;   // RealAtoms::first
  const int64_t* series_first;  // Series::first
  const int32_t* net;           // Embedding::net
};

template <typename T>
struct Embedding {
  RealAtoms atoms;
  PairNumbers pairs;
  const double* coord;  // [nframes, nslots, 3]
  const int32_t* net;   // [ntypes * ntypes]; the net of (t_i, t_j), or -1 if excluded
  Series<T> series;
  int64_t npanels;  // of all nets
  int64_t M1;
  double n;  // the normalisation, sum(sel)
  HostCopies host;
};

}  // namespace dpmask::cuda
