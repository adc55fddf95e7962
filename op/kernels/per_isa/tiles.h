// SPDX-License-Identifier: LGPL-3.0-or-later
// The pairs of a unit, tile by tile. In a namespace of its instruction set, for the reason given in
// direct_units.cc.
#pragma once

#include <Eigen/Core>
#include <optional>
#include <type_traits>

#include "op/kernels/embedding.h"
#include "op/kernels/pair_row.h"
#include "op/kernels/pairs.h"
#include "op/kernels/per_isa/embedding_net.h"
#include "op/shared/environment_row.h"

namespace dpmask::DPMASK_ISA {

constexpr int64_t kTile = 64;  // pairs; a layer of 128 float64 is then 64 KiB, which L2 holds

struct Tile {
  int64_t size;
  int64_t i[kTile], j[kTile];  // rows of RealAtoms
  EnvironmentRow row[kTile];
};

// Calls body(i, j), rows of RealAtoms, for every pair of the unit that is the net's, centre after
// centre.
template <typename T, typename Body>
void for_each_pair(const Embedding<T>& embedding, const Pairs& pairs, int64_t unit, int64_t net,
                   const Body& body) {
  const RealAtoms& atoms = embedding.atoms;
  const int32_t* net_of = embedding.nets.net.data();
  for (int64_t i = pairs.unit_first[unit]; i < pairs.unit_first[unit + 1]; ++i) {
    for (int64_t t = 0; t < atoms.ntypes; ++t) {
      if (net_of[pairs.type[i] * atoms.ntypes + t] != net) continue;
      const int64_t group = t * atoms.nframes + pairs.frame[i];
      for (int64_t j = atoms.first[group]; j < atoms.first[group + 1]; ++j) {
        if (j != i) body(i, j);
      }
    }
  }
}

// Calls body(tile) for tiles that together hold every pair of the unit that is one net's once.
template <typename T, typename Body>
void for_each_tile(const Embedding<T>& embedding, const Pairs& pairs, int64_t unit, int64_t net,
                   const Body& body) {
  Tile tile;
  tile.size = 0;
  for_each_pair(embedding, pairs, unit, net, [&](int64_t i, int64_t j) {
    tile.i[tile.size] = i;
    tile.j[tile.size] = j;
    tile.row[tile.size] = row_of_pair(embedding.atoms, embedding.coord, i, j);
    if (++tile.size == kTile) {
      body(tile);
      tile.size = 0;
    }
  });
  if (tile.size > 0) body(tile);
}

// The net for the calling thread, which keeps it, since allocating one costs as much as a few
// tiles. The first layer's input is `s` of the result.
template <typename T>
NetOnTile<T>& net_on_tile(const EmbeddingNets<T>& nets) {
  static thread_local Eigen::Array<double, Eigen::Dynamic, 1> shape;
  static thread_local std::optional<NetOnTile<T>> net;
  const int64_t nlayers = nets.nlayers();
  const auto number = [&](int64_t k) {
    if (k < nlayers) return static_cast<double>(nets.neuron[k]);
    if (k == nlayers) return static_cast<double>(nets.resnet_dt);
    return k == nlayers + 1 ? static_cast<double>(nets.activation) : nets.threshold;
  };
  bool is_same = shape.size() == nlayers + 3;
  for (int64_t k = 0; is_same && k < nlayers + 3; ++k) is_same = shape[k] == number(k);
  if (!is_same) {
    shape.resize(0);  // should memory run out
    net.emplace(nets, kTile);
    shape.resize(nlayers + 3);
    for (int64_t k = 0; k < nlayers + 3; ++k) shape[k] = number(k);
  }
  return *net;
}

// The blocks [4, M1] of an array shaped like X that belong to `count` centres, as 4 * count rows.
template <typename T>
auto blocks(T* X, int64_t first, int64_t count, int64_t M1) {
  using Rows = Matrix<std::remove_const_t<T>>;
  return Eigen::Map<std::conditional_t<std::is_const_v<T>, const Rows, Rows>>(X + 4 * M1 * first,
                                                                              4 * count, M1);
}

}  // namespace dpmask::DPMASK_ISA
