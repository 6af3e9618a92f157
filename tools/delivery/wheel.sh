#!/usr/bin/env bash
# Gives a wheel the tag of the oldest Linux that it runs on, and checks what is in it. `make wheel` calls it.
#
#   tools/delivery/wheel.sh WHEEL OUTPUT
#
# libtorch is not copied into the wheel: it computes with the `torch` that is installed beside it.
set -euo pipefail
wheel=$1
output=$2
python=$PWD/.venv/bin/python

fail() { echo "wheel: $*" >&2; exit 1; }

rm -rf "$output"
PATH=$PWD/.venv/bin:$PATH auditwheel repair --plat auto --wheel-dir "$output" --exclude 'libtorch*.so' --exclude 'libc10*.so' \
    --exclude 'libcu*.so*' --exclude 'libgomp*.so*' "$wheel" >&2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m zipfile -e "$output"/*.whl "$work"
for file in dgx_pixels/_native.abi3.so dgx_pixels/libdgx_pixels_torch.so dgx_pixels/py.typed \
    dgx_pixels/models/sprite-xl/model_index.json; do
    [ -e "$work/$file" ] || fail "\`$file\` is not in the wheel"
done
while read -r file; do
    ! readelf -d "$file" | grep -E '(RPATH|RUNPATH)' | grep -vF "[\$ORIGIN" ||
        fail "\`${file#"$work/"}\` has a path of this machine in it"
done < <(find "$work" -name '*.so' -o -path '*/scripts/dgx-pixels')
[ ! -d "$work/dgx_pixels.libs" ] || fail "a library was copied into the wheel: $(ls "$work/dgx_pixels.libs")"

# Without torch: everything but drawing works.
"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check numpy pillow
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "$output"/*.whl
(cd "$work" && "$work/venv/bin/python" -c 'import dgx_pixels; print("dgx_pixels", dgx_pixels.__version__)' &&
    "$work/venv/bin/dgx-pixels" --version)
ls -l "$output"
