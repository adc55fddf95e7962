// SPDX-License-Identifier: LGPL-3.0-or-later
// A target for libFuzzer: bytes in the place of a frozen model. Reading must give a model, or an
// error that names the file; a model that is read is opened and evaluated. README.md says how to
// compile and run it.
#include "op/model_file/model_file.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <string>
#include <variant>
#include <vector>

#include "op/potential/potential.h"

namespace {

// Tables of wide nets take longer than a reader is to be tried for.
constexpr int64_t kWidest = 16;
constexpr size_t kMostPairs = 16;

bool is_small(const dpmask::AnyModel& any) {
  return std::visit(
      [](const auto& model) {
        const std::vector<int64_t>& widths = model->embedding.neuron;
        const int64_t total = std::accumulate(widths.begin(), widths.end(), int64_t{0});
        return total <= kWidest && model->net.size() <= kMostPairs;
      },
      any);
}

// Frames of a real atom of each type, in a row, and one virtual atom.
void evaluate(const dpmask::ModelFile& file) {
  const auto potential = dpmask::open_potential({file.model}, 1);
  const int64_t ntypes = potential->ntypes(), natoms = ntypes + 1;
  std::vector<int32_t> types(natoms, -1);
  std::vector<double> positions(3 * natoms), weights(natoms, 0.0), results(25 * natoms);
  for (int64_t t = 0; t < ntypes; ++t) {
    types[t] = static_cast<int32_t>(t);
    positions[3 * t] = 1.1 * static_cast<double>(t);
    weights[t] = 1;
  }
  potential->evaluate({1, natoms, types.data(), positions.data(), weights.data()},
                      {results.data(), results.data() + natoms, results.data() + 2 * natoms,
                       results.data() + 5 * natoms, nullptr});
  const std::vector<int64_t> groups(natoms, -1);  // one, half of which is there
  for (double& weight : weights) weight /= 2;
  potential->evaluate({1, natoms, types.data(), positions.data(), weights.data(), groups.data()},
                      {results.data(), nullptr, results.data() + natoms, nullptr, nullptr,
                       results.data() + 5 * natoms});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // A copy of its own, so that the sanitizer sees what is read beyond it.
  const std::vector<char> bytes(data, data + size);
  const std::string_view all(bytes.data(), bytes.size());
  try {
    const dpmask::ModelFile file = dpmask::read_model(all, "NAME");
    if (is_small(file.model)) evaluate(file);
  } catch (const dpmask::ModelFileError& error) {
    if (std::strstr(error.what(), "NAME") == nullptr) std::abort();
  }
  return 0;
}
