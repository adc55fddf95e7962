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
      DimensionHandle M1;
      TF_RETURN_IF_ERROR(get_M1(c, &M1));
      const DimensionHandle npanels = c->UnknownDim();
      c->set_output(0, c->MakeShape({c->UnknownDim()}));
      c->set_output(1, c->MakeShape({npanels, c->MakeDim(2)}));
      c->set_output(2, c->MakeShape({npanels, c->MakeDim(kTerms), M1}));
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
      std::copy(first.begin(), first.end(), allocate_output<int64_t>(ctx, 0, shape_of({size})));
      return {allocate_output<double>(ctx, 1, shape_of({npanels, 2})),
              allocate_output<T>(ctx, 2, shape_of({npanels, kTerms, M1}))};
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
    guarded(ctx, [&] {
      EmbeddingNets<T> nets = this->nets_;
      const int64_t nnets = collect_parameters(ctx, "parameters", &nets);
      const Series<T> series = this->collect_series(ctx, 0);
      if (nnets != series.nnets) {
        throw_invalid("there are ", nnets, " nets, but series of ", series.nnets);
      }
      auto&& device = Device::of(ctx);
      fit_series_grad(nets, series, series.C, allocate_dparameters<T>(ctx, 0), device);
    });
  }
};

DPMASK_REGISTER("FitSeries", FitSeriesOp, DPMASK_HOST_OFFSETS);
DPMASK_REGISTER("FitSeriesGrad", FitSeriesGradOp, .HostMemory("series_first"));

}  // namespace
}  // namespace dpmask
