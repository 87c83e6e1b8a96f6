#!/usr/bin/env bash
# Pre-trains Barlow Twins and Mixed Barlow Twins on real digits and sets them side by side.
# Leaves a table and a picture in quickstart/. Everything stays inside this folder.
source "$(dirname "$0")/environment.sh"
start=$SECONDS
make_environment .venv ".[demo]"
made=$SECONDS
.venv/bin/mixbt-doctor
rm -rf quickstart
.venv/bin/mixbt-compare --config-name mnist5k "$@"
echo "$((made - start)) s to make the environment, $((SECONDS - made)) s to train and evaluate"
