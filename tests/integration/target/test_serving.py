# SPDX-License-Identifier: Apache-2.0
"""Test that a deployment serves, whatever a former owner left, and that the verification notices each lost grant."""

from __future__ import annotations

import contextlib
import json
import random
import re
from dataclasses import dataclass
from typing import Any

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils import _http, _policy
from ansible_collections.mlplatform.gcp.tests.integration.modules import _cloud
from ansible_collections.mlplatform.gcp.tests.integration.target._target import DEPLOY, PLAN, SEED, VERIFY, Project

APPS = "https://appengine.googleapis.com/v1/apps"
TARGETS = ("cloudrun", "appengine")


@dataclass(frozen=True)
class Grant:
    """A member of a role in the policy of a resource."""

    resource: str
    role: str
    member: str

    @property
    def by_use(self) -> bool:
        """Whether the verification notices the loss only because it cannot act as the clients' account."""
        return self.role == "roles/iam.serviceAccountTokenCreator"

    def named(self, message: str) -> bool:
        if self.by_use:
            return "mlflow_impersonators" in message and "Cannot act as" in message
        return any(
            re.fullmatch(rf"{re.escape(self.role)}( if .+)? is missing on .+: {re.escape(self.member)}", line)
            for line in message.splitlines()
        )


@dataclass
class Served:
    """A small deployment of each target, each in a project of its own."""

    projects: dict[str, Project]
    hosts: dict[str, dict[str, Any]]
    controller: Any
    box: Any

    def run(self, playbook, *names, **changes):
        hosts = {name: self.hosts[name] | changes for name in names or self.hosts}
        return self.controller.run(playbook, hosts=hosts)

    def grants(self, name: str) -> list[Grant]:
        """Return every grant of a deployment that the sandbox stores, whatever the collection says about it."""
        project, found = self.projects[name].project, []
        for (kind, resource), body in self.box.everything().items():
            if kind == "iam.policy" and (f"/{project}" in resource or f"-{project}" in resource):
                for binding in json.loads(body)["policy"].get("bindings", []):
                    for member in binding["members"]:
                        own = member.endswith(f"@{project}.iam.gserviceaccount.com")
                        of_project = "/cloudresourcemanager.googleapis.com/" in resource
                        if own or not (of_project or "storage.legacy" in binding["role"]):
                            found.append(Grant(resource, binding["role"], member))
        return sorted(found, key=str)

    @contextlib.contextmanager
    def without(self, name: str, *grants: Grant):
        """Remove grants, and put them back at the end."""
        client = _http.Client(None, session=self.projects[name].api)
        before = {}
        for resource in {grant.resource for grant in grants}:
            address = _policy.PolicyAddress(resource)
            policy = address.read(client)
            before[address] = [dict(item, members=list(item["members"])) for item in policy["bindings"]]
            for binding in policy["bindings"]:
                binding["members"] = [
                    text for text in binding["members"] if Grant(resource, binding["role"], text) not in grants
                ]
            policy["bindings"] = [item for item in policy["bindings"] if item["members"]]
            address.write(client, policy)
        yield
        for address, bindings in before.items():
            policy = address.read(client) | {"bindings": bindings}
            address.write(client, policy | {"version": 3})


@pytest.fixture(scope="module")
def served(box, controller, new_project, small):
    box.latency("instant")
    projects = {target: new_project() for target in TARGETS}
    common = small | {"mlflow_access_members": ["user:alice@example.com"], "mlflow_verify_timeout": 1}
    hosts = {
        target: common | projects[target].variables | {"mlflow_target": target} | {"mlflow_name": "it"}
        for target in TARGETS
    }
    found = Served(projects, hosts, controller, box)
    found.run(DEPLOY).check()
    for project in projects.values():
        controller.collect(project)
    return found


@pytest.fixture(scope="module")
def left(served):
    """Change the services as a former owner may have left them; return the name of the old revision."""
    run, engine = (served.projects[target] for target in TARGETS)
    url = f"{_cloud.RUN}/{run.region}/services/it-dev"
    service = run.get(url)
    old = service["latestReadyRevision"].rsplit("/", 1)[-1]
    service["labels"] = {"owner": "someone"}
    service["template"]["revision"] = "it-dev-blue"
    service["template"]["containers"][0]["args"] = ["serve", "--old"]
    service["traffic"] = [
        {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION", "revision": old, "percent": 90, "tag": "old"},
        {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 10},
    ]
    service["invokerIamDisabled"] = True
    run.make(url, service, base=_cloud.RUN, method="PATCH")
    closed = {"networkSettings": {"ingressTrafficAllowed": "INGRESS_TRAFFIC_ALLOWED_INTERNAL_ONLY"}}
    url = f"{APPS}/{engine.project}/services/default?updateMask=networkSettings"
    engine.make(url, closed, base=APPS.removesuffix("/apps"), method="PATCH")
    return old


@pytest.fixture(scope="module")
def planned(served, left):
    return served.run(PLAN, mlflow_adopt=True)


@pytest.fixture(scope="module")
def deployed_again(served, planned):
    return served.run(DEPLOY, mlflow_adopt=True).check()


def test_the_plan_shows_what_a_former_owner_left(planned):
    for path in ("containers[0].args", "invokerIamDisabled", "traffic", "ingressTrafficAllowed"):
        assert path in planned.output, path


def test_all_requests_reach_what_was_deployed(deployed_again, served, left):
    run, engine = (served.projects[target] for target in TARGETS)
    service = run.service("it-dev")
    latest = service["latestReadyRevision"].rsplit("/", 1)[-1]
    assert latest not in (left, "it-dev-blue") and "revision" not in service["template"]
    assert service["traffic"] == [{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 100}]
    assert not service.get("invokerIamDisabled") and not service["template"]["containers"][0].get("args")
    address = run.address("it-dev")
    token = run.signed("it-dev-client", f"{address}/*")
    assert run.anonymous.get(address, headers={"Authorization": f"Bearer {token}"}).text == latest
    opened = engine.get(f"{APPS}/{engine.project}/services/default")["networkSettings"]
    assert opened["ingressTrafficAllowed"] == "INGRESS_TRAFFIC_ALLOWED_ALL"


def test_a_second_run_changes_nothing(deployed_again, served):
    assert served.run(DEPLOY, mlflow_adopt=True).check().changed == 0


def test_another_region_stops_before_anything_changes(deployed_again, served, box):
    before = box.everything()
    play = served.run(DEPLOY, "cloudrun", mlflow_adopt=True, gcp_region="europe-west4")
    assert not play.ok and "is in europe-west1, not in europe-west4" in play.message("cloudrun")
    assert box.everything() == before


def test_a_server_that_does_not_answer_fails_the_deployment(deployed_again, served):
    engine = served.projects["appengine"]
    url = f"{APPS}/{engine.project}/firewall/ingressRules"
    engine.make(url, {"priority": 1, "action": "DENY", "sourceRange": "*"})
    play = served.run(DEPLOY, "appengine", mlflow_adopt=True, appengine_mlflow_target_cpu_utilization=0.6)
    engine.api.delete(f"{url}/1")
    assert not play.ok and "does not answer at https://" in play.message("appengine"), play
    served.run(DEPLOY, "appengine", mlflow_adopt=True, appengine_mlflow_target_cpu_utilization=0.7).check()


@pytest.mark.parametrize("target", TARGETS)
def test_the_verification_names_every_grant_that_is_lost(deployed_again, served, target):
    grants = [grant for grant in served.grants(target) if not grant.by_use]
    assert len(grants) >= 8, grants
    with served.without(target, *grants):
        message = served.run(VERIFY, target).message(target)
    assert not [grant for grant in grants if not grant.named(message)], message


@pytest.mark.parametrize("target", TARGETS)
def test_the_verification_notices_a_member_that_no_variable_names(deployed_again, served, target):
    (resource,) = {grant.resource for grant in served.grants(target) if "httpsResourceAccessor" in grant.role}
    eve = Grant(resource, "roles/iap.httpsResourceAccessor", "user:eve@example.com")
    client, address = _http.Client(None, session=served.projects[target].api), _policy.PolicyAddress(resource)
    policy = address.read(client)
    more = [*policy["bindings"], {"role": eve.role, "members": [eve.member]}]
    address.write(client, policy | {"bindings": more})
    with served.without(target):
        message = served.run(VERIFY, target).message(target)
    address.write(client, address.read(client) | {"bindings": policy["bindings"]})
    assert f"has a member that no variable names: {eve.member}" in message


def lose_one_by_one(served, target, grants):
    """Remove each grant alone; return the messages of the verifications that do not name it."""
    unnoticed = []
    for grant in grants:
        with served.without(target, grant):
            message = served.run(VERIFY, target, mlflow_verify_timeout=0).message(target)
        if not grant.named(message):
            unnoticed.append(f"{grant}\n{message}")
    return unnoticed


def test_one_lost_grant_is_noticed(deployed_again, served):
    print(f"\n    seed {SEED}", end="")
    target = random.Random(SEED).choice(TARGETS)
    assert not lose_one_by_one(served, target, random.Random(SEED).sample(served.grants(target), 1))


@pytest.mark.endurance
@pytest.mark.parametrize("target", TARGETS)
def test_each_lost_grant_is_noticed(deployed_again, served, target, record_property):
    grants = served.grants(target)
    unnoticed = lose_one_by_one(served, target, grants)
    record_property("grants removed", len(grants))
    record_property("removals noticed", len(grants) - len(unnoticed))
    assert not unnoticed, "\n".join(unnoticed)
