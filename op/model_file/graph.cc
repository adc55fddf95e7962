// SPDX-License-Identifier: LGPL-3.0-or-later
#include "op/model_file/graph.h"

#include <algorithm>
#include <charconv>

namespace dpmask {
namespace {

// Graphs of thousands of nets have fewer. Each takes more memory than it has bytes in a file.
constexpr size_t kMostNodes = 1 << 18, kMostInputs = 1 << 16, kMostNumbers = 1 << 20;
constexpr int kMostSteps = 64;  // along what hands on

// Numbers of fields in tensorflow/core/framework/{graph,node_def,attr_value}.proto.
enum GraphField { kNode = 1 };
enum NodeField { kName = 1, kOp = 2, kInput = 3, kAttribute = 5 };
enum EntryField { kKey = 1, kValue = 2 };
enum ValueField { kList = 1, kText = 2, kInteger = 3, kNumber = 4, kBoolean = 5, kType = 6 };
constexpr int kTensor = 8;

// Protobuf lets the last of several fields count, or joins them; a file that needs that is no
// model.
void set_once(std::string_view* to, const Field& field) {
  if (to->data() != nullptr) throw Damaged("it has a field twice that it must have once");
  *to = field.text();
}

Node read_node(std::string_view bytes) {
  Node node{{}, {}, bytes};
  Message message(bytes);
  for (Field field; message.next(&field);) {
    if (field.number == kName) set_once(&node.name, field);
    if (field.number == kOp) set_once(&node.op, field);
    if (field.number == kInput || field.number == kAttribute) field.text();
  }
  if (node.name.empty() || node.op.empty()) throw Damaged("it has a node without name or operator");
  return node;
}

// "name", "name:output", or "^name" for a node that is only to be run before.
std::optional<Input> read_input(std::string_view text) {
  if (!text.empty() && text[0] == '^') return std::nullopt;
  Input input{text, 0};
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return input;
  input.node = text.substr(0, colon);
  const char *begin = text.data() + colon + 1, *end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(begin, end, input.output);
  if (error != std::errc() || stop != end || input.output < 0) {
    throw Damaged("it has the input " + shown(text) + ", which is none");
  }
  return input;
}

}  // namespace

std::string shown(std::string_view text, size_t longest) {
  std::string result(text.substr(0, longest));
  for (char& c : result) {
    if (c < ' ' || c > '~') c = '?';
  }
  return text.size() > longest ? result + "..." : result;
}

std::vector<Input> Node::inputs() const {
  std::vector<Input> all;
  Message message(bytes);
  for (Field field; message.next(&field);) {
    if (field.number != kInput) continue;
    if (all.size() == kMostInputs)
      throw Damaged("it has more inputs than any node, " + shown(name));
    if (const std::optional<Input> input = read_input(field.text())) all.push_back(*input);
  }
  return all;
}

Input Node::input(size_t k) const {
  const std::vector<Input> all = inputs();
  if (k < all.size()) return all[k];
  throw Damaged("its node " + shown(name) + " lacks inputs");
}

std::optional<Attribute> Node::find_attribute(std::string_view wanted) const {
  std::optional<Attribute> found;
  Message message(bytes);
  for (Field field; message.next(&field);) {
    if (field.number != kAttribute) continue;
    std::string_view key, value;
    Message entry(field.text());
    for (Field part; entry.next(&part);) {
      if (part.number == kKey) set_once(&key, part);
      if (part.number == kValue) set_once(&value, part);
    }
    if (key != wanted) continue;
    const std::string full = std::string(wanted) + " of " + shown(name);
    if (found) throw Damaged("it has the attribute " + full + " twice");
    found.emplace(full, value);
  }
  return found;
}

Attribute Node::attribute(std::string_view wanted) const {
  if (std::optional<Attribute> found = find_attribute(wanted)) return *found;
  throw Damaged("it lacks the attribute " + std::string(wanted) + " of " + shown(name));
}

void Attribute::refuse() const {
  throw Damaged("it has an attribute of another type than it must have, " + name_);
}

Field Attribute::only_field(int number) const {
  Message message(bytes_);
  Field found, more;
  if (!message.next(&found) || found.number != number || message.next(&more)) refuse();
  return found;
}

int64_t Attribute::integer() const { return only_field(kInteger).integer(); }
bool Attribute::boolean() const { return only_field(kBoolean).boolean(); }
double Attribute::number() const { return only_field(kNumber).number32(); }
std::string Attribute::text() const { return std::string(only_field(kText).text()); }
int64_t Attribute::type() const { return only_field(kType).integer(); }
std::string_view Attribute::tensor() const { return only_field(kTensor).text(); }

std::vector<int64_t> Attribute::integers() const {
  std::vector<int64_t> all;
  Message list(only_field(kList).text());
  for (Field field; list.next(&field);) {
    if (field.number != kInteger) refuse();
    const bool is_one = field.kind == Field::Kind::varint;
    if (is_one) all.push_back(field.integer());
    for (std::string_view packed = is_one ? "" : field.text(); !packed.empty();) {
      all.push_back(static_cast<int64_t>(take_varint(&packed)));
      if (all.size() > kMostNumbers) refuse();
    }
  }
  return all;
}

Graph::Graph(std::string_view bytes) {
  Message message(bytes);
  for (Field field; message.next(&field);) {
    if (field.number != kNode) continue;
    if (nodes_.size() == kMostNodes) throw Damaged("it has more nodes than any model");
    nodes_.push_back(read_node(field.text()));
  }
  const auto before = [](const Node& a, const Node& b) { return a.name < b.name; };
  std::sort(nodes_.begin(), nodes_.end(), before);
  for (size_t k = 1; k < nodes_.size(); ++k) {
    if (nodes_[k - 1].name == nodes_[k].name) {
      throw Damaged("it has two nodes of the name " + shown(nodes_[k].name));
    }
  }
  for (const Node& of : nodes_) {
    for (const Input& input : of.inputs()) node(input.node);
  }
}

const Node* Graph::find(std::string_view name) const {
  const auto found = std::lower_bound(
      nodes_.begin(), nodes_.end(), name,
      [](const Node& node, std::string_view wanted) { return node.name < wanted; });
  return found != nodes_.end() && found->name == name ? &*found : nullptr;
}

const Node& Graph::node(std::string_view name) const {
  if (const Node* found = find(name)) return *found;
  throw Damaged("it lacks the node " + shown(name));
}

std::vector<const Node*> Graph::with_op(std::string_view op) const {
  std::vector<const Node*> found;
  for (const Node& node : nodes_) {
    if (node.op == op) found.push_back(&node);
  }
  return found;
}

Input Graph::behind(Input input, const std::vector<std::string_view>& ops) const {
  for (int steps = 0; steps < kMostSteps && input.output == 0; ++steps) {
    const Node& from = node(input.node);
    if (std::find(ops.begin(), ops.end(), from.op) == ops.end()) break;
    input = from.input(0);
  }
  return input;
}

}  // namespace dpmask
