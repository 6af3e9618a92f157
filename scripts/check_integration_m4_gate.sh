#!/usr/bin/env bash
# The gate of milestone M4, from prompt to play: the MCP server and the example game, both real, and a real MCP client that
# draws, deploys and looks. A line for each criterion says what was measured; the exit status is 1 if one is missed.
#
#   make gate-m4
#   scripts/check_integration_m4_gate.sh [--json] [--release] [--keep DIR]
#
# `--json` prints a status report instead, and `--keep` leaves screenshots, logs and the game's project in DIR. `--release` takes an
# optimised game, which builds for half an hour on two cores, and holds it to the project's aims. The gate builds what it runs,
# takes no GPU, and changes nothing in the checkout but build output and `.venv`.
set -euo pipefail

cd "$(dirname "$0")/.."

say() { echo "gate: $*" >&2; }
fail() { say "$*"; exit 1; }

case " $* " in
*" -h "* | *" --help "*)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
    exit
    ;;
esac

# 1. what draws: any Vulkan, in software if there is no GPU
has_vulkan() {
    local folder
    for folder in /usr/share/vulkan /etc/vulkan /usr/local/share/vulkan; do
        ! compgen -G "$folder/icd.d/*.json" >/dev/null || return 0
    done
    [ -n "${VK_ICD_FILENAMES:-}${VK_DRIVER_FILES:-}" ]
}
if ! has_vulkan; then
    packages="mesa-vulkan-drivers libvulkan1"
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        fail "found no Vulkan driver; install one that draws in software: sudo apt install $packages"
    fi
    say "installing $packages"
    # shellcheck disable=SC2086
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $packages; } >&2
fi

# 2. the programs, and the client
game=
case " $* " in *" --release "*) game=--release ;; esac
make gate-programs GAME_PROFILE=$game >&2

# 3. what cargo built, where cargo says
built=$(cargo metadata --format-version 1 --no-deps --locked --offline |
    .venv/bin/python -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
exec .venv/bin/python scripts/m4_gate.py "$built" "$@"
