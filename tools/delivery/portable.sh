#!/usr/bin/env bash
# Runs `make` in the image that the Dockerfile builds with, so that what is built runs on every Linux with glibc 2.36, Debian 12
# and newer. What it writes into `dist` stays on this machine.
#
#   tools/delivery/portable.sh TARGET...    for example `dist wheel`
set -euo pipefail
cd "$(dirname "$0")/../.."

mkdir -p dist
docker build --target source --tag dgx-pixels-source .
docker run --rm --volume "$PWD/dist:/src/dist" dgx-pixels-source make "$@"
