// SPDX-License-Identifier: LGPL-3.0-or-later
#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

#include <exception>

namespace dpmask {

// Calls work() without Python's lock, so that other threads of Python go on meanwhile.
template <typename Work>
void without_lock(Work&& work) {
  PyThreadState* state = PyEval_SaveThread();
  std::exception_ptr thrown;
  try {
    work();
  } catch (...) {
    thrown = std::current_exception();
  }
  try {
    PyEval_RestoreThread(state);
  } catch (...) {
    // Python has ended, and unwinds the threads that want its lock. Its objects must be let be
    // from now on, so nothing is unwound: the process takes this thread with it.
    for (;;) pause();
  }
  if (thrown) std::rethrow_exception(thrown);
}

}  // namespace dpmask
