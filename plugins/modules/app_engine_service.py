#!/usr/bin/python
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: app_engine_service
short_description: Manage the traffic of App Engine services, and delete services
version_added: 0.2.0
description:
  - Splits the requests to a service of App Engine between its versions, and sets where requests can come from.
  - A service comes with its first version, see M(mlplatform.gcp.app_engine_version); this module does not create one.
  - Only what the task sets is compared and changed.
author:
  - the mlplatform.gcp authors (@mlplatform)
options:
  name:
    description: Name of the service. V(default) is the one that cannot be deleted.
    type: str
    default: default
  allocations:
    description:
      - Name of a version -> its share of the requests, larger than C(0). The shares sum to C(1). Versions that are not
        named get none.
      - All versions must exist and serve. The module checks that before it changes anything, but not in check mode,
        where an earlier task would have created them.
    type: dict
  shard_by:
    description:
      - How a request is assigned to a version. Required to split requests for the first time.
      - V(IP) accepts shares with two decimal places, the others accept three. V(COOKIE) uses the cookie C(GOOGAPPUID).
    type: str
    choices: [IP, COOKIE, RANDOM]
  migrate_traffic:
    description:
      - Whether requests move to the other version gradually. The service offers that in the standard environment only,
        between versions with automatic scaling and warm-up requests, and requires O(shard_by).
    type: bool
    default: false
  ingress:
    description: Where requests can come from, for all versions of the service.
    type: str
    choices:
      - INGRESS_TRAFFIC_ALLOWED_ALL
      - INGRESS_TRAFFIC_ALLOWED_INTERNAL_ONLY
      - INGRESS_TRAFFIC_ALLOWED_INTERNAL_AND_LB
extends_documentation_fragment:
  - mlplatform.gcp.owner
  - mlplatform.gcp.gcp
  - mlplatform.gcp.labels
  - mlplatform.gcp.state
  - mlplatform.gcp.wait
  - mlplatform.gcp.attributes
notes:
  - Needs C(appengine.services.get), C(appengine.services.update), C(appengine.services.delete),
    C(appengine.versions.get) and C(appengine.operations.get), in C(roles/appengine.appAdmin).
seealso:
  - module: mlplatform.gcp.app_engine_version
"""

EXAMPLES = r"""
- name: Send all requests to the new version
  mlplatform.gcp.app_engine_service:
    project: my-project
    allocations:
      v2: 1

- name: Send one user in ten to the new version
  mlplatform.gcp.app_engine_service:
    name: mlflow
    allocations:
      v1: 0.9
      v2: 0.1
    shard_by: COOKIE

- name: Delete the service and all its versions
  mlplatform.gcp.app_engine_service:
    name: mlflow
    state: absent
"""

RETURN = r"""
changes:
  description:
    - What changes. An entry has C(kind) and C(name) of a resource, C(action) (V(create), V(change), V(delete) or
      V(adopt)), C(fields) with C(path), C(before) and C(after), and C(implies), a list of texts.
    - The callback C(mlplatform.gcp.plan) prints the changes of a run.
  returned: success
  type: list
  elements: dict
resource:
  description: The service as returned by the API.
  returned: when O(state=present)
  type: dict
  sample:
    name: apps/my-project/services/default
    id: default
    split: {allocations: {v2: 1}}
operation:
  description: Name of the operation that is in progress.
  returned: when O(wait=false) and an operation was started
  type: str
"""

import dataclasses

from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.appengine import (
    DEFAULT_SERVICE,
    SERVICE,
    VERSION,
)
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import UserError
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP, LABELS, OWNER, STATE, WAIT, Options

OPTIONS = (
    GCP
    + LABELS
    + OWNER
    + STATE
    + WAIT
    + Options(
        {
            "name": {"type": "str", "default": DEFAULT_SERVICE},
            "allocations": {"type": "dict"},
            "shard_by": {"type": "str", "choices": ["IP", "COOKIE", "RANDOM"]},
            "migrate_traffic": {"type": "bool", "default": False},
            "ingress": {
                "type": "str",
                "choices": [
                    "INGRESS_TRAFFIC_ALLOWED_ALL",
                    "INGRESS_TRAFFIC_ALLOWED_INTERNAL_ONLY",
                    "INGRESS_TRAFFIC_ALLOWED_INTERNAL_AND_LB",
                ],
            },
        }
    )
)


def desired(params):
    """Return the service that the options describe, in the API's fields."""
    return {
        "labels": params["labels"],
        "split": {"allocations": shares(params["allocations"], params["shard_by"]), "shardBy": params["shard_by"]},
        "networkSettings": {"ingressTrafficAllowed": params["ingress"]},
    }


def shares(allocations, shard_by):
    """Return version -> share as a number, or None.

    Errors: :class:`UserError` for shares that App Engine does not accept.
    """
    if allocations is None:
        return None
    hint = "Give each version a number larger than 0, all of them together 1, for example {v1: 0.9, v2: 0.1}."
    found = {}
    for version, value in allocations.items():
        try:
            found[str(version)] = float(value)
        except (TypeError, ValueError) as error:
            raise UserError(f"allocations.{version} is {value!r}, which is not a number.", hint) from error
    places = 2 if shard_by == "IP" else 3
    for version, share in found.items():
        if not 0 < share <= 1:
            raise UserError(f"allocations.{version} is {share:g}.", hint)
        if abs(share - round(share, places)) > 1e-9:
            raise UserError(
                f"allocations.{version} is {share:g}, which has more than {places} decimal places.",
                "Round it, or split by COOKIE or RANDOM, which accept three.",
            )
    if abs(sum(found.values()) - 1) > 1e-6:
        raise UserError(f"The allocations sum to {sum(found.values()):g} and not to 1.", hint)
    return found


def refuse(remote, plan):
    """Raise :class:`UserError` for a change that cannot work.

    In check mode the versions need not exist: earlier tasks would have created them.
    """
    if plan.action == "create" and not remote.task.check_mode:
        raise UserError(
            f"{remote.title} does not exist.", "It comes with its first version (mlplatform.gcp.app_engine_version)."
        )
    wanted = (plan.desired.get("split") or {}).get("allocations") or {}
    if len(wanted) > 1 and plan.after["split"].get("shardBy", "UNSPECIFIED") == "UNSPECIFIED":
        raise UserError(
            f"{remote.title} has no way to split requests yet.",
            "Set shard_by, for example to COOKIE.",
        )
    if "split" not in plan.changed_paths(1) or remote.task.check_mode:
        return
    versions = {name: remote.task.remote(VERSION, service=remote.id, name=name).read() for name in wanted}
    for name, body in versions.items():
        state = "does not exist" if body is None else f"is {body.get('servingStatus')}"
        if state != "is SERVING":
            raise UserError(
                f"Version {name} of {remote.title} {state}, so it cannot get requests. Nothing was changed.",
                "Create or start it first (mlplatform.gcp.app_engine_version with serving_status: SERVING).",
            )
    flexible = [name for name, body in versions.items() if body.get("env") not in (None, "", "standard")]
    if remote.task.params["migrate_traffic"] and flexible:
        raise UserError(
            f"Version {flexible[0]} of {remote.title} is in the flexible environment, where App Engine does not move"
            " requests gradually.",
            "Remove migrate_traffic, and increase the share of the version in allocations in steps.",
        )


def run(task):
    params = task.params
    names = {"name": params["name"]}
    if params["state"] == "absent":
        if params["name"] == DEFAULT_SERVICE:
            raise UserError(
                "The service default cannot be deleted: an application always has it.",
                "Delete its other versions and stop the last one, or disable the application"
                " (mlplatform.gcp.app_engine_application with serving_status: USER_DISABLED).",
            )
        return task.ensure(SERVICE, None, **names)
    moving = {"migrateTraffic": "true"} if params["migrate_traffic"] else {}
    remote = task.remote(
        dataclasses.replace(SERVICE, update=dataclasses.replace(SERVICE.update, query=moving)), **names
    )
    return remote.ensure(desired(params), guard=lambda plan: refuse(remote, plan))


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
