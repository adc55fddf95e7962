// SPDX-License-Identifier: LGPL-3.0-or-later
// The potential: models, opened, which give energies and forces of molecules. Knows nothing of
// TensorFlow, nor of files.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "op/potential/model.h"

namespace dpmask {

// Molecules of one number of atoms each, in any order.
struct Frames {
  int64_t nframes;
  int64_t natoms;
  const int32_t* types;     // [nframes, natoms]; -1 or a type where the weight is 0
  const double* positions;  // [nframes, natoms, 3]; never read where the weight is 0
  const double* weights;    // [nframes, natoms], the mask, 1 for real atoms and 0 for virtual ones,
                            // with groups also between; nullptr where all are real
  const int64_t* groups = nullptr;  // [nframes, natoms]; as PaddedBatch::group, or nullptr
};

// Where the results go, in the order of the input; 0 for virtual atoms. Each may be nullptr, if it
// is not wanted.
struct Results {
  double* energy;                     // [nmodels, nframes]
  double* energies;                   // [nmodels, nframes, natoms]
  double* forces;                     // [nmodels, nframes, natoms, 3]
  double* virial;                     // [nmodels, nframes, 9]; as Forces::virial
  double* atom_virial;                // [nmodels, nframes, natoms, 9]
  double* weight_gradient = nullptr;  // [nmodels, nframes, natoms]; dE/dw of each atom, whose sum
                                      // over a group is that of the group; needs groups
};

// One model, or a committee of several that have the same types: real atoms are found once. What an
// evaluation gives depends on its frames alone.
class Potential {
 public:
  virtual ~Potential() = default;
  virtual int64_t ntypes() const = 0;
  virtual int64_t nmodels() const = 0;
  virtual int64_t threads() const = 0;  // at most so many work on an evaluation
  // May be called from several threads at once, and in forked processes. Throws AtomError as
  // find_real_atoms does, and std::invalid_argument if groups are missing.
  virtual void evaluate(const Frames& frames, const Results& results) = 0;
};

// Opens models on the CPU. `threads` is 0 for as many as this process may use. Throws
// std::invalid_argument if the models do not fit together or threads is negative.
std::unique_ptr<Potential> open_potential(const std::vector<AnyModel>& models, int64_t threads);

}  // namespace dpmask
