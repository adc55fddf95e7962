// SPDX-License-Identifier: LGPL-3.0-or-later
// The descriptor from X, and the gradient. Shapes: x, y and gx [size, 4, M1], b and gb
// [size, M1 * M2].
#include "op/kernels/descriptor.h"
#include "op/tensorflow/register.h"

namespace dpmask {
namespace {

REGISTER_OP(DPMASK_OP("Contract"))
    .Attr("T: {float, double}")
    .Attr("M2: int >= 1")
    .Input("x: T")
    .Input("y: T")
    .Output("b: T")
    .SetShapeFn([](InferenceContext* c) {
      int M2;
      TF_RETURN_IF_ERROR(c->GetAttr("M2", &M2));
      ShapeHandle x;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 3, &x));
      DimensionHandle columns;
      TF_RETURN_IF_ERROR(c->Multiply(c->Dim(x, 2), M2, &columns));
      c->set_output(0, c->Matrix(c->Dim(x, 0), columns));
      return absl::OkStatus();
    });

REGISTER_OP(DPMASK_OP("ContractReverse"))
    .Attr("T: {float, double}")
    .Attr("M2: int >= 1")
    .Input("y: T")
    .Input("gb: T")
    .Output("gx: T")
    .SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->input(0));
      return absl::OkStatus();
    });

// The base of both operators, whose first input is shaped like X.
template <typename T>
class ContractionOp : public tf::OpKernel {
 public:
  explicit ContractionOp(tf::OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("M2", &M2_));
  }

  void Compute(tf::OpKernelContext* ctx) override {
    guarded(ctx, [&] {
      const tf::Tensor& X = ctx->input(0);
      if (X.dims() != 3 || X.dim_size(1) != 4 || X.dim_size(2) < M2_) {
        throw_invalid("X must have the shape [size, 4, M1], M1 >= M2");
      }
      run(ctx, {X.dim_size(0), X.dim_size(2), M2_});
    });
  }

 protected:
  virtual void run(tf::OpKernelContext* ctx, const Contraction<T>& shape) = 0;
  static tf::TensorShape B_shape(const Contraction<T>& shape) {
    return shape_of({shape.size, product(shape.M1, shape.M2)});
  }

 private:
  int64_t M2_;
};

template <typename T, typename Device>
class ContractOp : public ContractionOp<T> {
 public:
  using ContractionOp<T>::ContractionOp;
  void run(tf::OpKernelContext* ctx, const Contraction<T>& shape) override {
    const tf::Tensor &X = ctx->input(0), &Y = ctx->input(1);
    require_shape("Y", Y, X.shape());
    T* B = allocate_output<T>(ctx, 0, this->B_shape(shape));
    auto&& device = Device::of(ctx);
    contract(shape, data<T>(X), data<T>(Y), B, device);
  }
};

template <typename T, typename Device>
class ContractReverseOp : public ContractionOp<T> {
 public:
  using ContractionOp<T>::ContractionOp;
  void run(tf::OpKernelContext* ctx, const Contraction<T>& shape) override {
    const tf::Tensor &Y = ctx->input(0), &gB = ctx->input(1);
    require_shape("gB", gB, this->B_shape(shape));
    T* gX = allocate_output<T>(ctx, 0, Y.shape());
    auto&& device = Device::of(ctx);
    contract_reverse(shape, data<T>(Y), data<T>(gB), gX, device);
  }
};

DPMASK_REGISTER("Contract", ContractOp, );
DPMASK_REGISTER("ContractReverse", ContractReverseOp, );

}  // namespace
}  // namespace dpmask
