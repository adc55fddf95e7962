// SPDX-License-Identifier: LGPL-3.0-or-later
// What the TensorFlow operators share. An operator checks shapes, allocates and calls a kernel.
#pragma once

#include <algorithm>
#include <atomic>
#include <exception>
#include <new>
#include <stdexcept>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "first_exception.h"
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

// The threads of the operator's device, the calling one among them: each takes the next of the n
// when it is done with one.
inline Parallel pool_of(tf::OpKernelContext* ctx) {
  auto* workers = ctx->device()->tensorflow_cpu_worker_threads()->workers;
  return [workers](int64_t n, const std::function<void(int64_t)>& body) {
    FirstException first;
    std::atomic<int64_t> next{0};
    const auto work = [&](int64_t, int64_t) {
      for (int64_t k = next++; k < n; k = next++) first.guard([&] { body(k); });
    };
    const int64_t threads = std::min<int64_t>(n, workers->NumThreads());
    workers->ParallelFor(threads, tsl::thread::ThreadPool::SchedulingParams::Fixed(1), work);
    first.rethrow();
  };
}

// Runs the body of an operator; what it throws becomes the operator's error.
template <typename Body>
void guarded(tf::OpKernelContext* ctx, Body&& body) {
  try {
    body();
  } catch (const std::bad_alloc&) {
    ctx->CtxFailure(absl::ResourceExhaustedError("deepmd-mask: out of memory"));
  } catch (const std::exception& error) {
    ctx->CtxFailure(invalid("deepmd-mask: ", error.what()));
  }
}

}  // namespace dpmask
