// SPDX-License-Identifier: LGPL-3.0-or-later
// The layers of the fitting nets. Shapes: type_first [ntypes + 1], x and y [rows, width], matrices
// ntypes of [inputs, outputs].
#include "operator.h"

namespace dpmask {
namespace {

#define DPMASK_PRODUCT_ATTRIBUTES \
  Attr("T: {float, double}").Attr("ntypes: int >= 1").Input("type_first: int64")

REGISTER_OP(DPMASK_OP("ProductByType"))
    .DPMASK_PRODUCT_ATTRIBUTES.Attr("transposed: bool")
    .Input("x: T")
    .Input("matrices: ntypes * T")
    .Output("y: T")
    .SetShapeFn([](InferenceContext* c) {
      bool transposed;
      TF_RETURN_IF_ERROR(c->GetAttr("transposed", &transposed));
      ShapeHandle x, W;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 2, &x));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(2), 2, &W));
      c->set_output(0, c->Matrix(c->Dim(x, 0), c->Dim(W, transposed ? 0 : 1)));
      return absl::OkStatus();
    });

REGISTER_OP(DPMASK_OP("OuterByType"))
    .DPMASK_PRODUCT_ATTRIBUTES.Input("x: T")
    .Input("y: T")
    .Output("dmatrices: ntypes * T")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle x, y;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 2, &x));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(2), 2, &y));
      for (int t = 0; t < c->num_outputs(); ++t) {
        c->set_output(t, c->Matrix(c->Dim(x, 1), c->Dim(y, 1)));
      }
      return absl::OkStatus();
    });

absl::Status check_types(const tf::Tensor& type_first, const tf::Tensor& x, int64_t ntypes) {
  if (type_first.NumElements() != ntypes + 1 || x.dims() != 2 ||
      data<int64_t>(type_first)[ntypes] != x.dim_size(0)) {
    return invalid("type_first must have ntypes + 1 entries, the last the number of rows");
  }
  return absl::OkStatus();
}

template <typename T>
class ProductByTypeOp : public tf::OpKernel {
 public:
  explicit ProductByTypeOp(tf::OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("transposed", &transposed_));
  }

  void Compute(tf::OpKernelContext* ctx) override {
    tf::OpInputList matrices;
    OP_REQUIRES_OK(ctx, ctx->input_list("matrices", &matrices));
    const tf::Tensor& x = ctx->input(1);
    OP_REQUIRES_OK(ctx, check_types(ctx->input(0), x, matrices.size()));
    OP_REQUIRES(ctx, matrices[0].dims() == 2, invalid("the matrices must have two dimensions"));
    TypeProduct<T> product{matrices.size(),
                           matrices[0].dim_size(0),
                           matrices[0].dim_size(1),
                           data<int64_t>(ctx->input(0)),
                           {}};
    for (const tf::Tensor& W : matrices) {
      OP_REQUIRES(ctx, W.shape() == matrices[0].shape(),
                  invalid("the matrices must have the same shape"));
      product.matrices.push_back(data<T>(W));
    }
    OP_REQUIRES(ctx, x.dim_size(1) == (transposed_ ? product.outputs : product.inputs),
                invalid("x has ", x.dim_size(1), " columns, which do not fit the matrices"));
    tf::Tensor* y = nullptr;
    const int64_t columns = transposed_ ? product.inputs : product.outputs;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, tf::TensorShape({x.dim_size(0), columns}), &y));
    guarded(ctx,
            [&] { product_by_type(product, data<T>(x), transposed_, data<T>(y), pool_of(ctx)); });
  }

 private:
  bool transposed_;
};

template <typename T>
class OuterByTypeOp : public tf::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(tf::OpKernelContext* ctx) override {
    const tf::Tensor& x = ctx->input(1);
    const tf::Tensor& y = ctx->input(2);
    const int ntypes = ctx->num_outputs();
    OP_REQUIRES_OK(ctx, check_types(ctx->input(0), x, ntypes));
    OP_REQUIRES(ctx, y.dims() == 2 && y.dim_size(0) == x.dim_size(0),
                invalid("x and y must have the same number of rows"));
    const TypeProduct<T> product{
        ntypes, x.dim_size(1), y.dim_size(1), data<int64_t>(ctx->input(0)), {}};
    std::vector<T*> dmatrices;
    for (int t = 0; t < ntypes; ++t) {
      tf::Tensor* dW = nullptr;
      OP_REQUIRES_OK(
          ctx, ctx->allocate_output(t, tf::TensorShape({product.inputs, product.outputs}), &dW));
      dmatrices.push_back(data<T>(dW));
    }
    guarded(ctx, [&] { outer_by_type(product, data<T>(x), data<T>(y), dmatrices, pool_of(ctx)); });
  }
};

DPMASK_REGISTER("ProductByType", ProductByTypeOp);
DPMASK_REGISTER("OuterByType", OuterByTypeOp);

}  // namespace
}  // namespace dpmask
