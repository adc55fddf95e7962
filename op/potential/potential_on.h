// SPDX-License-Identifier: LGPL-3.0-or-later
// The potential on a device, which is a class that has
//   kHasMixed           whether its kernels take FittingNets::in_float32
//   threads()
//   host()              a Cpu for what is made when models are opened
//   keep(host, size)    an array of the host, for as long as the device lives; the host's own lives
//                       as long
//   Run                 one evaluation at a time, made of the device, with
//     Kernels             the class of what kernels are given as their last argument
//     for_each_model(n, body)  calls body(k, Kernels&) for each k below n, maybe side by side; what
//                         it allocates there is free again at its end
//     Scope               of an evaluation; frees, at its end, what has been allocated since its
//                         beginning
//     upload(host, size)  an array of the host
//     output(host, size)  zeros, which finish() puts into that array of the host, if there is one
//     finish()            waits for all results
#pragma once

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>

#include "op/kernels/atoms.h"
#include "op/potential/evaluation.h"
#include "op/potential/pool.h"
#include "op/potential/potential.h"

namespace dpmask {

// The end of a table that is made here: this times the largest s of the training data, as of dp
// compress, but no more than the kinks of a net can be told apart in; and, where that is not known,
// one with room for molecules in Å and in nm.
constexpr double kRoom = 5;
constexpr double kMostEnd = 100;
constexpr double kUsualEnd = 25;
// Of a net. One that needs more has no table.
constexpr int64_t kMostPanelsOfTable = 1024;

// Frames on the device.
struct FramesOnDevice {
  RealAtoms atoms;
  const double* coord;
  const int64_t* type_first;  // the host's
  double min_distance;        // of all frames
};

// A model that has been opened.
template <typename Device>
class OpenedModel {
 public:
  virtual ~OpenedModel() = default;
  virtual void evaluate(const FramesOnDevice& frames, const Energies& energies,
                        const Forces& forces, typename Device::Run::Kernels& kernels) const = 0;
};

template <typename T, typename Device>
class OpenedModelOf : public OpenedModel<Device> {
 public:
  OpenedModelOf(std::shared_ptr<const Model<T>> model, Device& device)
      : model_(std::move(model)), nets_(model_->embedding_nets()), fitting_(model_->fitting_nets()),
        bias_(device.keep(model_->bias.data(), model_->ntypes())) {
    if (model_->table) {
      series_ = model_->table->view();
    } else {
      end_ = model_->min_distance ? std::min(kRoom / *model_->min_distance, kMostEnd) : kUsualEnd;
      made_ = fit_table(nets_, 0.0, end_, 0.0, kMostPanelsOfTable, device.host());
      series_ = made_.view();
      none_.assign(made_.first.size(), 0);
    }
    const int64_t npanels = series_.npanels();
    series_.panels = device.keep(series_.panels, 2 * npanels);
    series_.C = device.keep(series_.C, npanels * kTerms * nets_.neuron.back());
    keep_parameters(&nets_, device);
    keep_parameters(&fitting_, device);
    if (model_->is_mixed) hold_in_float32();
  }

  void evaluate(const FramesOnDevice& frames, const Energies& energies, const Forces& forces,
                typename Device::Run::Kernels& kernels) const override {
    // Beyond the end of a table that was made here the nets themselves are asked, since it says
    // nothing of them there. A table that the model came with is part of what it is.
    Series<T> series = series_;
    if (1 / frames.min_distance > end_) series.first = none_.data();
    const ModelOnAtoms<T> model = {{frames.atoms, frames.coord, nets_, series, model_->n},
                                   fitting_,
                                   model_->M2,
                                   bias_,
                                   frames.type_first};
    dpmask::evaluate(model, energies, forces, kernels);
  }

 private:
  template <typename Nets>
  static void keep_parameters(Nets* nets, Device& device) {
    const std::vector<int64_t> sizes = nets->sizes();
    for (size_t p = 0; p < nets->parameters.size(); ++p) {
      nets->parameters[p] = device.keep(nets->parameters[p], sizes[p % sizes.size()]);
    }
  }

  // Halves what is read of the fitting nets where they exceed the cache.
  void hold_in_float32() {
    if (!Device::kHasMixed) {
      throw std::invalid_argument("mixed precision is for evaluations on the CPU alone");
    }
    fitting_.in_float32.assign(fitting_.parameters.size(), nullptr);
    for (int64_t t = 0; t < fitting_.ntypes; ++t) {
      for (int64_t layer = 0; layer < fitting_.nhidden(); ++layer) {
        const int64_t place = fitting_.place(t, layer);
        const T* W = fitting_.parameters[place];
        in_float32_.emplace_back(W, W + fitting_.inputs(layer) * fitting_.outputs(layer));
        fitting_.in_float32[place] = in_float32_.back().data();
      }
    }
  }

  std::shared_ptr<const Model<T>> model_;
  EmbeddingNets<T> nets_;  // the device's, as all that follows
  FittingNets<T> fitting_;
  std::vector<Aligned<float>> in_float32_;  // what fitting_ points to
  const double* bias_;
  SeriesArrays<T> made_;  // the host's
  Series<T> series_;
  double end_ = std::numeric_limits<double>::infinity();  // of the table, along s
  std::vector<int64_t> none_;                             // Series::first of nets without panels
};

template <typename Device>
class PotentialOn : public Potential {
 public:
  // `options` are the device's.
  template <typename... Options>
  explicit PotentialOn(const std::vector<AnyModel>& models, Options&&... options)
      : device_(std::forward<Options>(options)...),
        scratch_([this] { return std::make_unique<Scratch>(device_); }) {
    if (models.empty()) throw std::invalid_argument("a potential has at least one model");
    for (const AnyModel& any : models) {
      std::visit([&](const auto& model) { open(model); }, any);
    }
  }

  int64_t ntypes() const override { return ntypes_; }
  int64_t nmodels() const override { return static_cast<int64_t>(models_.size()); }
  int64_t threads() const override { return device_.threads(); }

  void evaluate(const Frames& frames, const Results& results) override {
    const bool wants_by_weight = results.weight_gradient != nullptr;
    if (wants_by_weight && frames.groups == nullptr && frames.nframes * frames.natoms > 0) {
      throw std::invalid_argument("weight_gradient needs groups; give the group of each atom");
    }
    typename Pool<Scratch>::Taken scratch(scratch_);
    Run& run = scratch->run;
    const Arena::Scope scope(scratch->arena);
    const typename Run::Scope scope_on_device(run);
    const FramesOnDevice on_device = find(frames, scratch->arena, run);

    const int64_t nframes = frames.nframes, natoms = nframes * frames.natoms;
    const bool wants_virial = results.virial != nullptr || results.atom_virial != nullptr;
    const bool wants_forces = results.forces != nullptr || wants_virial || wants_by_weight;
    // What nobody wants, but is needed on the way to what is wanted, is put nowhere.
    const auto output = [&](double* host, int64_t of_model, bool is_needed) {
      return is_needed ? run.output(host, nmodels() * of_model) : nullptr;
    };
    const Energies energies = {output(results.energy, nframes, true),
                               output(results.energies, natoms, true)};
    const Forces forces = {output(results.forces, 3 * natoms, wants_forces),
                           output(results.virial, 9 * nframes, wants_virial),
                           output(results.atom_virial, 9 * natoms, wants_virial),
                           output(results.weight_gradient, natoms, wants_by_weight)};
    const auto of_model = [](double* all, int64_t distance) {
      return all == nullptr ? nullptr : all + distance;
    };
    run.for_each_model(nmodels(), [&](int64_t k, typename Run::Kernels& kernels) {
      models_[k]->evaluate(
          on_device, {energies.energy + k * nframes, energies.atom_energy + k * natoms},
          {of_model(forces.force, 3 * k * natoms), of_model(forces.virial, 9 * k * nframes),
           of_model(forces.atom_virial, 9 * k * natoms),
           of_model(forces.weight_gradient, k * natoms)},
          kernels);
    });
    run.finish();
  }

 private:
  using Run = typename Device::Run;
  struct Scratch {
    explicit Scratch(Device& device) : run(device) {}
    Run run;
    Arena arena;  // the host's
  };

  template <typename T>
  void open(const std::shared_ptr<const Model<T>>& model) {
    model->check();
    if (models_.empty()) ntypes_ = model->ntypes();
    if (model->ntypes() != ntypes_) {
      throw std::invalid_argument("the models of a committee must have the same types, not " +
                                  std::to_string(ntypes_) + " and " +
                                  std::to_string(model->ntypes()));
    }
    models_.push_back(std::make_unique<OpenedModelOf<T, Device>>(model, device_));
  }

  FramesOnDevice find(const Frames& frames, Arena& arena, Run& run) const {
    const int64_t nframes = frames.nframes, natoms = nframes * frames.natoms;
    const double* mask = frames.weights;
    if (mask == nullptr) {
      double* ones = arena.allocate<double>(natoms);
      std::fill_n(ones, natoms, 1.0);
      mask = ones;
    }
    FoundAtoms found = find_real_atoms(
        {nframes, frames.natoms, ntypes_, frames.positions, frames.types, mask, frames.groups},
        arena);
    RealAtoms& atoms = found.atoms;
    int64_t* type_first = arena.allocate<int64_t>(ntypes_ + 1);
    for (int64_t t = 0; t <= ntypes_; ++t) type_first[t] = atoms.first[t * nframes];
    atoms.slot = run.upload(atoms.slot, atoms.size);
    atoms.weight = run.upload(atoms.weight, atoms.size);
    if (atoms.group != nullptr) atoms.group = run.upload(atoms.group, atoms.size);
    return {atoms, run.upload(frames.positions, 3 * natoms), type_first, found.min_distance};
  }

  Device device_;
  int64_t ntypes_ = 0;
  std::vector<std::unique_ptr<OpenedModel<Device>>> models_;
  Pool<Scratch> scratch_;
};

}  // namespace dpmask
