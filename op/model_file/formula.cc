// SPDX-License-Identifier: LGPL-3.0-or-later
#include "op/model_file/formula.h"

#include <algorithm>

namespace dpmask {
namespace {

// A model of this package is a dozen operators deep.
constexpr int kDeepest = 64;
constexpr int64_t kMostSteps = 4096;

Unknown unknown(const Node& node) {
  return Unknown("it computes its energies by " + shown(node.name) + ", an operator " +
                 shown(node.op) + ", which models of deepmd-mask do not have there");
}

// Rounds to the precision of float32.
void round_to_float(Affine* x) {
  for (std::vector<double>* numbers : {&x->a, &x->b}) {
    for (double& number : *numbers) number = static_cast<float>(number);
  }
}

bool is_type(const Node& node, const char* attribute, Type type) {
  return node.attribute(attribute).type() == static_cast<int64_t>(type);
}

// The number k, where one number stands for any size.
double at(const std::vector<double>& numbers, size_t k) {
  return numbers.empty() ? 0.0 : numbers[numbers.size() == 1 ? 0 : k];
}

// x and y element by element, one of which may be a single number.
Affine combined(const Node& node, const Affine& x, const Affine& y) {
  const Affine& larger = x.b.size() < y.b.size() ? y : x;
  const size_t smaller = std::min(x.b.size(), y.b.size()), size = larger.b.size();
  if (smaller != 1 && x.shape != y.shape) {
    throw Damaged("the inputs of its node " + shown(node.name) + " have different shapes");
  }
  const bool is_product = node.op == "Mul", has_F = !x.a.empty() || !y.a.empty();
  if (is_product && !x.a.empty() && !y.a.empty()) throw unknown(node);
  const double sign = node.op == "Sub" ? -1 : 1;
  Affine result{larger.shape, std::vector<double>(size), std::vector<double>(has_F ? size : 0)};
  for (size_t k = 0; k < size; ++k) {
    const double xb = at(x.b, k), yb = at(y.b, k);
    result.b[k] = is_product ? xb * yb : xb + sign * yb;
    if (!has_F) continue;
    const double xa = at(x.a, k), ya = at(y.a, k);
    result.a[k] = is_product ? xa * yb + xb * ya : xa + sign * ya;
  }
  if (is_type(node, "T", Type::float32)) round_to_float(&result);
  return result;
}

}  // namespace

Affine Formula::evaluate(const Input& input, int depth) {
  const Node& node = graph_.node(input.node);
  if (depth > kDeepest || ++steps_ > kMostSteps) throw unknown(node);
  const auto of_input = [&](size_t k) { return evaluate(node.input(k), depth + 1); };
  if (node.op == "PipInstallDeepmdMask>RealAtoms" && input.output == 1) {  // weights of real atoms
    return {{ntypes_}, std::vector<double>(ntypes_, 1.0), {}};
  }
  if (input.output != 0) throw unknown(node);
  if (node.op == "Const") {
    Numbers numbers = constants_->numbers(node);
    if (numbers.type != Type::float32 && numbers.type != Type::float64) {
      throw Damaged("its constant " + shown(node.name) + " has other numbers than a net");
    }
    return {std::move(numbers.shape), std::move(numbers.values), {}};
  }
  if (node.op == "Identity") return of_input(0);
  if (node.op == "Mul" || node.op == "AddV2" || node.op == "Add" || node.op == "Sub") {
    const Affine x = of_input(0);
    return combined(node, x, of_input(1));
  }
  if (node.op == "Cast") {
    Affine x = of_input(0);
    if (is_type(node, "DstT", Type::float32)) {
      round_to_float(&x);
    } else if (!is_type(node, "DstT", Type::float64)) {
      throw unknown(node);
    }
    return x;
  }
  if (node.op == "GatherV2") {  // of each type's numbers those of each atom
    Affine x = of_input(0);
    if (static_cast<int64_t>(x.b.size()) != ntypes_) throw unknown(node);
    return x;
  }
  if (node.op == "StridedSlice") return sliced(node, of_input(0));
  if (node.op == "PipInstallDeepmdMask>Energies") return of_energies(node, depth);
  throw unknown(node);
}

std::vector<double> Formula::integers(const Input& input) {
  const Node& node = graph_.node(graph_.behind(input, {"Identity"}).node);
  if (node.op != "Const") throw unknown(node);
  Numbers numbers = constants_->numbers(node);
  if (numbers.type == Type::int32 || numbers.type == Type::int64) return std::move(numbers.values);
  throw Damaged("its constant " + shown(node.name) + " has other numbers than integers");
}

Affine Formula::of_energies(const Node& energies, int depth) {
  const Input D = graph_.behind(energies.input(1), {"Cast"});
  const Node& node = graph_.node(D.node);
  if (node.op == "PipInstallDeepmdMask>Contract") {
    return {{ntypes_}, std::vector<double>(ntypes_, 0.0), std::vector<double>(ntypes_, 1.0)};
  }
  bool is_zero = node.op == "ZerosLike";
  if (node.op == "Const" || node.op == "Fill") {
    const Affine filling = evaluate(node.op == "Const" ? D : node.input(1), depth + 1);
    is_zero = std::all_of(filling.b.begin(), filling.b.end(), [](double x) { return x == 0; });
  }
  if (!is_zero) {
    throw Unknown("its energies have those of its fitting nets for something else than D and 0");
  }
  if (!in_vacuum_) throw unknown(energies);
  return {{ntypes_}, in_vacuum_(energies), {}};
}

Affine Formula::sliced(const Node& node, const Affine& x) {
  const auto mask = [&](const char* name) { return node.attribute(name).integer(); };
  const auto bounds = [&](size_t k) { return integers(node.input(k)); };
  const std::vector<double> begins = bounds(1), ends = bounds(2), strides = bounds(3);
  const size_t size = begins.size();
  const bool is_plain =
      size <= x.shape.size() && ends.size() == size && strides.size() == size &&
      std::all_of(strides.begin(), strides.end(), [](double s) { return s == 1; });
  if (!is_plain || !x.a.empty() || mask("ellipsis_mask") != 0 || mask("new_axis_mask") != 0) {
    throw unknown(node);
  }
  Affine result;
  std::vector<int64_t> taken = {0};  // rows of what the dimensions so far make
  for (size_t d = 0; d < x.shape.size(); ++d) {
    const int64_t width = x.shape[d];
    const auto has = [&](const char* name) { return d < size && (mask(name) >> d & 1) != 0; };
    const auto place = [&](double bound) {
      return static_cast<int64_t>(std::clamp(bound < 0 ? bound + width : bound, 0.0, 1.0 * width));
    };
    int64_t begin = d < size && !has("begin_mask") ? place(begins[d]) : 0;
    int64_t end = d < size && !has("end_mask") ? place(ends[d]) : width;
    if (has("shrink_axis_mask")) {
      if (begin >= width) throw unknown(node);
      end = begin + 1;
    } else {
      result.shape.push_back(std::max<int64_t>(0, end - begin));
    }
    std::vector<int64_t> rows;
    for (int64_t row : taken) {
      for (int64_t k = begin; k < end; ++k) rows.push_back(row * width + k);
    }
    taken = std::move(rows);
  }
  for (int64_t k : taken) result.b.push_back(x.b[k]);
  return result;
}

}  // namespace dpmask
