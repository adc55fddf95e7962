// SPDX-License-Identifier: LGPL-3.0-or-later
// What can be wrong with an atom of a batch: data, of which hosts make messages and errors of their
// own, and the one place of its words.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace dpmask {

struct AtomFault {
  enum class Code { mask, type, coordinate, coincident, weight, group };
  static constexpr char kKey[] = "deepmd-mask/atom-fault";  // of what hosts attach to their errors

  Code code;
  int64_t frame, atom;
  int64_t other = -1;      // the second atom, if coincident or group
  int64_t axis = -1;       // 0, 1 or 2 for x, y or z, if coordinate
  int64_t type = 0;        // if type
  int64_t ntypes = 0;      // of the model, if type
  double value = 0;        // the mask or coordinate; the distance, if coincident
  double other_value = 0;  // the second atom's mask, if group

  bool has_other() const { return code == Code::coincident || code == Code::group; }

  std::string name() const;    // of the code
  std::string what() const;    // without a place
  std::string remedy() const;  // what the user can do
  std::string text() const;    // both
  // Both, after frame and atom. Who has a single molecule knows of no frames.
  std::string message(bool names_frame = true) const;

  // For hosts that can hand on text alone: a line for programs, and its reverse. To read anything
  // else throws std::invalid_argument.
  std::string written() const;
  static AtomFault read(const std::string& written);
};

struct AtomError : std::invalid_argument {
  explicit AtomError(const AtomFault& of) : std::invalid_argument(of.message()), fault(of) {}
  AtomFault fault;
};

}  // namespace dpmask
