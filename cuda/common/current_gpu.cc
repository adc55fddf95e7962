// SPDX-License-Identifier: LGPL-3.0-or-later
#include "cuda/common/current_gpu.h"

namespace dpmask::cuda {

#ifdef DPMASK_EMULATED
std::string reason_against_gpu() { return ""; }
int current_gpu() { return 0; }
OnGpuOfNumber::OnGpuOfNumber(int) {}
OnGpuOfNumber::~OnGpuOfNumber() {}
OwnStream::OwnStream(int) : stream_(expected_stream) {}
OwnStream::~OwnStream() {}
#else
namespace {

constexpr int kLeastCapability = 8;

// A function of the driver, which is not linked, so that this library loads where there is none.
template <typename Function>
Function* of_driver(const char* name) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result;
#if CUDART_VERSION >= 12050
  const cudaError_t error =
      cudaGetDriverEntryPointByVersion(name, &found, 12000, cudaEnableDefault, &result);
#else
  const cudaError_t error = cudaGetDriverEntryPoint(name, &found, cudaEnableDefault, &result);
#endif
  return error == cudaSuccess ? reinterpret_cast<Function*>(found) : nullptr;
}

}  // namespace

std::string reason_against_gpu() {
  int count = 0, number = 0, capability = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorInsufficientDriver) {  // which is what CUDA says without a driver, too
    return "NVIDIA's driver is missing, or too old for CUDA " +
           std::to_string(CUDART_VERSION / 1000) + "." + std::to_string(CUDART_VERSION % 1000 / 10);
  }
  if (error != cudaSuccess) return cudaGetErrorString(error);
  if (count == 0) return "the driver finds none";
  if (cudaGetDevice(&number) != cudaSuccess ||
      cudaDeviceGetAttribute(&capability, cudaDevAttrComputeCapabilityMajor, number) !=
          cudaSuccess ||
      capability >= kLeastCapability) {
    return "";  // or an error that work on it will meet
  }
  return "its compute capability is below " + std::to_string(kLeastCapability) + ".0";
}

int current_gpu() {
  int number = 0;
  require_success(cudaGetDevice(&number));
  return number;
}

OnGpuOfNumber::OnGpuOfNumber(int number) {
  static auto* const get = of_driver<int(void**)>("cuCtxGetCurrent");
  if (get != nullptr && get(&before_) != 0) before_ = nullptr;
  require_success(cudaSetDevice(number));
}

OnGpuOfNumber::~OnGpuOfNumber() {
  static auto* const set = of_driver<int(void*)>("cuCtxSetCurrent");
  if (set != nullptr && before_ != nullptr) set(before_);
}

OwnStream::OwnStream(int number) {
  const OnGpuOfNumber current(number);
  require_success(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
}

OwnStream::~OwnStream() { cudaStreamDestroy(stream_); }
#endif

}  // namespace dpmask::cuda
