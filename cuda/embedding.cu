// SPDX-License-Identifier: LGPL-3.0-or-later
// X, forces and gradients: what slabs.h says for nets that have a series, and then the others.
#include "cuda/embedding.h"

#include "cuda/common/memory.h"
#include "cuda/common/pairs.h"
#include "cuda/common/product.h"
#include "cuda/direct/direct.h"
#include "cuda/series/moments.h"
#include "cuda/series/tiles.h"

namespace dpmask::cuda {
namespace {

// The workspace of the moments: what the products need, then M or gM of a slab.
template <typename T>
struct Moments {
  explicit Moments(T* workspace) : products(workspace), M(workspace + product_workspace<T>()) {}
  T *products, *M;
};

// X = M^T C for the atoms of each part.
template <typename T>
void multiply_by_C(const Embedding<T>& e, const Slab& slab, const Moments<T>& moments, T* X,
                   cudaStream_t stream) {
  std::vector<Product<T>> products;
  for (const Part& part : slab.parts) {
    const int64_t rows = 4 * part.rows();
    products.push_back({rows, e.M1, part.height(), moments.M + part.place, 1, rows,
                        e.series.C + part.first * kTerms * e.M1, e.M1, 1,
                        X + part.begin * 4 * e.M1});
  }
  multiply(products, moments.products, stream);
}

// gM = C A^T.
template <typename T>
void multiply_by_A(const Embedding<T>& e, const Slab& slab, const T* A, const Moments<T>& moments,
                   cudaStream_t stream) {
  std::vector<Product<T>> products;
  for (const Part& part : slab.parts) {
    const int64_t columns = 4 * part.rows();
    products.push_back({part.height(), columns, e.M1, e.series.C + part.first * kTerms * e.M1, e.M1,
                        1, A + part.begin * 4 * e.M1, 1, e.M1, moments.M + part.place});
  }
  multiply(products, moments.products, stream);
}

// Adds M dX to dC, part after part where they have panels in common.
template <typename T>
void add_to_dC(const Embedding<T>& e, const Slab& slab, const Moments<T>& moments, const T* dX,
               T* dC, cudaStream_t stream) {
  std::vector<Product<T>> products;
  int64_t end = 0;  // of the panels of the products
  for (const Part& part : slab.parts) {
    if (part.first < end) {
      multiply(products, moments.products, stream);
      products.clear();
    }
    const int64_t depth = 4 * part.rows();
    T* of_part = dC + part.first * kTerms * e.M1;
    products.push_back({part.height(), e.M1, depth, moments.M + part.place, depth, 1,
                        dX + part.begin * 4 * e.M1, e.M1, 1, of_part, nullptr, of_part});
    end = part.first + part.npanels;
  }
  multiply(products, moments.products, stream);
}

template <typename T>
std::vector<int64_t> largest_parts(const Slabs<T>& slabs, const Slab& slab) {
  std::vector<int64_t> all;
  for (const Part& part : slab.parts) all.push_back(slabs.largest(slab, part));
  return all;
}

}  // namespace

template <typename T>
int64_t moments_workspace(const Embedding<T>& e) {
  const Slabs<T> slabs(e);
  return product_workspace<T>() + slabs.most([](const Slab& slab) { return slab.moments(); });
}
template <typename T>
int64_t sums_workspace(const Embedding<T>& e) {
  const Slabs<T> slabs(e);
  return slabs.most(
      [&](const Slab& slab) { return tile_sums_size(slab, largest_parts(slabs, slab)); });
}

template <typename T>
void embed(const Embedding<T>& e, const EmbeddingNets<T>* nets, T* X, T* workspace, T* direct,
           cudaStream_t stream) {
  const Slabs<T> slabs(e);
  const Moments<T> moments(workspace);
  for (const Slab& slab : slabs.all()) {
    set_moments(e, slab, moments.M, stream);
    multiply_by_C(e, slab, moments, X, stream);
  }
  if (nets != nullptr) direct_embed(e, *nets, X, direct, stream);
}

template <typename T>
void embed_grad(const Embedding<T>& e, const EmbeddingNets<T>* nets, const T* dX,
                const NetGradients<T>& gradients, T* workspace, T* direct, cudaStream_t stream) {
  clear<T>({gradients.C}, {e.npanels * kTerms * e.M1}, stream);
  const Slabs<T> slabs(e);
  const Moments<T> moments(workspace);
  for (const Slab& slab : slabs.all()) {
    set_moments(e, slab, moments.M, stream);
    add_to_dC(e, slab, moments, dX, gradients.C, stream);
  }
  if (nets != nullptr) direct_embed_grad(e, *nets, dX, gradients.parameters, direct, stream);
}

template <typename T>
void force(const Embedding<T>& e, const EmbeddingNets<T>* nets, const T* A, const Forces& out,
           T* workspace, double* sums, double* dr, T* direct, cudaStream_t stream) {
  const Slabs<T> slabs(e);
  const Moments<T> moments(workspace);
  for (const Slab& slab : slabs.all()) {
    multiply_by_A(e, slab, A, moments, stream);
    add_tile_forces(e, slab, largest_parts(slabs, slab), moments.M, sums, out, stream);
  }
  if (nets != nullptr) {
    clear_pairs(e.atoms, e.pairs, dr, stream);
    direct_force(e, *nets, A, dr, direct, stream);
    gather_forces(e.atoms, e.pairs, e.coord, dr, out, stream);
  }
  add_up_virial(e.atoms, e.pairs, out, stream);
}

template <typename T>
void force_grad(const Embedding<T>& e, const EmbeddingNets<T>* nets, const T* A,
                const ForceCotangents& cotangents, T* dA, const NetGradients<T>& gradients,
                T* workspace, T* direct, cudaStream_t stream) {
  clear<T>({gradients.C}, {e.npanels * kTerms * e.M1}, stream);
  const Slabs<T> slabs(e);
  const Moments<T> moments(workspace);
  for (const Slab& slab : slabs.all()) {
    set_moment_tangents(e, slab, cotangents, moments.M, stream);
    multiply_by_C(e, slab, moments, dA, stream);
    add_to_dC(e, slab, moments, A, gradients.C, stream);
  }
  if (nets == nullptr) return;
  direct_force_grad(e, *nets, A, cotangents, dA, gradients.parameters, direct, stream);
}

#define DPMASK_INSTANTIATE(T)                                                                     \
  template int64_t moments_workspace<T>(const Embedding<T>&);                                     \
  template int64_t sums_workspace<T>(const Embedding<T>&);                                        \
  template void embed<T>(const Embedding<T>&, const EmbeddingNets<T>*, T*, T*, T*, cudaStream_t); \
  template void embed_grad<T>(const Embedding<T>&, const EmbeddingNets<T>*, const T*,             \
                              const NetGradients<T>&, T*, T*, cudaStream_t);                      \
  template void force<T>(const Embedding<T>&, const EmbeddingNets<T>*, const T*, const Forces&,   \
                         T*, double*, double*, T*, cudaStream_t);                                 \
  template void force_grad<T>(const Embedding<T>&, const EmbeddingNets<T>*, const T*,             \
                              const ForceCotangents&, T*, const NetGradients<T>&, T*, T*,         \
                              cudaStream_t)
DPMASK_INSTANTIATE(float);
DPMASK_INSTANTIATE(double);

}  // namespace dpmask::cuda
