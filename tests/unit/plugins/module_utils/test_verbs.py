# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import pathlib
import re

import pytest
import requests
from ansible_collections.mlplatform.gcp.plugins.module_utils import _errors, _verbs
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.verbs import VERBS
from ansible_collections.mlplatform.gcp.tests.unit.plugins import _scripted

ROOT = pathlib.Path(_scripted.__file__).resolve().parents[3]
METHODS = ROOT.parent / "shared" / "iam" / "methods.json"
SERVICES = {"sql": "sqladmin", "iap": "iap", "cloudresourcemanager": "cloudresourcemanager"}
USAGE = "https://serviceusage.googleapis.com/v1/projects/p"
RUN = "https://run.googleapis.com/v2/projects/p/locations/r/jobs/j"


@pytest.fixture
def task(cloud):
    return cloud.task({"project": "p"})


def discovery(method):
    """The discovery document of a method's API, and the method in it."""
    documents = pytest.importorskip("googleapiclient.discovery_cache.documents", reason="not in this environment")
    service, base = method.split(".")[0], VERBS[method].base
    version = re.search(r"/(v\d\w*)$", base).group(1)
    path = pathlib.Path(documents.__path__[0]) / f"{SERVICES.get(service, service)}.{version}.json"
    document = json.loads(path.read_text())

    def find(resources):
        for resource in resources.values():
            for entry in (resource.get("methods") or {}).values():
                if entry["id"] == method:
                    return entry
            entry = find(resource.get("resources") or {})
            if entry:
                return entry
        return None

    return document, find({"": document})


@pytest.mark.parametrize("method", VERBS)
def test_a_verb_is_what_the_discovery_document_says(method):
    verb = VERBS[method]
    document, entry = discovery(method)
    assert entry, f"{method} is not in the discovery document"
    assert verb.method == entry["httpMethod"]
    path = verb.path.replace("{+resource}", "projects/1/iap_web")
    address = f"{verb.base}/{re.sub(r'{[^}]+}', 'x', path)}"
    # {projectsId} stands for one segment, {v1Id} for a name in full
    flat = entry.get("flatPath") or entry["path"]
    pattern = re.sub(r"\\{(\w+)\\}", lambda match: ".+" if match.group(1) == "v1Id" else "[^/]+", re.escape(flat))
    root = document["rootUrl"] + document["servicePath"]
    assert re.fullmatch(re.escape(root) + pattern, address), f"{address} is not {root}{flat}"
    response = (entry.get("response") or {}).get("$ref", "")
    assert bool(verb.operation) is (
        response.endswith("Operation") and method != "cloudbuild.projects.locations.builds.create"
    )
    if verb.items:
        assert verb.items in document["schemas"][response]["properties"]


@pytest.mark.parametrize("method", VERBS)
def test_a_verb_names_the_permission_that_it_needs(method):
    if not METHODS.exists():
        pytest.skip("../shared/iam/methods.json does not exist: the permissions of methods are compared where it is")
    known = json.loads(METHODS.read_text()).get(method)
    if known is None or method.startswith("iap."):
        pytest.skip(f"the permission of {method} is not known, or differs by resource")
    if method == "secretmanager.projects.secrets.versions.disable":
        # The data set has secretmanager.secrets.disable, which is in no role.
        known = ["secretmanager.versions.disable"]
    assert VERBS[method].permission in json.dumps(known)


def test_the_project_is_the_tasks_and_names_are_encoded(cloud, task):
    cloud.expect("POST", f"{USAGE}/services/a%2Fb%20c:disable", sent={}, body={"name": "operations/1"})
    assert _verbs.call(task, "serviceusage.services.disable", name="a/b c") == {"name": "operations/1"}
    other = "https://run.googleapis.com/v2/projects/other/locations/r/jobs/j:run"
    cloud.expect("POST", other, body={})
    _verbs.call(task, "run.projects.locations.jobs.run", project="other", location="r", name="j")
    cloud.expect("GET", "https://iap.googleapis.com/v1/projects/1/iap_web/x%3F:iapSettings", body={})
    _verbs.call(task, "iap.getIapSettings", resource="projects/1/iap_web/x?", permissions="iap.webTypes")
    assert cloud.requests[-1].body is None
    cloud.done()


def test_only_what_is_repeatable_is_sent_twice(cloud, task):
    lost = requests.exceptions.ReadTimeout("no answer")
    cloud.expect("POST", f"{USAGE}/services:batchEnable", error=lost)
    cloud.expect("POST", f"{USAGE}/services:batchEnable", sent={"serviceIds": ["x"]}, body={})
    _verbs.call(task, "serviceusage.services.batchEnable", {"serviceIds": ["x"]})
    cloud.expect("POST", f"{RUN}:run", error=lost)
    with pytest.raises(_errors.ConnectionFailed):
        _verbs.call(task, "run.projects.locations.jobs.run", location="r", name="j")
    cloud.done()


def test_a_refusal_names_the_permission(cloud, task):
    cloud.expect_error("GET", "...:iapSettings", 403, code="PERMISSION_DENIED", message="no")
    with pytest.raises(_errors.PermissionDenied, match=r"lacks the permission iap\.webServices\.getSettings"):
        _verbs.call(
            task, "iap.getIapSettings", resource="projects/1/iap_web/x/services/y", permissions="iap.webServices"
        )


def test_a_list_is_read_page_by_page(cloud, task):
    url, query = f"{USAGE}/services", {"filter": "state:ENABLED"}
    cloud.expect("GET", url, query=query, body={"services": [1, 2], "nextPageToken": "t"})
    cloud.expect("GET", url, query=dict(query, pageToken="t"), body={"services": [3]})
    assert list(_verbs.pages(task, "serviceusage.services.list", query=query)) == [1, 2, 3]
    cloud.expect("GET", url, body={"services": [1], "nextPageToken": "t"})
    assert next(_verbs.pages(task, "serviceusage.services.list")) == 1
    cloud.done()


def test_an_operation_is_awaited(cloud, task):
    operation = {"name": "projects/p/locations/r/operations/o"}
    done = dict(operation, done=True, response={"@type": "t", "name": "execution"})
    cloud.expect("GET", f"https://run.googleapis.com/v2/{operation['name']}", body=done)
    last, result = _verbs.finish(task, "run.projects.locations.jobs.run", operation, "executing j")
    assert last == done and result == {"name": "execution"}
    cloud.done()


# Calls of the client that are no verb, in the modules and in what was moved below them. Each has a comment that says
# why: the line before it is one.
OWN_CALLS = {
    "modules/iam_policy_info.py": 1,  # the address of a policy
    "module_utils/_cloud_build.py": 2,  # upload of an archive, download of a log
}


def test_modules_call_verbs():
    found = {}
    folder = ROOT / "plugins"
    files = [*folder.glob("modules/*.py"), folder / "module_utils/_cloud_build.py"]
    for name in ("_secret_versions", "_secrets", "_sql_users", "_run_executions", "_appengine", "_appengine_versions"):
        files.append(folder / f"module_utils/{name}.py")
    for path in files:
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            if re.search(r"task\.client\b(?!\.(clock|caller))", line) and "waiter" not in line:
                name = str(path.relative_to(folder))
                found[name] = found.get(name, 0) + 1
                before = lines[number - 1].strip()
                assert before.startswith("# "), f"{name}:{number + 1}: use a verb, or say in a comment why not"
    assert found == OWN_CALLS


def test_every_verb_is_called():
    """A method that nothing calls is not in the table."""
    text = "".join(path.read_text() for path in (ROOT / "plugins").rglob("*.py") if path.name != "verbs.py")
    constants = dict(re.findall(r'^(_[A-Z]+) = "([\w.]+)"$', text, flags=re.M))
    for name, value in constants.items():
        text = text.replace("{" + name + "}", value)
    patterns = {re.sub(r"{\w+}", r"[\\w.]+", literal) for literal in re.findall(r'"([\w.{}]+\.[\w.{}]+)"', text)}
    unused = [method for method in VERBS if not any(re.fullmatch(pattern, method) for pattern in patterns)]
    assert unused == []
