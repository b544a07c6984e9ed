# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role cloudsql."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.roles import _shared
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.spec import EntryPoint, RoleSpec, Variable

ROLE = RoleSpec(
    name="cloudsql",
    short_description="A Cloud SQL instance with its databases, users and clients",
    description=(
        "Creates the instance, waits until it can be used, and creates databases and users in it.",
        "The module reads a user's password from a secret. No variable holds it.",
        "Registers C(cloudsql_users_managed). Its C(results) have the C(password_version) of each user, the"
        " version of the secret that was set.",
    ),
    registers=("cloudsql_managed", "cloudsql_users_managed"),
    variables=(
        _shared.state(
            "V(absent) deletes the instance with everything in it, also where O(cloudsql_deletion_protection) is on.",
            "cloudsql",
        ),
        Variable(
            "cloudsql_instance",
            "str",
            ("Name of the instance. With the project's id it has at most 97 characters.",),
            required=True,
            rule="instance",
        ),
        Variable(
            "cloudsql_region",
            "str",
            ("Region of the instance, which can differ from that of the server. It cannot be changed later.",),
            default="{{ gcp_region }}",
            rule="region",
        ),
        Variable(
            "cloudsql_database_version",
            "str",
            (
                "For example V(POSTGRES_16) or V(MYSQL_8_4). Required for a new instance.",
                "In a deployment C(mlflow_database_version) is the same setting.",
            ),
            default="",
            rule="database_version",
        ),
        Variable(
            "cloudsql_edition",
            "str",
            (
                "Edition of Cloud SQL. It is always sent: PostgreSQL 16 and newer otherwise get"
                " V(ENTERPRISE_PLUS), which has other tiers.",
            ),
            default="ENTERPRISE",
            choices=("ENTERPRISE", "ENTERPRISE_PLUS"),
        ),
        Variable(
            "cloudsql_tier",
            "str",
            (
                "Machine type, for example V(db-custom-1-3840) with one CPU and 3.75 GiB. Required for a new instance.",
                "In a deployment C(mlflow_database_tier) is the same setting.",
            ),
            default="",
            rule="tier",
        ),
        Variable(
            "cloudsql_availability_type",
            "str",
            ("V(REGIONAL) has a standby in another zone, at twice the price.",),
            default="ZONAL",
            choices=("ZONAL", "REGIONAL"),
        ),
        Variable(
            "cloudsql_disk_type",
            "str",
            ("Type of the disk. It cannot be changed later.",),
            default="PD_SSD",
            choices=("PD_SSD", "PD_HDD", "HYPERDISK_BALANCED"),
        ),
        Variable(
            "cloudsql_disk_size_gb",
            "int",
            ("Size of the disk in GB. It cannot shrink.",),
            default=10,
            minimum=10,
            maximum=65536,
        ),
        Variable("cloudsql_disk_autoresize", "bool", ("Whether the disk grows automatically.",), default=True),
        Variable(
            "cloudsql_disk_autoresize_limit_gb",
            "int",
            ("The size up to which the disk grows automatically in GB, V(0) for no limit.",),
            default=0,
            minimum=0,
            maximum=65536,
        ),
        Variable(
            "cloudsql_activation_policy",
            "str",
            (
                "V(ALWAYS) starts an instance that is stopped, V(NEVER) stops it. Unset leaves it as it is.",
                "A deployment needs a running instance and refuses V(NEVER).",
            ),
            choices=("ALWAYS", "NEVER"),
        ),
        Variable(
            "cloudsql_flags",
            "dict",
            (
                "Database flags by name, for example C(max_connections). In a deployment, preflight compares them with"
                " the flags that Cloud SQL has for the version.",
                "With MySQL and binary logs C(log_bin_trust_function_creators) is on unless it is set here, or the"
                " instance is adopted.",
            ),
            default={},
            elements="str",
            rule="flags",
        ),
        Variable("cloudsql_backup_enabled", "bool", ("Whether to make daily backups.",), default=True),
        Variable(
            "cloudsql_backup_start_time",
            "str",
            ("Start of the daily backups in UTC, V(HH:MM). Empty leaves that to Google.",),
            default="02:00",
            rule="time_of_day",
        ),
        Variable(
            "cloudsql_backup_location",
            "str",
            (
                "Region or multi-region of the backups. Empty leaves that to Google, which takes the nearest"
                " multi-region.",
                "In a deployment the default for a new instance outside of Asia, Europe and the United States is its"
                " own region, because the nearest multi-region is on another continent or in another country.",
            ),
            default="",
            rule="backup_location",
        ),
        Variable(
            "cloudsql_backup_retained",
            "int",
            ("How many daily backups to keep.",),
            default=7,
            minimum=1,
            maximum=365,
        ),
        Variable(
            "cloudsql_point_in_time_recovery",
            "bool",
            (
                "Whether the database can be restored to any moment of the last days. With MySQL this is the"
                " binary log, which O(cloudsql_availability_type=REGIONAL) requires.",
                "In a deployment the default is true in production, and with MySQL.",
            ),
        ),
        Variable(
            "cloudsql_maintenance_window",
            "dict",
            (
                "When Google may restart the instance, at any time if empty.",
                "In a deployment with MySQL the default is Sunday at 03:00 UTC.",
            ),
            options=(
                Variable("day", "int", ("Day of the week, V(1) is Monday.",), minimum=1, maximum=7),
                Variable("hour", "int", ("Hour of the day in UTC.",), minimum=0, maximum=23),
                Variable(
                    "update_track",
                    "str",
                    ("How early the instance gets new releases. C(canary) is first.",),
                    choices=("canary", "stable", "week5"),
                ),
            ),
        ),
        Variable(
            "cloudsql_ipv4_enabled",
            "bool",
            (
                "Whether the instance has a public address. The server's connection uses it, encrypted and authorized"
                " by IAM. Without it the server needs O(cloudsql_private_network).",
            ),
            default=True,
        ),
        Variable(
            "cloudsql_private_network",
            "str",
            (
                "VPC network in which the instance gets a private address: the name of a network of the project, or"
                " C(projects/HOST_PROJECT/global/networks/NAME). It must have private services access.",
                "Empty leaves it as it is. It can be changed, which restarts the database, and not removed.",
            ),
            default="",
            rule="vpc_network",
        ),
        Variable(
            "cloudsql_allocated_ip_range",
            "str",
            ("Name of the allocated range that the private address comes from. Empty leaves that to Google.",),
            default="",
            rule="ip_range",
        ),
        Variable(
            "cloudsql_private_path",
            "bool",
            (
                "Whether other Google services, such as BigQuery, reach the instance at its private address. Unset"
                " leaves it as it is.",
            ),
        ),
        Variable(
            "cloudsql_psc_projects",
            "list",
            (
                "Projects with networks that can reach the instance through Private Service Connect, besides its"
                " private address. Empty leaves it as it is.",
                "The server does not use it: the socket of Cloud Run and App Engine does not support it.",
            ),
            default=[],
            elements="str",
            rule="project",
        ),
        Variable(
            "cloudsql_ssl_mode",
            "str",
            (
                "Which direct connections are accepted. The server's own are always encrypted, with a client"
                " certificate. Unset leaves it as it is.",
            ),
            choices=("ALLOW_UNENCRYPTED_AND_ENCRYPTED", "ENCRYPTED_ONLY", "TRUSTED_CLIENT_CERTIFICATE_REQUIRED"),
        ),
        Variable(
            "cloudsql_authorized_networks",
            "list",
            (
                "Networks that can reach the public address with a password alone, such as a VPN.",
                "In a deployment they are added to C(mlflow_database_authorized_networks).",
            ),
            default=[],
            elements="dict",
            options=_shared.NETWORK,
        ),
        Variable(
            "cloudsql_labels",
            "dict",
            ("Labels of the instance, besides those of its owner.",),
            default={},
            elements="str",
            rule="labels",
        ),
        Variable(
            "cloudsql_kms_key",
            "str",
            (
                "Key of Cloud KMS, in C(cloudsql_region), that encrypts the instance. It cannot be changed later.",
                "In a deployment the default is C(mlflow_kms_key).",
            ),
            default="",
            rule="kms_key",
        ),
        Variable(
            "cloudsql_deletion_protection",
            "bool",
            ("Whether Google refuses to delete the instance. In a deployment the default is true in production.",),
        ),
        Variable(
            "cloudsql_final_backup",
            "bool",
            (
                "Whether O(cloudsql_state=absent) makes a last backup that is kept for 30 days. In a deployment the"
                " default is true in production.",
            ),
        ),
        Variable(
            "cloudsql_databases",
            "list",
            ("Databases in the instance.",),
            default=[],
            elements="dict",
            options=(
                Variable("name", "str", ("Name of the database.",), required=True, rule="database_name"),
                Variable("charset", "str", ("Its character set.",)),
                Variable("collation", "str", ("Its collation.",)),
            ),
        ),
        Variable(
            "cloudsql_users",
            "list",
            ("Users of the instance.",),
            default=[],
            elements="dict",
            options=(
                Variable("name", "str", ("Name of the user.",), required=True),
                Variable("type", "str", ("V(BUILT_IN), which has a password, or one of the IAM types.",)),
                Variable("host", "str", ("For MySQL, the host that the user connects from. V(%) is any host.",)),
                Variable(
                    "password_secret",
                    "str",
                    (
                        "Secret that holds the password, C(projects/P/secrets/S) with or without a version. It must"
                        " exist.",
                    ),
                    no_log=False,
                    rule="secret",
                ),
            ),
        ),
        Variable(
            "cloudsql_keep_passwords",
            "bool",
            (
                "Whether existing users keep a password that this collection did not set. It is assumed to be the one"
                " in C(password_secret). The default is true in an adopted instance.",
                "With V(false) they get the password in their secret, and again each time the secret has a new"
                " version.",
            ),
        ),
        Variable(
            "cloudsql_clients",
            "list",
            ("Members that can connect to the instance through Google (C(roles/cloudsql.client)).",),
            default=[],
            elements="str",
            rule="member",
        ),
        Variable(
            "cloudsql_clients_condition",
            "bool",
            (
                "Whether a condition narrows the clients' role to this instance. Cloud SQL has the role on the project"
                " only.",
            ),
            default=True,
        ),
        *_shared.ownership("cloudsql", "the instance"),
    ),
    entry_points=(
        EntryPoint(
            "start",
            "Start to create the instance and continue",
            (
                "Creates or changes the instance without waiting, so that other work can be done in the minutes that it"
                " takes.",
                "The entry points C(wait), if C(cloudsql_managed.operation) is defined, and C(finish) must follow in"
                " the same play.",
            ),
        ),
        EntryPoint("wait", "Wait for the instance", ("Waits until the instance is ready.",)),
        EntryPoint(
            "finish",
            "Create what is in the instance",
            ("Creates databases and users in an instance that is ready, and grants access to clients.",),
        ),
        EntryPoint(
            "clients",
            "Manage the clients alone",
            (
                "Grants C(cloudsql_clients) the right to connect to the instance, or revokes it with"
                " C(cloudsql_state=absent).",
            ),
        ),
        EntryPoint(
            "absent",
            "Delete the instance",
            ("Disables deletion protection and deletes the instance with everything in it.",),
        ),
    ),
)
