#!/usr/bin/env bash
# Packs what was built into one folder that runs wherever it is unpacked: programs, the object, libtorch's five libraries
# for the CPU, and the embedded model. `make dist` and the Dockerfile call it.
#
#   scripts/dist.sh PROGRAMS OUTPUT            PROGRAMS is cargo's folder of programs, OUTPUT the folder for the archive
#   scripts/dist.sh PROGRAMS OUTPUT --folder   the folder without the archive
#
# DIST_LEVEL is zstd's level, 1 to 19. Default: 19, which takes minutes.
set -euo pipefail
programs=$1
output=$2
only_folder=${3:-}
level=${DIST_LEVEL:-19}

fail() { echo "dist: $*" >&2; exit 1; }

case $only_folder in '' | --folder) ;; *) fail "\`$only_folder\` is unknown; expected \`--folder\`" ;; esac
[ -n "$only_folder" ] || command -v zstd >/dev/null || fail "\`zstd\` is not found; install it: sudo apt install zstd"
version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
name=dgx-pixels-$version-$(uname -m)-linux
root=$output/$name
torch=$(realpath .torch)
packages=$(dirname "$torch")

rm -rf "$root"
mkdir -p "$root"/{bin,lib,include,share/dgx-pixels/models,share/doc/dgx-pixels}
install -s -m 755 "$programs"/{dgx-pixels,dgx-pixels-mcp} "$root/bin"
install -s -m 755 "$programs/libdgx_pixels_torch.so" "$root/lib"
install -m 644 dgx-pixels-torch/include/dgx_pixels_torch.h "$root/include"
for library in libc10.so libtorch_cpu.so libgomp.so.1 libcudart.so.13 libcupti.so.13; do
    found=$(find "$torch/lib" "$packages"/nvidia/*/lib -name "$library" -print -quit 2>/dev/null)
    [ -n "$found" ] || fail "\`$library\` is not found in \`$torch/lib\` or beside it; \`make setup\` installs it"
    install -m 755 "$found" "$root/lib"
done
# A fifth of libtorch is names of symbols that nothing is linked by.
strip --strip-unneeded "$root/lib/libtorch_cpu.so"
# The program reads libtorch's version here.
sed -n "s/^__version__ = '\([^']*\)'/\1/p" "$torch/version.py" >"$root/build-version"
cp -r models/sprite-xl "$root/share/dgx-pixels/models"
cp README.md LICENSE-MIT LICENSE-APACHE "$root/share/doc/dgx-pixels"
# The terms of what is not ours.
for package in torch-* nvidia_cuda_runtime-* nvidia_cuda_cupti-*; do
    for terms in "$packages"/$package.dist-info/{,licenses/}{LICENSE,NOTICE,License.txt}; do
        [ ! -f "$terms" ] || install -D -m 644 "$terms" "$root/share/doc/dgx-pixels/$package/$(basename "$terms")"
    done
done

for file in "$root"/bin/* "$root"/lib/libdgx_pixels_torch.so; do
    ! readelf -d "$file" | grep -E '(RPATH|RUNPATH)' | grep -vF "[\$ORIGIN" ||
        fail "\`$file\` has a path of this machine in it"
done
if [ -n "$only_folder" ]; then
    echo "$root"
    exit
fi
tar -C "$output" --owner 0 --group 0 --sort name -cf - "$name" | zstd -q -f "-$level" -T0 -o "$root.tar.zst"
echo "$root.tar.zst"
