# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cloud SQL instances: the API's fields for the options of the module ``sql_instance``, and what an instance needs."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.sql import is_mysql
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import UserError


def desired(params, version, project):
    """Return the instance that the options describe, in the API's fields.

    :param version: that of the instance.
    :param project: its project, which a network without a path belongs to.
    """
    flags, window, networks = params["flags"], params["maintenance_window"], params["authorized_networks"]
    return {
        "region": params["region"],
        "databaseVersion": params["database_version"],
        "diskEncryptionConfiguration": {"kmsKeyName": params["kms_key"]},
        "settings": {
            "edition": params["edition"],
            "tier": params["tier"],
            "availabilityType": params["availability_type"],
            "activationPolicy": params["activation_policy"],
            "dataDiskType": params["disk_type"],
            "dataDiskSizeGb": _text(params["disk_size_gb"]),
            "storageAutoResize": params["disk_autoresize"],
            "storageAutoResizeLimit": _text(params["disk_autoresize_limit_gb"]),
            "databaseFlags": None
            if flags is None
            else [{"name": name, "value": value} for name, value in sorted(flags.items())],
            "backupConfiguration": _backup(params["backup"], version),
            "maintenanceWindow": window
            and {"day": window["day"], "hour": window["hour"], "updateTrack": window["update_track"]},
            "ipConfiguration": {
                "ipv4Enabled": params["ipv4_enabled"],
                "privateNetwork": _network(params["private_network"], project),
                "allocatedIpRange": params["allocated_ip_range"],
                "enablePrivatePathForGoogleCloudServices": params["private_path"],
                "pscConfig": _private_service_connect(params["psc_projects"]),
                "sslMode": params["ssl_mode"],
                "authorizedNetworks": networks,
            },
            "deletionProtectionEnabled": params["deletion_protection"],
            "userLabels": params["labels"],
        },
    }


def _text(number):
    """Return an integer of 64 bits as the JSON of Google's APIs has it."""
    return None if number is None else str(number)


def _network(name, project):
    return f"projects/{project}/global/networks/{name}" if name and "/" not in name else name


def _private_service_connect(projects):
    return None if projects is None else {"pscEnabled": True, "allowedConsumerProjects": projects}


def _backup(options, version):
    """Return the configuration of backups in the API's fields; None when the task does not set it."""
    if options is None:
        return None
    if options["enabled"] is False:
        return {"enabled": False}
    retained = options["retained"]
    return {
        "enabled": options["enabled"],
        "binaryLogEnabled" if is_mysql(version) else "pointInTimeRecoveryEnabled": options["pitr"],
        "transactionLogRetentionDays": options["transaction_log_days"],
        "location": options["location"],
        "startTime": options["start_time"],
        "backupRetentionSettings": None
        if retained is None
        else {"retentionUnit": "COUNT", "retainedBackups": retained},
    }


def refuse(task, plan):
    """Raise :class:`UserError` for a new instance without version or tier, and for a standby that cannot work."""
    missing = [name for name in ("database_version", "tier") if task.params[name] is None]
    if plan.action == "create" and missing:
        name, options = task.params["name"], " and ".join(missing)
        raise UserError(f"Cloud SQL instance {name} does not exist.", f"To create it, set {options}.")
    settings = (plan.after or {}).get("settings") or {}
    backups = settings.get("backupConfiguration") or {}
    if (
        is_mysql((plan.after or {}).get("databaseVersion"))
        and settings.get("availabilityType") == "REGIONAL"
        and not (backups.get("enabled") and backups.get("binaryLogEnabled"))
    ):
        # https://cloud.google.com/sql/docs/mysql/configure-ha
        raise UserError(
            f"Cloud SQL instance {task.params['name']} cannot have a standby (availability_type: REGIONAL) without"
            " backups and binary logs.",
            "Set backup.enabled and backup.pitr to true, or availability_type to ZONAL.",
        )
