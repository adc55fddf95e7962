// SPDX-License-Identifier: LGPL-3.0-or-later
// What the operators with nets share, embedding nets or fitting nets: attributes and parameters.
#pragma once

#include <limits>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "op/kernels/activation_names.h"
#include "op/kernels/embedding.h"
#include "op/kernels/fitting.h"
#include "op/tensorflow/operator.h"

namespace dpmask {

// Sets neuron, resnet_dt and the activation function by the attributes of these names, before each
// of which comes `prefix`.
template <typename Nets>
absl::Status read_net_attributes(tf::OpKernelConstruction* ctx, const std::string& prefix,
                                 Nets* nets) {
  std::vector<int32_t> neuron;
  std::string activation;
  TF_RETURN_IF_ERROR(ctx->GetAttr(prefix + "neuron", &neuron));
  TF_RETURN_IF_ERROR(ctx->GetAttr(prefix + "resnet_dt", &nets->resnet_dt));
  TF_RETURN_IF_ERROR(ctx->GetAttr(prefix + "activation", &activation));
  for (int32_t width : neuron) {
    if (width < 1) return invalid("neuron must be positive");
  }
  nets->neuron.assign(neuron.begin(), neuron.end());
  try {
    std::tie(nets->activation, nets->threshold) = activation_named(activation);
  } catch (const std::invalid_argument& error) {
    return invalid(error.what());
  }
  return absl::OkStatus();
}

// The tensors of an input that is a list. Throws Failure, as what follows.
inline tf::OpInputList list_of(tf::OpKernelContext* ctx, const char* input) {
  tf::OpInputList list;
  throw_failure(ctx->input_list(input, &list));
  return list;
}

// Adds the tensors of the list `input` to the parameters of nets, and returns the number of nets.
template <template <typename> class Nets, typename T>
int64_t collect_parameters(tf::OpKernelContext* ctx, const char* input, Nets<T>* nets) {
  const tf::OpInputList parameters = list_of(ctx, input);
  const std::vector<int64_t> sizes = nets->sizes();
  const int64_t of_net = static_cast<int64_t>(sizes.size());
  if (parameters.size() % of_net != 0) {
    throw_invalid("each net has ", of_net, " parameters, but ", parameters.size(), " were given");
  }
  for (int p = 0; p < parameters.size(); ++p) {
    if (parameters[p].NumElements() != sizes[p % of_net]) {
      throw_invalid("parameter ", p, " must have ", sizes[p % of_net], " entries, not ",
                    parameters[p].NumElements());
    }
    nets->parameters.push_back(data<T>(parameters[p]));
  }
  return parameters.size() / of_net;
}

// Adds the parameters of fitting nets, of which there must be one for each type.
template <typename T>
void collect_fitting_parameters(tf::OpKernelContext* ctx, const char* input, FittingNets<T>* nets) {
  const int64_t nnets = collect_parameters(ctx, input, nets);
  if (nnets == nets->ntypes) return;
  throw_invalid("there are fitting nets of ", nnets, " types, but ", nets->ntypes, " types");
}

// Allocates the gradients of the input `parameters` as the outputs from first on.
template <typename T>
std::vector<T*> allocate_dparameters(tf::OpKernelContext* ctx, int first) {
  std::vector<T*> all;
  for (const tf::Tensor& parameter : list_of(ctx, "parameters")) {
    all.push_back(allocate_output<T>(ctx, first++, parameter.shape()));
  }
  return all;
}

// Whether D may have so many columns: no more, lest sizes overflow.
inline absl::Status require_ninputs(int64_t ninputs) {
  if (0 < ninputs && ninputs <= std::numeric_limits<int32_t>::max()) return absl::OkStatus();
  return invalid("fitting nets have between 1 and 2^31 - 1 inputs, not ", ninputs);
}

}  // namespace dpmask
