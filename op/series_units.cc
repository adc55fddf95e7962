// SPDX-License-Identifier: LGPL-3.0-or-later
// The nets that have a series, in the letters of net_series.h. With P(x) = sum_k T_k(x) P_k for any
// row of coefficients P, the derivative of P is a series, too, whose coefficients `differentiate`
// finds. Compiled once for each instruction set, as direct_units.cc says.
#include <algorithm>
#include <cmath>

#include "embedding_units.h"
#include "instruction_set.h"
#include "tiles.h"

namespace dpmask {
namespace DPMASK_ISA {
namespace {

// T_0 to T_{terms - 1} of the x of one tile, a row each.
template <typename T>
using Chebyshev = Eigen::Matrix<T, Eigen::Dynamic, kTile, Eigen::RowMajor>;
template <typename T>
using TileRow = Eigen::Array<T, 1, kTile>;

template <typename T>
void evaluate_chebyshev(const TileRow<T>& x, int64_t terms, Chebyshev<T>* values) {
  values->resize(terms, kTile);
  values->row(0).setOnes();
  values->row(1) = x;
  const TileRow<T> twice = 2 * x;
  for (int64_t k = 2; k < terms; ++k) {
    values->row(k).array() = twice * values->row(k - 1).array() - values->row(k - 2).array();
  }
}

// The coefficients of dP/ds in place of those of P(x(s)), for each column.
template <typename T>
void differentiate(const NetSeries<T>& series, Matrix<T>* P) {
  const int64_t terms = P->rows();
  Matrix<T> dP = Matrix<T>::Zero(terms + 1, P->cols());
  for (int64_t k = terms - 1; k > 0; --k) {
    dP.row(k - 1) = dP.row(k + 1) + static_cast<T>(2 * k) * P->row(k);
  }
  dP.row(0) /= 2;
  *P = dP.topRows(terms) / static_cast<T>(series.half_width);
}

// The transpose of differentiate: sum_k gdP_k (dP/ds)_k = sum_k gP_k P_k.
template <typename T>
void differentiate_transposed(const NetSeries<T>& series, Matrix<T>* gdP) {
  const int64_t terms = gdP->rows();
  Matrix<T> g = *gdP / static_cast<T>(series.half_width);
  g.row(0) /= 2;
  gdP->row(0).setZero();
  for (int64_t k = 1; k < terms; ++k) {
    gdP->row(k) = static_cast<T>(2 * k) * g.row(k - 1);
    if (k + 1 < terms) g.row(k + 1) += g.row(k - 1);
  }
}

// ---- Fit ---------------------------------------------------------------------------------------

// Calls body(size, net, values) for tiles of the points s(x), x = cos(pi (2 m + odd) / (2 terms)),
// m < count; net.s and the Chebyshev polynomials of x are set. These are cosines, too, which a
// table gives to the last digit, as the recurrence would not.
template <typename Body>
void for_each_point(const EmbeddingNets<double>& nets, const NetSeries<double>& series,
                    int64_t count, int64_t odd, Body&& body) {
  NetOnTile<double>& net = net_on_tile(nets);
  const int64_t period = 4 * series.terms;
  Eigen::ArrayXd cosine(period);
  for (int64_t q = 0; q < period; ++q) {
    cosine[q] =
        std::cos(2 * std::acos(-1.0) * static_cast<double>(q) / static_cast<double>(period));
  }
  Chebyshev<double> values(series.terms, kTile);
  for (int64_t first = 0; first < count; first += kTile) {
    const int64_t size = std::min(kTile, count - first);
    for (int64_t p = 0; p < size; ++p) {
      const int64_t q = 2 * (first + p) + odd;
      net.s(p, 0) = series.middle + series.half_width * cosine[q];
      for (int64_t k = 0; k < series.terms; ++k) values(k, p) = cosine[k * q % period];
    }
    body(size, net, values.leftCols(size));
  }
}

// Of the derivative by x, relative to the largest G: forces are to be right to 1e-10.
constexpr double kDerivativeTolerance = 1e-11;

// Interpolation at the zeros of T_terms, and a look at the points midway between them, where the
// error of interpolation is largest.
bool fit(const EmbeddingNets<double>& nets, int64_t index, double tolerance,
         NetSeries<double>* series) {
  const double* const* parameters = &nets.parameters[index * nets.nparameters()];
  Eigen::Map<Matrix<double>> C(series->C.data(), series->terms, nets.neuron.back());
  C.setZero();
  double largest = 0;
  const auto add = [&](int64_t size, NetOnTile<double>& net, const auto& values) {
    net.forward<false, 0>(size, parameters);
    C.noalias() += values * net.G().topRows(size);
    largest = std::max(largest, net.G().topRows(size).cwiseAbs().maxCoeff());
  };
  for_each_point(nets, *series, series->terms, 1, add);
  C *= 2 / static_cast<double>(series->terms);
  C.row(0) /= 2;
  Matrix<double> dC = C;
  differentiate(*series, &dC);
  bool good = true;
  const auto compare = [&](int64_t size, NetOnTile<double>& net, const auto& values) {
    net.forward<true, 1>(size, parameters);
    const Matrix<double> error = values.transpose() * C - net.G().topRows(size);
    const Matrix<double> derror = values.transpose() * dC - net.dG().topRows(size);
    const double bound = std::max(kDerivativeTolerance, 100 * tolerance) * largest;
    good = good && (error.array().abs() <= tolerance * largest).all() &&  // false for NaN
           (derror.array().abs() * series->half_width <= bound).all();
  };
  for_each_point(nets, *series, series->terms + 1, 0, compare);
  return good;
}

void gradient(const EmbeddingNets<double>& nets, int64_t index, const NetSeries<double>& dC,
              double* const* gradient) {
  const double* const* parameters = &nets.parameters[index * nets.nparameters()];
  Matrix<double> scaled =
      Eigen::Map<const Matrix<double>>(dC.C.data(), dC.terms, nets.neuron.back());
  scaled *= 2 / static_cast<double>(dC.terms);
  scaled.row(0) /= 2;
  const auto reverse = [&](int64_t size, NetOnTile<double>& net, const auto& values) {
    net.forward<false, 1>(size, parameters);
    net.gG.topRows(size).noalias() = values.transpose() * scaled;
    net.reverse<false>(size, parameters, gradient);
  };
  for_each_point(nets, dC, dC.terms, 1, reverse);
}

// ---- Units -------------------------------------------------------------------------------------

template <typename T>
using Four = Eigen::Matrix<T, 1, 4>;

// The four numbers of one centre in row k of an array [terms, 4 * centres].
template <typename T>
Eigen::Map<Four<T>> four(Matrix<T>& M, int64_t k, int64_t centre) {
  return Eigen::Map<Four<T>>(M.data() + k * M.cols() + 4 * centre);
}

template <typename T>
Four<T> four(const double* R, double factor) {
  return (Eigen::Map<const Four<double>>(R) * factor).template cast<T>();
}

// The unit's centres.
struct Centres {
  Centres(const Pairs& pairs, int64_t unit)
      : first(pairs.unit_first[unit]), count(pairs.unit_first[unit + 1] - first) {}
  int64_t first, count;
};

// Calls body(tile, values) for the tiles of one net, with the Chebyshev polynomials of its x.
template <typename T, typename Body>
void for_each_series_tile(const Embedding<T>& embedding, const Pairs& pairs,
                          const NetSeries<T>& series, int64_t unit, int64_t net, Body&& body) {
  static thread_local Chebyshev<T> values;
  for_each_tile(embedding, pairs, unit, net, [&](const Tile& tile) {
    TileRow<T> x = TileRow<T>::Zero();
    for (int64_t p = 0; p < tile.size; ++p) {
      x[p] = static_cast<T>((tile.row[p].s - series.middle) / series.half_width);
    }
    evaluate_chebyshev(x, series.terms, &values);
    body(tile, values);
  });
}

// M_i / n of the unit's centres, [terms, 4 * centres].
template <typename T>
Matrix<T> moments(const Embedding<T>& embedding, const Pairs& pairs, const NetSeries<T>& series,
                  int64_t unit, int64_t net) {
  const Centres centres(pairs, unit);
  Matrix<T> M = Matrix<T>::Zero(series.terms, 4 * centres.count);
  const auto add = [&](const Tile& tile, const Chebyshev<T>& values) {
    for (int64_t p = 0; p < tile.size; ++p) {
      const Four<T> R = four<T>(tile.row[p].R, 1 / embedding.n);
      for (int64_t k = 0; k < series.terms; ++k) {
        four(M, k, tile.i[p] - centres.first) += values(k, p) * R;
      }
    }
  };
  for_each_series_tile(embedding, pairs, series, unit, net, add);
  return M;
}

// The derivative of M_i / n along the pairs' cotangents u, dr/dt = u.
template <typename T>
Matrix<T> moments_tangent(const Embedding<T>& embedding, const Pairs& pairs,
                          const NetSeries<T>& series, const ForceCotangents& cotangents,
                          int64_t unit, int64_t net) {
  const Centres centres(pairs, unit);
  Matrix<T> tM = Matrix<T>::Zero(series.terms, 4 * centres.count);
  Matrix<T> by_ds = tM;  // what dT/ds is to be multiplied with
  const auto add = [&](const Tile& tile, const Chebyshev<T>& values) {
    for (int64_t p = 0; p < tile.size; ++p) {
      double u[3], tR[4];
      const EnvironmentRow& row = tile.row[p];
      pair_cotangent(embedding.atoms, pairs, cotangents, tile.i[p], tile.j[p], row.r, u);
      const double ts = environment_tangent(row, u, tR);
      const Four<T> of_R = four<T>(tR, 1 / embedding.n);
      const Four<T> of_s = four<T>(row.R, ts / embedding.n);
      for (int64_t k = 0; k < series.terms; ++k) {
        four(tM, k, tile.i[p] - centres.first) += values(k, p) * of_R;
        four(by_ds, k, tile.i[p] - centres.first) += values(k, p) * of_s;
      }
    }
  };
  for_each_series_tile(embedding, pairs, series, unit, net, add);
  differentiate_transposed(series, &by_ds);
  return tM + by_ds;
}

// Calls body(net, series, C) for each net of the unit with a series.
template <typename T, typename Body>
void for_each_series(const Embedding<T>& embedding, const Pairs& pairs, const NetSeries<T>* series,
                     int64_t unit, Body&& body) {
  const EmbeddingNets<T>& nets = embedding.nets;
  for (int64_t net = 0; net < nets.nnets(); ++net) {
    if (series[net].terms == 0) continue;
    if (!unit_has_net(embedding.atoms, pairs, unit, nets.net, net)) continue;
    body(net, series[net],
         Eigen::Map<const Matrix<T>>(series[net].C.data(), series[net].terms, nets.neuron.back()));
  }
}

template <typename T>
auto gradient_by_C(const Embedding<T>& embedding, const NetSeries<T>& series, int64_t net,
                   T* const* gradient) {
  return Eigen::Map<Matrix<T>>(gradient[net * embedding.nets.nparameters()], series.terms,
                               embedding.nets.neuron.back());
}

template <typename T>
void embed(const Embedding<T>& embedding, const Pairs& pairs, const NetSeries<T>* all, int64_t unit,
           T* X) {
  const Centres centres(pairs, unit);
  auto X_unit = blocks(X, centres.first, centres.count, embedding.nets.neuron.back());
  for_each_series(
      embedding, pairs, all, unit, [&](int64_t net, const NetSeries<T>& series, const auto& C) {
        X_unit.noalias() += moments(embedding, pairs, series, unit, net).transpose() * C;
      });
}

template <typename T>
void embed_grad(const Embedding<T>& embedding, const Pairs& pairs, const NetSeries<T>* all,
                int64_t unit, const T* dX, T* const* gradient) {
  const Centres centres(pairs, unit);
  const auto dX_unit = blocks(dX, centres.first, centres.count, embedding.nets.neuron.back());
  for_each_series(embedding, pairs, all, unit,
                  [&](int64_t net, const NetSeries<T>& series, const auto&) {
                    gradient_by_C(embedding, series, net, gradient).noalias() +=
                        moments(embedding, pairs, series, unit, net) * dX_unit;
                  });
}

template <typename T>
void force(const Embedding<T>& embedding, const Pairs& pairs, const NetSeries<T>* all, int64_t unit,
           const T* A, double* dr) {
  const Centres centres(pairs, unit);
  const auto A_unit = blocks(A, centres.first, centres.count, embedding.nets.neuron.back());
  for_each_series(
      embedding, pairs, all, unit, [&](int64_t net, const NetSeries<T>& series, const auto& C) {
        Matrix<T> gM = C * A_unit.transpose();  // dE/dM_i
        gM /= static_cast<T>(embedding.n);
        Matrix<T> gM_by_s = gM;  // with dT/ds in the place of T
        differentiate(series, &gM_by_s);
        const auto reverse = [&](const Tile& tile, const Chebyshev<T>& values) {
          for (int64_t p = 0; p < tile.size; ++p) {
            Four<T> dR = Four<T>::Zero();
            Four<T> dR_by_s = Four<T>::Zero();
            for (int64_t k = 0; k < series.terms; ++k) {
              dR += values(k, p) * four(gM, k, tile.i[p] - centres.first);
              dR_by_s += values(k, p) * four(gM_by_s, k, tile.i[p] - centres.first);
            }
            const EnvironmentRow& row = tile.row[p];
            const Four<double> wide = dR.template cast<double>();
            const double ds =
                Eigen::Map<const Four<double>>(row.R).dot(dR_by_s.template cast<double>());
            environment_reverse(row, wide.data(), ds, dr + 3 * pairs.number(tile.i[p], tile.j[p]));
          }
        };
        for_each_series_tile(embedding, pairs, series, unit, net, reverse);
      });
}

template <typename T>
void force_grad(const Embedding<T>& embedding, const Pairs& pairs, const NetSeries<T>* all,
                int64_t unit, const T* A, const ForceCotangents& cotangents, T* dA,
                T* const* gradient) {
  const Centres centres(pairs, unit);
  const int64_t M1 = embedding.nets.neuron.back();
  const auto A_unit = blocks(A, centres.first, centres.count, M1);
  auto dA_unit = blocks(dA, centres.first, centres.count, M1);
  for_each_series(
      embedding, pairs, all, unit, [&](int64_t net, const NetSeries<T>& series, const auto& C) {
        const Matrix<T> tM = moments_tangent(embedding, pairs, series, cotangents, unit, net);
        dA_unit.noalias() += tM.transpose() * C;
        gradient_by_C(embedding, series, net, gradient).noalias() += tM * A_unit;
      });
}

}  // namespace
}  // namespace DPMASK_ISA

template <typename T>
EmbeddingUnits<T> DPMASK_OF_THIS_SET(series_units)() {
  return {DPMASK_ISA::embed<T>, DPMASK_ISA::embed_grad<T>, DPMASK_ISA::force<T>,
          DPMASK_ISA::force_grad<T>};
}
template EmbeddingUnits<float> DPMASK_OF_THIS_SET(series_units)<float>();
template EmbeddingUnits<double> DPMASK_OF_THIS_SET(series_units)<double>();

SeriesFit DPMASK_OF_THIS_SET(series_fit)() { return {DPMASK_ISA::fit, DPMASK_ISA::gradient}; }

}  // namespace dpmask
