#!/usr/bin/env bash
# Makes the files that compose.yaml takes as secrets, in deploy/secrets or the folder $SECRETS. What is there already is left.
#
#   tools/compose_secrets.sh [PAGES_URL TICKETS_URL WATCHDOG_URL]
#
# The URLs are those of webhooks. Without them alerts go nowhere: they are then to be seen in Alertmanager alone.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${SECRETS:-deploy/secrets}
# The users of the containers read the files; the folder keeps everybody else of this machine out.
mkdir -p "$folder"
chmod 700 "$folder"

keep() {
    [ -e "$folder/$1" ] || printf '%s\n' "$2" >"$folder/$1"
    chmod 644 "$folder/$1"
}

random() { od -An -N 32 -tx1 /dev/urandom | tr -d ' \n'; }

nowhere=http://127.0.0.1:9/
keep dgx_pixels_token "$(random)"
keep grafana_password "$(random)"
keep pages_url "${1:-$nowhere}"
keep tickets_url "${2:-$nowhere}"
keep watchdog_url "${3:-$nowhere}"
echo "the secrets are in $folder; clients show $folder/dgx_pixels_token as their bearer token"
