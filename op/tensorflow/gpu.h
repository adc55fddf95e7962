// SPDX-License-Identifier: LGPL-3.0-or-later
// The GPU of a TensorFlow operator, and the kernels of op/kernels on it.
#pragma once

#include <vector>

#include "cuda/common/gpu.h"
#include "cuda/descriptor.h"
#include "cuda/embedding.h"
#include "cuda/fitting.h"
#include "cuda/readout.h"
#include "cuda/series/fit_series.h"
#include "op/tensorflow/operator.h"

namespace dpmask {

// With the operator's stream and temporary memory. Throws Failure where there is none.
class TensorFlowGpu : public Gpu {
 public:
  static const char* type() { return tf::DEVICE_GPU; }
  static TensorFlowGpu of(tf::OpKernelContext* ctx) { return TensorFlowGpu(ctx); }

 private:
  explicit TensorFlowGpu(tf::OpKernelContext* ctx);
  void* allocate_bytes(int64_t size) override;

  tf::OpKernelContext* ctx_;
  std::vector<tf::Tensor> memory_;
};

}  // namespace dpmask
