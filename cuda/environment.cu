// SPDX-License-Identifier: LGPL-3.0-or-later
#include "cuda/environment.h"

#include "cuda/common/pairs.h"

namespace dpmask::cuda {
namespace {

// The block's row is the centre; its threads share the neighbours.
struct EnvironmentOfRow {
  RealAtoms atoms;
  PairNumbers pairs;
  const double* coord;
  double* R;
  DPMASK_KERNEL void operator()(const Block& block) const {
    const int64_t i = block.index;
    block.each(frame_size(pairs, i), [=](int64_t local) {
      const int64_t j = row_in_frame(pairs, i, local);
      const EnvironmentRow row = i == j ? EnvironmentRow{} : row_of_pair(atoms, coord, i, j);
      for (int k = 0; k < 4; ++k) R[4 * pair_number(pairs, i, local) + k] = row.R[k];
    });
  }
};

struct ReverseOfRow {
  RealAtoms atoms;
  PairNumbers pairs;
  const double* coord;
  const double* dR;
  PairDerivatives of_pairs;
  DPMASK_KERNEL void operator()(const Block& block) const {
    const int64_t i = block.index;
    block.each(frame_size(pairs, i), [=](int64_t local) {
      const int64_t j = row_in_frame(pairs, i, local);
      const int64_t pair = pair_number(pairs, i, local);
      if (i == j) return;
      set_derivatives(row_of_pair(atoms, coord, i, j), dR + 4 * pair, 0.0, pair, of_pairs);
    });
  }
};

struct TangentOfRow {
  RealAtoms atoms;
  PairNumbers pairs;
  const double* coord;
  ForceCotangents cotangents;
  double* ddR;
  DPMASK_KERNEL void operator()(const Block& block) const {
    const int64_t i = block.index;
    block.each(frame_size(pairs, i), [=](int64_t local) {
      const int64_t j = row_in_frame(pairs, i, local);
      double* tR = ddR + 4 * pair_number(pairs, i, local);
      for (int k = 0; k < 4; ++k) tR[k] = 0;
      if (i == j) return;
      const EnvironmentRow row = row_of_pair(atoms, coord, i, j);
      double u[3];
      pair_cotangent(atoms, pairs, cotangents, i, j, row.r, u);
      environment_tangent(row, u, tR);
    });
  }
};

}  // namespace
}  // namespace dpmask::cuda

namespace dpmask {

void environment(const RealAtoms& given, const double* coord, double* R, Gpu& gpu) {
  const auto [atoms, pairs] = cuda::number_pairs(given, coord, gpu);
  cuda::launch(atoms.size, 0, gpu.stream(), cuda::EnvironmentOfRow{atoms, pairs, coord, R});
}

void environment_force(const RealAtoms& given, const double* coord, const double* dR,
                       const Forces& out, Gpu& gpu) {
  const auto [atoms, pairs] = cuda::number_pairs(given, coord, gpu);
  const PairDerivatives of_pairs = cuda::allocate_derivatives(count_pairs(given), out, gpu);
  cuda::clear_pairs(atoms, pairs, of_pairs, gpu.stream());
  cuda::launch(atoms.size, 0, gpu.stream(), cuda::ReverseOfRow{atoms, pairs, coord, dR, of_pairs});
  cuda::gather_forces(atoms, pairs, coord, of_pairs, out, gpu.stream());
  cuda::add_up_virial(atoms, pairs, out, gpu.stream());
}

void environment_force_grad(const RealAtoms& given, const double* coord,
                            const ForceCotangents& cotangents, double* ddR, Gpu& gpu) {
  const auto [atoms, pairs] = cuda::number_pairs(given, coord, gpu);
  cuda::launch(atoms.size, 0, gpu.stream(),
               cuda::TangentOfRow{atoms, pairs, coord, cotangents, ddR});
}

}  // namespace dpmask
