// SPDX-License-Identifier: LGPL-3.0-or-later
#include "op/kernels/atom_error.h"

#include <array>
#include <cstring>
#include <sstream>

namespace dpmask {
namespace {

constexpr std::array<const char*, 6> kNames = {"mask",       "type",   "coordinate",
                                               "coincident", "weight", "group"};

template <typename... Parts>
std::string joined(const Parts&... parts) {
  std::ostringstream text;
  text.imbue(std::locale::classic());
  text.precision(15);  // enough to tell 0.9999999 from 1, few enough to print 0.9 as such
  (text << ... << parts);
  return text.str();
}

// The bits of a number: they come back as they were, not a number among them.
int64_t bits_of(double value) {
  int64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
double of_bits(int64_t bits) {
  double value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace

std::string AtomFault::name() const { return kNames[static_cast<size_t>(code)]; }

std::string AtomFault::what() const {
  switch (code) {
    case Code::mask:
      return joined("mask value ", value, " is neither 0 nor 1");
    case Code::type:
      return joined("type ", type, " is outside the type map, which has ", ntypes, " types");
    case Code::coordinate:
      return joined("coordinate ", "xyz"[axis], " of a real atom is ", value,
                    ", not a finite number");
    case Code::weight:
      return joined("weight ", value, " is not between 0 and 1");
    case Code::group:
      return joined("weight ", value, ", but atom ", other, " of the same group has ", other_value);
    case Code::coincident:
      break;
  }
  return joined("at the same point as atom ", other, " (distance ", value, ")");
}

std::string AtomFault::remedy() const {
  switch (code) {
    case Code::mask:
      return "the mask (weights, or aparam) must be 1 for a real atom and 0 for a virtual one";
    case Code::type:
      return "number them from 0";
    case Code::coordinate:
      return "mend it or set the atom's mask to 0";
    case Code::weight:
      return "give 1 to a real atom, 0 to a virtual one, and a fraction to one that is there in "
             "part";
    case Code::group:
      return "give all atoms of a group, a residue, one weight";
    case Code::coincident:
      break;
  }
  return "remove one of them or set its mask to 0";
}

std::string AtomFault::text() const { return joined(what(), "; ", remedy()); }

std::string AtomFault::message(bool names_frame) const {
  return joined(names_frame ? joined("frame ", frame, ", ") : "", "atom ", atom, ": ", text());
}

std::string AtomFault::written() const {
  return joined(name(), ' ', frame, ' ', atom, ' ', other, ' ', axis, ' ', type, ' ', ntypes, ' ',
                bits_of(value), ' ', bits_of(other_value));
}

AtomFault AtomFault::read(const std::string& written) {
  std::istringstream text(written);
  text.imbue(std::locale::classic());
  std::string name;
  AtomFault fault{};
  int64_t bits = 0, other_bits = 0;
  text >> name >> fault.frame >> fault.atom >> fault.other >> fault.axis >> fault.type >>
      fault.ntypes >> bits >> other_bits;
  fault.value = of_bits(bits);
  fault.other_value = of_bits(other_bits);
  size_t code = 0;
  while (code < kNames.size() && name != kNames[code]) ++code;
  fault.code = static_cast<Code>(code);
  const bool needs_axis = fault.code == Code::coordinate;
  if (code == kNames.size() || (needs_axis && (fault.axis < 0 || fault.axis > 2)) ||
      fault.written() != written) {
    throw std::invalid_argument("no fault of an atom: \"" + written + "\"");
  }
  return fault;
}

}  // namespace dpmask
