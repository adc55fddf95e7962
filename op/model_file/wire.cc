// SPDX-License-Identifier: LGPL-3.0-or-later
#include "op/model_file/wire.h"

#include <cstring>

namespace dpmask {
namespace {

constexpr int kLargestField = (1 << 29) - 1;

[[noreturn]] void refuse() { throw Damaged("it has a field that ends nowhere, or is none"); }

std::string_view take(std::string_view* bytes, uint64_t size) {
  if (size > bytes->size()) refuse();
  const std::string_view taken = bytes->substr(0, size);
  bytes->remove_prefix(size);
  return taken;
}

// Least significant byte first, whatever the machine has.
uint64_t take_fixed(std::string_view* bytes, int size) {
  const std::string_view taken = take(bytes, size);
  uint64_t value = 0;
  for (int k = 0; k < size; ++k) value |= uint64_t{static_cast<unsigned char>(taken[k])} << 8 * k;
  return value;
}

void require(bool holds) {
  if (!holds) throw Damaged("it has a field of another kind than it must have");
}

}  // namespace

uint64_t take_varint(std::string_view* bytes) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    const unsigned char byte = take(bytes, 1)[0];
    value |= uint64_t{byte & 0x7fu} << shift;
    if (byte < 0x80) return value;
  }
  refuse();
}

bool Message::next(Field* field) {
  if (rest_.empty()) return false;
  const uint64_t tag = take_varint(&rest_), number = tag >> 3;
  if (number < 1 || number > kLargestField) refuse();
  field->number = static_cast<int>(number);
  field->bytes = {};
  field->value = 0;
  switch (tag & 7) {
    case 0:
      field->kind = Field::Kind::varint;
      field->value = take_varint(&rest_);
      return true;
    case 1:
      field->kind = Field::Kind::fixed64;
      field->value = take_fixed(&rest_, 8);
      return true;
    case 2:
      field->kind = Field::Kind::bytes;
      field->bytes = take(&rest_, take_varint(&rest_));
      return true;
    case 5:
      field->kind = Field::Kind::fixed32;
      field->value = take_fixed(&rest_, 4);
      return true;
    default:  // groups, which no message of TensorFlow has
      refuse();
  }
}

std::string_view Field::text() const {
  require(kind == Kind::bytes);
  return bytes;
}

int64_t Field::integer() const {
  require(kind == Kind::varint);
  return static_cast<int64_t>(value);
}

float Field::number32() const {
  require(kind == Kind::fixed32);
  const uint32_t bits = static_cast<uint32_t>(value);
  float number;
  std::memcpy(&number, &bits, sizeof number);
  return number;
}

}  // namespace dpmask
