// SPDX-License-Identifier: LGPL-3.0-or-later
// How the kernels run on threads.
#pragma once

#include <cstdint>
#include <functional>

namespace dpmask {

// Calls body(0), ..., body(n - 1), in any order and on any thread. The results of the kernels do
// not depend on how it does so.
using Parallel = std::function<void(int64_t n, const std::function<void(int64_t)>& body)>;

}  // namespace dpmask
