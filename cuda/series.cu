// SPDX-License-Identifier: LGPL-3.0-or-later
// The nets that have a series. A block has a centre atom, or a panel and some centres, and takes
// the neighbours some at a time through shared memory, sorted by panel. Of each pair,
//   v_k = T_k(x_ij), s_k = dT_k/ds, and the numbers R and S [4] with which these are multiplied:
//   for X,  R = R_ij / n, S = 0;   for its tangent along u_ij,  R = dR_ij/dt / n, S = R_ij ds/dt /
//   n.
#include "../op/series.h"
#include "direct.h"
#include "pair_rows.h"

namespace dpmask::cuda {
namespace {

constexpr int kChunk = 64;
constexpr int kNoPanel = INT32_MAX;
constexpr int64_t kUnits = 32;  // of centres, whose gradients are added up apart

template <typename T>
struct Chunk {  // in shared memory
  T value[kChunk][kTerms], slope[kChunk][kTerms];
  T R[kChunk][4], S[kChunk][4];
  int32_t unsorted[kChunk], panel[kChunk];  // kNoPanel where there is no pair with a series
  int32_t local[kChunk];
};

// v and s of a pair, gone on beyond the panels as straight lines: T_k' = k U_{k-1}.
template <typename T>
DPMASK_KERNEL void evaluate(const Series<T>& series, int64_t panel, double s, T* value, T* slope) {
  const T x = static_cast<T>((s - series.middle(panel)) / series.half_width(panel));
  const T within = x < -1 ? T(-1) : x > 1 ? T(1) : x;
  const T by_s = static_cast<T>(1 / series.half_width(panel));
  T first[2] = {T(1), within}, second[2] = {T(0), T(1)};  // T_k, T_{k+1}; U_{k-1}, U_k
  for (int k = 0; k < kTerms; ++k) {
    const T derivative = static_cast<T>(k) * second[0];
    value[k] = first[0] + (x - within) * derivative;
    slope[k] = derivative * by_s;
    const T next_first = 2 * within * first[1] - first[0];
    const T next_second = 2 * within * second[1] - second[0];
    first[0] = first[1];
    first[1] = next_first;
    second[0] = second[1];
    second[1] = next_second;
  }
}

// The panel of a pair, which must be of `only` unless that is negative.
template <typename T>
DPMASK_KERNEL int32_t panel_of_pair(const Embedding<T>& e, int64_t i, int64_t local, int64_t only) {
  if (local >= frame_size(e.pairs, i)) return kNoPanel;
  const int64_t j = row_in_frame(e.pairs, i, local);
  const int32_t net = e.net[e.pairs.type[i] * e.atoms.ntypes + e.pairs.type[j]];
  if (i == j || net < 0 || !e.series.has(net)) return kNoPanel;
  if (only >= 0 && (only < e.series.first[net] || only >= e.series.first[net + 1])) return kNoPanel;
  const int64_t panel = panel_of(e.series, net, row_of(e.atoms, e.coord, i, j).s);
  return only >= 0 && panel != only ? kNoPanel : static_cast<int32_t>(panel);
}

// Sorts the pairs of centre i with the atoms from `first` on by panel.
template <typename T>
DPMASK_KERNEL void sort_chunk(const Block& block, const Embedding<T>& e, int64_t i, int64_t first,
                              int64_t only, Chunk<T>* chunk) {
  block.each(kChunk, [=](int64_t p) { chunk->unsorted[p] = panel_of_pair(e, i, first + p, only); });
  block.each(kChunk, [=](int64_t p) {
    const int32_t panel = chunk->unsorted[p];
    int place = 0;
    for (int q = 0; q < kChunk; ++q) {
      place += chunk->unsorted[q] < panel || (chunk->unsorted[q] == panel && q < p);
    }
    chunk->panel[place] = panel;
    chunk->local[place] = static_cast<int32_t>(first + p);
  });
}

// Which R and S a kernel multiplies with.
template <bool kTangent>
struct Terms {
  ForceCotangents cotangents;  // of the tangent
};

// Fills v, s, R and S of a sorted chunk.
template <bool kTangent, typename T>
DPMASK_KERNEL void fill_chunk(const Block& block, const Embedding<T>& e,
                              const Terms<kTangent>& terms, int64_t i, Chunk<T>* chunk) {
  block.each(kChunk, [=](int64_t p) {
    if (chunk->panel[p] == kNoPanel) return;
    const int64_t j = row_in_frame(e.pairs, i, chunk->local[p]);
    const EnvironmentRow row = row_of(e.atoms, e.coord, i, j);
    evaluate(e.series, chunk->panel[p], row.s, chunk->value[p], chunk->slope[p]);
    double tR[4], ts = 0;
    if (kTangent) {
      double u[3];
      pair_cotangent(e.atoms, e.pairs, terms.cotangents, i, j, row.r, u);
      ts = environment_tangent(row, u, tR);
    }
    for (int k = 0; k < 4; ++k) {
      chunk->R[p][k] = static_cast<T>((kTangent ? tR[k] : row.R[k]) / e.n);
      chunk->S[p][k] = static_cast<T>(kTangent ? row.R[k] * ts / e.n : 0.0);
    }
  });
}

// X_i = sum_j (R G + S dG/ds), with G = v C and dG/ds = s C.
template <bool kTangent, typename T>
struct AddUp {
  Embedding<T> e;
  Terms<kTangent> terms;
  T* X;
  DPMASK_KERNEL void operator()(const Block& block) const {
    const int64_t i = block.index, M1 = e.M1;
    Chunk<T>* chunk = reinterpret_cast<Chunk<T>*>(block.shared);
    T* X_i = X + 4 * M1 * i;
    block.each(4 * M1, [=](int64_t k) { X_i[k] = 0; });
    for (int64_t first = 0; first < frame_size(e.pairs, i); first += kChunk) {
      sort_chunk(block, e, i, first, -1, chunk);
      fill_chunk(block, e, terms, i, chunk);
      const T* C = e.series.C;
      block.each(M1, [=](int64_t m) {
        T column[kTerms], sum[4] = {};
        for (int p = 0; p < kChunk && chunk->panel[p] != kNoPanel; ++p) {
          const int64_t panel = chunk->panel[p];
          if (p == 0 || panel != chunk->panel[p - 1]) {
            for (int c = 0; c < kTerms; ++c) column[c] = C[(panel * kTerms + c) * M1 + m];
          }
          T G = 0, dG = 0;
          for (int c = 0; c < kTerms; ++c) {
            G += chunk->value[p][c] * column[c];
            if (kTangent) dG += chunk->slope[p][c] * column[c];
          }
          for (int k = 0; k < 4; ++k) {
            sum[k] += chunk->R[p][k] * G;
            if (kTangent) sum[k] += chunk->S[p][k] * dG;
          }
        }
        for (int k = 0; k < 4; ++k) X_i[k * M1 + m] += sum[k];
      });
    }
  }
};

// dr of all pairs of a centre; 0 where a pair has no series. With gM = C A_i^T of each panel, a
// pair has dE/dR = v gM and dE/ds = (s gM) R.
template <typename T>
struct ForceOfRow {
  Embedding<T> e;
  const T* A;
  double* dr;
  using OfPanel = T[kTerms][4];
  static constexpr int64_t kShared = sizeof(Chunk<T>) + kChunk * sizeof(OfPanel);
  DPMASK_KERNEL void operator()(const Block& block) const {
    const int64_t i = block.index, M1 = e.M1;
    Chunk<T>* chunk = reinterpret_cast<Chunk<T>*>(block.shared);
    OfPanel* gM = reinterpret_cast<OfPanel*>(block.shared + sizeof(Chunk<T>));
    const T* A_i = A + 4 * M1 * i;
    for (int64_t first = 0; first < frame_size(e.pairs, i); first += kChunk) {
      sort_chunk(block, e, i, first, -1, chunk);
      fill_chunk(block, e, Terms<false>{}, i, chunk);
      const T* C = e.series.C;
      block.each(kChunk * kTerms * 4, [=](int64_t item) {
        const int64_t p = item / (kTerms * 4), c = item / 4 % kTerms, k = item % 4;
        const int64_t panel = chunk->panel[p];
        if (panel == kNoPanel || (p > 0 && panel == chunk->panel[p - 1])) return;
        T sum = 0;
        for (int64_t m = 0; m < M1; ++m) sum += C[(panel * kTerms + c) * M1 + m] * A_i[k * M1 + m];
        gM[p][c][k] = sum;
      });
      block.each(kChunk, [=](int64_t p) { set_dr(i, p, *chunk, gM); });
    }
  }
  DPMASK_KERNEL void set_dr(int64_t i, int64_t p, const Chunk<T>& chunk, const OfPanel* gM) const {
    if (chunk.local[p] >= frame_size(e.pairs, i)) return;
    double* dr_p = dr + 3 * pair_number(e.pairs, i, chunk.local[p]);
    for (int a = 0; a < 3; ++a) dr_p[a] = 0;
    if (chunk.panel[p] == kNoPanel) return;
    int64_t begin = p;  // of the panel
    while (begin > 0 && chunk.panel[begin - 1] == chunk.panel[p]) --begin;
    const int64_t j = row_in_frame(e.pairs, i, chunk.local[p]);
    const EnvironmentRow row = row_of(e.atoms, e.coord, i, j);
    double dR[4], ds = 0;
    for (int k = 0; k < 4; ++k) {
      T by_R = 0, by_s = 0;
      for (int c = 0; c < kTerms; ++c) {
        by_R += chunk.value[p][c] * gM[begin][c][k];
        by_s += chunk.slope[p][c] * gM[begin][c][k];
      }
      dR[k] = by_R / e.n;
      ds += row.R[k] * by_s / e.n;
    }
    environment_reverse(row, dR, ds, dr_p);
  }
};

// The share of some centres in dC = sum_i M_i dX_i of a panel, where
//   M_i = sum_j (v R + s S)   [kTerms, 4].
template <bool kTangent, typename T>
struct GradientOfUnit {
  Embedding<T> e;
  Terms<kTangent> terms;
  const T* dX;
  T* shares;  // [kUnits, npanels, kTerms, M1]
  static constexpr int64_t kShared = sizeof(Chunk<T>) + kTerms * 4 * sizeof(T);
  DPMASK_KERNEL void operator()(const Block& block) const {
    const int64_t unit = block.index / e.npanels, panel = block.index % e.npanels, M1 = e.M1;
    Chunk<T>* chunk = reinterpret_cast<Chunk<T>*>(block.shared);
    T* M = reinterpret_cast<T*>(block.shared + sizeof(Chunk<T>));
    T* share = shares + block.index * kTerms * M1;
    block.each(kTerms * M1, [=](int64_t k) { share[k] = 0; });
    for (int64_t i = e.atoms.size * unit / kUnits; i < e.atoms.size * (unit + 1) / kUnits; ++i) {
      block.each(kTerms * 4, [=](int64_t ck) { M[ck] = 0; });
      for (int64_t first = 0; first < frame_size(e.pairs, i); first += kChunk) {
        sort_chunk(block, e, i, first, panel, chunk);
        fill_chunk(block, e, terms, i, chunk);
        block.each(kTerms * 4, [=](int64_t ck) {
          const int64_t c = ck / 4, k = ck % 4;
          for (int p = 0; p < kChunk && chunk->panel[p] != kNoPanel; ++p) {
            M[ck] += chunk->value[p][c] * chunk->R[p][k] + chunk->slope[p][c] * chunk->S[p][k];
          }
        });
      }
      const T* dX_i = dX + 4 * M1 * i;
      block.each(kTerms * M1, [=](int64_t cm) {
        const int64_t c = cm / M1, m = cm % M1;
        for (int k = 0; k < 4; ++k) share[cm] += M[4 * c + k] * dX_i[k * M1 + m];
      });
    }
  }
};

template <typename T>
struct AddUnits {
  const T* shares;
  int64_t size;  // of a share
  T* dC;
  DPMASK_KERNEL void operator()(int64_t k) const {
    T sum = 0;
    for (int64_t unit = 0; unit < kUnits; ++unit) sum += shares[unit * size + k];
    dC[k] = sum;
  }
};

template <bool kTangent, typename T>
void gradient(const Embedding<T>& e, const Terms<kTangent>& terms, const T* dX, T* dC, T* shares,
              cudaStream_t stream) {
  using Kernel = GradientOfUnit<kTangent, T>;
  launch(kUnits * e.npanels, Kernel::kShared, stream, Kernel{e, terms, dX, shares});
  const int64_t size = e.npanels * kTerms * e.M1;
  for_each(size, stream, AddUnits<T>{shares, size, dC});
}

}  // namespace

template <typename T>
int64_t gradient_workspace(const Embedding<T>& embedding) {
  return kUnits * embedding.npanels * kTerms * embedding.M1;
}

template <typename T>
void embed(const Embedding<T>& e, const EmbeddingNets<T>* nets, T* X, T* direct,
           cudaStream_t stream) {
  launch(e.atoms.size, sizeof(Chunk<T>), stream, AddUp<false, T>{e, {}, X});
  if (nets != nullptr) direct_embed(e, *nets, X, direct, stream);
}

template <typename T>
void embed_grad(const Embedding<T>& e, const EmbeddingNets<T>* nets, const T* dX,
                const NetGradients<T>& gradients, T* shares, T* direct, cudaStream_t stream) {
  gradient(e, Terms<false>{}, dX, gradients.C, shares, stream);
  if (nets != nullptr) direct_embed_grad(e, *nets, dX, gradients.parameters, direct, stream);
}

template <typename T>
void force(const Embedding<T>& e, const EmbeddingNets<T>* nets, const T* A, double* dr,
           const Forces& out, T* direct, cudaStream_t stream) {
  launch(e.atoms.size, ForceOfRow<T>::kShared, stream, ForceOfRow<T>{e, A, dr});
  if (nets != nullptr) direct_force(e, *nets, A, dr, direct, stream);
  gather_forces(e.atoms, e.pairs, e.coord, dr, out, stream);
}

template <typename T>
void force_grad(const Embedding<T>& e, const EmbeddingNets<T>* nets, const T* A,
                const ForceCotangents& cotangents, T* dA, const NetGradients<T>& gradients,
                T* shares, T* direct, cudaStream_t stream) {
  const Terms<true> terms{cotangents};
  launch(e.atoms.size, sizeof(Chunk<T>), stream, AddUp<true, T>{e, terms, dA});
  gradient(e, terms, A, gradients.C, shares, stream);
  if (nets == nullptr) return;
  direct_force_grad(e, *nets, A, cotangents, dA, gradients.parameters, direct, stream);
}

#define DPMASK_INSTANTIATE(T)                                                                 \
  template int64_t gradient_workspace<T>(const Embedding<T>&);                                \
  template void embed<T>(const Embedding<T>&, const EmbeddingNets<T>*, T*, T*, cudaStream_t); \
  template void embed_grad<T>(const Embedding<T>&, const EmbeddingNets<T>*, const T*,         \
                              const NetGradients<T>&, T*, T*, cudaStream_t);                  \
  template void force<T>(const Embedding<T>&, const EmbeddingNets<T>*, const T*, double*,     \
                         const Forces&, T*, cudaStream_t);                                    \
  template void force_grad<T>(const Embedding<T>&, const EmbeddingNets<T>*, const T*,         \
                              const ForceCotangents&, T*, const NetGradients<T>&, T*, T*,     \
                              cudaStream_t)
DPMASK_INSTANTIATE(float);
DPMASK_INSTANTIATE(double);

}  // namespace dpmask::cuda
