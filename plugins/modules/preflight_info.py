#!/usr/bin/python
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_info
short_description: Find what would stop a deployment before it begins
version_added: 0.1.0
description:
  - Asks Google Cloud everything at once that a deployment will need later, and returns all problems with the next step.
  - It does not fail because of what it finds, and changes nothing.
author:
  - the mlplatform.gcp authors (@mlplatform)
options:
  region:
    description: Where regional resources are going to be.
    type: str
  services:
    description: APIs that the deployment will enable.
    type: list
    elements: str
    default: []
  other_services:
    description: APIs that the deployment does not need, and wants to know whether they are enabled.
    type: list
    elements: str
    default: []
  permissions:
    description: Permissions on the project that the deployment will need.
    type: list
    elements: str
    default: []
  resources:
    description: What the deployment is going to make.
    type: list
    elements: dict
    default: []
    suboptions:
      type:
        description: Kind of the resource.
        type: str
        required: true
        choices:
          - storage_bucket
          - sql_instance
          - artifact_repository
          - cloud_run_service
          - cloud_run_job
          - secret
          - service_account
          - app_engine_application
          - app_engine_service
          - app_engine_version
      name:
        description:
          - Its name. That of a service account is its id, without the project; that of an App Engine application the
            project's id; that of a version C(SERVICE/VERSION).
        type: str
        required: true
      location:
        description: Where it is going to be, by default O(region). With V(*) it may be anywhere.
        type: str
      new_only:
        description:
          - Whether it is only looked at where nothing among the others carries O(owner_labels), which is before the
            first deployment. Later ones need not ask again for what they have made.
        type: bool
        default: false
  owner_labels:
    description:
      - Labels that the deployment's own resources carry. What is there without them belongs to something else.
      - A service account has no labels; its description has to contain C(key=value) for each of them.
      - A version of App Engine has none either; its environment variable C(MLFLOW_DEPLOYMENT) stands for C(managed-by)
        and C(mlflow-deployment). A service belongs to whom the versions belong that get its requests. An application
        belongs to everybody in the project and is used as it is.
    type: dict
    default: {}
  adopt:
    description: Whether resources without O(owner_labels) may be taken over.
    type: bool
    default: false
  organization_required:
    description: Whether the project has to be in an organization.
    type: bool
    default: false
  principals:
    description:
      - Members of IAM policies that will be given roles, such as C(group:EMAIL). What is no member is a problem, and so
        is a service account that neither exists nor is among O(resources).
      - Whether a person or a group exists, Google only tells when a policy is written.
    type: list
    elements: str
    default: []
    version_added: 0.2.0
extends_documentation_fragment:
  - mlplatform.gcp.gcp
  - mlplatform.gcp.attributes.info
notes:
  - Needs C(resourcemanager.projects.get), C(serviceusage.services.get), and the C(get) permission of each kind of
    resource. What it may not see is among the problems.
"""

EXAMPLES = r"""
- name: What would go wrong?
  mlplatform.gcp.preflight_info:
    project: my-project
    region: europe-west1
    services: [run.googleapis.com, sqladmin.googleapis.com]
    permissions: [run.services.create, cloudsql.instances.create]
    resources:
      - type: storage_bucket
        name: my-project-mlflow
    owner_labels:
      managed-by: mlplatform-gcp
  register: preflight

- name: Nothing would
  ansible.builtin.assert:
    that: preflight.problems | length == 0
"""

RETURN = r"""
problems:
  description: Everything that was found, in the order of the questions.
  returned: always
  type: list
  elements: dict
  contains:
    check:
      description: The question, such as C(permissions).
      type: str
    resource:
      description: Full name of the resource, if it is about one.
      type: str
    what:
      description: What is wrong.
      type: str
    next:
      description: What to do about it.
      type: str
unanswered:
  description: Questions that could not be asked yet, because an API for them is still to be enabled.
  returned: always
  type: list
  elements: str
project:
  description: The project as far as it can be seen, or null.
  returned: always
  type: dict
  sample: {project_id: my-project, number: "123456789012", state: ACTIVE, organization: organizations/1}
caller:
  description: Whose credentials these are, or null if that cannot be told.
  returned: always
  type: dict
  sample:
    email: deployer@my-project.iam.gserviceaccount.com
    member: serviceAccount:deployer@my-project.iam.gserviceaccount.com
services:
  description: Which of the APIs are enabled. Of O(other_services) only the enabled ones are here.
  returned: always
  type: dict
  sample: {enabled: [run.googleapis.com], disabled: [sqladmin.googleapis.com]}
resources:
  description: The resources that were asked for, with what is there.
  returned: always
  type: list
  elements: dict
  contains:
    exists:
      description: Whether it is there.
      type: bool
    owned:
      description: Whether it carries O(owner_labels).
      type: bool
    location:
      description: Where it is, or is going to be.
      type: str
    state:
      description: Its state, if its kind has one.
      type: str
    labels:
      description: Its labels.
      type: dict
    version:
      description: Version of the database, for example C(POSTGRES_16).
      returned: for a Cloud SQL instance that is there
      type: str
    services:
      description: Names of the services.
      returned: for an App Engine application that is there
      type: list
      elements: str
    versions:
      description: How many versions they have together.
      returned: for an App Engine application that is there
      type: int
    iap_enabled:
      description: Whether Identity-Aware Proxy is on.
      returned: for an App Engine application that is there
      type: bool
"""

import concurrent.futures
import re
from collections.abc import Callable
from dataclasses import dataclass

from ansible_collections.mlplatform.gcp.plugins.module_utils import _appengine, _errors, _policy
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP, Options

MANAGER = "https://cloudresourcemanager.googleapis.com"
USAGE = "https://serviceusage.googleapis.com/v1"
BILLING = "https://cloudbilling.googleapis.com/v1"
USERINFO = "https://openidconnect.googleapis.com/v1/userinfo"
# https://cloud.google.com/service-usage/docs/reference/rest/v1/services/batchGet
SERVICES_AT_ONCE = 30
# https://cloud.google.com/resource-manager/reference/rest/v1/projects/testIamPermissions
PERMISSIONS_AT_ONCE = 100
SIDE_BY_SIDE = 8
ANYWHERE = "*"


@dataclass(frozen=True)
class Kind:
    """How to find one kind of resource.

    url       template of its address
    location  body -> where it is, or None for what is everywhere
    labels    body -> its labels
    state     body -> (word, whether the word is a problem)
    find      (task, name) -> body, where one request to ``url`` does not do
    place     spelling of locations by which they are compared
    shared    whether it belongs to the project and not to one deployment
    moving    what else can be done about one in another place
    facts     body -> what else is told of one that is there
    create    permission that a new one needs, where not every deployment makes one
    """

    url: str = ""
    location: Callable = lambda body: body["name"].split("/")[3]
    labels: Callable = lambda body: body.get("labels") or {}
    state: Callable = lambda body: (None, False)
    find: Callable | None = None
    place: Callable = str.lower
    shared: bool = False
    moving: str = "choose another name"
    facts: Callable = lambda body: {}
    create: str = ""


def _sql_state(body):
    state = body.get("state")
    return state, state in ("FAILED", "SUSPENDED", "PENDING_DELETE")


def _described(body):
    """``key=value`` pairs in a description, as labels."""
    return dict(re.findall(r"([a-z0-9_-]+)=([a-z0-9_-]+)", body.get("description") or ""))


def _application_facts(body):
    enabled = bool((body.get("iap") or {}).get("enabled"))
    return {"services": body["services"], "versions": body["versions"], "iap_enabled": enabled}


def _find_version(task, name):
    service, _slash, version = name.rpartition("/")
    return _appengine.look(task, _appengine.VERSION, service=service or _appengine.DEFAULT_SERVICE, name=version)


WAYS_OUT = {
    "SYSTEM_DISABLED": "Google has disabled it, for example for want of billing. The console says why.",
    "DISABLED": "Enable it again.",
    "PENDING_DELETE": "Wait until it is gone, and run again.",
    "SUSPENDED": "Google has suspended it, for example for want of billing. The console says why.",
    "FAILED": "It does not recover by itself. Restore its last backup into an instance of another name, or delete it"
    " and run again.",
}

_RUN = "https://run.googleapis.com/v2/projects/{project}/locations/{location}"
KINDS = {
    "storage_bucket": Kind(
        "https://storage.googleapis.com/storage/v1/b/{name}", location=lambda body: body["location"].lower()
    ),
    "sql_instance": Kind(
        "https://sqladmin.googleapis.com/v1/projects/{project}/instances/{name}",
        location=lambda body: body["region"],
        labels=lambda body: (body.get("settings") or {}).get("userLabels") or {},
        state=_sql_state,
        facts=lambda body: {"version": body["databaseVersion"]} if "databaseVersion" in body else {},
    ),
    "artifact_repository": Kind(
        "https://artifactregistry.googleapis.com/v1/projects/{project}/locations/{location}/repositories/{name}"
    ),
    "cloud_run_service": Kind(_RUN + "/services/{name}"),
    "cloud_run_job": Kind(_RUN + "/jobs/{name}"),
    "secret": Kind(
        "https://secretmanager.googleapis.com/v1/projects/{project}/secrets/{name}", location=lambda body: None
    ),
    "service_account": Kind(
        "https://iam.googleapis.com/v1/projects/{project}/serviceAccounts/{name}@{project}.iam.gserviceaccount.com",
        location=lambda body: None,
        labels=_described,
        state=lambda body: ("DISABLED" if body.get("disabled") else "ENABLED", bool(body.get("disabled"))),
    ),
    "app_engine_application": Kind(
        location=lambda body: body["locationId"],
        state=lambda body: (body.get("servingStatus"), body.get("servingStatus") == "SYSTEM_DISABLED"),
        find=lambda task, name: _appengine.survey_application(task),
        place=_appengine.location,
        shared=True,
        moving="use another project, for an application cannot be deleted either",
        facts=_application_facts,
        create="appengine.applications.create",
    ),
    "app_engine_service": Kind(location=lambda body: None, find=_appengine.survey_service),
    "app_engine_version": Kind(
        location=lambda body: None,
        labels=_appengine.marked,
        state=lambda body: (body.get("servingStatus"), False),
        find=_find_version,
    ),
}

OPTIONS = GCP + Options(
    {
        "region": {"type": "str"},
        "services": {"type": "list", "elements": "str", "default": []},
        "other_services": {"type": "list", "elements": "str", "default": []},
        "permissions": {"type": "list", "elements": "str", "default": []},
        "resources": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "type": {"type": "str", "required": True, "choices": list(KINDS)},
                "name": {"type": "str", "required": True},
                "location": {"type": "str"},
                "new_only": {"type": "bool", "default": False},
            },
        },
        "owner_labels": {"type": "dict", "default": {}},
        "adopt": {"type": "bool", "default": False},
        "organization_required": {"type": "bool", "default": False},
        "principals": {"type": "list", "elements": "str", "default": []},
    }
)


def run(task):
    return Preflight(task).look()


class Preflight:
    """All questions of one task, and the problems found so far."""

    def __init__(self, task):
        self.task = task
        self.params = task.params
        self.problems = []
        self.unanswered = []
        self.report = {
            "project": None,
            "caller": None,
            "services": {"enabled": [], "disabled": []},
            "resources": [],
        }

    def problem(self, check, what, next_step, resource=None):
        self.problems.append({"check": check, "resource": resource, "what": what, "next": next_step})

    def look(self):
        """The module's result."""
        try:
            self.services()
            self.project()
        except _Hopeless:
            return self.result()
        self.billing()
        self.permissions()
        self.organization()
        self.resources()
        self.principals()
        return self.result()

    def result(self):
        return dict(self.report, changed=False, problems=self.problems, unanswered=list(dict.fromkeys(self.unanswered)))

    # The questions, in the order of what depends on what

    def services(self):
        """Which APIs are enabled. As the first question it also tells whether credentials and project are any good."""
        others = self.params["other_services"]
        asked = [*self.params["services"], *others] or ["serviceusage.googleapis.com"]
        found = {}
        for start in range(0, len(asked), SERVICES_AT_ONCE):
            names = [f"projects/{self.name}/services/{service}" for service in asked[start : start + SERVICES_AT_ONCE]]
            answer = self.fundamental(
                lambda names=names: self.task.client.get(
                    f"{USAGE}/projects/{self.name}/services:batchGet",
                    {"names": names},
                    permission="serviceusage.services.get",
                )
            )
            for item in answer.get("services") or []:
                _projects, number, _services, service = item["name"].split("/", 3)
                found[service] = item.get("state") == "ENABLED"
                self.report["project"] = {
                    "project_id": self.name,
                    "number": number,
                    "state": "ACTIVE",
                    "organization": None,
                }
        known = self.report["services"]
        for service in self.params["services"]:
            known["enabled" if found.get(service) else "disabled"].append(service)
        known["enabled"] += [service for service in others if found.get(service)]
        email = self.caller()
        if email:
            kind = "serviceAccount" if email.endswith(".gserviceaccount.com") else "user"
            self.report["caller"] = {"email": email, "member": f"{kind}:{email}"}

    def caller(self):
        """The e-mail address behind the credentials. A person's login and a bare token do not tell it; Google does,
        unless the token was given out without the scope ``email``: then it is an empty string."""
        known = self.task.client.caller
        if known:
            return known
        try:
            return self.task.client.get(USERINFO).get("email") or ""
        except _errors.ApiError:
            return ""

    def project(self):
        try:
            body = self.fundamental(
                lambda: self.task.client.get(
                    f"{MANAGER}/v3/projects/{self.name}", permission="resourcemanager.projects.get"
                )
            )
        except _errors.ApiDisabled:
            self.unanswered += ["project", "permissions", "organization"]
            return
        parent = body.get("parent") or ""
        self.report["project"] = {
            "project_id": body["projectId"],
            "number": body["name"].split("/")[-1],
            "state": body.get("state"),
            "organization": self.organization_of(parent),
        }
        if body.get("state") != "ACTIVE":
            self.problem(
                "project",
                f"Project {self.name} is {body.get('state')}.",
                f"Restore it (gcloud projects undelete {self.name}) or use another project.",
            )
            raise _Hopeless

    def fundamental(self, ask):
        """Ask something without which nothing else can be asked."""
        try:
            return ask()
        except _errors.ApiDisabled:
            raise
        except (_errors.CredentialsError, _errors.Unauthenticated) as error:
            self.problem("credentials", error.message, error.hint)
        except (_errors.PermissionDenied, _errors.NotFound) as error:
            # Google does not tell a project that does not exist from one that may not be seen.
            caller = self.task.client.caller or "the caller"
            self.problem(
                "project",
                f"Project {self.name} does not exist, or {caller} may not see it ({error.text}).",
                f"Check gcp_project, and that {caller} has a role on it (at least roles/browser and"
                " roles/serviceusage.serviceUsageConsumer).",
            )
        raise _Hopeless

    def organization_of(self, parent):
        """``organizations/N`` above a parent, through folders if need be; None when there is none."""
        while parent.startswith("folders/"):
            try:
                parent = self.task.client.get(f"{MANAGER}/v3/{parent}").get("parent") or ""
            except _errors.ApiError:
                # Only what is inside an organization is in a folder; which one is not for everybody to see.
                return "organizations/unknown"
        return parent or None

    def billing(self):
        try:
            info = self.task.client.get(f"{BILLING}/projects/{self.name}/billingInfo")
        except _errors.ApiDisabled:
            self.unanswered.append("billing")
        except _errors.ApiError:
            self.unanswered.append("billing")  # not for everybody to see, and not needed to deploy
        else:
            if not info.get("billingEnabled"):
                self.problem(
                    "billing",
                    f"Billing is switched off for project {self.name}.",
                    "Link an active billing account:"
                    f" https://console.cloud.google.com/billing/linkedaccount?project={self.name}",
                )

    def permissions(self):
        disabled = self.report["services"]["disabled"]
        enable = "serviceusage.services.enable"
        wanted = list(dict.fromkeys(self.params["permissions"] + ([enable] if disabled else [])))
        if not wanted or "permissions" in self.unanswered:
            return
        granted = self.granted(wanted)
        missing = [permission for permission in wanted if permission not in granted]
        caller = self.task.client.caller
        if enable in missing:
            self.problem(
                "services",
                f"{', '.join(disabled)} must be enabled, and {caller or 'the caller'} may not do that ({enable}).",
                f"Have them enabled: gcloud services enable {' '.join(disabled)} --project={self.name}",
            )
            missing.remove(enable)
        if missing:
            self.problem(
                "permissions",
                f"{caller or 'The caller'} lacks permissions on project {self.name}: {', '.join(missing)}.",
                _errors.permission_hint("", caller, self.name).split(". ", 1)[-1],
            )

    def granted(self, wanted):
        found, url = set(), f"{MANAGER}/v1/projects/{self.name}:testIamPermissions"
        for start in range(0, len(wanted), PERMISSIONS_AT_ONCE):
            asked = wanted[start : start + PERMISSIONS_AT_ONCE]
            found.update(self.task.client.post(url, {"permissions": asked}, safe=True).get("permissions") or [])
        return found

    def organization(self):
        project = self.report["project"]
        asked = self.params["organization_required"] and "organization" not in self.unanswered
        if asked and project["organization"] is None:
            self.problem(
                "organization",
                f"Project {self.name} is in no organization, and Google's managed OAuth client only signs in people"
                " of the project's organization.",
                "Use an OAuth client of your own (two secrets), or move the project into an organization.",
            )

    def resources(self):
        everything = self.params["resources"]
        self.look_at([item for item in everything if not item["new_only"]])
        if not any(found["owned"] for found in self.report["resources"]):
            self.look_at([item for item in everything if item["new_only"]])

    def look_at(self, asked):
        if not asked:
            return
        with concurrent.futures.ThreadPoolExecutor(min(SIDE_BY_SIDE, len(asked))) as pool:
            bodies = list(pool.map(self.find, asked))
        for item, body in zip(asked, bodies, strict=True):
            self.report["resources"].append(self.describe(item, body))

    def find(self, item):
        """Body of a resource; None when it is not there; an error when it may not be seen."""
        kind = KINDS[item["type"]]
        url = kind.url.format(project=self.name, name=item["name"], location=self.location(item))
        try:
            return kind.find(self.task, item["name"]) if kind.find else self.task.client.get(url)
        except (_errors.NotFound, _errors.ApiDisabled):
            return None
        except _errors.ApiError as error:
            return error

    def location(self, item):
        return item["location"] or self.params["region"] or ""

    def describe(self, item, body):
        """What is there under a name, and what is wrong with it."""
        kind, title = KINDS[item["type"]], f"{item['type']} {item['name']}"
        wanted = self.location(item)
        nothing = {"exists": False, "owned": False, "location": wanted.strip(ANYWHERE), "state": None, "labels": {}}
        if isinstance(body, Exception):
            self.unseen(item, title, body)
            return dict(item, **nothing)
        if body is None:
            self.creatable(kind, title)
            return dict(item, **nothing)
        location, labels, (state, bad) = kind.location(body), kind.labels(body), kind.state(body)
        owned = all(str(labels.get(key)) == str(value) for key, value in self.params["owner_labels"].items())
        name = body.get("name") if "/" in str(body.get("name")) else title
        here = self.report["project"]["number"]
        if str(body.get("projectNumber", here)) != here:
            self.taken(title, f"belongs to another project ({body['projectNumber']})", name)
        elif not owned and not kind.shared and not self.params["adopt"]:
            self.taken(
                title,
                self.whose(labels),
                name,
                "If it shall be taken over as it is, set mlflow_adopt=true; otherwise choose",
            )
        if location and wanted not in ("", ANYWHERE) and kind.place(location) != kind.place(wanted):
            self.problem(
                "location",
                f"{title} is in {location}, not in {wanted}; it cannot be moved.",
                f"Set its location to {location}, or {kind.moving}.",
                name,
            )
        if bad:
            self.problem("state", f"{title} is {state}.", WAYS_OUT[state], name)
        facts = kind.facts(body)
        if facts.get("versions", 0) >= _appengine.MOST_VERSIONS and not self.version_is_there():
            self.problem(
                "quota",
                f"{title} has {facts['versions']} versions in all its services, of {_appengine.MOST_VERSIONS} allowed.",
                f"Delete some that get no requests: gcloud app versions list --project={self.name}",
                name,
            )
        return dict(item, exists=True, owned=owned, location=location or wanted, state=state, labels=labels, **facts)

    def version_is_there(self):
        """Whether the deployment's next version exists already, so that none will be made."""
        asked = [item for item in self.params["resources"] if item["type"] == "app_engine_version"]
        return bool(asked) and all(isinstance(self.find(item), dict) for item in asked)

    def creatable(self, kind, title):
        if not kind.create or "permissions" in self.unanswered or self.granted([kind.create]):
            return
        caller = self.task.client.caller
        self.problem(
            "permissions",
            f"{title} does not exist, and {caller or 'the caller'} may not make it ({kind.create}).",
            _errors.permission_hint("", caller, self.name).split(". ", 1)[-1],
            title,
        )

    def principals(self):
        """Members of policies that cannot be. Of people and groups only a policy that is written tells."""
        own = [item["name"] for item in self.params["resources"] if item["type"] == "service_account"]
        made = {f"{name}@{self.name}.iam.gserviceaccount.com" for name in own}
        for text in dict.fromkeys(self.params["principals"]):
            try:
                kind, _colon, email = _policy.member(text).partition(":")
                if kind == "serviceAccount" and email not in made:
                    _policy.refuse_missing(self.task, email)
            except _errors.UserError as error:
                self.problem("principals", error.message, error.hint)

    def whose(self, labels):
        """What the labels of a resource say that is not this deployment's."""
        wanted = self.params["owner_labels"]
        owner = labels.get("mlflow-deployment")
        if not owner:
            return "is there, and was not made by this deployment"
        if owner != wanted.get("mlflow-deployment"):
            return f"belongs to the deployment {owner}"
        lost = ", ".join(f"{key}={value}" for key, value in wanted.items() if str(labels.get(key)) != str(value))
        return f"carries the name of this deployment, but not the label {lost}"

    def unseen(self, item, title, error):
        if item["type"] == "storage_bucket" and isinstance(error, _errors.PermissionDenied):
            # Names of buckets are shared by everybody: one that may not be seen is somebody else's.
            self.taken(title, "is taken by somebody else, or may not be seen")
        elif isinstance(error, _errors.PermissionDenied):
            self.problem("permissions", f"{title} may not be looked at: {error.text}", error.hint, title)
        else:
            self.problem("resources", f"{title} could not be looked at: {error.message}", error.hint, title)

    def taken(self, title, why, name=None, choice="Choose"):
        self.problem("taken", f"{title} {why}.", f"{choice} another name.", name or title)

    @property
    def name(self):
        return self.task.project


class _Hopeless(Exception):
    """Nothing more can be asked."""


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
