// SPDX-License-Identifier: LGPL-3.0-or-later
// Memory for arrays of one evaluation after another.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace dpmask::cuda {

// Arrays one behind the other, in pieces of memory, each at least twice as large as the one before:
// it grows until it holds what is wanted at a time, and then allocates nothing more. For one thread
// at a time.
class GrowingMemory {
 public:
  using Allocate = std::shared_ptr<void>(int64_t bytes);
  explicit GrowingMemory(Allocate& allocate) : allocate_(allocate) {}
  GrowingMemory(const GrowingMemory&) = delete;

  // An array until the end of the innermost Scope. It begins at a multiple of 256 bytes. Throws
  // what `allocate` does.
  template <typename T>
  T* array(int64_t size) {
    return static_cast<T*>(bytes(size * static_cast<int64_t>(sizeof(T))));
  }
  void* bytes(int64_t size);
  // Gives back all memory; there is no Scope.
  void free();

  // Frees, at its end, the arrays since its beginning.
  class Scope {
   public:
    explicit Scope(GrowingMemory& memory)
        : memory_(memory), piece_(memory.piece_), used_(memory.used_) {}
    ~Scope() {
      memory_.piece_ = piece_;
      memory_.used_ = used_;
    }
    Scope(const Scope&) = delete;

   private:
    GrowingMemory& memory_;
    size_t piece_;
    int64_t used_;
  };

 private:
  struct Piece {
    std::shared_ptr<void> memory;
    int64_t size;
  };
  Allocate& allocate_;
  std::vector<Piece> pieces_;
  size_t piece_ = 0;  // that in use
  int64_t used_ = 0;  // bytes of it
};

}  // namespace dpmask::cuda
