// SPDX-License-Identifier: LGPL-3.0-or-later
// What the TensorFlow operators share. An operator checks shapes, allocates and calls a kernel.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

// The operators' names begin like this because all that TensorFlow says where this library is
// missing is "Op type not registered" and the name.
#define DPMASK_OP(name) "PipInstallDeepmdMask>" name

#define DPMASK_REGISTER(name, Op)                                                                  \
  REGISTER_KERNEL_BUILDER(Name(DPMASK_OP(name)).Device(tf::DEVICE_CPU).TypeConstraint<float>("T"), \
                          Op<float>);                                                              \
  REGISTER_KERNEL_BUILDER(                                                                         \
      Name(DPMASK_OP(name)).Device(tf::DEVICE_CPU).TypeConstraint<double>("T"), Op<double>)

namespace dpmask {

namespace tf = tensorflow;
using tf::shape_inference::DimensionHandle;
using tf::shape_inference::InferenceContext;
using tf::shape_inference::ShapeHandle;

template <typename... Parts>
absl::Status invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

template <typename T>
T* data(tf::Tensor* tensor) {
  return tensor->flat<T>().data();
}
template <typename T>
const T* data(const tf::Tensor& tensor) {
  return tensor.flat<T>().data();
}

// The threads of the operator's device.
inline Parallel pool_of(tf::OpKernelContext* ctx) {
  auto* workers = ctx->device()->tensorflow_cpu_worker_threads()->workers;
  return [workers](int64_t n, const std::function<void(int64_t)>& body) {
    if (n == 1) return body(0);
    workers->ParallelFor(n, tsl::thread::ThreadPool::SchedulingParams::Fixed(1),
                         [&body](int64_t first, int64_t last) {
                           for (int64_t k = first; k < last; ++k) body(k);
                         });
  };
}

}  // namespace dpmask
