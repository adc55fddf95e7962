#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-3.0-or-later
# Step 3: pack the labelled frames into the masked systems data/train, data/validation, data/test.
# They have the slots that `sel` of input.json allows, so that the built-in takes them, too.
set -eu
cd "$(dirname "$0")"
for subset in test train validation; do
  find build/labelled -name "${subset}_*.xyz" -size +0 | sort | xargs \
    dp-mask pack --output "data/$subset" --overwrite --precision float32 \
    --type-map C,O,N,H,S,ZN --sel 36,20,16,68,4,1 --preference within:2.8:ZN
done
