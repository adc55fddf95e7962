#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-3.0-or-later
# Step 4: train in the folder given, or in run/, freeze, compress, and test.
set -euo pipefail
example=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:=$example/run}" && cd "$1"
[ -e input.json ] || cp "$example/input.json" .
[ -e data ] || ln -s "$example/data" data
dp train input.json
dp freeze -o frozen.pb
dp compress -i frozen.pb -o model.pb
dp-mask test -m model.pb -s data/validation --plot parity.png --overwrite | tee test.txt
