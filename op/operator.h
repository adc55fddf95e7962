// SPDX-License-Identifier: LGPL-3.0-or-later
// What the TensorFlow operators share. An operator checks shapes, allocates and calls a kernel.
#pragma once

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

// The threads of the operator's device.
inline Parallel pool_of(tf::OpKernelContext* ctx) {
  auto* workers = ctx->device()->tensorflow_cpu_worker_threads()->workers;
  return [workers](int64_t n, const std::function<void(int64_t)>& unguarded) {
    FirstException first;
    const auto body = [&](int64_t k) { first.guard([&] { unguarded(k); }); };
    workers->ParallelFor(n, tsl::thread::ThreadPool::SchedulingParams::Fixed(1),
                         [&body](int64_t begin, int64_t end) {
                           for (int64_t k = begin; k < end; ++k) body(k);
                         });
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
