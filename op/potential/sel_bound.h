// SPDX-License-Identifier: LGPL-3.0-or-later
// The most real atoms of each type that models were trained for. More are evaluated, too; hosts say
// so once for each potential, in these words.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "op/potential/potential.h"

namespace dpmask {

class SelBound {
 public:
  // `type_map` has a name for each type, or none at all.
  SelBound(std::vector<int64_t> sel, std::vector<std::string> type_map);

  bool has_warned() const { return has_warned_.load(std::memory_order_relaxed); }
  // What to warn of, after an evaluation of these frames: the first type of which one of them has
  // more real atoms. Empty if none has, and always once there was something. May be called from
  // several threads at once. Takes no memory but for what it returns.
  std::string warning(const Frames& frames);

 private:
  std::string words(int64_t type, int64_t count) const;

  std::vector<int64_t> sel_;
  std::vector<std::string> type_map_;
  std::atomic<bool> has_warned_{false};
};

}  // namespace dpmask
