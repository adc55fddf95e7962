// SPDX-License-Identifier: LGPL-3.0-or-later
// The fitting nets. Shapes: type_first [ntypes + 1], D, A and their gradients [size, ninputs], e
// [size], z [z_size].
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
    guarded(ctx, [&] {
      const tf::Tensor &type_first = ctx->input(0), &D = ctx->input(1);
      if (D.dims() != 2) throw_invalid("D must have the shape [size, ninputs]");
      throw_failure(require_ninputs(D.dim_size(1)));
      require_shape("type_first", type_first, shape_of({nets_.ntypes + 1}));
      require_offsets("type_first", type_first, D.dim_size(0));
      FittingNets<T> nets = nets_;
      nets.ninputs = D.dim_size(1);
      collect_fitting_parameters(ctx, "parameters", &nets);
      run(ctx, {nets, data<int64_t>(type_first), data<T>(D)});
    });
  }

 protected:
  virtual void run(tf::OpKernelContext* ctx, const Fitting<T>& fitting) = 0;

 private:
  FittingNets<T> nets_;
};

template <typename T, typename Device>
class EnergiesOp : public FittingOp<T> {
 public:
  using FittingOp<T>::FittingOp;
  void run(tf::OpKernelContext* ctx, const Fitting<T>& fitting) override {
    T* e = allocate_output<T>(ctx, 0, shape_of({fitting.size()}));
    T* A = allocate_output<T>(ctx, 1, ctx->input(1).shape());
    T* z = allocate_output<T>(ctx, 2, shape_of({fitting.z_size()}));
    auto&& device = Device::of(ctx);
    energies(fitting, e, A, z, device);
  }
};

template <typename T, typename Device>
class EnergiesGradOp : public FittingOp<T> {
 public:
  using FittingOp<T>::FittingOp;
  void run(tf::OpKernelContext* ctx, const Fitting<T>& fitting) override {
    const int last = ctx->num_inputs() - 1;
    const tf::Tensor &z = ctx->input(last - 2), &de = ctx->input(last - 1), &dA = ctx->input(last);
    require_shape("z", z, shape_of({fitting.z_size()}));
    require_shape("de", de, shape_of({fitting.size()}));
    require_shape("dA", dA, ctx->input(1).shape());
    T* dD = allocate_output<T>(ctx, 0, dA.shape());
    auto&& device = Device::of(ctx);
    energies_grad(fitting, data<T>(z), data<T>(de), data<T>(dA), dD,
                  allocate_dparameters<T>(ctx, 1), device);
  }
};

DPMASK_REGISTER("Energies", EnergiesOp, .HostMemory("type_first"));
DPMASK_REGISTER("EnergiesGrad", EnergiesGradOp, .HostMemory("type_first"));

}  // namespace
}  // namespace dpmask
