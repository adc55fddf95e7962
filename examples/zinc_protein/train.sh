#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-3.0-or-later
# Step 5: train in the folder given, or in run/. What follows the folder goes to dp train.
set -eu
example=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:=$example/run}" && cd "$1"
[ -e input.json ] || cp "$example/input.json" .
ln -sfn "$example/data" data
dp train input.json "${@:2}"
