// SPDX-License-Identifier: LGPL-3.0-or-later
// An embedding net on a tile of pairs, in the letters of op/kernels/per_isa/embedding_net.h, by the
// threads of a block, which has scratch memory of its own.
#pragma once

#include <stdexcept>
#include <string>

#include "cuda/common/activation.h"
#include "cuda/common/batch.h"
#include "op/kernels/embedding.h"

namespace dpmask::cuda {

constexpr int64_t kMostLayers = 12;
constexpr int64_t kTile = 16;     // pairs; also the nodes of a panel
constexpr int64_t kBlocks = 256;  // that share a net's work, whatever the card: a gradient is
                                  // added up block by block
static_assert(kTile == kTerms);

// The arrays of a net's layers: parameters, or their gradient.
template <typename T>
struct NetArrays {
  T* W[kMostLayers];
  T* b[kMostLayers];
  T* timestep[kMostLayers];  // nullptr where there is none
};

// One net; P is the precision of its parameters.
template <typename P>
struct Net {
  int nlayers;
  int64_t width[kMostLayers + 1];  // from 1, the input, to M1
  bool has_skip[kMostLayers], has_timestep[kMostLayers];
  Activation activation;
  double threshold;
  NetArrays<const P> parameters;

  DPMASK_DEVICE int64_t in(int l) const { return width[l]; }
  DPMASK_DEVICE int64_t out(int l) const { return width[l + 1]; }
};

// The arrays of one net in a list of them.
template <typename T, typename P>
DPMASK_DEVICE inline NetArrays<T> arrays_of(const Net<P>& net, T* const* list) {
  NetArrays<T> arrays{};
  for (int l = 0; l < net.nlayers; ++l) {
    arrays.W[l] = *list++;
    arrays.b[l] = *list++;
    if (net.has_timestep[l]) arrays.timestep[l] = *list++;
  }
  return arrays;
}

template <typename P>
Net<P> net_of(const EmbeddingNets<P>& nets, int64_t net) {
  if (nets.nlayers() > kMostLayers) {
    throw std::invalid_argument("the CUDA kernels take embedding nets of up to " +
                                std::to_string(kMostLayers) + " layers, not " +
                                std::to_string(nets.nlayers()));
  }
  Net<P> one{static_cast<int>(nets.nlayers()), {1}, {}, {}, nets.activation, nets.threshold, {}};
  for (int l = 0; l < one.nlayers; ++l) {
    one.width[l + 1] = nets.neuron[l];
    one.has_skip[l] = nets.has_skip(l);
    one.has_timestep[l] = nets.has_timestep(l);
  }
  one.parameters = arrays_of<const P>(one, nets.parameters.data() + net * nets.nparameters());
  return one;
}

// Numbers that a net's gradient has.
template <typename P>
int64_t gradient_size(const EmbeddingNets<P>& nets) {
  int64_t total = 0;
  for (int64_t size : nets.sizes()) total += size;
  return total;
}

// T is the precision of the arithmetic.
template <typename T, typename P>
class NetOnTile {
 public:
  // Numbers of scratch memory.
  static int64_t scratch_size(const EmbeddingNets<P>& nets) {
    int64_t widths = 0;
    for (int64_t width : nets.neuron) widths += width;
    return kTile * (2 + kArrays * widths);
  }
  DPMASK_KERNEL NetOnTile(const Net<P>& net, T* scratch) : net_(net), scratch_(scratch) {}

  DPMASK_KERNEL T* s() const { return scratch_; }  // [kTile]; the caller sets it
  DPMASK_KERNEL T* G() const { return array(net_.nlayers - 1, kOutput); }
  DPMASK_KERNEL T* dG() const { return array(net_.nlayers - 1, kDOutput); }
  DPMASK_KERNEL T* gG() const { return array(net_.nlayers - 1, kGOutput); }  // set before reverse
  DPMASK_KERNEL T* gdG() const { return array(net_.nlayers - 1, kGDOutput); }

  template <bool kDerivative, int kOrder>
  DPMASK_KERNEL void forward(const Block& block, int64_t size) const {
    T* ds = scratch_ + kTile;
    block.each(size, [=](int64_t p) { ds[p] = 1; });
    for (int l = 0; l < net_.nlayers; ++l) {
      block.each(size * net_.out(l), [=](int64_t po) {
        forward_one<kDerivative, kOrder>(l, po / net_.out(l), po % net_.out(l));
      });
    }
  }

  // Adds to the gradient.
  template <bool kDerivative>
  DPMASK_KERNEL void reverse(const Block& block, int64_t size, T* gradient) const {
    for (int l = net_.nlayers - 1; l >= 0; --l) {
      const int64_t in = net_.in(l), out = net_.out(l);
      T* W = gradient + place(l);
      T *b = W + in * out, *timestep = net_.has_timestep[l] ? b + out : nullptr;
      block.each(size * out, [=](int64_t po) { reverse_activation<kDerivative>(l, po); });
      block.each(in * out, [=](int64_t io) {
        W[io] += gradient_of_W<kDerivative>(l, size, io / out, io % out);
      });
      block.each(out,
                 [=](int64_t o) { add_gradient_of_bias<kDerivative>(l, size, o, b, timestep); });
      if (l == 0) return;
      block.each(size * in, [=](int64_t pi) {
        const int64_t p = pi / in, i = pi % in;
        array(l - 1, kGOutput)[pi] = by_input(l, kGOutput, kGz, p, i);
        if (kDerivative) array(l - 1, kGDOutput)[pi] = by_input(l, kGDOutput, kGdz, p, i);
      });
    }
  }

 private:
  // The arrays [kTile, out] of a layer: v, dv, gv and gdv of its output and of z, and phi and its
  // derivatives.
  enum Which { kOutput, kDOutput, kDz, kPhi, kD1, kD2, kGz, kGdz, kGOutput, kGDOutput };
  static constexpr int64_t kArrays = 10;

  DPMASK_KERNEL T* array(int l, Which which) const {
    int64_t before = 0;
    for (int k = 0; k < l; ++k) before += net_.out(k);
    return scratch_ + kTile * (2 + kArrays * before + which * net_.out(l));
  }
  // Where the arrays of a layer begin in a gradient.
  DPMASK_KERNEL int64_t place(int l) const {
    int64_t before = 0;
    for (int k = 0; k < l; ++k) {
      before += (net_.in(k) + (net_.has_timestep[k] ? 2 : 1)) * net_.out(k);
    }
    return before;
  }
  DPMASK_KERNEL const T* input(int l) const { return l == 0 ? scratch_ : array(l - 1, kOutput); }
  DPMASK_KERNEL const T* dinput(int l) const {
    return l == 0 ? scratch_ + kTile : array(l - 1, kDOutput);
  }
  DPMASK_KERNEL T timestep(int l, int64_t o) const {
    const P* all = net_.parameters.timestep[l];
    return all == nullptr ? T(1) : static_cast<T>(all[o]);
  }

  template <bool kDerivative, int kOrder>
  DPMASK_KERNEL void forward_one(int l, int64_t p, int64_t o) const {
    const int64_t in = net_.in(l), out = net_.out(l);
    const T* h = input(l) + p * in;
    const T* dh = dinput(l) + p * in;
    T z = static_cast<T>(net_.parameters.b[l][o]), dz = 0;
    for (int64_t i = 0; i < in; ++i) {
      const T W = static_cast<T>(net_.parameters.W[l][i * out + o]);
      z += h[i] * W;
      if (kDerivative) dz += dh[i] * W;
    }
    const Activated<T> a = activated<kOrder>(net_.activation, net_.threshold, z);
    const int64_t po = p * out + o;
    array(l, kPhi)[po] = a.phi;
    if (kOrder >= 1) array(l, kD1)[po] = a.d1;
    if (kOrder >= 2) array(l, kD2)[po] = a.d2;
    array(l, kOutput)[po] = a.phi * timestep(l, o) + (net_.has_skip[l] ? h[o % in] : T(0));
    if (!kDerivative) return;
    array(l, kDz)[po] = dz;
    array(l, kDOutput)[po] = a.d1 * dz * timestep(l, o) + (net_.has_skip[l] ? dh[o % in] : T(0));
  }

  template <bool kDerivative>
  DPMASK_KERNEL void reverse_activation(int l, int64_t po) const {
    const T factor = timestep(l, po % net_.out(l));
    const T g = array(l, kGOutput)[po] * factor, d1 = array(l, kD1)[po];
    array(l, kGz)[po] = g * d1;
    if (!kDerivative) return;
    const T gd = array(l, kGDOutput)[po] * factor;
    array(l, kGz)[po] += gd * array(l, kD2)[po] * array(l, kDz)[po];
    array(l, kGdz)[po] = gd * d1;
  }

  template <bool kDerivative>
  DPMASK_KERNEL T gradient_of_W(int l, int64_t size, int64_t i, int64_t o) const {
    const int64_t in = net_.in(l), out = net_.out(l);
    T sum = 0;
    for (int64_t p = 0; p < size; ++p) {
      sum += input(l)[p * in + i] * array(l, kGz)[p * out + o];
      if (kDerivative) sum += dinput(l)[p * in + i] * array(l, kGdz)[p * out + o];
    }
    return sum;
  }

  template <bool kDerivative>
  DPMASK_KERNEL void add_gradient_of_bias(int l, int64_t size, int64_t o, T* b, T* timestep) const {
    for (int64_t p = 0; p < size; ++p) {
      const int64_t po = p * net_.out(l) + o;
      b[o] += array(l, kGz)[po];
      if (timestep == nullptr) continue;
      timestep[o] += array(l, kGOutput)[po] * array(l, kPhi)[po];
      if (!kDerivative) continue;
      timestep[o] += array(l, kGDOutput)[po] * array(l, kD1)[po] * array(l, kDz)[po];
    }
  }

  // gh of one input, or gdh.
  DPMASK_KERNEL T by_input(int l, Which goutput, Which gz, int64_t p, int64_t i) const {
    const int64_t in = net_.in(l), out = net_.out(l);
    T sum = 0;
    if (net_.has_skip[l]) {
      for (int64_t o = i; o < out; o += in) sum += array(l, goutput)[p * out + o];
    }
    for (int64_t o = 0; o < out; ++o) {
      sum += array(l, gz)[p * out + o] * static_cast<T>(net_.parameters.W[l][i * out + o]);
    }
    return sum;
  }

  const Net<P>& net_;
  T* scratch_;
};

// Sets one array of a gradient to the sum of the blocks' shares.
template <typename T, typename P>
struct AddShares {
  const T* shares;
  int64_t stride;  // of the shares
  int64_t nshares;
  int64_t size;
  P* sum;
  int64_t blocks() const { return blocks_for(size); }
  DPMASK_KERNEL void operator()(const Block& block) const {
    block.share(size, [this](int64_t k) { add_up(k); });
  }
  DPMASK_KERNEL void add_up(int64_t k) const {
    T all = 0;
    for (int64_t share = 0; share < nshares; ++share) all += shares[share * stride + k];
    sum[k] = static_cast<P>(all);
  }
};

// Appends those of all arrays of a net; `list` are its arrays.
template <typename T, typename P>
void append_shares(const EmbeddingNets<P>& nets, const T* shares, int64_t nshares, P* const* list,
                   std::vector<AddShares<T, P>>* all) {
  const int64_t stride = gradient_size(nets);
  for (int64_t size : nets.sizes()) {
    all->push_back({shares, stride, nshares, size, *list++});
    shares += size;
  }
}

}  // namespace dpmask::cuda
