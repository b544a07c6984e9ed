# SPDX-License-Identifier: Apache-2.0
"""From a template to a container: its image, environment, secrets and volumes, read with the permissions that it will
have.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcp_sandbox.backends.logs import Source
from gcp_sandbox.backends.processes import Spec, Volume
from gcp_sandbox.backends.servers import ANY_NETWORK
from gcp_sandbox.gateway import errors, keys
from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.gateway.ports import SecretReader
from gcp_sandbox.services.run.names import Name
from gcp_sandbox.serving import vpc
from gcp_sandbox.serving.access import PULL, guarded, may_act_as, may_pull

if TYPE_CHECKING:
    from gcp_sandbox.backends.images import Image
    from gcp_sandbox.backends.platform import Platform

Json = dict[str, Any]


class Failure(ApiError):
    """Why a revision or an execution cannot run, as its conditions say it.

    :param cause: fields of the condition: {"revisionReason": ...}, {"reason": ...} or {"executionReason": ...}.
    """

    def __init__(self, status: str, message: str, **cause: str) -> None:
        code = {"PERMISSION_DENIED": 403, "NOT_FOUND": 404}.get(status, 400)
        super().__init__(code, message, status=status)
        self.cause = cause


def without_tag(ref: str) -> str:
    """Return the image's name alone."""
    return re.sub(r"(:[\w.-]+)?(@sha256:[0-9a-f]+)?$", "", ref)


def image(sandbox: Platform, ref: str, digest: str = "") -> Image:
    """Return the image of a template, or the one that its tag named when the revision was made; Failure if there is
    none.
    """
    found = sandbox.images.get(digest) if digest else None
    found = found or sandbox.images.resolve(ref)
    if found is None:
        raise Failure("NOT_FOUND", f"Image '{ref}' not found.", reason="CONTAINER_MISSING")
    return found


def spec(
    sandbox: Platform,
    name: Name,
    template: Mapping[str, Any],
    *,
    owner: str,
    variables: Mapping[str, str],
    listens: bool,
    keep_exit_code: bool = False,
    facts: Mapping[str, Any] | None = None,
) -> Spec:
    """What to run for a template (or a revision, which has the same fields).

    :param name: of the revision or task, or of the job.
    :param owner: full name of the revision or task attempt.
    :param variables: set by the platform.
    :raises Failure: no such image; a secret that is missing or not readable by the template's service account.
    """
    _use_key(sandbox, name, template, decrypt=True)
    container = template["containers"][0]
    email = template["serviceAccount"]
    digest = template.get("containerStatuses", [{}])[0].get("imageDigest", "").rpartition("@")[2]
    loaded = image(sandbox, container["image"], digest)
    env = {**loaded.env, **_environment(sandbox, name, container, email), **variables}
    try:
        argv = loaded.argv(container.get("command"), container.get("args"))
    except ValueError as error:
        raise Failure("FAILED_PRECONDITION", f"The container cannot be started: {error}.") from error
    folder = container.get("workingDir")
    return Spec(
        owner=owner,
        log=log_of(name, variables),
        argv=argv,
        cwd=Path(loaded.localize(folder)) if folder else loaded.workdir,
        env=env,
        service_account=email,
        project=name.project,
        region=name.region,
        volumes=volumes(sandbox, name, template, email),
        listens=listens,
        declared_port=container["ports"][0]["containerPort"] if listens else None,
        keep_exit_code=keep_exit_code,
        facts=facts or {},
        network=_network(sandbox, name, template),
    )


def _network(sandbox: Platform, name: Name, template: Mapping[str, Any]) -> str:
    """Return the path of the network that a container has access to; "" without access.

    :raises Failure: the network or subnetwork does not exist, or the service agent may not use it.
    """
    access = template.get("vpcAccess") or {}
    if access.get("connector"):
        return ANY_NETWORK
    for interface in access.get("networkInterfaces", ())[:1]:
        network, subnetwork = interface.get("network", ""), interface.get("subnetwork", "")
        try:
            return vpc.find(sandbox, name.project, name.region, network, subnetwork, service="run").network
        except vpc.Missing as error:
            text = f"VPC network access cannot be set up. {error}"
            raise Failure("FAILED_PRECONDITION", text, reason="VPC_NETWORK_NOT_FOUND") from error
    return ""


def _use_key(sandbox: Platform, name: Name, template: Mapping[str, Any], *, decrypt: bool = False) -> None:
    """Raise Failure for a key that the container image cannot be encrypted with, or is not decrypted with any more."""
    if not template.get("encryptionKey"):
        return
    project = sandbox.projects.get(name.project)
    try:
        keys.use(sandbox, "run", project, template["encryptionKey"], [name.region], decrypt=decrypt)
    except keys.Unusable as error:
        if error.kind == "denied":
            text = f"Cloud Run Service Agent {error.agent} must have permission to use the encryption key. {error}"
            raise Failure("PERMISSION_DENIED", text, reason="ENCRYPTION_KEY_PERMISSION_DENIED") from error
        text = f"The customer-managed encryption key cannot be used. {error}"
        raise Failure("FAILED_PRECONDITION", text, reason="ENCRYPTION_KEY_CHECK_FAILED") from error


def log_of(name: Name, variables: Mapping[str, str] | None = None) -> Source:
    """Return the log of a revision, or of a task's attempt with the variables that the platform sets for it."""
    api, place = "run.googleapis.com", {"location": name.region}
    if name.collection == "jobs":
        labels = {
            f"{api}/{label}": (variables or {}).get(f"CLOUD_RUN_{variable}", "")
            for label, variable in (
                ("execution_name", "EXECUTION"),
                ("task_index", "TASK_INDEX"),
                ("task_attempt", "TASK_ATTEMPT"),
            )
        }
        return Source(name.id, name.project, api, "cloud_run_job", {**place, "job_name": name.id}, labels)
    labels = {**place, "service_name": name.id, "revision_name": name.child, "configuration_name": name.id}
    return Source(name.id, name.project, api, "cloud_run_revision", labels)


def _environment(sandbox: Platform, name: Name, container: Mapping[str, Any], email: str) -> dict[str, str]:
    env = {}
    for index, item in enumerate(container.get("env", [])):
        selector = item.get("valueSource", {}).get("secretKeyRef")
        if selector is None:
            env[item["name"]] = item.get("value", "")
            continue
        at = f"spec.template.spec.containers[0].env[{index}].value_from.secret_key_ref.name"
        payload = secret(sandbox, name, selector["secret"], selector.get("version") or "latest", email, at)
        try:
            env[item["name"]] = payload.decode()
        except UnicodeDecodeError:
            message = f"{at}: the payload of secret {selector['secret']} is not UTF-8 text; mount it as a volume."
            raise Failure("FAILED_PRECONDITION", message) from None
    return env


def volumes(sandbox: Platform, name: Name, template: Mapping[str, Any], email: str) -> list[Volume]:
    """Return the volumes that the container mounts, secrets read. Raises Failure as `spec` does."""
    mounts = {item["name"]: item["mountPath"] for item in template["containers"][0].get("volumeMounts", [])}
    found = []
    for index, body in enumerate(template.get("volumes", [])):
        mount = mounts.get(body["name"])
        if mount is None:
            continue
        if "secret" in body:
            at = f"spec.template.spec.volumes[{index}].secret.secretName"
            files = {
                item["path"]: secret(
                    sandbox, name, body["secret"]["secret"], item.get("version") or "latest", email, at
                )
                for item in body["secret"]["items"]
            }
            found.append(Volume(mount, files=files))
        elif "cloudSqlInstance" in body:
            found.append(Volume(mount, sql=tuple(body["cloudSqlInstance"].get("instances", []))))
        else:
            found.append(Volume(mount))
    return found


def secret(sandbox: Platform, name: Name, ref: str, version: str, email: str, at: str) -> bytes:
    """Return the payload of a secret version, read as the service account `email`.

    :param ref: the secret's id, or projects/P/secrets/S for one of another project.
    :param at: how the field is named in messages (Cloud Run names v1's fields here).
    """
    full = ref if ref.startswith("projects/") else f"projects/{name.project}/secrets/{ref}"
    resource = f"{full}/versions/{version}"
    try:
        return sandbox.ports.get(SecretReader).read_version(resource, sandbox.identities.service_account(email))
    except ApiError as error:
        number = sandbox.projects.get(full.split("/")[1])
        shown = (
            resource
            if number is None
            else f"projects/{number.number}/secrets/{full.rpartition('/')[2]}/versions/{version}"
        )
        if error.code == 403:
            raise Failure(
                "PERMISSION_DENIED",
                f"{at}: Permission denied on secret: {shown} for Revision service account {email}. The service "
                "account used "
                "must be granted the 'Secret Manager Secret Accessor' role (roles/secretmanager.secretAccessor) at "
                "the secret, "
                "project or higher level.",
                reason="SECRETS_ACCESS_CHECK_FAILED",
            ) from error
        if error.code == 404:
            raise Failure(
                "NOT_FOUND", f"{at}: Secret {shown} was not found", reason="SECRETS_ACCESS_CHECK_FAILED"
            ) from error
        raise Failure("FAILED_PRECONDITION", f"{at}: {error.message}", reason="SECRETS_ACCESS_CHECK_FAILED") from error


def check_access(sandbox: Platform, caller: Any, name: Name, template: Mapping[str, Any]) -> None:
    """Check the permissions of the caller and of the project's service agent before a template is accepted.

    :raises ApiError: 403 in Google's words: the caller may not act as the service account, or neither may read the
        image.
    """
    email = template["serviceAccount"]
    if not may_act_as(sandbox, caller, email, name.project):
        raise errors.permission_denied(
            f"Permission 'iam.serviceaccounts.actAs' denied on service account {email} (or it may not exist)."
        )
    _use_key(sandbox, name, template)
    _network(sandbox, name, template)
    for container in template["containers"]:
        _check_image(sandbox, caller, name, container["image"])


def _check_image(sandbox: Platform, caller: Any, name: Name, ref: str) -> None:
    resource = guarded(sandbox, ref)
    if resource is None:
        return
    project = sandbox.projects.get(name.project)
    agent = sandbox.identities.service_agent(project, "run")
    reader = sandbox.identities.service_account(agent["email"])
    if not may_pull(sandbox, reader, ref):
        raise errors.permission_denied(
            f"Google Cloud Run Service Agent {agent['email']} must have permission to read the image, {ref}. Ensure "
            "that the "
            "provided container image URL is correct and that the above account has permission to access the "
            "image. If you "
            "just enabled the Cloud Run API, the permissions might take a few minutes to propagate. Note that the "
            "image is "
            f"from project [{ref.split('/')[1]}], which is not the same as this project [{name.project}]. "
            "Permission "
            "must be granted to the Google Cloud Run Service Agent from this project."
        )
    if not may_pull(sandbox, caller, ref):
        raise errors.permission_denied(
            f"Permission '{PULL}' denied on resource '{resource.removeprefix('//')}' (or it may not exist)."
        )
