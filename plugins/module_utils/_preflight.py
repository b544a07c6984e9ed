# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Judge what a survey found: everything that would make a deployment fail, with the next step."""

from __future__ import annotations

import contextlib

from ansible_collections.mlplatform.gcp.plugins.module_utils import (
    _errors,
    _ownership,
    _policy,
    _project_id,
    _references,
)
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.appengine import MOST_VERSIONS
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.kind import ANYWHERE
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.kinds import KINDS
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment import deployer_roles, permissions
from ansible_collections.mlplatform.gcp.plugins.module_utils._survey import Survey

ENABLE = "serviceusage.services.enable"
# Needed to read the project and its APIs.
READ = ("resourcemanager.projects.get", "serviceusage.services.get")
# Type and state of a resource -> what to do, with the names of the resource.
WAYS_OUT = {
    (
        "app_engine_application",
        "SYSTEM_DISABLED",
    ): "Google has disabled it, for example for want of billing. Check billing (gcloud billing projects"
    " describe {project}); https://console.cloud.google.com/appengine/settings?project={project} has the reason.",
    (
        "secret_version",
        "DESTROYED",
    ): "Its value is deleted. Add a version with a value, and use that one.",
    ("secret_version", "DISABLED"): "Enable it, or use another version.",
    ("service_account", "DISABLED"): "Enable it: gcloud iam service-accounts enable {email} --project={project}",
    (
        "sql_instance",
        "PENDING_DELETE",
    ): "Wait until it is deleted (gcloud sql instances describe {name} --project={project}), and run again.",
    (
        "sql_instance",
        "SUSPENDED",
    ): "Google has suspended it, for example because billing or its key is disabled. Read the reason with:"
    " gcloud sql instances describe {name} --project={project} --format='value(suspensionReason)'",
    (
        "sql_instance",
        "FAILED",
    ): "It does not recover. Restore its last backup into an instance of another name (gcloud sql backups list"
    " --instance={name} --project={project}), or delete it (gcloud sql instances delete {name} --project={project})"
    " and run again.",
}


class Preflight:
    """The questions of one task, and the problems found so far."""

    def __init__(self, task, asked=None):
        """:param asked: the options of ``preflight_info``, by default those of the task."""
        self.params = asked or task.params
        self.name = task.project
        self.survey = Survey(task)
        self.warn = task.warn
        self.caller = task.client.caller
        self.problems = []
        self.unanswered = []
        self.missing = ()
        self.report = {
            "project": None,
            "caller": None,
            "services": {"enabled": [], "disabled": []},
            "resources": [],
        }

    def problem(self, check, what, next_step, resource=None):
        self.problems.append({"check": check, "resource": resource, "what": what, "next": next_step})

    def result(self):
        """Ask everything and return the module's result."""
        with contextlib.suppress(_Hopeless):  # the problem is reported already, and no further query can succeed
            self._ask()
        return dict(self.report, changed=False, problems=self.problems, unanswered=list(dict.fromkeys(self.unanswered)))

    def _ask(self):
        self._services()
        resources = [dict(item, location=self._wanted(item)) for item in self.params["resources"]]
        wanted = self._permissions()
        members = self._members()
        survey = self.survey
        # An API can be disabled in this project and enabled in the quota project, which requests are counted to.
        questions = {
            "caller": survey.caller,
            "project": survey.project,
            "billing": survey.billing,
            "granted": lambda: survey.granted(wanted),
        }
        reads = [lambda item=item: survey.resource(item) for item in resources]
        checks = [lambda text=text: survey.member(text) for text in members]
        answers = survey.side_by_side([*questions.values(), *reads, *checks])
        known = dict(zip(questions, answers, strict=False))
        answers = answers[len(questions) :]
        self._caller(known["caller"].value)
        self._project(known["project"])
        self._billing(known["billing"])
        found = _values(answers[: len(resources)])
        self._granted(known["granted"], found)
        self._organization()
        self.report["resources"] = [self._describe(item, found) for item in found]
        for error in [answer.error for answer in answers[len(resources) :] if answer.error]:
            self.problem("principals", error.message, error.hint)

    # Services, project, billing, permissions

    def _services(self):
        others, wanted = self.params["other_services"], self.params["services"]
        asked = [*wanted, *others] or ["serviceusage.googleapis.com"]
        try:
            found, number = self.survey.services(asked)
        except _errors.ApiDisabled:
            raise
        except _errors.GcpError as error:
            raise self._fundamental(error) from error
        if number:
            self.report["project"] = {
                "project_id": self.name,
                "number": number,
                "state": "ACTIVE",
                "organization": None,
            }
        known = self.report["services"]
        for service in wanted:
            known["enabled" if found.get(service) else "disabled"].append(service)
        known["enabled"] += [service for service in others if found.get(service)]

    def _caller(self, email):
        self.caller = self.caller or email
        if email:
            kind = "serviceAccount" if email.endswith(".gserviceaccount.com") else "user"
            self.report["caller"] = {"email": email, "member": f"{kind}:{email}"}

    def _fundamental(self, error):
        """Return the exception that ends preflight after an error that prevents all further checks."""
        if isinstance(error, (_errors.CredentialsError, _errors.Unauthenticated)):
            self.problem("credentials", error.message, error.hint)
        elif isinstance(error, (_errors.PermissionDenied, _errors.NotFound)):
            # Google answers alike for a project that does not exist and for one that may not be seen.
            caller = self.caller or "the caller"
            self.problem(
                "project",
                f"Project {self.name} does not exist, or {caller} may not see it ({error.text}).",
                "Check gcp_project. If it is right, grant the smallest set of roles:\n"
                + self._commands([*READ, *self.params["permissions"], *self._creating(self.params["resources"])]),
            )
        else:
            return error
        return _Hopeless()

    def _project(self, answer):
        if isinstance(answer.error, _errors.ApiDisabled):
            self.unanswered += ["project", "permissions", "organization"]
            return
        if answer.error:
            raise self._fundamental(answer.error) from answer.error
        body = answer.value
        self.report["project"] = {
            "project_id": body["projectId"],
            "number": body["name"].split("/")[-1],
            "state": body.get("state"),
            "organization": body["organization"],
        }
        if body.get("state") != "ACTIVE":
            self.problem(
                "project",
                f"Project {self.name} is {body.get('state')}.",
                f"Restore it (gcloud projects undelete {self.name}) or use another project.",
            )
            raise _Hopeless

    def _billing(self, answer):
        if isinstance(answer.error, _errors.ApiError):
            self.unanswered.append("billing")  # not every caller may see it, and it is not needed to deploy
        elif answer.error:
            raise answer.error
        elif not answer.value.get("billingEnabled"):
            self.problem(
                "billing",
                f"Billing is switched off for project {self.name}.",
                f"Link an active billing account: https://console.cloud.google.com/billing/linkedaccount?project={self.name}",
            )

    def _permissions(self):
        """Return the permissions to test: the wanted ones, and those that only some deployments need."""
        return list(permissions.to_test([*self._needed(), *self._creating(self.params["resources"])]))

    def _needed(self):
        enabling = permissions.ENABLE_APIS.deploy if self.report["services"]["disabled"] else ()
        return [*self.params["permissions"], *enabling]

    def _creating(self, asked):
        """Return the permissions to create resources that not every deployment creates.

        Resources of the other services are those of another target, which this deployment only reads.
        """
        kinds = [KINDS[item["type"]] for item in asked]
        return [kind.create for kind in kinds if kind.create and kind.service not in self.params["other_services"]]

    def _granted(self, answer, found):
        """Note the permissions that the caller lacks; ``found`` are the resources that exist or are to be created."""
        if "permissions" in self.unanswered:
            return
        if answer.error:
            raise answer.error
        new = self._creating(item.asked for item in found if item.body is None and not item.error)
        missing = permissions.missing([*self._needed(), *new], answer.value)
        disabled = self.report["services"]["disabled"]
        if disabled and ENABLE in missing:
            self.problem(
                "services",
                f"{', '.join(disabled)} must be enabled, and {self.caller or 'the caller'} may not do that ({ENABLE}).",
                f"Have them enabled: gcloud services enable {' '.join(disabled)} --project={self.name}\n"
                f"Or grant the smallest set of roles:\n{self._commands(permissions.ENABLE_APIS.deploy)}",
            )
            alone = set(permissions.ENABLE_APIS.deploy) - set(self.params["permissions"])
            missing = tuple(name for name in missing if name not in alone)
        self.missing = missing
        if missing:
            self.problem(
                "permissions",
                f"{self.caller or 'The caller'} lacks permissions on project {self.name}: {', '.join(missing)}.",
                f"Grant the smallest set of roles:\n{self._commands(missing)}",
            )

    def _commands(self, missing):
        """Return the commands, one a line, that grant the caller the smallest set of roles for the permissions."""
        caller = deployer_roles.member(self.caller)
        return "\n".join(deployer_roles.commands(self.name, caller, deployer_roles.smallest(missing)))

    def _organization(self):
        asked = self.params["organization_required"] and "organization" not in self.unanswered
        if asked and self.report["project"]["organization"] is None:
            self.problem(
                "organization",
                f"Project {self.name} is in no organization, and Google's managed OAuth client only signs in people"
                " of the project's organization.",
                "Use an OAuth client of your own (two secrets), or move the project into an organization.",
            )

    def _members(self):
        """Return the members to look up: all but the deployment's own accounts, which it will create."""
        own = [item["name"] for item in self.params["resources"] if item["type"] == "service_account"]
        made = {f"serviceAccount:{_project_id.account_email(name, self.name)}" for name in own}
        return [text for text in dict.fromkeys(self.params["principals"]) if _spelled(text) not in made]

    # Resources

    def _wanted(self, item):
        return item["location"] or self.params["region"] or ""

    def _owned(self, found):
        return found.exists and _ownership.carries(found.kind.resource.mark, found.labels, self.params["owner_labels"])

    def _relation(self, found, everything):
        if found.kind.shared or not found.exists:
            return "shared" if found.kind.shared else _ownership.CREATED
        if found.kind.lenient:
            parent = found.remote.parent().url
            return next((self._relation(item, ()) for item in everything if item.remote.url == parent), "")
        if self._owned(found):
            return _ownership.MANAGED
        return _ownership.ADOPTED if self.params["adopt"] else "foreign"

    def _describe(self, found, everything):
        """Return the report of one resource, and note what is wrong with it."""
        kind, asked, body = found.kind, found.asked, found.body
        title, wanted = f"{asked['type']} {asked['name']}", asked["location"]
        report = dict(
            asked,
            exists=found.exists,
            owned=self._owned(found),
            location=wanted.strip(ANYWHERE),
            state=None,
            labels=found.labels,
            relation=self._relation(found, everything),
            **found.facts,
        )
        if asked.get("referenced_by"):
            self._referenced(found)
            return dict(
                report,
                unread=found.unread,
                usable=found.usable,
                grantable=found.grantable,
                state=kind.state(body)[0] if found.exists else None,
            )
        if found.error and not kind.lenient:
            self._unreadable(asked, title, found.error)
        if found.deleted:
            self._restorable(found.deleted, title)
        if body is None:
            return report
        location, (state, bad) = kind.location(body) if kind.location else None, kind.state(body)
        name = body.get("name") if "/" in str(body.get("name")) else title
        here = self.report["project"]["number"]
        if str(body.get("projectNumber", here)) != here:
            self._taken(title, f"belongs to another project ({body['projectNumber']})", name)
        elif not (report["owned"] or kind.shared or kind.lenient or self.params["adopt"] or asked.get("adopt")):
            self._taken(
                title,
                _ownership.whose(found.labels, self.params["owner_labels"]),
                name,
                "To adopt it, set mlflow_adopt=true; otherwise choose",
            )
        if location and wanted not in ("", ANYWHERE) and kind.place(location) != kind.place(wanted):
            self.problem(
                "location",
                f"{title} is in {location}, not in {wanted}; it cannot be moved.",
                f"Set its location to {location}, or {kind.moving}.",
                name,
            )
        if found.unfit:
            self._unfit(found, title)
        if bad:
            way = WAYS_OUT.get((asked["type"], state), "Restore it, or use another one.")
            self.problem("state", f"{title} is {state}.", way.format(**found.remote.names), name)
        if found.facts.get("versions", 0) >= MOST_VERSIONS and not _version_exists(everything):
            self.problem(
                "quota",
                f"{title} has {found.facts['versions']} versions in all its services, of {MOST_VERSIONS} allowed.",
                f"Delete some that get no requests: gcloud app versions list --project={self.name}",
                name,
            )
        return dict(report, location=location or wanted, state=state)

    def _referenced(self, found):
        """Note what is wrong with a resource that a variable refers to and that has to exist."""
        kind = found.kind
        if kind.service in self.survey.disabled:
            self.unanswered.append("references")
            return
        denied = isinstance(found.error, _errors.PermissionDenied)
        if denied and f"{kind.resource.permission}.get" in self.missing:
            return  # among the missing permissions
        for item in _references.judge(found, deployer_roles.member(self.caller)):
            if item.certain:
                self.problem("references", item.what, item.next, found.remote.path)
            else:
                self.warn(f"{item.what} {item.next}")

    def _restorable(self, bucket, title):
        name, generation = bucket["name"], bucket["generation"]
        self.warn(
            f"{title} was deleted at {bucket['softDeleteTime']} and can be restored with its objects until"
            f" {bucket['hardDeleteTime']}. A new bucket of this name is empty, and prevents that while it exists."
            f" To keep the objects, restore the bucket first: gcloud storage restore 'gs://{name}#{generation}', and"
            f" then its objects: gcloud storage restore 'gs://{name}/**'"
        )

    def _unfit(self, found, title):
        self.problem(
            "values",
            f"The value of {title} {found.unfit}.",
            _references.new_value(found),
            found.remote.path,
        )

    def _unreadable(self, asked, title, error):
        denied = isinstance(error, _errors.PermissionDenied)
        if denied and f"{KINDS[asked['type']].resource.permission}.get" in self.missing:
            return  # among the missing permissions
        if denied and asked["type"] == "storage_bucket":
            # Names of buckets are global: one that may not be seen belongs to another project.
            self._taken(title, "belongs to another owner, or is not readable")
        elif denied:
            self.problem("permissions", f"{title} is not readable: {error.text}", error.hint, title)
        else:
            self.problem("resources", f"{title} could not be read: {error.message}", error.hint, title)

    def _taken(self, title, why, name=None, choice="Choose"):
        self.problem("taken", f"{title} {why}.", f"{choice} another name.", name or title)


def _values(answers):
    """Return the resources that were read; what cannot be a name is the error of the task that uses it."""
    for answer in answers:
        if answer.error and not isinstance(answer.error, _errors.UserError):
            raise answer.error
    return [answer.value for answer in answers if not answer.error]


def _version_exists(everything):
    """Whether the deployment's next version of App Engine exists already, so that none will be created."""
    versions = [found for found in everything if found.asked["type"] == "app_engine_version"]
    return bool(versions) and all(found.exists for found in versions)


def _spelled(text):
    try:
        return _policy.member(text)
    except _errors.UserError:
        return text


class _Hopeless(Exception):
    """No further check is possible."""
