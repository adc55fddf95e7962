// SPDX-License-Identifier: LGPL-3.0-or-later
// The fitting nets. Shapes: type_first [ntypes + 1], D, A and their gradients [size, ninputs], e
// [size], z [z_size].
#include <algorithm>

#include "op/kernels/fitting.h"
#include "op/tensorflow/nets_operator.h"
#include "op/tensorflow/register.h"

namespace dpmask {
namespace {

#define DPMASK_FITTING_ATTRIBUTES     \
  Attr("T: {float, double}")          \
      .Attr("P: int >= 1")            \
      .Attr("ntypes: int >= 1")       \
      .Attr("neuron: list(int) >= 0") \
      .Attr("resnet_dt: bool")        \
      .Attr("activation: string")     \
      .Input("type_first: int64")     \
      .Input("d: T")                  \
      .Input("parameters: P * T")

REGISTER_OP(DPMASK_OP("Energies"))
    .DPMASK_FITTING_ATTRIBUTES.Output("e: T")
    .Output("a: T")
    .Output("z: T")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle D;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 2, &D));
      c->set_output(0, c->Vector(c->Dim(D, 0)));
      c->set_output(1, D);
      c->set_output(2, c->Vector(c->UnknownDim()));
      return absl::OkStatus();
    });

REGISTER_OP(DPMASK_OP("EnergiesGrad"))
    .DPMASK_FITTING_ATTRIBUTES.Input("z: T")
    .Input("de: T")
    .Input("da: T")
    .Output("dd: T")
    .Output("dparameters: P * T")
    .SetShapeFn([](InferenceContext* c) {
      for (int k = 0; k < c->num_outputs(); ++k) c->set_output(k, c->input(k + 1));
      return absl::OkStatus();
    });

// The base of both operators.
template <typename T>
class FittingOp : public tf::OpKernel {
 public:
  explicit FittingOp(tf::OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("ntypes", &nets_.ntypes));
    OP_REQUIRES_OK(ctx, read_net_attributes(ctx, "", &nets_));
  }

  void Compute(tf::OpKernelContext* ctx) override {
    FittingNets<T> nets = nets_;
    Fitting<T> fitting{nets, nullptr, nullptr};
    OP_REQUIRES_OK(ctx, collect(ctx, &nets, &fitting));
    guarded(ctx, [&] { run(ctx, fitting); });
  }

 protected:
  virtual void run(tf::OpKernelContext* ctx, const Fitting<T>& fitting) = 0;

 private:
  absl::Status collect(tf::OpKernelContext* ctx, FittingNets<T>* nets, Fitting<T>* fitting) const {
    const tf::Tensor& type_first = ctx->input(0);
    const tf::Tensor& D = ctx->input(1);
    if (D.dims() != 2 || type_first.NumElements() != nets_.ntypes + 1 ||
        data<int64_t>(type_first)[nets_.ntypes] != D.dim_size(0)) {
      return invalid("type_first must have ntypes + 1 entries, the last the number of rows of D");
    }
    TF_RETURN_IF_ERROR(require_ninputs(D.dim_size(1)));
    const int64_t* first = data<int64_t>(type_first);
    if (first[0] != 0 || !std::is_sorted(first, first + nets_.ntypes + 1)) {
      return invalid("type_first must begin with 0 and not decrease");
    }
    nets->ninputs = D.dim_size(1);
    fitting->type_first = data<int64_t>(type_first);
    fitting->D = data<T>(D);
    int64_t nnets;
    TF_RETURN_IF_ERROR(collect_parameters(ctx, "parameters", nets, &nnets));
    return require_net_of_each_type(nets_, nnets);
  }

  FittingNets<T> nets_;
};

template <typename T, typename Device>
class EnergiesOp : public FittingOp<T> {
 public:
  using FittingOp<T>::FittingOp;
  void run(tf::OpKernelContext* ctx, const Fitting<T>& fitting) override {
    tf::Tensor *e = nullptr, *A = nullptr, *z = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, shape_of({fitting.size()}), &e));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(1, ctx->input(1).shape(), &A));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(2, shape_of({fitting.z_size()}), &z));
    auto&& device = Device::of(ctx);
    energies(fitting, data<T>(e), data<T>(A), data<T>(z), device);
  }
};

template <typename T, typename Device>
class EnergiesGradOp : public FittingOp<T> {
 public:
  using FittingOp<T>::FittingOp;
  void run(tf::OpKernelContext* ctx, const Fitting<T>& fitting) override {
    const int nparameters = ctx->num_outputs() - 1;
    const tf::Tensor& z = ctx->input(nparameters + 2);
    const tf::Tensor& de = ctx->input(nparameters + 3);
    const tf::Tensor& dA = ctx->input(nparameters + 4);
    OP_REQUIRES(ctx,
                z.NumElements() == fitting.z_size() && de.NumElements() == fitting.size() &&
                    dA.shape() == ctx->input(1).shape(),
                invalid("z, de and dA must fit D"));
    tf::Tensor* dD = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, dA.shape(), &dD));
    std::vector<T*> dparameters;
    for (int p = 0; p < nparameters; ++p) {
      tf::Tensor* out = nullptr;
      OP_REQUIRES_OK(ctx, ctx->allocate_output(p + 1, ctx->input(p + 2).shape(), &out));
      dparameters.push_back(data<T>(out));
    }
    auto&& device = Device::of(ctx);
    energies_grad(fitting, data<T>(z), data<T>(de), data<T>(dA), data<T>(dD), dparameters, device);
  }
};

DPMASK_REGISTER("Energies", EnergiesOp, .HostMemory("type_first"));
DPMASK_REGISTER("EnergiesGrad", EnergiesGradOp, .HostMemory("type_first"));

}  // namespace
}  // namespace dpmask
