// SPDX-License-Identifier: LGPL-3.0-or-later
#include "cuda/common/memory.h"

#include <algorithm>

#include "cuda/common/batch.h"

namespace dpmask::cuda {
namespace {

// Some numbers that travel as arguments of a kernel.
template <typename T>
struct Upload {
  static constexpr int64_t kNumbers = 2048 / sizeof(T);
  T numbers[kNumbers];
  T* array;
  DPMASK_KERNEL void operator()(int64_t k) const { array[k] = numbers[k]; }
};

template <typename T>
struct Zeros {
  T* array;
  int64_t size;
  int64_t blocks() const { return blocks_for(size); }
  DPMASK_KERNEL void operator()(const Block& block) const {
    block.share(size, [this](int64_t k) { array[k] = 0; });
  }
};

template <typename T>
struct Add {
  const T* share;
  T* sum;
  DPMASK_KERNEL void operator()(int64_t k) const { sum[k] += share[k]; }
};

}  // namespace

template <typename T>
void upload(const T* host, int64_t size, T* array, cudaStream_t stream) {
  for (int64_t first = 0; first < size; first += Upload<T>::kNumbers) {
    const int64_t count = std::min(Upload<T>::kNumbers, size - first);
    Upload<T> some{};
    std::copy_n(host + first, count, some.numbers);
    some.array = array + first;
    for_each(count, stream, some);
  }
}
template void upload<int32_t>(const int32_t*, int64_t, int32_t*, cudaStream_t);
template void upload<int64_t>(const int64_t*, int64_t, int64_t*, cudaStream_t);

template <typename T>
void download(const T* array, int64_t size, T* host, cudaStream_t stream) {
#ifdef DPMASK_EMULATED
  static_cast<void>(stream);
  const DeviceAccess access(Access::to_host);
  std::copy_n(array, size, host);
#else
  require_success(cudaMemcpyAsync(host, array, size * sizeof(T), cudaMemcpyDeviceToHost, stream));
  require_success(cudaStreamSynchronize(stream));
#endif
}
template void download<int64_t>(const int64_t*, int64_t, int64_t*, cudaStream_t);

template <typename T>
void clear(const std::vector<T*>& arrays, const std::vector<int64_t>& sizes, cudaStream_t stream) {
  std::vector<Zeros<T>> all;
  for (size_t k = 0; k < arrays.size(); ++k) all.push_back({arrays[k], sizes[k % sizes.size()]});
  launch_all(all, stream);
}
template void clear<float>(const std::vector<float*>&, const std::vector<int64_t>&, cudaStream_t);
template void clear<double>(const std::vector<double*>&, const std::vector<int64_t>&, cudaStream_t);

template <typename T>
void add(const T* share, int64_t size, T* sum, cudaStream_t stream) {
  for_each(size, stream, Add<T>{share, sum});
}
template void add<float>(const float*, int64_t, float*, cudaStream_t);
template void add<double>(const double*, int64_t, double*, cudaStream_t);

}  // namespace dpmask::cuda
