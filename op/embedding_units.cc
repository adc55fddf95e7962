// SPDX-License-Identifier: LGPL-3.0-or-later
// The fused kernels: tiles of pairs go through environment row, net, contraction and reverse while
// they are in cache; no array of [pairs, M1] exists. This file is compiled once for each
// instruction set. The linker merges templates of the same name, and would so put a body built for
// AVX-512 into the baseline: hence Eigen and namespace of each set are renamed, and no container
// of the standard library is grown here but of types in that namespace (tests/test_build.py looks
// for wide registers elsewhere).
#include "embedding_units.h"

#include <optional>

#include "embedding_net.h"
#include "environment.h"
#include "instruction_set.h"

namespace dpmask {
namespace DPMASK_ISA {
namespace {

constexpr int64_t kTile = 64;  // pairs; a layer of 128 float64 is then 64 KiB, which L2 holds

struct Tile {
  int64_t net;
  int64_t size = 0;
  int64_t i[kTile], j[kTile];  // rows of RealAtoms
  EnvironmentRow row[kTile];
};

// What a thread keeps between units, since allocating it costs as much as a few tiles.
template <typename T>
struct Workspace {
  Eigen::Array<int64_t, Eigen::Dynamic, 1> shape;
  std::optional<NetOnTile<T>> net;
  Tile tile;
};

template <typename T>
Workspace<T>& workspace_for(const EmbeddingNets<T>& nets) {
  static thread_local Workspace<T> workspace;
  Eigen::Array<int64_t, Eigen::Dynamic, 1> shape(nets.nlayers() + 2);
  for (int64_t layer = 0; layer < nets.nlayers(); ++layer) shape[layer] = nets.neuron[layer];
  shape[nets.nlayers()] = nets.resnet_dt;
  shape[nets.nlayers() + 1] = static_cast<int64_t>(nets.activation);
  const bool same = shape.size() == workspace.shape.size() && (shape == workspace.shape).all();
  if (!same || nets.activation == Activation::silut) {  // silut has a threshold, too
    workspace.net.emplace(nets, kTile);
    workspace.shape = shape;
  }
  return workspace;
}

// Calls body(tile, net) for tiles that together hold every pair of the unit once; net.s is set.
template <typename T, typename Body>
void for_each_tile(const Embedding<T>& embedding, const Pairs& pairs, int64_t unit, Body&& body) {
  const RealAtoms& atoms = embedding.atoms;
  const EmbeddingNets<T>& nets = embedding.nets;
  Workspace<T>& workspace = workspace_for(nets);
  NetOnTile<T>& net = *workspace.net;
  Tile& tile = workspace.tile;
  const int64_t nnets = static_cast<int64_t>(nets.parameters.size()) / net.nparameters();
  const auto flush = [&] {
    if (tile.size == 0) return;
    for (int64_t p = 0; p < tile.size; ++p) net.s(p, 0) = static_cast<T>(tile.row[p].s);
    body(tile, net);
    tile.size = 0;
  };
  tile.size = 0;
  for (tile.net = 0; tile.net < nnets; ++tile.net) {
    for (int64_t i = pairs.unit_first[unit]; i < pairs.unit_first[unit + 1]; ++i) {
      for (int64_t t = 0; t < atoms.ntypes; ++t) {
        if (nets.net[pairs.type[i] * atoms.ntypes + t] != tile.net) continue;
        const int64_t group = t * atoms.nframes + pairs.frame[i];
        for (int64_t j = atoms.first[group]; j < atoms.first[group + 1]; ++j) {
          if (j == i) continue;
          tile.i[tile.size] = i;
          tile.j[tile.size] = j;
          tile.row[tile.size] =
              environment_row(embedding.coord + 3 * atoms.slot[i],
                              embedding.coord + 3 * atoms.slot[j], atoms.weight[j]);
          if (++tile.size == kTile) flush();
        }
      }
    }
    flush();
  }
}

// X-like arrays [size, 4, M1]: the block of one centre.
template <typename T>
auto block(T* X, int64_t i, int64_t M1) {
  using Block = Eigen::Matrix<std::remove_const_t<T>, 4, Eigen::Dynamic, Eigen::RowMajor>;
  return Eigen::Map<std::conditional_t<std::is_const_v<T>, const Block, Block>>(X + 4 * M1 * i, 4,
                                                                                M1);
}

template <typename T>
void embed(const Embedding<T>& embedding, const Pairs& pairs, int64_t unit, T* X) {
  const int64_t M1 = embedding.nets.neuron.back();
  const int64_t first = pairs.unit_first[unit];
  const int64_t count = pairs.unit_first[unit + 1] - first;
  Eigen::Map<Matrix<T>> X_unit(X + 4 * M1 * first, 4 * count, M1);
  X_unit.setZero();
  for_each_tile(embedding, pairs, unit, [&](const Tile& tile, NetOnTile<T>& net) {
    net.template forward<false, 0>(tile.size,
                                   &embedding.nets.parameters[tile.net * net.nparameters()]);
    for (int64_t p = 0; p < tile.size; ++p) {
      auto X_i = block(X, tile.i[p], M1);
      for (int k = 0; k < 4; ++k) {
        X_i.row(k) += static_cast<T>(tile.row[p].R[k]) * net.G().row(p);
      }
    }
  });
  X_unit /= static_cast<T>(embedding.n);
}

template <typename T>
void embed_grad(const Embedding<T>& embedding, const Pairs& pairs, int64_t unit, const T* dX,
                const std::vector<T*>& gradient) {
  const int64_t M1 = embedding.nets.neuron.back();
  for_each_tile(embedding, pairs, unit, [&](const Tile& tile, NetOnTile<T>& net) {
    const int64_t first = tile.net * net.nparameters();
    net.template forward<false, 1>(tile.size, &embedding.nets.parameters[first]);
    for (int64_t p = 0; p < tile.size; ++p) {
      const auto B_i = block(dX, tile.i[p], M1);
      net.gG.row(p).setZero();
      for (int k = 0; k < 4; ++k) {
        net.gG.row(p) += static_cast<T>(tile.row[p].R[k] / embedding.n) * B_i.row(k);
      }
    }
    net.template reverse<false>(tile.size, &embedding.nets.parameters[first], &gradient[first]);
  });
}

template <typename T>
void force(const Embedding<T>& embedding, const Pairs& pairs, int64_t unit, const T* A,
           double* dr) {
  const int64_t M1 = embedding.nets.neuron.back();
  for (int64_t i = pairs.unit_first[unit]; i < pairs.unit_first[unit + 1]; ++i) {
    double* dr_i = dr + 3 * pairs.pair_first[i];
    for (int64_t a = 0; a < 3 * pairs.frame_size[pairs.frame[i]]; ++a) dr_i[a] = 0;
  }
  for_each_tile(embedding, pairs, unit, [&](const Tile& tile, NetOnTile<T>& net) {
    net.template forward<true, 1>(tile.size,
                                  &embedding.nets.parameters[tile.net * net.nparameters()]);
    for (int64_t p = 0; p < tile.size; ++p) {
      const auto A_i = block(A, tile.i[p], M1);
      const EnvironmentRow& row = tile.row[p];
      double dR[4];
      double ds = 0;
      for (int k = 0; k < 4; ++k) {
        dR[k] = A_i.row(k).dot(net.G().row(p)) / embedding.n;
        ds += row.R[k] * A_i.row(k).dot(net.dG().row(p)) / embedding.n;
      }
      environment_reverse(row, dR, ds,
                          dr + 3 * (pairs.pair_first[tile.i[p]] + pairs.local[tile.j[p]]));
    }
  });
}

template <typename T>
void force_grad(const Embedding<T>& embedding, const Pairs& pairs, int64_t unit, const T* A,
                const ForceCotangents& cotangents, T* dA, const std::vector<T*>& gradient) {
  const int64_t M1 = embedding.nets.neuron.back();
  const int64_t first_row = pairs.unit_first[unit];
  const int64_t count = pairs.unit_first[unit + 1] - first_row;
  Eigen::Map<Matrix<T>> dA_unit(dA + 4 * M1 * first_row, 4 * count, M1);
  dA_unit.setZero();
  for_each_tile(embedding, pairs, unit, [&](const Tile& tile, NetOnTile<T>& net) {
    const int64_t first = tile.net * net.nparameters();
    net.template forward<true, 2>(tile.size, &embedding.nets.parameters[first]);
    for (int64_t p = 0; p < tile.size; ++p) {
      const EnvironmentRow& row = tile.row[p];
      double u[3], tR[4];
      pair_cotangent(embedding.atoms, pairs, cotangents, tile.i[p], tile.j[p], row.r, u);
      const double ts = environment_tangent(row, u, tR);
      const auto A_i = block(A, tile.i[p], M1);
      auto dA_i = block(dA, tile.i[p], M1);
      net.gG.row(p).setZero();
      net.gdG.row(p).setZero();
      for (int k = 0; k < 4; ++k) {
        dA_i.row(k) += static_cast<T>(tR[k]) * net.G().row(p) +
                       static_cast<T>(row.R[k] * ts) * net.dG().row(p);
        net.gG.row(p) += static_cast<T>(tR[k] / embedding.n) * A_i.row(k);
        net.gdG.row(p) += static_cast<T>(row.R[k] * ts / embedding.n) * A_i.row(k);
      }
    }
    net.template reverse<true>(tile.size, &embedding.nets.parameters[first], &gradient[first]);
  });
  dA_unit /= static_cast<T>(embedding.n);
}

}  // namespace
}  // namespace DPMASK_ISA

template <typename T>
EmbeddingUnits<T> DPMASK_OF_THIS_SET(embedding_units)() {
  return {DPMASK_ISA::embed<T>, DPMASK_ISA::embed_grad<T>, DPMASK_ISA::force<T>,
          DPMASK_ISA::force_grad<T>};
}
template EmbeddingUnits<float> DPMASK_OF_THIS_SET(embedding_units)<float>();
template EmbeddingUnits<double> DPMASK_OF_THIS_SET(embedding_units)<double>();

}  // namespace dpmask
