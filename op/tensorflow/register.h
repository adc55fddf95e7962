// SPDX-License-Identifier: LGPL-3.0-or-later
// Registers an operator for each device and precision that there is.
#pragma once

#include "op/tensorflow/operator.h"

#ifdef DPMASK_GPU
#include "op/tensorflow/gpu.h"
#endif

#define DPMASK_REGISTER_FOR(Device_, name, Op, host)                                  \
  REGISTER_KERNEL_BUILDER(                                                            \
      Name(DPMASK_OP(name)).Device(Device_::type()) host.TypeConstraint<float>("T"),  \
      Op<float, Device_>);                                                            \
  REGISTER_KERNEL_BUILDER(                                                            \
      Name(DPMASK_OP(name)).Device(Device_::type()) host.TypeConstraint<double>("T"), \
      Op<double, Device_>)

// `host` names the inputs and outputs that are the host's on every device, as .HostMemory("first").
#ifndef DPMASK_GPU
#define DPMASK_REGISTER(name, Op, host) DPMASK_REGISTER_FOR(TensorFlowCpu, name, Op, host)
#else
#define DPMASK_REGISTER(name, Op, host)               \
  DPMASK_REGISTER_FOR(TensorFlowCpu, name, Op, host); \
  DPMASK_REGISTER_FOR(TensorFlowGpu, name, Op, host)
#endif
