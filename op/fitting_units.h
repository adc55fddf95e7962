// SPDX-License-Identifier: LGPL-3.0-or-later
// One layer of a fitting net on the atoms of its type, built once for each instruction set. With h
// the layer's input, a row for each atom,
//   z = h W + b,  output = phi(z) * timestep + skip(h),
// where skip(h) is h or nothing. dv is the derivative of a value v along dD, gv that of the loss by
// v. All arrays have as many rows as the type has atoms, one after the other.
#pragma once

#include "kernels.h"

namespace dpmask {

template <typename T>
struct FittingLayer {
  int64_t in, out;
  const T* W;         // [in, out]
  const T* b;         // [out]
  const T* timestep;  // [out] or nullptr
  bool has_skip;
  Activation activation;
  double threshold;
};

// Rows or columns first to first + count of an array.
struct Range {
  int64_t first, count;
};

// gz and gdz are read packet by packet: their rows are this many numbers apart.
// Static because several instruction sets compile it, whose copies the linker must not merge.
static inline int64_t padded_width(int64_t width) { return (width + 15) / 16 * 16; }

template <typename T>
struct FittingUnits {
  // z and output from h: some rows and columns.
  void (*forward)(const FittingLayer<T>&, Range rows, Range columns, const T* h, T* z, T* output);
  // output anew from z, and dz and doutput from dh: some rows and columns.
  void (*tangent)(const FittingLayer<T>&, Range rows, Range columns, const T* h, const T* dh,
                  const T* z, T* output, T* dz, T* doutput);
  // gz from goutput: some rows and columns.
  void (*reverse_activation)(const FittingLayer<T>&, Range rows, Range columns, const T* z,
                             const T* goutput, T* gz);
  // gh from gz and goutput: some rows and inputs.
  void (*reverse)(const FittingLayer<T>&, Range rows, Range inputs, const T* gz, const T* goutput,
                  T* gh);
  // gz, gdz and the gradients of bias and timestep from goutput and gdoutput: some columns.
  void (*grad_activation)(const FittingLayer<T>&, int64_t nrows, Range columns, const T* z,
                          const T* dz, const T* goutput, const T* gdoutput, T* gz, T* gdz, T* gb,
                          T* gtimestep);
  // The rows of the gradient of W that belong to some inputs.
  void (*grad_matrix)(const FittingLayer<T>&, int64_t nrows, Range inputs, const T* h, const T* dh,
                      const T* gz, const T* gdz, T* gW);
};

template <typename T>
FittingUnits<T> fitting_units_baseline();
template <typename T>
FittingUnits<T> fitting_units_avx2();
template <typename T>
FittingUnits<T> fitting_units_avx512();

}  // namespace dpmask
