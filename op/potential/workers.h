// SPDX-License-Identifier: LGPL-3.0-or-later
// Threads that stay, for the kernels.
#pragma once

#include <atomic>
#include <cstdint>

#include "op/kernels/cpu.h"

namespace dpmask {

// How many threads a process may use: OMP_NUM_THREADS or, without it, one for each processor that
// it may run on.
int64_t usable_threads();

// A number of threads, the calling one among them. The others begin when a loop first needs them,
// look out for the next one for a while after each, and sleep then. While one caller has them,
// others do their loops alone. A process that is forked has threads of its own from its first loop
// on.
class Workers {
 public:
  explicit Workers(int64_t threads);  // throws std::invalid_argument if that is no sane number
  ~Workers();
  Workers(const Workers&) = delete;

  int64_t threads() const { return threads_; }
  // Calls body(0), ..., body(n - 1). What a body throws, the first if there are several, is thrown
  // when all are done.
  void run(int64_t n, const LoopBody& body);

  // A time in which loops follow each other closely, such as an evaluation: threads wake at its
  // beginning, and look out for longer until its end.
  class Shift;

 private:
  class Crew;
  Crew& crew();

  int64_t threads_;
  std::atomic<Crew*> crew_{nullptr};
};

class Workers::Shift {
 public:
  explicit Shift(Workers& workers);
  ~Shift();
  Shift(const Shift&) = delete;

 private:
  Crew* crew_;  // if there are others than the calling thread
};

// The calling thread alone.
class OneThread : public Cpu {
 public:
  int64_t threads() const override { return 1; }

 private:
  void run(int64_t n, const LoopBody& body) override {
    for (int64_t k = 0; k < n; ++k) body(k);
  }
};

class CpuOfWorkers : public Cpu {
 public:
  explicit CpuOfWorkers(Workers& workers) : workers_(workers) {}
  int64_t threads() const override { return workers_.threads(); }
  Workers& workers() { return workers_; }

 private:
  void run(int64_t n, const LoopBody& body) override { workers_.run(n, body); }

  Workers& workers_;
};

}  // namespace dpmask
