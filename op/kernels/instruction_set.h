// SPDX-License-Identifier: LGPL-3.0-or-later
// Which of the bodies built for several instruction sets to run.
#pragma once

#include <string>

namespace dpmask {

enum class InstructionSet { baseline, avx2, avx512 };

// The best that the machine offers, or the one that DP_MASK_ISA names.
// Throws std::invalid_argument if the machine does not offer that one.
InstructionSet chosen_instruction_set();

// Its name.
std::string instruction_set();

// In a file that is compiled once for each set: the name of its function for this one.
#define DPMASK_JOIN_(a, b) a##_##b
#define DPMASK_JOIN(a, b) DPMASK_JOIN_(a, b)
#define DPMASK_OF_THIS_SET(name) DPMASK_JOIN(name, DPMASK_ISA)

// What the function of the chosen set returns; its name may be followed by template arguments.
#ifdef DPMASK_X86
#define DPMASK_CHOOSE(name, ...)                                                    \
  (chosen_instruction_set() == InstructionSet::avx512 ? name##_avx512 __VA_ARGS__() \
   : chosen_instruction_set() == InstructionSet::avx2 ? name##_avx2 __VA_ARGS__()   \
                                                      : name##_baseline __VA_ARGS__())
#else
#define DPMASK_CHOOSE(name, ...) name##_baseline __VA_ARGS__()
#endif

}  // namespace dpmask
