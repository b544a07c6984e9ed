#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Print the folders that `make clean` keeps, because other checkouts and sandboxes use them, and how to delete them.
set -euo pipefail
caches=${XDG_CACHE_HOME:-$HOME/.cache}

kept() { # CONTENTS FOLDER...
  local contents=$1 folder size
  shift
  for folder in "$@"; do
    if [ -d "$folder" ]; then
      size=$(du -sh "$folder" 2>/dev/null | cut -f1) || size="a folder that cannot be read completely"
      printf 'Kept %s in %s (%s). To delete it: rm -rf %q\n' "$size" "$folder" "$contents" "$folder"
    fi
  done
}

kept "servers and image environments of all sandboxes" "${GCP_SANDBOX_CACHE:-$caches/gcp-sandbox}"
kept "downloaded Python packages, shared with other projects" "${UV_CACHE_DIR:-$caches/uv}"
kept "environments of ansible-test, shared by all checkouts" "$caches/mlplatform-gcp"
# Only a sandbox that root started needs copies that another user can run.
kept "copies of database servers for all sandboxes of root" /var/lib/gcp-sandbox/{postgres,mariadb}-*
