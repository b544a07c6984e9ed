# SPDX-License-Identifier: Apache-2.0
"""Test that the role iap_brand revokes all access for the state absent, whatever its other variables say."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

TASKS = Path(__file__).parents[3] / "roles" / "iap_brand" / "tasks" / "access.yml"
MEMBERS = ["group:ml-team@example.com"]
VARIABLES = {"iap_brand_members": MEMBERS, "iap_brand_client_id_secret": "projects/p/secrets/id"}


@pytest.mark.parametrize(
    ("state", "members", "client"), [("present", MEMBERS, "projects/p/secrets/id"), ("absent", [], "")]
)
def test_the_state_decides_on_members_and_client(state, members, client):
    (task,) = yaml.safe_load(TASKS.read_text())
    options = task["mlplatform.gcp.iap_settings"]
    templar = Templar(DataLoader(), VARIABLES | {"iap_brand_state": state})
    assert templar.template(trust_as_template(options["bindings"][0]["members"])) == members
    assert templar.template(trust_as_template(options["oauth_client_id_secret"])) == client
    assert options["bindings_authoritative"] is True
