// SPDX-License-Identifier: LGPL-3.0-or-later
// X, forces, and the gradients of both. Shapes: X, A and their gradients [size, 4, M1], force
// [nframes, nslots * 3], virial [nframes, 9], atom_virial [nframes, nslots * 9].
#include "op/tensorflow/embedding_operator.h"

namespace dpmask {
namespace {

absl::Status set_X_shape(InferenceContext* c, int output) {
  DimensionHandle M1;
  TF_RETURN_IF_ERROR(get_M1(c, &M1));
  ShapeHandle slot;
  TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 1, &slot));
  c->set_output(output, c->MakeShape({c->Dim(slot, 0), c->MakeDim(4), M1}));
  return absl::OkStatus();
}

REGISTER_OP(DPMASK_OP("Embed"))
    .DPMASK_EMBEDDING_ATTRIBUTES.DPMASK_SERIES_INPUTS.Input("parameters: P * T")
    .Output("x: T")
    .SetShapeFn([](InferenceContext* c) { return set_X_shape(c, 0); });

REGISTER_OP(DPMASK_OP("EmbedGrad"))
    .DPMASK_EMBEDDING_ATTRIBUTES.DPMASK_SERIES_INPUTS.Input("dx: T")
    .Input("parameters: P * T")
    .Output("dc: T")
    .Output("dparameters: P * T")
    .SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->input(kSeriesInput + 2));
      return set_parameter_shapes(c, 1);
    });

REGISTER_OP(DPMASK_OP("Force"))
    .DPMASK_EMBEDDING_ATTRIBUTES.DPMASK_SERIES_INPUTS.Input("a: T")
    .Input("parameters: P * T")
    .Output("force: double")
    .Output("virial: double")
    .Output("atom_virial: double")
    .SetShapeFn([](InferenceContext* c) { return set_force_shapes(c, 0); });

REGISTER_OP(DPMASK_OP("ForceGrad"))
    .DPMASK_EMBEDDING_ATTRIBUTES.DPMASK_SERIES_INPUTS.Input("a: T")
    .Input("dforce: double")
    .Input("dvirial: double")
    .Input("datom_virial: double")
    .Input("parameters: P * T")
    .Output("da: T")
    .Output("dc: T")
    .Output("dparameters: P * T")
    .SetShapeFn([](InferenceContext* c) {
      TF_RETURN_IF_ERROR(set_X_shape(c, 0));
      c->set_output(1, c->input(kSeriesInput + 2));
      return set_parameter_shapes(c, 2);
    });

template <typename T, typename Device>
class EmbedOp : public EmbeddingOp<T> {
 public:
  using EmbeddingOp<T>::EmbeddingOp;
  void run(tf::OpKernelContext* ctx, const Embedding<T>& embedding) override {
    auto&& device = Device::of(ctx);
    embed(embedding, allocate_output<T>(ctx, 0, this->X_shape(embedding)), device);
  }
};

template <typename T, typename Device>
class EmbedGradOp : public EmbeddingOp<T> {
 public:
  using EmbeddingOp<T>::EmbeddingOp;
  void run(tf::OpKernelContext* ctx, const Embedding<T>& embedding) override {
    const tf::Tensor& dX = ctx->input(this->kOwnInput);
    require_shape("dX", dX, this->X_shape(embedding));
    auto&& device = Device::of(ctx);
    embed_grad(embedding, data<T>(dX), this->allocate_gradients(ctx, 0), device);
  }
};

template <typename T, typename Device>
class ForceOp : public EmbeddingOp<T> {
 public:
  using EmbeddingOp<T>::EmbeddingOp;
  void run(tf::OpKernelContext* ctx, const Embedding<T>& embedding) override {
    const tf::Tensor& A = ctx->input(this->kOwnInput);
    require_shape("A", A, this->X_shape(embedding));
    auto&& device = Device::of(ctx);
    force(embedding, data<T>(A), allocate_forces(ctx, 0, device), device);
  }
};

template <typename T, typename Device>
class ForceGradOp : public EmbeddingOp<T> {
 public:
  using EmbeddingOp<T>::EmbeddingOp;
  void run(tf::OpKernelContext* ctx, const Embedding<T>& embedding) override {
    const tf::Tensor& A = ctx->input(this->kOwnInput);
    require_shape("A", A, this->X_shape(embedding));
    constexpr const char* kNames[] = {"dforce", "dvirial", "datom_virial"};
    std::vector<const double*> given;
    for (int64_t width : widths_of_forces(ctx)) {
      const tf::Tensor& input = ctx->input(this->kOwnInput + 1 + static_cast<int>(given.size()));
      const tf::TensorShape wanted = shape_of({embedding.atoms.nframes, width});
      require_shape(kNames[given.size()], input, wanted);
      given.push_back(data<double>(input));
    }
    T* dA = allocate_output<T>(ctx, 0, A.shape());
    auto&& device = Device::of(ctx);
    force_grad(embedding, data<T>(A), {given[0], given[1], given[2]}, dA,
               this->allocate_gradients(ctx, 1), device);
  }
};

DPMASK_REGISTER("Embed", EmbedOp, DPMASK_HOST_OFFSETS);
DPMASK_REGISTER("EmbedGrad", EmbedGradOp, DPMASK_HOST_OFFSETS);
DPMASK_REGISTER("Force", ForceOp, DPMASK_HOST_OFFSETS);
DPMASK_REGISTER("ForceGrad", ForceGradOp, DPMASK_HOST_OFFSETS);

}  // namespace
}  // namespace dpmask
