#!/usr/bin/env bash
# Compares the public interface of the libraries with that of the last release, by
# cargo-semver-checks. A change that breaks callers fails, unless the version allows it.
#
#   tools/delivery/semver.sh             since the last release
#   tools/delivery/semver.sh REVISION    since this commit
#
# The baseline is the newest tag `vX.Y.Z` that this commit contains, so the checkout must have its
# history. Before the first release there is none, and the script says that nothing was compared.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ $# != 0 ]; then
    baseline=$1
elif ! baseline=$(git describe --tags --abbrev=0 --match 'v[0-9]*' 2>/dev/null); then
    echo "semver: no tag \`v*\` is in the history of this commit, so nothing was compared"
    exit
fi
command -v cargo-semver-checks >/dev/null || {
    echo "semver: found no \`cargo-semver-checks\`; install it: cargo install --locked cargo-semver-checks@0.51.0" >&2
    exit 1
}
echo "semver: comparing with $baseline"
# The crates that others depend on, with the features that need neither libtorch nor Bevy. Both are
# compared, whatever the first has.
failed=0
cargo semver-checks --package dgx-pixels-core --only-explicit-features \
    --features deploy,fields,monitor,telemetry --baseline-rev "$baseline" || failed=1
cargo semver-checks --package dgx-pixels-manifest --baseline-rev "$baseline" || failed=1
exit $failed
