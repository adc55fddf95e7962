// SPDX-License-Identifier: LGPL-3.0-or-later
// From the pairs of a panel to the rows that C is multiplied with, in the letters of
// series_units.h. In a namespace of its instruction set, for the reason given in direct_units.cc.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cstdlib>

#include "op/kernels/per_isa/row_products.h"
#include "op/kernels/per_isa/tiles.h"
#include "op/kernels/series_units.h"
#include "op/shared/series.h"

// As in few_rows.h.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wignored-attributes"

namespace dpmask::DPMASK_ISA {

namespace packets = few_rows::packets;

constexpr int64_t kBlock = 32;  // rows that stay in the nearest cache between two products

template <typename T>
using Terms = Eigen::Matrix<T, 1, kTerms>;
template <typename T>
using TermsOf = Eigen::Map<const Terms<T>>;

// ---- Polynomials --------------------------------------------------------------------------------

// The Chebyshev polynomials of a few pairs of a panel, and their derivatives. Beyond the panel they
// go on as straight lines: with x_, which is x cut to [-1, 1], T_k(x) = T_k(x_) + (x - x_)
// T_k'(x_). With those of the second kind, T_k' = k U_{k - 1}; for both
//   T_{k + 4} = 2 T_4 T_k - T_{k - 4},
// of which four in succession need not wait for each other. Pairs are side by side in a vector, so
// that one has the same bits whatever others are beside it.
template <typename T>
class Polynomials {
 public:
  using P = few_rows::Packet<T>;
  static constexpr int64_t kPairs = few_rows::kLanes<T>;

  // For 1 to kPairs pairs; what SortedPairs has behind them is read as well, and of no account.
  Polynomials(const Series<T>& series, int64_t panel, const SortedPair* first,
              const SortedPair* last)
      : by_s_(packets::pset1<P>(static_cast<T>(1 / series.half_width(panel)))) {
    static_assert(kPairs <= SortedPairs::kBehind);
    const double middle = series.middle(panel), half_width = series.half_width(panel);
    T x[kPairs];
    for (int64_t p = 0; p < kPairs; ++p) {
      x[p] = static_cast<T>((first[p].s - middle) / half_width);
    }
    const P all_x = packets::ploadu<P>(x);
    x_ = packets::pmax(packets::pmin(all_x, one()), packets::pnegate(one()));  // into [-1, 1]
    beyond_ = packets::psub(all_x, x_);
    const P number = packets::plset<P>(T(0)), count = packets::pset1<P>(T(last - first));
    are_within_ = !packets::predux_any(packets::pand(
        packets::pcmp_lt(number, count), packets::pcmp_lt(one(), packets::pabs(all_x))));
    T_2_ = packets::psub(packets::pmul(packets::padd(x_, x_), x_), one());
    T_4_ = packets::psub(packets::pmul(packets::padd(T_2_, T_2_), T_2_), one());
  }

  P beyond() const { return beyond_; }  // x - x_
  P by_s() const { return by_s_; }      // dx/ds

  // Calls body(k, T_k(x_)) for all k, one after the other, so that they need not go through memory.
  template <typename Body>
  void for_each_value(const Body& body) const {
    P T_k[kTerms] = {one(), x_, T_2_,
                     packets::pmul(x_, packets::psub(packets::padd(T_2_, T_2_), one())), T_4_};
#pragma GCC unroll 16
    for (int64_t k = 0; k < kTerms; ++k) {  // T_{-k} = T_k
      if (k > 4) T_k[k] = packets::pmsub(twice_T_4(), T_k[k - 4], T_k[std::abs(k - 8)]);
      body(k, T_k[k]);
    }
  }

  // Calls body(k, T_k'(x_)) for all k but 0.
  template <typename Body>
  void for_each_derivative(const Body& body) const {
    const P U_1 = packets::padd(x_, x_), U_2 = packets::pmsub(U_1, U_1, one());
    P U[kTerms] = {packets::pset1<P>(T(0)), one(), U_1, U_2,
                   packets::pmul(U_1, packets::psub(U_2, one()))};  // U_{k - 1}
#pragma GCC unroll 16
    for (int64_t k = 1; k < kTerms; ++k) {  // U_{-k - 1} = -U_{k - 1}
      if (k > 4) {
        U[k] = k < 8 ? packets::pmadd(twice_T_4(), U[k - 4], U[8 - k])
                     : packets::pmsub(twice_T_4(), U[k - 4], U[k - 8]);
      }
      body(k, packets::pmul(packets::pset1<P>(static_cast<T>(k)), U[k]));
    }
  }

  // T_k(x) for all k, [kTerms].
  void set_values(P* T_k) const {
    for_each_value([&](int64_t k, P value) { T_k[k] = value; });
    if (are_within_) return;
    for_each_derivative([&](int64_t k, P by_x) { T_k[k] = packets::pmadd(by_x, beyond_, T_k[k]); });
  }

  // And dT_k(x)/ds.
  void set_values(P* T_k, P* dT_k) const {
    set_values(T_k);
    dT_k[0] = packets::pset1<P>(T(0));
    for_each_derivative([&](int64_t k, P by_x) { dT_k[k] = packets::pmul(by_x, by_s_); });
  }

 private:
  static P one() { return packets::pset1<P>(T(1)); }
  P twice_T_4() const { return packets::padd(T_4_, T_4_); }

  P by_s_, x_, beyond_, T_2_, T_4_;
  bool are_within_;
};

// Calls body(first, last) for parts of [begin, end) of at most `most` pairs.
template <typename Body>
void for_each_part(const SortedPair* begin, const SortedPair* end, int64_t most, const Body& body) {
  while (begin < end) {
    const SortedPair* last = begin + std::min<int64_t>(most, end - begin);
    body(begin, last);
    begin = last;
  }
}

// Sets rows of terms of the pairs [first, last) of a panel, as many for each pair as kRows says:
// the polynomials, and their derivatives. Whole vectors of pairs are written.
template <int kRows, typename T>
void set_terms(const Series<T>& series, int64_t panel, const SortedPair* first,
               const SortedPair* last, T* rows) {
  constexpr int64_t kPairs = Polynomials<T>::kPairs;
  using P = typename Polynomials<T>::P;
  static_assert(kTerms % kPairs == 0 && kRows <= 2);
  for_each_part(first, last, kPairs, [&](const SortedPair* begin, const SortedPair* end) {
    P terms[kRows][kTerms];
    const Polynomials<T> polynomials(series, panel, begin, end);
    if constexpr (kRows == 1) {
      polynomials.set_values(terms[0]);
    } else {
      polynomials.set_values(terms[0], terms[1]);
    }
    for (int64_t row = 0; row < kRows; ++row) {
      for (int64_t k = 0; k < kTerms; k += kPairs) {
        packets::PacketBlock<P, kPairs> block;
        std::copy_n(terms[row] + k, kPairs, block.packet);
        packets::ptranspose(block);
        for (int64_t p = 0; p < kPairs; ++p) {
          packets::pstoreu(rows + (p * kRows + row) * kTerms + k, block.packet[p]);
        }
      }
    }
    rows += kPairs * kRows * kTerms;
  });
}

// ---- The rows of a panel ------------------------------------------------------------------------

// Cuts the pairs of a panel, [begin, end), at their centres: calls on_pairs(first, last) for
// stretches of pairs that have rows of their own, and on_centre(first, last) for all the pairs of a
// centre that has moments.
template <typename OnPairs, typename OnCentre>
void for_each_stretch(const SortedPair* begin, const SortedPair* end, int64_t rows_of_pair,
                      const OnPairs& on_pairs, const OnCentre& on_centre) {
  const SortedPair* first = begin;  // of a stretch that has not come to its end
  for (const SortedPair* pair = begin; pair < end;) {
    const SortedPair* next = pair + 1;
    while (next < end && next->i == pair->i) ++next;
    if (!is_less_work(rows_of_pair * (next - pair))) {
      if (first < pair) on_pairs(first, pair);
      on_centre(pair, next);
      first = next;
    }
    pair = next;
  }
  if (first < end) on_pairs(first, end);
}

// Always inlined, so that a row stays in registers: vectors that are loaded right after numbers
// were stored there have to wait.
template <typename T>
DPMASK_INLINE EnvironmentRow row_of(const Embedding<T>& embedding, const SortedPair& pair) {
  return row_of_pair(embedding.atoms, embedding.coord, pair.i, pair.j, pair.s);
}

// A number of each pair of a Polynomials, in float64.
template <typename T>
struct OfPairs {
  typedef double Numbers __attribute__((vector_size(Polynomials<T>::kPairs * sizeof(double))));
};
template <typename T>
using Numbers = typename OfPairs<T>::Numbers;

// Sets the rows of kPairs pairs of one centre, of which some may be what SortedPairs has behind its
// last.
template <typename T>
DPMASK_INLINE void set_rows_of(const Embedding<T>& embedding, const SortedPair* first,
                               EnvironmentRowOf<Numbers<T>>* row) {
  const RealAtoms& atoms = embedding.atoms;
  const int64_t i = first->i;
  Numbers<T> r_i[3], r_j[3], w, s;
  for (int a = 0; a < 3; ++a) r_i[a] = Numbers<T>{} + embedding.coord[3 * atoms.slot[i] + a];
#pragma GCC unroll 16
  for (int64_t p = 0; p < Polynomials<T>::kPairs; ++p) {
    const int64_t j = first[p].j;
    for (int a = 0; a < 3; ++a) r_j[a][p] = embedding.coord[3 * atoms.slot[j] + a];
    w[p] = weight_of_pair(atoms.group, i, j, atoms.weight[j]);
    s[p] = first[p].s;
  }
  set_environment_row(r_i, r_j, w, s, row);
}

// Some rows.
template <typename T>
struct RowBlock {
  int64_t size;
  int64_t centre[kBlock];
  T w[kBlock * 4];
  T P[kBlock * kTerms];

  void set(int64_t row, int64_t i, const double* w_of_row, double factor) {
    centre[row] = i;
    for (int c = 0; c < 4; ++c) w[4 * row + c] = static_cast<T>(w_of_row[c] * factor);
  }
};

// The rows of pairs for X.
template <typename T>
struct RowsOfX {
  static constexpr int64_t kOfPair = 1;

  const Embedding<T>& embedding;

  // Sets the block to the rows of the pairs [first, last) of a panel, which has room for them.
  void operator()(int64_t panel, const SortedPair* first, const SortedPair* last,
                  RowBlock<T>* out) const {
    set_terms<kOfPair>(embedding.series, panel, first, last, out->P);
    out->size = last - first;
    for (int64_t k = 0; k < out->size; ++k) {
      out->set(k, first[k].i, row_of(embedding, first[k]).R, 1 / embedding.n);
    }
  }
};

// The rows of pairs for the derivative of X along the cotangents u, dr/dt = u: T(x_ij) with dR/dt,
// and dT/ds with R ds/dt.
template <typename T>
struct RowsOfTangent {
  static constexpr int64_t kOfPair = 2;

  const Embedding<T>& embedding;
  const Pairs& pairs;
  const ForceCotangents& cotangents;

  void operator()(int64_t panel, const SortedPair* first, const SortedPair* last,
                  RowBlock<T>* out) const {
    set_terms<kOfPair>(embedding.series, panel, first, last, out->P);
    out->size = kOfPair * (last - first);
    for (int64_t k = 0; first < last; ++first, k += kOfPair) {
      const EnvironmentRow row = row_of(embedding, *first);
      double u[3], tR[4];
      pair_cotangent(embedding.atoms, pairs, cotangents, first->i, first->j, row.r, u);
      const double ts = environment_tangent(row, u, tR);
      out->set(k, first->i, tR, 1 / embedding.n);
      out->set(k + 1, first->i, row.R, ts / embedding.n);
    }
  }
};

// Calls body(block) for the rows of [first, last), in blocks.
template <typename T, typename Rows, typename Body>
void for_each_block(const Rows& rows, int64_t panel, const SortedPair* first,
                    const SortedPair* last, const Body& body) {
  RowBlock<T> block;
  for_each_part(first, last, kBlock / Rows::kOfPair, [&](const auto* begin, const auto* end) {
    rows(panel, begin, end, &block);
    body(block);
  });
}

// M [4, kTerms]: the moments of a centre with these pairs.
template <typename T, typename Rows>
void set_moments(const Rows& rows, int64_t panel, const SortedPair* first, const SortedPair* last,
                 T* M) {
  std::fill_n(M, 4 * kTerms, T(0));
  for_each_block<T>(rows, panel, first, last, [&](const RowBlock<T>& block) {
    add_transposed_row_product<4, T>(block.w, {block.P, block.size, kTerms, kTerms}, M);
  });
}

}  // namespace dpmask::DPMASK_ISA

#pragma GCC diagnostic pop
