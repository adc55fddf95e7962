// SPDX-License-Identifier: LGPL-3.0-or-later
// A block has an atom, whose arrays it brings to shared memory.
#include "cuda/descriptor.h"

#include <stdexcept>

#include "cuda/common/launch.h"

namespace dpmask::cuda {
namespace {

constexpr int kMostNumbers = 1 << 30;  // numbers of an atom: what is its own is counted in 32 bits

// The four components of a column side by side: [M1, 4] of X_i [4, M1].
template <typename T>
DPMASK_KERNEL void bring(const Block& block, const T* X_i, int M1, Four<T>* columns) {
  block.each(4 * M1, [=](int64_t k) {
    const int place = static_cast<int>(k);
    columns[place % M1].of[place / M1] = X_i[place];
  });
}

template <typename T>
DPMASK_KERNEL T dot(const Four<T>& a, const Four<T>& b) {
  return a.of[0] * b.of[0] + a.of[1] * b.of[1] + a.of[2] * b.of[2] + a.of[3] * b.of[3];
}

template <typename T>
struct Contract {
  int M1, M2;
  const T *X, *Y;
  T* B;
  int64_t shared() const { return 2 * M1 * sizeof(Four<T>); }
  DPMASK_KERNEL void operator()(const Block& block) const {
    Four<T>* X_i = reinterpret_cast<Four<T>*>(block.shared);
    Four<T>* Y_i = X_i + M1;
    bring(block, X + 4 * M1 * block.index, M1, X_i);
    bring(block, Y + 4 * M1 * block.index, M1, Y_i);
    T* B_i = B + M1 * M2 * block.index;
    block.each(M1 * M2, [=](int64_t place) {
      const int a = static_cast<int>(place) / M2, b = static_cast<int>(place) % M2;
      B_i[place] = (dot(X_i[a], Y_i[b]) + dot(Y_i[a], X_i[b])) / 2;
    });
  }
};

// gX_ca = (1/2) (sum_b Y_cb gB_ab + sum_b Y_cb gB_ba), the second sum for a < M2; several threads
// share each of these few sums.
template <typename T>
struct ContractReverse {
  int M1, M2;
  const T *Y, *gB;
  T* gX;

  static constexpr int64_t kMostShared = 64
                                         << 10;  // bytes of gB, so that there is room for 3 blocks
  DPMASK_DEVICE bool brings_gB() const {
    return M1 * (M2 + int64_t{1}) * static_cast<int64_t>(sizeof(T)) <= kMostShared;
  }
  DPMASK_DEVICE int nshares() const { return M2 <= 128 ? 8 : 1; }
  int64_t shared() const {
    return M1 * sizeof(Four<T>) + 4 * M2 * nshares() * sizeof(T) +
           (brings_gB() ? M1 * (M2 + 1) * sizeof(T) : 0);
  }
  DPMASK_KERNEL void operator()(const Block& block) const {
    const int shares = nshares(), pitch = brings_gB() ? M2 + 1 : M2;
    Four<T>* Y_i = reinterpret_cast<Four<T>*>(block.shared);
    T* second = reinterpret_cast<T*>(Y_i + M1);  // [M2, shares, 4]
    const T* gB_i = gB + int64_t{M1} * M2 * block.index;
    bring(block, Y + 4 * M1 * block.index, M1, Y_i);
    if (brings_gB()) {
      const T* from = gB_i;
      T* to = second + 4 * M2 * shares;
      block.each(M1 * M2, [=](int64_t k) {
        const int place = static_cast<int>(k);
        to[place / M2 * pitch + place % M2] = from[place];
      });
      gB_i = to;
    }
    block.each(M2 * shares, [=](int64_t item) {
      const int a = static_cast<int>(item) % M2, share = static_cast<int>(item) / M2;
      T sum[4] = {};
      for (int b = share; b < M1; b += shares) add(Y_i[b], gB_i[b * pitch + a], sum);
      for (int c = 0; c < 4; ++c) second[(a * shares + share) * 4 + c] = sum[c];
    });
    T* gX_i = gX + 4 * M1 * block.index;
    block.each(M1, [=](int64_t a) {
      T sum[4] = {};
      for (int b = 0; b < M2; ++b) add(Y_i[b], gB_i[a * pitch + b], sum);
      for (int share = 0; share < (a < M2 ? shares : 0); ++share) {
        for (int c = 0; c < 4; ++c) sum[c] += second[(a * shares + share) * 4 + c];
      }
      for (int c = 0; c < 4; ++c) gX_i[c * M1 + a] = sum[c] / 2;
    });
  }
  DPMASK_KERNEL static void add(const Four<T>& Y_b, T gB, T* sum) {
    for (int c = 0; c < 4; ++c) sum[c] += Y_b.of[c] * gB;
  }
};

template <template <typename> class Kernel, typename T, typename... Arrays>
void for_all_atoms(const Contraction<T>& shape, cudaStream_t stream, Arrays... arrays) {
  if (shape.M1 * shape.M2 > kMostNumbers) throw std::invalid_argument("M1 M2 is too large");
  const Kernel<T> kernel = {static_cast<int>(shape.M1), static_cast<int>(shape.M2), arrays...};
  launch(shape.size, kernel.shared(), stream, kernel);
}

}  // namespace
}  // namespace dpmask::cuda

namespace dpmask {

template <typename T>
void contract(const Contraction<T>& shape, const T* X, const T* Y, T* B, Gpu& gpu) {
  cuda::for_all_atoms<cuda::Contract>(shape, gpu.stream(), X, Y, B);
}

template <typename T>
void contract_reverse(const Contraction<T>& shape, const T* Y, const T* gB, T* gX, Gpu& gpu) {
  cuda::for_all_atoms<cuda::ContractReverse>(shape, gpu.stream(), Y, gB, gX);
}

#define DPMASK_INSTANTIATE(T)                                                     \
  template void contract<T>(const Contraction<T>&, const T*, const T*, T*, Gpu&); \
  template void contract_reverse<T>(const Contraction<T>&, const T*, const T*, T*, Gpu&)
DPMASK_INSTANTIATE(float);
DPMASK_INSTANTIATE(double);

}  // namespace dpmask
