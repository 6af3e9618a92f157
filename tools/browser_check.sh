#!/usr/bin/env bash
# Proves in headless Chromium that a web page of an allowed origin can use the MCP server over HTTP, and that no other can.
#
#   tools/browser_check.sh URL TOKEN
#
# The server at URL must have been started with TOKEN and `--allow-origin http://game.example:PORT`, where PORT is the one
# that `PAGE_PORT` names (default: 8979). Names of the pages lead to this machine in the browser alone.
set -euo pipefail

cd "$(dirname "$0")/.."
readonly url=$1 token=$2 port=${PAGE_PORT:-8979}

fail() { echo "browser check: $*" >&2; exit 1; }

if ! command -v chromium >/dev/null; then
    [ "$(id -u)" = 0 ] || fail "found no \`chromium\`; install it: sudo apt install chromium"
    echo "browser check: installing chromium" >&2
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
fi
command -v node >/dev/null || fail "found no \`node\`; \`make conformance\` installs it"

work=$(mktemp -d)
# Chromium's own processes may write for a moment after its end.
trap 'rm -rf "$work" 2>/dev/null || { sleep 1; rm -rf "$work"; }' EXIT
URL=$url TOKEN=$token PAGE_PORT=$port PROFILE=$work node dgx-pixels-mcp/tests/browser.mjs
