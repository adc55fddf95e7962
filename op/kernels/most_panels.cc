// SPDX-License-Identifier: LGPL-3.0-or-later
#include "op/kernels/most_panels.h"

#include "op/shared/activation.h"

namespace dpmask {
namespace {

// So many pairs of a net must there be for each of its panels, or they go through the net
// themselves: a panel costs 2 kTerms points of the net, counting those of the panel that was halved
// for it, and the pairs three passes in an evaluation, twelve in a training step.
constexpr int64_t kPairsPerPanel = kTerms;

// Adds the pairs of each net to counts.
template <typename T>
void count_pairs_of_nets(const Embedding<T>& embedding, std::vector<int64_t>* counts) {
  const RealAtoms& atoms = embedding.atoms;
  const auto size = [&](int64_t t, int64_t frame) {
    const int64_t group = t * atoms.nframes + frame;
    return atoms.first[group + 1] - atoms.first[group];
  };
  for (int64_t t_i = 0; t_i < atoms.ntypes; ++t_i) {
    for (int64_t t_j = 0; t_j < atoms.ntypes; ++t_j) {
      const int32_t net = embedding.nets.net[t_i * atoms.ntypes + t_j];
      for (int64_t frame = 0; net >= 0 && frame < atoms.nframes; ++frame) {
        (*counts)[net] += size(t_i, frame) * (size(t_j, frame) - (t_i == t_j ? 1 : 0));
      }
    }
  }
}

}  // namespace

template <typename T>
std::vector<int64_t> most_panels(const Embedding<T>& embedding) {
  const EmbeddingNets<T>& nets = embedding.nets;
  std::vector<int64_t> most(nets.nnets(), 0);
  // Where activation functions have kinks, G has too many.
  if (!kinks_of(nets.activation, nets.threshold).at.empty()) return most;
  count_pairs_of_nets(embedding, &most);
  for (int64_t& count : most) count /= kPairsPerPanel;
  return most;
}

template std::vector<int64_t> most_panels<float>(const Embedding<float>&);
template std::vector<int64_t> most_panels<double>(const Embedding<double>&);

}  // namespace dpmask
