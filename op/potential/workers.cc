// SPDX-License-Identifier: LGPL-3.0-or-later
#include "op/potential/workers.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "op/kernels/first_exception.h"

namespace dpmask {
namespace {

// For so long a thread looks out before it sleeps: as long as waking it takes; in a shift, as long
// as the longest part of a loop may take another thread, but then it yields between looks.
constexpr std::chrono::microseconds kLookout(50), kLookoutInShift(1000);
// So many threads no molecule needs.
constexpr int64_t kMostThreads = 1024;

// How often this process, or those that it came from, were forked.
std::atomic<int64_t> generation{0};
[[maybe_unused]] const int watched = pthread_atfork(nullptr, nullptr, [] { ++generation; });

void pause_a_little() {
#if defined(__x86_64__) || defined(__i386__)
  for (int k = 0; k < 16; ++k) __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

struct Loop {
  int64_t n;
  const LoopBody& body;
  std::atomic<int64_t> next{0};
  FirstException first = {};

  void work() {
    for (int64_t k = next++; k < n; k = next++) first.guard([&] { body(k); });
  }
};

// The number of a loop, and how many threads may still join it.
class Ticket {
 public:
  Ticket() = default;
  Ticket(uint32_t loop, uint32_t seats) : both_(static_cast<uint64_t>(loop) << 32 | seats) {}
  uint32_t loop() const { return static_cast<uint32_t>(both_ >> 32); }
  uint32_t seats() const { return static_cast<uint32_t>(both_); }

 private:
  uint64_t both_ = 0;
};

}  // namespace

int64_t usable_threads() {
  const char* wish = std::getenv("OMP_NUM_THREADS");
  const int64_t number = wish == nullptr ? 0 : std::strtoll(wish, nullptr, 10);
  if (number > 0) return std::min(number, kMostThreads);
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0)
    return std::min<int64_t>(CPU_COUNT(&set), kMostThreads);
  return std::clamp<int64_t>(std::thread::hardware_concurrency(), 1, kMostThreads);
}

// The threads beside the calling one, in one process.
class Workers::Crew {
 public:
  explicit Crew(int64_t size) : of_generation(generation), size_(size) {}
  ~Crew() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      is_over_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  // Returns whether nobody else has the threads.
  bool try_run(Loop& loop) {
    if (is_taken_.exchange(true)) return false;
    const auto seats = static_cast<uint32_t>(threads_for(std::min(loop.n - 1, size_)));
    loop_ = &loop;
    done_ = 0;
    ticket_ = Ticket(++number_, seats);
    wake();  // and whoever is about to sleep looks at the ticket once more
    loop.work();
    const uint32_t joined = seats - ticket_.exchange(Ticket(number_, 0)).seats();
    while (!look_out([&] { return done_ == joined; })) std::this_thread::yield();
    is_taken_ = false;
    return true;
  }

  void begin_shift() {
    ++shifts_;
    wake();
  }
  void end_shift() { --shifts_; }

  const int64_t of_generation;

 private:
  // As many as wanted, or as there can be.
  int64_t threads_for(int64_t wanted) {
    if (static_cast<int64_t>(threads_.size()) < wanted) start(wanted);
    return std::min(wanted, static_cast<int64_t>(threads_.size()));
  }

  void start(int64_t wanted) {
    sigset_t all, before;  // signals are for the threads of the program
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      while (static_cast<int64_t>(threads_.size()) < wanted) {
        threads_.emplace_back([this] { live(); });
      }
    } catch (const std::system_error&) {  // the system has no more threads; those there will do
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  void live() {
    uint32_t last = 0;  // the loop that this thread was in
    while (wait_for_loop(last)) {
      Ticket ticket = ticket_;
      while (is_open(ticket, last)) {
        if (!ticket_.compare_exchange_weak(ticket, Ticket(ticket.loop(), ticket.seats() - 1))) {
          continue;
        }
        last = ticket.loop();
        loop_->work();
        ++done_;
      }
    }
  }

  // Waits until holds(), for a while; returns whether it does.
  template <typename Condition>
  bool look_out(const Condition& holds) const {
    const auto start = std::chrono::steady_clock::now();
    while (!holds()) {
      const auto waited = std::chrono::steady_clock::now() - start;
      if (waited < kLookout) {
        pause_a_little();
      } else if (shifts_ > 0 && waited < kLookoutInShift) {
        std::this_thread::yield();
      } else {
        return false;
      }
    }
    return true;
  }

  void wake() {
    if (sleeping_ == 0) return;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
    }
    wake_.notify_all();
  }

  static bool is_open(Ticket ticket, uint32_t last) {
    return ticket.seats() > 0 && ticket.loop() != last;
  }

  // Returns false if there will be none.
  bool wait_for_loop(uint32_t last) {
    const auto is_ready = [&] { return is_over_ || is_open(ticket_, last); };
    while (!look_out(is_ready)) {
      std::unique_lock<std::mutex> lock(mutex_);
      ++sleeping_;  // maybe into a shift that has just begun, but not into a loop
      // Not wait(), which asks for a newer C++ library than all else here.
      if (!is_ready()) wake_.wait_for(lock, std::chrono::hours(1));
      --sleeping_;
    }
    return !is_over_;
  }

  const int64_t size_;
  std::vector<std::thread> threads_;
  std::atomic<bool> is_taken_{false}, is_over_{false};
  std::atomic<int64_t> shifts_{0};  // that have begun and not ended
  std::atomic<Ticket> ticket_{Ticket()};
  Loop* loop_ = nullptr;           // of the ticket
  uint32_t number_ = 0;            // of the loop
  std::atomic<uint32_t> done_{0};  // threads that have left it
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<int64_t> sleeping_{0};
};

Workers::Workers(int64_t threads) : threads_(threads) {
  if (1 <= threads && threads <= kMostThreads) return;
  throw std::invalid_argument("threads must be between 1 and " + std::to_string(kMostThreads) +
                              ", not " + std::to_string(threads));
}

Workers::~Workers() {
  Crew* crew = crew_;
  // The threads of the process that this one was forked from are not there to be waited for.
  if (crew != nullptr && crew->of_generation == generation) delete crew;
}

Workers::Crew& Workers::crew() {
  Crew* found = crew_;
  while (found == nullptr || found->of_generation != generation) {
    auto made = std::make_unique<Crew>(threads_ - 1);
    if (crew_.compare_exchange_strong(found, made.get())) return *made.release();
  }
  return *found;
}

Workers::Shift::Shift(Workers& workers) : crew_(workers.threads_ > 1 ? &workers.crew() : nullptr) {
  if (crew_ != nullptr) crew_->begin_shift();
}

Workers::Shift::~Shift() {
  if (crew_ != nullptr) crew_->end_shift();
}

void Workers::run(int64_t n, const LoopBody& body) {
  Loop loop{n, body};
  if (std::min(n, threads_) < 2 || !crew().try_run(loop)) loop.work();
  loop.first.rethrow();
}

}  // namespace dpmask
