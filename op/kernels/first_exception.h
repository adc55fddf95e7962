// SPDX-License-Identifier: LGPL-3.0-or-later
#pragma once

#include <exception>
#include <mutex>

namespace dpmask {

// Carries the first exception of several threads to the one that waits for them.
class FirstException {
 public:
  template <typename Body>
  void guard(Body&& body) {
    try {
      body();
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!first_) first_ = std::current_exception();
    }
  }
  void rethrow() const {
    if (first_) std::rethrow_exception(first_);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr first_;
};

}  // namespace dpmask
