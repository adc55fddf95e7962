// SPDX-License-Identifier: LGPL-3.0-or-later
#include <optional>
#include <string>
#include <vector>

#include "op/kernels/atoms.h"
#include "op/potential/sel_bound.h"
#include "op/shared/boxes.h"
#include "op/shared/ops_version.h"
#include "op/tensorflow/operator.h"

namespace dpmask {
namespace {

// Python makes this check when it imports a graph, C++ when it makes the kernel. Each model has
// this operator once, before all others of this library, so it speaks for all of them.
template <typename Context>
absl::Status require_ops_version(Context* ctx) {
  int needed;
  TF_RETURN_IF_ERROR(ctx->GetAttr("ops_version", &needed));
  if (needed <= kOpsVersion) return absl::OkStatus();
  return invalid("deepmd-mask: this model needs operators of version ", needed,
                 ", and those installed have version ", kOpsVersion,
                 "; run pip install -U deepmd-mask");
}

absl::Status set_shapes(InferenceContext* c) {
  TF_RETURN_IF_ERROR(require_ops_version(c));
  const DimensionHandle size = c->UnknownDim();
  c->set_output(0, c->Vector(size));
  c->set_output(1, c->Vector(size));
  c->set_output(2, c->Vector(InferenceContext::kUnknownDim));
  if (c->num_outputs() > 3) c->set_output(3, c->Vector(size));
  return absl::OkStatus();
}

#define DPMASK_REAL_ATOMS                                                                        \
  Attr("sel: list(int) >= 1")                                                                    \
      .Attr("ops_version: int = 1") /* of models that do not say; Python gives kOpsVersion */    \
      .Input("coord: double")                                                                    \
      .Input("type: int32")                                                                      \
      .Input("mask: double")                                                                     \
      .Input("sizes: int32") /* slots of this process; from version 2 on also the mesh's size */ \
      .Output("slot: int64")                                                                     \
      .Output("weight: double")                                                                  \
      .Output("first: int64")

REGISTER_OP(DPMASK_OP("RealAtoms")).DPMASK_REAL_ATOMS.SetShapeFn(set_shapes);

// With groups [nframes, nslots], and so weights between 0 and 1.
REGISTER_OP(DPMASK_OP("RealAtomsOfGroups"))
    .DPMASK_REAL_ATOMS.Input("groups: int64")
    .Output("group: int64")
    .SetShapeFn(set_shapes);

template <bool kHasGroups>
class RealAtomsOp : public tf::OpKernel {
 public:
  explicit RealAtomsOp(tf::OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, require_ops_version(ctx));
    int version;
    OP_REQUIRES_OK(ctx, ctx->GetAttr("ops_version", &version));
    knows_mesh_ = version >= 2;
    std::vector<int32_t> sel;
    OP_REQUIRES_OK(ctx, ctx->GetAttr("sel", &sel));
    ntypes_ = static_cast<int64_t>(sel.size());
    sel_.emplace(std::vector<int64_t>(sel.begin(), sel.end()), std::vector<std::string>());
  }

  void Compute(tf::OpKernelContext* ctx) override {
    guarded(ctx, [&] {
      const Frames frames = frames_of(ctx);
      product(ntypes_, frames.nframes);  // must be a number
      Arena arena;
      const RealAtoms atoms =
          find_real_atoms({frames.nframes, frames.natoms, ntypes_, frames.positions, frames.types,
                           frames.weights, frames.groups},
                          arena)
              .atoms;
      const std::string warning = sel_->warning(frames);
      if (!warning.empty()) LOG(WARNING) << warning;
      copy_out(ctx, 0, atoms.slot, atoms.size);
      copy_out(ctx, 1, atoms.weight, atoms.size);
      copy_out(ctx, 2, atoms.first, atoms.ntypes * atoms.nframes + 1);
      if constexpr (kHasGroups) copy_out(ctx, 3, atoms.group, atoms.size);
    });
  }

 private:
  Frames frames_of(tf::OpKernelContext* ctx) const {
    const tf::Tensor& coord = ctx->input(0);
    const tf::Tensor& type = ctx->input(1);
    const tf::Tensor& mask = ctx->input(2);
    const tf::Tensor& sizes = ctx->input(3);
    if (type.dims() != 2) {
      throw_invalid("type must have the shape [nframes, nslots], not ", type.shape().DebugString());
    }
    const int64_t nframes = type.dim_size(0);
    const int64_t nslots = type.dim_size(1);
    if (coord.dims() != 2 || coord.dim_size(0) != nframes || coord.dim_size(1) % 3 != 0 ||
        coord.dim_size(1) / 3 != nslots) {
      throw_invalid("coord must have the shape [", nframes, ", 3 * ", nslots, "], not ",
                    coord.shape().DebugString());
    }
    const int64_t nsizes = knows_mesh_ ? 2 : 1;
    if (sizes.NumElements() != nsizes) {
      throw_invalid("sizes must have ", nsizes, " elements, not ", sizes.NumElements());
    }
    if (knows_mesh_ && is_periodic(data<int32_t>(sizes)[1])) {
      const std::string reason = reason_against_box();
      if (!reason.empty()) throw_invalid("deepmd-mask: ", reason);
    }
    const int64_t nghosts = nslots - data<int32_t>(sizes)[0];
    if (nghosts != 0) {
      throw_invalid(nghosts, " of ", nslots,
                    " atoms are ghosts: they belong to another process "
                    "or are periodic images. se_a_mask needs all atoms in one process and knows "
                    "no images; in LAMMPS run one MPI rank with \"boundary m m m\"");
    }
    if (mask.shape() != type.shape()) {
      throw_invalid("aparam must have one mask value for each of ", nframes, " x ", nslots,
                    " slots, but its shape is ", mask.shape().DebugString());
    }
    Frames frames = {nframes, nslots, data<int32_t>(type), data<double>(coord), data<double>(mask)};
    if constexpr (kHasGroups) {
      const tf::Tensor& groups = ctx->input(4);
      if (groups.shape() != type.shape()) {
        throw_invalid("groups must have one number for each of ", nframes, " x ", nslots,
                      " slots, but their shape is ", groups.shape().DebugString());
      }
      frames.groups = data<int64_t>(groups);
    }
    return frames;
  }

  template <typename T>
  static void copy_out(tf::OpKernelContext* ctx, int index, const T* values, int64_t size) {
    std::copy_n(values, size, allocate_output<T>(ctx, index, shape_of({size})));
  }

  int64_t ntypes_ = 0;
  bool knows_mesh_;
  std::optional<SelBound> sel_;  // without names of types
};

// For the host alone, on which deepmd_mask/graph/real_atoms.py keeps what belongs to it by this.
REGISTER_KERNEL_BUILDER(Name(DPMASK_OP("RealAtoms")).Device(tf::DEVICE_CPU), RealAtomsOp<false>);
REGISTER_KERNEL_BUILDER(Name(DPMASK_OP("RealAtomsOfGroups")).Device(tf::DEVICE_CPU),
                        RealAtomsOp<true>);

}  // namespace
}  // namespace dpmask
