// SPDX-License-Identifier: LGPL-3.0-or-later
// The potential on a GPU.
#pragma once

#include <memory>
#include <vector>

#include "op/potential/potential.h"

namespace dpmask {

// Opens models on the thread's GPU, where their arrays stay. In an evaluation, positions and the
// list of real atoms are copied to it, and results from it; memory is allocated where there have
// been no evaluations as large. `threads` of the host make tables: 0 for as many as this process
// may use. Throws what open_potential throws, and std::runtime_error where there is no GPU.
std::unique_ptr<Potential> open_potential_on_gpu(const std::vector<AnyModel>& models,
                                                 int64_t threads);

}  // namespace dpmask
