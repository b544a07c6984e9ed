# SPDX-License-Identifier: Apache-2.0
"""Recorded traffic of the real services, replayed against a sandbox, one score a service.

../shared/tools/replay.py sends the recorded requests from outside, as any client would, and compares status and
shape of the answers. The goals are those of the project: 99 % status, 97 % shape. Differences of these must be listed
in differences.yml with a reason; an entry there that matches nothing any more fails too, so that the list stays true.

Times that were in the future when the traffic was recorded, and that the service refuses once they have passed, are
moved into the future again.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
from dataclasses import dataclass, field

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
REPLAY = SHARED / "tools" / "replay.py"
HERE = pathlib.Path(__file__).parent

SERVICES = (
    "artifactregistry",
    "cloudresourcemanager",
    "compute",
    "iam",
    "iap",
    "run",
    "secretmanager",
    "servicenetworking",
    "serviceusage",
    "sqladmin",
    "storage",
)
# Exchanges of these recordings with services that the sandbox does not have (Pub/Sub) are left out.
HOSTS = ",".join(f"{name}.googleapis.com" for name in (*SERVICES, "cloudbilling", "cloudkms"))
GOALS = {"status": 99.0, "shape": 97.0}
# Machines, disks and load balancers, which the sandbox does not serve, answer 501. They and the operations on them have
# no score.
UNSERVED = re.compile(
    r"compute\.googleapis\.com/compute/v1/projects/[^/]+/"
    r"(zones/|global/(firewalls|images|sslCertificates)|regions/[^/]+/(addresses|routers))"
)
OPERATION = re.compile(r"compute\.googleapis\.com/.*/operations/\$")
# The recorder has replaced the name of this network, which exists before the first request.
DEFAULT_NETWORK = ("Default network for the project", "${networkID}", "default")
REQUEST = re.compile(r"(GET|POST|DELETE) \S+?/(\w+)(?:/\$\{(\w+)ID\})?(?:\?\S*)?\n")
FUTURE = re.compile(r'("(?:expireTime|nextRotationTime)": ")20\d\d-')
# A user made the recordings, and not a service account: operations name the caller that started them.
CALLER = "user@example.com"
KINDS = {"STATUS": "status", "shape": "shape", "strict": "strict"}

pytestmark = pytest.mark.skipif(not REPLAY.is_file(), reason=f"the recordings are not here ({REPLAY})")


@dataclass
class Score:
    exchanges: int = 0
    status: int = 0
    shape: int = 0
    strict: int = 0
    differences: list[tuple[str, str, str]] = field(default_factory=list)  # kind, scenario, text

    def percent(self, what: str) -> float:
        return 100 * getattr(self, what) / (self.exchanges or 1)

    def __add__(self, other: Score) -> Score:
        return Score(
            self.exchanges + other.exchanges,
            self.status + other.status,
            self.shape + other.shape,
            self.strict + other.strict,
            self.differences + other.differences,
        )

    def __str__(self) -> str:
        parts = [f"{what} {self.percent(what):5.1f} %" for what in KINDS.values()]
        return f"{self.exchanges:4} exchanges, " + ", ".join(parts)


def read_report(text: str) -> Score:
    """The verbose report of replay.py as a score: a line a scenario, then an indented line a difference."""
    score, scenario = Score(), ""
    for line in text.splitlines():
        if m := re.match(r"(\S+): (\d+) exchanges, status (\d+), shape (\d+), strict (\d+)", line):
            scenario = m[1]
            n, status, shape, strict = map(int, m.groups()[1:])
            score += Score(n, status, shape, strict)
        elif m := re.match(r"\s+(STATUS|shape |strict|unsent) (.*)", line):
            if ("got 501" in m[2] and UNSERVED.search(m[2])) or (m[1] == "unsent" and OPERATION.search(m[2])):
                score.exchanges -= 1
                continue
            score.differences.append((KINDS.get(m[1].strip(), "status"), scenario, m[2]))
    return score


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory):
    state = tmp_path_factory.mktemp("conformance") / "sandbox"
    command = [str(pathlib.Path(sys.executable).parent / "gcp-sandbox"), "--state", str(state)]
    # the recorder's project was in no organization
    subprocess.run([*command, "up", "--latency", "instant", "--no-organization"], check=True)
    yield command
    subprocess.run([*command, "down"], check=True)


def with_own_names(text: str) -> str:
    """Return a recording in which two resources of a kind have two names.

    The recorder has given all of them one. A resource that is not found although it was made is another one, and all
    that follows is about it until it is deleted. A list that has one name twice is about both.
    """
    made: set[str] = set()
    names: dict[str, list[str]] = {}
    blocks = []
    for block in text.split("\n---\n"):
        request = REQUEST.match(block.lstrip())
        verb, collection, name = request.groups() if request else ("", "", None)
        if (
            verb == "POST"
            and (found := re.search(r'"name": "\$\{(\w+)ID\}"', block))
            and collection.startswith(found[1])
        ):
            made.add(found[1])
        if verb == "GET" and name in made and "\n404 " in block:
            names.setdefault(name, [name]).append(f"{name}{len(names[name]) + 1}")
        for kind, known in names.items():
            hole, both = f"${{{kind}ID}}", re.compile(rf'"(\$\{{{kind}ID\}})",\s*"\1"')
            block = both.sub(lambda pair, hole=hole: pair[0].replace(hole, "\0", 1), block)
            block = block.replace(hole, f"${{{known[-1]}ID}}").replace("\0", hole)
        if verb == "DELETE" and len(names.get(name, ())) > 1:
            names[name].pop()
        blocks.append(block)
    return "\n---\n".join(blocks)


@pytest.fixture(scope="session")
def recordings(tmp_path_factory) -> pathlib.Path:
    """Return a folder with the recordings, the times in them moved into the future.

    Names that the recorder has made one are several again (`with_own_names`); the network `default` has its name.
    """
    description, name, default = DEFAULT_NETWORK
    folder = tmp_path_factory.mktemp("recordings")
    for service in SERVICES:
        (folder / service).mkdir()
        for file in (SHARED / "recordings" / service).glob("*.log"):
            text = FUTURE.sub(r"\g<1>2099-", file.read_text())
            text = text.replace(name, default) if description in text else with_own_names(text)
            (folder / service / file.name).write_text(text)
    return folder


@pytest.fixture(scope="session")
def scores(sandbox, recordings) -> dict[str, Score]:
    as_caller = [*sandbox, "exec", "--as", CALLER, "--", sys.executable]
    subprocess.run([*as_caller, str(HERE / "enable_apis.py"), "cloudkms", *SERVICES], check=True)
    result = {}
    for name in SERVICES:
        replay = [str(REPLAY), "-v", "--hosts", HOSTS]
        done = subprocess.run(
            [*as_caller, *replay, str(recordings / name)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"COLUMNS": "400"},
        )
        assert done.returncode == 0, done.stdout[-3000:]
        result[name] = read_report(done.stdout)
        print(f"{name:22} {result[name]}")
    print(f"{'all':22} {sum(result.values(), Score())}")
    return result


@pytest.fixture(scope="session")
def listed() -> list[dict]:
    return yaml.safe_load((HERE / "differences.yml").read_text())["differences"]


def matches(entry: dict, kind: str, scenario: str, text: str) -> bool:
    return kind == entry["kind"] and re.search(entry["scenario"], scenario) and re.search(entry["exchange"], text)


@pytest.mark.parametrize("service", SERVICES)
def test_every_difference_of_status_or_shape_has_a_reason(scores, listed, service):
    unexplained = [
        f"{kind}: {scenario}: {text}"
        for kind, scenario, text in scores[service].differences
        if kind != "strict" and not any(matches(e, kind, scenario, text) for e in listed)
    ]
    assert not unexplained, "\n".join(unexplained)
    assert scores[service].exchanges > 0


@pytest.mark.parametrize("what", GOALS)
def test_the_sandbox_answers_as_the_services_do(scores, what):
    total = sum(scores.values(), Score())
    assert total.percent(what) >= GOALS[what], str(total)


def test_listed_differences_still_exist(scores, listed):
    seen = [d for score in scores.values() for d in score.differences]
    stale = [e for e in listed if not any(matches(e, *d) for d in seen)]
    assert not stale, f"differences.yml lists what does not differ any more: {stale}"
