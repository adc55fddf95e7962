// SPDX-License-Identifier: LGPL-3.0-or-later
// What the kernels of the embedding share.
#pragma once

#include <cstdint>

#include "cuda/common/gpu.h"
#include "cuda/common/pairs.h"
#include "op/kernels/embedding.h"
#include "op/shared/series.h"

namespace dpmask::cuda {

// What the host, too, has a copy of, to plan with.
struct HostCopies {
  const int64_t* atoms_first;   // RealAtoms::first
  const int64_t* series_first;  // Series::first
  const int32_t* net;           // Embedding::net
};

template <typename T>
struct DeviceEmbedding {
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

// Arrays of the given one are the device's, but for atoms.first, nets.net and series.first. The
// result has the host's, too, for as long as `given` lives.
template <typename T>
DeviceEmbedding<T> on_device(const Embedding<T>& given, Gpu& gpu);

}  // namespace dpmask::cuda
