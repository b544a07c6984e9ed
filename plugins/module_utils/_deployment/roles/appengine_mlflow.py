# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role appengine_mlflow."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.roles._targets import ENTRY_POINTS
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.spec import RoleSpec, Variable

TARGET = ("appengine",)

_CHECK = (
    Variable("path", "str", ("Path of the request.",), pattern=r"/[!-~]{0,1023}"),
    Variable("check_interval", "int", ("Seconds between two requests.",), minimum=1, maximum=300),
    Variable("timeout", "int", ("Seconds until a request fails.",), minimum=1, maximum=300),
    Variable("failure_threshold", "int", ("Failures after which the instance is unhealthy.",), minimum=1, maximum=10),
    Variable("success_threshold", "int", ("Successes after which the instance is healthy.",), minimum=1, maximum=10),
)

ROLE = RoleSpec(
    name="appengine_mlflow",
    short_description="MLflow on App Engine flexible with Cloud SQL and Cloud Storage",
    description=(
        "Deploys MLflow as a version of a service of the project's App Engine application, with a database in Cloud"
        " SQL, a bucket for artifacts, secrets, its own image and service accounts without keys, and grants access.",
        "Reads what exists first, and changes nothing if anything would fail later.",
        "Starts and checks a new version before it moves the traffic to it. The version before is stopped and kept.",
        "Variables of a building block are set under its own names, for example C(cloudsql_availability_type).",
    ),
    target="appengine",
    text=True,
    variables=(
        Variable(
            "appengine_mlflow_state",
            "str",
            (
                "V(absent) removes what belongs to this deployment, as far as App Engine can remove it. Data are kept"
                " unless C(mlflow_destroy_data) is true.",
            ),
            default="present",
            choices=("present", "absent"),
            targets=TARGET,
        ),
        Variable(
            "appengine_mlflow_location",
            "str",
            (
                "Location of the application, by default C(gcp_region). A project has one application, and its location"
                " cannot be changed.",
                "App Engine's own names (V(europe-west), V(us-central)) are accepted as well.",
            ),
            default="",
            targets=TARGET,
            rule="appengine_location",
        ),
        Variable(
            "appengine_mlflow_service",
            "str",
            ("Name of the service. The first service of an application must be V(default).",),
            default="default",
            targets=TARGET,
            rule="appengine_service",
        ),
        Variable(
            "appengine_mlflow_make_default",
            "bool",
            (
                "Whether to create a minimal service C(default) first, where O(appengine_mlflow_service) is another one"
                " and the application has none.",
                "It answers health checks only, and is stopped once it exists.",
            ),
            default=False,
            targets=TARGET,
        ),
        Variable(
            "appengine_mlflow_iap_for_all_services",
            "bool",
            (
                "Identity-Aware Proxy protects all services of an application. Where other services are open, this must"
                " be true.",
            ),
            default=False,
            targets=TARGET,
        ),
        Variable(
            "appengine_mlflow_version",
            "str",
            (
                "Name of the version. Empty is a name derived from the version's contents, so that a change makes a new"
                " version.",
                "With a name of your own, each change needs another name.",
            ),
            default="",
            targets=TARGET,
            rule="appengine_version",
        ),
        Variable(
            "appengine_mlflow_ingress",
            "str",
            ("The networks from which the service can be reached.",),
            default="INGRESS_TRAFFIC_ALLOWED_ALL",
            choices=(
                "INGRESS_TRAFFIC_ALLOWED_ALL",
                "INGRESS_TRAFFIC_ALLOWED_INTERNAL_ONLY",
                "INGRESS_TRAFFIC_ALLOWED_INTERNAL_AND_LB",
            ),
            targets=TARGET,
        ),
        Variable(
            "appengine_mlflow_disk_gb",
            "int",
            ("Disk of an instance in GB.",),
            default=10,
            minimum=10,
            maximum=10240,
            targets=TARGET,
        ),
        Variable(
            "appengine_mlflow_target_cpu_utilization",
            "float",
            ("CPU utilization at which another instance is started, above 0 and at most 1.",),
            default=0.75,
            targets=TARGET,
            rule="utilization",
        ),
        Variable(
            "appengine_mlflow_readiness_check",
            "dict",
            ("Fields of the module C(app_engine_version)'s C(readiness_check) that differ from the role's.",),
            default={},
            options=(
                *_CHECK,
                Variable("app_start_timeout", "int", ("Seconds until an instance is ready.",), minimum=1, maximum=1800),
            ),
            targets=TARGET,
        ),
        Variable(
            "appengine_mlflow_liveness_check",
            "dict",
            ("Fields of the module C(app_engine_version)'s C(liveness_check) that differ from the role's.",),
            default={},
            options=(
                *_CHECK,
                Variable("initial_delay", "int", ("Seconds before the first request.",), minimum=0, maximum=3600),
            ),
            targets=TARGET,
        ),
        Variable(
            "appengine_mlflow_instance_ip_mode",
            "str",
            (
                "With V(INTERNAL) the instances have no public address, and reach Google's services through Private"
                " Google Access of the subnetwork.",
            ),
            choices=("EXTERNAL", "INTERNAL"),
            targets=TARGET,
        ),
        Variable(
            "appengine_mlflow_guide_accounts",
            "bool",
            (
                "Whether App Engine's default account and the service agent of the flexible environment also get access"
                " to the bucket and the database, as in deployments that run as the default account.",
            ),
            default=False,
            targets=TARGET,
        ),
    ),
    entry_points=ENTRY_POINTS,
)
