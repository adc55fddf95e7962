// SPDX-License-Identifier: LGPL-3.0-or-later
// How much of a batch the kernels for series take at once. In the letters of docs/theory.md, the
// moments of a centre atom
//   M_i = sum_j T(x_ij) R_ij^T / n   [kTerms, 4] for each panel
// make X a product with the nets' coefficients, X_i = sum_panels M_i^T C, and what reverses that is
// products, too: dC = sum_i M_i dX_i and, for forces, gM_i = C A_i^T. The moments of all atoms can
// be much memory: a slab is the frames whose moments, or gM, are there at the same time.
#pragma once

#include <algorithm>
#include <vector>

#include "cuda/common/embedding.h"

namespace dpmask::cuda {

// The centre atoms of a slab that are of consecutive types and have the same nets. Their moments
// are [npanels, kTerms, rows, 4], from `place` on in the memory of the slab's.
struct Section {
  int64_t first_type, last_type;
  int64_t begin, end;      // rows of RealAtoms
  int64_t first, npanels;  // of the nets that their pairs go through
  int64_t place;

  DPMASK_DEVICE int64_t rows() const { return end - begin; }
  DPMASK_DEVICE int64_t height() const { return npanels * kTerms; }
  DPMASK_DEVICE int64_t place_of(int64_t term, int64_t row) const {
    return place + (term * rows() + row - begin) * 4;
  }
};

struct Slab {
  int64_t first_frame, last_frame;
  int64_t largest;  // frame, in real atoms
  std::vector<Section> sections;

  int64_t nframes() const { return last_frame - first_frame; }
  int64_t size() const {  // in real atoms
    int64_t rows = 0;
    for (const Section& section : sections) rows += section.rows();
    return rows;
  }
  int64_t moments_size() const {  // numbers
    return sections.empty()
               ? 0
               : sections.back().place + 4 * sections.back().height() * sections.back().rows();
  }
};

// The most moments of a slab, and its atoms times those of its largest frame, if it has more frames
// than one: the second-level cache of a card holds the moments, and forces need about a number of
// memory for each pair.
constexpr int64_t kMostMoments = 1 << 22, kPairsOfSlab = 1 << 24;

template <typename T>
class Slabs {
 public:
  explicit Slabs(const DeviceEmbedding<T>& e) : e_(e) {
    for (int64_t frame = 0; frame < e.atoms.nframes;) {
      Slab slab = of_frames(frame, frame + 1);
      // Frames are about alike: a guess of how many there is room for, mended downwards.
      const int64_t guess =
          std::max(kMostMoments / std::max(slab.moments_size(), int64_t{1}), int64_t{1});
      for (int64_t count = std::min(guess, e.atoms.nframes - frame); count > 1; count /= 2) {
        const Slab more = of_frames(frame, frame + count);
        if (more.moments_size() > kMostMoments || more.size() * more.largest > kPairsOfSlab)
          continue;
        slab = more;
        break;
      }
      frame = slab.last_frame;
      all_.push_back(std::move(slab));
    }
  }
  const std::vector<Slab>& all() const { return all_; }
  // The most that of(slab) is.
  template <typename Of>
  int64_t most(Of&& of) const {
    int64_t result = 0;
    for (const Slab& slab : all_) result = std::max(result, int64_t{of(slab)});
    return result;
  }
  // The most centre atoms of a section in a frame.
  int64_t largest(const Slab& slab, const Section& section) const {
    int64_t most = 0;
    for (int64_t f = slab.first_frame; f < slab.last_frame; ++f) {
      most = std::max(most, count(section.first_type, section.last_type, f));
    }
    return most;
  }

 private:
  int64_t first_row(int64_t type, int64_t frame) const {
    return e_.host.atoms_first[type * e_.atoms.nframes + frame];
  }
  int64_t count(int64_t first_type, int64_t last_type, int64_t frame) const {
    int64_t size = 0;
    for (int64_t t = first_type; t < last_type; ++t)
      size += first_row(t, frame + 1) - first_row(t, frame);
    return size;
  }

  Slab of_frames(int64_t first, int64_t last) const {
    Slab slab = {first, last, 0, {}};
    for (int64_t f = first; f < last; ++f) {
      slab.largest = std::max(slab.largest, count(0, e_.atoms.ntypes, f));
    }
    for (int64_t t = 0; t < e_.atoms.ntypes; ++t) {
      Section section = {t, t + 1, first_row(t, first), first_row(t, last), 0, 0, 0};
      set_panels(t, &section);
      if (!slab.sections.empty()) {
        Section& before = slab.sections.back();
        if (section.first == before.first && section.npanels == before.npanels &&
            section.begin == before.end) {
          before.last_type = t + 1;
          before.end = section.end;
          continue;
        }
        section.place = slab.moments_size();
      }
      slab.sections.push_back(section);
    }
    return slab;
  }

  // The panels of all nets of a type, and of those between.
  void set_panels(int64_t type, Section* section) const {
    int64_t first = e_.npanels, last = 0;
    for (int64_t t = 0; t < e_.atoms.ntypes; ++t) {
      const int32_t net = e_.host.net[type * e_.atoms.ntypes + t];
      if (net < 0 || e_.host.series_first[net] == e_.host.series_first[net + 1]) continue;
      first = std::min(first, e_.host.series_first[net]);
      last = std::max(last, e_.host.series_first[net + 1]);
    }
    if (last > first) {
      section->first = first;
      section->npanels = last - first;
    }
  }

  const DeviceEmbedding<T>& e_;
  std::vector<Slab> all_;
};

}  // namespace dpmask::cuda
