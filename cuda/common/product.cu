// SPDX-License-Identifier: LGPL-3.0-or-later
// A block computes a patch of out: step by step, it brings a strip of rows of left and one of
// columns of right to shared memory, and each thread adds their products to its own elements of the
// patch, which stay in registers. Where there are too few patches to keep a card busy, several
// blocks have a part of the depth each, and a second kernel adds up their sums.
#include "cuda/common/product.h"

#include <algorithm>

#include "cuda/common/batch.h"

namespace dpmask::cuda {
namespace {

constexpr int64_t kEnoughBlocks = 1024;  // to keep any card busy
constexpr int64_t kLeastDepth = 64;      // of a part
constexpr int kDepth = 8;                // of a step
constexpr int kColumns = 64;             // of a patch

template <typename T>
constexpr int kWide = 16 / sizeof(T);  // numbers that a thread reads from shared memory at once

// The columns of each thread, and how many threads there are across and down a patch.
template <typename T>
constexpr int kThreadColumns = 2 * kWide<T>;
template <typename T>
constexpr int kAcross = kColumns / kThreadColumns<T>;
template <typename T>
constexpr int kDown = kThreads / kAcross<T>;

template <typename T>
struct alignas(16) Wide {
  T of[kWide<T>];
};

// Where in a patch the n-th row, or column, of a thread is: groups of kWide of a thread are next to
// those of its neighbours, so that all banks are in use.
template <typename T>
DPMASK_DEVICE constexpr int in_patch(int n, int thread, int nthreads) {
  return (n / kWide<T> * nthreads + thread) * kWide<T> + n % kWide<T>;
}

DPMASK_DEVICE inline int at_most(int most, int64_t n) {
  return static_cast<int>(smaller<int64_t>(n, most));
}

// kLines rows of left, or columns of right, and kDepth numbers of each. In shared memory, those of
// the same depth are together, with a gap lest the numbers of one line lie in the same bank.
template <typename T, int kLines>
struct Strips {
  static constexpr int kPitch = kLines + 4;
  static constexpr int kSize = kDepth * kPitch;

  T of_thread[kDepth * kLines / kThreads];

  // Reads number k of each line, matrix[line * line_step + k * k_step], or 0 beyond the ends.
  DPMASK_KERNEL void read(int thread, const T* matrix, int64_t line_step, int64_t k_step,
                          int nlines, int depth) {
    of_each(thread, k_step == 1, [&](int n, int line, int k, int lines_on, int ks_on) {
      if (n == 0) matrix += line * line_step + k * k_step;
      of_thread[n] = line < nlines && k < depth ? *matrix : T(0);
      matrix += lines_on * line_step + ks_on * k_step;
    });
  }
  DPMASK_KERNEL void write(int thread, bool along, T* shared) const {
    of_each(thread, along,
            [&](int n, int line, int k, int, int) { shared[k * kPitch + line] = of_thread[n]; });
  }

 private:
  // Calls f with the line and the k of each number of a thread, and how many lines and ks on the
  // next one is. Numbers of neighbouring threads are neighbours in memory, which goes along the
  // lines or across.
  template <typename F>
  DPMASK_KERNEL static void of_each(int thread, bool along, const F& f) {
    constexpr int kOfThread = kDepth * kLines / kThreads;
    if (along) {
      constexpr int kOn = kThreads / kDepth;
      DPMASK_UNROLL
      for (int n = 0; n < kOfThread; ++n) {
        f(n, thread / kDepth + n * kOn, thread % kDepth, kOn, 0);
      }
    } else {
      constexpr int kOn = kThreads / kLines;
      DPMASK_UNROLL
      for (int n = 0; n < kOfThread; ++n) f(n, thread % kLines, thread / kLines + n * kOn, 0, kOn);
    }
  }
};

// The elements of a patch that a thread has, sum[i][j] at row(i), column(j).
template <typename T, int kThreadRows>
class Elements {
 public:
  static constexpr int kRows = kThreadRows, kColumns = kThreadColumns<T>;
  T sum[kRows][kColumns];

  DPMASK_DEVICE static int row(int i, int thread) {
    return in_patch<T>(i, thread / kAcross<T>, kDown<T>);
  }
  DPMASK_DEVICE static int column(int j, int thread) {
    return in_patch<T>(j, thread % kAcross<T>, kAcross<T>);
  }
  DPMASK_KERNEL void add(int thread, const T* left, int left_pitch, const T* right,
                         int right_pitch) {
    for (int k = 0; k < kDepth; ++k) {
      T a[kRows], b[kColumns];
      gather(left + k * left_pitch, thread / kAcross<T>, kDown<T>, a);
      gather(right + k * right_pitch, thread % kAcross<T>, kAcross<T>, b);
      DPMASK_UNROLL
      for (int i = 0; i < kRows; ++i) {
        DPMASK_UNROLL
        for (int j = 0; j < kColumns; ++j) sum[i][j] += a[i] * b[j];
      }
    }
  }

 private:
  template <int kSize>
  DPMASK_KERNEL static void gather(const T* shared, int thread, int nthreads, T (&to)[kSize]) {
    DPMASK_UNROLL
    for (int n = 0; n < kSize; n += kWide<T>) {
      const Wide<T> wide =
          *reinterpret_cast<const Wide<T>*>(shared + in_patch<T>(n, thread, nthreads));
      for (int w = 0; w < kWide<T>; ++w) to[n + w] = wide.of[w];
    }
  }
};

// In float64, the units for matrices of a card: a warp multiplies 8 rows, or two times 8, with 8
// columns at a depth of 4, and holds the result as PTX says for mma.m8n8k4 and mma.m16n8k4. The
// warps of a block are two by two.
template <int kThreadRows>
class Elements<double, kThreadRows> {
 public:
  static constexpr int kRows = kThreadRows / 2, kColumns = 8;
  double sum[kRows][kColumns];

  DPMASK_DEVICE static int row(int i, int thread) {
    return (thread / 64 * kRows + i) * 8 + thread % 32 / 4;
  }
  DPMASK_DEVICE static int column(int j, int thread) {
    return thread / 32 % 2 * 32 + j / 2 * 8 + thread % 4 * 2 + j % 2;
  }
  DPMASK_KERNEL void add(int thread, const double* left, int left_pitch, const double* right,
                         int right_pitch) {
#ifdef __CUDA_ARCH__
    const int of_warp = thread / 32 % 2 * 32 + thread % 32 / 4;
    DPMASK_UNROLL
    for (int k = thread % 4; k < kDepth; k += 4) {
      double a[kRows], b[4];
      DPMASK_UNROLL
      for (int i = 0; i < kRows; ++i) a[i] = left[k * left_pitch + row(i, thread)];
      DPMASK_UNROLL
      for (int j = 0; j < 4; ++j) b[j] = right[k * right_pitch + of_warp + 8 * j];
      DPMASK_UNROLL
      for (int i = 0; i < kRows; i += 2) {
        DPMASK_UNROLL
        for (int j = 0; j < 4; ++j) multiply(a + i, b[j], sum[i] + 2 * j, sum[i + 1] + 2 * j);
      }
    }
#else
    for (int k = 0; k < kDepth; ++k) {
      for (int i = 0; i < kRows; ++i) {
        for (int j = 0; j < kColumns; ++j) {
          sum[i][j] +=
              left[k * left_pitch + row(i, thread)] * right[k * right_pitch + column(j, thread)];
        }
      }
    }
#endif
  }

#ifdef __CUDA_ARCH__
 private:
  DPMASK_KERNEL static void multiply(const double* a, double b, double* c, double* d) {
#if __CUDA_ARCH__ >= 900
    asm("mma.sync.aligned.m16n8k4.row.col.f64.f64.f64.f64 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
        "{%0, %1, %2, %3};"
        : "+d"(c[0]), "+d"(c[1]), "+d"(d[0]), "+d"(d[1])
        : "d"(a[0]), "d"(a[1]), "d"(b));
#else
    multiply_once(a[0], b, c);
    multiply_once(a[1], b, d);
  }
  DPMASK_KERNEL static void multiply_once(double a, double b, double* c) {
    asm("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};"
        : "+d"(c[0]), "+d"(c[1])
        : "d"(a), "d"(b));
#endif
  }
#endif
};

// Writes an element, given the sum over the depth.
template <typename T>
DPMASK_KERNEL void finish(const Product<T>& p, int64_t place, int64_t column, T sum) {
  const T bias = p.bias == nullptr ? T(0) : p.bias[column];
  p.out[place] = bias + (p.add == nullptr ? T(0) : p.add[place]) + sum;
}

// The patches of a product, or of its parts; a thread has kThreadRows rows.
template <typename T, int kThreadRows>
struct Patches {
  static constexpr int kRows = kThreadRows * kDown<T>;
  using Left = Strips<T, kRows>;
  using Right = Strips<T, kColumns>;
  static constexpr int kStage = Left::kSize + Right::kSize;
  static constexpr int64_t kShared = 2 * kStage * sizeof(T);  // one is read, the other written

  Product<T> p;
  int64_t parts;
  T* sums;  // [parts, rows, columns], or nullptr where there is one part

  DPMASK_DEVICE int64_t across() const { return ceil_div<int64_t>(p.columns, kColumns); }
  DPMASK_DEVICE int64_t patches() const { return ceil_div<int64_t>(p.rows, kRows) * across(); }
  int64_t blocks() const { return patches() * parts; }
  DPMASK_DEVICE int64_t steps_of_pair() const { return ceil_div<int64_t>(p.depth, kDepth); }
  DPMASK_DEVICE int64_t steps() const { return steps_of_pair() * (p.left2 == nullptr ? 1 : 2); }

  DPMASK_KERNEL void operator()(const Block& block) const {
    const int64_t part = block.index / patches(), patch = block.index % patches();
    const int64_t row = patch / across() * kRows, column = patch % across() * kColumns;
    const int64_t first = steps() * part / parts, end = steps() * (part + 1) / parts;
    T* const shared = reinterpret_cast<T*>(block.shared);
    Private<Elements<T, kThreadRows>> elements;
    block.threads([=, &elements](int thread) {
      elements[thread] = {};
      if (first < end) read(thread, row, column, first).write(*this, thread, shared);
    });
    for (int64_t step = first; step < end; ++step) {
      T* const now = shared + (step - first) % 2 * kStage;
      T* const then = shared + (step + 1 - first) % 2 * kStage;
      block.threads([=, &elements](int thread) {
        Stage next;
        if (step + 1 < end) next = read(thread, row, column, step + 1);
        elements[thread].add(thread, now, Left::kPitch, now + Left::kSize, Right::kPitch);
        if (step + 1 < end) next.write(*this, thread, then);
      });
    }
    block.threads([=, &elements](int thread) {
      using OfThread = Elements<T, kThreadRows>;
      DPMASK_UNROLL
      for (int i = 0; i < OfThread::kRows; ++i) {
        const int64_t r = row + OfThread::row(i, thread);
        DPMASK_UNROLL
        for (int j = 0; j < OfThread::kColumns; ++j) {
          const int64_t c = column + OfThread::column(j, thread);
          if (r < p.rows && c < p.columns) put(part, r, c, elements[thread].sum[i][j]);
        }
      }
    });
  }

 private:
  struct Stage {
    Left left;
    Right right;
    DPMASK_KERNEL void write(const Patches& patches, int thread, T* shared) const {
      left.write(thread, patches.p.left.column == 1, shared);
      right.write(thread, patches.p.right.row == 1, shared + Left::kSize);
    }
  };

  DPMASK_KERNEL Stage read(int thread, int64_t row, int64_t column, int64_t step) const {
    const bool second = step >= steps_of_pair();
    const int64_t k = (second ? step - steps_of_pair() : step) * kDepth;
    const T* const left = second ? p.left2 : p.left.data;
    const T* const right = second ? p.right2 : p.right.data;
    Stage stage;
    stage.left.read(thread, left + row * p.left.row + k * p.left.column, p.left.row, p.left.column,
                    at_most(kRows, p.rows - row), at_most(kDepth, p.depth - k));
    stage.right.read(thread, right + column * p.right.column + k * p.right.row, p.right.column,
                     p.right.row, at_most(kColumns, p.columns - column),
                     at_most(kDepth, p.depth - k));
    return stage;
  }
  DPMASK_KERNEL void put(int64_t part, int64_t row, int64_t column, T sum) const {
    const int64_t place = row * p.columns + column;
    if (sums == nullptr) {
      finish(p, place, column, sum);
    } else {
      sums[part * p.rows * p.columns + place] = sum;
    }
  }
};

// The second kernel, for products with parts.
template <typename T>
struct SumOfParts {
  Product<T> p;
  int64_t parts;
  const T* sums;
  DPMASK_DEVICE int64_t size() const { return p.rows * p.columns; }
  int64_t blocks() const { return blocks_for(size()); }
  DPMASK_KERNEL void operator()(const Block& block) const {
    block.share(size(), [this](int64_t k) {
      T sum = 0;
      for (int64_t part = 0; part < parts; ++part) sum += sums[part * size() + k];
      finish(p, k, k % p.columns, sum);
    });
  }
};

template <typename Patches, typename T>
std::vector<Patches> whole(const std::vector<Product<T>>& products) {
  std::vector<Patches> all;
  for (const Product<T>& p : products) all.push_back({p, 1, nullptr});
  return all;
}
template <typename Patches>
int64_t count_blocks(const std::vector<Patches>& all) {
  int64_t count = 0;
  for (const Patches& patches : all) count += patches.blocks();
  return count;
}

template <typename T>
using LargePatches = Patches<T, 8>;
template <typename T>
using SmallPatches = Patches<T, 4>;

}  // namespace

template <typename T>
int64_t product_workspace() {
  return kEnoughBlocks * SmallPatches<T>::kRows * kColumns;
}

template <typename T>
void multiply(const std::vector<Product<T>>& products, T* workspace, cudaStream_t stream) {
  const auto large = whole<LargePatches<T>>(products);
  if (count_blocks(large) >= kEnoughBlocks) {
    launch_all(large, stream, LargePatches<T>::kShared);
    return;
  }
  auto small = whole<SmallPatches<T>>(products);
  const int64_t most = kEnoughBlocks / std::max<int64_t>(count_blocks(small), 1);
  std::vector<SumOfParts<T>> second;
  for (SmallPatches<T>& patches : small) {
    const Product<T>& p = patches.p;
    patches.parts = std::max<int64_t>(std::min(most, patches.steps() * kDepth / kLeastDepth), 1);
    if (patches.parts == 1) continue;
    patches.sums = workspace;
    workspace += patches.parts * p.rows * p.columns;
    second.push_back({p, patches.parts, patches.sums});
  }
  launch_all(small, stream, SmallPatches<T>::kShared);
  launch_all(second, stream);
}

#define DPMASK_INSTANTIATE(T)              \
  template int64_t product_workspace<T>(); \
  template void multiply<T>(const std::vector<Product<T>>&, T*, cudaStream_t)
DPMASK_INSTANTIATE(float);
DPMASK_INSTANTIATE(double);

}  // namespace dpmask::cuda
