# SPDX-License-Identifier: Apache-2.0
"""Versions of a service, which are what is deployed, and the instances that run of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gcp_sandbox.gateway import errors
from gcp_sandbox.gateway.service import job, method
from gcp_sandbox.services.appengine import names, template
from gcp_sandbox.services.appengine.base import SERVICE_KIND, VERSION_KIND, not_served, on_project, shown
from gcp_sandbox.services.appengine.common import Common
from gcp_sandbox.serving.access import may_act_as

if TYPE_CHECKING:
    from gcp_sandbox.backends.processes import Process
    from gcp_sandbox.gateway.call import Call
    from gcp_sandbox.gateway.operations import Op

Json = dict[str, Any]

FLEX_API = "appengineflex.googleapis.com"

# A flexible version gets virtual machines, a load balancer and a network of its own.
CREATE_SECONDS, PATCH_SECONDS, DELETE_SECONDS, INSTANCE_SECONDS = 400.0, 60.0, 60.0, 20.0

# https://cloud.google.com/appengine/docs/standard/an-overview-of-app-engine#limits, of an application that pays.
MAX_VERSIONS = 210

FIRST_IS_DEFAULT = (
    "The first service (module) you upload to a new application must be the 'default' service (module). Please upload "
    "a version of the 'default' service (module) before uploading a version for the '{service}' service (module). See "
    "the documentation for more information. Python: "
    "(https://developers.google.com/appengine/docs/python/modules/#Python_Uploading%%20modules) Java: "
    "(https://developers.google.com/appengine/docs/java/modules/#Java_Uploading%%20modules)"
)


class Versions(Common):
    """apps.services.versions and their instances."""

    #: How many versions an application may have.
    max_versions = MAX_VERSIONS

    @method("apps.services.versions.create", permission="appengine.versions.create", on=on_project)
    def create_version(self, call: Call) -> Json:
        app = self.application(call)
        project = call.project(app["id"])
        service, id = call.params["servicesId"], call.body.get("id", "")
        names.check_service_id(service)
        names.check_version_id(id)
        parent = f"{app['name']}/services/{service}"
        name = f"{parent}/versions/{id}"
        version = template.complete(call.body)
        self.sandbox.enablement.require(project, FLEX_API)
        if app["servingStatus"] != "SERVING":
            raise errors.failed_precondition(
                f"Unable to deploy to application [{app['id']}] with status [{app['servingStatus']}]: Deploying to "
                "stopped apps is not allowed."
            )
        if service != "default" and self.store.get(SERVICE_KIND, f"{app['name']}/services/default") is None:
            raise errors.invalid(FIRST_IS_DEFAULT.format(service=service))
        existing = self.store.get(VERSION_KIND, name)
        if existing is None and len(self.store.list(VERSION_KIND, prefix=f"{app['name']}/")) >= self.max_versions:
            raise errors.invalid(
                f"Your app may not have more than {self.max_versions} versions. Please delete one of the existing "
                "versions before trying to create a new version."
            )
        email = version.setdefault("serviceAccount", app["serviceAccount"])
        if not may_act_as(self.sandbox, call.caller, email, project.id):
            raise errors.permission_denied(f"You do not have permission to act as '{email}'")
        body = {
            "name": name,
            **version,
            "threadsafe": True,
            "createdBy": call.caller.email,
            "createTime": call.now,
            "versionUrl": f"https://{names.version_host(app, service, id)}",
            "_serial": self.store.next_id("appengine.deployment"),
        }
        return self.operation(
            call, "Versions.CreateVersion", name, "versions.create", CREATE_SECONDS, {"version_body": body}
        )

    @job("versions.create")
    def deploy_version(self, op: Op) -> Json:
        """Bring up a version. The first one of a service gets its traffic; a failure leaves everything as it was."""
        body = op.args["version_body"]
        if body["servingStatus"] == "SERVING":
            # One image for all its instances, whatever its tag names later.
            body["_digest"] = self.runtime.image(body).digest
            self.runtime.deploy(body)
        op.elapse()
        parent = body["name"].rpartition("/versions/")[0]
        with self.store.transaction():
            self.store.put(VERSION_KIND, body["name"], body, parent=parent)
            if self.store.get(SERVICE_KIND, parent) is None:
                app, _, id = parent.rpartition("/services/")
                service = {"name": parent, "id": id, "split": {"allocations": {body["id"]: 1}}}
                self.store.put(SERVICE_KIND, parent, service, parent=app)
        self.runtime.activate(body)
        self.runtime.refresh()
        return self.response(op, "Version", body)

    @method("apps.services.versions.get", permission="appengine.versions.get", on=on_project)
    def get_version(self, call: Call) -> Json:
        return template.in_view(shown(self.version(call)), call.query.get("view"))

    @method("apps.services.versions.list", permission="appengine.versions.list", on=on_project)
    def list_versions(self, call: Call) -> Json:
        rows = self.store.list(VERSION_KIND, parent=self.service(call)["name"])
        view = call.query.get("view")
        versions = [template.in_view(shown(body), view) for _, body in rows]
        return call.page(versions, key="versions", default=100, maximum=1000)

    @method(
        "apps.services.versions.patch",
        permission="appengine.versions.update",
        also=["appengine.versions.get"],
        on=on_project,
    )
    def patch_version(self, call: Call) -> Json:
        existing = self.version(call)
        body = template.patched(existing, call.body, call.query.get("updateMask", ""))
        return self.operation(
            call, "Versions.UpdateVersion", body["name"], "versions.patch", PATCH_SECONDS, {"version_body": body}
        )

    @job("versions.patch")
    def change_version(self, op: Op) -> Json:
        """Put a change into effect; a version that was stopped has to become healthy again."""
        body = op.args["version_body"]
        if body["servingStatus"] == "SERVING":
            self.runtime.deploy(body)
        op.elapse()
        self.store.put(VERSION_KIND, body["name"], body, parent=body["name"].rpartition("/versions/")[0])
        self.runtime.activate(body)
        self.runtime.refresh()
        return self.response(op, "Version", body)

    @method("apps.services.versions.delete", permission="appengine.versions.delete", on=on_project)
    def delete_version(self, call: Call) -> Json:
        body = self.version(call)
        if self.service(call)["split"]["allocations"].get(body["id"]):
            raise errors.invalid(
                "Cannot delete a version with a non-zero traffic allocation. Please update your traffic split to "
                "remove the allocation for this version and try again."
            )
        return self.operation(call, "Versions.DeleteVersion", body["name"], "versions.delete", DELETE_SECONDS, {})

    @job("versions.delete")
    def remove_version(self, op: Op) -> Json:
        """Forget a version and stop what runs of it."""
        op.elapse()
        body = self.store.get(VERSION_KIND, op.target)
        if body is not None:
            self.store.delete(VERSION_KIND, op.target)
            self.runtime.refresh()
            self.runtime.forget(body)
        return {"@type": "type.googleapis.com/google.protobuf.Empty"}

    # -- instances

    @method("apps.services.versions.instances.list", permission="appengine.instances.list", on=on_project)
    def list_instances(self, call: Call) -> Json:
        version = self.version(call)
        instances = [self._instance(version, process) for process in self._processes(version)]
        return call.page(sorted(instances, key=lambda item: item["id"]), key="instances", default=100, maximum=1000)

    @method("apps.services.versions.instances.get", permission="appengine.instances.get", on=on_project)
    def get_instance(self, call: Call) -> Json:
        version = self.version(call)
        return self._instance(version, self._process(call, version))

    @method("apps.services.versions.instances.delete", permission="appengine.instances.delete", on=on_project)
    def delete_instance(self, call: Call) -> Json:
        version = self.version(call)
        process = self._process(call, version)
        name = f"{version['name']}/instances/{process.facts['instance']}"
        args = {"instance": process.facts["instance"], "name": version["name"]}
        return self.operation(call, "Instances.DeleteInstance", name, "instances.delete", INSTANCE_SECONDS, args)

    @job("instances.delete")
    def remove_instance(self, op: Op) -> Json:
        """Stop an instance; the version's scaling decides whether another takes its place."""
        for process in self.sandbox.processes.of(op.args["name"]):
            if process.facts["instance"] == op.args["instance"]:
                process.stop()
        return {"@type": "type.googleapis.com/google.protobuf.Empty"}

    @method("apps.services.versions.instances.debug", permission="appengine.instances.enableDebug", on=on_project)
    def debug_instance(self, call: Call) -> Json:
        """Google adds an SSH key to the instance's machine."""
        raise not_served("debugging of instances")

    def _processes(self, version: Json) -> list[Process]:
        return [
            process
            for process in self.sandbox.processes.of(version["name"])
            if process.facts["deployment"].endswith(f"@{version['_serial']}")
        ]

    def _process(self, call: Call, version: Json) -> Process:
        id = call.params["instancesId"]
        found = next((p for p in self._processes(version) if p.facts["instance"] == id), None)
        if found is None:
            raise errors.not_found(f'Could not find Instance "{id}" of Version "{version["id"]}".')
        return found

    def _instance(self, version: Json, process: Process) -> Json:
        id = process.facts["instance"]
        return {
            "name": f"{version['name']}/instances/{id}",
            "id": id,
            "startTime": process.facts["startTime"],
            "vmName": id,
            "vmId": id,
            "vmStatus": "RUNNING",
            "vmIp": "127.0.0.1",
            "vmLiveness": self.runtime.liveness(version, process),
        }
