#!/usr/bin/env bash
# Runs the linters of everything that is not Rust source: workflows, scripts, Dockerfiles, Python,
# spelling, dependencies and the files of this folder. It prints one line for each, and ends with 1
# if any of them has a finding.
#
#   make check-delivery                all of them
#   tools/delivery/check.sh NAME...    only these, for example `typos zizmor`
#
# `make setup-delivery` has installed the linters into `.venv`.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PWD/.venv/bin:$PATH

readonly all="zizmor actionlint schemas timeouts yamllint shellcheck hadolint typos ruff deny shear versions packages prose"
mapfile -t workflows < <(git ls-files '.github/workflows/*.yml')
mapfile -t yaml < <(git ls-files '*.yml' '*.yaml' .yamllint)
mapfile -t scripts < <(git ls-files '*.sh' .ci/run tools/delivery/act/bin)
mapfile -t dockerfiles < <(git ls-files Dockerfile '*.Dockerfile')

schema() { check-jsonschema --builtin-schema "vendor.github-$1" "${@:2}"; }

run() {
    case $1 in
        zizmor) zizmor --offline --quiet --persona pedantic --format plain .github ;;
        actionlint) jactionlint --no-online --strict-exit ;;
        # No `set -e` here: `if` below switches it off.
        schemas)
            schema workflows "${workflows[@]}" &&
                schema issue-forms .github/ISSUE_TEMPLATE/[!c]*.yml &&
                schema issue-config .github/ISSUE_TEMPLATE/config.yml &&
                schema actions tools/delivery/act/*/action.yml &&
                check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml &&
                check-jsonschema --builtin-schema vendor.compose-spec compose*.yaml
            ;;
        timeouts) check-jsonschema --builtin-schema custom.github-workflows-require-timeout "${workflows[@]}" ;;
        yamllint) yamllint --strict "${yaml[@]}" ;;
        shellcheck) shellcheck "${scripts[@]}" ;;
        hadolint) hadolint "${dockerfiles[@]}" ;;
        typos) typos --format brief ;;
        ruff) ruff check --quiet . ;;
        deny) cargo deny --locked --log-level error check bans licenses sources ;;
        shear) cargo shear --locked --deny-warnings ;;
        versions) python3 tools/delivery/release.py check ;;
        packages) python3 tools/delivery/release.py packages ;;
        prose) python3 tools/delivery/prose.py check ;;
        *) echo "\`$1\` is unknown; expected one of: $all" && return 2 ;;
    esac
}

# shellcheck disable=SC2086
[ $# != 0 ] || set -- $all
failed=0
for name in "$@"; do
    if output=$(run "$name" 2>&1); then
        echo "ok      $name"
    else
        failed=$((failed + 1))
        echo "failed  $name"
        echo "${output//$'\n'/$'\n'        }" | sed '1s/^/        /'
    fi
done
[ $failed = 0 ]
