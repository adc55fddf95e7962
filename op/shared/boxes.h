// SPDX-License-Identifier: LGPL-3.0-or-later
// Boxes, of which se_a_mask knows nothing: refused, unless the user says that they mean nothing.
#pragma once

#include <cstdlib>
#include <string>

namespace dpmask {

// DeePMD-kit tells periodic input by the size of the mesh alone: 6, or 7 where each frame has types
// of its own. 0 and 1 are their counterparts without a box; more is a neighbour list, whose host
// hands over periodic images as ghosts.
inline bool is_periodic(int mesh_size) { return mesh_size == 6 || mesh_size == 7; }

// Why periodic input is refused; empty if the environment allows it.
inline std::string reason_against_box() {
  const char* found = std::getenv("DP_MASK_IGNORE_BOX");
  const std::string wish = found ? found : "";
  if (wish == "1") return "";
  if (!wish.empty() && wish != "0") {
    return "DP_MASK_IGNORE_BOX is \"" + wish + "\"; it can be 1, to ignore boxes, or 0";
  }
  return "the input is periodic, it has a box, and se_a_mask knows no periodic images. Hand over "
         "no "
         "box: an empty file nopbc in the system's folder, atoms.pbc = False in ASE, cells=None in "
         "DeepPot.eval, cell NULL in C. If the atoms are a molecule that the box does not cut, so "
         "that it means nothing, set the environment variable DP_MASK_IGNORE_BOX to 1";
}

}  // namespace dpmask
