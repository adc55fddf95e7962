// SPDX-License-Identifier: LGPL-3.0-or-later
// The wire format of protobuf: a message is a row of fields, each a number, a kind and a value.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string_view>

namespace dpmask {

// What no whole model has. what() is a clause, as "it lacks the node X".
struct Damaged : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Field {
  int number;
  enum class Kind { varint, fixed64, bytes, fixed32 } kind;
  uint64_t value;          // of all kinds but bytes, the bits
  std::string_view bytes;  // a text, a message or packed numbers

  // The value as that of a field of this type. Throws Damaged if it is of another kind.
  std::string_view text() const;
  int64_t integer() const;
  bool boolean() const { return integer() != 0; }
  float number32() const;
};

// Reads a message field by field. Looks at nothing beyond its bytes, which must outlive what is
// read.
class Message {
 public:
  explicit Message(std::string_view bytes) : rest_(bytes) {}
  // Whether there is another field, which is then put into *field. Throws Damaged if what follows
  // is none.
  bool next(Field* field);

 private:
  std::string_view rest_;
};

// Takes a number of variable length from the front of the bytes. Throws Damaged if there is none.
uint64_t take_varint(std::string_view* bytes);

}  // namespace dpmask
