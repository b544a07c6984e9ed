# SPDX-License-Identifier: Apache-2.0
"""Roles and methods of the sandbox, compared with ../shared/iam: what Google's roles hold and its methods ask for."""

import contextlib
import json
import re
from pathlib import Path

import pytest
from gcp_sandbox.gateway.call import Call
from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.gateway.messages import Headers
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
# Lists of what the caller may read: the reference names the permission on each entry, the data set one on the parent.
OF_ENTRIES = {("cloudbilling.billingAccounts.list", "v1"), ("cloudresourcemanager.projects.list", "v1")}

STORAGE = "https://storage.googleapis.com"
# Methods that ask for nothing here: operations have names that only their starter knows, roles are public, the OAuth
# Admin API is shut down, and google-auth asks for the locations of an account with that account's token, which needs no
# role. Compute Engine tests permissions for any caller. An upload needs its data, and an account must be deleted to
# come back.
SILENT = (
    r"(cloudbuild|serviceusage)\..*operations\.\w+|iam\.roles\.(get|list)|iap\.projects\.brands\..*"
    r"|compute\.\w+\.testIamPermissions|iam\.projects\.serviceAccounts\.undelete"
    r"|iamcredentials\..*\.getAllowedLocations|storage\.objects\.insert"
)
# Values of parameters and bodies that do not follow from a pattern.
PLAIN = {
    **dict.fromkeys(("bucket", "sourceBucket", "destinationBucket"), "things"),
    **dict.fromkeys(("object", "sourceObject"), "x"),
    **dict.fromkeys(("project", "projectId"), "mlflow-sandbox"),
}
DENY = "policies/cloudresourcemanager.googleapis.com%2Fprojects%2Fmlflow-sandbox/denypolicies"
PARAMETERS = {
    ("compute", "project"): "mlflow-sandbox",
    ("cloudresourcemanager", "parent"): "organizations/1",
    ("serviceusage", "name"): "projects/mlflow-sandbox/services/run.googleapis.com",
    ("serviceusage", "parent"): "projects/mlflow-sandbox",
}


@pytest.fixture(scope="module")
def roles():
    return json.loads((SHARED / "roles.json").read_text())


@pytest.fixture(scope="module")
def google():
    """Return what the data set says that methods ask for."""
    return json.loads((SHARED / "methods.json").read_text())


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


def test_methods_ask_for_what_googles_ask_for(sandbox, google):
    """Methods that declare their permissions."""
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


def test_methods_that_check_in_their_code_begin_with_a_permission_of_googles(sandbox, client, google, monkeypatch):
    project, asked = sandbox.projects.get(sandbox.settings.project), []
    sandbox.enablement.enable(
        project, [api for service in sandbox.services.values() if (api := service.api_name)], at_once=True
    )
    client.ok("POST", f"{STORAGE}/storage/v1/b?project={project.id}", {"name": "things"})
    client.ok("POST", f"{STORAGE}/upload/storage/v1/b/things/o?uploadType=media&name=x", b"x")
    values = {
        "projects": project.id,
        "namespaces": project.id,
        "serviceAccounts": client.email,
        "billingAccounts": "01B2C3-D4E5F6-A7B8C9",
    }

    def denied(principal, resource, permissions, **_):
        asked.extend(permissions)
        return set()

    monkeypatch.setattr(sandbox.iam, "test", denied)
    wrong, silent = {}, set()
    for service in sandbox.services.values():
        for version in service.versions:
            document = sandbox.gateway.document(service.name, version)
            for id, spec in sandbox.gateway.method_specs(service.name, version).items():
                name = f"{service.name}.{id}"
                if spec.permission is not None or name not in google or (name, version) in OF_ENTRIES:
                    continue
                asked.clear()
                _ask(sandbox, document.methods[id], values)
                if not asked:
                    silent.add(name)
                elif not set(asked) <= set(google[name]):
                    wrong[f"{name} ({version})"] = (sorted(set(asked)), google[name])
    assert not wrong
    assert {name for name in silent if not re.fullmatch(SILENT, name)} == set()


def _ask(sandbox, method, values):
    """Send a method to its handler, with names of resources that exist where a pattern allows it."""
    service, pattern = sandbox.services[method.full_id.partition(".")[0]], re.compile(r"(\w+)/\[\^/\]\+")
    organization = sandbox.projects.organization
    parent = organization if method.version == "v3" else {"type": "organization", "id": organization.partition("/")[2]}
    bodies = {
        "appengine.apps.create": {"id": "mlflow-sandbox", "locationId": "europe-west"},
        "cloudresourcemanager.projects.create": {"projectId": "new-project", "parent": parent},
        "storage.objects.compose": {"sourceObjects": [{"name": "x"}]},
    }
    params, query = {}, {}
    for name, parameter in method.parameters.items():
        text = PARAMETERS.get((service.name, name)) or parameter.get("pattern", PLAIN.get(name, "x")).strip("^$")
        if service.name == "iam" and text.startswith("policies/"):
            text = DENY if name == "parent" else f"{DENY}/x"
        if service.name == "iamcredentials":
            text = text.replace("projects/[^/]+", "projects/-")
        text = pattern.sub(lambda found: f"{found[1]}/{values.get(found[1], 'x')}", text).replace("[^/]+", "x")
        if parameter["location"] == "path":
            params[name] = text
        elif parameter.get("required") or name == "parent":
            query[name] = text
    served = next(one for one in sandbox.gateway._served if one.service is service)
    _, handler = served.methods[method.version, method.id]
    call = Call(
        sandbox=sandbox,
        service=service,
        method_id=method.full_id,
        http_method=method.verb,
        host=f"{service.name}.googleapis.com",
        path="/",
        url="",
        params=params,
        query=query,
        body=bodies.get(method.full_id, {}),
        headers=Headers({}),
        caller=sandbox.identities.principal("bob@example.com"),
        version=method.version,
    )
    with contextlib.suppress(ApiError), sandbox.store.transaction():
        handler(call)


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
