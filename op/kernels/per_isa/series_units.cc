// SPDX-License-Identifier: LGPL-3.0-or-later
// The nets that have a series, in the letters of embedding.h and series_units.h. Compiled once for
// each instruction set, as direct_units.cc says.
#include "op/kernels/series_units.h"

#include "op/kernels/instruction_set.h"
#include "op/kernels/per_isa/products.h"
#include "op/kernels/per_isa/row_products.h"
#include "op/kernels/per_isa/series_rows.h"
#include "op/shared/series.h"

namespace dpmask {
namespace DPMASK_ISA {
namespace {

// ---- The rows -----------------------------------------------------------------------------------

template <typename T>
void rows(const Embedding<T>& embedding, const Pairs& pairs, int64_t unit, const UnitRows<T>& out) {
  const PairsInPanels<T> all(embedding, pairs, unit);
  lay_out(all, kRowsOfPair, out);
  RowWriter<T> writer(out, all.npanels());
  for (const PairInPanel& pair : all) {
    const Polynomials<T> polynomials(embedding.series, pair.panel, pair.row.s);
    writer.add(pair.panel, pair.i, pair.row.R, 1 / embedding.n, polynomials.value());
  }
}

template <typename T>
void tangent_rows(const Embedding<T>& embedding, const Pairs& pairs,
                  const ForceCotangents& cotangents, int64_t unit, const UnitRows<T>& out) {
  const PairsInPanels<T> all(embedding, pairs, unit);
  lay_out(all, kTangentRowsOfPair, out);
  RowWriter<T> writer(out, all.npanels());
  for (const PairInPanel& pair : all) {
    const Polynomials<T> polynomials(embedding.series, pair.panel, pair.row.s);
    double u[3], tR[4];
    pair_cotangent(embedding.atoms, pairs, cotangents, pair.i, pair.j, pair.row.r, u);
    const double ts = environment_tangent(pair.row, u, tR);
    writer.add(pair.panel, pair.i, tR, 1 / embedding.n, polynomials.value());
    writer.add(pair.panel, pair.i, pair.row.R, ts / embedding.n, polynomials.derivative());
  }
}

// ---- What the rows give -------------------------------------------------------------------------

template <typename T>
Submatrix<const T> C_of(const Embedding<T>& embedding, int64_t panel) {
  const int64_t M1 = embedding.nets.neuron.back();
  return {embedding.series.C + panel * kTerms * M1, kTerms, M1, M1};
}

template <typename T>
void add_X(const Embedding<T>& embedding, const UnitRows<T>& rows, T* X) {
  const int64_t M1 = embedding.nets.neuron.back();
  for (int64_t panel = 0; panel < embedding.series.npanels(); ++panel) {
    const int64_t first = rows.first[panel], end = rows.first[panel + 1];
    const Submatrix<const T> C = C_of(embedding, panel);
    if (!rows.are_of_pairs[panel]) {
      for (int64_t k = first; k < end; k += 4) {
        add_row_product<4>(rows.P + k * kTerms, kTerms, C, X + 4 * M1 * rows.centre[k]);
      }
      continue;
    }
    row_products::for_each_part_of_product<T>(
        end - first, rows.P + first * kTerms, kTerms, C,
        [&](auto count, int64_t row, auto columns, int64_t column, const auto& sum) {
          for (int r = 0; r < count; ++r) {
            const T* w = rows.w + 4 * (first + row + r);
            T* X_i = X + 4 * M1 * rows.centre[first + row + r] + column;
            for (int c = 0; c < 4; ++c) row_products::add(columns, sum[r], w[c], X_i + c * M1);
          }
        });
  }
}

// w_k A_i of the rows of a panel, [rows, M1], where A is shaped like X.
template <typename T>
void gather(const UnitRows<T>& rows, int64_t panel, const T* A, int64_t M1, T* out) {
  using OfRow = Eigen::Map<const RowVector<T>>;
  for (int64_t k = rows.first[panel]; k < rows.first[panel + 1]; ++k, out += M1) {
    const T* A_i = A + 4 * M1 * rows.centre[k];
    Eigen::Map<RowVector<T>> row(out, M1);
    if (rows.are_of_pairs[panel]) {
      const T* w = rows.w + 4 * k;
      row = w[0] * OfRow(A_i, M1) + w[1] * OfRow(A_i + M1, M1) + w[2] * OfRow(A_i + 2 * M1, M1) +
            w[3] * OfRow(A_i + 3 * M1, M1);
    } else {
      row = OfRow(A_i + (k - rows.first[panel]) % 4 * M1, M1);
    }
  }
}

template <typename T>
void add_gradient(const Embedding<T>& embedding, const UnitRows<T>& rows, int64_t panel,
                  const T* dX, T* dC) {
  const int64_t nrows = rows.first[panel + 1] - rows.first[panel];
  if (nrows == 0) return;
  const int64_t M1 = embedding.nets.neuron.back();
  Arena& arena = Arena::of_thread();
  const Arena::Scope scope(arena);
  T* gathered = arena.allocate<T>(nrows * M1);
  gather(rows, panel, dX, M1, gathered);
  increase_by_product<Transposed::left, T>(
      {rows.P + rows.first[panel] * kTerms, nrows, kTerms, kTerms}, {gathered, nrows, M1, M1},
      {dC + panel * kTerms * M1, kTerms, M1, M1});
}

// ---- Forces -------------------------------------------------------------------------------------

// What forces need of the rows.
template <typename T>
struct ForceRows {
  T* g;   // [rows, kTerms]; dE/dP: C times w A_i
  T* dP;  // [rows, kTerms]; of pairs: dT/ds
  T* dR;  // [rows, 4]; of pairs: A_i G_ij
};

// Sets the centres of all rows; and of the pairs that have rows of their own P, w and dP.
template <typename T>
void set_rows_of_pairs(const Embedding<T>& embedding, const PairsInPanels<T>& all,
                       const UnitRows<T>& rows, T* dP) {
  Places<T> places(rows, all.npanels());
  for (const PairInPanel& pair : all) {
    const int64_t row = places.of(pair.panel, pair.i);
    if (!rows.are_of_pairs[pair.panel]) continue;
    const Polynomials<T> polynomials(embedding.series, pair.panel, pair.row.s);
    set_row<T>(rows, row, pair.row.R, 1 / embedding.n, polynomials.value());
    TermsAt<T>(dP + row * kTerms) = polynomials.derivative();
  }
}

template <typename T>
void find_force_rows(const Embedding<T>& embedding, const UnitRows<T>& rows, int64_t panel,
                     const T* A, const ForceRows<T>& out) {
  const int64_t first = rows.first[panel], nrows = rows.first[panel + 1] - first;
  const int64_t M1 = embedding.nets.neuron.back();
  Arena& arena = Arena::of_thread();
  const Arena::Scope scope(arena);
  T* gathered = arena.allocate<T>(nrows * M1);
  gather(rows, panel, A, M1, gathered);
  set_row_product_transposed<kTerms>(nrows, gathered, C_of(embedding, panel),
                                     out.g + first * kTerms);
  if (!rows.are_of_pairs[panel]) return;
  T* G = gathered;
  set_row_product<T>(nrows, rows.P + first * kTerms, kTerms, C_of(embedding, panel), G);
  for (int64_t k = first; k < first + nrows; ++k, G += M1) {
    set_four_dots(A + 4 * M1 * rows.centre[k], G, M1, out.dR + 4 * k);
  }
}

// Of a pair with a row of its own: dE/dR_ij = (1/n) A_i G_ij; returns dE/ds_ij = g dT/ds.
template <typename T>
double derivatives_of_pair(const ForceRows<T>& found, int64_t k, double n, double* dR) {
  for (int c = 0; c < 4; ++c) dR[c] = found.dR[4 * k + c] / n;
  return TermsAt<T>(found.g + k * kTerms).dot(TermsAt<T>(found.dP + k * kTerms));
}

// Of a pair in moments, of which g has four rows: dE/dR_ij = (1/n) g T; returns
// dE/ds_ij = (1/n) R_ij (g dT/ds).
template <typename T>
double derivatives_in_moments(const ForceRows<T>& found, int64_t k, double n,
                              const EnvironmentRow& row, const Polynomials<T>& polynomials,
                              double* dR) {
  const Terms<T> value = polynomials.value();
  Terms<T> by_s = Terms<T>::Zero();
  for (int c = 0; c < 4; ++c) {
    const TermsAt<T> g(found.g + (k + c) * kTerms);
    dR[c] = g.dot(value) / n;
    by_s += static_cast<T>(row.R[c]) * g;
  }
  return by_s.dot(polynomials.derivative()) / n;
}

template <typename T>
void force(const Embedding<T>& embedding, const Pairs& pairs, int64_t unit, const T* A,
           const UnitRows<T>& rows, const PairDerivatives& out) {
  const PairsInPanels<T> all(embedding, pairs, unit);
  lay_out(all, kRowsOfPair, rows);
  Arena& arena = Arena::of_thread();
  const Arena::Scope scope(arena);
  const int64_t nrows = rows.first[all.npanels()];
  const ForceRows<T> found = {arena.allocate<T>(nrows * kTerms), arena.allocate<T>(nrows * kTerms),
                              arena.allocate<T>(nrows * 4)};
  set_rows_of_pairs(embedding, all, rows, found.dP);
  for (int64_t panel = 0; panel < all.npanels(); ++panel) {
    find_force_rows(embedding, rows, panel, A, found);
  }
  Places<T> places(rows, all.npanels());
  for (const PairInPanel& pair : all) {
    const int64_t k = places.of(pair.panel, pair.i);
    double dR[4], ds;
    if (rows.are_of_pairs[pair.panel]) {
      ds = derivatives_of_pair(found, k, embedding.n, dR);
    } else {
      const Polynomials<T> polynomials(embedding.series, pair.panel, pair.row.s);
      ds = derivatives_in_moments(found, k, embedding.n, pair.row, polynomials, dR);
    }
    set_derivatives(pair.row, dR, ds, pairs.number(pair.i, pair.j), out);
  }
}

}  // namespace
}  // namespace DPMASK_ISA

template <typename T>
SeriesUnits<T> DPMASK_OF_THIS_SET(series_units)() {
  return {DPMASK_ISA::rows<T>, DPMASK_ISA::tangent_rows<T>, DPMASK_ISA::add_X<T>,
          DPMASK_ISA::add_gradient<T>, DPMASK_ISA::force<T>};
}
template SeriesUnits<float> DPMASK_OF_THIS_SET(series_units)<float>();
template SeriesUnits<double> DPMASK_OF_THIS_SET(series_units)<double>();

}  // namespace dpmask
