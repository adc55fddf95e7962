// SPDX-License-Identifier: LGPL-3.0-or-later
#include "op/kernels/net_series.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "op/kernels/instruction_set.h"
#include "op/kernels/series_fit.h"
#include "op/shared/series.h"

namespace dpmask {
namespace {

constexpr int kTries = 6;        // at the end of a panel
constexpr double kAim = 0.98;    // of the width that is expected to be just good
constexpr double kClose = 1.02;  // an end that is expected so little farther is not tried

// A panel that may be had.
struct Candidate {
  double begin, end;
  std::vector<double> C;
  double difference;  // from the given panels

  double width() const { return end - begin; }
};

// Finds the panels of a stretch: of given panels, all of them good, first, ..., last - 1.
class Widening {
 public:
  Widening(const EmbeddingNets<double>& nets, int64_t net, const NetSeries& given, int64_t first,
           int64_t last, double bound)
      : fit_(DPMASK_CHOOSE(series_fit)), nets_(nets), net_(net), given_(given), first_(first),
        last_(last), bound_(bound) {}

  // None, should one of them not be found.
  std::optional<NetSeries> panels() const {
    NetSeries found;
    const double end = given_.end(last_ - 1);
    double begin = given_.begin(first_), width = 2 * given_.half_width(first_);
    while (begin < end) {
      std::optional<Candidate> panel = widest(begin, end, width);
      if (!panel) return std::nullopt;
      if (panel->end < end && end - panel->end < panel->width()) {
        // The last two share what there is, since derivatives are bad in a narrow one.
        Candidate half = candidate(begin, (begin + end) / 2);
        if (is_good(half)) panel = std::move(half);
      }
      width = panel->width();
      found.add(begin + width / 2, width / 2, panel->C.data(), M1(), true);
      begin = panel->end;
    }
    return found;
  }

 private:
  int64_t M1() const { return nets_.neuron.back(); }
  bool is_good(const Candidate& candidate) const { return candidate.difference <= bound_; }

  // The panel that begins here and is good, and all but as wide as it can be; none, should none be
  // found. From one attempt to the next, it goes by the order of the error, which rises as the
  // kTerms-th power of the width.
  std::optional<Candidate> widest(double begin, double end, double width) const {
    std::optional<Candidate> best;
    for (int k = 0; k < kTries; ++k) {
      Candidate next = candidate(begin, std::min(begin + width, end));
      const double change = kAim * std::pow(bound_ / next.difference, 1.0 / kTerms);
      width = next.width() * std::clamp(change, 0.5, 2.0);
      if (is_good(next) && (!best || best->end < next.end)) best = std::move(next);
      if (best && (best->end == end || width < kClose * best->width())) break;
    }
    return best;
  }

  Candidate candidate(double begin, double end) const {
    const double panel[] = {(begin + end) / 2, (end - begin) / 2};
    Candidate made = {begin, end, std::vector<double>(kTerms * M1()), 0};
    double largest;
    fit_.interpolate(nets_, net_, 1, panel, made.C.data(), &largest);
    int64_t first = first_, last = last_;  // of those that it has nodes of
    while (first + 1 < last && given_.end(first) <= begin) ++first;
    while (first + 1 < last && given_.begin(last - 1) >= end) --last;
    made.difference = fit_.difference(M1(), panel, made.C.data(), last - first,
                                      &given_.panels[2 * first], &given_.C[first * kTerms * M1()]);
    return made;
  }

  const SeriesFit fit_;
  const EmbeddingNets<double>& nets_;
  const int64_t net_;
  const NetSeries& given_;
  const int64_t first_, last_;
  const double bound_;
};

}  // namespace

void NetSeries::add(double middle, double half_width, const double* C_of_panel, int64_t M1,
                    bool good) {
  panels.insert(panels.end(), {middle, half_width});
  C.insert(C.end(), C_of_panel, C_of_panel + kTerms * M1);
  is_good.push_back(good);
}

void NetSeries::add(const NetSeries& other, int64_t first, int64_t last, int64_t M1) {
  for (int64_t p = first; p < last; ++p) {
    add(other.middle(p), other.half_width(p), &other.C[p * kTerms * M1], M1, other.is_good[p]);
  }
}

NetSeries widened(const EmbeddingNets<double>& nets, int64_t net, const NetSeries& given,
                  const std::vector<double>& ends, double tolerance) {
  const int64_t M1 = nets.neuron.back();
  const auto between_ends = [&](int64_t panel) {
    return std::upper_bound(ends.begin(), ends.end(), given.middle(panel));
  };
  NetSeries all;
  all.largest = given.largest;
  for (int64_t first = 0; first < given.npanels();) {
    int64_t last = first + 1;
    while (last < given.npanels() && given.is_good[first] && given.is_good[last] &&
           between_ends(first) == between_ends(last)) {
      ++last;
    }
    std::optional<NetSeries> fewer;
    if (last - first > 1) {
      fewer = Widening(nets, net, given, first, last, tolerance * given.largest).panels();
    }
    if (fewer && fewer->npanels() < last - first) {
      all.add(*fewer, 0, fewer->npanels(), M1);
    } else {
      all.add(given, first, last, M1);
    }
    first = last;
  }
  return all;
}

}  // namespace dpmask
