#!/usr/bin/env bash
# Builds an image of docker-bake.hcl for the architecture of this machine, and publishes it.
#
#   tools/delivery/image.sh build IMAGE    builds it and keeps nothing
#   tools/delivery/image.sh push IMAGE     builds it, pushes it by digest, and writes the digest to dist/digests/IMAGE
#   tools/delivery/image.sh merge IMAGE    joins the digests of dist/digests/IMAGE under the names of docker-bake.hcl
#
# IMAGE is `tools`, `cpu` or `cuda`. REGISTRY and VERSION replace those of docker-bake.hcl. `merge` writes the digest of the
# joined image to GITHUB_OUTPUT, where an attestation finds it.
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() { echo "image: $*" >&2; exit 1; }

[ $# = 2 ] || fail "expected \`build\`, \`push\` or \`merge\`, and an image"
action=$1 image=$2
digests=dist/digests/$image
REVISION=${REVISION:-$(git rev-parse HEAD)}
export REVISION

case $(uname -m) in
    x86_64) platform=linux/amd64 ;;
    aarch64) platform=linux/arm64 ;;
    *) fail "\`$(uname -m)\` has no image; expected \`x86_64\` or \`aarch64\`" ;;
esac
mapfile -t tags < <(docker buildx bake --print "$image" 2>/dev/null | python3 -c '
import json, sys
for tag in json.load(sys.stdin)["target"][sys.argv[1]]["tags"]:
    print(tag)' "$image")
[ ${#tags[@]} != 0 ] || fail "docker-bake.hcl has no image \`$image\`, or \`docker buildx\` is missing"
name=${tags[0]%:*}

case $action in
    build) docker buildx bake "$image" --set "$image.platform=$platform" --set "$image.output=type=cacheonly" ;;
    push)
        mkdir -p "$digests"
        docker buildx bake "$image" --set "$image.platform=$platform" --set "$image.tags=$name" --metadata-file dist/metadata.json \
            --set "$image.output=type=image,push-by-digest=true,name-canonical=true,push=true"
        digest=$(python3 -c '
import json, sys
print(json.load(open(sys.argv[1]))[sys.argv[2]]["containerimage.digest"])' dist/metadata.json "$image")
        touch "$digests/${digest#sha256:}"
        ;;
    merge)
        sources=()
        for digest in "$digests"/*; do sources+=("$name@sha256:${digest##*/}"); done
        [ ${#sources[@]} = 2 ] || fail "\`$digests\` has ${#sources[@]} digests; expected 2, one for each architecture"
        docker buildx imagetools create "${tags[@]/#/--tag=}" "${sources[@]}"
        digest=$(docker buildx imagetools inspect "${tags[0]}" --format '{{json .Manifest}}' |
            python3 -c 'import json, sys; print(json.load(sys.stdin)["digest"])')
        echo "${tags[*]}: $digest"
        echo "digest=$digest" >>"${GITHUB_OUTPUT:-/dev/null}"
        ;;
    *) fail "\`$action\` is unknown; expected \`build\`, \`push\` or \`merge\`" ;;
esac
