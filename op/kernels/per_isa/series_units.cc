// SPDX-License-Identifier: LGPL-3.0-or-later
// The nets that have a series, in the letters of embedding.h and series_units.h. Compiled once for
// each instruction set, as direct_units.cc says.
#include "op/kernels/series_units.h"

#include "op/kernels/instruction_set.h"
#include "op/kernels/per_isa/products.h"
#include "op/kernels/per_isa/tiles.h"
#include "op/shared/series.h"

namespace dpmask {
namespace DPMASK_ISA {
namespace {

// Rows of kTerms coefficients, or of T_0 to T_{kTerms - 1}.
template <typename T, int kRows = Eigen::Dynamic>
using Rows = Eigen::Matrix<T, kRows, kTerms, Eigen::RowMajor>;
template <typename T>
using Square = Rows<T, kTerms>;

// Coefficients P of a series by x times this are those of its derivative by x:
//   P'_j = sum of 2 k P_k over all k > j for which k - j is odd, halved for j = 0.
template <typename T>
const Square<T>& differentiation() {
  static const Square<T> D = [] {
    Square<T> matrix = Square<T>::Zero();
    for (int64_t k = 0; k < kTerms; ++k) {
      for (int64_t j = k - 1; j >= 0; j -= 2) matrix(k, j) = static_cast<T>(j == 0 ? k : 2 * k);
    }
    return matrix;
  }();
  return D;
}

// ---- The pairs of a tile ------------------------------------------------------------------------

// The Chebyshev polynomials of the pairs of a tile.
template <typename T>
struct Polynomials {
  int64_t panel[kTile];
  Rows<T, kTile> within;  // T_k(x), x being moved into [-1, 1]
  Rows<T, kTile> value;   // the same, gone on beyond [-1, 1] as straight lines
};

template <typename T>
void evaluate(const Series<T>& series, const Tile& tile, int64_t net, Polynomials<T>* out) {
  using OfTile = Eigen::Array<T, 1, kTile>;
  OfTile x = OfTile::Zero(), within = OfTile::Zero();
  for (int64_t p = 0; p < tile.size; ++p) {
    const int64_t panel = panel_of(series, net, tile.row[p].s);
    out->panel[p] = panel;
    x[p] = static_cast<T>((tile.row[p].s - series.middle(panel)) / series.half_width(panel));
    within[p] = x[p] < -1 ? T(-1) : x[p] > 1 ? T(1) : x[p];
  }
  const OfTile twice = 2 * within;
  Eigen::Array<T, kTerms, kTile, Eigen::RowMajor> T_k;
  T_k.row(0).setOnes();
  T_k.row(1) = within;
  for (int64_t k = 2; k < kTerms; ++k) T_k.row(k) = twice * T_k.row(k - 1) - T_k.row(k - 2);
  out->within = T_k.matrix().transpose();
  out->value = out->within;
  for (int64_t p = 0; p < tile.size; ++p) {
    const T beyond = x[p] - within[p];
    if (beyond == 0) continue;
    for (int64_t k = 0; k < kTerms; ++k) {  // T_k'(1) = k^2, T_k'(-1) = -(-1)^k k^2
      out->value(p, k) += beyond * static_cast<T>(within[p] < 0 && k % 2 == 0 ? -k * k : k * k);
    }
  }
}

// Calls body(tile, net) for the tiles of all nets with a series.
template <typename T, typename Body>
void for_each_series_tile(const Embedding<T>& embedding, const Pairs& pairs, int64_t unit,
                          Body&& body) {
  for (int64_t net = 0; net < embedding.series.nnets; ++net) {
    if (!embedding.series.has(net)) continue;
    for_each_tile(embedding, pairs, unit, net, [&](const Tile& tile) { body(tile, net); });
  }
}

// ---- Moments ------------------------------------------------------------------------------------

template <typename T>
using OfCentre = Eigen::Map<Rows<T, 4>>;

// All rows of a panel, four for each of its centres.
template <typename T>
Eigen::Map<Rows<T>> rows_of(const UnitMoments<T>& moments, T* M, int64_t panel) {
  return {M + panel * moments.ncentres * 4 * kTerms, 4 * moments.count[panel], kTerms};
}
template <typename T>
T* rows_of_centre(const UnitMoments<T>& moments, T* M, int64_t panel, int64_t place) {
  return M + (panel * moments.ncentres + place) * 4 * kTerms;
}

// The place of centre i among those of a panel. Since pairs come centre after centre, it is the
// last one or a new one; is_new says which.
template <typename T>
int64_t place_of(const UnitMoments<T>& moments, int64_t panel, int64_t i, bool* is_new) {
  int64_t* centres = moments.centre + panel * moments.ncentres;
  int64_t& count = moments.count[panel];
  *is_new = count == 0 || centres[count - 1] != i;
  if (*is_new) centres[count++] = i;
  return count - 1;
}

// M += factor R^T T, row by row: Eigen does not vectorize a product of a column and a row.
template <typename T>
void add_outer(const double* R, double factor, const Rows<T, 1>& polynomials, OfCentre<T>* M) {
  for (int c = 0; c < 4; ++c) M->row(c) += static_cast<T>(R[c] * factor) * polynomials;
}

template <typename T>
void moments(const Embedding<T>& embedding, const Pairs& pairs, int64_t unit,
             const UnitMoments<T>& out) {
  static thread_local Polynomials<T> polynomials;
  for_each_series_tile(embedding, pairs, unit, [&](const Tile& tile, int64_t net) {
    evaluate(embedding.series, tile, net, &polynomials);
    for (int64_t p = 0; p < tile.size; ++p) {
      bool is_new;
      const int64_t panel = polynomials.panel[p];
      const int64_t place = place_of(out, panel, tile.i[p], &is_new);
      OfCentre<T> M(rows_of_centre(out, out.M, panel, place));
      if (is_new) M.setZero();
      add_outer<T>(tile.row[p].R, 1 / embedding.n, polynomials.value.row(p), &M);
    }
  });
}

template <typename T>
void moments_tangent(const Embedding<T>& embedding, const Pairs& pairs,
                     const ForceCotangents& cotangents, int64_t unit, const UnitMoments<T>& out) {
  static thread_local Polynomials<T> polynomials;
  const Series<T>& series = embedding.series;
  // `second` has, beside the derivative of R times T_k, what dT_k/ds is to be multiplied with.
  Rows<T> by_x;
  for_each_series_tile(embedding, pairs, unit, [&](const Tile& tile, int64_t net) {
    evaluate(series, tile, net, &polynomials);
    for (int64_t p = 0; p < tile.size; ++p) {
      bool is_new;
      const int64_t panel = polynomials.panel[p];
      const int64_t place = place_of(out, panel, tile.i[p], &is_new);
      OfCentre<T> tM(rows_of_centre(out, out.M, panel, place));
      OfCentre<T> by_ds(rows_of_centre(out, out.second, panel, place));
      if (is_new) {
        tM.setZero();
        by_ds.setZero();
      }
      double u[3], tR[4];
      const EnvironmentRow& row = tile.row[p];
      pair_cotangent(embedding.atoms, pairs, cotangents, tile.i[p], tile.j[p], row.r, u);
      const double ts = environment_tangent(row, u, tR);
      add_outer<T>(tR, 1 / embedding.n, polynomials.value.row(p), &tM);
      add_outer<T>(row.R, ts / embedding.n, polynomials.within.row(p), &by_ds);
    }
  });
  for (int64_t panel = 0; panel < series.npanels(); ++panel) {
    if (out.count[panel] == 0) continue;
    by_x.resize(4 * out.count[panel], kTerms);
    set_product<Transposed::right>(factor(rows_of(out, out.second, panel)),
                                   factor(differentiation<T>()), result(by_x));
    rows_of(out, out.M, panel) += by_x / static_cast<T>(series.half_width(panel));
  }
}

template <typename T>
Eigen::Map<const Matrix<T>> C_of(const Embedding<T>& embedding, int64_t panel) {
  const int64_t M1 = embedding.nets.neuron.back();
  return {embedding.series.C + panel * kTerms * M1, kTerms, M1};
}

// The blocks [4, M1] that belong to the centres of a panel in an array shaped like X, one after the
// other in memory for them.
template <typename T>
Eigen::Map<const Matrix<T>> gathered(const UnitMoments<T>& moments, int64_t panel, const T* X,
                                     int64_t M1, T* memory) {
  const int64_t* centres = moments.centre + panel * moments.ncentres;
  auto all = blocks(memory, 0, moments.count[panel], M1);
  for (int64_t k = 0; k < moments.count[panel]; ++k) {
    all.middleRows(4 * k, 4) = blocks(X, centres[k], 1, M1);
  }
  return {memory, 4 * moments.count[panel], M1};
}

template <typename T>
void add_X(const Embedding<T>& embedding, const UnitMoments<T>& moments, T* X) {
  const int64_t M1 = embedding.nets.neuron.back();
  for (int64_t panel = 0; panel < embedding.series.npanels(); ++panel) {
    if (moments.count[panel] == 0) continue;
    auto share = blocks(moments.blocks, 0, moments.count[panel], M1);
    set_product(factor(rows_of(moments, moments.M, panel)), factor(C_of(embedding, panel)),
                result(share));
    const int64_t* centres = moments.centre + panel * moments.ncentres;
    for (int64_t k = 0; k < moments.count[panel]; ++k) {
      blocks(X, centres[k], 1, M1) += share.middleRows(4 * k, 4);
    }
  }
}

template <typename T>
void add_gradient(const Embedding<T>& embedding, const UnitMoments<T>& moments, int64_t panel,
                  const T* dX, T* dC) {
  if (moments.count[panel] == 0) return;
  const int64_t M1 = embedding.nets.neuron.back();
  const Submatrix<T> dC_of_panel = {dC + panel * kTerms * M1, kTerms, M1, M1};
  increase_by_product<Transposed::left>(factor(rows_of(moments, moments.M, panel)),
                                        factor(gathered(moments, panel, dX, M1, moments.blocks)),
                                        dC_of_panel);
}

// With gM = dE/dM_i = (1/n) C A_i^T, a pair has dE/dR_ij = T(x_ij) gM and, with T' in the place of
// T, dE/ds_ij = T'(x_ij) gM R_ij.
template <typename T>
void force(const Embedding<T>& embedding, const Pairs& pairs, int64_t unit, const T* A,
           const UnitMoments<T>& places, double* dr) {
  static thread_local Polynomials<T> polynomials;
  const Series<T>& series = embedding.series;
  for_each_series_tile(embedding, pairs, unit, [&](const Tile& tile, int64_t net) {
    for (int64_t p = 0; p < tile.size; ++p) {
      bool is_new;
      place_of(places, panel_of(series, net, tile.row[p].s), tile.i[p], &is_new);
    }
  });
  const int64_t M1 = embedding.nets.neuron.back();
  for (int64_t panel = 0; panel < series.npanels(); ++panel) {
    if (places.count[panel] == 0) continue;
    auto gM = rows_of(places, places.M, panel);
    set_product<Transposed::right>(factor(gathered(places, panel, A, M1, places.blocks)),
                                   factor(C_of(embedding, panel)), result(gM));
    gM /= static_cast<T>(embedding.n);
    auto gM_by_s = rows_of(places, places.second, panel);
    set_product(factor(gM), factor(differentiation<T>()), result(gM_by_s));
    gM_by_s /= static_cast<T>(series.half_width(panel));
  }
  int64_t* place = places.next;
  for_each_series_tile(embedding, pairs, unit, [&](const Tile& tile, int64_t net) {
    evaluate(series, tile, net, &polynomials);
    for (int64_t p = 0; p < tile.size; ++p) {
      const int64_t panel = polynomials.panel[p];
      while (places.centre[panel * places.ncentres + place[panel]] != tile.i[p]) ++place[panel];
      const OfCentre<T> gM(rows_of_centre(places, places.M, panel, place[panel]));
      const OfCentre<T> gM_by_s(rows_of_centre(places, places.second, panel, place[panel]));
      const EnvironmentRow& row = tile.row[p];
      double dR[4];
      Rows<T, 1> by_s = Rows<T, 1>::Zero();
      for (int c = 0; c < 4; ++c) {
        dR[c] = gM.row(c).dot(polynomials.value.row(p));
        by_s += static_cast<T>(row.R[c]) * gM_by_s.row(c);
      }
      const double ds = by_s.dot(polynomials.within.row(p));
      environment_reverse(row, dR, ds, dr + 3 * pairs.number(tile.i[p], tile.j[p]));
    }
  });
}

}  // namespace
}  // namespace DPMASK_ISA

template <typename T>
SeriesUnits<T> DPMASK_OF_THIS_SET(series_units)() {
  return {DPMASK_ISA::moments<T>, DPMASK_ISA::moments_tangent<T>, DPMASK_ISA::add_X<T>,
          DPMASK_ISA::add_gradient<T>, DPMASK_ISA::force<T>};
}
template SeriesUnits<float> DPMASK_OF_THIS_SET(series_units)<float>();
template SeriesUnits<double> DPMASK_OF_THIS_SET(series_units)<double>();

}  // namespace dpmask
