#!/usr/bin/env bash
# Holds the MCP server against the protocol: every scenario of the conformance suite at the revisions 2025-11-25 and 2026-07-28
# (those of the tasks extension too), the Inspector with its schema checks, and a web page in Chromium.
#
#   make conformance
#
# Two servers are asked, which share the transport and its guards: the fixtures of the suite
# (dgx-pixels-mcp/examples/conformance_server), and the program itself where a scenario needs no fixture. Node and the suite go to
# `.mcp-tools`, in the versions of dgx-pixels-mcp/tests/conformance. What was said of each lies in `.mcp-tools/logs`.
set -euo pipefail

cd "$(dirname "$0")/.."
readonly given=dgx-pixels-mcp/tests/conformance tools=$PWD/.mcp-tools
readonly logs=$tools/logs
failed=0 servers=()

say() { echo "conformance: $*" >&2; }
fail() { say "$*"; exit 1; }

work=$(mktemp -d)
trap 'kill "${servers[@]}" 2>/dev/null || true; wait; rm -rf "$work"' EXIT

# Runs command $2..., whose output goes to the log $1 and must end well.
check() {
    local name=$1
    shift
    if ! "$@" >"$logs/$name.log" 2>&1; then
        failed=$((failed + 1))
        say "failed: $name, see .mcp-tools/logs/$name.log"
    fi
}

suite() {
    node "$tools/node_modules/@modelcontextprotocol/conformance/dist/index.js" server --output-dir "$work/results" "$@"
}

# Starts command $2... and sets `url` to what it says to listen on; its output goes to the log $1.
start() {
    local log=$logs/$1.log
    shift
    # The child opens it, perhaps after this shell reads it.
    : >"$log"
    "$@" >"$log" 2>&1 &
    servers+=($!)
    for _ in $(seq 100); do
        url=$(sed -n 's|.*\(http://127[^ ]*/mcp\).*|\1|p' "$log")
        [ -z "$url" ] || return 0
        sleep 0.1
    done
    fail "$1 does not listen, see ${log#"$PWD/"}"
}

# 1. what it takes
command -v npm >/dev/null || fail "found no \`npm\`; install it: sudo apt install npm"
mkdir -p "$tools"
if ! cmp --silent "$given/package-lock.json" "$tools/installed"; then
    say "installing Node 22, the conformance suite and the Inspector into .mcp-tools"
    cp "$given/package.json" "$given/package-lock.json" "$given/.npmrc" "$tools"
    (cd "$tools" && npm ci --no-audit --no-fund --loglevel error)
    cp "$given/package-lock.json" "$tools/installed"
fi
rm -rf "$logs"
mkdir "$logs"
for node in "$tools"/node_modules/node-linux-*/bin; do PATH=$node:$PATH; done
export PATH=$tools/node_modules/.bin:$PATH
cargo build --release --locked --package dgx-pixels --package dgx-pixels-core \
    --package dgx-pixels-manifest --package dgx-pixels-mcp --bin dgx-pixels-mcp --example conformance_server
built=$(cargo metadata --format-version 1 --no-deps --offline | node -p 'JSON.parse(fs.readFileSync(0)).target_directory')/release

# 2. the fixtures, in every scenario; its exit status leaves out those that a revision does not count
start fixtures "$built/examples/conformance_server" 127.0.0.1:0
for revision in 2025-11-25 2026-07-28; do
    check "fixtures-$revision" suite --url "$url" --requirements $revision
    total=$(grep '^Total: ' "$logs/fixtures-$revision.log" || echo "no total")
    echo "fixtures, $revision: ${total#Total: }"
    case $total in
    *" passed, 0 failed") ;;
    *) failed=$((failed + 1)) ;;
    esac
done

# 3. the program, in what needs no fixture
start program "$built/dgx-pixels-mcp" http --model sketch --library "$work/library" --bind 127.0.0.1:0
scenario() { check "program-$1-$2" suite --url "$url" --spec-version "$1" --scenario "$2"; }
readonly of_2025="server-initialize ping completion-complete tools-list resources-list prompts-list
    server-sse-multiple-streams dns-rebinding-protection server-session-lifecycle server-sse-polling"
readonly of_2026="completion-complete tools-list resources-list prompts-list caching dns-rebinding-protection
    http-header-validation sep-2164-resource-not-found input-required-result-missing-input-response
    input-required-result-unsupported-methods input-required-result-ignore-extra-params
    input-required-result-validate-input"
for name in $of_2025; do scenario 2025-11-25 "$name"; done
for name in $of_2026; do scenario 2026-07-28 "$name"; done
echo "program: $(echo "$of_2025 $of_2026" | wc -w) scenarios"

# 4. the Inspector: its report, on standard error, must be empty
inspect() { mcp-inspector --cli "$url" --transport http --protocol-era "$1" --method tools/list --strict --format json; }
for era in legacy modern; do
    check "inspector-$era" eval "report=\$(inspect $era 2>&1 >/dev/null) && echo \"\$report\" && [ -z \"\$report\" ]"
done

# 5. a web page in Chromium
token=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')
export PAGE_PORT=8979
DGX_PIXELS_MCP_TOKEN=$token start guarded "$built/dgx-pixels-mcp" http --model sketch --library "$work/guarded" \
    --bind 127.0.0.1:0 --allow-origin "http://game.example:$PAGE_PORT"
check browser tools/browser_check.sh "$url" "$token"
grep '^browser' "$logs/browser.log" || true

[ $failed = 0 ] || fail "$failed failed"
say "all passed"
