// SPDX-License-Identifier: LGPL-3.0-or-later
// Memory for arrays between kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <vector>

namespace dpmask {

// Arrays one behind the other. It grows until it holds what is wanted at a time, and then asks the
// system for nothing more. For one thread at a time.
class Arena {
 public:
  // Where it grows: returns memory that begins at a multiple of 64 bytes, or throws std::bad_alloc.
  using Source = std::shared_ptr<void>(int64_t bytes);
  static Source of_host;

  explicit Arena(Source& source = of_host) : source_(source) {}
  ~Arena();
  // That of the calling thread, for scratch of a part of a loop.
  static Arena& of_thread();
  Arena(const Arena&) = delete;

  // An array which nothing has been written to, until the end of the innermost Scope. It begins at
  // a multiple of 64 bytes. Throws std::bad_alloc.
  template <typename T>
  T* allocate(int64_t size) {
    constexpr int64_t kMost = std::numeric_limits<int64_t>::max() / 2 / sizeof(T);
    if (size < 0 || size > kMost) throw std::bad_alloc();
    return static_cast<T*>(allocate_bytes(size * static_cast<int64_t>(sizeof(T))));
  }

  // Frees, at its end, what has been allocated since its beginning.
  class Scope {
   public:
    explicit Scope(Arena& arena) : arena_(arena), chunk_(arena.chunk_), used_(arena.used_) {}
    ~Scope() { arena_.return_to(chunk_, used_); }
    Scope(const Scope&) = delete;

   private:
    Arena& arena_;
    size_t chunk_;
    int64_t used_;
  };

 private:
  struct Chunk {
    std::shared_ptr<void> memory;
    int64_t size;
  };
  void* allocate_bytes(int64_t size);
  void return_to(size_t chunk, int64_t used);
  void add_chunk(int64_t size);
  void free_chunks();

  Source& source_;
  std::vector<Chunk> chunks_;  // full ones, that in use, and empty ones
  size_t chunk_ = 0;           // that in use
  int64_t used_ = 0;           // bytes of it
};

}  // namespace dpmask
