// SPDX-License-Identifier: LGPL-3.0-or-later
// A block has a rectangle, some centre atoms i of a frame and some neighbours j, each of which has
// a thread. With dr = dE/dr of the pair, the rectangle's sums over j are those of the forces on i,
// and its sums over i are those of the forces on j, of their virials and, if wanted, of dE/dw_ij.
// Then each atom gathers its rectangles'.
#include "cuda/series/rectangles.h"

#include "cuda/common/batch.h"
#include "cuda/common/memory.h"
#include "cuda/common/pairs.h"
#include "cuda/series/chebyshev.h"

namespace dpmask::cuda {
namespace {

constexpr int64_t kCentres = 16;  // of a rectangle
constexpr int kAtOnce = 4;        // centres between two sums over the neighbours
constexpr int kShares = 8;        // into which such a sum is cut

// Sums of a neighbour: of the forces, then of the virial, then by weight.
constexpr int kOfForces = 12, kOfAll = 13;
int components(const Forces& out) { return out.weight_gradient == nullptr ? kOfForces : kOfAll; }

// Where the sums of the rectangles of a slab lie. Places are those of PairNumbers::rows.
struct RectangleSums {
  double *centres, *neighbours;
  int64_t first_frame, ncolumns, nrows, size;  // columns of neighbours, rows of centre atoms; atoms
  int64_t ncomponents;                         // of a neighbour

  DPMASK_KERNEL double* of_centre(const PairNumbers& pairs, int64_t column, int64_t a,
                                  int64_t place) const {
    return centres + (column * 3 + a) * size + place - pairs.rows_first[first_frame];
  }
  DPMASK_KERNEL double* of_neighbour(const PairNumbers& pairs, int64_t row, int64_t c,
                                     int64_t place) const {
    return neighbours + (row * ncomponents + c) * size + place - pairs.rows_first[first_frame];
  }
};

template <int kComponents, typename T>
struct ForceOfRectangle {
  DeviceEmbedding<T> e;
  Section section;
  int64_t nframes, nrows, first_row;  // of rectangles
  const T* gM;
  RectangleSums sums;
  double by_n = 1 / e.n;

  struct Shared {
    double dr[kAtOnce * 3][kThreads + 1];
    double shares[kAtOnce * 3][kShares];
  };
  struct Column {
    double sum[kComponents];
  };

  int64_t blocks() const { return nframes * nrows * sums.ncolumns; }
  DPMASK_KERNEL void operator()(const Block& block) const {
    const int64_t column = block.index % sums.ncolumns;
    const int64_t row = block.index / sums.ncolumns % nrows;
    const int64_t frame = sums.first_frame + block.index / (sums.ncolumns * nrows);
    const int64_t size = e.pairs.rows_first[frame + 1] - e.pairs.rows_first[frame];
    if (column * kThreads >= size) return;
    int64_t begin = 0, end = 0;  // of the section's atoms in the frame
    for (int64_t t = 0; t < section.last_type; ++t) {
      const int64_t of_type = group_size(e.atoms, t, frame);
      if (t < section.first_type) begin += of_type;
      end += of_type;
    }
    begin += row * kCentres;
    end = smaller(begin + kCentres, end);
    const int64_t first_place = e.pairs.rows_first[frame];
    Shared* shared = reinterpret_cast<Shared*>(block.shared);
    Private<Column> columns;
    block.threads([&](int thread) { columns[thread] = Column{}; });
    for (int64_t first = begin; first < end; first += kAtOnce) {
      block.threads([&](int thread) {
        const int64_t local = column * kThreads + thread;
        for (int k = 0; k < kAtOnce; ++k) {
          double dr[3] = {};
          if (first + k < end && local < size) {
            add_pair(first_place + first + k, first_place + local, dr, columns[thread].sum);
          }
          for (int a = 0; a < 3; ++a) shared->dr[3 * k + a][thread] = dr[a];
        }
      });
      block.each(kAtOnce * 3 * kShares, [=](int64_t item) {
        const int64_t ka = item / kShares, share = item % kShares;
        double sum = 0;
        for (int k = 0; k < kThreads / kShares; ++k) sum += shared->dr[ka][k * kShares + share];
        shared->shares[ka][share] = sum;
      });
      block.each(kAtOnce * 3, [=](int64_t ka) {
        if (first + ka / 3 >= end) return;
        double sum = 0;
        for (int share = 0; share < kShares; ++share) sum += shared->shares[ka][share];
        *sums.of_centre(e.pairs, column, ka % 3, first_place + first + ka / 3) = sum;
      });
    }
    block.threads([&](int thread) {
      const int64_t local = column * kThreads + thread;
      if (local >= size) return;
      for (int c = 0; c < kComponents; ++c) {
        *sums.of_neighbour(e.pairs, first_row + row, c, first_place + local) =
            columns[thread].sum[c];
      }
    });
  }

  // Sets dr, and adds it and its virial. With gM_i = C A_i^T of the panel, a pair has dE/dR = v gM
  // and dE/ds = (s gM) R.
  DPMASK_KERNEL void add_pair(int64_t place_i, int64_t place_j, double* dr, double* sum) const {
    if (place_i == place_j) return;
    const EnvironmentRow row = row_at(e.pairs, place_i, place_j);
    const int64_t i = e.pairs.rows[place_i], j = e.pairs.rows[place_j];
    const int64_t panel = panel_of_pair(e, e.pairs.type[i], e.pairs.type[j], row.s);
    if (panel < 0) return;
    const int64_t stride = 4 * section.rows();
    const T* gM_i = gM + section.place_of((panel - section.first) * kTerms, i);
    const T R[4] = {static_cast<T>(row.R[0]), static_cast<T>(row.R[1]), static_cast<T>(row.R[2]),
                    static_cast<T>(row.R[3])};
    T by_R[4] = {}, by_s = 0;
    for_terms<T>(panel_at(e.series, panel), row.s, [&](int k, T value, T slope) {
      const Four<T> of_term = *reinterpret_cast<const Four<T>*>(gM_i + k * stride);
      T along_R = 0;
      for (int c = 0; c < 4; ++c) {
        by_R[c] += value * of_term.of[c];
        along_R += R[c] * of_term.of[c];
      }
      by_s += slope * along_R;
    });
    double dR[4];
    for (int c = 0; c < 4; ++c) dR[c] = by_R[c] * by_n;
    environment_reverse(row, dR, by_s * by_n, dr);
    for (int a = 0; a < 3; ++a) {
      sum[a] += dr[a];
      for (int b = 0; b < 3; ++b) sum[3 + 3 * a + b] += dr[a] * row.r[b];
    }
    if constexpr (kComponents == kOfAll) {
      if (!are_of_group(e.pairs.group, place_i, place_j)) {
        double dw;
        environment_by_weight(row, dR, &dw);
        sum[kOfForces] += dw;
      }
    }
  }
};

// A thread for each component of force and, if wanted, atomic virial and weight gradient of each
// atom.
struct GatherRectangles {
  RealAtoms atoms;
  PairNumbers pairs;
  RectangleSums sums;
  Forces out;
  DPMASK_KERNEL void operator()(int64_t item) const {
    const int64_t place = pairs.rows_first[sums.first_frame] + item % sums.size;
    const int64_t row = pairs.rows[place], frame = pairs.frame[row];
    int64_t c = item / sums.size;
    if (c >= 3 && out.atom_virial == nullptr) c = kOfForces;
    const int64_t of_frame = pairs.rows_first[frame + 1] - pairs.rows_first[frame];
    double sum = 0;
    for (int64_t k = 0; k < sums.nrows; ++k) sum -= *sums.of_neighbour(pairs, k, c, place);
    for (int64_t column = 0; c < 3 && column * kThreads < of_frame; ++column) {
      sum += *sums.of_centre(pairs, column, c, place);
    }
    const int64_t slot = atoms.slot[row];
    if (c == kOfForces) {
      out.weight_gradient[slot] -= sum;
      return;
    }
    (c < 3 ? out.force[3 * slot + c] : out.atom_virial[9 * slot + c - 3]) += sum;
  }
};

// Rows of rectangles of a section, which has none without a series.
int64_t rows_of_rectangles(const Section& section, int64_t largest) {
  return section.npanels == 0 ? 0 : ceil_div(largest, kCentres);
}
int64_t rows_of_rectangles(const Slab& slab, const std::vector<int64_t>& largest) {
  int64_t nrows = 0;
  for (size_t p = 0; p < slab.sections.size(); ++p)
    nrows += rows_of_rectangles(slab.sections[p], largest[p]);
  return nrows;
}

}  // namespace

int64_t rectangle_sums_size(const Slab& slab, const std::vector<int64_t>& largest,
                            const Forces& out) {
  const int64_t nrows = rows_of_rectangles(slab, largest);
  return nrows == 0 ? 0 : slab.size() * (3 * blocks_for(slab.largest) + components(out) * nrows);
}

namespace {

template <int kComponents, typename T>
void add_forces(const DeviceEmbedding<T>& e, const Slab& slab, const std::vector<int64_t>& largest,
                const T* gM, double* sums, const Forces& out, cudaStream_t stream) {
  const int64_t ncolumns = blocks_for(slab.largest);
  const int64_t nrows = rows_of_rectangles(slab, largest), of_centres = slab.size() * 3 * ncolumns;
  if (nrows == 0) return;
  const RectangleSums at = {sums,  sums + of_centres, slab.first_frame, ncolumns,
                            nrows, slab.size(),       kComponents};
  std::vector<ForceOfRectangle<kComponents, T>> items;
  int64_t first_row = 0;
  bool leaves_out_centres = false;
  for (size_t p = 0; p < slab.sections.size(); ++p) {
    const int64_t of_section = rows_of_rectangles(slab.sections[p], largest[p]);
    items.push_back({e, slab.sections[p], slab.nframes(), of_section, first_row, gM, at});
    first_row += of_section;
    leaves_out_centres |= of_section == 0;
  }
  if (leaves_out_centres) clear<double>({sums}, {of_centres}, stream);
  launch_all(items, stream, sizeof(typename ForceOfRectangle<kComponents, T>::Shared));
  const int64_t wanted =
      (out.atom_virial == nullptr ? 3 : kOfForces) + (kComponents == kOfAll ? 1 : 0);
  for_each(wanted * slab.size(), stream, GatherRectangles{e.atoms, e.pairs, at, out});
}

}  // namespace

template <typename T>
void add_rectangle_forces(const DeviceEmbedding<T>& e, const Slab& slab,
                          const std::vector<int64_t>& largest, const T* gM, double* sums,
                          const Forces& out, cudaStream_t stream) {
  const auto add = components(out) == kOfAll ? add_forces<kOfAll, T> : add_forces<kOfForces, T>;
  add(e, slab, largest, gM, sums, out, stream);
}

#define DPMASK_INSTANTIATE(T)                                                           \
  template void add_rectangle_forces<T>(const DeviceEmbedding<T>&, const Slab&,         \
                                        const std::vector<int64_t>&, const T*, double*, \
                                        const Forces&, cudaStream_t)
DPMASK_INSTANTIATE(float);
DPMASK_INSTANTIATE(double);

}  // namespace dpmask::cuda
