// SPDX-License-Identifier: LGPL-3.0-or-later
// CUDA twins of the kernels, with the names, arrays and numbering of op/kernels.h. Unless said
// otherwise, pointers are to device memory, which the caller owns, workspaces among it; sizes and
// lists of pointers are the host's. Workspaces begin at multiples of 16 bytes. All work goes to the
// given stream, and only download waits. Sums are gathered in a fixed order: the same input gives
// the same bits.
#pragma once

#ifdef DPMASK_EMULATED  // on the CPU, see launch.h
using cudaStream_t = struct CUstream_st*;
#else
#include <cuda_runtime.h>
#endif

#include "op/kernels/kernels.h"

namespace dpmask::cuda {

#ifdef DPMASK_EMULATED
inline bool backwards = false;                  // see launch.h
inline cudaStream_t expected_stream = nullptr;  // kernels on another one are an error
#endif

// Numbers the ordered pairs of real atoms as op/kernels.h says.
struct PairNumbers {
  int64_t* type;        // [size]; of each row of RealAtoms
  int64_t* frame;       // [size]
  int64_t* local;       // [size]; place of the atom among those of its frame
  int64_t* rows;        // [size]; the rows of frame after frame, in the order of local
  double* position;     // [size, 4]; x, y, z and w of these rows
  int64_t* rows_first;  // [nframes + 1]; where the rows of each frame begin
  int64_t* pair_first;  // [nframes + 1]; first pair of each frame; the last is their number
};

// Copies an array of the host, which may change at once.
template <typename T>
void upload(const T* host, int64_t size, T* array, cudaStream_t stream);

// Waits for what the stream has been given, and copies an array to the host.
template <typename T>
void download(const T* array, int64_t size, T* host, cudaStream_t stream);

// Sets arrays to 0; sizes as many as there are, or as begin anew.
template <typename T>
void clear(const std::vector<T*>& arrays, const std::vector<int64_t>& sizes, cudaStream_t stream);

// Fills pairs.
void number_pairs(const RealAtoms& atoms, const double* coord, const PairNumbers& pairs,
                  cudaStream_t stream);

// R [pairs, 4].
void environment(const RealAtoms& atoms, const PairNumbers& pairs, const double* coord, double* R,
                 cudaStream_t stream);

// Forces and virials, which must be zero on entry, given dR = dE/dR [pairs, 4]. dr [pairs, 3] is
// scratch.
void environment_force(const RealAtoms& atoms, const PairNumbers& pairs, const double* coord,
                       const double* dR, double* dr, const Forces& out, cudaStream_t stream);

// ddR = dL/d(dR) [pairs, 4].
void environment_force_grad(const RealAtoms& atoms, const PairNumbers& pairs, const double* coord,
                            const ForceCotangents& cotangents, double* ddR, cudaStream_t stream);

// What the host, too, has a copy of, to plan with.
struct HostCopies {
  const int64_t* atoms_first;   // RealAtoms::first
  const int64_t* series_first;  // Series::first
  const int32_t* net;           // Embedding::net
};

// What all kernels of the embedding share.
template <typename T>
struct Embedding {
  RealAtoms atoms;
  PairNumbers pairs;
  const double* coord;  // [nframes, nslots, 3]
  const int32_t* net;   // [ntypes * ntypes]; the net of (t_i, t_j), or -1 if excluded
  Series<T> series;
  int64_t npanels;  // of all nets
  int64_t M1;
  double n;  // the normalisation, sum(sel)
  HostCopies host;
};

// In the following, `moments` is a workspace of moments_workspace(embedding) numbers T. `nets` is
// nullptr if all nets have a series; the list nets->net is not used. `direct`, where there are
// nets, is a workspace of direct_workspace<T>(*nets) numbers T. At most kMostLayers layers, or
// there is std::invalid_argument.
constexpr int64_t kMostLayers = 12;

template <typename T>
int64_t moments_workspace(const Embedding<T>& embedding);
template <typename T>
int64_t direct_workspace(const EmbeddingNets<T>& nets);

// X [size, 4, M1].
template <typename T>
void embed(const Embedding<T>& embedding, const EmbeddingNets<T>* nets, T* X, T* moments, T* direct,
           cudaStream_t stream);

// gradients.C and gradients.parameters, given dX [size, 4, M1]; without nets, only the former.
template <typename T>
void embed_grad(const Embedding<T>& embedding, const EmbeddingNets<T>* nets, const T* dX,
                const NetGradients<T>& gradients, T* moments, T* direct, cudaStream_t stream);

// Numbers of the workspace `sums` of force.
template <typename T>
int64_t sums_workspace(const Embedding<T>& embedding);

// Forces and virials, which must be zero on entry, given A = dE/dX. dr, where there are nets, is
// scratch [pairs, 3].
template <typename T>
void force(const Embedding<T>& embedding, const EmbeddingNets<T>* nets, const T* A,
           const Forces& out, T* moments, double* sums, double* dr, T* direct, cudaStream_t stream);

// dA [size, 4, M1] and gradients as in embed_grad.
template <typename T>
void force_grad(const Embedding<T>& embedding, const EmbeddingNets<T>* nets, const T* A,
                const ForceCotangents& cotangents, T* dA, const NetGradients<T>& gradients,
                T* moments, T* direct, cudaStream_t stream);

// The series of the nets in two steps, since it is the device that knows how many panels there are.
// Room for kMostPanels of a net is enough; a net that needs more has no series.
constexpr int64_t kMostPanels = 64;

template <typename T>
struct FoundPanels {
  int64_t capacity;  // panels of each net that there is room for
  int64_t* count;    // [nnets]; how many panels the net has
  double* panels;    // [nnets, capacity, 2]
  T* C;              // [nnets, capacity, kTerms, M1]
};

// Finds the panels, given a list of nets.parameters and most_panels of the nets, [nnets].
// embedding.series is not used, but for nnets. workspace has find_panels_workspace numbers.
template <typename T>
int64_t find_panels_workspace(const EmbeddingNets<T>& nets, int64_t nnets, int64_t size);
template <typename T>
void find_panels(const Embedding<T>& embedding, const EmbeddingNets<T>& nets,
                 const T* const* parameters, const int64_t* most, const FoundPanels<T>& found,
                 double* workspace, cudaStream_t stream);

// The arrays of Series, given its first [nnets + 1].
template <typename T>
void join_panels(const FoundPanels<T>& found, int64_t nnets, int64_t M1, const int64_t* first,
                 double* panels, T* C, cudaStream_t stream);

// dparameters, given dC of all panels [npanels, 2]; first [nnets + 1] is the host's Series::first.
// 0 for nets without panels. workspace has series_workspace(nets, first) numbers.
template <typename T>
int64_t series_workspace(const EmbeddingNets<T>& nets, const int64_t* first);
template <typename T>
void fit_panels_grad(const EmbeddingNets<T>& nets, const int64_t* first, const double* panels,
                     const T* dC, const std::vector<T*>& dparameters, double* workspace,
                     cudaStream_t stream);

// B [size, M1, M2] of X and Y [size, 4, M1].
template <typename T>
void contract(const Contraction<T>& shape, const T* X, const T* Y, T* B, cudaStream_t stream);

// gX [size, 4, M1] of Y and gB [size, M1, M2].
template <typename T>
void contract_reverse(const Contraction<T>& shape, const T* Y, const T* gB, T* gX,
                      cudaStream_t stream);

// Multiplies the rows of A [size, width] by factor w_i.
template <typename T>
void weigh(const RealAtoms& atoms, T factor, int64_t width, T* A, cudaStream_t stream);

// Energies, whose atom_energy must be zero on entry, given e [size] and bias [ntypes].
template <typename T>
void spread_energies(const RealAtoms& atoms, const double* bias, const T* e, const Energies& out,
                     cudaStream_t stream);

// e [size], A [size, ninputs] and z [z_size]; fitting.type_first is the host's. workspace has
// energies_workspace(fitting) numbers.
template <typename T>
int64_t energies_workspace(const Fitting<T>& fitting);
template <typename T>
void energies(const Fitting<T>& fitting, T* e, T* A, T* z, T* workspace, cudaStream_t stream);

// dD [size, ninputs] and dparameters, given z of energies, de [size] and dA [size, ninputs].
// workspace has energies_grad_workspace(fitting) numbers.
template <typename T>
int64_t energies_grad_workspace(const Fitting<T>& fitting);
template <typename T>
void energies_grad(const Fitting<T>& fitting, const T* z, const T* de, const T* dA, T* dD,
                   const std::vector<T*>& dparameters, T* workspace, cudaStream_t stream);

}  // namespace dpmask::cuda
