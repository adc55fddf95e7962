// SPDX-License-Identifier: LGPL-3.0-or-later
#include "op/model_file/operators.h"

#include <algorithm>
#include <array>
#include <limits>

#include "op/shared/ops_version.h"

namespace dpmask {
namespace {

const std::string kOwn = "PipInstallDeepmdMask>";
constexpr std::array<const char*, 14> kKnown = {
    "RealAtoms",         "FitSeries",        "FitSeriesGrad", "Embed", "EmbedGrad", "Contract",
    "Energies",          "ContractReverse",  "EnergiesGrad",  "Force", "ForceGrad", "Potential",
    "RealAtomsOfGroups", "WeightedPotential"};
// Operators that stand for one thing together, and attributes in which they must agree.
const std::vector<std::vector<const char*>> kTogether = {
    {"FitSeries", "Embed", "Force", "Potential", "WeightedPotential"},
    {"Contract", "ContractReverse", "Potential", "WeightedPotential"},
    {"Energies"}};
constexpr std::array<const char*, 7> kShared = {"neuron", "resnet_dt", "activation", "net",
                                                "n",      "M2",        "ntypes"};
// Where inputs of an operator begin: first coord, slot, weight and first, then the series.
constexpr size_t kSeries = 4, kAfterSeries = kSeries + 3, kParametersOfEnergies = 2;

std::string own(const char* name) { return kOwn + name; }

bool is_op(const Node& node, const char* name) { return node.op == own(name); }

// Of several, which agree, the first.
const Node& only(const Graph& graph, const char* name) {
  const std::vector<const Node*> found = graph.with_op(own(name));
  if (found.empty()) throw Damaged("it lacks the operator " + own(name));
  if (found.size() > 1) throw Unknown("it has several operators " + own(name));
  return *found[0];
}

std::vector<Input> inputs_from(const Node& node, size_t first) {
  std::vector<Input> inputs = node.inputs();
  if (inputs.size() < first) throw Damaged("its operator " + shown(node.name) + " lacks inputs");
  inputs.erase(inputs.begin(), inputs.begin() + static_cast<std::ptrdiff_t>(first));
  return inputs;
}

// Takes that many inputs from the front.
std::vector<Input> take(const Node& node, std::vector<Input>* inputs, int64_t count) {
  if (count < 0 || count > static_cast<int64_t>(inputs->size())) {
    throw Damaged("its operator " + shown(node.name) + " lacks inputs");
  }
  const auto end = inputs->begin() + static_cast<std::ptrdiff_t>(count);
  std::vector<Input> taken(inputs->begin(), end);
  inputs->erase(inputs->begin(), end);
  return taken;
}

NetShape read_shape(const Node& node, const std::string& prefix) {
  return {node.attribute(prefix + "neuron").integers(),
          node.attribute(prefix + "resnet_dt").boolean(),
          node.attribute(prefix + "activation").text()};
}

bool read_precision(const Node& node) {
  const int64_t type = node.attribute("T").type();
  if (type != 1 && type != 2) throw Unknown("its nets are neither of float64 nor of float32");
  return type == 1;
}

void require_se_a_mask(const Graph& graph) {
  if (!graph.with_op(own("RealAtoms")).empty()) return;
  if (!graph.with_op("DescrptSeAMask").empty()) {
    throw Unknown(
        "it is on the operators of the se_a_mask that DeePMD-kit has built in; dp-mask convert "
        "puts it on those of deepmd-mask");
  }
  throw Unknown("it is not a model with se_a_mask");
}

void require_version(const Node& real_atoms) {
  const auto version = real_atoms.find_attribute("ops_version");
  if (version && version->integer() < 1) {
    throw Damaged("its ops_version is " + std::to_string(version->integer()));
  }
  if (!version || version->integer() <= kOpsVersion) return;
  throw Unknown("it needs operators of version " + std::to_string(version->integer()) +
                ", and those installed have version " + std::to_string(kOpsVersion) +
                "; run pip install -U deepmd-mask");
}

void require_known_operators(const Graph& graph) {
  for (const Node& node : graph.nodes()) {
    if (node.op.substr(0, kOwn.size()) != kOwn) continue;
    const auto same = [&](const char* name) { return is_op(node, name); };
    if (std::none_of(kKnown.begin(), kKnown.end(), same)) {
      throw Unknown("it has the operator " + shown(node.op) +
                    ", which the installed version does not know; run pip install -U deepmd-mask");
    }
  }
}

// Energy and forces come from operators that say the same.
void require_agreement(const Graph& graph) {
  for (const std::vector<const char*>& together : kTogether) {
    std::vector<const Node*> nodes;
    for (const char* name : together) {
      for (const Node* node : graph.with_op(own(name))) nodes.push_back(node);
    }
    for (const char* name : kShared) {
      const Node* first = nullptr;
      for (const Node* node : nodes) {
        const auto value = node->find_attribute(name);
        if (!value) continue;
        if (first == nullptr) first = node;
        if (value->bytes() != first->attribute(name).bytes()) {
          throw Damaged("its operators " + shown(first->name) + " and " + shown(node->name) +
                        " differ in " + name);
        }
      }
    }
  }
}

void require_same_inputs(const Node& a, const std::vector<Input>& of_a, const Node& b,
                         const std::vector<Input>& of_b) {
  if (of_a == of_b) return;
  throw Damaged("its operators " + shown(a.name) + " and " + shown(b.name) +
                " have different inputs");
}

void require_from(const Graph& graph, const char* name, const Input& wanted) {
  if (graph.behind({name, 0}, {"Identity", "Cast"}) == wanted) return;
  throw Unknown(std::string("its output ") + name + " does not come from " + shown(wanted.node));
}

void read_embedding(const Graph& graph, const Node& node, Operators* operators) {
  operators->embedding.shape = read_shape(node, "");
  operators->embedding.is_single = read_precision(node);
  operators->n = node.attribute("n").number();
  for (int64_t which : node.attribute("net").integers()) {
    if (which < -1 || which > std::numeric_limits<int32_t>::max()) {
      throw Damaged("its nets have the numbers " + std::to_string(which));
    }
    operators->net.push_back(static_cast<int32_t>(which));
  }
  std::vector<Input> inputs = inputs_from(node, kSeries);
  const std::vector<Input> series = take(node, &inputs, kAfterSeries - kSeries);
  if (graph.node(series[0].node).op != own("FitSeries")) operators->table = series;
}

Operators read_whole(const Graph& graph) {
  const Node& node = only(graph, "Potential");
  Operators operators{};
  operators.is_whole = true;
  read_embedding(graph, node, &operators);
  operators.M2 = node.attribute("M2").integer();
  operators.fitting = {read_shape(node, "fitting_"), operators.embedding.is_single, {}};
  std::vector<Input> inputs = inputs_from(node, kAfterSeries);
  operators.energies = take(node, &inputs, 1)[0];
  operators.fitting.parameters = take(node, &inputs, node.attribute("Q").integer());
  operators.embedding.parameters = inputs;
  require_from(graph, "o_energy", {node.name, 0});
  require_from(graph, "o_force", {node.name, 2});
  return operators;
}

// The operator Energies that is given D of atoms.
const Node& main_energies(const Graph& graph) {
  const Input D = {only(graph, "Contract").name, 0};
  const Node* found = nullptr;
  for (const Node* node : graph.with_op(own("Energies"))) {
    if (!(graph.behind(node->input(1), {"Cast"}) == D)) continue;
    if (found != nullptr) throw Unknown("it has several fitting nets of an atom");
    found = node;
  }
  if (found != nullptr) return *found;
  throw Unknown(
      "its fitting nets take more than D, the mask perhaps; Potential of Python reads such models");
}

Operators read_parts(const Graph& graph) {
  const Node &embed = only(graph, "Embed"), &contract = only(graph, "Contract");
  const Node& force = only(graph, "Force");
  Operators operators{};
  read_embedding(graph, embed, &operators);
  operators.M2 = contract.attribute("M2").integer();
  operators.fitting = fitting_of(main_energies(graph));
  operators.embedding.parameters = inputs_from(embed, kAfterSeries);
  const Input X = {embed.name, 0};
  if (!(contract.input(0) == X && contract.input(1) == X)) {
    throw Unknown("its D comes from something else than X");
  }
  require_same_inputs(embed, operators.embedding.parameters, force,
                      inputs_from(force, kAfterSeries + 1));
  if (operators.table.empty()) {
    const Node& fit = only(graph, "FitSeries");
    require_same_inputs(embed, operators.embedding.parameters, fit, inputs_from(fit, kSeries));
  }
  require_from(graph, "o_force", {force.name, 0});
  // Both are sums of the same energies: by atom, since each has one slot, and by frame.
  const std::vector<std::string_view> sums = {"Identity", "Cast", "Reshape", "UnsortedSegmentSum"};
  operators.energies = graph.behind({"o_atom_energy", 0}, sums);
  if (!(operators.energies == graph.behind({"o_energy", 0}, sums))) {
    throw Unknown("its energy is not the sum of its atomic energies");
  }
  return operators;
}

}  // namespace

NetsOfOperator fitting_of(const Node& energies) {
  return {read_shape(energies, ""), read_precision(energies),
          inputs_from(energies, kParametersOfEnergies)};
}

void require_known(const Graph& graph) {
  require_se_a_mask(graph);
  require_version(*graph.with_op(own("RealAtoms")).front());
}

Operators find_operators(const Graph& graph) {
  const Node& real_atoms = only(graph, "RealAtoms");
  require_known_operators(graph);
  require_agreement(graph);
  const bool is_whole = !graph.with_op(own("Potential")).empty();
  Operators operators = is_whole ? read_whole(graph) : read_parts(graph);
  operators.sel = real_atoms.attribute("sel").integers();
  return operators;
}

}  // namespace dpmask
