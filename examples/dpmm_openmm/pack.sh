#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-3.0-or-later
# Step 3: pack the labelled frames into data/train and data/validation of the folder given, or of this one, and check.
set -eu
example=$(cd "$(dirname "$0")" && pwd)
cd "${1:-$example}"
for subset in train validation; do
  find build/labelled -name "*_${subset}_*.xyz" -size +0 | sort | xargs \
    dp-mask pack --output "data/$subset" --overwrite --precision float32 \
    --type-map C,O,N,H,ZN --sel 17,24,8,64,1 --preference within:2.8:ZN
done
dp-mask check --input "$example/input.json" data/validation
