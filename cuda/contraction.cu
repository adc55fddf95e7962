// SPDX-License-Identifier: LGPL-3.0-or-later
#include "launch.h"

namespace dpmask::cuda {
namespace {

// A thread for each number of the result.
template <typename T>
struct Contract {
  Contraction<T> shape;
  const T *X, *Y;
  T* B;
  DPMASK_KERNEL void operator()(int64_t place) const {
    const int64_t M1 = shape.M1, M2 = shape.M2;
    const int64_t i = place / (M1 * M2), a = place / M2 % M1, b = place % M2;
    const T *X_i = X + 4 * M1 * i, *Y_i = Y + 4 * M1 * i;
    T sum = 0;
    for (int c = 0; c < 4; ++c) {
      sum += X_i[c * M1 + a] * Y_i[c * M1 + b] + Y_i[c * M1 + a] * X_i[c * M1 + b];
    }
    B[place] = sum / 2;
  }
};

// gX_ca = (1/2) (sum_b Y_cb gB_ab + sum_b Y_cb gB_ba), the second sum for a < M2. A block has an
// atom; several threads share each of the few second sums.
template <typename T>
struct ContractReverse {
  Contraction<T> shape;
  const T *Y, *gB;
  T* gX;
  DPMASK_KERNEL void operator()(const Block& block) const {
    const int64_t M1 = shape.M1, M2 = shape.M2, shares = nshares();
    const T *Y_i = Y + 4 * M1 * block.index, *gB_i = gB + M1 * M2 * block.index;
    T* gX_i = gX + 4 * M1 * block.index;
    T* second = reinterpret_cast<T*>(block.shared);  // [4, M2, shares]
    block.each(4 * M2 * shares, [=](int64_t item) {
      const int64_t share = item / (4 * M2), c = item / M2 % 4, a = item % M2;
      T sum = 0;
      for (int64_t b = share; b < M1; b += shares) sum += Y_i[c * M1 + b] * gB_i[b * M2 + a];
      second[(c * M2 + a) * shares + share] = sum;
    });
    block.each(M1, [=](int64_t a) {
      T sum[4] = {};
      for (int64_t b = 0; b < M2; ++b) {
        for (int c = 0; c < 4; ++c) sum[c] += Y_i[c * M1 + b] * gB_i[a * M2 + b];
      }
      for (int c = 0; c < 4; ++c) {
        for (int64_t share = 0; share < (a < M2 ? shares : 0); ++share) {
          sum[c] += second[(c * M2 + a) * shares + share];
        }
        gX_i[c * M1 + a] = sum[c] / 2;
      }
    });
  }
  DPMASK_DEVICE int64_t nshares() const { return shape.M2 <= 128 ? 8 : 1; }
  int64_t shared() const { return 4 * shape.M2 * nshares() * sizeof(T); }
};

}  // namespace

template <typename T>
void contract(const Contraction<T>& shape, const T* X, const T* Y, T* B, cudaStream_t stream) {
  for_each(shape.size * shape.M1 * shape.M2, stream, Contract<T>{shape, X, Y, B});
}

template <typename T>
void contract_reverse(const Contraction<T>& shape, const T* Y, const T* gB, T* gX,
                      cudaStream_t stream) {
  const ContractReverse<T> kernel = {shape, Y, gB, gX};
  launch(shape.size, kernel.shared(), stream, kernel);
}

#define DPMASK_INSTANTIATE(T)                                                             \
  template void contract<T>(const Contraction<T>&, const T*, const T*, T*, cudaStream_t); \
  template void contract_reverse<T>(const Contraction<T>&, const T*, const T*, T*, cudaStream_t)
DPMASK_INSTANTIATE(float);
DPMASK_INSTANTIATE(double);

}  // namespace dpmask::cuda
