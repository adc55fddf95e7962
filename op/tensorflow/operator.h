// SPDX-License-Identifier: LGPL-3.0-or-later
// What the TensorFlow operators share. An operator checks shapes, allocates and calls a kernel,
// with what its device gives it as the last argument: TensorFlowCpu, or TensorFlowGpu of gpu.h.
// Whatever is wrong with its input is thrown, within guarded; a constructor, from which nothing may
// be thrown, has OP_REQUIRES.
#pragma once

#include <algorithm>
#include <atomic>
#include <exception>
#include <initializer_list>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "op/kernels/atom_error.h"
#include "op/kernels/cpu.h"
#include "op/kernels/first_exception.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

// The operators' names begin like this because all that TensorFlow says where this library is
// missing is "Op type not registered" and the name.
#define DPMASK_OP(name) "PipInstallDeepmdMask>" name

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
class TensorFlowCpu : public Cpu {
 public:
  static const char* type() { return tf::DEVICE_CPU; }
  static TensorFlowCpu of(tf::OpKernelContext* ctx) { return TensorFlowCpu(ctx); }
  int64_t threads() const override { return workers_->NumThreads(); }

 private:
  explicit TensorFlowCpu(tf::OpKernelContext* ctx)
      : workers_(ctx->device()->tensorflow_cpu_worker_threads()->workers) {}

  void run(int64_t n, const LoopBody& body) override {
    FirstException first;
    std::atomic<int64_t> next{0};
    const auto work = [&](int64_t, int64_t) {
      for (int64_t k = next++; k < n; k = next++) first.guard([&] { body(k); });
    };
    workers_->ParallelFor(std::min(n, threads()),
                          tsl::thread::ThreadPool::SchedulingParams::Fixed(1), work);
    first.rethrow();
  }

  tsl::thread::ThreadPool* workers_;
};

// A status that is no success, thrown.
struct Failure : std::exception {
  explicit Failure(absl::Status of) : status(std::move(of)) {}
  absl::Status status;
};
inline void throw_failure(const absl::Status& status) {
  if (!status.ok()) throw Failure(status);
}
template <typename... Parts>
[[noreturn]] void throw_invalid(const Parts&... parts) {
  throw Failure(invalid(parts...));
}

// The product of two sizes. Throws std::invalid_argument if it is no int64.
inline int64_t product(int64_t a, int64_t b) {
  int64_t of_both;
  if (!__builtin_mul_overflow(a, b, &of_both)) return of_both;
  throw std::invalid_argument(absl::StrCat("shapes are too large: ", a, " times ", b));
}

// The shape of these dimensions, as every shape is made that no tensor has yet: of dimensions that
// are too large TensorShape itself makes the end of the process. Throws Failure.
inline tf::TensorShape shape_of(std::initializer_list<int64_t> dimensions) {
  tf::TensorShape shape;
  throw_failure(tf::TensorShape::BuildTensorShape(dimensions, &shape));
  return shape;
}

// Throws Failure, as all of these functions.
inline void require_shape(const char* name, const tf::Tensor& found,
                          const tf::TensorShape& wanted) {
  if (found.shape() == wanted) return;
  throw_invalid(name, " must have the shape ", wanted.DebugString(), ", not ",
                found.shape().DebugString());
}

// Offsets begin with 0, do not decrease, and end with last.
inline void require_offsets(const char* name, const tf::Tensor& offsets, int64_t last) {
  const int64_t* all = data<int64_t>(offsets);
  const int64_t size = offsets.NumElements();
  if (size > 0 && all[0] == 0 && all[size - 1] == last && std::is_sorted(all, all + size)) return;
  throw_invalid(name, " must begin with 0, not decrease, and end with ", last);
}

// Memory of an output.
template <typename T>
T* allocate_output(tf::OpKernelContext* ctx, int index, const tf::TensorShape& shape) {
  tf::Tensor* out = nullptr;
  throw_failure(ctx->allocate_output(index, shape, &out));
  return data<T>(out);
}

// Runs the body of an operator; what it throws becomes the operator's error.
template <typename Body>
void guarded(tf::OpKernelContext* ctx, Body&& body) {
  try {
    body();
  } catch (const Failure& failure) {
    ctx->CtxFailure(failure.status);
  } catch (const std::bad_alloc&) {
    ctx->CtxFailure(absl::ResourceExhaustedError("deepmd-mask: out of memory"));
  } catch (const std::length_error&) {  // an array larger than any memory
    ctx->CtxFailure(absl::ResourceExhaustedError("deepmd-mask: out of memory"));
  } catch (const AtomError& error) {
    absl::Status status = invalid("deepmd-mask: ", error.what());
    const std::string written = error.fault.written();
    status.SetPayload(AtomFault::kKey, absl::Cord(absl::string_view(written)));
    ctx->CtxFailure(status);
  } catch (const std::invalid_argument& error) {
    ctx->CtxFailure(invalid("deepmd-mask: ", error.what()));
  } catch (const std::exception& error) {
    ctx->CtxFailure(absl::InternalError(absl::StrCat("deepmd-mask: ", error.what())));
  }
}

}  // namespace dpmask
