// SPDX-License-Identifier: LGPL-3.0-or-later
// The nets' series, and the gradient through it.
#include "op/kernels/series.h"
#include "op/tensorflow/embedding_operator.h"

namespace dpmask {
namespace {

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

template <typename T, typename Device>
class FitSeriesOp : public EmbeddingOp<T, false> {
 public:
  using EmbeddingOp<T, false>::EmbeddingOp;
  void run(tf::OpKernelContext* ctx, const Embedding<T>& embedding) override {
    const int64_t M1 = embedding.nets.neuron.back();
    const AllocateSeries<T> allocate = [&](const std::vector<int64_t>& first) -> SeriesMemory<T> {
      const int64_t npanels = first.back(), size = static_cast<int64_t>(first.size());
      std::copy(first.begin(), first.end(),
                allocate_output<int64_t>(ctx, 0, tf::TensorShape({size})));
      return {allocate_output<double>(ctx, 1, tf::TensorShape({npanels, 2})),
              allocate_output<T>(ctx, 2, tf::TensorShape({npanels, kTerms, M1}))};
    };
    auto&& device = Device::of(ctx);
    fit_series(embedding, allocate, device);
  }
};

template <typename T, typename Device>
class FitSeriesGradOp : public NetsOp<T> {
 public:
  using NetsOp<T>::NetsOp;
  void Compute(tf::OpKernelContext* ctx) override {
    EmbeddingNets<T> nets = this->nets_;
    Series<T> series;
    int64_t nnets;
    OP_REQUIRES_OK(ctx, collect_parameters(ctx, "parameters", &nets, &nnets));
    OP_REQUIRES_OK(ctx, this->collect_series(ctx, 0, &series));
    OP_REQUIRES(ctx, nnets == series.nnets,
                invalid("there are ", nnets, " nets, but series of ", series.nnets));
    guarded(ctx, [&] {
      auto&& device = Device::of(ctx);
      fit_series_grad(nets, series, series.C, allocate_dparameters<T>(ctx, 0), device);
    });
  }
};

DPMASK_REGISTER("FitSeries", FitSeriesOp, DPMASK_HOST_OFFSETS);
DPMASK_REGISTER("FitSeriesGrad", FitSeriesGradOp, .HostMemory("series_first"));

}  // namespace
}  // namespace dpmask
