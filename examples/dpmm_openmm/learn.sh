#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-3.0-or-later
# Steps 1 to 4 in rounds, which make data/: sample with the force field; then, twice, train on what
# there is, sample with the correction that comes out, and label that. Goes on where it stopped.
set -eu
cd "$(dirname "$0")"
python sample.py
python label.py && ./pack.sh
for round in 1 2; do
  [ -e "build/round$round/model.pb" ] || ./train.sh "build/round$round"
  python sample.py --model "build/round$round/model.pb" --name "round$round" --trajectories 8 \
    --frames $((16 / round)) --interval $((400 / round))
  python label.py && ./pack.sh
done
