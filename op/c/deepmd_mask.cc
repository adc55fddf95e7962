// SPDX-License-Identifier: LGPL-3.0-or-later
#pragma GCC visibility push(default)  // of these functions alone
#include "op/c/deepmd_mask.h"
#pragma GCC visibility pop

#include <algorithm>
#include <cstdio>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "op/kernels/atom_error.h"
#include "op/model_file/model_file.h"
#include "op/potential/potential.h"
#include "op/potential/sel_bound.h"

struct dpmask_potential {
  dpmask_potential(dpmask::ModelFile file, int64_t threads)
      : potential(dpmask::open_potential({std::move(file.model)}, threads)),
        type_map(std::move(file.type_map)), sel(std::move(file.sel)), sel_bound(sel, type_map) {}

  std::unique_ptr<dpmask::Potential> potential;
  std::vector<std::string> type_map;
  std::vector<int64_t> sel;
  dpmask::SelBound sel_bound;
};

namespace {

thread_local std::string last_error;

// Memory may lack for a message, too: this one takes none.
void set_error(const char* message) noexcept {
  try {
    last_error = message;
  } catch (...) {
    last_error.clear();
    last_error += "out of memory";
  }
}

constexpr char kNoMemory[] = "out of memory";

// Runs the body of a function; what it throws becomes its error. No exception may leave C++.
template <typename Result, typename Body>
Result guarded(Result of_failure, Body&& body) noexcept {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    set_error(kNoMemory);
  } catch (const std::length_error&) {  // an array larger than any memory
    set_error(kNoMemory);
  } catch (const std::exception& error) {
    set_error(error.what());
  } catch (...) {
    set_error("unknown error");
  }
  return of_failure;
}

void require(bool holds, const char* message) {
  if (!holds) throw std::invalid_argument(message);
}

// One line, whole where several threads write.
void warn(const std::string& warning) {
  if (!warning.empty()) std::fputs((warning + "\n").c_str(), stderr);
}

bool is_type(const dpmask_potential* potential, int type) {
  return 0 <= type && type < static_cast<int64_t>(potential->sel.size());
}

// What is evaluated needs 9 numbers of 8 bytes for each atom at most.
void require_sizes(int64_t nframes, int64_t natoms) {
  require(nframes >= 0 && natoms >= 0, "nframes and natoms must be 0 or more");
  int64_t bytes;
  const bool is_small = !__builtin_mul_overflow(nframes, natoms, &bytes) &&
                        !__builtin_mul_overflow(bytes, int64_t{9 * 8}, &bytes) &&
                        !__builtin_mul_overflow(nframes, int64_t{9 * 8}, &bytes);
  require(is_small, "nframes times natoms is too large");
}

}  // namespace

const char* dpmask_version(void) { return DPMASK_VERSION; }

const char* dpmask_error(void) { return last_error.c_str(); }

dpmask_potential* dpmask_open(const char* path, int threads) {
  return guarded<dpmask_potential*>(nullptr, [&] {
    require(path != nullptr, "path is NULL; give that of a frozen model");
    require(threads >= 0, "threads must be 0 or more");
    try {
      dpmask::ModelFile file = dpmask::read_model_file(path);
      return new dpmask_potential(std::move(file), threads);
    } catch (const std::bad_alloc&) {
      throw std::runtime_error(std::string(path) + ": " + kNoMemory);
    } catch (const std::length_error&) {
      throw std::runtime_error(std::string(path) + ": " + kNoMemory);
    }
  });
}

void dpmask_close(dpmask_potential* potential) { delete potential; }

int dpmask_ntypes(const dpmask_potential* potential) {
  return static_cast<int>(potential->sel.size());
}

const char* dpmask_type_name(const dpmask_potential* potential, int type) {
  const bool has_name = is_type(potential, type) && !potential->type_map.empty();
  return has_name ? potential->type_map[type].c_str() : nullptr;
}

int dpmask_type_of(const dpmask_potential* potential, const char* name) {
  const std::vector<std::string>& names = potential->type_map;
  const auto found = name == nullptr ? names.end() : std::find(names.begin(), names.end(), name);
  return found == names.end() ? -1 : static_cast<int>(found - names.begin());
}

int64_t dpmask_sel(const dpmask_potential* potential, int type) {
  return is_type(potential, type) ? potential->sel[type] : -1;
}

int dpmask_threads(const dpmask_potential* potential) {
  return static_cast<int>(potential->potential->threads());
}

int dpmask_evaluate(dpmask_potential* potential, int64_t nframes, int64_t natoms,
                    const int32_t* types, const double* positions, const double* weights,
                    double* energy, double* energies, double* forces, double* virial) {
  return dpmask_evaluate_weighted(potential, nframes, natoms, types, positions, weights, nullptr,
                                  energy, energies, forces, virial, nullptr);
}

int dpmask_evaluate_weighted(dpmask_potential* potential, int64_t nframes, int64_t natoms,
                             const int32_t* types, const double* positions, const double* weights,
                             const int64_t* groups, double* energy, double* energies,
                             double* forces, double* virial, double* weight_gradient) {
  return guarded(-1, [&] {
    require(potential != nullptr, "potential is NULL; dpmask_open makes one");
    require_sizes(nframes, natoms);
    const bool is_empty = nframes == 0 || natoms == 0;
    require(is_empty || (types != nullptr && positions != nullptr),
            "types and positions must not be NULL");
    const dpmask::Frames frames = {nframes, natoms, types, positions, weights, groups};
    try {
      potential->potential->evaluate(frames,
                                     {energy, energies, forces, virial, nullptr, weight_gradient});
    } catch (const dpmask::AtomError& error) {
      throw std::invalid_argument(error.fault.message(nframes > 1));
    }
    warn(potential->sel_bound.warning(frames));
    return 0;
  });
}
