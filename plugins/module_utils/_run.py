# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The container of Cloud Run services and jobs: its options, and the API's fields for them."""

from __future__ import annotations

import re
import secrets

from ansible_collections.mlplatform.gcp.plugins.module_utils import _logs
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import GcpError, UserError
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import Options

# Documented in the fragment mlplatform.gcp.container.
CONTAINER = Options(
    {
        "name": {"type": "str", "required": True},
        "location": {"type": "str", "required": True},
        "image": {"type": "str"},
        "command": {"type": "list", "elements": "str"},
        "args": {"type": "list", "elements": "str"},
        "env": {"type": "dict"},
        # names of secrets, not secrets
        "secret_env": {"type": "dict", "no_log": False},
        "secret_volumes": {
            "type": "list",
            "elements": "dict",
            "no_log": False,
            "options": {
                "mount_path": {"type": "str", "required": True},
                "secret": {"type": "str", "required": True, "no_log": False},
                "file": {"type": "str", "required": True},
            },
        },
        "cloudsql_instances": {"type": "list", "elements": "str"},
        "cpu": {"type": "str"},
        "memory": {"type": "str"},
        "service_account": {"type": "str"},
        "timeout": {"type": "int"},
        "kms_key": {"type": "str", "no_log": False},
        "vpc_access": {
            "type": "dict",
            "options": {
                "network": {"type": "str"},
                "subnetwork": {"type": "str"},
                "egress": {"type": "str", "choices": ["ALL_TRAFFIC", "PRIVATE_RANGES_ONLY"]},
            },
        },
        "annotations": {"type": "dict"},
    }
)

_SECRET = re.compile(r"(projects/[^/]+/secrets/[^/]+)(?:/versions/([^/]+))?")
# Knative's label for "make a new revision although nothing else differs", which gcloud sets as well.
NONCE = "client.knative.dev/nonce"


def failure(body):
    """Return why the last change failed, or an empty string."""
    condition = body.get("terminalCondition") or {}
    if condition.get("state") != "CONDITION_FAILED":
        return ""
    return condition.get("message") or condition.get("reason") or condition.get("revisionReason") or "unknown reason"


def ensure_again(remote, wanted, result):
    """Return the result of a change that tries again what has failed, or ``result`` where nothing has failed.

    Where nothing differs, but the last change has failed, only another revision or generation tries again.
    """
    if result.changed or not failure(result.resource):
        return result
    wanted["template"]["labels"] = {NONCE: secrets.token_hex(5)}
    return remote.ensure(wanted)


def container(params, **more):
    """Return a container in the API's fields; ``more`` are the fields that only services have."""
    limits = {"cpu": params["cpu"], "memory": params["memory"]}
    resources = {"limits": limits, **more.pop("resources", {})}
    mounts = [{"name": "cloudsql", "mountPath": "/cloudsql"}] if params["cloudsql_instances"] else []
    mounts += [
        {"name": f"secret-{index}", "mountPath": volume["mount_path"]}
        for index, volume in enumerate(params["secret_volumes"] or [])
    ]
    unset = params["cloudsql_instances"] is None and params["secret_volumes"] is None
    return {
        "image": params["image"],
        "command": params["command"],
        "args": params["args"],
        "env": environment(params),
        "resources": resources,
        "volumeMounts": None if unset else mounts,
        **more,
    }


def environment(params):
    """Return the variables in the API's fields, in the order of their names; None when the task sets none."""
    if params["env"] is None and params["secret_env"] is None:
        return None
    plain, secret = params["env"] or {}, params["secret_env"] or {}
    both = sorted(set(plain) & set(secret))
    if both:
        raise UserError(f"{', '.join(both)} is both in env and in secret_env.", "Remove it from one of them.")
    variables = [{"name": name, "value": value} for name, value in plain.items()]
    for name, reference in secret.items():
        secret_name, version = split_secret(reference, f"secret_env.{name}")
        variables.append({"name": name, "valueSource": {"secretKeyRef": {"secret": secret_name, "version": version}}})
    return sorted(variables, key=lambda variable: variable["name"])


def volumes(params):
    """Return the volumes in the API's fields; None when the task sets none."""
    if params["cloudsql_instances"] is None and params["secret_volumes"] is None:
        return None
    found = []
    if params["cloudsql_instances"]:
        found.append({"name": "cloudsql", "cloudSqlInstance": {"instances": params["cloudsql_instances"]}})
    for index, volume in enumerate(params["secret_volumes"] or []):
        secret, version = split_secret(volume["secret"], "secret_volumes")
        items = [{"path": volume["file"], "version": version}]
        found.append({"name": f"secret-{index}", "secret": {"secret": secret, "items": items}})
    return found


def split_secret(reference, option):
    """Return (``projects/p/secrets/s``, ``3``) for ``projects/p/secrets/s/versions/3``."""
    match = _SECRET.fullmatch(reference or "")
    if not match:
        raise UserError(
            f"{option} is {reference!r}, which is not the name of a secret.",
            "Write it as projects/PROJECT/secrets/SECRET or projects/PROJECT/secrets/SECRET/versions/VERSION.",
        )
    return match.group(1), match.group(2) or "latest"


def vpc_access(params):
    """Return the access to a network in the API's fields; None when the task does not set it."""
    access = params["vpc_access"]
    if access is None:
        return None
    interface = {"network": access["network"], "subnetwork": access["subnetwork"]}
    return {"egress": access["egress"], "networkInterfaces": [interface]}


def require_image(params, plan, title):
    """Raise :class:`UserError` for a service or job that does not exist when the task has no image."""
    if plan.action == "create" and params["image"] is None:
        raise UserError(f"{title} does not exist.", "To create it, set image.")


def explain(remote, error):
    """Return the end of the output of a revision that did not start."""
    try:
        body = remote.read()
    except GcpError:  # the error counts
        body = None
    return output(remote, body or {})


def output(remote, body):
    """Return the end of the output of the newest revision, and what happens to requests."""
    names, revision = remote.names, (body.get("latestCreatedRevision") or "").rsplit("/", 1)[-1]
    condition = (
        f'resource.type="cloud_run_revision" resource.labels.location="{names["location"]}"'
        f' resource.labels.service_name="{names["name"]}" resource.labels.revision_name="{revision}"'
    )
    command = f"gcloud run services logs read {names['name']} --region={names['location']} --project={names['project']}"
    shown = _logs.of_container(remote.task, "run.googleapis.com", condition, command)
    return f"The revision that served before, if any, still does. {shown}"
