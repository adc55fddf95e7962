// SPDX-License-Identifier: LGPL-3.0-or-later
// Processors that work is given to.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "op/kernels/arena.h"

namespace dpmask {

// What somebody else calls, while the one who made it waits: unlike std::function, it needs no
// memory.
template <typename... Arguments>
class Callback {
 public:
  template <typename Of>
  explicit Callback(const Of& of)
      : of_(&of), call_([](const void* of, Arguments... arguments) {
          (*static_cast<const Of*>(of))(arguments...);
        }) {}
  void operator()(Arguments... arguments) const { call_(of_, arguments...); }

 private:
  const void* of_;
  void (*call_)(const void*, Arguments...);
};
using LoopBody = Callback<int64_t>;

// Threads, and memory. What is given a Cpu as its last argument, as all kernels are, cuts its work
// into parts for threads, and has arrays between them. Who calls it decides where threads come
// from; the twin of Gpu in cuda/common/gpu.h. One evaluation at a time.
class Cpu {
 public:
  Cpu() = default;
  virtual ~Cpu() = default;
  Cpu(const Cpu&) = delete;

  // Calls body(0), ..., body(n - 1), in any order and on any thread. The results of the kernels do
  // not depend on how it does so. A body calls no loop, and allocates from Arena::of_thread()
  // alone.
  template <typename Of>
  void parallel(int64_t n, const Of& body) {
    run(n, LoopBody(body));
  }

  // How many bodies may run side by side.
  virtual int64_t threads() const = 0;

  // As Arena does.
  template <typename T>
  T* allocate(int64_t size) {
    return arena_.allocate<T>(size);
  }
  template <typename T>
  T* allocate_zeros(int64_t size) {
    T* array = allocate<T>(size);
    std::fill_n(array, size, T(0));
    return array;
  }
  Arena& arena() { return arena_; }
  // What is allocated within one is free again at its end.
  class Scope : public Arena::Scope {
   public:
    explicit Scope(Cpu& cpu) : Arena::Scope(cpu.arena_) {}
  };

 private:
  virtual void run(int64_t n, const LoopBody& body) = 0;

  Arena arena_;
};

// Sets arrays of these sizes, of which there may be fewer, to begin anew with, to 0.
template <typename T>
void clear(const std::vector<T*>& arrays, const std::vector<int64_t>& sizes, Cpu&) {
  for (size_t k = 0; k < arrays.size(); ++k) std::fill_n(arrays[k], sizes[k % sizes.size()], T(0));
}

}  // namespace dpmask
