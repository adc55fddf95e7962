// SPDX-License-Identifier: LGPL-3.0-or-later
// The memory of the emulated GPU, see op/tensorflow/emulated_gpu.cc, which the host can neither
// read nor write but while there is a DeviceAccess. The bindings, which work on NumPy's arrays, do
// without that file: open_device is not defined there, and a DeviceAccess does nothing.
#pragma once

namespace dpmask::cuda {

enum class Access { kernel, to_host, to_device, within, fill };  // copies, but the first and last

// Opens the memory, counting what for, and closes it. It stays open until closed as often as
// opened; other threads wait for that.
__attribute__((weak, visibility("default"))) void open_device(Access why);
__attribute__((weak, visibility("default"))) void close_device();

class DeviceAccess {
 public:
  explicit DeviceAccess(Access why) {
    if (open_device != nullptr) open_device(why);
  }
  ~DeviceAccess() {
    if (close_device != nullptr) close_device();
  }
  DeviceAccess(const DeviceAccess&) = delete;
};

}  // namespace dpmask::cuda
