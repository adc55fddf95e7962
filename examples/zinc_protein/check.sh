#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-3.0-or-later
# Step 4: look for what would go wrong in training.
set -eu
cd "$(dirname "$0")"
dp-mask check --input input.json data/test
