# SPDX-License-Identifier: Apache-2.0
"""Install the collection's artifact into an empty environment and deploy, with the commands of README.md.

The environment has a new virtual environment, an empty HOME and an empty folder as the working directory. The test runs
the commands of the section "Deploy to a real project" in bash, with these differences:

- `pip` is uv with the versions of requirements/demo.txt. The packages are those of the README.
- `ansible-galaxy` installs the artifact that the test builds, and not the release on Galaxy.
- `gcloud` does nothing: the environment has credentials of the sandbox.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Mapping

import pytest
import yaml
from ansible_collections.mlplatform.gcp.tests.integration.conftest import BIN, RECAP, ROOT

SECTION = "## Deploy to a real project\n"
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.M | re.S)
# Variables that a shell of this machine may have.
FOREIGN = re.compile(r"ANSIBLE_|GCP_|GCE_|GOOGLE_|CLOUDSDK_|MLFLOW_|PYTEST_|PYTHON|VIRTUAL_ENV|COVERAGE_|XDG_")
# The credentials and the route to the sandbox. A project is set by the inventory only.
FROM_SANDBOX = ("HTTPS_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "GOOGLE_APPLICATION_CREDENTIALS")
STATUS = "ansible-playbook -i inventory mlplatform.gcp.status --limit dev -vvv"
PRELUDE = """\
python3() { "$TEST_PYTHON" "$@"; }
pip() { env $TEST_OUTSIDE "$TEST_UV" pip "$@" --quiet --python venv/bin/python --constraint "$TEST_VERSIONS"; }
ansible-galaxy() { command ansible-galaxy "${@/#mlplatform.gcp/$TEST_ARTIFACT}"; }
gcloud() { :; }
if [ -e state.sh ]; then . ./state.sh; fi
trap 'status=$?; export -p > state.sh; exit $status' EXIT
set -ex
"""


def commands() -> list[str]:
    """Return the blocks of commands in the README, up to the client's package, which has a release of its own."""
    section = (ROOT / "README.md").read_text().partition(SECTION)[2].partition("\n## ")[0]
    return [block for block in CONSOLE.findall(section) if "/releases/download/" not in block]


class Shell:
    """A user's shell in an empty environment. The next block of commands has the variables of the last one."""

    def __init__(self, folder: pathlib.Path, artifact: pathlib.Path, environment: Mapping[str, str]):
        self.folder = folder / "work"
        home = folder / "home"
        self.folder.mkdir()
        home.mkdir()
        python = pathlib.Path(sys.executable).resolve()
        # The installer has the network and the caches of this machine.
        changed = (*environment, "HOME", "PATH")
        outside = [f"-u{name}" for name in changed] + [f"{n}={os.environ[n]}" for n in changed if n in os.environ]
        # As pip: a proxy of a company may have its own certificate authority.
        outside.append("UV_SYSTEM_CERTS=true")
        assert not any(re.search(r"\s", word) for word in outside), outside
        self.env = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
        self.env |= environment
        self.env |= {
            "HOME": str(home),
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "ANSIBLE_NOCOLOR": "1",
            "TEST_ARTIFACT": str(artifact),
            "TEST_OUTSIDE": " ".join(outside),
            "TEST_PYTHON": str(python),
            "TEST_UV": str(BIN / "uv"),
            "TEST_VERSIONS": str(ROOT / "requirements" / "demo.txt"),
        }

    def run(self, block: str) -> str:
        """Run a block of commands and return its output; fail if a command fails."""
        done = subprocess.run(
            ["/bin/bash", "-c", PRELUDE + block],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"exit status {done.returncode}:\n{done.stdout}"
        return done.stdout

    def edit(self, path: str, change: Mapping[str, object]) -> None:
        """Set variables in a file of the inventory."""
        file = self.folder / path
        file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **change}))


@pytest.fixture
def artifact(tmp_path) -> pathlib.Path:
    """Build the collection's artifact."""
    build = [str(BIN / "ansible-galaxy"), "collection", "build", "--output-path", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    (built,) = tmp_path.glob("mlplatform-gcp-*.tar.gz")
    return built


@pytest.fixture
def shell(sandbox, tmp_path, artifact) -> Shell:
    environment = sandbox.env()
    return Shell(tmp_path, artifact, {name: environment[name] for name in FROM_SANDBOX})


def recaps(output: str) -> list[tuple[str, int]]:
    """Return the host and `changed` of each run of a playbook."""
    return [(match[1], int(match[3])) for match in RECAP.finditer(output)]


def test_the_artifact_alone_deploys_and_verifies(shell, sandbox):
    install, inventory, deploy, verify = commands()
    shell.run(install)
    installed = shell.folder / "collections" / "ansible_collections" / "mlplatform" / "gcp"
    assert (installed / "MANIFEST.json").is_file()
    shell.run(inventory)
    shell.edit("inventory/host_vars/dev.yml", {"gcp_project": sandbox.env()["GCP_PROJECT"]})
    (planned, before), (deployed, changed) = recaps(shell.run(deploy))
    assert planned == deployed == "dev"
    assert before > 10 and changed > 10
    # The plugins need their libraries before those of MLflow's client are installed.
    secret = "debug -a \"msg={{ lookup('mlplatform.gcp.secret', 'mlflow-dev-db-username', project=gcp_project) }}\""
    assert '"msg": "mlflow"' in shell.run(f"ansible -i inventory dev -c local -m {secret}")
    assert recaps(shell.run(deploy)) == [("dev", 0), ("dev", 0)]
    output = shell.run(verify)
    assert recaps(output) == [("dev", 0)]
    # With MLflow's client and the one of Cloud Storage, and without credentials.
    assert "ok: upload and download of 40 MiB" in output
    assert "ok: request without credentials rejected" in output
    paths = set(re.findall(r"^task path: (\S+)", shell.run(STATUS), re.M))
    assert paths and all(path.startswith(f"{installed}/") for path in paths), paths
