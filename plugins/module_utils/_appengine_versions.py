# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Versions of App Engine services in the flexible environment: their settings, their limits, and how they start."""

from __future__ import annotations

import dataclasses
import re

from ansible_collections.mlplatform.gcp.plugins.module_utils import _appengine, _errors, _logs
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue import appengine as catalogue
from ansible_collections.mlplatform.gcp.plugins.module_utils._values import seconds

# Names that App Engine reserves: the description of Version.id in the API's discovery document.
_NAME = re.compile(r"(?!ah-|(default|latest)$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def check_options(params):
    """Raise :class:`UserError` for an environment or a name that App Engine does not accept."""
    if params["env"] == "standard":
        raise _errors.UserError(
            "The standard environment runs no containers.", "Use env: flexible, or deploy with gcloud app deploy."
        )
    if not _NAME.fullmatch(params["name"]):
        raise _errors.UserError(
            f"{params['name']!r} cannot be the name of a version.",
            "Use at most 63 lower-case letters, digits and hyphens; default, latest and ah-... are App Engine's.",
        )


def desired(params):
    """Return the version that the options describe, in the API's fields."""
    automatic, manual, network = params["automatic_scaling"], params["manual_scaling"], params["network"]
    return {
        "deployment": {"container": {"image": params["image"]}},
        "envVariables": params["env_variables"],
        "betaSettings": _beta_settings(params),
        "resources": {"cpu": params["cpu"], "memoryGb": params["memory_gb"], "diskGb": params["disk_gb"]},
        "automaticScaling": automatic
        and {
            "minTotalInstances": automatic["min_instances"],
            "maxTotalInstances": automatic["max_instances"],
            "coolDownPeriod": seconds(automatic["cool_down_period"]),
            "cpuUtilization": {"targetUtilization": automatic["target_cpu_utilization"]},
        },
        "manualScaling": manual and {"instances": manual["instances"]},
        "livenessCheck": _check(params["liveness_check"], "initialDelay", "initial_delay"),
        "readinessCheck": _check(params["readiness_check"], "appStartTimeout", "app_start_timeout"),
        "network": network
        and {
            "name": network["name"],
            "subnetworkName": network["subnetwork"],
            "sessionAffinity": network["session_affinity"],
            "instanceIpMode": network["instance_ip_mode"],
            "instanceTag": network["instance_tag"],
            "forwardedPorts": network["forwarded_ports"],
        },
        "serviceAccount": params["service_account"],
        "inboundServices": params["inbound_services"],
        "servingStatus": params["serving_status"],
    }


def _beta_settings(params):
    settings, instances = params["beta_settings"], params["cloudsql_instances"]
    return settings if instances is None else dict(settings or {}, cloud_sql_instances=",".join(instances))


def _check(options, field, option):
    """Return a health check. ``field`` and ``option`` are what only one of the two kinds of checks has."""
    if options is None:
        return None
    return {
        "path": options["path"],
        "host": options["host"],
        "checkInterval": seconds(options["check_interval"]),
        "timeout": seconds(options["timeout"]),
        "failureThreshold": options["failure_threshold"],
        "successThreshold": options["success_threshold"],
        field: seconds(options[option]),
    }


def explain(remote, error):
    """Return the states of the instances of a version that did not start, and the end of its output."""
    service, version = remote.names["service"], remote.names["name"]
    states = _appengine.states(_appengine.instances(remote))
    condition = f'resource.type="gae_app" resource.labels.module_id="{service}" resource.labels.version_id="{version}"'
    command = f"gcloud app logs read --service={service} --version={version} --project={remote.names['project']}"
    output = _logs.of_container(remote.task, "appengine.googleapis.com", condition, command)
    return f"Its instances are {states}. " * bool(states) + f"The traffic did not change. {output}"


VERSION = dataclasses.replace(catalogue.VERSION, explain=explain)


def refuse(remote, plan):
    """Raise :class:`UserError` or :class:`ImmutableFieldError` for a change that cannot work."""
    existing, wanted = plan.existing or {}, plan.desired or {}
    if existing.get("env") == "standard":
        raise _errors.UserError(
            f"{remote.title} is in the standard environment.", "Use another name, or gcloud app deploy."
        )
    if plan.action == "create" and not remote.task.params["image"]:
        raise _errors.UserError(f"{remote.title} does not exist.", "To create it, set image.")
    for scaling in {"automaticScaling", "manualScaling"} & set(wanted):
        if plan.action == "update" and scaling not in existing:
            raise _errors.ImmutableFieldError(f"{remote.title} has no {scaling}.", catalogue.NEW_VERSION)
    if plan.action == "delete":
        _refuse_serving(remote)


def _refuse_serving(remote):
    """Raise :class:`UserError` for a version that receives requests."""
    service = remote.names["service"]
    share = _appengine.allocations(remote.task, service).get(remote.id)
    if share:
        raise _errors.UserError(
            f"{remote.title} gets {share:.3g} of the requests to its service (1 is all), so it is not deleted.",
            "Give them to another version first (mlplatform.gcp.app_engine_service with allocations)"
            + ("." if service == catalogue.DEFAULT_SERVICE else ", or delete the service."),
        )


def await_healthy(remote):
    """Wait until an instance of a version is healthy, so that no request goes to a version that cannot answer."""

    def poll():
        found = _appengine.instances(remote)
        return None, "" if any(map(_appengine.healthy, found)) else _appengine.states(found) or "no instances yet"

    remote.task.waiter.until(poll, what=f"starting {remote.title}")


def ensure_started(remote, wanted, result):
    """Return the ``result`` of an unchanged version once it has started; deploy it again where it did not start.

    The body of a version does not say whether it has started: its instances do.
    """
    if result.resource.get("servingStatus") == "STOPPED" or any(map(_appengine.healthy, _appengine.instances(remote))):
        return result
    operation = catalogue.under_way(remote)
    if operation:
        remote.finish(result, operation, "creating")
        return result
    if remote.id in _appengine.allocations(remote.task, remote.names["service"]):
        remote.task.warn(f"{remote.title} gets requests, and none of its instances is healthy.")
        return result
    return remote.create_again(remote.plan(wanted, None))
