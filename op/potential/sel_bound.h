// SPDX-License-Identifier: LGPL-3.0-or-later
// The most real atoms of each type that models were trained for. More are evaluated, too; hosts say
// so once for each potential, in these words. In a header, since the operators for TensorFlow have
// no potential to link with.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "op/potential/potential.h"

namespace dpmask {

class SelBound {
 public:
  // `type_map` has a name for each type, or none at all.
  SelBound(std::vector<int64_t> sel, std::vector<std::string> type_map)
      : sel_(std::move(sel)), type_map_(std::move(type_map)) {
    type_map_.resize(sel_.size());
  }

  bool has_warned() const { return has_warned_.load(std::memory_order_relaxed); }

  // What to warn of, after an evaluation of these frames: the first type of which one of them has
  // more real atoms. Empty if none has, and always once there was something. May be called from
  // several threads at once. Takes no memory but for what it returns.
  std::string warning(const Frames& frames) {
    const int64_t ntypes = static_cast<int64_t>(sel_.size());
    for (int64_t type = 0; type < ntypes && !has_warned(); ++type) {
      if (frames.natoms <= sel_[type]) continue;
      for (int64_t frame = 0; frame < frames.nframes; ++frame) {
        const int64_t count = count_of(type, frames, frame);
        if (count > sel_[type] && !has_warned_.exchange(true)) return words(type, count);
      }
    }
    return {};
  }

 private:
  // Real atoms of a type in a frame.
  static int64_t count_of(int64_t type, const Frames& frames, int64_t frame) {
    int64_t count = 0;
    for (int64_t k = frame * frames.natoms; k < (frame + 1) * frames.natoms; ++k) {
      const bool is_real = frames.weights == nullptr || frames.weights[k] != 0;
      count += is_real && frames.types[k] == type;
    }
    return count;
  }

  std::string words(int64_t type, int64_t count) const {
    const std::string number = std::to_string(type), &name = type_map_[type];
    // DeePMD-kit calls types so that have no name.
    const bool has_name = !name.empty() && name != "Type_" + number;
    return "deepmd-mask: " + std::to_string(count) + " real atoms of type " + number +
           (has_name ? " (" + name + ")" : "") + ", more than the " + std::to_string(sel_[type]) +
           " that sel bounds; the model may not have seen the like. This is said once.";
  }

  std::vector<int64_t> sel_;
  std::vector<std::string> type_map_;
  std::atomic<bool> has_warned_{false};
};

}  // namespace dpmask
