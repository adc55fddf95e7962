// SPDX-License-Identifier: LGPL-3.0-or-later
#include "op/kernels/arena.h"

#include <algorithm>
#include <cstring>

#include "op/kernels/aligned.h"

// The address sanitizer is told which bytes belong to no array, as it knows of memory of the
// system; with it, arrays begin as NaN, so that tests see what is read before it is written.
#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define DPMASK_ASAN
#endif
#endif
#if defined(DPMASK_ASAN) || defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define DPMASK_BEGIN_AS_NAN(data, size) std::memset(data, 0xff, size)
#else
#define DPMASK_BEGIN_AS_NAN(data, size) ((void)(data), (void)(size))
#define ASAN_POISON_MEMORY_REGION(data, size) ((void)(data), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(data, size) ((void)(data), (void)(size))
#endif

namespace dpmask {
namespace {

constexpr auto kAlignment = static_cast<int64_t>(OnLines<char>::kLine);
constexpr int64_t kLeastChunk = 1 << 16;  // bytes

}  // namespace

std::shared_ptr<void> Arena::of_host(int64_t bytes) {
  return {OnLines<char>().allocate(bytes),
          [bytes](char* memory) { OnLines<char>().deallocate(memory, bytes); }};
}

Arena::~Arena() { free_chunks(); }

Arena& Arena::of_thread() {
  static thread_local Arena arena;
  return arena;
}

void Arena::free_chunks() {
  for (const Chunk& chunk : chunks_) {
    ASAN_UNPOISON_MEMORY_REGION(chunk.memory.get(), chunk.size);
  }
  chunks_.clear();
}

void Arena::add_chunk(int64_t size) {
  chunks_.push_back({source_(size), size});
  ASAN_POISON_MEMORY_REGION(chunks_.back().memory.get(), size);
}

void* Arena::allocate_bytes(int64_t size) {
  // Between two arrays a gap remains, which the sanitizer watches.
  const int64_t needed = (size / kAlignment + 2) * kAlignment;
  if (chunk_ == 0 && used_ == 0 && chunks_.size() > 1) {  // one instead of several
    int64_t total = 0;
    for (const Chunk& chunk : chunks_) total += chunk.size;
    free_chunks();
    add_chunk(std::max(total, needed));
  }
  while (chunk_ < chunks_.size() && chunks_[chunk_].size - used_ < needed) {
    ++chunk_;
    used_ = 0;
  }
  if (chunk_ == chunks_.size()) {
    const int64_t before = chunks_.empty() ? 0 : chunks_.back().size;
    add_chunk(std::max({needed, 2 * before, kLeastChunk}));
  }
  char* array = static_cast<char*>(chunks_[chunk_].memory.get()) + used_;
  used_ += needed;
  ASAN_UNPOISON_MEMORY_REGION(array, size);
  DPMASK_BEGIN_AS_NAN(array, size);
  return array;
}

void Arena::return_to(size_t chunk, int64_t used) {
  for (size_t k = chunk; k < chunks_.size() && k <= chunk_; ++k) {
    const int64_t first = k == chunk ? used : 0;
    ASAN_POISON_MEMORY_REGION(static_cast<char*>(chunks_[k].memory.get()) + first,
                              chunks_[k].size - first);
  }
  chunk_ = chunk;
  used_ = used;
}

}  // namespace dpmask
