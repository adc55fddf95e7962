// SPDX-License-Identifier: LGPL-3.0-or-later
// The kernels as TensorFlow operators: check shapes, allocate, call.
//
// The operators' names begin with "PipInstallDeepmdMask>", because all that TensorFlow says where
// this library is missing is "Op type not registered" and the name.
#include <atomic>
#include <stdexcept>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "activation_names.h"
#include "kernels.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace dpmask {
namespace {

namespace tf = tensorflow;
using tf::shape_inference::DimensionHandle;
using tf::shape_inference::InferenceContext;
using tf::shape_inference::ShapeHandle;

template <typename... Parts>
absl::Status invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

#define DPMASK_OP(name) "PipInstallDeepmdMask>" name

// ---- Interfaces ---------------------------------------------------------------------------------
// Shapes: coord [nframes, nslots * 3], real atoms' arrays as in RealAtoms, X, A and their gradients
// [size, 4, M1], force [nframes, nslots * 3], virial [nframes, 9], atom_virial [nframes, nslots *
// 9].

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

REGISTER_OP(DPMASK_OP("RealAtoms"))
    .Attr("sel: list(int) >= 1")
    .Input("coord: double")
    .Input("type: int32")
    .Input("mask: double")
    .Input("nloc: int32")
    .Output("slot: int64")
    .Output("weight: double")
    .Output("first: int64")
    .SetShapeFn([](InferenceContext* c) {
      const DimensionHandle size = c->UnknownDim();
      c->set_output(0, c->Vector(size));
      c->set_output(1, c->Vector(size));
      c->set_output(2, c->Vector(InferenceContext::kUnknownDim));
      return absl::OkStatus();
    });

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

#define DPMASK_PRODUCT_ATTRIBUTES \
  Attr("T: {float, double}").Attr("ntypes: int >= 1").Input("type_first: int64")

REGISTER_OP(DPMASK_OP("ProductByType"))
    .DPMASK_PRODUCT_ATTRIBUTES.Attr("transposed: bool")
    .Input("x: T")
    .Input("matrices: ntypes * T")
    .Output("y: T")
    .SetShapeFn([](InferenceContext* c) {
      bool transposed;
      TF_RETURN_IF_ERROR(c->GetAttr("transposed", &transposed));
      ShapeHandle x, W;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 2, &x));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(2), 2, &W));
      c->set_output(0, c->Matrix(c->Dim(x, 0), c->Dim(W, transposed ? 0 : 1)));
      return absl::OkStatus();
    });

REGISTER_OP(DPMASK_OP("OuterByType"))
    .DPMASK_PRODUCT_ATTRIBUTES.Input("x: T")
    .Input("y: T")
    .Output("dmatrices: ntypes * T")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle x, y;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 2, &x));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(2), 2, &y));
      for (int t = 0; t < c->num_outputs(); ++t) {
        c->set_output(t, c->Matrix(c->Dim(x, 1), c->Dim(y, 1)));
      }
      return absl::OkStatus();
    });

// ---- What the kernels share ---------------------------------------------------------------------

template <typename T>
T* data(tf::Tensor* tensor) {
  return tensor->flat<T>().data();
}
template <typename T>
const T* data(const tf::Tensor& tensor) {
  return tensor.flat<T>().data();
}

Parallel pool_of(tf::OpKernelContext* ctx) {
  auto* workers = ctx->device()->tensorflow_cpu_worker_threads()->workers;
  return [workers](int64_t n, const std::function<void(int64_t)>& body) {
    if (n == 1) return body(0);
    workers->ParallelFor(n, tsl::thread::ThreadPool::SchedulingParams::Fixed(1),
                         [&body](int64_t first, int64_t last) {
                           for (int64_t k = first; k < last; ++k) body(k);
                         });
  };
}

class RealAtomsOp : public tf::OpKernel {
 public:
  explicit RealAtomsOp(tf::OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("sel", &sel_));
  }

  void Compute(tf::OpKernelContext* ctx) override {
    const tf::Tensor& coord = ctx->input(0);
    const tf::Tensor& type = ctx->input(1);
    const tf::Tensor& mask = ctx->input(2);
    const tf::Tensor& nloc = ctx->input(3);
    OP_REQUIRES(
        ctx, type.dims() == 2,
        invalid("type must have the shape [nframes, nslots], not ", type.shape().DebugString()));
    const int64_t nframes = type.dim_size(0);
    const int64_t nslots = type.dim_size(1);
    OP_REQUIRES(ctx, coord.shape() == tf::TensorShape({nframes, 3 * nslots}),
                invalid("coord must have the shape [", nframes, ", ", 3 * nslots, "], not ",
                        coord.shape().DebugString()));
    OP_REQUIRES(ctx, mask.shape() == type.shape(),
                invalid("aparam must have one mask value for each of ", nframes, " x ", nslots,
                        " slots, but its shape is ", mask.shape().DebugString()));
    OP_REQUIRES(ctx, nloc.NumElements() == 1 && data<int32_t>(nloc)[0] <= nslots,
                invalid("nloc must be one number, at most ", nslots));
    RealAtomList list;
    try {
      list = find_real_atoms({nframes, nslots, data<int32_t>(nloc)[0],
                              static_cast<int64_t>(sel_.size()), data<double>(coord),
                              data<int32_t>(type), data<double>(mask)});
    } catch (const std::invalid_argument& error) {
      ctx->CtxFailure(invalid("deepmd-mask: ", error.what()));
      return;
    }
    warn_of_sel(list, nframes);
    copy_out(ctx, 0, list.slot);
    copy_out(ctx, 1, list.weight);
    copy_out(ctx, 2, list.first);
  }

 private:
  template <typename T>
  static void copy_out(tf::OpKernelContext* ctx, int index, const std::vector<T>& values) {
    tf::Tensor* out = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(
                            index, tf::TensorShape({static_cast<int64_t>(values.size())}), &out));
    std::copy(values.begin(), values.end(), data<T>(out));
  }

  // sel bounds what the model has been trained for; beyond it the model is still defined.
  void warn_of_sel(const RealAtomList& list, int64_t nframes) {
    for (size_t t = 0; t < sel_.size(); ++t) {
      for (int64_t frame = 0; frame < nframes; ++frame) {
        const int64_t group = static_cast<int64_t>(t) * nframes + frame;
        const int64_t count = list.first[group + 1] - list.first[group];
        if (count <= sel_[t] || warned_.exchange(true)) continue;
        LOG(WARNING) << "deepmd-mask: frame " << frame << " has " << count << " real atoms of type "
                     << t << ", more than the " << sel_[t]
                     << " that sel bounds; the model may not have seen the like. "
                     << "This is said once.";
      }
    }
  }

  std::vector<int32_t> sel_;
  std::atomic<bool> warned_{false};
};

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
    run(ctx, embedding);
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

// ---- The operators on an Embedding --------------------------------------------------------------

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

// ---- The operators on the atoms of each type ----------------------------------------------------

absl::Status check_types(const tf::Tensor& type_first, const tf::Tensor& x, int64_t ntypes) {
  if (type_first.NumElements() != ntypes + 1 || x.dims() != 2 ||
      data<int64_t>(type_first)[ntypes] != x.dim_size(0)) {
    return invalid("type_first must have ntypes + 1 entries, the last the number of rows");
  }
  return absl::OkStatus();
}

template <typename T>
class ProductByTypeOp : public tf::OpKernel {
 public:
  explicit ProductByTypeOp(tf::OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("transposed", &transposed_));
  }

  void Compute(tf::OpKernelContext* ctx) override {
    tf::OpInputList matrices;
    OP_REQUIRES_OK(ctx, ctx->input_list("matrices", &matrices));
    const tf::Tensor& x = ctx->input(1);
    OP_REQUIRES_OK(ctx, check_types(ctx->input(0), x, matrices.size()));
    TypeProduct<T> product{matrices.size(),
                           matrices[0].dim_size(0),
                           matrices[0].dim_size(1),
                           data<int64_t>(ctx->input(0)),
                           {}};
    for (const tf::Tensor& W : matrices) {
      OP_REQUIRES(ctx, W.shape() == matrices[0].shape(),
                  invalid("the matrices must have the same shape"));
      product.matrices.push_back(data<T>(W));
    }
    OP_REQUIRES(ctx, x.dim_size(1) == (transposed_ ? product.outputs : product.inputs),
                invalid("x has ", x.dim_size(1), " columns, which do not fit the matrices"));
    tf::Tensor* y = nullptr;
    const int64_t columns = transposed_ ? product.inputs : product.outputs;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, tf::TensorShape({x.dim_size(0), columns}), &y));
    product_by_type(product, data<T>(x), transposed_, data<T>(y), pool_of(ctx));
  }

 private:
  bool transposed_;
};

template <typename T>
class OuterByTypeOp : public tf::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(tf::OpKernelContext* ctx) override {
    const tf::Tensor& x = ctx->input(1);
    const tf::Tensor& y = ctx->input(2);
    const int ntypes = ctx->num_outputs();
    OP_REQUIRES_OK(ctx, check_types(ctx->input(0), x, ntypes));
    OP_REQUIRES(ctx, y.dims() == 2 && y.dim_size(0) == x.dim_size(0),
                invalid("x and y must have the same number of rows"));
    const TypeProduct<T> product{
        ntypes, x.dim_size(1), y.dim_size(1), data<int64_t>(ctx->input(0)), {}};
    std::vector<T*> dmatrices;
    for (int t = 0; t < ntypes; ++t) {
      tf::Tensor* dW = nullptr;
      OP_REQUIRES_OK(
          ctx, ctx->allocate_output(t, tf::TensorShape({product.inputs, product.outputs}), &dW));
      dmatrices.push_back(data<T>(dW));
    }
    outer_by_type(product, data<T>(x), data<T>(y), dmatrices, pool_of(ctx));
  }
};

REGISTER_KERNEL_BUILDER(Name(DPMASK_OP("RealAtoms")).Device(tf::DEVICE_CPU), RealAtomsOp);
#define DPMASK_REGISTER(name, Op)                                                                  \
  REGISTER_KERNEL_BUILDER(Name(DPMASK_OP(name)).Device(tf::DEVICE_CPU).TypeConstraint<float>("T"), \
                          Op<float>);                                                              \
  REGISTER_KERNEL_BUILDER(                                                                         \
      Name(DPMASK_OP(name)).Device(tf::DEVICE_CPU).TypeConstraint<double>("T"), Op<double>)
DPMASK_REGISTER("Embed", EmbedOp);
DPMASK_REGISTER("EmbedGrad", EmbedGradOp);
DPMASK_REGISTER("Force", ForceOp);
DPMASK_REGISTER("ForceGrad", ForceGradOp);
DPMASK_REGISTER("ProductByType", ProductByTypeOp);
DPMASK_REGISTER("OuterByType", OuterByTypeOp);

}  // namespace
}  // namespace dpmask
