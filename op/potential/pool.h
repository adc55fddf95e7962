// SPDX-License-Identifier: LGPL-3.0-or-later
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <utility>

namespace dpmask {

// Objects of which everybody takes one for a while. Nothing is locked, so a process that is forked
// meanwhile finds nothing locked; it lacks what was taken, and makes new ones.
template <typename Object>
class Pool {
 public:
  using Make = std::function<std::unique_ptr<Object>()>;

  explicit Pool(Make make) : make_(std::move(make)) {
    for (std::atomic<Object*>& place : places_) place = nullptr;
  }
  ~Pool() {
    for (std::atomic<Object*>& place : places_) delete place.load();
  }
  Pool(const Pool&) = delete;

  // One of the pool, or a new one, given back at the end.
  class Taken {
   public:
    explicit Taken(Pool& pool) : pool_(pool), object_(pool.take()) {}
    ~Taken() { pool_.give_back(std::move(object_)); }
    Taken(const Taken&) = delete;
    Object* operator->() { return object_.get(); }

   private:
    Pool& pool_;
    std::unique_ptr<Object> object_;
  };

 private:
  std::unique_ptr<Object> take() {
    for (std::atomic<Object*>& place : places_) {
      if (Object* found = place.exchange(nullptr)) return std::unique_ptr<Object>(found);
    }
    return make_();
  }
  void give_back(std::unique_ptr<Object> object) {
    for (std::atomic<Object*>& place : places_) {
      Object* nothing = nullptr;
      if (!place.compare_exchange_strong(nothing, object.get())) continue;
      object.release();
      return;
    }
  }

  const Make make_;
  std::array<std::atomic<Object*>, 16> places_;
};

}  // namespace dpmask
