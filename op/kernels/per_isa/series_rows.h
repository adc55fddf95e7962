// SPDX-License-Identifier: LGPL-3.0-or-later
// From the pairs of a unit to the rows that C is multiplied with, in the letters of series_units.h.
// In a namespace of its instruction set, for the reason given in direct_units.cc.
#pragma once

#include <Eigen/Core>
#include <algorithm>

#include "op/kernels/per_isa/tiles.h"
#include "op/kernels/series_units.h"
#include "op/shared/series.h"

namespace dpmask::DPMASK_ISA {

template <typename T>
using Terms = Eigen::Matrix<T, 1, kTerms>;
template <typename T>
using TermsAt = Eigen::Map<Terms<T>>;

// ---- The pairs of a unit ------------------------------------------------------------------------

// The Chebyshev polynomials of one pair, and their derivatives by s, for each panel gone on beyond
// it as straight lines. With the polynomials of the second kind, T_k' = k U_{k - 1}. For both kinds
//   T_{k + 4} = 2 T_4 T_k - T_{k - 4}
// gives four at a time, so that they come as they lie in memory.
template <typename T>
class Polynomials {
 public:
  Polynomials(const Series<T>& series, int64_t panel, double s) {
    const double half_width = series.half_width(panel);
    x_ = static_cast<T>((s - series.middle(panel)) / half_width);
    within_ = std::clamp<T>(x_, -1, 1);
    by_s_ = static_cast<T>(1 / half_width);
  }

  Terms<T> value() const {
    T t[kBefore + kTerms] = {T_4(), T_3(), T_2(), within_, 1, within_, T_2(), T_3()};
    go_on(t);
    Terms<T> T_k;
    for (int64_t k = 0; k < kTerms; ++k) T_k[k] = t[kBefore + k];
    if (x_ != within_) {
      for (int64_t k = 0; k < kTerms; ++k) {  // T_k'(1) = k^2, T_k'(-1) = -(-1)^k k^2
        T_k[k] += (x_ - within_) * static_cast<T>(within_ < 0 && k % 2 == 0 ? -k * k : k * k);
      }
    }
    return T_k;
  }

  Terms<T> derivative() const {  // t[kBefore + k] is U_{k - 1}
    const T U_1 = 2 * within_, U_2 = U_1 * U_1 - 1, U_3 = U_1 * (U_2 - 1);
    T t[kBefore + kTerms] = {-U_3, -U_2, -U_1, -1, 0, 1, U_1, U_2};
    go_on(t);
    Terms<T> dT_k;
    for (int64_t k = 0; k < kTerms; ++k) dT_k[k] = static_cast<T>(k) * by_s_ * t[kBefore + k];
    return dT_k;
  }

 private:
  static constexpr int64_t kBefore = 4;  // those of negative degree that the sums begin with
  static_assert(kTerms % kBefore == 0);

  T T_2() const { return 2 * within_ * within_ - 1; }
  T T_3() const { return within_ * (2 * T_2() - 1); }
  T T_4() const { return 2 * T_2() * T_2() - 1; }

  void go_on(T* t) const {
    const T twice = 2 * T_4();
    for (int64_t k = 2 * kBefore; k < kBefore + kTerms; k += kBefore) {
      for (int64_t l = k; l < k + kBefore; ++l) t[l] = twice * t[l - kBefore] - t[l - 2 * kBefore];
    }
  }

  T x_, within_, by_s_;  // within: x moved into [-1, 1]
};

struct PairInPanel {
  int64_t i, j;  // rows of RealAtoms
  int64_t panel;
  EnvironmentRow row;
};

// All pairs of a unit that are of nets with a series. In each panel pairs come centre after centre.
template <typename T>
class PairsInPanels {
 public:
  PairsInPanels(const Embedding<T>& embedding, const Pairs& pairs, int64_t unit)
      : scope_(arena_), npanels_(embedding.series.npanels()), npairs_(zeros(npanels_)),
        ncentres_(zeros(npanels_)) {
    const Series<T>& series = embedding.series;
    int64_t most = 0;
    for (int64_t i = pairs.unit_first[unit]; i < pairs.unit_first[unit + 1]; ++i) {
      most += pairs.frame_size[pairs.frame[i]];
    }
    first_ = last_ = arena_.allocate<PairInPanel>(most);
    const Arena::Scope scope(arena_);
    int64_t* last_centre = arena_.allocate<int64_t>(npanels_);
    std::fill_n(last_centre, npanels_, -1);
    for (int64_t net = 0; net < series.nnets; ++net) {
      if (!series.has(net)) continue;
      for_each_pair(embedding, pairs, unit, net, [&](int64_t i, int64_t j) {
        PairInPanel* pair = last_++;
        *pair = {i, j, 0, row_of_pair(embedding.atoms, embedding.coord, i, j)};
        pair->panel = panel_of(series, net, pair->row.s);
        ++npairs_[pair->panel];
        if (last_centre[pair->panel] != i) ++ncentres_[pair->panel];
        last_centre[pair->panel] = i;
      });
    }
  }

  const PairInPanel* begin() const { return first_; }
  const PairInPanel* end() const { return last_; }
  int64_t npanels() const { return npanels_; }
  int64_t npairs(int64_t panel) const { return npairs_[panel]; }
  int64_t ncentres(int64_t panel) const { return ncentres_[panel]; }

 private:
  int64_t* zeros(int64_t size) {
    int64_t* array = arena_.allocate<int64_t>(size);
    std::fill_n(array, size, 0);
    return array;
  }

  Arena& arena_ = Arena::of_thread();
  Arena::Scope scope_;
  int64_t npanels_;
  int64_t *npairs_, *ncentres_;  // [npanels]
  PairInPanel *first_, *last_;
};

// ---- The rows of a unit -------------------------------------------------------------------------

// Sets rows.first and rows.are_of_pairs.
template <typename T>
void lay_out(const PairsInPanels<T>& all, int64_t rows_of_pair, const UnitRows<T>& rows) {
  rows.first[0] = 0;
  for (int64_t panel = 0; panel < all.npanels(); ++panel) {
    const int64_t of_pairs = rows_of_pair * all.npairs(panel);
    const int64_t ncentres = all.ncentres(panel);
    rows.are_of_pairs[panel] = is_less_work(of_pairs, ncentres);
    rows.first[panel + 1] =
        rows.first[panel] + (rows.are_of_pairs[panel] ? of_pairs : 4 * ncentres);
  }
}

// Where the rows of pairs are, which are asked for pair after pair; sets the rows' centres.
template <typename T>
class Places {
 public:
  Places(const UnitRows<T>& rows, int64_t npanels)
      : scope_(arena_), rows_(rows), next_(arena_.allocate<int64_t>(npanels)),
        last_(arena_.allocate<int64_t>(npanels)) {
    std::copy_n(rows.first, npanels, next_);
    std::fill_n(last_, npanels, -1);
  }

  // The next row of a panel, if it has rows of pairs; or else the first row of centre i.
  int64_t of(int64_t panel, int64_t i) {
    if (rows_.are_of_pairs[panel]) {
      rows_.centre[next_[panel]] = i;
      return next_[panel]++;
    }
    if (last_[panel] != i) {
      last_[panel] = i;
      std::fill_n(rows_.centre + next_[panel], 4, i);
      next_[panel] += 4;
    }
    return next_[panel] - 4;
  }

 private:
  Arena& arena_ = Arena::of_thread();
  Arena::Scope scope_;
  const UnitRows<T>& rows_;
  int64_t* next_;  // [npanels]; the row after those given so far
  int64_t* last_;  // [npanels]; the centre that was given last
};

template <typename T>
void set_row(const UnitRows<T>& rows, int64_t row, const double* w, double factor,
             const Terms<T>& P) {
  for (int c = 0; c < 4; ++c) rows.w[4 * row + c] = static_cast<T>(w[c] * factor);
  TermsAt<T>(rows.P + row * kTerms) = P;
}

// Fills rows with P and the weights factor w.
template <typename T>
class RowWriter {
 public:
  RowWriter(const UnitRows<T>& rows, int64_t npanels) : rows_(rows), places_(rows, npanels) {
    for (int64_t panel = 0; panel < npanels; ++panel) {
      if (rows.are_of_pairs[panel]) continue;
      std::fill(rows.P + rows.first[panel] * kTerms, rows.P + rows.first[panel + 1] * kTerms, T(0));
    }
  }

  void add(int64_t panel, int64_t i, const double* w, double factor, const Terms<T>& P) {
    const int64_t row = places_.of(panel, i);
    if (rows_.are_of_pairs[panel]) return set_row(rows_, row, w, factor, P);
    for (int c = 0; c < 4; ++c)
      TermsAt<T>(rows_.P + (row + c) * kTerms) += static_cast<T>(w[c] * factor) * P;
  }

 private:
  const UnitRows<T>& rows_;
  Places<T> places_;
};

}  // namespace dpmask::DPMASK_ISA
