// SPDX-License-Identifier: LGPL-3.0-or-later
#include "op/tensorflow/gpu.h"

#include "xla/stream_executor/stream.h"

namespace dpmask {

TensorFlowGpu::TensorFlowGpu(tf::OpKernelContext* ctx)
    : Gpu(static_cast<cudaStream_t>(
          ctx->op_device_context()->stream()->platform_specific_handle().stream)),
      ctx_(ctx) {}

void* TensorFlowGpu::allocate_bytes(int64_t size) {
  memory_.emplace_back();
  throw_failure(ctx_->allocate_temp(tf::DT_UINT8, shape_of({size}), &memory_.back()));
  return memory_.back().data();
}

}  // namespace dpmask
