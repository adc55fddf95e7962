// SPDX-License-Identifier: LGPL-3.0-or-later
#include "op/tensorflow/gpu.h"

#include <algorithm>
#include <numeric>

#include "cuda/descriptor.h"
#include "cuda/direct/direct.h"
#include "cuda/embedding.h"
#include "cuda/fitting.h"
#include "cuda/readout.h"
#include "cuda/series/fit_series.h"
#include "op/kernels/environment.h"
#include "op/kernels/most_panels.h"
#include "xla/stream_executor/stream.h"

namespace dpmask {
namespace {

// What the CUDA kernels of the embedding begin with.
template <typename T>
cuda::Embedding<T> on_device(const Embedding<T>& e, Gpu& gpu) {
  RealAtoms atoms = e.atoms;
  atoms.first = gpu.copy(e.atoms.first, atoms.ntypes * atoms.nframes + 1);
  const auto of_rows = [&] { return gpu.allocate<int64_t>(atoms.size); };
  const auto of_frames = [&] { return gpu.allocate<int64_t>(atoms.nframes + 1); };
  double* position = gpu.allocate<double>(4 * atoms.size);
  const cuda::PairNumbers pairs = {of_rows(), of_rows(),   of_rows(),  of_rows(),
                                   position,  of_frames(), of_frames()};
  cuda::number_pairs(atoms, e.coord, pairs, gpu.stream());
  Series<T> series = e.series;
  series.first = gpu.copy(e.series.first, series.nnets + 1);
  const int32_t* net = gpu.copy(e.nets.net.data(), static_cast<int64_t>(e.nets.net.size()));
  return {atoms,
          pairs,
          e.coord,
          net,
          series,
          e.series.npanels(),
          e.nets.neuron.back(),
          e.n,
          {e.atoms.first, e.series.first, e.nets.net.data()}};
}

// The nets, if any has no series, and the workspace for them.
template <typename T>
struct Direct {
  Direct(const Embedding<T>& e, Gpu& gpu) {
    for (int64_t net = 0; net < e.series.nnets; ++net) {
      if (!e.series.has(net)) nets = &e.nets;
    }
    if (nets != nullptr) workspace = gpu.allocate<T>(cuda::direct_workspace(*nets));
  }
  const EmbeddingNets<T>* nets = nullptr;
  T* workspace = nullptr;
};

template <typename T>
T* allocate_moments(const cuda::Embedding<T>& on_gpu, Gpu& gpu) {
  return gpu.allocate<T>(cuda::moments_workspace(on_gpu));
}

// Without nets the kernels leave their parameters' gradients alone.
template <typename T>
void prepare_gradients(const Embedding<T>& e, const Direct<T>& direct,
                       const NetGradients<T>& gradients, Gpu& gpu) {
  if (direct.nets == nullptr) clear(gradients.parameters, e.nets.sizes(), gpu);
}

}  // namespace

Gpu::Gpu(tf::OpKernelContext* ctx)
    : ctx_(ctx), stream_(static_cast<cudaStream_t>(
                     ctx->op_device_context()->stream()->platform_specific_handle().stream)) {}

template <typename T>
void fit_series(const Embedding<T>& given, const AllocateSeries<T>& allocate, Gpu& gpu) {
  const std::vector<int64_t> most = most_panels(given);
  const int64_t nnets = static_cast<int64_t>(most.size()), M1 = given.nets.neuron.back();
  std::vector<int64_t> first(nnets + 1, 0);
  const int64_t largest = nnets == 0 ? 0 : *std::max_element(most.begin(), most.end());
  const int64_t capacity = std::min(largest, cuda::kMostPanels);
  if (capacity == 0) {
    allocate(first);
    return;
  }
  Embedding<T> e = given;
  e.series = {nnets, first.data(), nullptr, nullptr};
  const cuda::FoundPanels<T> found = {capacity, gpu.allocate<int64_t>(nnets),
                                      gpu.allocate<double>(nnets * capacity * 2),
                                      gpu.allocate<T>(nnets * capacity * kTerms * M1)};
  double* workspace =
      gpu.allocate<double>(cuda::find_panels_workspace(e.nets, nnets, e.atoms.size));
  cuda::find_panels(on_device(e, gpu), e.nets, gpu.copy_pointers(e.nets.parameters),
                    gpu.copy(most.data(), nnets), found, workspace, gpu.stream());
  cuda::download(found.count, nnets, first.data() + 1, gpu.stream());
  std::partial_sum(first.begin(), first.end(), first.begin());
  const SeriesMemory<T> memory = allocate(first);
  cuda::join_panels(found, nnets, M1, gpu.copy(first.data(), nnets + 1), memory.panels, memory.C,
                    gpu.stream());
}

template <typename T>
void fit_series_grad(const EmbeddingNets<T>& nets, const Series<T>& series, const T* dC,
                     const std::vector<T*>& dparameters, Gpu& gpu) {
  double* workspace = gpu.allocate<double>(cuda::series_workspace(nets, series.first));
  cuda::fit_panels_grad(nets, series.first, series.panels, dC, dparameters, workspace,
                        gpu.stream());
}

template <typename T>
void embed(const Embedding<T>& e, T* X, Gpu& gpu) {
  const Direct<T> direct(e, gpu);
  const cuda::Embedding<T> on_gpu = on_device(e, gpu);
  cuda::embed(on_gpu, direct.nets, X, allocate_moments(on_gpu, gpu), direct.workspace,
              gpu.stream());
}

template <typename T>
void embed_grad(const Embedding<T>& e, const T* dX, const NetGradients<T>& gradients, Gpu& gpu) {
  const Direct<T> direct(e, gpu);
  const cuda::Embedding<T> on_gpu = on_device(e, gpu);
  prepare_gradients(e, direct, gradients, gpu);
  cuda::embed_grad(on_gpu, direct.nets, dX, gradients, allocate_moments(on_gpu, gpu),
                   direct.workspace, gpu.stream());
}

template <typename T>
void force(const Embedding<T>& e, const T* A, const Forces& out, Gpu& gpu) {
  const Direct<T> direct(e, gpu);
  const cuda::Embedding<T> on_gpu = on_device(e, gpu);
  double* sums = gpu.allocate<double>(cuda::sums_workspace(on_gpu));
  double* dr = direct.nets == nullptr ? nullptr : gpu.allocate<double>(3 * count_pairs(e.atoms));
  cuda::force(on_gpu, direct.nets, A, out, allocate_moments(on_gpu, gpu), sums, dr,
              direct.workspace, gpu.stream());
}

template <typename T>
void force_grad(const Embedding<T>& e, const T* A, const ForceCotangents& cotangents, T* dA,
                const NetGradients<T>& gradients, Gpu& gpu) {
  const Direct<T> direct(e, gpu);
  const cuda::Embedding<T> on_gpu = on_device(e, gpu);
  prepare_gradients(e, direct, gradients, gpu);
  cuda::force_grad(on_gpu, direct.nets, A, cotangents, dA, gradients, allocate_moments(on_gpu, gpu),
                   direct.workspace, gpu.stream());
}

template <typename T>
void contract(const Contraction<T>& shape, const T* X, const T* Y, T* B, Gpu& gpu) {
  cuda::contract(shape, X, Y, B, gpu.stream());
}

template <typename T>
void contract_reverse(const Contraction<T>& shape, const T* Y, const T* gB, T* gX, Gpu& gpu) {
  cuda::contract_reverse(shape, Y, gB, gX, gpu.stream());
}

template <typename T>
void energies(const Fitting<T>& fitting, T* e, T* A, T* z, Gpu& gpu) {
  T* workspace = gpu.allocate<T>(cuda::energies_workspace(fitting));
  cuda::energies(fitting, e, A, z, workspace, gpu.stream());
}

template <typename T>
void read_out(const Readout<T>& readout, const T* X, T* e, T* A, Gpu& gpu) {
  Fitting<T> fitting = readout.fitting;
  fitting.D = readout.D;
  contract(readout.shape, X, X, readout.D, gpu);
  energies(fitting, e, readout.A_D, readout.z, gpu);
  contract_reverse(readout.shape, X, readout.A_D, A, gpu);
  cuda::weigh(readout.atoms, T(2), 4 * readout.shape.M1, A, gpu.stream());
}

template <typename T>
void spread_energies(const RealAtoms& on_host, const double* bias, const T* e, const Energies& out,
                     Gpu& gpu) {
  RealAtoms atoms = on_host;
  atoms.first = gpu.copy(on_host.first, on_host.ntypes * on_host.nframes + 1);
  cuda::spread_energies(atoms, bias, e, out, gpu.stream());
}

template <typename T>
void energies_grad(const Fitting<T>& fitting, const T* z, const T* de, const T* dA, T* dD,
                   const std::vector<T*>& dparameters, Gpu& gpu) {
  T* workspace = gpu.allocate<T>(cuda::energies_grad_workspace(fitting));
  cuda::energies_grad(fitting, z, de, dA, dD, dparameters, workspace, gpu.stream());
}

#define DPMASK_INSTANTIATE(T)                                                                  \
  template void fit_series<T>(const Embedding<T>&, const AllocateSeries<T>&, Gpu&);            \
  template void fit_series_grad<T>(const EmbeddingNets<T>&, const Series<T>&, const T*,        \
                                   const std::vector<T*>&, Gpu&);                              \
  template void embed<T>(const Embedding<T>&, T*, Gpu&);                                       \
  template void embed_grad<T>(const Embedding<T>&, const T*, const NetGradients<T>&, Gpu&);    \
  template void force<T>(const Embedding<T>&, const T*, const Forces&, Gpu&);                  \
  template void force_grad<T>(const Embedding<T>&, const T*, const ForceCotangents&, T*,       \
                              const NetGradients<T>&, Gpu&);                                   \
  template void contract<T>(const Contraction<T>&, const T*, const T*, T*, Gpu&);              \
  template void contract_reverse<T>(const Contraction<T>&, const T*, const T*, T*, Gpu&);      \
  template void energies<T>(const Fitting<T>&, T*, T*, T*, Gpu&);                              \
  template void read_out<T>(const Readout<T>&, const T*, T*, T*, Gpu&);                        \
  template void spread_energies<T>(const RealAtoms&, const double*, const T*, const Energies&, \
                                   Gpu&);                                                      \
  template void energies_grad<T>(const Fitting<T>&, const T*, const T*, const T*, T*,          \
                                 const std::vector<T*>&, Gpu&)
DPMASK_INSTANTIATE(float);
DPMASK_INSTANTIATE(double);

}  // namespace dpmask
