// SPDX-License-Identifier: LGPL-3.0-or-later
// X, forces and gradients: what slabs.h says for nets that have a series, and then the others.
#include "cuda/embedding.h"

#include "cuda/common/embedding.h"
#include "cuda/common/memory.h"
#include "cuda/common/pairs.h"
#include "cuda/common/product.h"
#include "cuda/direct/direct.h"
#include "cuda/series/moments.h"
#include "cuda/series/rectangles.h"
#include "op/kernels/environment.h"

namespace dpmask::cuda {
namespace {

// What the kernels begin with.
template <typename T>
struct Prepared {
  Prepared(const Embedding<T>& given, Gpu& gpu_) : gpu(gpu_), e(on_device(given, gpu)), slabs(e) {
    for (int64_t net = 0; net < given.series.nnets; ++net) {
      if (!given.series.has(net)) nets = &given.nets;
    }
    if (nets != nullptr) direct = gpu.allocate<T>(direct_workspace(*nets));
    products = gpu.allocate<T>(product_workspace<T>());
    M = gpu.allocate<T>(slabs.most([](const Slab& slab) { return slab.moments_size(); }));
  }

  // Calls body(slab) for each.
  template <typename Body>
  void for_each_slab(Body&& body) const {
    for (const Slab& slab : slabs.all()) body(slab);
  }

  // What the kernels of nets without a series, if there are none, leave alone.
  void prepare(const Embedding<T>& given, const NetGradients<T>& gradients) const {
    clear<T>({gradients.C}, {e.npanels * kTerms * e.M1}, gpu.stream());
    if (nets == nullptr) clear(gradients.parameters, given.nets.sizes(), gpu.stream());
  }

  Gpu& gpu;
  DeviceEmbedding<T> e;
  Slabs<T> slabs;
  const EmbeddingNets<T>* nets = nullptr;  // if any has no series
  T* direct = nullptr;                     // their workspace
  T* products;                             // that of products
  T* M;                                    // moments, or gM, of a slab
};

// X = M^T C for the atoms of each section.
template <typename T>
void multiply_by_C(const Prepared<T>& prepared, const Slab& slab, T* X) {
  const DeviceEmbedding<T>& e = prepared.e;
  std::vector<Product<T>> products;
  for (const Section& section : slab.sections) {
    const int64_t rows = 4 * section.rows();
    const T* C = e.series.C + section.first * kTerms * e.M1;
    products.push_back({rows,
                        e.M1,
                        section.height(),
                        {prepared.M + section.place, 1, rows},
                        {C, e.M1, 1},
                        X + section.begin * 4 * e.M1});
  }
  multiply(products, prepared.products, prepared.gpu.stream());
}

// gM = C A^T.
template <typename T>
void multiply_by_A(const Prepared<T>& prepared, const Slab& slab, const T* A) {
  const DeviceEmbedding<T>& e = prepared.e;
  std::vector<Product<T>> products;
  for (const Section& section : slab.sections) {
    const int64_t columns = 4 * section.rows();
    const T* C = e.series.C + section.first * kTerms * e.M1;
    products.push_back({section.height(),
                        columns,
                        e.M1,
                        {C, e.M1, 1},
                        {A + section.begin * 4 * e.M1, 1, e.M1},
                        prepared.M + section.place});
  }
  multiply(products, prepared.products, prepared.gpu.stream());
}

// Adds M dX to dC, section after section where they have panels in common.
template <typename T>
void add_to_dC(const Prepared<T>& prepared, const Slab& slab, const T* dX, T* dC) {
  const DeviceEmbedding<T>& e = prepared.e;
  std::vector<Product<T>> products;
  int64_t end = 0;  // of the panels of the products
  for (const Section& section : slab.sections) {
    if (section.first < end) {
      multiply(products, prepared.products, prepared.gpu.stream());
      products.clear();
    }
    const int64_t depth = 4 * section.rows();
    T* of_section = dC + section.first * kTerms * e.M1;
    products.push_back({section.height(),
                        e.M1,
                        depth,
                        {prepared.M + section.place, depth, 1},
                        {dX + section.begin * 4 * e.M1, e.M1, 1},
                        of_section});
    products.back().add = of_section;
    end = section.first + section.npanels;
  }
  multiply(products, prepared.products, prepared.gpu.stream());
}

template <typename T>
std::vector<int64_t> largest_parts(const Slabs<T>& slabs, const Slab& slab) {
  std::vector<int64_t> all;
  for (const Section& section : slab.sections) all.push_back(slabs.largest(slab, section));
  return all;
}

}  // namespace
}  // namespace dpmask::cuda

namespace dpmask {

template <typename T>
void embed(const Embedding<T>& embedding, T* X, Gpu& gpu) {
  const cuda::Prepared<T> prepared(embedding, gpu);
  prepared.for_each_slab([&](const cuda::Slab& slab) {
    cuda::set_moments(prepared.e, slab, prepared.M, gpu.stream());
    cuda::multiply_by_C(prepared, slab, X);
  });
  if (prepared.nets == nullptr) return;
  cuda::direct_embed(prepared.e, *prepared.nets, X, prepared.direct, gpu.stream());
}

template <typename T>
void embed_grad(const Embedding<T>& embedding, const T* dX, const NetGradients<T>& gradients,
                Gpu& gpu) {
  const cuda::Prepared<T> prepared(embedding, gpu);
  prepared.prepare(embedding, gradients);
  prepared.for_each_slab([&](const cuda::Slab& slab) {
    cuda::set_moments(prepared.e, slab, prepared.M, gpu.stream());
    cuda::add_to_dC(prepared, slab, dX, gradients.C);
  });
  if (prepared.nets == nullptr) return;
  cuda::direct_embed_grad(prepared.e, *prepared.nets, dX, gradients.parameters, prepared.direct,
                          gpu.stream());
}

template <typename T>
void force(const Embedding<T>& embedding, const T* A, const Forces& out, Gpu& gpu) {
  const cuda::Prepared<T> prepared(embedding, gpu);
  const cuda::Slabs<T>& slabs = prepared.slabs;
  double* sums = gpu.allocate<double>(slabs.most([&](const cuda::Slab& slab) {
    return cuda::rectangle_sums_size(slab, cuda::largest_parts(slabs, slab), out);
  }));
  prepared.for_each_slab([&](const cuda::Slab& slab) {
    cuda::multiply_by_A(prepared, slab, A);
    cuda::add_rectangle_forces(prepared.e, slab, cuda::largest_parts(slabs, slab), prepared.M, sums,
                               out, gpu.stream());
  });
  const RealAtoms& atoms = prepared.e.atoms;
  const cuda::PairNumbers& pairs = prepared.e.pairs;
  if (prepared.nets != nullptr) {
    const PairDerivatives of_pairs =
        cuda::allocate_derivatives(count_pairs(embedding.atoms), out, gpu);
    cuda::clear_pairs(atoms, pairs, of_pairs, gpu.stream());
    cuda::direct_force(prepared.e, *prepared.nets, A, of_pairs, prepared.direct, gpu.stream());
    cuda::gather_forces(atoms, pairs, embedding.coord, of_pairs, out, gpu.stream());
  }
  cuda::add_up_virial(atoms, pairs, out, gpu.stream());
}

template <typename T>
void force_grad(const Embedding<T>& embedding, const T* A, const ForceCotangents& cotangents, T* dA,
                const NetGradients<T>& gradients, Gpu& gpu) {
  const cuda::Prepared<T> prepared(embedding, gpu);
  prepared.prepare(embedding, gradients);
  prepared.for_each_slab([&](const cuda::Slab& slab) {
    cuda::set_moment_tangents(prepared.e, slab, cotangents, prepared.M, gpu.stream());
    cuda::multiply_by_C(prepared, slab, dA);
    cuda::add_to_dC(prepared, slab, A, gradients.C);
  });
  if (prepared.nets == nullptr) return;
  cuda::direct_force_grad(prepared.e, *prepared.nets, A, cotangents, dA, gradients.parameters,
                          prepared.direct, gpu.stream());
}

#define DPMASK_INSTANTIATE(T)                                                               \
  template void embed<T>(const Embedding<T>&, T*, Gpu&);                                    \
  template void embed_grad<T>(const Embedding<T>&, const T*, const NetGradients<T>&, Gpu&); \
  template void force<T>(const Embedding<T>&, const T*, const Forces&, Gpu&);               \
  template void force_grad<T>(const Embedding<T>&, const T*, const ForceCotangents&, T*,    \
                              const NetGradients<T>&, Gpu&)
DPMASK_INSTANTIATE(float);
DPMASK_INSTANTIATE(double);

}  // namespace dpmask
