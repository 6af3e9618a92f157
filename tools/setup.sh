#!/usr/bin/env bash
# Finds or installs torch 2.11.0 and links it as `.torch`, where cargo looks for libtorch. `make` calls it.
#
#   tools/setup.sh build     all that building and running the programs takes
#   tools/setup.sh test      the same, and in `.venv` a Python with torch and diffusers, for the live parity test, and
#                            NVIDIA's compiler, which a test compiles the kernels with
#   tools/setup.sh python    as build, and in `.venv` a Python with all that building and testing the package takes
#   tools/setup.sh gate      as build, and in `.venv` a Python with an MCP client, for the gate of M4
#   tools/setup.sh delivery  only the linters of `make check-delivery`, in `.venv`; takes no torch and no C++ compiler
#   tools/setup.sh book      only what builds and checks the book, in `.venv`; takes no torch and no C++ compiler
#
# Taken in this order: $LIBTORCH, the torch of `python3` (an active virtual environment's), one in `.venv`, which is
# made. Others are passed over with a line that says why. Nothing outside the checkout is changed. A set-up that was
# interrupted is begun again.
set -euo pipefail

readonly torch_version=2.11.0
mode=${1:-build}
cd "$(dirname "$0")/.."
root=$PWD
exec 9<tools/setup.sh
flock 9 # two at a time would install into each other

say() { echo "setup: $*" >&2; }
fail() { say "$*"; exit 1; }

# The version of the torch package or libtorch in folder $1; nothing if it is neither.
version_in() {
    [ -e "$1/lib/libtorch_cpu.so" ] || return 0
    if [ -e "$1/version.py" ]; then
        sed -n "s/^__version__ = '\([0-9.]*\).*/\1/p" "$1/version.py"
    elif [ -e "$1/build-version" ]; then
        sed 's/+.*//' "$1/build-version"
    fi
}

has_gpu() { [ -e /dev/nvidia0 ] || [ -e /proc/driver/nvidia/version ] || command -v nvidia-smi >/dev/null; }

# Whether command $1 is a Python that torch has wheels for; $2 is the oldest minor version that will do.
is_python() { "$1" -c "import sys; sys.exit(not (3, $2) <= sys.version_info < (3, 15))" 2>/dev/null; }

# The first Python there is that is no older than 3.$1.
find_python() {
    local python
    for python in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
        if is_python "$python" "$1"; then
            echo "$python"
            return
        fi
    done
}

# An empty `.venv`, or the one there is if it works and was not interrupted.
make_venv() {
    local python
    if [ -e .venv/installing ]; then
        say "an earlier set-up was interrupted; beginning again"
        rm -rf .venv
    elif ! is_python .venv/bin/python $oldest; then
        rm -rf .venv
    fi
    [ ! -e .venv ] || return 0
    python=$(find_python $oldest)
    [ -n "$python" ] || fail "found no Python from 3.10 to 3.14; install one: sudo apt install python3 python3-venv"
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "\`$python\` lacks the module \`venv\`; install it: sudo apt install python3-venv"
    mkdir .venv
    touch .venv/installing
    "$python" -m venv .venv
    if [ "$python" = python3 ] && [ -n "$outside" ]; then
        # What the active environment has, torch above all, is seen and not installed again.
        echo "$outside" >"$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/outside.pth"
    fi
}

# Has pip install what follows $1 into `.venv`. The stamp $1 is written last.
install() {
    local stamp=.venv/has-$1
    shift
    touch .venv/installing
    .venv/bin/python -m pip install --disable-pip-version-check --no-input --quiet "$@" ||
        fail "pip failed, see above; \`make\` again tries again"
    rm .venv/installing
    touch "$stamp"
}

# Whether the stamp $1 is there and the Python it speaks of works.
has() { [ -e ".venv/has-$1" ] && [ ! -e .venv/installing ] && [ -n "$(version_in "$(venv_torch)")" ]; }

# Installs the requirements in file $2 under a stamp that begins with $1, unless it is done; $3 says
# what they are.
install_all() {
    local stamp
    stamp=$1-$(cksum <"$2" | cut -d ' ' -f 1)
    if [ ! -e ".venv/has-$stamp" ] || [ -e .venv/installing ]; then
        make_venv
        say "installing $3 into .venv"
        install "$stamp" --requirement "$2"
    fi
}

venv_torch() {
    .venv/bin/python -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])' 2>/dev/null ||
        true
}

case $mode in
    build | test | python | gate | delivery | book) ;;
    *) fail "\`$mode\` is unknown; expected \`build\`, \`test\`, \`python\`, \`gate\`, \`delivery\` or \`book\`" ;;
esac
outside=$(python3 -c 'import sysconfig; print(sysconfig.get_path("platlib"))' 2>/dev/null || true)
if [[ $outside == "$root/.venv/"* ]] || [ "$(version_in "$outside/torch")" != $torch_version ]; then
    outside=
fi
oldest=10
if [ "$mode" = delivery ]; then
    install_all delivery tools/delivery/requirements.txt "the linters"
    exit
elif [ "$mode" = book ]; then
    install_all book tools/docs/requirements.txt "mdBook and lychee"
    exit
fi
command -v cargo >/dev/null || fail "found no \`cargo\`; install Rust 1.95 or newer with rustup (https://rustup.rs)"
command -v "${CXX:-c++}" >/dev/null || fail "found no C++ compiler \`${CXX:-c++}\`; install one: sudo apt install g++"

# 1. what is there
test=
if [ "$mode" = test ]; then
    test=1
    if [ -n "$(find_python 11)" ]; then
        oldest=11
    else
        say "diffusers 0.42.1 needs Python 3.11: without it the live parity test is left out"
        mode=build
    fi
fi
torch=
if [ -n "${LIBTORCH:-}" ] && [ "$(realpath -m "$LIBTORCH")" != "$(realpath -m .torch)" ]; then
    found=$(version_in "$LIBTORCH")
    if [ "$found" = $torch_version ]; then
        torch=$(realpath "$LIBTORCH")
    else
        say "passing over LIBTORCH=$LIBTORCH: it holds ${found:-no libtorch}; expected $torch_version"
    fi
fi
torch=${torch:-${outside:+$outside/torch}}

# 2. what is missing, into .venv
tests=tests-$(cksum <tests/requirements.txt | cut -d ' ' -f 1)
if [ "$mode" = test ]; then
    if ! has "$tests"; then
        make_venv
        say "installing torch, diffusers and transformers into .venv (with all of CUDA 2 GB to download, 4.5 GB on disk)"
        install "$tests" --requirement tests/requirements.txt
    fi
elif [ -z "$torch" ] && ! has "$tests" && ! has torch; then
    if ! has_gpu && ! has libtorch; then
        make_venv
        say "installing libtorch $torch_version into .venv, without the CUDA libraries that only a GPU needs"
        install libtorch --no-deps "torch==$torch_version" 'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-cupti==13.0.*'
    fi
    if has_gpu || ldd "$(venv_torch)/lib/libtorch_cpu.so" | grep 'not found' >&2; then
        make_venv
        say "installing torch $torch_version into .venv (2 GB to download)"
        install torch "torch==$torch_version"
    fi
fi
if [ "$mode" = gate ]; then
    install_all gate scripts/requirements.txt "an MCP client"
elif [ "$mode" = python ]; then
    install_all python dgx-pixels-py/tests/requirements.txt "what the Python package is built and tested with"
fi

if [ -n "$test" ]; then
    install_all nvrtc tests/nvrtc.txt "NVIDIA's compiler of kernels"
    nvrtc=$(.venv/bin/python -c "
import importlib.metadata as m
print(*(file.locate().parent for file in m.files('nvidia-cuda-nvrtc') if file.name == 'libnvrtc.so.13'))")
    [ -n "$nvrtc" ] || fail "the package nvidia-cuda-nvrtc lacks libnvrtc.so.13; remove .venv and try again"
    ln -sfn "$nvrtc" .venv/nvrtc
fi

# 3. the link
torch=${torch:-$(venv_torch)}
torch=${torch#"$root/"}
if [ "$(readlink .torch || true)" != "$torch" ]; then
    rm -rf .torch
    ln -s "$torch" .torch
    say "libtorch $torch_version is .torch -> $torch"
fi
