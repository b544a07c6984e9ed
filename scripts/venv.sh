#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Make or update the virtual environment: scripts/venv.sh FOLDER REQUIREMENTS
#
# uv installs (seconds instead of minutes) and compiles bytecode: without it every start of Ansible and of
# MLflow would be slower where PYTHONDONTWRITEBYTECODE is set. A link in site-packages makes the checkout the
# collection mlplatform.gcp for every tool in the environment, with no configuration.
set -euo pipefail
venv=$1 requirements=$2
python=${PYTHON:-python3}
# the machine's own certificates, as pip uses them: a company's proxy may have its own authority
export UV_SYSTEM_CERTS=true

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "Python 3.11 or newer is needed; '$python' is $("$python" --version 2>&1). Name another: make PYTHON=python3.12 ..." >&2
  exit 1
fi
if [ ! -x "$venv/bin/python" ]; then
  echo "==> virtual environment in $venv ($("$python" --version))"
  if ! "$python" -m venv "$venv"; then
    rm -rf "$venv"
    echo "The module venv of '$python' does not work. On Debian and Ubuntu it comes with the package python3-venv." >&2
    exit 1
  fi
fi
if [ ! -x "$venv/bin/uv" ]; then
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$(grep -E '^uv==' requirements/demo.txt | cut -d' ' -f1)"
fi
echo "==> packages of $requirements"
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --compile-bytecode -r "$requirements"
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps -e sandbox -e clients/python

site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
mkdir -p "$site/ansible_collections/mlplatform"
ln -sfn "$PWD" "$site/ansible_collections/mlplatform/gcp"
