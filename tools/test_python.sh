#!/usr/bin/env bash
# Tests the Python package as it was installed into `.venv` by `make python`: format, lints, types,
# tests, examples; and what needs no torch in every other Python of this machine, from 3.10 on.
set -euo pipefail
cd "$(dirname "$0")/../dgx-pixels-py"
python=$PWD/../.venv/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m ruff check .  ../examples/python
"$python" -m ruff format --check . ../examples/python
"$python" -m mypy --strict python/dgx_pixels ../examples/python
"$python" -m mypy.stubtest --concise dgx_pixels._native
"$python" -m pyright --pythonpath "$python"
# Away from the source, so that the installed package is what is tested.
"$python" -m pytest -p no:cacheprovider --rootdir . tests

tested=$("$python" -c 'import sys; print(*sys.version_info[:2], sep=".")')
for version in 3.10 3.11 3.12 3.13 3.14; do
    [ "$version" != "$tested" ] || continue
    other=$(command -v "python$version" || compgen -G "$HOME/.pyenv/versions/$version.*/bin/python" | head -n 1 || true)
    if [ -z "$other" ] || ! "$other" -c 'import venv, ensurepip' 2>/dev/null; then
        echo "python $version: not measured here, as it is not installed"
        continue
    fi
    "$other" -m venv "$work/$version"
    "$work/$version/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps ../dist/python/*.whl
    "$work/$version/bin/python" -m pip install --quiet --disable-pip-version-check numpy pillow pytest
    echo "python $version, without torch:"
    "$work/$version/bin/python" -m pytest -p no:cacheprovider --rootdir . tests --ignore tests/test_ray.py
done
