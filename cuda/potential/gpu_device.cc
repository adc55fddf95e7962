// SPDX-License-Identifier: LGPL-3.0-or-later
#include "cuda/potential/gpu_device.h"

#include <unistd.h>

#include <exception>
#include <stdexcept>
#include <string>

namespace dpmask {
namespace {

int usable_gpu() {
  const std::string reason = cuda::reason_against_gpu();
  if (!reason.empty()) throw std::runtime_error("there is no GPU to compute on: " + reason);
  return cuda::current_gpu();
}

}  // namespace

GpuDevice::GpuDevice(int64_t threads)
    : workers_(threads), host_(workers_), number_(usable_gpu()), process_(getpid()),
      stream_(number_), kept_(cuda::allocate_on_device) {}

int GpuDevice::of_this_process() const {
  if (getpid() == process_) return number_;
  throw std::runtime_error(
      "this process was forked from one that uses the GPU, which CUDA does not allow: start it "
      "anew, as multiprocessing's \"spawn\" does, or compute on the CPU, device \"cpu\"");
}

GpuDevice::Run::Run(GpuDevice& device)
    : cuda::OwnStream(device.of_this_process()), Gpu(get()), device_(device),
      memory_(cuda::allocate_on_device), for_copies_(cuda::allocate_for_copies) {}

GpuDevice::Run::Scope::Scope(Run& run)
    : run_(run), current_(run.device_.of_this_process()), memory_(run.memory_),
      for_copies_(run.for_copies_) {
  ++run.nscopes_;
}

GpuDevice::Run::Scope::~Scope() {
  if (--run_.nscopes_ == 0) run_.end_evaluation();
}

void* GpuDevice::Run::allocate_bytes(int64_t size) {
  void* array = memory_.allocate<char>(size);
#ifdef DPMASK_EMULATED
  std::fill_n(static_cast<unsigned char*>(array), size, 0xff);  // NaN where nothing is written
#endif
  return array;
}

double* GpuDevice::Run::output(double* host, int64_t size) {
  outputs_.push_back({host, allocate<double>(size), size, nullptr});
  return outputs_.back().array;
}

Gpu& GpuDevice::Run::kernels() {
  std::vector<double*> arrays;
  std::vector<int64_t> sizes;
  for (; ncleared_ < outputs_.size(); ++ncleared_) {
    arrays.push_back(outputs_[ncleared_].array);
    sizes.push_back(outputs_[ncleared_].size);
  }
  clear(arrays, sizes, *this);
  return *this;
}

void GpuDevice::Run::finish() {
  for (Output& output : outputs_) {
    if (output.host == nullptr) continue;
    output.copy = for_copies_.allocate<double>(output.size);
    cuda::copy_to_host(output.array, output.size * static_cast<int64_t>(sizeof(double)),
                       output.copy, stream());
  }
  cuda::wait_for(stream());
  is_busy_ = false;
  for (const Output& output : outputs_) {
    if (output.host != nullptr) std::copy_n(output.copy, output.size, output.host);
  }
}

void GpuDevice::Run::end_evaluation() noexcept {
  outputs_.clear();
  ncleared_ = 0;
  if (!is_busy_) return;
  is_busy_ = false;
  try {  // for what is on its way, since the next evaluation writes into the same memory
    cuda::wait_for(stream());
  } catch (const std::exception&) {  // what went wrong is being said already
  }
}

}  // namespace dpmask
