# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Environment variables that a deployment may add to those of the server.

What MLflow 3.17, uvicorn and Google's libraries read was compared with their sources and tried with MLflow's server:
mlflow/environment_variables.py, mlflow/cli and mlflow/utils/cli_args.py (options with ``envvar``), uvicorn/main.py
(``auto_envvar_prefix``). A variable that a deployment cannot work with is refused with the one to set instead.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.problems import Problem, shown
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules import access
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules.kinds import Fault, Rule, like

ENV, SECRET_ENV = "mlflow_server_env", "mlflow_server_secret_env"
# The path that MLflow serves everything below. Probes, verification and addresses follow it.
PREFIX = "MLFLOW_STATIC_PREFIX"

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")
# https://cloud.google.com/run/docs/configuring/services/environment-variables
LONGEST = 32768

# Set by the platform: https://cloud.google.com/run/docs/container-contract#env-vars,
# https://cloud.google.com/appengine/docs/flexible/python/runtime#environment_variables
PLATFORM = ("PORT", "GOOGLE_CLOUD_PROJECT")
PLATFORM_PREFIXES = ("K_", "GAE_", "X_GOOGLE_", "CLOUD_RUN_")
# Set by the deployment -> what to set instead. Names that the image's entrypoint reads in place of those are here, too.
PRODUCT = {
    "GCP_PROJECT": "gcp_project",
    "GCS_BACKEND": "mlflow_bucket",
    "MLFLOW_ARTIFACTS_DESTINATION": "mlflow_bucket",
    "MLFLOW_DEFAULT_ARTIFACT_ROOT": "mlflow_bucket",
    "MLFLOW_BACKEND_STORE_URI": "mlflow_database_instance",
    "MLFLOW_SERVE_ARTIFACTS": "mlflow_artifacts",
    "MLFLOW_WORKERS": "mlflow_workers",
    "MLFLOW_ALLOWED_HOSTS": "mlflow_allowed_hosts",
    "MLFLOW_SERVER_ALLOWED_HOSTS": "mlflow_allowed_hosts",
    "MLFLOW_CORS_ALLOWED_ORIGINS": "mlflow_allowed_hosts",
    "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "mlflow_allowed_hosts",
    "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "mlflow_pool_size",
    "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "mlflow_pool_overflow",
    "MLFLOW_AUTH_ENABLED": "mlflow_access",
    "MLFLOW_AUTH_CONFIG_PATH": "mlflow_access",
    "MLFLOW_AUTH_ADMIN_USERNAME": "mlflow_login_username_secret",
    "MLFLOW_AUTH_ADMIN_PASSWORD": "mlflow_login_password_secret",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "mlflow_login_key_secret",
    "MLFLOW_CRYPTO_KEK_VERSION": "mlflow_gateway_key_version",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "",
    "MLFLOW_DEPLOYMENT": "mlflow_name",
    "MLFLOW_HOST": "",
    "MLFLOW_PORT": "",
    "IMAGE_COMMAND": "",
    "DB_TYPE": "mlflow_database_version",
    "DB_NAME": "mlflow_database_name",
    "DB_USERNAME": "mlflow_database_user",
    "DB_PASSWORD": "mlflow_database_password_secret",
    "DB_INSTANCE_CONNECTION_NAME": "mlflow_database_instance",
    "DB_HOST": "mlflow_database_instance",
    "DB_PORT": "mlflow_database_instance",
    "CLOUDSQL_SOCKET_DIR": "",
}
_ACCOUNT = (
    "and the server acts as its service account, which has the roles",
    "Remove {name}, and set mlflow_server_account for another account.",
)
# What no deployment works with -> (why, what to do).
UNUSABLE: Mapping[str, Fault] = {
    "MLFLOW_ARTIFACTS_ONLY": (
        "with which MLflow does not start if it has a database",
        "Remove {name}, and set mlflow_artifacts to proxied to pass artifacts through the server.",
    ),
    "MLFLOW_AUTH_DATABASE_URI": (
        "and the migration updates no other database than that of the deployment",
        "Remove {name}. MLflow's login keeps its users in the database of the deployment.",
    ),
    "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": (
        "which removes the check of host names and origins",
        "Remove {name}, and add the host names to mlflow_allowed_hosts.",
    ),
    "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": (
        "and the deployment computes the size of MLflow's pools, which other classes do not have",
        "Remove {name}, and set mlflow_pool_size and mlflow_pool_overflow.",
    ),
    "MLFLOW_WORKSPACE": (
        "with which MLflow's server does not start, because clients select the workspace",
        "Remove {name}, and set it where clients run.",
    ),
    "GOOGLE_APPLICATION_CREDENTIALS": _ACCOUNT,
    "GCE_METADATA_HOST": _ACCOUNT,
    "GCE_METADATA_IP": _ACCOUNT,
    "GCE_METADATA_ROOT": _ACCOUNT,
    "NO_GCE_CHECK": _ACCOUNT,
    "STORAGE_EMULATOR_HOST": ("and artifacts are in the bucket of the deployment", "Remove {name}."),
}
_OPTIONS = "Remove {name}, and set other options of uvicorn in MLFLOW_UVICORN_OPTS."
_NOT_IN_IMAGE = "Remove {name}, or use an image of your own that has it (mlflow_image or mlflow_image_context)."
_OTHER_SERVER = "and the web server in the image that is built is uvicorn"
_PORT = "and the server listens on the port of the platform, without TLS"
_FILE = "and the image that is built has no file of yours"
_METRICS = "and the image that is built lacks the library prometheus-flask-exporter"
# Variables that do not work in the image of the role mlflow_image, and may in another -> (why, what to do).
UNUSABLE_IN_IMAGE: Mapping[str, Fault] = {
    "GUNICORN_CMD_ARGS": (_OTHER_SERVER, _OPTIONS),
    "MLFLOW_GUNICORN_OPTS": (_OTHER_SERVER, _OPTIONS),
    "WEB_CONCURRENCY": ("which has no effect beside mlflow_workers", "Remove {name}, and set mlflow_workers."),
    "UVICORN_WORKERS": ("which has no effect beside mlflow_workers", "Remove {name}, and set mlflow_workers."),
    **dict.fromkeys(("UVICORN_HOST", "UVICORN_PORT", "UVICORN_UDS", "UVICORN_FD"), (_PORT, _OPTIONS)),
    "UVICORN_APP": ("and MLflow names its application itself", _OPTIONS),
    "UVICORN_FACTORY": ("and MLflow names its application itself", _OPTIONS),
    "UVICORN_INTERFACE": ("and MLflow names its application itself", _OPTIONS),
    "UVICORN_RELOAD": ("which is for development, and the server has a fixed number of workers", _OPTIONS),
    "UVICORN_ENV_FILE": (_FILE, _NOT_IN_IMAGE),
    "MLFLOW_TRACE_ARCHIVAL_CONFIG": (_FILE, _NOT_IN_IMAGE),
    "MLFLOW_MYSQL_SSL_CA": (_FILE, _NOT_IN_IMAGE),
    "MLFLOW_MYSQL_SSL_CERT": (_FILE, _NOT_IN_IMAGE),
    "MLFLOW_MYSQL_SSL_KEY": (_FILE, _NOT_IN_IMAGE),
    "MLFLOW_EXPOSE_PROMETHEUS": (_METRICS, _NOT_IN_IMAGE),
    "prometheus_multiproc_dir": (_METRICS, _NOT_IN_IMAGE),
}
# Variables that only MLflow itself sets, for its worker processes.
_INTERNAL = "_MLFLOW_"
_TLS = "UVICORN_SSL_"
# Options of uvicorn that the deployment or MLflow sets.
_UVICORN_OPTIONS = re.compile(
    r"--(host|port|workers|uds|fd|factory|interface|app-dir|env-file|reload[a-z-]*|ssl-[a-z-]+)(=.*)?"
)
_LONGEST_PREFIX = 200
# One or more segments; MLflow reads < and > as a part of a route, and { and } as well.
_PREFIX = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")
# https://cloud.google.com/run/docs/known-issues#reserved_url_paths, and what App Engine answers itself
_RESERVED = re.compile(r"/(_ah|_gcp_gatekeeper)(/.*)?")


def name(value: str) -> Fault | None:
    """The name of a variable that a deployment may add to the server's environment."""
    if not NAME.fullmatch(value):
        return (
            f"and {shown(value)} cannot be the name of an environment variable",
            "Use letters, digits and _, not beginning with a digit.",
        )
    if value in PLATFORM or value.startswith(PLATFORM_PREFIXES):
        return f"and the platform sets {value} itself", f"Remove {value}."
    owned = value.removesuffix("_SECRET_NAME")
    if owned in PRODUCT:
        instead = PRODUCT[owned]
        return (
            f"and the deployment sets {value} itself",
            f"Remove {value}, and set {instead}." if instead else f"Remove {value}.",
        )
    if owned in UNUSABLE:
        return _about(value, UNUSABLE[owned])
    if value.startswith(_INTERNAL):
        public = PREFIX if value == f"_{PREFIX}" else ""
        return (
            f"and MLflow sets {value} itself",
            f"Remove {value}, and set {public}." if public else f"Remove {value}.",
        )
    return None


def _about(variable: str, fault: Fault) -> Fault:
    why, next = fault
    return f"and it has {variable}, {why}", next.format(name=variable)


def static_prefix(value: Any) -> Fault | None:
    """The path that MLflow serves everything below."""
    if not value:
        return None
    if _RESERVED.fullmatch(value):
        return "which Google's front end answers itself", "Choose another path, for example /mlflow."
    if len(value) > _LONGEST_PREFIX or not _PREFIX.fullmatch(value):
        return (
            "which cannot be the path of MLflow's server",
            "Begin it with / and do not end it with /. Use letters, digits and . _ ~ - in at most "
            f"{_LONGEST_PREFIX} characters, for example /mlflow.",
        )
    return None


def uvicorn_options(value: Any) -> Fault | None:
    """Options of uvicorn that leave the server where the platform expects it."""
    try:
        options = shlex.split(value)
    except ValueError:
        return "which has an open quotation mark", "Close it, or remove it."
    wrong = next((option.partition("=")[0] for option in options if _UVICORN_OPTIONS.fullmatch(option)), "")
    if wrong == "--workers":
        return "and the deployment sets --workers itself", "Remove --workers, and set mlflow_workers."
    return (f"and {wrong} is set by the deployment or by MLflow", f"Remove {wrong}.") if wrong else None


VALUES: Mapping[str, Rule] = {
    PREFIX: static_prefix,
    "MLFLOW_UVICORN_OPTS": uvicorn_options,
    "MLFLOW_AUTH_DEFAULT_PERMISSION": like(
        r"(?i:READ|USE|EDIT|MANAGE|NO_PERMISSIONS)?",
        "which is not a permission of MLflow",
        "Set it to READ, USE, EDIT, MANAGE or NO_PERMISSIONS.",
    ),
    "DB_CONNECT_TIMEOUT": like(
        r"[0-9]{0,4}", "which is not a number of seconds", "Set it to a whole number, for example 30."
    ),
}


def variables(value: Any) -> Fault | None:
    """Names and values of environment variables."""
    for variable, text in value.items():
        if fault := name(variable):
            return fault
        if len(text) > LONGEST or "\0" in text:
            return (
                f"and the value of {variable} is not one that a server can have",
                f"Use at most {LONGEST} characters without NUL.",
            )
        if variable in VALUES and (fault := VALUES[variable](text)):
            return f"and {variable} has {shown(text)}, {fault[0]}", fault[1]
    return None


def secret_variables(value: Any) -> Fault | None:
    """Names of environment variables, each with a secret."""
    for variable, reference in value.items():
        if fault := name(variable):
            return fault
        if variable in VALUES:
            return (
                f"and the deployment needs to read the value of {variable}",
                f"Remove {variable}, and set it in {ENV}.",
            )
        if fault := access.RULES["secret_reference"](reference):
            return f"and {variable} has {shown(reference)}, {fault[0]}", fault[1]
    return None


def doubts(values: Mapping[str, Any]) -> list[str]:
    """Return warnings about variables that may work."""
    return [
        f"{setting} has MLFLOW_REGISTRY_STORE_URI. The migration updates the database of the deployment only: before a"
        " newer MLflow, run `mlflow db upgrade` for that of the registry."
        for setting in (ENV, SECRET_ENV)
        if "MLFLOW_REGISTRY_STORE_URI" in (values.get(setting) or {})
    ]


def check(values: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what does not go together, where each value is one by itself."""
    plain, secret = (set(values.get(variable) or {}) for variable in (ENV, SECRET_ENV))
    for both in sorted(plain & secret)[:1]:
        yield Problem(SECRET_ENV, f"{SECRET_ENV} and {ENV} both set {both}.", "Remove it from one of them.")
    if not (values.get("mlflow_image") or values.get("mlflow_image_context")):
        for setting, names in ((ENV, plain), (SECRET_ENV, secret)):
            for variable in sorted(names):
                if fault := _in_image(variable):
                    yield Problem(setting, f"{setting} has {variable}, {fault[0]}.", fault[1].format(name=variable))
    for setting in ("cloudrun_mlflow_command", "cloudrun_mlflow_args"):
        if any(str(item).partition("=")[0] == "--static-prefix" for item in values.get(setting) or []):
            yield Problem(
                setting,
                f"{setting} has --static-prefix, which probes, verification and addresses do not follow.",
                f"Remove it, and set {PREFIX} in {ENV}, which has the same effect on MLflow.",
            )


def _in_image(variable: str) -> Fault | None:
    """Return why the image that is built does not work with a variable."""
    if variable.startswith(_TLS):
        return _PORT, _OPTIONS
    return UNUSABLE_IN_IMAGE.get(variable.removesuffix("_SECRET_NAME"))
