// SPDX-License-Identifier: LGPL-3.0-or-later
// Threads that stay.
#pragma once

#include <cstdint>
#include <memory>

#include "op/kernels/parallel.h"

namespace dpmask {

// How many threads a process may use: OMP_NUM_THREADS, or the processors that it may run on.
int64_t usable_threads();

// A number of threads, the calling one among them.
class Workers {
 public:
  explicit Workers(int64_t threads);
  ~Workers();
  int64_t threads() const;
  // As Parallel.
  void run(int64_t n, const std::function<void(int64_t)>& body);

 private:
  int64_t threads_;
};

}  // namespace dpmask
