// SPDX-License-Identifier: LGPL-3.0-or-later
// A compressed model from the real atoms to energies, forces and virials, as one operator: it is
// not trained, so nothing within it needs a gradient of TensorFlow's. Shapes: bias [ntypes], energy
// [nframes], atom_energy [nframes, nslots], the others as in embedding_ops.cc.
#include "op/potential/evaluation.h"
#include "op/tensorflow/embedding_operator.h"

namespace dpmask {
namespace {

REGISTER_OP(DPMASK_OP("Potential"))
    .DPMASK_EMBEDDING_ATTRIBUTES.DPMASK_SERIES_INPUTS.Attr("M2: int >= 1")
    .Attr("Q: int >= 1")
    .Attr("fitting_neuron: list(int) >= 0")
    .Attr("fitting_resnet_dt: bool")
    .Attr("fitting_activation: string")
    .Input("bias: double")
    .Input("fitting_parameters: Q * T")
    .Input("parameters: P * T")
    .Output("energy: double")
    .Output("atom_energy: double")
    .Output("force: double")
    .Output("virial: double")
    .Output("atom_virial: double")
    .SetShapeFn([](InferenceContext* c) {
      TF_RETURN_IF_ERROR(set_force_shapes(c, 2));
      const DimensionHandle nframes = c->Dim(c->input(0), 0);
      c->set_output(0, c->Vector(nframes));
      c->set_output(1, c->Matrix(nframes, InferenceContext::kUnknownDim));
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
    const RealAtoms& atoms = embedding.atoms;
    const tf::Tensor& bias = ctx->input(this->kOwnInput);
    throw_failure(require_shape("bias", bias, shape_of({atoms.ntypes})));
    std::vector<int64_t> type_first;
    for (int64_t t = 0; t <= atoms.ntypes; ++t)
      type_first.push_back(atoms.first[t * atoms.nframes]);
    FittingNets<T> fitting_nets = fitting_nets_;
    int64_t nnets;
    throw_failure(collect_parameters(ctx, "fitting_parameters", &fitting_nets, &nnets));
    throw_failure(require_net_of_each_type(fitting_nets, nnets));
    this->X_shape(embedding);  // sizes of arrays must be numbers
    product(atoms.size, fitting_nets.ninputs);

    auto&& device = Device::of(ctx);
    const int64_t nslots = ctx->input(0).dim_size(1) / 3;
    const Energies energies = {allocate_output<double>(ctx, 0, shape_of({atoms.nframes})),
                               allocate_output<double>(ctx, 1, shape_of({atoms.nframes, nslots}))};
    clear<double>({energies.atom_energy}, {atoms.nframes * nslots}, device);
    const Forces forces = allocate_forces(ctx, 2, device);
    evaluate<T>({embedding, fitting_nets, M2_, data<double>(bias), type_first.data()}, energies,
                forces, device);
  }

 private:
  int64_t M2_ = 0;
  FittingNets<T> fitting_nets_;
};

DPMASK_REGISTER("Potential", PotentialOp, DPMASK_HOST_OFFSETS);

}  // namespace
}  // namespace dpmask
