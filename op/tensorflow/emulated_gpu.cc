// SPDX-License-Identifier: LGPL-3.0-or-later
// A GPU for TensorFlow where there is none, to test the operators: TensorFlow places them, keeps on
// the host what they declare, and copies, as with a real one. Its kernels are those of this folder,
// run on the CPU as launch.h says. Its memory is the host's, but closed: where the host reads or
// writes it by itself, that is a segmentation fault, unless another thread has it open just then.
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <unordered_map>
#include <vector>

#include "cuda/emulated/access.h"
#include "tensorflow/c/experimental/stream_executor/stream_executor.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace dpmask::cuda {
namespace {

constexpr int64_t kCapacity = int64_t{1} << 35;  // of addresses: only what is written takes memory
constexpr int64_t kLarge = int64_t{1} << 21;     // bytes of a large page

class Memory {
 public:
  Memory() {
    void* begin = mmap(nullptr, kCapacity + kLarge, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (begin == MAP_FAILED) throw std::bad_alloc();
    begin_ = static_cast<char*>(begin);
    begin_ += (kLarge - reinterpret_cast<uintptr_t>(begin) % kLarge) % kLarge;
    madvise(begin_, kCapacity, MADV_HUGEPAGE);  // mprotect takes a time for each page
  }

  void open(Access why) {
    mutex_.lock();
    ++count_[static_cast<int>(why)];
    if (depth_++ == 0) protect(PROT_READ | PROT_WRITE);
  }
  void close() {
    if (--depth_ == 0) protect(PROT_NONE);
    mutex_.unlock();
  }
  int64_t count(int why) {
    const std::lock_guard<std::recursive_mutex> lock(mutex_);
    return count_.at(why);
  }

  // Whole pages, a power of two of them; nullptr where there is no room.
  void* allocate(uint64_t size) {
    const std::lock_guard<std::recursive_mutex> lock(mutex_);
    int power = 12;
    while (uint64_t{1} << power < size) ++power;
    std::vector<void*>& released = released_.at(power);
    if (released.empty()) {
      if (used_ + (int64_t{1} << power) > kCapacity) return nullptr;
      released.push_back(begin_ + used_);
      used_ += int64_t{1} << power;
      if (depth_ > 0) protect(PROT_READ | PROT_WRITE);
    }
    void* array = released.back();
    released.pop_back();
    power_[array] = power;
    return array;
  }
  void release(void* array) {
    const std::lock_guard<std::recursive_mutex> lock(mutex_);
    if (array != nullptr) released_.at(power_.at(array)).push_back(array);
  }

 private:
  void protect(int how) {
    const int64_t pages = (used_ + kLarge - 1) / kLarge;
    if (pages > 0 && mprotect(begin_, pages * kLarge, how) != 0) std::abort();
  }

  std::recursive_mutex mutex_;
  int depth_ = 0;
  std::array<int64_t, 5> count_{};  // of each Access
  char* begin_;
  int64_t used_ = 0;
  std::array<std::vector<void*>, 64> released_;  // by power of two
  std::unordered_map<void*, int> power_;
};

// Never destroyed: TensorFlow releases memory until the process ends.
Memory& memory() {
  static Memory* const memory = new Memory;
  return *memory;
}

void fill(void* array, uint8_t byte, uint64_t size) {
  const DeviceAccess access(Access::fill);
  std::memset(array, byte, size);
}

// ---- The device, for TensorFlow's C API ---------------------------------------------------------
// All work is done at once, so that streams and events have nothing to do, nor to be.
template <typename Result, typename... Arguments>
Result nothing(Arguments...) {
  return Result();
}

void* address(void* host) { return host; }
const void* address(const void* host) { return host; }
void* address(const SP_DeviceMemoryBase* array) { return array->opaque; }

template <Access why, typename To, typename From>
void copy_now(const SP_Device*, To* to, From* from, uint64_t size, TF_Status*) {
  const DeviceAccess access(why);
  std::memcpy(address(to), address(from), size);
}
template <Access why, typename To, typename From>
void copy(const SP_Device* device, SP_Stream, To* to, From* from, uint64_t size,
          TF_Status* status) {
  copy_now<why>(device, to, from, size, status);
}

void set_memory(SP_StreamExecutor* executor) {
  executor->allocate = [](const SP_Device*, uint64_t size, int64_t, SP_DeviceMemoryBase* array) {
    array->struct_size = SP_DEVICE_MEMORY_BASE_STRUCT_SIZE;
    array->opaque = memory().allocate(size);
    array->size = size;
    if (array->opaque != nullptr) fill(array->opaque, 0xff, size);  // NaN, until written
  };
  executor->deallocate = [](const SP_Device*, SP_DeviceMemoryBase* array) {
    memory().release(array->opaque);
  };
  executor->host_memory_allocate = [](const SP_Device*, uint64_t size) {
    return std::aligned_alloc(64, (size + 63) / 64 * 64);
  };
  executor->host_memory_deallocate = [](const SP_Device*, void* array) { std::free(array); };
  executor->unified_memory_allocate = nothing;
  executor->unified_memory_deallocate = nothing;
  executor->get_allocator_stats = nothing;
  executor->device_memory_usage = [](const SP_Device*, int64_t* free, int64_t* total) -> TF_Bool {
    *free = *total = kCapacity;
    return true;
  };
  executor->mem_zero = [](const SP_Device*, SP_Stream, SP_DeviceMemoryBase* array, uint64_t size,
                          TF_Status*) { fill(array->opaque, 0, size); };
  executor->memset = [](const SP_Device*, SP_Stream, SP_DeviceMemoryBase* array, uint8_t byte,
                        uint64_t size, TF_Status*) { fill(array->opaque, byte, size); };
  executor->memset32 = [](const SP_Device*, SP_Stream, SP_DeviceMemoryBase* array, uint32_t word,
                          uint64_t size, TF_Status*) {
    const DeviceAccess access(Access::fill);
    std::fill_n(static_cast<uint32_t*>(array->opaque), size / sizeof(word), word);
  };
  executor->memcpy_dtoh = copy<Access::to_host>;
  executor->memcpy_htod = copy<Access::to_device>;
  executor->memcpy_dtod = copy<Access::within>;
  executor->sync_memcpy_dtoh = copy_now<Access::to_host>;
  executor->sync_memcpy_htod = copy_now<Access::to_device>;
  executor->sync_memcpy_dtod = copy_now<Access::within>;
}

void set_streams(SP_StreamExecutor* executor) {
  executor->create_stream = nothing;
  executor->destroy_stream = nothing;
  executor->create_stream_dependency = nothing;
  executor->get_stream_status = nothing;
  executor->create_event = nothing;
  executor->destroy_event = nothing;
  executor->get_event_status = [](const SP_Device*, SP_Event) { return SE_EVENT_COMPLETE; };
  executor->record_event = nothing;
  executor->wait_for_event = nothing;
  executor->create_timer = nothing;
  executor->destroy_timer = nothing;
  executor->start_timer = nothing;
  executor->stop_timer = nothing;
  executor->block_host_for_event = nothing;
  executor->block_host_until_done = nothing;
  executor->synchronize_all_activity = nothing;
  executor->host_callback = [](const SP_Device*, SP_Stream, SE_StatusCallbackFn callback,
                               void* argument) -> TF_Bool {
    TF_Status* status = TF_NewStatus();
    callback(argument, status);
    TF_DeleteStatus(status);
    return true;
  };
}

// ---- What tensorflow-cpu has no kernels of for a GPU --------------------------------------------
// Most of TensorFlow's own operators can do without and stay on the CPU. But gradients are added up
// by AddN, which TensorFlow wants where the operators are that they are gradients of; without it,
// these would be on the CPU, too. TensorFlow then makes a Mul of AddN(x, x), and a Square of
// Mul(x, x), on the same device, unasked.
class CpuKernel : public tensorflow::OpKernel {
 public:
  explicit CpuKernel(tensorflow::OpKernelConstruction* ctx) : OpKernel(ctx) {
    absl::Status status;
    kernel_ = tensorflow::CreateOpKernel(tensorflow::DEVICE_CPU, ctx->device(),
                                         ctx->device()->GetAllocator({}), ctx->def(),
                                         ctx->graph_def_version(), &status);
    OP_REQUIRES_OK(ctx, status);
  }
  void Compute(tensorflow::OpKernelContext* ctx) override {
    const DeviceAccess access(Access::kernel);
    kernel_->Compute(ctx);
  }

 private:
  std::unique_ptr<tensorflow::OpKernel> kernel_;
};
#define DPMASK_REGISTER_ON_CPU(name, T)                                                     \
  REGISTER_KERNEL_BUILDER(Name(name).Device(tensorflow::DEVICE_GPU).TypeConstraint<T>("T"), \
                          CpuKernel)
DPMASK_REGISTER_ON_CPU("AddN", float);
DPMASK_REGISTER_ON_CPU("AddN", double);
DPMASK_REGISTER_ON_CPU("Mul", float);
DPMASK_REGISTER_ON_CPU("Mul", double);
DPMASK_REGISTER_ON_CPU("Square", float);
DPMASK_REGISTER_ON_CPU("Square", double);

}  // namespace

void open_device(Access why) { memory().open(why); }
void close_device() { memory().close(); }

}  // namespace dpmask::cuda

extern "C" {

// How often the memory has been opened, for a value of Access.
__attribute__((visibility("default"))) int64_t dpmask_device_accesses(int why) {
  return dpmask::cuda::memory().count(why);
}

// Called by TensorFlow, where TF_PLUGGABLE_DEVICE_LIBRARY_PATH in the environment is this library.
__attribute__((visibility("default"))) void SE_InitPlugin(SE_PlatformRegistrationParams* params,
                                                          TF_Status*) {
  using dpmask::cuda::nothing;
  params->destroy_platform = nothing;
  params->destroy_platform_fns = nothing;
  SP_Platform* platform = params->platform;
  platform->struct_size = SP_PLATFORM_STRUCT_SIZE;
  platform->name = "EMULATED";
  platform->type = "GPU";
  platform->use_bfc_allocator = false;  // each array has memory that nothing has been written to

  SP_PlatformFns* functions = params->platform_fns;
  functions->struct_size = SP_PLATFORM_FNS_STRUCT_SIZE;
  functions->get_device_count = [](const SP_Platform*, int* count, TF_Status*) { *count = 1; };
  functions->create_device = [](const SP_Platform*, SE_CreateDeviceParams* of, TF_Status*) {
    of->device->struct_size = SP_DEVICE_STRUCT_SIZE;
    of->device->ordinal = of->ordinal;
  };
  functions->destroy_device = nothing;
  functions->create_device_fns = [](const SP_Platform*, SE_CreateDeviceFnsParams* of, TF_Status*) {
    of->device_fns->struct_size = SP_DEVICE_FNS_STRUCT_SIZE;
  };
  functions->destroy_device_fns = nothing;
  functions->create_stream_executor = [](const SP_Platform*, SE_CreateStreamExecutorParams* of,
                                         TF_Status*) {
    of->stream_executor->struct_size = SP_STREAMEXECUTOR_STRUCT_SIZE;
    dpmask::cuda::set_memory(of->stream_executor);
    dpmask::cuda::set_streams(of->stream_executor);
  };
  functions->destroy_stream_executor = nothing;
  functions->create_timer_fns = [](const SP_Platform*, SP_TimerFns* timer, TF_Status*) {
    timer->struct_size = SP_TIMER_FNS_STRUCT_SIZE;
    timer->nanoseconds = nothing;
  };
  functions->destroy_timer_fns = nothing;
}

}  // extern "C"
