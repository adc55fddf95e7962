// SPDX-License-Identifier: LGPL-3.0-or-later
#include "cuda/potential/potential.h"

#include "cuda/embedding.h"
#include "cuda/potential/gpu_device.h"
#include "cuda/readout.h"
#include "op/potential/potential_on.h"

namespace dpmask {

std::unique_ptr<Potential> open_potential_on_gpu(const std::vector<AnyModel>& models,
                                                 int64_t threads) {
  return std::make_unique<PotentialOn<GpuDevice>>(models,
                                                  threads == 0 ? usable_threads() : threads);
}

}  // namespace dpmask
