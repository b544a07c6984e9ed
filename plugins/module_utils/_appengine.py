# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules of App Engine share beyond the resources themselves."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils import _errors, _verbs
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.appengine import SERVICE


def instances(remote):
    """Return the instances of a version."""
    try:
        return list(_verbs.pages(remote.task, "appengine.apps.services.versions.instances.list", **remote.names))
    except _errors.NotFound:
        return []


def healthy(instance):
    """Return whether an instance is healthy. One without a health check so far counts if it runs."""
    liveness = instance.get("vmLiveness") or "UNKNOWN"
    return liveness == "HEALTHY" or (liveness == "UNKNOWN" and instance.get("vmStatus") == "RUNNING")


def states(instances):
    """Return the states of instances as text; empty for none."""
    found = {f"{item.get('vmStatus') or '?'}/{item.get('vmLiveness') or '?'}" for item in instances}
    return ", ".join(sorted(found))


def allocations(task, service):
    """Return version -> share of the service's traffic, without versions that get none; empty without the service."""
    body = task.remote(SERVICE, name=service).read() or {}
    shares = (body.get("split") or {}).get("allocations") or {}
    return {version: share for version, share in shares.items() if share}
