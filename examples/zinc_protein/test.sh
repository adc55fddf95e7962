#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-3.0-or-later
# Step 7: compare the frozen model in the folder given, or in run/, with the test set.
set -euo pipefail
cd "${1:-$(dirname "$0")/run}"
dp-mask test -m model.pb -s data/test --csv test.csv --plot parity.png --overwrite |
  tee test.txt
