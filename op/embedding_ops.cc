// SPDX-License-Identifier: LGPL-3.0-or-later
// X, forces, and the gradients of both. Shapes: coord [nframes, nslots * 3], the real atoms' arrays
// as in RealAtoms, X, A and their gradients [size, 4, M1], force [nframes, nslots * 3], virial
// [nframes, 9], atom_virial [nframes, nslots * 9].
#include <algorithm>
#include <stdexcept>
#include <tuple>

#include "activation_names.h"
#include "operator.h"

namespace dpmask {
namespace {

absl::Status set_X_shape(InferenceContext* c, int output) {
  std::vector<int32_t> neuron;
  TF_RETURN_IF_ERROR(c->GetAttr("neuron", &neuron));
  if (neuron.empty()) return invalid("neuron is empty");
  c->set_output(output,
                c->MakeShape({c->Dim(c->input(1), 0), c->MakeDim(4), c->MakeDim(neuron.back())}));
  return absl::OkStatus();
}

// The outputs from first on have the shapes of the last inputs, the parameters.
absl::Status set_parameter_shapes(InferenceContext* c, int first) {
  const int count = c->num_outputs() - first;
  for (int p = 0; p < count; ++p) {
    c->set_output(first + p, c->input(c->num_inputs() - count + p));
  }
  return absl::OkStatus();
}

#define DPMASK_EMBEDDING_ATTRIBUTES   \
  Attr("T: {float, double}")          \
      .Attr("P: int >= 1")            \
      .Attr("neuron: list(int) >= 1") \
      .Attr("resnet_dt: bool")        \
      .Attr("activation: string")     \
      .Attr("net: list(int) >= 1")    \
      .Attr("n: float")               \
      .Input("coord: double")         \
      .Input("slot: int64")           \
      .Input("weight: double")        \
      .Input("first: int64")

REGISTER_OP(DPMASK_OP("Embed"))
    .DPMASK_EMBEDDING_ATTRIBUTES.Input("parameters: P * T")
    .Output("x: T")
    .SetShapeFn([](InferenceContext* c) { return set_X_shape(c, 0); });

REGISTER_OP(DPMASK_OP("EmbedGrad"))
    .DPMASK_EMBEDDING_ATTRIBUTES.Input("dx: T")
    .Input("parameters: P * T")
    .Output("dparameters: P * T")
    .SetShapeFn([](InferenceContext* c) { return set_parameter_shapes(c, 0); });

REGISTER_OP(DPMASK_OP("Force"))
    .DPMASK_EMBEDDING_ATTRIBUTES.Input("a: T")
    .Input("parameters: P * T")
    .Output("force: double")
    .Output("virial: double")
    .Output("atom_virial: double")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle coord;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 2, &coord));
      const DimensionHandle nframes = c->Dim(coord, 0);
      DimensionHandle nine_per_slot;
      TF_RETURN_IF_ERROR(c->Multiply(c->Dim(coord, 1), 3, &nine_per_slot));
      c->set_output(0, coord);
      c->set_output(1, c->MakeShape({nframes, c->MakeDim(9)}));
      c->set_output(2, c->MakeShape({nframes, nine_per_slot}));
      return absl::OkStatus();
    });

REGISTER_OP(DPMASK_OP("ForceGrad"))
    .DPMASK_EMBEDDING_ATTRIBUTES.Input("a: T")
    .Input("dforce: double")
    .Input("dvirial: double")
    .Input("datom_virial: double")
    .Input("parameters: P * T")
    .Output("da: T")
    .Output("dparameters: P * T")
    .SetShapeFn([](InferenceContext* c) {
      TF_RETURN_IF_ERROR(set_X_shape(c, 0));
      return set_parameter_shapes(c, 1);
    });

// The base of the operators that work on an Embedding. Inputs 0 to 3 are coord, slot, weight and
// first; the parameters come last.
template <typename T>
class EmbeddingOp : public tf::OpKernel {
 public:
  explicit EmbeddingOp(tf::OpKernelConstruction* ctx) : OpKernel(ctx) {
    std::vector<int32_t> neuron, net;
    std::string activation;
    OP_REQUIRES_OK(ctx, ctx->GetAttr("neuron", &neuron));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("net", &net));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("resnet_dt", &nets_.resnet_dt));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("activation", &activation));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("n", &n_));
    nets_.neuron.assign(neuron.begin(), neuron.end());
    nets_.net.assign(net.begin(), net.end());
    while (ntypes_ * ntypes_ < static_cast<int64_t>(net.size())) ++ntypes_;
    OP_REQUIRES(ctx, n_ > 0 && *std::min_element(neuron.begin(), neuron.end()) > 0,
                invalid("n and neuron must be positive"));
    OP_REQUIRES(ctx, ntypes_ * ntypes_ == static_cast<int64_t>(net.size()),
                invalid("net must have ntypes * ntypes entries"));
    try {
      std::tie(nets_.activation, nets_.threshold) = activation_named(activation);
    } catch (const std::invalid_argument& error) {
      ctx->CtxFailure(invalid(error.what()));
    }
  }

  void Compute(tf::OpKernelContext* ctx) override {
    Embedding<T> embedding{{}, nullptr, nets_, n_};
    OP_REQUIRES_OK(ctx, collect(ctx, &embedding));
    guarded(ctx, [&] { run(ctx, embedding); });
  }

 protected:
  virtual void run(tf::OpKernelContext* ctx, const Embedding<T>& embedding) = 0;

  static int64_t nslots(tf::OpKernelContext* ctx) { return ctx->input(0).dim_size(1) / 3; }
  static tf::TensorShape X_shape(const Embedding<T>& embedding) {
    return tf::TensorShape({embedding.atoms.size, 4, embedding.nets.neuron.back()});
  }
  static absl::Status require_shape(const char* name, const tf::Tensor& found,
                                    const tf::TensorShape& wanted) {
    if (found.shape() == wanted) return absl::OkStatus();
    return invalid(name, " must have the shape ", wanted.DebugString(), ", not ",
                   found.shape().DebugString());
  }
  // Allocates the gradients of the parameters as the outputs from first on.
  static std::vector<T*> allocate_dparameters(tf::OpKernelContext* ctx, int first) {
    std::vector<T*> all;
    const int count = ctx->num_outputs() - first;
    for (int p = 0; p < count; ++p) {
      tf::Tensor* out = nullptr;
      const tf::Tensor& parameter = ctx->input(ctx->num_inputs() - count + p);
      const absl::Status status = ctx->allocate_output(first + p, parameter.shape(), &out);
      if (!status.ok()) {
        ctx->CtxFailure(status);
        return {};
      }
      all.push_back(data<T>(out));
    }
    return all;
  }

 private:
  absl::Status collect(tf::OpKernelContext* ctx, Embedding<T>* embedding) const {
    const tf::Tensor& coord = ctx->input(0);
    const tf::Tensor& slot = ctx->input(1);
    const tf::Tensor& weight = ctx->input(2);
    const tf::Tensor& first = ctx->input(3);
    if (coord.dims() != 2 || coord.dim_size(1) % 3 != 0) {
      return invalid("coord must have the shape [nframes, nslots * 3], not ",
                     coord.shape().DebugString());
    }
    const int64_t nframes = coord.dim_size(0);
    TF_RETURN_IF_ERROR(require_shape("weight", weight, slot.shape()));
    TF_RETURN_IF_ERROR(require_shape("first", first, tf::TensorShape({ntypes_ * nframes + 1})));
    const int64_t* rows = data<int64_t>(first);
    if (rows[0] != 0 || rows[ntypes_ * nframes] != slot.NumElements() ||
        !std::is_sorted(rows, rows + ntypes_ * nframes + 1)) {
      return invalid(
          "first must begin with 0, not decrease, and end with the number of real atoms");
    }
    embedding->atoms = {nframes,
                        ntypes_,
                        slot.NumElements(),
                        data<int64_t>(slot),
                        data<double>(weight),
                        data<int64_t>(first)};
    embedding->coord = data<double>(coord);

    tf::OpInputList parameters;
    TF_RETURN_IF_ERROR(ctx->input_list("parameters", &parameters));
    const std::vector<int64_t> sizes = nets_.sizes();
    const int64_t nnets = parameters.size() / static_cast<int64_t>(sizes.size());
    if (nnets * static_cast<int64_t>(sizes.size()) != parameters.size()) {
      return invalid("each net has ", sizes.size(), " parameters, but ", parameters.size(),
                     " were given");
    }
    for (int p = 0; p < parameters.size(); ++p) {
      if (parameters[p].NumElements() != sizes[p % sizes.size()]) {
        return invalid("parameter ", p, " must have ", sizes[p % sizes.size()], " entries, not ",
                       parameters[p].NumElements());
      }
      embedding->nets.parameters.push_back(data<T>(parameters[p]));
    }
    for (int32_t net : nets_.net) {
      if (net >= nnets) return invalid("net ", net, " has no parameters");
    }
    return absl::OkStatus();
  }

  EmbeddingNets<T> nets_;
  float n_ = 0;
  int64_t ntypes_ = 0;
};

template <typename T>
class EmbedOp : public EmbeddingOp<T> {
 public:
  using EmbeddingOp<T>::EmbeddingOp;
  void run(tf::OpKernelContext* ctx, const Embedding<T>& embedding) override {
    tf::Tensor* X = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, this->X_shape(embedding), &X));
    embed(embedding, data<T>(X), pool_of(ctx));
  }
};

template <typename T>
class EmbedGradOp : public EmbeddingOp<T> {
 public:
  using EmbeddingOp<T>::EmbeddingOp;
  void run(tf::OpKernelContext* ctx, const Embedding<T>& embedding) override {
    const tf::Tensor& dX = ctx->input(4);
    OP_REQUIRES_OK(ctx, this->require_shape("dX", dX, this->X_shape(embedding)));
    const std::vector<T*> dparameters = this->allocate_dparameters(ctx, 0);
    if (!ctx->status().ok()) return;
    embed_grad(embedding, data<T>(dX), dparameters, pool_of(ctx));
  }
};

template <typename T>
class ForceOp : public EmbeddingOp<T> {
 public:
  using EmbeddingOp<T>::EmbeddingOp;
  void run(tf::OpKernelContext* ctx, const Embedding<T>& embedding) override {
    const tf::Tensor& A = ctx->input(4);
    OP_REQUIRES_OK(ctx, this->require_shape("A", A, this->X_shape(embedding)));
    const int64_t nframes = embedding.atoms.nframes;
    const int64_t widths[] = {3 * this->nslots(ctx), 9, 9 * this->nslots(ctx)};
    double* arrays[3];
    for (int k = 0; k < 3; ++k) {
      tf::Tensor* out = nullptr;
      OP_REQUIRES_OK(ctx, ctx->allocate_output(k, tf::TensorShape({nframes, widths[k]}), &out));
      out->flat<double>().setZero();
      arrays[k] = data<double>(out);
    }
    force(embedding, data<T>(A), {arrays[0], arrays[1], arrays[2]}, pool_of(ctx));
  }
};

template <typename T>
class ForceGradOp : public EmbeddingOp<T> {
 public:
  using EmbeddingOp<T>::EmbeddingOp;
  void run(tf::OpKernelContext* ctx, const Embedding<T>& embedding) override {
    const tf::Tensor& A = ctx->input(4);
    OP_REQUIRES_OK(ctx, this->require_shape("A", A, this->X_shape(embedding)));
    const int64_t nframes = embedding.atoms.nframes;
    const int64_t nslots = this->nslots(ctx);
    OP_REQUIRES_OK(
        ctx, this->require_shape("dforce", ctx->input(5), tf::TensorShape({nframes, 3 * nslots})));
    OP_REQUIRES_OK(ctx,
                   this->require_shape("dvirial", ctx->input(6), tf::TensorShape({nframes, 9})));
    OP_REQUIRES_OK(ctx, this->require_shape("datom_virial", ctx->input(7),
                                            tf::TensorShape({nframes, 9 * nslots})));
    tf::Tensor* dA = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, A.shape(), &dA));
    const std::vector<T*> dparameters = this->allocate_dparameters(ctx, 1);
    if (!ctx->status().ok()) return;
    const ForceCotangents given = {data<double>(ctx->input(5)), data<double>(ctx->input(6)),
                                   data<double>(ctx->input(7))};
    force_grad(embedding, data<T>(A), given, data<T>(dA), dparameters, pool_of(ctx));
  }
};

DPMASK_REGISTER("Embed", EmbedOp);
DPMASK_REGISTER("EmbedGrad", EmbedGradOp);
DPMASK_REGISTER("Force", ForceOp);
DPMASK_REGISTER("ForceGrad", ForceGradOp);

}  // namespace
}  // namespace dpmask
