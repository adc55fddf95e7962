#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-3.0-or-later
# Steps 1 to 4, which make data/: sample with the force field, label and train; then sample with the
# correction that comes out, and label that, too. Goes on where it stopped.
set -eu
cd "$(dirname "$0")"
python sample.py
python label.py && ./pack.sh
[ -e build/round1/model.pb ] || ./train.sh build/round1
python sample.py --model build/round1/model.pb --name round1 --trajectories 16
python label.py && ./pack.sh
