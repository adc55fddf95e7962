// SPDX-License-Identifier: LGPL-3.0-or-later
// What the operators of the embedding share. Shapes: coord [nframes, nslots * 3], the real atoms'
// arrays as in RealAtoms, the series' arrays as in Series.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>

#include "op/kernels/embedding.h"
#include "op/tensorflow/nets_operator.h"
#include "op/tensorflow/register.h"

namespace dpmask {

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

// On every device the host's.
#define DPMASK_HOST_OFFSETS .HostMemory("first").HostMemory("series_first")

// Sets M1, the width of the nets' last layer.
inline absl::Status get_M1(InferenceContext* c, DimensionHandle* M1) {
  std::vector<int32_t> neuron;
  TF_RETURN_IF_ERROR(c->GetAttr("neuron", &neuron));
  if (neuron.empty() || neuron.back() < 1) return invalid("neuron must be positive");
  *M1 = c->MakeDim(neuron.back());
  return absl::OkStatus();
}

// The outputs from first on have the shapes of the last inputs, the parameters.
inline absl::Status set_parameter_shapes(InferenceContext* c, int first) {
  const int count = c->num_outputs() - first;
  for (int p = 0; p < count; ++p) {
    c->set_output(first + p, c->input(c->num_inputs() - count + p));
  }
  return absl::OkStatus();
}

// Numbers for each frame of forces, virial and atomic virials.
inline std::array<int64_t, 3> widths_of_forces(tf::OpKernelContext* ctx) {
  const int64_t nslots = ctx->input(0).dim_size(1) / 3;
  return {3 * nslots, 9, product(9, nslots)};
}

// The outputs from first on are forces, virial and atomic virials.
inline absl::Status set_force_shapes(InferenceContext* c, int first) {
  ShapeHandle coord;
  TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 2, &coord));
  const DimensionHandle nframes = c->Dim(coord, 0);
  DimensionHandle nine_per_slot;
  TF_RETURN_IF_ERROR(c->Multiply(c->Dim(coord, 1), 3, &nine_per_slot));
  c->set_output(first, coord);
  c->set_output(first + 1, c->MakeShape({nframes, c->MakeDim(9)}));
  c->set_output(first + 2, c->MakeShape({nframes, nine_per_slot}));
  return absl::OkStatus();
}

// Allocates them and sets them to 0.
template <typename Device>
Forces allocate_forces(tf::OpKernelContext* ctx, int first, Device&& device) {
  std::vector<double*> out;
  std::vector<int64_t> sizes;
  for (int64_t width : widths_of_forces(ctx)) {
    const tf::TensorShape shape = shape_of({ctx->input(0).dim_size(0), width});
    out.push_back(allocate_output<double>(ctx, first + static_cast<int>(out.size()), shape));
    sizes.push_back(shape.num_elements());
  }
  clear(out, sizes, device);
  return {out[0], out[1], out[2]};
}

// Panels are intervals, those of a net in ascending order.
template <typename T>
void require_panels(const Series<T>& series) {
  for (int64_t net = 0; net < series.nnets; ++net) {
    for (int64_t panel = series.first[net]; panel < series.first[net + 1]; ++panel) {
      const double middle = series.middle(panel), half_width = series.half_width(panel);
      const bool ascends = panel == series.first[net] || series.middle(panel - 1) < middle;
      if (std::isfinite(middle) && std::isfinite(half_width) && half_width > 0 && ascends) continue;
      throw_invalid("panel ", panel, " of the series, around ", middle, " +- ", half_width,
                    ", is no interval that follows the one before it");
    }
  }
}

// Slots are within the frames.
inline void require_slots(const tf::Tensor& slot, int64_t nslots) {
  const int64_t* all = data<int64_t>(slot);
  for (int64_t i = 0; i < slot.NumElements(); ++i) {
    if (all[i] < 0 || all[i] >= nslots) {
      throw_invalid("slot ", all[i], " of row ", i, " is outside the ", nslots, " of all frames");
    }
  }
}

// The base of the operators that have the nets' attributes; the nets' parameters are the last
// inputs.
template <typename T>
class NetsOp : public tf::OpKernel {
 public:
  explicit NetsOp(tf::OpKernelConstruction* ctx)
      : OpKernel(ctx), on_host_(ctx->device_type() == tf::DeviceType(tf::DEVICE_CPU)) {
    OP_REQUIRES_OK(ctx, read_net_attributes(ctx, "", &nets_));
  }

 protected:
  // C is the input after the panels, or its gradient.
  Series<T> collect_series(tf::OpKernelContext* ctx, int first_input) const {
    const tf::Tensor& first = ctx->input(first_input);
    const tf::Tensor& panels = ctx->input(first_input + 1);
    const tf::Tensor& C = ctx->input(first_input + 2);
    const int64_t npanels = C.dims() > 0 ? C.dim_size(0) : 0;
    require_shape("C", C, shape_of({npanels, kTerms, nets_.neuron.back()}));
    require_shape("panels", panels, shape_of({npanels, 2}));
    require_offsets("series_first", first, npanels);
    const Series<T> series = {first.NumElements() - 1, data<int64_t>(first), data<double>(panels),
                              data<T>(C)};
    if (on_host_) require_panels(series);
    return series;
  }

  const bool on_host_;  // so that what arrays hold can be looked at
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
    OP_REQUIRES(ctx, std::isfinite(n_) && n_ > 0, invalid("n must be positive and finite"));
    OP_REQUIRES(ctx, ntypes_ * ntypes_ == static_cast<int64_t>(net.size()),
                invalid("net must have ntypes * ntypes entries"));
  }

  void Compute(tf::OpKernelContext* ctx) override {
    guarded(ctx, [&] {
      EmbeddingNets<T> nets = this->nets_;
      Embedding<T> embedding{{}, nullptr, nets, {}, n_};
      collect(ctx, &nets, &embedding);
      run(ctx, embedding);
    });
  }

 protected:
  virtual void run(tf::OpKernelContext* ctx, const Embedding<T>& embedding) = 0;

  static constexpr int kOwnInput = kSeriesInput + 3;  // after the series
  int64_t ntypes_ = 0;

  static tf::TensorShape X_shape(const Embedding<T>& embedding) {
    return shape_of({embedding.atoms.size, 4, embedding.nets.neuron.back()});
  }
  // Allocates the gradients by the nets as the outputs from first on.
  static NetGradients<T> allocate_gradients(tf::OpKernelContext* ctx, int first) {
    T* dC = allocate_output<T>(ctx, first, ctx->input(kSeriesInput + 2).shape());
    return {dC, allocate_dparameters<T>(ctx, first + 1)};
  }

 private:
  void collect(tf::OpKernelContext* ctx, EmbeddingNets<T>* nets, Embedding<T>* embedding) const {
    const tf::Tensor& coord = ctx->input(0);
    const tf::Tensor& slot = ctx->input(1);
    const tf::Tensor& weight = ctx->input(2);
    const tf::Tensor& first = ctx->input(3);
    if (coord.dims() != 2 || coord.dim_size(1) % 3 != 0) {
      throw_invalid("coord must have the shape [nframes, nslots * 3], not ",
                    coord.shape().DebugString());
    }
    const int64_t nframes = coord.dim_size(0);
    require_shape("weight", weight, slot.shape());
    require_shape("first", first, shape_of({product(ntypes_, nframes) + 1}));
    require_offsets("first", first, slot.NumElements());
    if (this->on_host_) require_slots(slot, coord.NumElements() / 3);
    embedding->atoms = {nframes,
                        ntypes_,
                        slot.NumElements(),
                        data<int64_t>(slot),
                        data<double>(weight),
                        data<int64_t>(first)};
    embedding->coord = data<double>(coord);

    int64_t nnets = collect_parameters(ctx, "parameters", nets);
    if constexpr (kHasSeries) {
      const Series<T> series = this->collect_series(ctx, kSeriesInput);
      embedding->series = series;
      if (nets->parameters.empty()) {  // a compressed model
        nnets = series.nnets;
        for (int64_t net = 0; net < nnets; ++net) {
          if (!series.has(net)) throw_invalid("net ", net, " has neither parameters nor a series");
        }
      }
      if (nnets != series.nnets) {
        throw_invalid("there are ", nnets, " nets, but series of ", series.nnets);
      }
    }
    for (int32_t net : this->nets_.net) {
      if (net < -1 || net >= nnets) throw_invalid("net ", net, " has no parameters");
    }
  }

  float n_ = 0;
};

}  // namespace dpmask
