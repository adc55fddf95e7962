// SPDX-License-Identifier: LGPL-3.0-or-later
// DeePMD-kit's names of activation functions.
#pragma once

#include <string>
#include <utility>

#include "op/shared/activation.h"

namespace dpmask {

// The activation of a name and, for "silut" or "silut:3.5", its threshold (3 where none is given).
// Upper and lower case are alike. Throws std::invalid_argument for an unknown name.
std::pair<Activation, double> activation_named(const std::string& name);

}  // namespace dpmask
