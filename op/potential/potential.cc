// SPDX-License-Identifier: LGPL-3.0-or-later
#include "op/potential/potential.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "op/potential/potential_on.h"
#include "op/potential/workers.h"

namespace dpmask {
namespace {

// The CPU as the device of potential_on.h: all arrays are the host's.
class CpuDevice {
 public:
  static constexpr bool kHasMixed = true;

  explicit CpuDevice(int64_t threads) : workers_(threads), host_(workers_) {}

  int64_t threads() const { return workers_.threads(); }
  Cpu& host() { return host_; }
  template <typename T>
  const T* keep(const T* host, int64_t) {
    return host;
  }

  class Run {
   public:
    explicit Run(CpuDevice& device) : cpu_(device.workers_) {}

    class Scope : public Cpu::Scope {
     public:
      explicit Scope(Run& run) : Cpu::Scope(run.cpu_), shift_(run.cpu_.workers()) {}

     private:
      Workers::Shift shift_;
    };
    using Kernels = Cpu;
    // As many models side by side as there are threads, each with one: nobody waits for others
    // between the loops of a model. Those left over have all threads.
    template <typename Body>
    void for_each_model(int64_t n, const Body& body) {
      const int64_t threads = cpu_.threads(), beside = threads > 1 ? n / threads * threads : 0;
      while (static_cast<int64_t>(alone_.size()) < beside) {
        alone_.push_back(std::make_unique<OneThread>());
      }
      const auto evaluate = [&](int64_t k, Cpu& cpu) {
        const Cpu::Scope scope(cpu);
        body(k, cpu);
      };
      if (beside > 0) cpu_.parallel(beside, [&](int64_t k) { evaluate(k, *alone_[k]); });
      for (int64_t k = beside; k < n; ++k) evaluate(k, cpu_);
    }
    template <typename T>
    const T* upload(const T* host, int64_t) {
      return host;
    }
    double* output(double* host, int64_t size) {
      double* array = host == nullptr ? cpu_.allocate<double>(size) : host;
      std::fill_n(array, size, 0.0);
      return array;
    }
    void finish() {}

   private:
    CpuOfWorkers cpu_;
    std::vector<std::unique_ptr<OneThread>> alone_;  // for models side by side
  };

 private:
  Workers workers_;
  CpuOfWorkers host_;
};

}  // namespace

std::unique_ptr<Potential> open_potential(const std::vector<AnyModel>& models, int64_t threads) {
  return std::make_unique<PotentialOn<CpuDevice>>(models,
                                                  threads == 0 ? usable_threads() : threads);
}

}  // namespace dpmask
