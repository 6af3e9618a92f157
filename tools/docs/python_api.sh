#!/usr/bin/env bash
# Writes the documentation of the Python package into the folder $1. pydoctor reads the source and
# imports nothing, so the native module need not be built. A warning is a failure.
set -euo pipefail
cd "$(dirname "$0")/../.."

.venv/bin/pydoctor --make-html --html-output="$1" --warnings-as-errors --quiet --docformat=plaintext \
    --project-name=dgx-pixels --project-url=https://dgx-pixels.github.io/dgx-pixels/ \
    --html-viewsource-base=https://github.com/dgx-pixels/dgx-pixels/tree/main \
    --project-base-dir=. dgx-pixels-py/python/dgx_pixels
