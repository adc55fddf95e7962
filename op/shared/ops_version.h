// SPDX-License-Identifier: LGPL-3.0-or-later
// The version of the operators. A frozen model carries the one that it needs.
#pragma once

namespace dpmask {

// Raise this when an operator that exists changes, so that an older library would run new models
// wrongly; then treat models of lower versions as before. A new operator needs no new version: an
// older library does not know its name.
//
// 2: RealAtoms is told the size of the mesh, and so refuses boxes.
constexpr int kOpsVersion = 2;

}  // namespace dpmask
