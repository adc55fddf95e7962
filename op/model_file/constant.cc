// SPDX-License-Identifier: LGPL-3.0-or-later
#include "op/model_file/constant.h"

#include <cstring>

namespace dpmask {
namespace {

constexpr int64_t kMostRepeated = 1 << 16;  // as many as a matrix of 240 by 240 has, and more
constexpr size_t kMostDimensions = 254;     // of TensorFlow

// Numbers of fields in tensorflow/core/framework/{tensor,tensor_shape}.proto.
enum TensorField { kType = 1, kShape = 2, kContent = 4 };
enum ValuesField {
  kFloat32 = 5,
  kFloat64 = 6,
  kInt32 = 7,
  kText = 8,
  kInt64 = 10,
  kBoolean = 11,
};
enum ShapeField { kDimension = 2, kUnknownRank = 3 };
constexpr int kSize = 1;  // of a dimension

// What a message of a tensor has, its values as they lie there.
struct Tensor {
  Type type{};
  std::vector<int64_t> shape;
  std::string_view content;
  std::vector<Field> values;
};

Damaged damaged(const Node& node, const std::string& what) {
  return Damaged("its constant " + shown(node.name) + " " + what);
}

int64_t read_size(std::string_view dimension) {
  int64_t size = 0;
  Message message(dimension);
  for (Field field; message.next(&field);) {
    if (field.number == kSize) size = field.integer();
  }
  return size;
}

std::vector<int64_t> read_shape(const Node& node, std::string_view bytes) {
  std::vector<int64_t> shape;
  Message message(bytes);
  for (Field field; message.next(&field);) {
    if (field.number == kUnknownRank && field.boolean()) throw damaged(node, "has no shape");
    if (field.number != kDimension) continue;
    shape.push_back(read_size(field.text()));
    if (shape.back() < 0 || shape.size() > kMostDimensions) {
      throw damaged(node, "has a shape that is none");
    }
  }
  return shape;
}

// The number of numbers. Throws Damaged if that is no int64.
int64_t size_of(const Node& node, const std::vector<int64_t>& shape) {
  int64_t size = 1;
  for (int64_t dimension : shape) {
    if (__builtin_mul_overflow(size, dimension, &size)) {
      throw damaged(node, "has a shape of more numbers than there are");
    }
  }
  return size;
}

Tensor read_tensor(const Node& node) {
  if (node.op != "Const") throw Damaged("its node " + shown(node.name) + " is no constant");
  Tensor tensor;
  Message message(node.attribute("value").tensor());
  bool has_shape = false;
  for (Field field; message.next(&field);) {
    switch (field.number) {
      case kType:
        tensor.type = static_cast<Type>(field.integer());
        break;
      case kShape:
        if (has_shape) throw damaged(node, "has two shapes");
        has_shape = true;
        tensor.shape = read_shape(node, field.text());
        break;
      case kContent:
        tensor.content = field.text();
        break;
      case kFloat32:
      case kFloat64:
      case kInt32:
      case kText:
      case kInt64:
      case kBoolean:
        // A row of numbers is one field, which a file may have in several parts.
        if (tensor.values.size() == 1024) throw damaged(node, "has its values in too many parts");
        tensor.values.push_back(field);
        break;
      default:
        break;
    }
  }
  return tensor;
}

template <typename Number>
void append_raw(std::string_view bytes, std::vector<double>* values) {
  values->reserve(values->size() + bytes.size() / sizeof(Number));
  for (size_t k = 0; k + sizeof(Number) <= bytes.size(); k += sizeof(Number)) {
    Number number;
    std::memcpy(&number, bytes.data() + k, sizeof number);
    values->push_back(static_cast<double>(number));
  }
}

// Appends numbers that each have a width of their own.
template <typename Number>
void append_varints(std::string_view bytes, std::vector<double>* values) {
  while (!bytes.empty()) {
    values->push_back(static_cast<double>(static_cast<Number>(take_varint(&bytes))));
  }
}

// How the numbers of a type are written.
struct Writing {
  int field;    // of their values
  size_t size;  // of one of the content, in bytes
  Field::Kind kind;
  void (*append_content)(std::string_view, std::vector<double>*);
  void (*append_values)(std::string_view, std::vector<double>*);
};

Writing writing_of(const Node& node, Type type) {
  using Kind = Field::Kind;
  switch (type) {
    case Type::float32:
      return {kFloat32, 4, Kind::fixed32, append_raw<float>, append_raw<float>};
    case Type::float64:
      return {kFloat64, 8, Kind::fixed64, append_raw<double>, append_raw<double>};
    case Type::int32:
      return {kInt32, 4, Kind::varint, append_raw<int32_t>, append_varints<int32_t>};
    case Type::int64:
      return {kInt64, 8, Kind::varint, append_raw<int64_t>, append_varints<int64_t>};
    case Type::boolean:
      return {kBoolean, 1, Kind::varint, append_raw<uint8_t>, append_varints<uint8_t>};
    case Type::text:
      break;
  }
  throw damaged(node, "has other than numbers");
}

// Appends a single number, which a field is that is not packed.
void append_single(const Field& field, const Writing& writing, std::vector<double>* values) {
  char bytes[8];
  std::memcpy(bytes, &field.value, sizeof bytes);
  writing.append_content({bytes, writing.size}, values);
}

}  // namespace

Constants::Constants(size_t file_size) : left_(static_cast<int64_t>(file_size) + kMostRepeated) {}

Numbers Constants::numbers(const Node& node) {
  const Tensor tensor = read_tensor(node);
  const Writing writing = writing_of(node, tensor.type);
  Numbers found{tensor.type, tensor.shape, {}};
  const int64_t size = size_of(node, tensor.shape);
  if (!tensor.content.empty()) {
    if (tensor.content.size() % writing.size != 0) throw damaged(node, "ends within a number");
    writing.append_content(tensor.content, &found.values);
  }
  for (const Field& field : tensor.values) {
    if (field.number != writing.field || !tensor.content.empty()) {
      throw damaged(node, "has numbers of two kinds");
    }
    if (field.kind == Field::Kind::bytes) {
      const bool is_raw = writing.kind != Field::Kind::varint;
      if (is_raw && field.bytes.size() % writing.size != 0) {
        throw damaged(node, "ends within a number");
      }
      writing.append_values(field.bytes, &found.values);
    } else if (field.kind == writing.kind) {
      append_single(field, writing, &found.values);
    } else {
      throw damaged(node, "has numbers of two kinds");
    }
  }
  const int64_t given = static_cast<int64_t>(found.values.size()), lacking = size - given;
  const bool may_repeat = tensor.content.empty() && lacking <= kMostRepeated;
  if (lacking < 0 || (lacking > 0 && !may_repeat)) {
    throw damaged(
        node, "has a shape of " + std::to_string(size) + " numbers, but " + std::to_string(given));
  }
  left_ -= size;
  if (left_ < 0) throw damaged(node, "is one of more numbers than the file can have");
  found.values.resize(size, given == 0 ? 0.0 : found.values.back());
  return found;
}

std::string Constants::text(const Node& node) const {
  const Tensor tensor = read_tensor(node);
  const bool is_one = tensor.type == Type::text && tensor.values.size() == 1 &&
                      tensor.values[0].number == kText && size_of(node, tensor.shape) == 1;
  if (!is_one) throw damaged(node, "is no text");
  return std::string(tensor.values[0].text());
}

}  // namespace dpmask
