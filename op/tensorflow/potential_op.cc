// SPDX-License-Identifier: LGPL-3.0-or-later
// A compressed model from the real atoms to energies, forces and virials, as one operator: it is
// not trained, so nothing within it needs a gradient of TensorFlow's. Shapes: bias [ntypes], energy
// [nframes], atom_energy [nframes, nslots], the others as in embedding_ops.cc. WeightedPotential is
// the same for atoms of groups, group [size], and has dE/dw, weight_gradient [nframes, nslots].
#include "op/potential/evaluation.h"
#include "op/tensorflow/embedding_operator.h"

namespace dpmask {
namespace {

#define DPMASK_POTENTIAL_ATTRIBUTES                                     \
  DPMASK_EMBEDDING_ATTRIBUTES.DPMASK_SERIES_INPUTS.Attr("M2: int >= 1") \
      .Attr("Q: int >= 1")                                              \
      .Attr("fitting_neuron: list(int) >= 0")                           \
      .Attr("fitting_resnet_dt: bool")                                  \
      .Attr("fitting_activation: string")                               \
      .Input("bias: double")

#define DPMASK_POTENTIAL_ARRAYS      \
  Input("fitting_parameters: Q * T") \
      .Input("parameters: P * T")    \
      .Output("energy: double")      \
      .Output("atom_energy: double") \
      .Output("force: double")       \
      .Output("virial: double")      \
      .Output("atom_virial: double")

absl::Status set_potential_shapes(InferenceContext* c) {
  TF_RETURN_IF_ERROR(set_force_shapes(c, 2));
  const DimensionHandle nframes = c->Dim(c->input(0), 0);
  c->set_output(0, c->Vector(nframes));
  c->set_output(1, c->Matrix(nframes, InferenceContext::kUnknownDim));
  return absl::OkStatus();
}

REGISTER_OP(DPMASK_OP("Potential"))
    .DPMASK_POTENTIAL_ATTRIBUTES.DPMASK_POTENTIAL_ARRAYS.SetShapeFn(set_potential_shapes);

REGISTER_OP(DPMASK_OP("WeightedPotential"))
    .DPMASK_POTENTIAL_ATTRIBUTES.Input("group: int64")
    .DPMASK_POTENTIAL_ARRAYS.Output("weight_gradient: double")
    .SetShapeFn([](InferenceContext* c) {
      TF_RETURN_IF_ERROR(set_potential_shapes(c));
      c->set_output(5, c->Matrix(c->Dim(c->input(0), 0), InferenceContext::kUnknownDim));
      return absl::OkStatus();
    });

template <typename T, typename Device>
class PotentialOp : public EmbeddingOp<T> {
 public:
  explicit PotentialOp(tf::OpKernelConstruction* ctx) : EmbeddingOp<T>(ctx) {
    if (!ctx->status().ok()) return;  // a base has no nets, then
    OP_REQUIRES_OK(ctx, ctx->GetAttr("M2", &M2_));
    OP_REQUIRES_OK(ctx, read_net_attributes(ctx, "fitting_", &fitting_nets_));
    const int64_t M1 = this->nets_.neuron.back();
    OP_REQUIRES(ctx, M2_ <= M1, invalid("M2 must not be larger than M1"));
    fitting_nets_.ntypes = this->ntypes_;
    fitting_nets_.ninputs = M1 * M2_;
    OP_REQUIRES_OK(ctx, require_ninputs(fitting_nets_.ninputs));
  }

  void run(tf::OpKernelContext* ctx, const Embedding<T>& embedding) override {
    run_for(ctx, embedding, nullptr);
  }

 protected:
  // weight_gradient is zero, or nullptr.
  void run_for(tf::OpKernelContext* ctx, const Embedding<T>& embedding, double* weight_gradient) {
    const RealAtoms& atoms = embedding.atoms;
    const tf::Tensor& bias = ctx->input(this->kOwnInput);
    require_shape("bias", bias, shape_of({atoms.ntypes}));
    std::vector<int64_t> type_first;
    for (int64_t t = 0; t <= atoms.ntypes; ++t)
      type_first.push_back(atoms.first[t * atoms.nframes]);
    FittingNets<T> fitting_nets = fitting_nets_;
    collect_fitting_parameters(ctx, "fitting_parameters", &fitting_nets);
    this->X_shape(embedding);  // sizes of arrays must be numbers
    product(atoms.size, fitting_nets.ninputs);

    auto&& device = Device::of(ctx);
    const int64_t nslots = ctx->input(0).dim_size(1) / 3;
    const Energies energies = {allocate_output<double>(ctx, 0, shape_of({atoms.nframes})),
                               allocate_output<double>(ctx, 1, shape_of({atoms.nframes, nslots}))};
    clear<double>({energies.atom_energy}, {atoms.nframes * nslots}, device);
    Forces forces = allocate_forces(ctx, 2, device);
    forces.weight_gradient = weight_gradient;
    evaluate<T>({embedding, fitting_nets, M2_, data<double>(bias), type_first.data()}, energies,
                forces, device);
  }

 private:
  int64_t M2_ = 0;
  FittingNets<T> fitting_nets_;
};

DPMASK_REGISTER("Potential", PotentialOp, DPMASK_HOST_OFFSETS);

template <typename T, typename Device>
class WeightedPotentialOp : public PotentialOp<T, Device> {
 public:
  using PotentialOp<T, Device>::PotentialOp;

  void run(tf::OpKernelContext* ctx, const Embedding<T>& embedding) override {
    Embedding<T> of_groups = embedding;
    const tf::Tensor& group = ctx->input(this->kOwnInput + 1);
    require_shape("group", group, shape_of({embedding.atoms.size}));
    of_groups.atoms.group = data<int64_t>(group);
    const int64_t nframes = embedding.atoms.nframes, nslots = ctx->input(0).dim_size(1) / 3;
    double* weight_gradient = allocate_output<double>(ctx, 5, shape_of({nframes, nslots}));
    auto&& device = Device::of(ctx);
    clear<double>({weight_gradient}, {nframes * nslots}, device);
    this->run_for(ctx, of_groups, weight_gradient);
  }
};

DPMASK_REGISTER("WeightedPotential", WeightedPotentialOp, DPMASK_HOST_OFFSETS);

}  // namespace
}  // namespace dpmask
