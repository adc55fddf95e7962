// SPDX-License-Identifier: LGPL-3.0-or-later
#include "op/kernels/instruction_set.h"

#include <cstdlib>
#include <stdexcept>

namespace dpmask {
namespace {

constexpr const char* kNames[] = {"baseline", "avx2", "avx512"};

InstructionSet best_instruction_set() {
#ifdef DPMASK_X86
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw")) {
    return InstructionSet::avx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return InstructionSet::avx2;
#endif
  return InstructionSet::baseline;
}

}  // namespace

InstructionSet chosen_instruction_set() {
  const InstructionSet best = best_instruction_set();
  const char* wish = std::getenv("DP_MASK_ISA");
  if (wish == nullptr) return best;
  for (int isa = 0; isa <= static_cast<int>(best); ++isa) {
    if (std::string(wish) == kNames[isa]) return static_cast<InstructionSet>(isa);
  }
  throw std::invalid_argument(std::string("DP_MASK_ISA is \"") + wish +
                              "\"; this machine offers up to \"" + kNames[static_cast<int>(best)] +
                              "\" of \"baseline\", \"avx2\", \"avx512\"");
}

std::string instruction_set() { return kNames[static_cast<int>(chosen_instruction_set())]; }

}  // namespace dpmask
