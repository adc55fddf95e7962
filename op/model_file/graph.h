// SPDX-License-Identifier: LGPL-3.0-or-later
// The graph of a frozen model: nodes with operators, inputs and attributes. Nothing of it is run.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "op/model_file/wire.h"

namespace dpmask {

// A model that is whole, but that cannot be evaluated here. what() is a clause.
struct Unknown : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A text of the file for a message: short, and without what a terminal does not show.
std::string shown(std::string_view text, size_t longest = 60);

// An output of a node, as another takes it.
struct Input {
  std::string_view node;
  int output;

  bool operator==(const Input& other) const { return node == other.node && output == other.output; }
};

// An attribute of a node, of the types that models here have. Each throws Damaged, which names the
// attribute, if it is of another type.
class Attribute {
 public:
  Attribute(std::string name, std::string_view bytes) : name_(std::move(name)), bytes_(bytes) {}
  std::string_view bytes() const { return bytes_; }  // as the file has it
  int64_t integer() const;
  bool boolean() const;
  double number() const;
  std::string text() const;
  int64_t type() const;  // TensorFlow's number of a type of numbers
  std::vector<int64_t> integers() const;
  std::string_view tensor() const;

 private:
  Field only_field(int number) const;
  [[noreturn]] void refuse() const;

  std::string name_;
  std::string_view bytes_;
};

// A node, read where the file has it.
struct Node {
  std::string_view name, op, bytes;

  std::vector<Input> inputs() const;  // without those that are only to be run before
  Input input(size_t k) const;        // throws Damaged if there are fewer
  std::optional<Attribute> find_attribute(std::string_view name) const;
  Attribute attribute(std::string_view name) const;  // throws Damaged if there is none
};

class Graph {
 public:
  // `bytes` must outlive the graph. Throws Damaged if they are no graph, or not a whole one: if it
  // has two nodes of one name, or lacks one that another takes as input.
  explicit Graph(std::string_view bytes);

  const std::vector<Node>& nodes() const { return nodes_; }  // by name
  const Node* find(std::string_view name) const;             // nullptr if there is none
  const Node& node(std::string_view name) const;             // throws Damaged if there is none
  std::vector<const Node*> with_op(std::string_view op) const;
  // Where an input comes from behind nodes of these operators, which hand on their first one.
  Input behind(Input input, const std::vector<std::string_view>& ops) const;

 private:
  std::vector<Node> nodes_;
};

}  // namespace dpmask
