// SPDX-License-Identifier: LGPL-3.0-or-later
#include "op/potential/potential.h"

#include <algorithm>

#include "op/potential/potential_on.h"
#include "op/potential/workers.h"

namespace dpmask {
namespace {

// The CPU as the device of potential_on.h: all arrays are the host's.
class CpuDevice {
 public:
  explicit CpuDevice(int64_t threads)
      : workers_(threads), parallel_([this](int64_t n, const std::function<void(int64_t)>& body) {
          workers_.run(n, body);
        }) {}

  int64_t threads() const { return workers_.threads(); }
  template <typename T>
  const T* keep(const T* host, int64_t) {
    return host;
  }

  class Run {
   public:
    explicit Run(CpuDevice& device) : device_(device) {}
    const Parallel& kernels() { return device_.parallel_; }
    template <typename T>
    T* allocate(int64_t size) {
      memory_.emplace_back(new char[size * sizeof(T)]);
      return reinterpret_cast<T*>(memory_.back().get());
    }
    template <typename T>
    const T* upload(const T* host, int64_t) {
      return host;
    }
    double* output(double* host, int64_t size) {
      double* array = host == nullptr ? allocate<double>(size) : host;
      std::fill_n(array, size, 0.0);
      return array;
    }
    void finish() {}

   private:
    CpuDevice& device_;
    std::vector<std::unique_ptr<char[]>> memory_;
  };

 private:
  Workers workers_;
  Parallel parallel_;
};

}  // namespace

std::unique_ptr<Potential> open_potential(const std::vector<AnyModel>& models, int64_t threads) {
  Workers workers(threads);
  const Parallel parallel = [&](int64_t n, const std::function<void(int64_t)>& body) {
    workers.run(n, body);
  };
  return std::make_unique<PotentialOn<CpuDevice>>(models, parallel, threads);
}

}  // namespace dpmask
