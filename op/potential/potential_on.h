// SPDX-License-Identifier: LGPL-3.0-or-later
// The potential on a device, which is a class that has
//   keep(host, size)         an array of the host, for as long as the device lives; the host's own
//                            lives as long
//   Run                      one evaluation at a time, with
//     Run(Device&)
//     kernels()              what kernels are given as their last argument
//     allocate<T>(size)      memory until finish(), which nothing has been written to
//     upload(host, size)     an array of the host, until finish()
//     output(host, size)     zeros that finish() has put into that array of the host
//     finish()               waits for all results
#pragma once

#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>

#include "op/kernels/atoms.h"
#include "op/potential/evaluation.h"
#include "op/potential/potential.h"

namespace dpmask {

// The end of a table that is made here: this times the largest s of the training data, since a
// simulation comes closer; and, where that is not known, half of 1 Å.
constexpr double kRoom = 2;
constexpr double kUsualEnd = 2;
// Of a net. One that needs more has no table.
constexpr int64_t kMostPanels = 1024;

// Frames whose real atoms have been found.
struct FoundAtoms {
  RealAtoms atoms;
  const double* coord;
  const int64_t* type_first;  // the host's
  double min_distance;        // of all frames
};

// An opened model.
template <typename Run>
class OpenedModel {
 public:
  virtual ~OpenedModel() = default;
  virtual void evaluate(const FoundAtoms& found, const Energies& energies, const Forces& forces,
                        Run& run) const = 0;
};

template <typename T, typename Device>
class OpenedModelOf : public OpenedModel<typename Device::Run> {
 public:
  OpenedModelOf(std::shared_ptr<const Model<T>> model, Device& device, const Parallel& parallel)
      : model_(std::move(model)), nets_(model_->embedding_nets()), fitting_(model_->fitting_nets()),
        bias_(keep(model_->bias, device)) {
    if (model_->table) {
      series_ = model_->table->view();
    } else {
      end_ = model_->min_distance ? kRoom / *model_->min_distance : kUsualEnd;
      made_ = fit_table(nets_, 0.0, end_, 0.0, kMostPanels, parallel);
      series_ = made_.view();
      none_.assign(made_.first.size(), 0);
    }
    series_.panels = device.keep(series_.panels, 2 * series_.npanels());
    series_.C = device.keep(series_.C, series_.npanels() * kTerms * nets_.neuron.back());
    keep_parameters(&nets_, device);
    keep_parameters(&fitting_, device);
  }

  void evaluate(const FoundAtoms& found, const Energies& energies, const Forces& forces,
                typename Device::Run& run) const override {
    // Beyond the end of its own table a model goes through its nets: the table says nothing of
    // them there. A table that it came with is part of what it is.
    Series<T> series = series_;
    if (1 / found.min_distance > end_) series.first = none_.data();
    dpmask::evaluate<T>({{found.atoms, found.coord, nets_, series, model_->n},
                         fitting_,
                         model_->M2,
                         bias_,
                         found.type_first},
                        energies, forces, run.kernels(), run);
  }

 private:
  template <typename Number>
  static const Number* keep(const std::vector<Number>& array, Device& device) {
    return device.keep(array.data(), static_cast<int64_t>(array.size()));
  }
  template <typename Nets>
  static void keep_parameters(Nets* nets, Device& device) {
    const std::vector<int64_t> sizes = nets->sizes();
    for (size_t p = 0; p < nets->parameters.size(); ++p) {
      nets->parameters[p] = device.keep(nets->parameters[p], sizes[p % sizes.size()]);
    }
  }

  std::shared_ptr<const Model<T>> model_;
  EmbeddingNets<T> nets_;  // the device's, as all that follows
  FittingNets<T> fitting_;
  const double* bias_;
  SeriesArrays<T> made_;  // the host's
  Series<T> series_;
  double end_ = std::numeric_limits<double>::infinity();  // of the table, along s
  std::vector<int64_t> none_;                             // Series::first of nets without panels
};

template <typename Device>
class PotentialOn : public Potential {
 public:
  // Tables are made with `parallel`; `options` are the device's.
  template <typename... Options>
  PotentialOn(const std::vector<AnyModel>& models, const Parallel& parallel, Options&&... options)
      : device_(std::forward<Options>(options)...) {
    if (models.empty()) throw std::invalid_argument("a potential has at least one model");
    for (const AnyModel& any : models) {
      std::visit([&](const auto& model) { open(model, parallel); }, any);
    }
  }

  int64_t ntypes() const override { return ntypes_; }
  int64_t nmodels() const override { return static_cast<int64_t>(models_.size()); }
  int64_t threads() const override { return device_.threads(); }

  void evaluate(const Frames& frames, const Results& results) override {
    const int64_t nframes = frames.nframes, natoms = nframes * frames.natoms;
    Scratch scratch(device_);
    typename Device::Run& run = scratch.run;
    if (frames.weights == nullptr) scratch.ones.assign(natoms, 1.0);
    scratch.list =
        find_real_atoms({nframes, frames.natoms, ntypes_, frames.positions, frames.types,
                         frames.weights == nullptr ? scratch.ones.data() : frames.weights});
    const RealAtomList& list = scratch.list;
    scratch.type_first.clear();
    for (int64_t t = 0; t <= ntypes_; ++t) {
      scratch.type_first.push_back(list.first[t * nframes]);
    }
    const int64_t size = static_cast<int64_t>(list.slot.size());
    const FoundAtoms found = {{nframes, ntypes_, size, run.upload(list.slot.data(), size),
                               run.upload(list.weight.data(), size), list.first.data()},
                              run.upload(frames.positions, 3 * natoms),
                              scratch.type_first.data(),
                              list.min_distance};
    for (int64_t k = 0; k < nmodels(); ++k) {
      // What is not wanted, but needed on the way, is put nowhere.
      const auto output = [&](double* host, int64_t of_model, bool is_needed) {
        if (host != nullptr) return run.output(host + k * of_model, of_model);
        return is_needed ? run.output(nullptr, of_model) : nullptr;
      };
      const bool wants_virial = results.virial != nullptr || results.atom_virial != nullptr;
      const Energies energies = {output(results.energy, nframes, true),
                                 output(results.energies, natoms, true)};
      const Forces forces = {output(results.forces, 3 * natoms, wants_virial),
                             output(results.virial, 9 * nframes, wants_virial),
                             output(results.atom_virial, 9 * natoms, wants_virial)};
      models_[k]->evaluate(found, energies, forces, run);
    }
    run.finish();
  }

 private:
  struct Scratch {
    explicit Scratch(Device& device) : run(device) {}
    typename Device::Run run;
    RealAtomList list;
    std::vector<double> ones;
    std::vector<int64_t> type_first;
  };

  template <typename T>
  void open(const std::shared_ptr<const Model<T>>& model, const Parallel& parallel) {
    model->check();
    if (models_.empty()) ntypes_ = model->ntypes();
    if (model->ntypes() != ntypes_) {
      throw std::invalid_argument("the models of a committee must have the same types, not " +
                                  std::to_string(ntypes_) + " and " +
                                  std::to_string(model->ntypes()));
    }
    models_.push_back(std::make_unique<OpenedModelOf<T, Device>>(model, device_, parallel));
  }

  Device device_;
  int64_t ntypes_ = 0;
  std::vector<std::unique_ptr<OpenedModel<typename Device::Run>>> models_;
};

}  // namespace dpmask
