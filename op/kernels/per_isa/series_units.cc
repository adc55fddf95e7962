// SPDX-License-Identifier: LGPL-3.0-or-later
// The nets that have a series, in the letters of embedding.h and series_units.h. Compiled once for
// each instruction set, as direct_units.cc says.
#include "op/kernels/series_units.h"

#include <algorithm>

#include "op/kernels/instruction_set.h"
#include "op/kernels/per_isa/row_products.h"
#include "op/kernels/per_isa/series_rows.h"
#include "op/shared/series.h"

namespace dpmask {
namespace DPMASK_ISA {
namespace {

// ---- Panels -------------------------------------------------------------------------------------

// 1/r of a centre atom and `count` successive rows.
void inverse_distances(const double* position, int64_t size, int64_t i, int64_t first,
                       int64_t count, double* s) {
  const double *x = position, *y = x + size, *z = y + size;
  for (int64_t k = 0; k < count; ++k) {
    const double dx = x[first + k] - x[i], dy = y[first + k] - y[i], dz = z[first + k] - z[i];
    s[k] = inverse_distance(dx * dx + dy * dy + dz * dz);
  }
}

// The panels of a net in which s is.
void look_up(const PanelGrid& grid, const double* end, int64_t count, const double* s,
             int32_t* panel) {
  for (int64_t k = 0; k < count; ++k) {
    const double cell = std::clamp((s[k] - grid.begin) * grid.by_width, 0.0, grid.last);
    int32_t low = grid.lowest[static_cast<int64_t>(cell)];
    int32_t high = grid.highest[static_cast<int64_t>(cell)];
    while (low < high) halve_panels(s[k], [=](int32_t p) { return end[p]; }, &low, &high);
    panel[k] = low;
  }
}

template <typename T>
void locate(const Embedding<T>& embedding, const Pairs& pairs, int64_t unit,
            const LocatedPairs& out) {
  const RealAtoms& atoms = embedding.atoms;
  const Series<T>& series = embedding.series;
  for (int64_t i = pairs.unit_first[unit]; i < pairs.unit_first[unit + 1]; ++i) {
    int64_t pair = pairs.pair_first[i];
    for (int64_t t = 0; t < atoms.ntypes; ++t) {
      const int64_t group = t * atoms.nframes + pairs.frame[i];
      const int64_t first = atoms.first[group], count = atoms.first[group + 1] - first;
      const int32_t net = embedding.nets.net[pairs.type[i] * atoms.ntypes + t];
      if (net >= 0 && series.has(net)) {
        inverse_distances(out.position, atoms.size, i, first, count, out.s + pair);
        look_up(out.grid[net], out.end, count, out.s + pair, out.panel + pair);
      } else {
        std::fill_n(out.s + pair, count, 0.0);
        std::fill_n(out.panel + pair, count, LocatedPairs::kNone);
      }
      pair += count;
    }
    out.s[pairs.number(i, i)] = 0;
    out.panel[pairs.number(i, i)] = LocatedPairs::kNone;
  }
}

// ---- X ------------------------------------------------------------------------------------------

template <typename T>
Submatrix<const T> C_of(const Embedding<T>& embedding, int64_t panel) {
  const int64_t M1 = embedding.nets.neuron.back();
  return {embedding.series.C + panel * kTerms * M1, kTerms, M1, M1};
}

template <typename T>
void add_block(const RowBlock<T>& block, Submatrix<const T> C, T* X) {
  using namespace row_products;
  const int64_t M1 = C.columns;
  // Rows outside, so that X is read and written as it lies in memory.
  for_each_group<kRows>(block.size, [&](auto count, int64_t row) {
    for_each_columns<T, Packet<T>, kPackets>(0, M1, [&](auto columns, int64_t column) {
      using Part = decltype(columns);
      typename Part::OfPacket sum[decltype(count)::value][Part::kCount];
      clear(sum);
      multiply(block.P + row * kTerms, kTerms, 1, kTerms, C.data + column, C.stride, sum);
      for (int r = 0; r < count; ++r) {
        T* X_i = X + 4 * M1 * block.centre[row + r] + column;
        for (int c = 0; c < 4; ++c) add(columns, sum[r], block.w[4 * (row + r) + c], X_i + c * M1);
      }
    });
  });
}

template <typename T, typename Rows>
void add_X(const Embedding<T>& embedding, const SortedPairs& sorted, const Units& units,
           const Rows& rows, T* X) {
  const int64_t M1 = embedding.nets.neuron.back();
  for (int64_t panel = 0; panel < embedding.series.npanels(); ++panel) {
    const Submatrix<const T> C = C_of(embedding, panel);
    const auto on_pairs = [&](const SortedPair* first, const SortedPair* last) {
      for_each_block<T>(rows, panel, first, last,
                        [&](const RowBlock<T>& block) { add_block(block, C, X); });
    };
    const auto on_centre = [&](const SortedPair* first, const SortedPair* last) {
      T M[4 * kTerms];
      set_moments(rows, panel, first, last, M);
      add_row_product<4, T>(M, kTerms, 1, C, X + 4 * M1 * first->i, M1);
    };
    for_each_stretch(sorted.from(panel, units.first), sorted.from(panel, units.end), Rows::kOfPair,
                     on_pairs, on_centre);
  }
}

template <typename T>
void embed(const Embedding<T>& embedding, const SortedPairs& sorted, const Units& units, T* X) {
  add_X(embedding, sorted, units, RowsOfX<T>{embedding}, X);
}

template <typename T>
void embed_tangent(const Embedding<T>& embedding, const Pairs& pairs, const SortedPairs& sorted,
                   const ForceCotangents& cotangents, const Units& units, T* tX) {
  add_X(embedding, sorted, units, RowsOfTangent<T>{embedding, pairs, cotangents}, tX);
}

// ---- The gradient -------------------------------------------------------------------------------

// w A_i [M1], given w [4] and A_i [4, M1].
template <typename T>
void gather(const T* w, const T* A_i, int64_t M1, T* out) {
  using OfRow = Eigen::Map<const RowVector<T>>;
  Eigen::Map<RowVector<T>>(out, M1) = w[0] * OfRow(A_i, M1) + w[1] * OfRow(A_i + M1, M1) +
                                      w[2] * OfRow(A_i + 2 * M1, M1) +
                                      w[3] * OfRow(A_i + 3 * M1, M1);
}

// Adds P^T (w dX) of rows to dC, kBlock rows at a time.
template <typename T>
class GradientSum {
 public:
  GradientSum(const T* dX, int64_t M1, T* dC)
      : scope_(arena_), dX_(dX), M1_(M1), dC_(dC), P_(arena_.allocate<T>(kBlock * kTerms)),
        wdX_(arena_.allocate<T>(kBlock * M1)) {}

  void add_block(const RowBlock<T>& block) {
    for (int64_t k = 0; k < block.size; ++k) {
      make_room(1);
      gather(block.w + 4 * k, dX_ + 4 * M1_ * block.centre[k], M1_, wdX_ + size_ * M1_);
      std::copy_n(block.P + k * kTerms, kTerms, P_ + size_ * kTerms);
      ++size_;
    }
  }

  void add_moments(int64_t i, const T* M) {
    make_room(4);
    std::copy_n(dX_ + 4 * M1_ * i, 4 * M1_, wdX_ + size_ * M1_);
    std::copy_n(M, 4 * kTerms, P_ + size_ * kTerms);
    size_ += 4;
  }

  void finish() {
    add_transposed_row_product<kTerms, T>(P_, {wdX_, size_, M1_, M1_}, dC_);
    size_ = 0;
  }

 private:
  void make_room(int64_t nrows) {
    if (size_ + nrows > kBlock) finish();
  }

  Arena& arena_ = Arena::of_thread();
  Arena::Scope scope_;
  const T* dX_;
  int64_t M1_;
  T* dC_;
  int64_t size_ = 0;
  T *P_, *wdX_;  // [kBlock, kTerms], [kBlock, M1]
};

template <typename T, typename Rows>
void add_gradient(const Embedding<T>& embedding, const SortedPairs& sorted, int64_t panel,
                  const Rows& rows, const T* dX, T* dC) {
  GradientSum<T> sum(dX, embedding.nets.neuron.back(), dC);
  const auto on_pairs = [&](const SortedPair* first, const SortedPair* last) {
    for_each_block<T>(rows, panel, first, last,
                      [&](const RowBlock<T>& block) { sum.add_block(block); });
  };
  const auto on_centre = [&](const SortedPair* first, const SortedPair* last) {
    T M[4 * kTerms];
    set_moments(rows, panel, first, last, M);
    sum.add_moments(first->i, M);
  };
  for_each_stretch(sorted.from(panel, 0), sorted.from(panel, sorted.nunits), Rows::kOfPair,
                   on_pairs, on_centre);
  sum.finish();
}

template <typename T>
void gradient(const Embedding<T>& embedding, const SortedPairs& sorted, int64_t panel, const T* dX,
              T* dC) {
  add_gradient(embedding, sorted, panel, RowsOfX<T>{embedding}, dX, dC);
}

template <typename T>
void tangent_gradient(const Embedding<T>& embedding, const Pairs& pairs, const SortedPairs& sorted,
                      const ForceCotangents& cotangents, int64_t panel, const T* A, T* dC) {
  add_gradient(embedding, sorted, panel, RowsOfTangent<T>{embedding, pairs, cotangents}, A, dC);
}

// ---- Forces -------------------------------------------------------------------------------------

template <typename T>
class ForceOfPanel {
 public:
  static constexpr int64_t kRowsOfPair = 2;  // G and w A_i, each multiplied with C

  ForceOfPanel(const Embedding<T>& embedding, const Pairs& pairs, int64_t panel, const T* A,
               const PairDerivatives& out)
      : scope_(arena_), embedding_(embedding), pairs_(pairs), panel_(panel),
        M1_(embedding.nets.neuron.back()), by_n_(1 / embedding.n), A_(A), out_(out),
        C_(C_of(embedding, panel)), wA_(arena_.allocate<T>(kBlock * M1_)) {}

  // Pairs with rows of their own: with G = T C and g = C (w A_i),
  // dE/dR = (1/n) A_i G and dE/ds = g dT/ds.
  void set_pairs(const SortedPair* first, const SortedPair* last) const {
    const int64_t count = last - first;
    EnvironmentRow row[kBlock];
    T terms[2 * kBlock * kTerms], g[kBlock * kTerms];
    set_terms<2>(embedding_.series, panel_, first, last, terms);
    for (int64_t k = 0; k < count; ++k) {
      row[k] = row_of(embedding_, first[k]);
      T w[4];
      for (int c = 0; c < 4; ++c) w[c] = static_cast<T>(row[k].R[c] * by_n_);
      gather(w, A_of(first[k].i), M1_, wA_ + k * M1_);
    }
    set_row_product_transposed<T>({wA_, count, M1_, M1_}, C_, g, kTerms);
    T* G = wA_;
    set_row_product<T>({terms, count, kTerms, 2 * kTerms}, C_, G);
    for (int64_t k = 0; k < count; ++k) {
      T AG[4];
      set_four_dots(A_of(first[k].i), G + k * M1_, M1_, AG);
      double dR[4];
      for (int c = 0; c < 4; ++c) dR[c] = AG[c] * by_n_;
      const double ds = TermsOf<T>(g + k * kTerms).dot(TermsOf<T>(terms + (2 * k + 1) * kTerms));
      set(first[k], row[k], dR, ds);
    }
  }

  // Pairs in the moments of a centre: with g = A_i C^T, [4, kTerms],
  // dE/dR = (1/n) g T and dE/ds = (1/n) R g dT/ds.
  void set_centre(const SortedPair* first, const SortedPair* last) const {
    T g[4 * kTerms];
    set_row_product_transposed<T>({A_of(first->i), 4, M1_, M1_}, C_, g, kTerms);
    constexpr int64_t kPairs = Polynomials<T>::kPairs;
    for_each_part(first, last, kPairs, [&](const SortedPair* begin, const SortedPair* end) {
      using P = typename Polynomials<T>::P;
      const Polynomials<T> polynomials(embedding_.series, panel_, begin, end);
      P gT[4], gdT[4];  // g T(x_) and g T'(x_)
      for (int c = 0; c < 4; ++c) gT[c] = gdT[c] = packets::pset1<P>(T(0));
      const auto add = [&](int64_t k, P polynomial, P* sum) {
        for (int c = 0; c < 4; ++c) {
          sum[c] = packets::pmadd(packets::pset1<P>(g[c * kTerms + k]), polynomial, sum[c]);
        }
      };
      polynomials.for_each_value([&](int64_t k, P T_k) { add(k, T_k, gT); });
      polynomials.for_each_derivative([&](int64_t k, P dT_k) { add(k, dT_k, gdT); });
      EnvironmentRowOf<Numbers<T>> row;
      set_rows_of(embedding_, begin, &row);
      Numbers<T> dR[4], ds = {};
      for (int c = 0; c < 4; ++c) {
        const P by_R = packets::pmadd(gdT[c], polynomials.beyond(), gT[c]);  // of T(x)
        const P by_T = packets::pmul(gdT[c], polynomials.by_s());
        dR[c] = __builtin_convertvector(by_R, Numbers<T>) * by_n_;
        ds += row.R[c] * __builtin_convertvector(by_T, Numbers<T>);
      }
      ds *= by_n_;
      set(begin, end, row, dR, ds);
    });
  }

 private:
  const T* A_of(int64_t i) const { return A_ + 4 * M1_ * i; }
  void set(const SortedPair& pair, const EnvironmentRow& row, const double* dR, double ds) const {
    set_derivatives(row, dR, ds, pairs_.number(pair.i, pair.j), out_);
  }
  // The same for pairs side by side.
  void set(const SortedPair* begin, const SortedPair* end, const EnvironmentRowOf<Numbers<T>>& row,
           const Numbers<T>* dR, const Numbers<T>& ds) const {
    Numbers<T> dr[3], dw = {};
    environment_reverse(row, dR, ds, dr);
    if (out_.dw != nullptr) environment_by_weight(row, dR, &dw);
    for (int64_t p = 0; p < end - begin; ++p) {
      const int64_t number = pairs_.number(begin[p].i, begin[p].j);
      for (int a = 0; a < 3; ++a) out_.dr[3 * number + a] = dr[a][p];
      if (out_.dw != nullptr) out_.dw[number] = dw[p];
    }
  }

  Arena& arena_ = Arena::of_thread();
  Arena::Scope scope_;
  const Embedding<T>& embedding_;
  const Pairs& pairs_;
  int64_t panel_, M1_;
  double by_n_;
  const T* A_;
  const PairDerivatives& out_;
  Submatrix<const T> C_;
  T* wA_;  // [kBlock, M1]; also G
};

template <typename T>
void force(const Embedding<T>& embedding, const Pairs& pairs, const SortedPairs& sorted,
           const Units& units, const T* A, const PairDerivatives& out) {
  for (int64_t panel = 0; panel < embedding.series.npanels(); ++panel) {
    const ForceOfPanel<T> of_panel(embedding, pairs, panel, A, out);
    const auto on_pairs = [&](const SortedPair* begin, const SortedPair* end) {
      for_each_part(begin, end, kBlock,
                    [&](const auto* first, const auto* last) { of_panel.set_pairs(first, last); });
    };
    for_each_stretch(
        sorted.from(panel, units.first), sorted.from(panel, units.end),
        ForceOfPanel<T>::kRowsOfPair, on_pairs,
        [&](const auto* first, const auto* last) { of_panel.set_centre(first, last); });
  }
}

}  // namespace
}  // namespace DPMASK_ISA

template <typename T>
SeriesUnits<T> DPMASK_OF_THIS_SET(series_units)() {
  return {DPMASK_ISA::locate<T>,           DPMASK_ISA::embed<T>,
          DPMASK_ISA::embed_tangent<T>,    DPMASK_ISA::gradient<T>,
          DPMASK_ISA::tangent_gradient<T>, DPMASK_ISA::force<T>};
}
template SeriesUnits<float> DPMASK_OF_THIS_SET(series_units)<float>();
template SeriesUnits<double> DPMASK_OF_THIS_SET(series_units)<double>();

}  // namespace dpmask
