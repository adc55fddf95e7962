// SPDX-License-Identifier: LGPL-3.0-or-later
// One layer of a fitting net on the atoms of its type, built once for each instruction set. With h
// the layer's input, a row for each atom,
//   z = h W + b,  output = phi(z) * timestep + skip(h),
// where skip(h) is h or nothing. dv is the derivative of a value v along dD, gv that of the loss by
// v. All arrays have as many rows as the type has atoms, one after the other.
#pragma once

#include <cstdint>

#include "op/kernels/fitting.h"

namespace dpmask {

template <typename T>
struct FittingLayer {
  int64_t in, out;
  const T* W;               // [in, out]
  const float* in_float32;  // W, where it is read so; or nullptr
  const T* b;               // [out]
  const T* timestep;        // [out] or nullptr
  bool has_skip;
  Activation activation;
  double threshold;
};

// Rows or columns first to first + count of an array.
struct Range {
  int64_t first, count;
};

// The values of a layer that the gradient goes through.
template <typename T>
struct LayerValues {
  const T *h, *dh;  // [rows, in]
  const T* z;       // [rows, out], as all that follow
  T *dz, *output, *doutput;
  const T *goutput, *gdoutput;
  T *gz, *gdz;
};

// A net, hidden layers and the last one, on some rows.
template <typename T>
struct FittingNetOnRows {
  const FittingLayer<T>* layers;  // [nhidden + 1]
  int64_t nhidden, nrows;
};

// z of all atoms, hidden layer after hidden layer, and the first row of some.
template <typename T>
struct RowsOfZ {
  T* z;  // [size, width] for each layer
  int64_t size, first;
};

// A width as scratch has it: there, arrays of any number of rows begin where vectors do.
static inline int64_t padded(int64_t width) { return (width + 15) / 16 * 16; }

template <typename T>
struct FittingUnits {
  // A whole net on some atoms, whose rows D, e and A point to: z, e and A. For each row there is
  // scratch of twice the padded widths of all hidden layers and twice the largest.
  void (*energies)(const FittingNetOnRows<T>&, const T* D, const RowsOfZ<T>&, T* e, T* A,
                   T* scratch);
  // output anew from z, and dz and doutput from dh: some rows and columns.
  void (*tangent)(const FittingLayer<T>&, Range rows, Range columns, const LayerValues<T>&);
  // gh from gz and goutput: some rows and inputs.
  void (*reverse)(const FittingLayer<T>&, Range rows, Range inputs, const T* gz, const T* goutput,
                  T* gh);
  // gz, gdz and the gradients of bias and timestep from goutput and gdoutput: some columns.
  void (*grad_activation)(const FittingLayer<T>&, int64_t nrows, Range columns,
                          const LayerValues<T>&, T* gb, T* gtimestep);
  // The rows of the gradient of W that belong to some inputs.
  void (*grad_matrix)(const FittingLayer<T>&, int64_t nrows, Range inputs, const LayerValues<T>&,
                      T* gW);
};

template <typename T>
FittingUnits<T> fitting_units_baseline();
template <typename T>
FittingUnits<T> fitting_units_avx2();
template <typename T>
FittingUnits<T> fitting_units_avx512();

}  // namespace dpmask
