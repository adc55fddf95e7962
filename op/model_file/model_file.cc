// SPDX-License-Identifier: LGPL-3.0-or-later
#include "op/model_file/model_file.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <sstream>

#include "op/model_file/constant.h"
#include "op/model_file/formula.h"
#include "op/model_file/operators.h"
#include "op/potential/workers.h"

namespace dpmask {
namespace {

constexpr size_t kLargestFile = size_t{1} << 31;  // protobuf has no larger ones
constexpr int64_t kMostTypesOfFile = 1000, kMostSlots = 1 << 20, kWidest = 1 << 24;

std::string text_of(double number) {
  std::ostringstream text;
  text.imbue(std::locale::classic());
  text << number;
  return text.str();
}

// The one number of a constant, if there is such a node.
std::optional<double> find_number(const Graph& graph, Constants* constants, const char* name) {
  const Node* node = graph.find(name);
  if (node == nullptr) return std::nullopt;
  const Numbers found = constants->numbers(*node);
  if (found.values.size() == 1) return found.values[0];
  throw Damaged(std::string("its constant ") + name + " is not one number");
}

std::vector<std::string> read_type_map(const Graph& graph, const Constants& constants) {
  const Node* node = graph.find("model_attr/tmap");
  if (node == nullptr) return {};
  std::istringstream text(constants.text(*node));
  std::vector<std::string> names;
  for (std::string name; text >> name;) names.push_back(name);
  return names;
}

// The nodes that DeePMD-kit feeds and asks for. A file that was cut between nodes lacks some.
void require_whole(const Graph& graph) {
  std::string lacking;
  for (const char* name : {"t_coord", "t_type", "t_natoms", "t_box", "t_mesh", "t_aparam",
                           "o_energy", "o_force", "o_virial", "o_atom_energy", "o_atom_virial"}) {
    if (graph.find(name) == nullptr) lacking += (lacking.empty() ? "" : ", ") + std::string(name);
  }
  if (!lacking.empty()) throw Unknown("it is not a whole one, it lacks " + lacking);
}

// In the words of deepmd_mask/potential/reading.py and frozen/refusals.py.
void require_mask_alone(const Graph& graph, Constants* constants) {
  const double of_frame = find_number(graph, constants, "fitting_attr/dfparam").value_or(0);
  const double of_atom = find_number(graph, constants, "fitting_attr/daparam").value_or(0);
  if (of_frame == 0 && of_atom == 1) return;
  throw Unknown("it has " + text_of(of_atom) + " atomic and " + text_of(of_frame) +
                " frame parameters; a model with se_a_mask has the mask as its only one, "
                "numb_aparam 1. Use dp test, or DeepPot of DeePMD-kit, for other models");
}

void require_energies(const Graph& graph, const Constants& constants) {
  std::string_view descriptor;
  for (const Node& node : graph.nodes()) {
    if (node.op.substr(0, 7) != "Descrpt") continue;
    if (!descriptor.empty() && descriptor != node.op) throw Unknown("it has a hybrid descriptor");
    descriptor = node.op;
  }
  const Node* kind = graph.find("model_attr/model_type");
  if (kind == nullptr || constants.text(*kind) != "ener") {
    throw Unknown("it is not an energy model");
  }
  if (graph.find("spin_attr/ntypes_spin")) throw Unknown("it has spins");
  if (graph.find("modifier_attr/type")) throw Unknown("it has a data modifier");
}

// What later code relies on: no product of sizes overflows.
void require_plausible(const Operators& operators, const std::vector<std::string>& type_map) {
  const int64_t ntypes = operators.ntypes();
  if (ntypes < 1 || ntypes > kMostTypesOfFile) {
    throw Damaged("it has " + std::to_string(ntypes) + " types");
  }
  int64_t slots = 0;
  for (int64_t bound : operators.sel) {
    slots += bound;
    if (bound < 0 || slots > kMostSlots) throw Damaged("its sel is too large or negative");
  }
  if (slots == 0) throw Damaged("its sel has no atoms");
  if (static_cast<double>(slots) != operators.n) {
    throw Damaged("its sum of sel is " + std::to_string(slots) + ", but " + text_of(operators.n) +
                  " in its operators");
  }
  if (!type_map.empty() && static_cast<int64_t>(type_map.size()) != ntypes) {
    throw Damaged("its sel has " + std::to_string(ntypes) + " types, its type map " +
                  std::to_string(type_map.size()));
  }
  const NetShape &embedding = operators.embedding.shape, &fitting = operators.fitting.shape;
  if (embedding.neuron.empty()) throw Damaged("its embedding nets have no layer");
  for (const NetShape* shape : {&embedding, &fitting}) {
    for (int64_t width : shape->neuron) {
      if (width < 1 || width > kWidest) {
        throw Damaged("a layer of its nets is " + std::to_string(width) + " wide");
      }
    }
  }
  if (operators.M2 < 1 || operators.M2 > embedding.neuron.back()) {
    throw Damaged("its axis_neuron is " + std::to_string(operators.M2));
  }
}

// Reads a model of nets in T.
template <typename T>
class Reader {
 public:
  Reader(const Graph& graph, Constants* constants, const Operators& operators)
      : graph_(graph), constants_(constants), operators_(operators) {}

  Model<T> read() {
    const NetsOfOperator &embedding = operators_.embedding, &fitting = operators_.fitting;
    model_.n = operators_.n;
    model_.M2 = operators_.M2;
    model_.net = operators_.net;
    model_.embedding = embedding.shape;
    model_.fitting = fitting.shape;
    model_.bias.resize(operators_.ntypes());
    model_.parameters = parameters(embedding.parameters, model_.embedding_nets().sizes());
    model_.fitting_parameters = parameters(fitting.parameters, model_.fitting_nets().sizes());
    if (!operators_.table.empty()) model_.table = table();
    read_bias();
    model_.min_distance = find_number(graph_, constants_, "train_attr/min_nbor_dist");
    return std::move(model_);
  }

 private:
  // Only the last step adds F; nets and tables are made of constants alone.
  Formula of_constants() { return {graph_, constants_, operators_.ntypes(), nullptr}; }

  std::vector<Aligned<T>> parameters(const std::vector<Input>& inputs,
                                     const std::vector<int64_t>& sizes) {
    std::vector<Aligned<T>> all;
    for (size_t p = 0; p < inputs.size(); ++p) {
      const Affine found = of_constants().evaluate(inputs[p]);
      const int64_t size = sizes[p % sizes.size()];
      if (static_cast<int64_t>(found.b.size()) != size || !found.a.empty()) {
        throw Damaged("its variable " + shown(inputs[p].node) + " has " +
                      std::to_string(found.b.size()) + " numbers, not " + std::to_string(size));
      }
      all.emplace_back(found.b.begin(), found.b.end());
    }
    return all;
  }

  SeriesArrays<T> table() {
    const Affine panels = of_constants().evaluate(operators_.table[1]);
    const Affine C = of_constants().evaluate(operators_.table[2]);
    SeriesArrays<T> table;
    for (double offset : of_constants().integers(operators_.table[0])) {
      const bool is_offset = 0 <= offset && offset <= static_cast<double>(panels.b.size());
      if (!is_offset) throw Damaged("its table has an offset of " + text_of(offset));
      table.first.push_back(static_cast<int64_t>(offset));
    }
    table.panels = panels.b;
    table.C.assign(C.b.begin(), C.b.end());
    return table;
  }

  // The bias, and what scales F, which goes into the last layers.
  void read_bias() {
    const auto in_vacuum = [this](const Node& energies) { return energies_of_zeros(energies); };
    Formula formula(graph_, constants_, operators_.ntypes(), in_vacuum);
    const Affine found = formula.evaluate(operators_.energies);
    const bool has_F = !found.a.empty();
    if (found.b.size() != model_.bias.size() || has_F == operators_.is_whole) {
      throw Unknown("its energies are not those of its fitting nets and a bias of each type");
    }
    model_.bias = found.b;
    if (!has_F || std::all_of(found.a.begin(), found.a.end(), [](double a) { return a == 1; })) {
      return;
    }
    const size_t of_net = model_.fitting_nets().sizes().size();
    for (size_t p = 0; p < model_.fitting_parameters.size(); ++p) {
      if (p % of_net < of_net - 2) continue;  // matrix and bias of the last layer end a net's list
      const T factor = static_cast<T>(found.a.at(p / of_net));
      for (T& number : model_.fitting_parameters[p]) number *= factor;
    }
  }

  // F(0) of each type, one after the other, since D may be long.
  std::vector<double> energies_of_zeros(const Node& node) {
    const NetsOfOperator nets = fitting_of(node);
    if (nets.is_single != operators_.fitting.is_single) {
      throw Damaged("the operators of its fitting nets differ in precision");
    }
    Model<T> vacuum = model_;  // of the same shape, as the operators agree
    vacuum.table.reset();
    vacuum.fitting_parameters = parameters(nets.parameters, model_.fitting_nets().sizes());
    const FittingNets<T> fitting = vacuum.fitting_nets();
    const int64_t ntypes = operators_.ntypes();
    const size_t wanted = fitting.sizes().size() * ntypes;
    if (fitting.parameters.size() != wanted) throw Damaged("it lacks fitting nets");
    OneThread cpu;
    const std::vector<T> D(fitting.ninputs, T(0));
    std::vector<T> A(fitting.ninputs);
    std::vector<double> energies;
    for (int64_t t = 0; t < ntypes; ++t) {
      std::vector<int64_t> type_first(ntypes + 1, 0);
      std::fill(type_first.begin() + t + 1, type_first.end(), 1);
      const Fitting<T> atom{fitting, type_first.data(), D.data()};
      std::vector<T> z(atom.z_size());
      T e;
      dpmask::energies(atom, &e, A.data(), z.data(), cpu);
      energies.push_back(e);
    }
    return energies;
  }

  const Graph& graph_;
  Constants* constants_;
  const Operators& operators_;
  Model<T> model_;
};

template <typename T>
AnyModel checked(Model<T> model) {
  model.check();
  return std::make_shared<const Model<T>>(std::move(model));
}

ModelFile read_graph(const Graph& graph, size_t file_size) {
  Constants constants(file_size);
  require_known(graph);
  require_whole(graph);
  require_mask_alone(graph, &constants);
  require_energies(graph, constants);
  const Operators operators = find_operators(graph);
  ModelFile file{{}, read_type_map(graph, constants), operators.sel};
  require_plausible(operators, file.type_map);
  if (operators.embedding.is_single && operators.fitting.is_single) {
    file.model = checked(Reader<float>(graph, &constants, operators).read());
  } else {
    file.model = checked(Reader<double>(graph, &constants, operators).read());
  }
  return file;
}

// Reads what is there; a file may say of its size what it likes.
std::string bytes_of(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"),
                                                             std::fclose);
  struct stat status;
  if (!file || fstat(fileno(file.get()), &status) != 0) {
    const std::string reason =
        errno == ENOENT ? "there is no such model; dp freeze makes one" : std::strerror(errno);
    throw ModelFileError(path + ": " + reason);
  }
  if (!S_ISREG(status.st_mode)) throw ModelFileError(path + ": it is no file");
  std::string bytes;
  char part[1 << 16];
  for (size_t count; (count = std::fread(part, 1, sizeof part, file.get())) > 0;) {
    bytes.append(part, count);
    if (bytes.size() >= kLargestFile) throw ModelFileError(path + ": it is too large for a model");
  }
  if (std::ferror(file.get())) throw ModelFileError(path + ": " + std::strerror(errno));
  return bytes;
}

}  // namespace

ModelFile read_model(std::string_view bytes, const std::string& path) {
  std::optional<Graph> graph;
  try {
    graph.emplace(bytes);
    const std::vector<Node>& nodes = graph->nodes();
    const auto is_output = [](const Node& node) { return node.name.substr(0, 2) == "o_"; };
    if (std::none_of(nodes.begin(), nodes.end(), is_output)) throw Damaged("it has no output");
  } catch (const Damaged& error) {
    throw ModelFileError(path +
                         " is not a frozen model of DeePMD-kit's TensorFlow backend (a .pb file), "
                         "or not a whole one (" +
                         error.what() +
                         "); dp freeze makes one, and dp convert-from pbtxt from text");
  }
  try {
    return read_graph(*graph, bytes.size());
  } catch (const Damaged& error) {
    throw ModelFileError(path + " is damaged: " + error.what());
  } catch (const std::invalid_argument& error) {  // of what a model is made of
    throw ModelFileError(path + " is damaged: " + shown(error.what(), 200));
  } catch (const Unknown& error) {
    throw ModelFileError("model " + path + " cannot be evaluated: " + error.what());
  }
}

ModelFile read_model_file(const std::string& path) { return read_model(bytes_of(path), path); }

}  // namespace dpmask
