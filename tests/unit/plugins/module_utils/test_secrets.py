# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils import _secrets
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import UserError


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("projects/q/secrets/s/versions/3", "projects/q/secrets/s/versions/3"),
        ("projects/q/secrets/s", "projects/q/secrets/s/versions/latest"),
        ("s", "projects/p/secrets/s/versions/latest"),
        ("s/versions/2", "projects/p/secrets/s/versions/2"),
    ],
)
def test_names(text, full):
    assert _secrets.version_name(text, "p") == full
    assert _secrets.version_name(text, lambda: "p") == full


@pytest.mark.parametrize("text", ["", "a/b", "projects/p/secrets/", "projects//secrets/x", "s/versions/"])
def test_not_names(text):
    with pytest.raises(UserError, match="does not name a secret"):
        _secrets.version_name(text, "p")


def test_read(cloud):
    task = cloud.task({"project": "p"})
    data = base64.b64encode("grüße".encode()).decode()
    cloud.expect("GET", ".../v1/projects/p/secrets/s/versions/latest:access", body={"payload": {"data": data}})
    assert _secrets.read_secret(task, "s") == "grüße"
    cloud.expect("GET", ".../v1/projects/p/secrets/s/versions/latest", body={"state": "ENABLED"})
    assert _secrets.read_version(task, "s") == {"state": "ENABLED"}
