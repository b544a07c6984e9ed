# SPDX-License-Identifier: Apache-2.0
"""Steps for secret and secret_info."""

from __future__ import annotations

import re

from ansible_collections.mlplatform.gcp.tests.integration.modules._cloud import SECRETS
from ansible_collections.mlplatform.gcp.tests.integration.modules._steps import Step, both, information, same

ENABLED, DISABLED, DESTROYED = "ENABLED", "DISABLED", "DESTROYED"
FIRST, SECOND = "correct horse/battery: staple", "another $ecret & more"
BYTES = "línes\r\n\0".encode() + b"\xff\n"


def _secret(title, name, expect, *, prepare=None, **options):
    return Step(title, "secret", {"name": name, **options}, lambda cloud: cloud.secret(name), expect, prepare=prepare)


def empty(seen, result, cloud):
    assert seen["secret"]["labels"] == {"managed-by": "mlplatform-gcp", "team": "ml"}
    assert seen["secret"]["annotations"] == {"owner": "Another Owner"}
    assert [item["location"] for item in seen["secret"]["replication"]["userManaged"]["replicas"]] == ["europe-west1"]
    assert seen["versions"] == {}
    assert result["secret"] == f"{cloud.home}/secrets/plain"
    assert "version" not in result


def relabelled(seen, result, cloud):
    assert seen["secret"]["labels"] == {"managed-by": "mlplatform-gcp", "team": "platform"}


def given(seen, result, cloud):
    assert seen["versions"] == {1: (ENABLED, FIRST.encode())}
    assert seen["bindings"] == {"roles/secretmanager.secretAccessor": ["user:alice@example.com"]}
    assert result["version"] == f"{cloud.home}/secrets/given/versions/1"


def given_anew(seen, result, cloud):
    assert seen["versions"] == {1: (DISABLED, None), 2: (ENABLED, SECOND.encode())}
    assert seen["bindings"] == {"roles/secretmanager.secretAccessor": ["user:alice@example.com"]}
    assert result["version"] == f"{cloud.home}/secrets/given/versions/2"


def write_file(cloud):
    (cloud.folder / "payload").write_bytes(BYTES)


def from_file(seen, result, cloud):
    assert seen["versions"] == {1: (ENABLED, BYTES)}


def generated(seen, result, cloud):
    ((state, value),) = seen["versions"].values()
    assert state == ENABLED
    assert re.fullmatch(rb"[abcdefgh]{40}", value)
    assert len(set(value)) > 3


def adopted(seen, result, cloud):
    assert seen["versions"] == {1: (ENABLED, b"payload-of-another-user")}
    assert result["version"] == f"{cloud.home}/secrets/theirs/versions/1"


def composed(seen, result, cloud):
    quoted = b"another%20%24ecret%20%26%20more"
    assert seen["versions"] == {1: (ENABLED, b"postgresql://u:%b@h/%b" % (quoted, SECOND.encode()))}


def composed_anew(seen, result, cloud):
    assert seen["versions"] == {1: (DESTROYED, None), 2: (ENABLED, b"postgresql://u:rotated-value@h/rotated-value")}


def replaced(seen, result, cloud):
    assert seen["versions"][2] == (DISABLED, None)
    assert seen["versions"][3] == (ENABLED, SECOND.encode())


def disable_the_newest(cloud):
    cloud.request("POST", f"{SECRETS}/{cloud.home}/secrets/given/versions/2:disable", {})


TEMPLATE = {
    "template": "postgresql://u:{word:url}@h/{word}",
    "template_secrets": {"word": "projects/{{ project }}/secrets/given"},
    "old_versions": "destroy",
    "keep_versions": 1,
}
LABELS = {"managed-by": "mlplatform-gcp", "team": "ml"}
GRANTED = [{"role": "roles/secretmanager.secretAccessor", "members": ["user:alice@example.com"]}]

STEPS = [
    _secret(
        "A secret is created without a value",
        "plain",
        empty,
        labels=LABELS,
        annotations={"owner": "Another Owner"},
        replication_locations=["europe-west1"],
    ),
    _secret("A label of a secret is changed", "plain", relabelled, labels={"team": "platform"}),
    Step(
        "A secret does not move",
        "secret",
        {"name": "plain", "replication_locations": ["us-central1"]},
        lambda cloud: cloud.secret("plain"),
        fails="replication.* cannot be changed",
    ),
    both(_secret("A secret has a given value", "given", given, payload=FIRST, bindings=GRANTED)),
    both(
        _secret(
            "A secret has another given value and the old one is disabled",
            "given",
            given_anew,
            payload=SECOND,
            old_versions="disable",
            keep_versions=1,
        )
    ),
    _secret(
        "A version that was disabled by hand is created again",
        "given",
        replaced,
        prepare=disable_the_newest,
        payload=SECOND,
        verify=True,
    ),
    _secret(
        "A secret has the value of a file", "file", from_file, prepare=write_file, payload_file="{{ files }}/payload"
    ),
    both(
        _secret(
            "A secret has a generated value", "generated", generated, generate={"length": 40, "alphabet": "abcdefgh"}
        )
    ),
    _secret(
        "A value that another user created is kept",
        "theirs",
        adopted,
        prepare=lambda cloud: cloud.make_secret("theirs", "payload-of-another-user"),
        generate={},
    ),
    both(_secret("A secret is composed of another", "composed", composed, **TEMPLATE)),
    _secret(
        "A secret is composed anew when the other is rotated by hand",
        "composed",
        composed_anew,
        prepare=lambda cloud: cloud.add_version("given", "rotated-value"),
        **TEMPLATE,
    ),
    both(
        information(
            "A secret is found", "secret_info", {"name": "given"}, lambda cloud: [cloud.secret("given")["secret"]]
        )
    ),
    information(
        "All secrets are found",
        "secret_info",
        {},
        lambda cloud: cloud.get(f"{SECRETS}/{cloud.home}/secrets")["secrets"],
    ),
    _secret("A secret is deleted", "plain", lambda seen, result, cloud: same(seen, None), state="absent"),
    both(
        _secret(
            "A secret is deleted with its versions",
            "given",
            lambda seen, result, cloud: same(seen, None),
            state="absent",
        )
    ),
    information("No secret is found", "secret_info", {"name": "given"}, lambda cloud: []),
    Step(
        "A template without its secret is rejected",
        "secret",
        {"name": "nothing", "template": "{a}{b}", "template_secrets": {"a": "projects/{{ project }}/secrets/file"}},
        lambda cloud: cloud.secret("nothing"),
        fails="placeholders without a secret: b",
    ),
]
