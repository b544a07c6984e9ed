# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lock of a deployment, which lets one run at a time change it. The engine's part is ``_lock.py``."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.context import Context
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.removal import Removal

FOLDER = ".mlplatform"


@dataclass(frozen=True)
class Lock:
    """Options of ``_lock.Lock``.

    title    the deployment, for messages
    exists   whether the bucket exists, in which the lock is
    certain  whether the run certainly changes something, so that it takes the lock before it computes what to do
    action   what the run does; ``restart`` is the only change of a run that reads the deployment
    wait     how many seconds to wait for another run
    force    whether to take the lock from another run
    """

    kind: str
    bucket: str
    name: str
    title: str
    exists: bool
    certain: bool
    action: str
    wait: int
    force: bool


def lock(context: Context, action: str, removal: Removal, *, removes_server: bool) -> Lock | None:
    """Return the lock, or None where the deployment has no bucket or ``mlflow_lock`` is off."""
    if not context["mlflow_lock"] or context["mlflow_artifact_store"] != "gcs":
        return None
    exists = context.existing.resource("storage_bucket", context.names.bucket) is not None
    certain = {"deploy": _creates(context), "destroy": removes_server or removal.deletes}
    return Lock(
        kind="bucket",
        bucket=context.names.bucket,
        name=f"{FOLDER}/{context.names.deployment}.lock",
        title=f"The deployment {context.names.deployment}",
        # A restart reads only the server; it needs a deployment, which has a bucket.
        exists=exists or action == "read",
        certain=exists and certain.get(action, False),
        action="restart" if action == "read" else action,
        wait=context["mlflow_lock_timeout"],
        force=context["mlflow_lock_break"],
    )


def _creates(context: Context) -> bool:
    """Return whether a part is missing that each deployment has."""
    names = context.names
    parts = [("service_account", names.server_account), ("sql_instance", names.instance)]
    return any(context.existing.resource(kind, name) is None for kind, name in parts)
