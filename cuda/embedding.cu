// SPDX-License-Identifier: LGPL-3.0-or-later
// X, forces and gradients: what slabs.h says for nets that have a series, and then the others.
#include "cuda/embedding.h"

#include "cuda/common/embedding.h"
#include "cuda/common/memory.h"
#include "cuda/common/pairs.h"
#include "cuda/common/product.h"
#include "cuda/direct/direct.h"
#include "cuda/series/moments.h"
#include "cuda/series/tiles.h"
#include "op/kernels/environment.h"

namespace dpmask::cuda {
namespace {

// What the kernels begin with.
template <typename T>
struct OnGpu {
  OnGpu(const dpmask::Embedding<T>& given, Gpu& gpu_)
      : gpu(gpu_), e(on_device(given, gpu)), slabs(e) {
    for (int64_t net = 0; net < given.series.nnets; ++net) {
      if (!given.series.has(net)) nets = &given.nets;
    }
    if (nets != nullptr) direct = gpu.allocate<T>(direct_workspace(*nets));
    products = gpu.allocate<T>(product_workspace<T>());
    M = gpu.allocate<T>(slabs.most([](const Slab& slab) { return slab.moments(); }));
  }

  // Calls body(slab) for each.
  template <typename Body>
  void for_each_slab(Body&& body) const {
    for (const Slab& slab : slabs.all()) body(slab);
  }

  // What the kernels of nets without a series, if there are none, leave alone.
  void prepare(const dpmask::Embedding<T>& given, const NetGradients<T>& gradients) const {
    clear<T>({gradients.C}, {e.npanels * kTerms * e.M1}, gpu.stream());
    if (nets == nullptr) clear(gradients.parameters, given.nets.sizes(), gpu.stream());
  }

  Gpu& gpu;
  Embedding<T> e;
  Slabs<T> slabs;
  const EmbeddingNets<T>* nets = nullptr;  // if any has no series
  T* direct = nullptr;                     // their workspace
  T* products;                             // that of products
  T* M;                                    // moments, or gM, of a slab
};

// X = M^T C for the atoms of each part.
template <typename T>
void multiply_by_C(const OnGpu<T>& on_gpu, const Slab& slab, T* X) {
  const Embedding<T>& e = on_gpu.e;
  std::vector<Product<T>> products;
  for (const Part& part : slab.parts) {
    const int64_t rows = 4 * part.rows();
    products.push_back({rows, e.M1, part.height(), on_gpu.M + part.place, 1, rows,
                        e.series.C + part.first * kTerms * e.M1, e.M1, 1,
                        X + part.begin * 4 * e.M1});
  }
  multiply(products, on_gpu.products, on_gpu.gpu.stream());
}

// gM = C A^T.
template <typename T>
void multiply_by_A(const OnGpu<T>& on_gpu, const Slab& slab, const T* A) {
  const Embedding<T>& e = on_gpu.e;
  std::vector<Product<T>> products;
  for (const Part& part : slab.parts) {
    const int64_t columns = 4 * part.rows();
    products.push_back({part.height(), columns, e.M1, e.series.C + part.first * kTerms * e.M1, e.M1,
                        1, A + part.begin * 4 * e.M1, 1, e.M1, on_gpu.M + part.place});
  }
  multiply(products, on_gpu.products, on_gpu.gpu.stream());
}

// Adds M dX to dC, part after part where they have panels in common.
template <typename T>
void add_to_dC(const OnGpu<T>& on_gpu, const Slab& slab, const T* dX, T* dC) {
  const Embedding<T>& e = on_gpu.e;
  std::vector<Product<T>> products;
  int64_t end = 0;  // of the panels of the products
  for (const Part& part : slab.parts) {
    if (part.first < end) {
      multiply(products, on_gpu.products, on_gpu.gpu.stream());
      products.clear();
    }
    const int64_t depth = 4 * part.rows();
    T* of_part = dC + part.first * kTerms * e.M1;
    products.push_back({part.height(), e.M1, depth, on_gpu.M + part.place, depth, 1,
                        dX + part.begin * 4 * e.M1, e.M1, 1, of_part, nullptr, of_part});
    end = part.first + part.npanels;
  }
  multiply(products, on_gpu.products, on_gpu.gpu.stream());
}

template <typename T>
std::vector<int64_t> largest_parts(const Slabs<T>& slabs, const Slab& slab) {
  std::vector<int64_t> all;
  for (const Part& part : slab.parts) all.push_back(slabs.largest(slab, part));
  return all;
}

}  // namespace
}  // namespace dpmask::cuda

namespace dpmask {

template <typename T>
void embed(const Embedding<T>& embedding, T* X, Gpu& gpu) {
  const cuda::OnGpu<T> on_gpu(embedding, gpu);
  on_gpu.for_each_slab([&](const cuda::Slab& slab) {
    cuda::set_moments(on_gpu.e, slab, on_gpu.M, gpu.stream());
    cuda::multiply_by_C(on_gpu, slab, X);
  });
  if (on_gpu.nets == nullptr) return;
  cuda::direct_embed(on_gpu.e, *on_gpu.nets, X, on_gpu.direct, gpu.stream());
}

template <typename T>
void embed_grad(const Embedding<T>& embedding, const T* dX, const NetGradients<T>& gradients,
                Gpu& gpu) {
  const cuda::OnGpu<T> on_gpu(embedding, gpu);
  on_gpu.prepare(embedding, gradients);
  on_gpu.for_each_slab([&](const cuda::Slab& slab) {
    cuda::set_moments(on_gpu.e, slab, on_gpu.M, gpu.stream());
    cuda::add_to_dC(on_gpu, slab, dX, gradients.C);
  });
  if (on_gpu.nets == nullptr) return;
  cuda::direct_embed_grad(on_gpu.e, *on_gpu.nets, dX, gradients.parameters, on_gpu.direct,
                          gpu.stream());
}

template <typename T>
void force(const Embedding<T>& embedding, const T* A, const Forces& out, Gpu& gpu) {
  const cuda::OnGpu<T> on_gpu(embedding, gpu);
  const cuda::Slabs<T>& slabs = on_gpu.slabs;
  double* sums = gpu.allocate<double>(slabs.most([&](const cuda::Slab& slab) {
    return cuda::tile_sums_size(slab, cuda::largest_parts(slabs, slab));
  }));
  on_gpu.for_each_slab([&](const cuda::Slab& slab) {
    cuda::multiply_by_A(on_gpu, slab, A);
    cuda::add_tile_forces(on_gpu.e, slab, cuda::largest_parts(slabs, slab), on_gpu.M, sums, out,
                          gpu.stream());
  });
  const RealAtoms& atoms = on_gpu.e.atoms;
  const cuda::PairNumbers& pairs = on_gpu.e.pairs;
  if (on_gpu.nets != nullptr) {
    double* dr = gpu.allocate<double>(3 * count_pairs(embedding.atoms));
    cuda::clear_pairs(atoms, pairs, dr, gpu.stream());
    cuda::direct_force(on_gpu.e, *on_gpu.nets, A, dr, on_gpu.direct, gpu.stream());
    cuda::gather_forces(atoms, pairs, embedding.coord, dr, out, gpu.stream());
  }
  cuda::add_up_virial(atoms, pairs, out, gpu.stream());
}

template <typename T>
void force_grad(const Embedding<T>& embedding, const T* A, const ForceCotangents& cotangents, T* dA,
                const NetGradients<T>& gradients, Gpu& gpu) {
  const cuda::OnGpu<T> on_gpu(embedding, gpu);
  on_gpu.prepare(embedding, gradients);
  on_gpu.for_each_slab([&](const cuda::Slab& slab) {
    cuda::set_moment_tangents(on_gpu.e, slab, cotangents, on_gpu.M, gpu.stream());
    cuda::multiply_by_C(on_gpu, slab, dA);
    cuda::add_to_dC(on_gpu, slab, A, gradients.C);
  });
  if (on_gpu.nets == nullptr) return;
  cuda::direct_force_grad(on_gpu.e, *on_gpu.nets, A, cotangents, dA, gradients.parameters,
                          on_gpu.direct, gpu.stream());
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
