// SPDX-License-Identifier: LGPL-3.0-or-later
// The nets' series, X, forces, and the gradients of all. Shapes: coord [nframes, nslots * 3], the
// real atoms' arrays as in RealAtoms, the series' arrays as in Series, X, A and their gradients
// [size, 4, M1], force [nframes, nslots * 3], virial [nframes, 9], atom_virial [nframes, nslots *
// 9].
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

constexpr int kSeriesInput = 4;  // series_first, panels and C, after what all operators have

#define DPMASK_NET_ATTRIBUTES         \
  Attr("T: {float, double}")          \
      .Attr("P: int >= 0")            \
      .Attr("neuron: list(int) >= 1") \
      .Attr("resnet_dt: bool")        \
      .Attr("activation: string")

#define DPMASK_EMBEDDING_ATTRIBUTES                 \
  DPMASK_NET_ATTRIBUTES.Attr("net: list(int) >= 1") \
      .Attr("n: float")                             \
      .Input("coord: double")                       \
      .Input("slot: int64")                         \
      .Input("weight: double")                      \
      .Input("first: int64")

#define DPMASK_SERIES_INPUTS Input("series_first: int64").Input("panels: double").Input("c: T")

REGISTER_OP(DPMASK_OP("FitSeries"))
    .DPMASK_EMBEDDING_ATTRIBUTES.Input("parameters: P * T")
    .Output("series_first: int64")
    .Output("panels: double")
    .Output("c: T")
    .SetShapeFn([](InferenceContext* c) {
      std::vector<int32_t> neuron;
      TF_RETURN_IF_ERROR(c->GetAttr("neuron", &neuron));
      if (neuron.empty()) return invalid("neuron is empty");
      const DimensionHandle npanels = c->UnknownDim();
      c->set_output(0, c->MakeShape({c->UnknownDim()}));
      c->set_output(1, c->MakeShape({npanels, c->MakeDim(2)}));
      c->set_output(2, c->MakeShape({npanels, c->MakeDim(kTerms), c->MakeDim(neuron.back())}));
      return absl::OkStatus();
    });

REGISTER_OP(DPMASK_OP("FitSeriesGrad"))
    .DPMASK_NET_ATTRIBUTES.Input("series_first: int64")
    .Input("panels: double")
    .Input("dc: T")
    .Input("parameters: P * T")
    .Output("dparameters: P * T")
    .SetShapeFn([](InferenceContext* c) { return set_parameter_shapes(c, 0); });

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

absl::Status require_shape(const char* name, const tf::Tensor& found,
                           const tf::TensorShape& wanted) {
  if (found.shape() == wanted) return absl::OkStatus();
  return invalid(name, " must have the shape ", wanted.DebugString(), ", not ",
                 found.shape().DebugString());
}

// Whether numbers begin with 0, do not decrease, and end with last.
absl::Status require_offsets(const char* name, const tf::Tensor& offsets, int64_t last) {
  const int64_t* all = data<int64_t>(offsets);
  const int64_t size = offsets.NumElements();
  if (size > 0 && all[0] == 0 && all[size - 1] == last && std::is_sorted(all, all + size)) {
    return absl::OkStatus();
  }
  return invalid(name, " must begin with 0, not decrease, and end with ", last);
}

// Allocates the gradients of the parameters, which are the last inputs, as the last outputs.
template <typename T>
std::vector<T*> allocate_dparameters(tf::OpKernelContext* ctx, int first) {
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

// The base of the operators that have the nets' attributes; the nets' parameters are the last
// inputs.
template <typename T>
class NetsOp : public tf::OpKernel {
 public:
  explicit NetsOp(tf::OpKernelConstruction* ctx) : OpKernel(ctx) {
    std::vector<int32_t> neuron;
    std::string activation;
    OP_REQUIRES_OK(ctx, ctx->GetAttr("neuron", &neuron));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("resnet_dt", &nets_.resnet_dt));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("activation", &activation));
    OP_REQUIRES(ctx, *std::min_element(neuron.begin(), neuron.end()) > 0,
                invalid("neuron must be positive"));
    nets_.neuron.assign(neuron.begin(), neuron.end());
    try {
      std::tie(nets_.activation, nets_.threshold) = activation_named(activation);
    } catch (const std::invalid_argument& error) {
      ctx->CtxFailure(invalid(error.what()));
    }
  }

 protected:
  // Adds the parameters to nets.
  absl::Status collect_parameters(tf::OpKernelContext* ctx, EmbeddingNets<T>* nets,
                                  int64_t* nnets) const {
    tf::OpInputList parameters;
    TF_RETURN_IF_ERROR(ctx->input_list("parameters", &parameters));
    const std::vector<int64_t> sizes = nets_.sizes();
    *nnets = parameters.size() / static_cast<int64_t>(sizes.size());
    if (*nnets * static_cast<int64_t>(sizes.size()) != parameters.size()) {
      return invalid("each net has ", sizes.size(), " parameters, but ", parameters.size(),
                     " were given");
    }
    for (int p = 0; p < parameters.size(); ++p) {
      if (parameters[p].NumElements() != sizes[p % sizes.size()]) {
        return invalid("parameter ", p, " must have ", sizes[p % sizes.size()], " entries, not ",
                       parameters[p].NumElements());
      }
      nets->parameters.push_back(data<T>(parameters[p]));
    }
    return absl::OkStatus();
  }

  // C is the input after the panels, or its gradient.
  absl::Status collect_series(tf::OpKernelContext* ctx, int first_input, Series<T>* series) const {
    const tf::Tensor& first = ctx->input(first_input);
    const tf::Tensor& panels = ctx->input(first_input + 1);
    const tf::Tensor& C = ctx->input(first_input + 2);
    const int64_t npanels = C.dims() > 0 ? C.dim_size(0) : 0;
    TF_RETURN_IF_ERROR(
        require_shape("C", C, tf::TensorShape({npanels, kTerms, nets_.neuron.back()})));
    TF_RETURN_IF_ERROR(require_shape("panels", panels, tf::TensorShape({npanels, 2})));
    TF_RETURN_IF_ERROR(require_offsets("series_first", first, npanels));
    *series = {first.NumElements() - 1, data<int64_t>(first), data<double>(panels), data<T>(C)};
    return absl::OkStatus();
  }

  EmbeddingNets<T> nets_;
};

// The base of the operators that work on an Embedding. Inputs 0 to 3 are coord, slot, weight and
// first; then comes the series, but for the operator that makes it.
template <typename T, bool kHasSeries = true>
class EmbeddingOp : public NetsOp<T> {
 public:
  explicit EmbeddingOp(tf::OpKernelConstruction* ctx) : NetsOp<T>(ctx) {
    std::vector<int32_t> net;
    OP_REQUIRES_OK(ctx, ctx->GetAttr("net", &net));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("n", &n_));
    this->nets_.net.assign(net.begin(), net.end());
    while (ntypes_ * ntypes_ < static_cast<int64_t>(net.size())) ++ntypes_;
    OP_REQUIRES(ctx, n_ > 0, invalid("n must be positive"));
    OP_REQUIRES(ctx, ntypes_ * ntypes_ == static_cast<int64_t>(net.size()),
                invalid("net must have ntypes * ntypes entries"));
  }

  void Compute(tf::OpKernelContext* ctx) override {
    Embedding<T> embedding{{}, nullptr, this->nets_, {}, n_};
    OP_REQUIRES_OK(ctx, collect(ctx, &embedding));
    guarded(ctx, [&] { run(ctx, embedding); });
  }

 protected:
  virtual void run(tf::OpKernelContext* ctx, const Embedding<T>& embedding) = 0;

  static constexpr int kOwnInput = kSeriesInput + 3;  // after the series

  static int64_t nslots(tf::OpKernelContext* ctx) { return ctx->input(0).dim_size(1) / 3; }
  static tf::TensorShape X_shape(const Embedding<T>& embedding) {
    return tf::TensorShape({embedding.atoms.size, 4, embedding.nets.neuron.back()});
  }
  // Allocates the gradients by the nets as the outputs from first on.
  static NetGradients<T> allocate_gradients(tf::OpKernelContext* ctx, int first) {
    tf::Tensor* dC = nullptr;
    const absl::Status status =
        ctx->allocate_output(first, ctx->input(kSeriesInput + 2).shape(), &dC);
    if (!status.ok()) {
      ctx->CtxFailure(status);
      return {};
    }
    return {data<T>(dC), allocate_dparameters<T>(ctx, first + 1)};
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
    TF_RETURN_IF_ERROR(require_offsets("first", first, slot.NumElements()));
    embedding->atoms = {nframes,
                        ntypes_,
                        slot.NumElements(),
                        data<int64_t>(slot),
                        data<double>(weight),
                        data<int64_t>(first)};
    embedding->coord = data<double>(coord);

    int64_t nnets = 0;
    TF_RETURN_IF_ERROR(this->collect_parameters(ctx, &embedding->nets, &nnets));
    if constexpr (kHasSeries) {
      Series<T>& series = embedding->series;
      TF_RETURN_IF_ERROR(this->collect_series(ctx, kSeriesInput, &series));
      if (embedding->nets.parameters.empty()) {  // a compressed model
        nnets = series.nnets;
        for (int64_t net = 0; net < nnets; ++net) {
          if (!series.has(net)) return invalid("net ", net, " has neither parameters nor a series");
        }
      }
      if (nnets != series.nnets) {
        return invalid("there are ", nnets, " nets, but series of ", series.nnets);
      }
    }
    for (int32_t net : this->nets_.net) {
      if (net >= nnets) return invalid("net ", net, " has no parameters");
    }
    return absl::OkStatus();
  }

  float n_ = 0;
  int64_t ntypes_ = 0;
};

template <typename T>
class FitSeriesOp : public EmbeddingOp<T, false> {
 public:
  using EmbeddingOp<T, false>::EmbeddingOp;
  void run(tf::OpKernelContext* ctx, const Embedding<T>& embedding) override {
    const SeriesArrays<T> series = fit_series(embedding, pool_of(ctx));
    const int64_t npanels = series.first.back();
    const tf::TensorShape shapes[] = {
        tf::TensorShape({static_cast<int64_t>(series.first.size())}), tf::TensorShape({npanels, 2}),
        tf::TensorShape({npanels, kTerms, embedding.nets.neuron.back()})};
    tf::Tensor* out[3];
    for (int k = 0; k < 3; ++k) OP_REQUIRES_OK(ctx, ctx->allocate_output(k, shapes[k], &out[k]));
    std::copy(series.first.begin(), series.first.end(), data<int64_t>(out[0]));
    std::copy(series.panels.begin(), series.panels.end(), data<double>(out[1]));
    std::copy(series.C.begin(), series.C.end(), data<T>(out[2]));
  }
};

template <typename T>
class FitSeriesGradOp : public NetsOp<T> {
 public:
  using NetsOp<T>::NetsOp;
  void Compute(tf::OpKernelContext* ctx) override {
    EmbeddingNets<T> nets = this->nets_;
    Series<T> series;
    int64_t nnets;
    OP_REQUIRES_OK(ctx, this->collect_parameters(ctx, &nets, &nnets));
    OP_REQUIRES_OK(ctx, this->collect_series(ctx, 0, &series));
    OP_REQUIRES(ctx, nnets == series.nnets,
                invalid("there are ", nnets, " nets, but series of ", series.nnets));
    const std::vector<T*> dparameters = allocate_dparameters<T>(ctx, 0);
    if (!ctx->status().ok()) return;
    guarded(ctx, [&] { fit_series_grad(nets, series, series.C, dparameters, pool_of(ctx)); });
  }
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
    const tf::Tensor& dX = ctx->input(this->kOwnInput);
    OP_REQUIRES_OK(ctx, require_shape("dX", dX, this->X_shape(embedding)));
    const NetGradients<T> gradients = this->allocate_gradients(ctx, 0);
    if (!ctx->status().ok()) return;
    embed_grad(embedding, data<T>(dX), gradients, pool_of(ctx));
  }
};

template <typename T>
class ForceOp : public EmbeddingOp<T> {
 public:
  using EmbeddingOp<T>::EmbeddingOp;
  void run(tf::OpKernelContext* ctx, const Embedding<T>& embedding) override {
    const tf::Tensor& A = ctx->input(this->kOwnInput);
    OP_REQUIRES_OK(ctx, require_shape("A", A, this->X_shape(embedding)));
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
    const tf::Tensor& A = ctx->input(this->kOwnInput);
    OP_REQUIRES_OK(ctx, require_shape("A", A, this->X_shape(embedding)));
    const int64_t nframes = embedding.atoms.nframes;
    const int64_t nslots = this->nslots(ctx);
    const tf::Tensor* given[3];
    const char* names[] = {"dforce", "dvirial", "datom_virial"};
    const int64_t widths[] = {3 * nslots, 9, 9 * nslots};
    for (int k = 0; k < 3; ++k) {
      given[k] = &ctx->input(this->kOwnInput + 1 + k);
      OP_REQUIRES_OK(ctx,
                     require_shape(names[k], *given[k], tf::TensorShape({nframes, widths[k]})));
    }
    tf::Tensor* dA = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, A.shape(), &dA));
    const NetGradients<T> gradients = this->allocate_gradients(ctx, 1);
    if (!ctx->status().ok()) return;
    const ForceCotangents cotangents = {data<double>(*given[0]), data<double>(*given[1]),
                                        data<double>(*given[2])};
    force_grad(embedding, data<T>(A), cotangents, data<T>(dA), gradients, pool_of(ctx));
  }
};

DPMASK_REGISTER("FitSeries", FitSeriesOp);
DPMASK_REGISTER("FitSeriesGrad", FitSeriesGradOp);
DPMASK_REGISTER("Embed", EmbedOp);
DPMASK_REGISTER("EmbedGrad", EmbedGradOp);
DPMASK_REGISTER("Force", ForceOp);
DPMASK_REGISTER("ForceGrad", ForceGradOp);

}  // namespace
}  // namespace dpmask
