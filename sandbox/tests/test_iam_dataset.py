# SPDX-License-Identifier: Apache-2.0
"""Roles and methods of the sandbox, compared with ../shared/iam: what Google's roles hold and its methods ask for."""

import json
from pathlib import Path

import pytest
from gcp_sandbox.gateway.roles import ROLES, SYNONYMS

SHARED = Path(__file__).resolve().parents[3] / "shared" / "iam"

pytestmark = pytest.mark.skipif(not (SHARED / "roles.json").is_file(), reason=f"the data set is not here ({SHARED})")

# Roles of Google's reference that the data set does not have.
MISSING = {"roles/appengineflex.serviceAgent"}
# Entries of the data set that Google's reference contradicts: there is no permission secretmanager.secrets.enable.
WRONG = {
    f"secretmanager.projects{location}.secrets.versions.{verb}"
    for location in ("", ".locations")
    for verb in ("enable", "disable")
}


@pytest.fixture(scope="module")
def roles():
    return json.loads((SHARED / "roles.json").read_text())


def test_roles_hold_what_googles_hold(roles):
    known = {permission for role in roles.values() for permission in role["permissions"]}
    assert set(ROLES.names()) - set(roles) == MISSING
    assert not ROLES.all_permissions - known
    wrong = {}
    for name in set(ROLES.names()) & set(roles):
        google, ours = roles[name], ROLES.get(name)
        held = frozenset(google["permissions"]) & ROLES.all_permissions
        if (google["title"], held) != (ours.title, ours.permissions):
            wrong[name] = (google["title"], ours.title, sorted(held ^ ours.permissions))
    assert not wrong


def test_every_role_of_google_exists(roles):
    assert [name for name in roles if not ROLES.exists(name)] == []


def test_methods_ask_for_what_googles_ask_for(sandbox):
    """Of methods that declare their permissions; the others check in their handlers, and have tests of their own."""
    google = json.loads((SHARED / "methods.json").read_text())
    compared, wrong = 0, {}
    for service in sandbox.services.values():
        for version in service.versions:
            for id, spec in sandbox.gateway.method_specs(service.name, version).items():
                name = f"{service.name}.{id}"
                if spec.permission is None or name not in google or name in WRONG:
                    continue
                compared += 1
                asked = {spec.permission, *spec.also}
                if asked != set(google[name]):
                    wrong[f"{name} ({version})"] = (sorted(asked), google[name])
    assert not wrong
    assert compared > 180


def test_a_role_that_may_change_may_read():
    """Changing asks for both permissions: no role that could change before is refused."""
    pairs = [
        "appengine.services",
        "appengine.versions",
        "artifactregistry.repositories",
        "artifactregistry.tags",
        "iam.serviceAccounts",
        "run.jobs",
        "run.services",
        "secretmanager.secrets",
    ]
    lacking = [
        (name, pair)
        for name in ROLES.names()
        for pair in pairs
        if f"{pair}.update" in ROLES.permissions(name) and f"{pair}.get" not in ROLES.permissions(name)
    ]
    assert lacking == []


def test_both_names_of_a_permission_are_one(sandbox):
    project = sandbox.projects.get(sandbox.settings.project)
    reader = {"role": "roles/artifactregistry.reader", "members": ["user:bob@example.com"]}
    sandbox.iam.set_policy(project.name, {"bindings": [reader]})
    bob = sandbox.identities.principal("bob@example.com")
    assert sandbox.iam.test(bob, project.name, SYNONYMS) == set(SYNONYMS)
