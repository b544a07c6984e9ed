#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Print the caches that `make clean` keeps, because other checkouts and sandboxes use them, and how to delete them.
set -euo pipefail
caches=${XDG_CACHE_HOME:-$HOME/.cache}

kept() { # FOLDER CONTENTS
  if [ -d "$1" ]; then
    echo "Kept $(du -sh "$1" 2>/dev/null | cut -f1) in $1 ($2). To delete it: rm -rf $1"
  fi
}

kept "${GCP_SANDBOX_CACHE:-$caches/gcp-sandbox}" "servers and image environments of all sandboxes"
kept "${UV_CACHE_DIR:-$caches/uv}" "downloaded Python packages, shared with other projects"
kept "$caches/mlplatform-gcp" "environments of ansible-test, shared by all checkouts"
