# SPDX-License-Identifier: Apache-2.0
"""Service Usage: which APIs a project has enabled, and the service agents that come with them."""

from __future__ import annotations

import secrets
from typing import Any

from gcp_sandbox.gateway import catalog, filters
from gcp_sandbox.gateway.call import Call
from gcp_sandbox.gateway.errors import (
    ApiError,
    error_info,
    failed_precondition,
    invalid,
    not_found,
    permission_denied,
)
from gcp_sandbox.gateway.filters import Predicate, Restriction
from gcp_sandbox.gateway.longrunning import LongRunning
from gcp_sandbox.gateway.operations import Op
from gcp_sandbox.gateway.projects import Project
from gcp_sandbox.gateway.service import job, method

#: Seconds that enabling and disabling take in real life.
SECONDS = 12.0
MAX_AT_ONCE = 20
MAX_TO_GET = 30

EMPTY_METADATA = {"@type": "type.googleapis.com/google.protobuf.Empty", "value": {}}
BATCH_METADATA = {"@type": "type.googleapis.com/google.api.serviceusage.v1.OperationMetadata"}
RESPONSE = "type.googleapis.com/google.api.serviceusage.v1."
NOTHING_TO_DO = "operations/noop.DONE_OPERATION"
FINISHED = "operations/finished.DONE_OPERATION"


class ServiceUsage(LongRunning):
    name = "serviceusage"
    versions = ("v1", "v1beta1")
    consumer = "caller"

    @method("services.enable", permission=None)
    def enable(self, call: Call) -> dict[str, Any]:
        """Enable one API and what it needs."""
        project, service = self._named(call, call.params["name"])
        self._require(call, project, "enable", f"Permission denied to enable service [{service}]")
        self._check_services(project, [service])
        if self.sandbox.enablement.state(project, service) == "ENABLED":
            return self._already(project, "EnableServiceResponse", service)
        return self._start(project, "enable", [service], EMPTY_METADATA)

    @method("services.batchEnable", permission=None)
    def batch_enable(self, call: Call) -> dict[str, Any]:
        """Enable up to twenty APIs, all or none."""
        project = self._project(call, call.params["parent"])
        services = list(dict.fromkeys(call.body.get("serviceIds", ())))
        self._require(call, project, "enable", f"Permission denied to enable service {services}")
        if not services:
            raise invalid("At least one service ID must be specified.")
        if len(services) > MAX_AT_ONCE:
            raise invalid(f"A maximum of {MAX_AT_ONCE} services can be enabled in a single batch, got {len(services)}.")
        self._check_services(project, services)
        return self._start(project, "batchEnable", services, BATCH_METADATA)

    @method("services.disable", permission=None)
    def disable(self, call: Call) -> dict[str, Any]:
        """Disable one API; those that need it must be disabled along with it or before."""
        project, service = self._named(call, call.params["name"])
        self._require(call, project, "disable", f"Permission denied to disable service [{service}]")
        enabled = set(self.sandbox.enablement.enabled(project))
        if service not in enabled:
            return self._already(project, "DisableServiceResponse", service)
        dependents = sorted(catalog.dependents(service) & enabled)
        if dependents and not call.body.get("disableDependentServices"):
            raise failed_precondition(
                f"The service {service} is depended on by the following active service(s): {','.join(dependents)}; "
                "Please specify disable_dependent_services=true if you want to proceed with disabling all services.",
                details=[error_info("COMMON_SU_SERVICE_HAS_DEPENDENT_SERVICES", "serviceusage.googleapis.com")],
            )
        answer = self._start(project, "disable", [service, *dependents], EMPTY_METADATA)
        return {**answer, "metadata": EMPTY_METADATA}

    @method("services.get", permission=None)
    def get(self, call: Call) -> dict[str, Any]:
        """Return the state of one API."""
        project, service = self._named(call, call.params["name"])
        self._require(call, project, "get", f"Permission denied to get service [{service}]")
        if not catalog.known(service):
            raise _unknown([service])
        return self._shown(project, service)

    @method("services.batchGet", permission=None, only=("v1",))
    def batch_get(self, call: Call) -> dict[str, Any]:
        """Return the state of up to thirty APIs."""
        project = self._project(call, call.params["parent"])
        names = call.query.get("names", [])
        self._require(call, project, "get", f"Permission denied to get service {names}")
        if not names or len(names) > MAX_TO_GET:
            raise invalid(f"Between 1 and {MAX_TO_GET} names must be specified.")
        services = []
        for name in names:
            parent, _, service = name.rpartition("/services/")
            if self._project(call, parent) != project:
                raise invalid(f"The name {name} does not belong to the parent {call.params['parent']}.")
            services.append(service)
        if unknown := [service for service in services if not catalog.known(service)]:
            raise _unknown(unknown)
        return {"services": [self._shown(project, service, config=True) for service in services]}

    @method("services.list", permission=None)
    def list(self, call: Call) -> dict[str, Any]:
        """APIs by name, all or those of one state."""
        project = self._project(call, call.params["parent"])
        denied = f"Permission denied to list services for consumer container [projects/{project.number}]"
        self._require(call, project, "list", denied)
        enabled = self.sandbox.enablement.enabled(project)
        states = dict.fromkeys(catalog.names(), "DISABLED") | dict.fromkeys(enabled, "ENABLED")
        wanted = _filter(call.query.get("filter", ""))
        services = [service for service, state in sorted(states.items()) if wanted({"state": state})]
        answer = call.page(services, key="services", default=50, maximum=200)
        if "services" in answer:
            answer["services"] = [self._shown(project, service, config=True) for service in answer["services"]]
        return answer

    @method("services.generateServiceIdentity", permission=None, only=("v1beta1",))
    def generate_service_identity(self, call: Call) -> dict[str, Any]:
        """Make an API's service agent, and say its address."""
        project, service = self._named(call, call.params["parent"])
        self._require(call, project, "enable", f"Permission denied to generate service identity for [{service}]")
        if not catalog.known(service):
            raise _unknown([service])
        response = {"@type": "type.googleapis.com/google.api.serviceusage.v1beta1.ServiceIdentity"}
        if agent := self.sandbox.identities.service_agent(project, service):
            response |= {"email": agent["email"], "uniqueId": agent["uniqueId"]}
        return {"name": FINISHED, "done": True, "response": response}

    @method("operations.get", permission=None)
    def get_operation(self, call: Call) -> dict[str, Any]:
        """Return an operation, or one of the two names that stand for something already done."""
        if call.params["name"] in (NOTHING_TO_DO, FINISHED):
            return {
                "name": call.params["name"],
                "done": True,
                "response": {"@type": EMPTY_METADATA["@type"], "value": {}},
            }
        return self._operation_get(call)

    # --- work ---------------------------------------------------------------------------------------------------

    @job("enable")
    def _enable(self, op: Op) -> dict[str, Any]:
        project, services = self._apply(op)
        return {"@type": f"{RESPONSE}EnableServiceResponse", "service": self._shown(project, services[0])}

    @job("batchEnable")
    def _batch_enable(self, op: Op) -> dict[str, Any]:
        project, services = self._apply(op)
        shown = [self._shown(project, service) for service in services]
        return {"@type": f"{RESPONSE}BatchEnableServicesResponse", "services": shown}

    @job("disable")
    def _disable(self, op: Op) -> dict[str, Any]:
        op.elapse()
        project, services = self._target(op)
        self.sandbox.enablement.disable(project, services)
        service = {**self._shown(project, services[0]), "parent": f"projects/{project.number}"}
        return {"@type": f"{RESPONSE}DisableServiceResponse", "service": service}

    def _apply(self, op: Op) -> tuple[Project, list[str]]:
        op.elapse()
        project, services = self._target(op)
        with self.store.transaction():
            self.sandbox.enablement.enable(project, services)
        return project, services

    def _target(self, op: Op) -> tuple[Project, list[str]]:
        project = self.sandbox.projects.get(op.project)
        if project is None:
            raise not_found(f"Project {op.project} not found.")
        return project, op.args["services"]

    def _start(self, project: Project, work: str, services: list[str], metadata: dict[str, Any]) -> dict[str, Any]:
        name = f"operations/acat.p2-{project.number}-{secrets.token_hex(16)}"
        self.sandbox.operations.start(
            service=self.name,
            name=name,
            seconds=SECONDS,
            job=work,
            args={"services": services},
            project=project.id,
            body={"metadata": metadata},
        )
        return {"name": name}

    def _already(self, project: Project, response: str, service: str) -> dict[str, Any]:
        body = {"@type": RESPONSE + response, "service": self._shown(project, service)}
        return {"name": NOTHING_TO_DO, "done": True, "response": body}

    # --- names, checks, shapes ----------------------------------------------------------------------------------

    def _named(self, call: Call, name: str) -> tuple[Project, str]:
        parent, _, service = name.rpartition("/services/")
        return self._project(call, parent), service

    def _project(self, call: Call, parent: str) -> Project:
        kind, _, identifier = parent.partition("/")
        if kind != "projects":
            raise invalid(f"The consumer {parent} is not a project.")
        return call.project(identifier)

    def _require(self, call: Call, project: Project, verb: str, message: str) -> None:
        if not self.sandbox.iam.allowed(call.caller, project.name, f"serviceusage.services.{verb}"):
            info = error_info("AUTH_PERMISSION_DENIED", "serviceusage.googleapis.com")
            raise permission_denied(message, details=[info])

    def _check_services(self, project: Project, services: list[str]) -> None:
        if unknown := [service for service in services if not catalog.known(service)]:
            raise _unknown(unknown)
        billed = sorted(set(services) & catalog.BILLED)
        if billed and not self._billing(project):
            violation = {
                "type": "googleapis.com/billing-enabled",
                "subject": project.number,
                "description": "billing-not-enabled",
            }
            failure = {"@type": "type.googleapis.com/google.rpc.PreconditionFailure", "violations": [violation]}
            info = error_info(
                "UREQ_PROJECT_BILLING_NOT_FOUND",
                "serviceusage.googleapis.com/billing-enabled",
                services=",".join(billed),
            )
            raise failed_precondition(
                f"Billing account for project '{project.number}' is not found. Billing must be enabled for activation "
                f"of service(s) '{','.join(billed)}' to proceed.",
                details=[failure, info],
            )

    def _billing(self, project: Project) -> bool:
        account = self.store.get("cloudbilling.billingAccount", project.billing_account) or {}
        return account.get("open", False)

    def _shown(self, project: Project, service: str, *, config: bool = False) -> dict[str, Any]:
        state = self.sandbox.enablement.state(project, service)
        parent = f"projects/{project.number}"
        shown: dict[str, Any] = {"name": f"{parent}/services/{service}"}
        if config:
            shown["config"] = {"name": service, "title": catalog.title(service)}
        if state == "ENABLED" or config:
            shown["parent"] = parent
        return {**shown, "state": state}


def _filter(text: str) -> Predicate:
    def restriction(term: Restriction) -> Predicate | None:
        if (term.field, term.operator) != ("state", ":") or term.value not in ("ENABLED", "DISABLED"):
            return None
        return lambda service: service["state"] == term.value

    message = f"Invalid filter: {text}. The allowed filters are state:ENABLED and state:DISABLED."
    return filters.compile(text, restriction, lambda rest: invalid(message), words=())


def _unknown(services: list[str]) -> ApiError:
    """Return the error for unknown services and for those that the caller may not see, which is the same."""
    names = ",".join(services)
    violation = {"type": "googleapis.com", "subject": f"?error_code=220002&services={names}"}
    failure = {"@type": "type.googleapis.com/google.rpc.PreconditionFailure", "violations": [violation]}
    info = error_info("SERVICE_CONFIG_NOT_FOUND_OR_PERMISSION_DENIED", "serviceusage.googleapis.com", services=names)
    return permission_denied(f"Not found or permission denied for service(s): {names}.", details=[failure, info])
