#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Create or update the virtual environment: scripts/venv.sh FOLDER REQUIREMENTS
#
# uv installs the packages and compiles their bytecode. Without bytecode, every start of Ansible and of MLflow is slower
# if PYTHONDONTWRITEBYTECODE is set. A link in site-packages makes the checkout the collection mlplatform.gcp for every
# tool in the environment, without configuration.
set -euo pipefail
venv=$1 requirements=$2
python=${PYTHON:-python3}
# Use the certificates of the system, as pip does: a company's proxy may have its own certificate authority.
export UV_SYSTEM_CERTS=true

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "Python 3.11 or later is required; '$python' is $("$python" --version 2>&1). Set another one: make PYTHON=python3.12 ..." >&2
  exit 1
fi
if [ ! -x "$venv/bin/python" ]; then
  echo "==> virtual environment in $venv ($("$python" --version))"
  if ! "$python" -m venv "$venv"; then
    rm -rf "$venv"
    echo "The module venv of '$python' failed. On Debian and Ubuntu, install the package python3-venv." >&2
    exit 1
  fi
fi
if [ ! -x "$venv/bin/uv" ]; then
  echo "==> uv, the installer"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$(grep -E '^uv==' requirements/demo.txt | cut -d' ' -f1)"
fi
echo "==> $(grep -cE '^[A-Za-z0-9]' "$requirements") packages of $requirements"
# uv reports each large download and each phase; the list of all installed packages is left out.
# The compilation of bytecode has no output, so a line every 15 s shows that it is in progress.
(while sleep 15 >/dev/null 2>&1; do echo "    in progress, $SECONDS s"; done) &
ticker=$!
trap 'kill "$ticker" 2>/dev/null || true' EXIT
"$venv/bin/uv" pip install --python "$venv/bin/python" --compile-bytecode -r "$requirements" 2>&1 |
  sed -u -e '/^ [+~-] /d' -e 's/^/    /'
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps -e sandbox -e clients/python

site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
mkdir -p "$site/ansible_collections/mlplatform"
ln -sfn "$PWD" "$site/ansible_collections/mlplatform/gcp"
