# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cloud Run."""

from __future__ import annotations

import dataclasses

from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue import kms
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.kind import Kind, from_name
from ansible_collections.mlplatform.gcp.plugins.module_utils._operations import long_running
from ansible_collections.mlplatform.gcp.plugins.module_utils._ownership import Labels
from ansible_collections.mlplatform.gcp.plugins.module_utils._plan import Rules
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import PENDING, READY, Resource, Update

BASE = "https://run.googleapis.com/v2"
OPERATION = long_running(BASE)
# Roles that were granted a moment ago, and accounts that were just made, are not known everywhere at once.
TRANSIENT = (
    r"service account .* (was )?not found",
    r"Service account .* does not exist",
    r"Permission denied on secret",
    *kms.TRANSIENT,
)


def state(body):
    """``Resource.state`` of services and jobs: Cloud Run works on them while they are reconciling."""
    return (PENDING, "reconciling") if body.get("reconciling") else (READY, "")


# Rules common to the templates of services (prefix ``template``) and jobs (``template.template``).
def rules(prefix):
    """``Rules`` for the template at ``prefix``."""
    return Rules(
        keyed={
            f"{prefix}.containers.env": "name",
            f"{prefix}.containers.volumeMounts": "name",
            f"{prefix}.volumes": "name",
        },
        unordered=(f"{prefix}.volumes.cloudSqlInstance.instances",),
        merge={
            f"{prefix}.containers": merged_containers,
            # Tags of a former owner, which firewall rules may name.
            f"{prefix}.vpcAccess.networkInterfaces": lambda desired, existing: [
                dict(old, **new) for new, old in zip(desired, existing or [{}], strict=False)
            ],
        },
    )


def merged_containers(desired, existing):
    """Return the containers to send: the existing ones merged with those of the task. Lists are sent whole."""
    if len(desired) != len(existing):
        return desired
    return [_merged_container(new, old) for new, old in zip(desired, existing, strict=True)]


def _merged_container(new, old):
    merged = dict(old, **new)
    if "resources" in new:
        known = old.get("resources") or {}
        merged["resources"] = dict(known, **new["resources"])
        if "limits" in new["resources"]:
            merged["resources"]["limits"] = dict(known.get("limits") or {}, **new["resources"]["limits"])
    probe = (old.get("startupProbe") or {}).get("tcpSocket")
    if "ports" in new and "startupProbe" not in new and probe and probe.get("port") == _port(old):
        # Cloud Run gives a container without a probe one that connects to its port: it has to make that anew.
        del merged["startupProbe"]
    return merged


def _unnamed(plan, body, mask):
    """Return a change with a template that does not name the revision.

    gcloud, Terraform and the console can give a revision a name of its own. The template keeps that name, and Cloud Run
    rejects a second revision of the same name: https://cloud.google.com/run/docs/managing/revisions
    """
    if "template" in body:
        body = dict(body, template={key: value for key, value in body["template"].items() if key != "revision"})
    return body, mask


def _port(container):
    return next((item.get("containerPort") for item in container.get("ports") or []), None)


SERVICE = Resource(
    kind="Cloud Run service",
    base=BASE,
    path="projects/{project}/locations/{location}/services/{name}",
    permission="run.services",
    create_id="serviceId",
    update=Update(rewrite=_unnamed),
    operation=OPERATION,
    version="etag",
    state=state,
    mark=Labels(),
    kept=("description", "template.encryptionKey"),
    transient=TRANSIENT,
    rules=dataclasses.replace(
        rules("template"),
        # Services from before the field exist without it, and scale automatically.
        may_omit=("scaling.scalingMode",),
    ),
    # https://cloud.google.com/run/docs/managing/revisions
    implies={"template": "new revision"},
)

JOB = Resource(
    kind="Cloud Run job",
    base=BASE,
    path="projects/{project}/locations/{location}/jobs/{name}",
    permission="run.jobs",
    create_id="jobId",
    # A job's PATCH takes no mask: it replaces the whole.
    update=Update(style="put", method="PATCH"),
    operation=OPERATION,
    version="etag",
    state=state,
    mark=Labels(),
    kept=("template.template.encryptionKey",),
    transient=TRANSIENT,
    rules=rules("template.template"),
)


def _latest_execution(job, body):
    name = (body.get("latestCreatedExecution") or {}).get("name")
    return f"{job.url}/executions/{name.rsplit('/', 1)[-1]}" if name else None


KINDS = {
    "cloud_run_service": Kind(
        SERVICE,
        items="services",
        location=from_name,
        facts=lambda remote, body: {"url": body["uri"]} if "uri" in body else {},
        policy="//run.googleapis.com/projects/{project}/locations/{location}/services/{name}",
        iap="//iap.googleapis.com/projects/{number}/iap_web/cloud_run-{location}/services/{name}",
    ),
    "cloud_run_job": Kind(
        JOB,
        items="jobs",
        location=from_name,
        policy="//run.googleapis.com/projects/{project}/locations/{location}/jobs/{name}",
        related={"latest_execution": _latest_execution},
    ),
}
