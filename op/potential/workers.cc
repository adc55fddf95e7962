// SPDX-License-Identifier: LGPL-3.0-or-later
#include "op/potential/workers.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <thread>
#include <vector>

#include "op/kernels/first_exception.h"

namespace dpmask {

int64_t usable_threads() {
  const char* wish = std::getenv("OMP_NUM_THREADS");
  const long number = wish == nullptr ? 0 : std::strtol(wish, nullptr, 10);
  if (number > 0) return number;
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set);
  return std::max(1u, std::thread::hardware_concurrency());
}

Workers::Workers(int64_t threads) : threads_(threads == 0 ? usable_threads() : threads) {
  if (threads < 0) throw std::invalid_argument("threads must be 0 or more");
}

Workers::~Workers() = default;

int64_t Workers::threads() const { return threads_; }

void Workers::run(int64_t n, const std::function<void(int64_t)>& body) {
  std::atomic<int64_t> next{0};
  FirstException first;
  const auto work = [&] {
    for (int64_t k = next++; k < n; k = next++) first.guard([&] { body(k); });
  };
  std::vector<std::thread> others;
  for (int64_t t = 1; t < std::min(n, threads_); ++t) others.emplace_back(work);
  work();
  for (std::thread& other : others) other.join();
  first.rethrow();
}

}  // namespace dpmask
