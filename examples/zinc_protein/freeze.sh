#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-3.0-or-later
# Step 6: freeze what has been trained in the folder given, or in run/.
set -eu
cd "${1:-$(dirname "$0")/run}"
dp freeze -o model.pb
