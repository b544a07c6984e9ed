# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role mlflow_verify."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.spec import RoleSpec, Variable

ROLE = RoleSpec(
    name="mlflow_verify",
    short_description="Verify a deployed MLflow through its clients",
    description=(
        "Logs an experiment, a run, metrics, artifacts of 1 MiB and 40 MiB and a registered model with MLflow's own"
        " client, and compares what it reads back.",
        "Lists and downloads artifacts through the server, as a browser does.",
        "Authenticates in each way that programs can, one check for each. A check that lacks its library or key is"
        " reported as skipped.",
        "Asserts that requests without credentials and with wrong ones are refused.",
        "Deletes what it has logged unless O(mlflow_verify_keep) is set. Does nothing in check mode.",
    ),
    variables=(
        Variable(
            "mlflow_verify_url",
            "str",
            ("Address of the server, with the path that it serves everything below if it has one.",),
            required=True,
            rule="url",
        ),
        Variable(
            "mlflow_verify_access",
            "str",
            ("How the server is protected.",),
            required=True,
            choices=("iap", "iam", "password"),
        ),
        Variable(
            "mlflow_verify_members",
            "list",
            ("Members that have access besides the client account.",),
            default=[],
            elements="str",
            rule="member",
        ),
        Variable(
            "mlflow_verify_client_account",
            "str",
            ("Address of the service account to impersonate, which has access and writes artifacts.",),
            required=True,
            rule="account_email",
        ),
        Variable(
            "mlflow_verify_username_secret",
            "str",
            ("Secret with the user name, for V(password).",),
            default="",
            no_log=False,
            rule="secret",
        ),
        Variable(
            "mlflow_verify_password_secret",
            "str",
            ("Secret with the password, for V(password).",),
            default="",
            no_log=False,
            rule="secret",
        ),
        Variable(
            "mlflow_verify_oauth_client_id_secret",
            "str",
            (
                "Secret with the id of the custom OAuth client for V(iap), as C(projects/P/secrets/S). Identity tokens"
                " for it must be accepted then.",
                "Without it the client is Google's, which accepts no identity tokens.",
            ),
            default="",
            no_log=False,
            rule="secret",
        ),
        Variable(
            "mlflow_verify_key_file",
            "path",
            ("Key file of a service account that has access, to check that way as well.",),
            default="",
        ),
        Variable(
            "mlflow_verify_artifacts",
            "str",
            ("How artifacts are transferred.",),
            default="direct",
            choices=("direct", "proxied"),
        ),
        Variable(
            "mlflow_verify_request_mib",
            "int",
            (
                "Largest request in MiB that reaches the server, V(0) for no limit. With artifacts proxied, 40 MiB must"
                " be refused if they are above it.",
            ),
            default=32,
            minimum=0,
            maximum=10240,
        ),
        Variable(
            "mlflow_verify_response_mib",
            "int",
            (
                "Largest response in MiB that the server can send with its length, V(0) for no limit. A download of 40"
                " MiB may fail if they are above it, and otherwise must be complete.",
            ),
            default=32,
            minimum=0,
            maximum=10240,
        ),
        Variable(
            "mlflow_verify_experiment",
            "str",
            (
                "Name of the experiment and of the registered model. Their contents are deleted.",
                "With artifacts proxied C(-proxied) is added, because an experiment keeps the way of its artifacts.",
            ),
            default="mlflow-verify",
            pattern=r"[^\x00-\x1f]{1,250}",
        ),
        Variable(
            "mlflow_verify_keep",
            "bool",
            ("Whether to keep the run, in place of the one of the verification before.",),
            default=False,
        ),
        Variable(
            "mlflow_verify_timeout",
            "int",
            (
                "Seconds to wait until the client has access, because policies take effect after minutes. A deployment"
                " waits as long for its server to answer.",
            ),
            default=240,
            minimum=0,
            maximum=3600,
        ),
        Variable(
            "mlflow_verify_python",
            "path",
            ("A Python on the controller that has C(mlflow), C(google-cloud-storage) and C(google-auth).",),
            default="{{ ansible_playbook_python }}",
        ),
    ),
)
