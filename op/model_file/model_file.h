// SPDX-License-Identifier: LGPL-3.0-or-later
// Frozen models of this package, the .pb files that dp freeze and dp compress write.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "op/potential/model.h"

namespace dpmask {

// A file that cannot be read, is no model, is damaged, or is a model that cannot be evaluated here.
// what() names the file.
struct ModelFileError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct ModelFile {
  AnyModel model;                     // in float32 if all its nets are, otherwise in float64
  std::vector<std::string> type_map;  // empty if the file does not tell it
  std::vector<int64_t> sel;           // [ntypes]; the most atoms of each type in training
};

// Throws ModelFileError. Takes no more memory than a few times the size of the file.
ModelFile read_model_file(const std::string& path);

// The same of the bytes of a file, of that name in messages.
ModelFile read_model(std::string_view bytes, const std::string& path);

}  // namespace dpmask
