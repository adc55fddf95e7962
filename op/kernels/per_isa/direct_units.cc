// SPDX-License-Identifier: LGPL-3.0-or-later
// The nets that have no series: tiles of pairs go through environment row, net, contraction and
// reverse while they are in cache; no array of [pairs, M1] exists. This file and series_units.cc
// are compiled once for each instruction set. The linker merges templates of the same name, and
// would so put a body built for AVX-512 into the baseline: hence Eigen and namespace of each set
// are renamed, and no container of the standard library is grown here but of types in that
// namespace (tests/test_build.py looks for wide registers elsewhere).
#include "op/kernels/direct_units.h"

#include "op/kernels/instruction_set.h"
#include "op/kernels/per_isa/tiles.h"

namespace dpmask {
namespace DPMASK_ISA {
namespace {

// Calls body(tile, net, first) for all tiles of nets without a series; first is the place of the
// net's parameters in the list of all, and net.s is set.
template <typename T, typename Body>
void for_each_direct_tile(const Embedding<T>& embedding, const Pairs& pairs, int64_t unit,
                          Body&& body) {
  for (int64_t k = 0; k < embedding.series.nnets; ++k) {
    if (embedding.series.has(k)) continue;
    for_each_tile(embedding, pairs, unit, k, [&](const Tile& tile) {
      NetOnTile<T>& net = net_on_tile(embedding.nets);
      for (int64_t p = 0; p < tile.size; ++p) net.s(p, 0) = static_cast<T>(tile.row[p].s);
      body(tile, net, k * embedding.nets.nparameters());
    });
  }
}

template <typename T>
void embed(const Embedding<T>& embedding, const Pairs& pairs, int64_t unit, T* X) {
  const int64_t M1 = embedding.nets.neuron.back();
  const auto body = [&](const Tile& tile, NetOnTile<T>& net, int64_t first) {
    net.template forward<false, 0>(tile.size, &embedding.nets.parameters[first]);
    for (int64_t p = 0; p < tile.size; ++p) {
      auto X_i = blocks(X, tile.i[p], 1, M1);
      for (int k = 0; k < 4; ++k) {
        X_i.row(k) += static_cast<T>(tile.row[p].R[k] / embedding.n) * net.G().row(p);
      }
    }
  };
  for_each_direct_tile(embedding, pairs, unit, body);
}

template <typename T>
void embed_grad(const Embedding<T>& embedding, const Pairs& pairs, int64_t unit, const T* dX,
                T* const* gradient) {
  const int64_t M1 = embedding.nets.neuron.back();
  const auto body = [&](const Tile& tile, NetOnTile<T>& net, int64_t first) {
    net.template forward<false, 1>(tile.size, &embedding.nets.parameters[first]);
    for (int64_t p = 0; p < tile.size; ++p) {
      const auto B_i = blocks(dX, tile.i[p], 1, M1);
      net.gG.row(p).setZero();
      for (int k = 0; k < 4; ++k) {
        net.gG.row(p) += static_cast<T>(tile.row[p].R[k] / embedding.n) * B_i.row(k);
      }
    }
    net.template reverse<false>(tile.size, &embedding.nets.parameters[first], gradient + first);
  };
  for_each_direct_tile(embedding, pairs, unit, body);
}

template <typename T>
void force(const Embedding<T>& embedding, const Pairs& pairs, int64_t unit, const T* A,
           const PairDerivatives& out) {
  const int64_t M1 = embedding.nets.neuron.back();
  const auto body = [&](const Tile& tile, NetOnTile<T>& net, int64_t first) {
    net.template forward<true, 1>(tile.size, &embedding.nets.parameters[first]);
    for (int64_t p = 0; p < tile.size; ++p) {
      const auto A_i = blocks(A, tile.i[p], 1, M1);
      const EnvironmentRow& row = tile.row[p];
      double dR[4];
      double ds = 0;
      for (int k = 0; k < 4; ++k) {
        dR[k] = A_i.row(k).dot(net.G().row(p)) / embedding.n;
        ds += row.R[k] * A_i.row(k).dot(net.dG().row(p)) / embedding.n;
      }
      set_derivatives(row, dR, ds, pairs.number(tile.i[p], tile.j[p]), out);
    }
  };
  for_each_direct_tile(embedding, pairs, unit, body);
}

template <typename T>
void force_grad(const Embedding<T>& embedding, const Pairs& pairs, int64_t unit, const T* A,
                const ForceCotangents& cotangents, T* dA, T* const* gradient) {
  const int64_t M1 = embedding.nets.neuron.back();
  const auto body = [&](const Tile& tile, NetOnTile<T>& net, int64_t first) {
    net.template forward<true, 2>(tile.size, &embedding.nets.parameters[first]);
    for (int64_t p = 0; p < tile.size; ++p) {
      const EnvironmentRow& row = tile.row[p];
      double u[3], tR[4];
      pair_cotangent(embedding.atoms, pairs, cotangents, tile.i[p], tile.j[p], row.r, u);
      const double ts = environment_tangent(row, u, tR);
      const auto A_i = blocks(A, tile.i[p], 1, M1);
      auto dA_i = blocks(dA, tile.i[p], 1, M1);
      net.gG.row(p).setZero();
      net.gdG.row(p).setZero();
      for (int k = 0; k < 4; ++k) {
        const T by_G = static_cast<T>(tR[k] / embedding.n);
        const T by_dG = static_cast<T>(row.R[k] * ts / embedding.n);
        dA_i.row(k) += by_G * net.G().row(p) + by_dG * net.dG().row(p);
        net.gG.row(p) += by_G * A_i.row(k);
        net.gdG.row(p) += by_dG * A_i.row(k);
      }
    }
    net.template reverse<true>(tile.size, &embedding.nets.parameters[first], gradient + first);
  };
  for_each_direct_tile(embedding, pairs, unit, body);
}

}  // namespace
}  // namespace DPMASK_ISA

template <typename T>
DirectUnits<T> DPMASK_OF_THIS_SET(direct_units)() {
  return {DPMASK_ISA::embed<T>, DPMASK_ISA::embed_grad<T>, DPMASK_ISA::force<T>,
          DPMASK_ISA::force_grad<T>};
}
template DirectUnits<float> DPMASK_OF_THIS_SET(direct_units)<float>();
template DirectUnits<double> DPMASK_OF_THIS_SET(direct_units)<double>();

}  // namespace dpmask
