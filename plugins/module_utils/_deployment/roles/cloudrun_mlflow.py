# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role cloudrun_mlflow."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.roles._targets import ENTRY_POINTS
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.spec import RoleSpec, Variable

TARGET = ("cloudrun",)

ROLE = RoleSpec(
    name="cloudrun_mlflow",
    short_description="MLflow on Cloud Run with Cloud SQL and Cloud Storage",
    description=(
        "Deploys MLflow as a Cloud Run service with a database in Cloud SQL, a bucket for artifacts, secrets, its own"
        " image and service accounts without keys, and grants access.",
        "Reads what exists first, and changes nothing if anything would fail later.",
        "Variables of a building block are set under its own names, for example C(cloudsql_availability_type).",
    ),
    target="cloudrun",
    text=True,
    variables=(
        Variable(
            "cloudrun_mlflow_state",
            "str",
            (
                "V(absent) removes what carries the deployment's labels. Data are kept unless C(mlflow_destroy_data) is"
                " true.",
            ),
            default="present",
            choices=("present", "absent"),
            targets=TARGET,
        ),
        Variable(
            "cloudrun_mlflow_service",
            "str",
            ("Name of the service, at most 49 characters. Empty is C(NAME-ENV).",),
            default="",
            targets=TARGET,
            rule="run_service",
        ),
        Variable(
            "cloudrun_mlflow_kms_key",
            "str",
            ("Key of Cloud KMS for the service instead of C(mlflow_kms_key), in C(gcp_region).",),
            default="",
            targets=TARGET,
            rule="kms_key",
        ),
        Variable(
            "cloudrun_mlflow_cpu_idle",
            "bool",
            ("Whether an instance has no CPU, and costs less, while it serves no request.",),
            default=True,
            targets=TARGET,
        ),
        Variable(
            "cloudrun_mlflow_startup_cpu_boost",
            "bool",
            ("Whether an instance has more CPU while it starts.",),
            default=True,
            targets=TARGET,
        ),
        Variable(
            "cloudrun_mlflow_concurrency",
            "int",
            ("How many requests an instance serves at a time.",),
            default=40,
            minimum=1,
            maximum=1000,
            targets=TARGET,
        ),
        Variable(
            "cloudrun_mlflow_timeout",
            "int",
            ("Seconds that a request may take.",),
            default=300,
            minimum=1,
            maximum=3600,
            targets=TARGET,
        ),
        Variable(
            "cloudrun_mlflow_ingress",
            "str",
            ("The networks from which the service can be reached.",),
            default="INGRESS_TRAFFIC_ALL",
            choices=(
                "INGRESS_TRAFFIC_ALL",
                "INGRESS_TRAFFIC_INTERNAL_ONLY",
                "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER",
            ),
            targets=TARGET,
        ),
        Variable(
            "cloudrun_mlflow_invoker_iam_disabled",
            "bool",
            (
                "Whether Cloud Run admits requests without the invoker role instead of granting it to C(allUsers),"
                " which an organization with domain restricted sharing refuses. Only with C(mlflow_access=password).",
            ),
            default=False,
            targets=TARGET,
        ),
        Variable(
            "cloudrun_mlflow_command",
            "list",
            ("Command of the server's container instead of the image's entrypoint, for a C(mlflow_image).",),
            default=[],
            elements="str",
            targets=TARGET,
        ),
        Variable(
            "cloudrun_mlflow_args",
            "list",
            (
                "Arguments of the server's container. The entrypoint of the role C(mlflow_image) takes none to run the"
                " server. The migration has arguments of its own.",
            ),
            default=[],
            elements="str",
            targets=TARGET,
        ),
    ),
    entry_points=ENTRY_POINTS,
)
