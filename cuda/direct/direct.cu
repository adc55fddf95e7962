// SPDX-License-Identifier: LGPL-3.0-or-later
// The nets that have no series, one after the other: a block takes every kBlocks'th centre atom,
// whose pairs of that net go through it tile by tile.
#include "cuda/direct/direct.h"

#include <algorithm>

#include "cuda/common/net_tile.h"
#include "cuda/common/pairs.h"

namespace dpmask::cuda {
namespace {

template <typename T>
struct Tile {  // in shared memory
  int64_t j[kTile];
  EnvironmentRow row[kTile];
  T R[kTile][4], S[kTile][4];         // what G and dG are multiplied with; for embed_grad, gG is
  T by_G[kTile][4], by_dG[kTile][4];  // A_k G and A_k dG
};

enum class Job { embed, embed_grad, force, force_grad };

template <Job kJob, typename T>
struct Direct {
  DeviceEmbedding<T> e;
  Net<T> net;
  int64_t index;  // of the net
  const T* A;     // or dX
  ForceCotangents cotangents;
  T* X;  // or dA
  PairDerivatives of_pairs;
  T* scratch;  // of each block
  int64_t scratch_size;
  T* shares;  // [kBlocks, gradient]
  int64_t gradient_size;

  static constexpr bool kDerivative = kJob == Job::force || kJob == Job::force_grad;
  static constexpr bool kGradient = kJob == Job::embed_grad || kJob == Job::force_grad;
  static constexpr int kOrder = kJob == Job::embed ? 0 : kJob == Job::force_grad ? 2 : 1;

  DPMASK_KERNEL void operator()(const Block& block) const {
    const NetOnTile<T, T> on_tile(net, scratch + block.index * scratch_size);
    Tile<T>* tile = reinterpret_cast<Tile<T>*>(block.shared);
    if (kGradient) {
      T* share = shares + block.index * gradient_size;
      block.each(gradient_size, [=](int64_t k) { share[k] = 0; });
    }
    for (int64_t i = block.index; i < e.atoms.size; i += kBlocks) {
      const int64_t type = e.pairs.type[i];
      for (int64_t t = 0; t < e.atoms.ntypes; ++t) {
        if (e.net[type * e.atoms.ntypes + t] != index) continue;
        const int64_t begin = e.atoms.first[t * e.atoms.nframes + e.pairs.frame[i]];
        const int64_t count = group_size(e.atoms, t, e.pairs.frame[i]) - (t == type ? 1 : 0);
        for (int64_t first = 0; first < count; first += kTile) {
          const int64_t size = count - first < kTile ? count - first : kTile;
          fill(block, on_tile, i, begin + first, t == type, size, tile);
          run(block, on_tile, i, size, tile);
        }
      }
    }
  }

  // The pairs of centre i with `size` atoms from row `first` on, leaving out i itself.
  DPMASK_KERNEL void fill(const Block& block, const NetOnTile<T, T>& on_tile, int64_t i,
                          int64_t first, bool of_same_type, int64_t size, Tile<T>* tile) const {
    block.each(size, [=](int64_t p) {
      const int64_t j = first + p + (of_same_type && first + p >= i ? 1 : 0);
      const EnvironmentRow row = row_of_pair(e.atoms, e.coord, i, j);
      tile->j[p] = j;
      tile->row[p] = row;
      on_tile.s()[p] = static_cast<T>(row.s);
      double tR[4], ts = 0;
      if (kJob == Job::force_grad) {
        double u[3];
        pair_cotangent(e.atoms, e.pairs, cotangents, i, j, row.r, u);
        ts = environment_tangent(row, u, tR);
      }
      for (int k = 0; k < 4; ++k) {
        tile->R[p][k] = static_cast<T>((kJob == Job::force_grad ? tR[k] : row.R[k]) / e.n);
        tile->S[p][k] = static_cast<T>(row.R[k] * ts / e.n);
      }
    });
  }

  DPMASK_KERNEL void run(const Block& block, const NetOnTile<T, T>& on_tile, int64_t i,
                         int64_t size, Tile<T>* tile) const {
    on_tile.template forward<kDerivative, kOrder>(block, size);
    const int64_t M1 = e.M1;
    if (kJob == Job::embed || kJob == Job::force_grad) {
      T* X_i = X + 4 * M1 * i;
      block.each(4 * M1, [=](int64_t km) {
        const int64_t k = km / M1, m = km % M1;
        for (int64_t p = 0; p < size; ++p) {
          X_i[km] += tile->R[p][k] * on_tile.G()[p * M1 + m];
          if (kDerivative) X_i[km] += tile->S[p][k] * on_tile.dG()[p * M1 + m];
        }
      });
    }
    if (kJob == Job::embed) return;
    const T* A_i = A + 4 * M1 * i;
    if (kJob == Job::force) {
      set_dr(block, on_tile, i, size, tile);
      return;
    }
    block.each(size * M1, [=](int64_t pm) {
      const int64_t p = pm / M1, m = pm % M1;
      T gG = 0, gdG = 0;
      for (int k = 0; k < 4; ++k) {
        gG += tile->R[p][k] * A_i[k * M1 + m];
        gdG += tile->S[p][k] * A_i[k * M1 + m];
      }
      on_tile.gG()[pm] = gG;
      on_tile.gdG()[pm] = gdG;
    });
    on_tile.template reverse<kDerivative>(block, size, shares + block.index * gradient_size);
  }

  DPMASK_KERNEL void set_dr(const Block& block, const NetOnTile<T, T>& on_tile, int64_t i,
                            int64_t size, Tile<T>* tile) const {
    const int64_t M1 = e.M1;
    const T* A_i = A + 4 * M1 * i;
    block.each(size * 4, [=](int64_t pk) {
      const int64_t p = pk / 4, k = pk % 4;
      T by_G = 0, by_dG = 0;
      for (int64_t m = 0; m < M1; ++m) {
        by_G += A_i[k * M1 + m] * on_tile.G()[p * M1 + m];
        by_dG += A_i[k * M1 + m] * on_tile.dG()[p * M1 + m];
      }
      tile->by_G[p][k] = by_G;
      tile->by_dG[p][k] = by_dG;
    });
    block.each(size, [=](int64_t p) {
      const EnvironmentRow& row = tile->row[p];
      double dR[4], ds = 0;
      for (int k = 0; k < 4; ++k) {
        dR[k] = tile->by_G[p][k] / e.n;
        ds += row.R[k] * tile->by_dG[p][k] / e.n;
      }
      const int64_t pair = pair_number(e.pairs, i, e.pairs.local[tile->j[p]]);
      set_derivatives(row, dR, ds, pair, of_pairs);
    });
  }
};

// Runs a job for each net; `job` has what is the same for all.
template <Job kJob, typename T>
void for_each_net(Direct<kJob, T> job, const EmbeddingNets<T>& nets, T* workspace,
                  const std::vector<T*>& gradient, cudaStream_t stream) {
  job.scratch = workspace;
  job.scratch_size = NetOnTile<T, T>::scratch_size(nets);
  job.shares = workspace + kBlocks * job.scratch_size;
  job.gradient_size = gradient_size(nets);
  const int64_t blocks = std::min(kBlocks, job.e.atoms.size);
  for (int64_t net = 0; net < job.e.series.nnets; ++net) {
    job.net = net_of(nets, net);
    job.index = net;
    // A net with a series has no pairs here, and the gradient 0.
    const bool has_series = job.e.host.series_first[net] < job.e.host.series_first[net + 1];
    if (!has_series) launch(blocks, sizeof(Tile<T>), stream, job);
    if (!gradient.empty()) {
      std::vector<AddShares<T, T>> sums;
      append_shares(nets, job.shares, has_series ? 0 : blocks, &gradient[net * nets.nparameters()],
                    &sums);
      launch_all(sums, stream);
    }
  }
}

}  // namespace

template <typename T>
int64_t direct_workspace(const EmbeddingNets<T>& nets) {
  return kBlocks * (NetOnTile<T, T>::scratch_size(nets) + gradient_size(nets));
}
template <typename T>
void direct_embed(const DeviceEmbedding<T>& e, const EmbeddingNets<T>& nets, T* X, T* workspace,
                  cudaStream_t stream) {
  Direct<Job::embed, T> job{};
  job.e = e;
  job.X = X;
  for_each_net(job, nets, workspace, {}, stream);
}

template <typename T>
void direct_embed_grad(const DeviceEmbedding<T>& e, const EmbeddingNets<T>& nets, const T* dX,
                       const std::vector<T*>& gradient, T* workspace, cudaStream_t stream) {
  Direct<Job::embed_grad, T> job{};
  job.e = e;
  job.A = dX;
  for_each_net(job, nets, workspace, gradient, stream);
}

template <typename T>
void direct_force(const DeviceEmbedding<T>& e, const EmbeddingNets<T>& nets, const T* A,
                  const PairDerivatives& out, T* workspace, cudaStream_t stream) {
  Direct<Job::force, T> job{};
  job.e = e;
  job.A = A;
  job.of_pairs = out;
  for_each_net(job, nets, workspace, {}, stream);
}

template <typename T>
void direct_force_grad(const DeviceEmbedding<T>& e, const EmbeddingNets<T>& nets, const T* A,
                       const ForceCotangents& cotangents, T* dA, const std::vector<T*>& gradient,
                       T* workspace, cudaStream_t stream) {
  Direct<Job::force_grad, T> job{};
  job.e = e;
  job.A = A;
  job.cotangents = cotangents;
  job.X = dA;
  for_each_net(job, nets, workspace, gradient, stream);
}

#define DPMASK_INSTANTIATE(T)                                                                      \
  template int64_t direct_workspace<T>(const EmbeddingNets<T>&);                                   \
  template void direct_embed<T>(const DeviceEmbedding<T>&, const EmbeddingNets<T>&, T*, T*,        \
                                cudaStream_t);                                                     \
  template void direct_embed_grad<T>(const DeviceEmbedding<T>&, const EmbeddingNets<T>&, const T*, \
                                     const std::vector<T*>&, T*, cudaStream_t);                    \
  template void direct_force<T>(const DeviceEmbedding<T>&, const EmbeddingNets<T>&, const T*,      \
                                const PairDerivatives&, T*, cudaStream_t);                         \
  template void direct_force_grad<T>(const DeviceEmbedding<T>&, const EmbeddingNets<T>&, const T*, \
                                     const ForceCotangents&, T*, const std::vector<T*>&, T*,       \
                                     cudaStream_t)
DPMASK_INSTANTIATE(float);
DPMASK_INSTANTIATE(double);

}  // namespace dpmask::cuda
