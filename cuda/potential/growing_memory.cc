// SPDX-License-Identifier: LGPL-3.0-or-later
#include "cuda/potential/growing_memory.h"

#include <algorithm>
#include <limits>
#include <new>

namespace dpmask::cuda {
namespace {

constexpr int64_t kAlignment = 256;
constexpr int64_t kLeastPiece = 1 << 20;  // bytes
constexpr int64_t kMost = std::numeric_limits<int64_t>::max() / 4;

}  // namespace

void* GrowingMemory::bytes(int64_t size) {
  if (size < 0 || size > kMost) throw std::bad_alloc();
  const int64_t needed = (size + kAlignment - 1) / kAlignment * kAlignment;
  while (piece_ < pieces_.size() && pieces_[piece_].size - used_ < needed) {
    ++piece_;
    used_ = 0;
  }
  if (piece_ == pieces_.size()) {
    const int64_t before = pieces_.empty() ? 0 : pieces_.back().size;
    const int64_t all = std::max({needed, 2 * before, kLeastPiece});
    pieces_.push_back({allocate_(all), all});
  }
  char* array = static_cast<char*>(pieces_[piece_].memory.get()) + used_;
  used_ += needed;
  return array;
}

void GrowingMemory::free() {
  pieces_.clear();
  piece_ = 0;
  used_ = 0;
}

}  // namespace dpmask::cuda
