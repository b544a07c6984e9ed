# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules of App Engine share beyond the resources themselves."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils import _errors, _verbs
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.appengine import SERVICE


def instances(remote):
    """The machines of a version."""
    try:
        return list(_verbs.pages(remote.task, "appengine.apps.services.versions.instances.list", **remote.names))
    except _errors.NotFound:
        return []


def healthy(instance):
    """Whether an instance answers. One that was never asked counts if it runs."""
    liveness = instance.get("vmLiveness") or "UNKNOWN"
    return liveness == "HEALTHY" or (liveness == "UNKNOWN" and instance.get("vmStatus") == "RUNNING")


def states(instances):
    """What instances are, in a few words for people; empty for none."""
    words = {f"{item.get('vmStatus') or '?'}/{item.get('vmLiveness') or '?'}" for item in instances}
    return ", ".join(sorted(words))


def allocations(task, service):
    """Version -> share of the service's traffic, without those that get none; empty when there is no such service."""
    body = task.remote(SERVICE, name=service).read() or {}
    shares = (body.get("split") or {}).get("allocations") or {}
    return {version: share for version, share in shares.items() if share}
