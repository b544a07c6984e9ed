# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The server's environment and its image."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.problems import Problem, shown
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules import cloudrun, environment
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules.kinds import Fault, Rule, like

# Releases that were tried with the image of the role mlflow_image. Older ones cannot create their tables with
# `mlflow db upgrade`, by which the migration works.
OLDEST, NEWEST = "3.14.0", "3.17.2"
# A worker of MLflow's server takes about this much.
_WORKER_MIB = 256


def build_args(value: Any) -> Fault | None:
    """Names and values of build arguments."""
    for name, text in value.items():
        if not environment.NAME.fullmatch(name):
            return (
                f"and {shown(name)} cannot be the name of a build argument",
                "Use letters, digits and _, not beginning with a digit.",
            )
        if len(text) > environment.LONGEST or re.search(r"[\0\r\n]", text):
            return (
                f"and the value of {name} is not one line",
                f"Use at most {environment.LONGEST} characters on one line.",
            )
    return None


_PATH = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_REFERENCE = re.compile(
    rf"(?P<host>[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)+(:[0-9]+)?/)?{_PATH}(/{_PATH})*(?P<version>(:{_TAG})?(@sha256:[a-f0-9]{{64}})?)"
)


def image(value: Any) -> Fault | None:
    """https://github.com/distribution/reference: a registry, a name, and a tag or a digest."""
    found = _REFERENCE.fullmatch(value) if len(value) <= 512 else None
    if not found:
        hint = " Names of images are lower-case." if value != value.lower() else ""
        return (
            "which is not the reference of an image",
            f"Write REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:DIGEST.{hint}",
        )
    if not found["version"]:
        return "which has neither a tag nor a digest", "Add :TAG or @sha256:DIGEST."
    if not found["host"]:
        return "which lacks its registry", "Write it like europe-west1-docker.pkg.dev/PROJECT/REPOSITORY/IMAGE:TAG."
    return None


def release(version: str) -> tuple[int, ...]:
    """Return the three numbers of a version, of "3.10" as well; no numbers for what is no version."""
    found = re.match(r"[0-9]{1,9}(\.[0-9]{1,9})*", version)
    return (*(int(part) for part in found[0].split(".")), 0, 0)[:3] if found else ()


def _built_version(values: Mapping[str, Any]) -> tuple[str, str]:
    """Return the variable with the version in the image of the role mlflow_image, and the version."""
    if values.get("mlflow_image") or values.get("mlflow_image_context"):
        return "", ""
    arguments = values.get("mlflow_image_build_args") or {}
    if "MLFLOW_VERSION" in arguments:
        return "mlflow_image_build_args", arguments["MLFLOW_VERSION"]
    return "mlflow_version", values.get("mlflow_version") or ""


def doubts(values: Mapping[str, Any]) -> list[str]:
    """Return warnings about values that may work."""
    variable, version = _built_version(values)
    found = environment.doubts(values)
    if not release(version) > release(NEWEST):
        return found
    return [
        *found,
        f"{variable} is {version[:40]}. The newest MLflow that this release of the collection was tried with is"
        f" {NEWEST}; try the newer one in another deployment first, because a migrated database does not go back.",
    ]


def check(values: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what does not go together, where each value is one by itself."""
    variable, version = _built_version(values)
    if release(version) and release(version) < release(OLDEST):
        yield Problem(
            variable,
            f"{variable} is {version}, and the oldest MLflow that works in the image that is built is {OLDEST}.",
            f"Set it to {OLDEST} to {NEWEST}. For an older MLflow build an image of your own (mlflow_image). A newer"
            " MLflow migrates the database of an older one.",
        )
    yield from environment.check(values)
    workers, memory = values.get("mlflow_workers") or 1, cloudrun.mebibytes(values.get("mlflow_memory"))
    fitting = max(1, int((memory or 0) // _WORKER_MIB))
    if memory and workers > fitting:
        yield Problem(
            "mlflow_workers",
            f"mlflow_workers is {workers}, and an instance with mlflow_memory {values['mlflow_memory']} has room for "
            f"{fitting}, at about {_WORKER_MIB} MiB each.",
            "Lower it to the number of CPUs, which is enough, and raise mlflow_max_instances for more load.",
        )


RULES: Mapping[str, Rule] = {
    "version": like(
        r"[0-9]{1,3}(\.[0-9]{1,3}){1,2}((a|b|rc)[0-9]{1,3}|\.(dev|post)[0-9]{1,3})?",
        "which is not a version of MLflow",
        "Set it to a released version, for example 3.17.2. Quote it: 3.10 without quotes is 3.1 in YAML.",
    ),
    "image": image,
    "image_name": like(
        rf"(?=.{{1,255}}$){_PATH}(/{_PATH})*",
        "which cannot be the name of an image",
        "Use lower-case letters, digits, and single . _ - between them.",
    ),
    "tag": like(
        _TAG,
        "which cannot be the tag of an image",
        "Use at most 128 letters, digits, _ . and -, not beginning with . or -.",
    ),
    "relative_path": like(
        r"(?!.*(^|/)\.\.(/|$))[^/\x00-\x1f\x7f][^\x00-\x1f\x7f]{0,1023}",
        "which is not a path inside the context",
        "Write it relative to mlflow_image_context, without ..",
    ),
    "build_machine": like(
        r"E2_MEDIUM|E2_STANDARD_2|E2_HIGHCPU_8|E2_HIGHCPU_32|N1_HIGHCPU_8|N1_HIGHCPU_32",
        "which is not a machine type of Cloud Build",
        "Set it to E2_MEDIUM, E2_STANDARD_2, E2_HIGHCPU_8 or E2_HIGHCPU_32, or leave it empty.",
    ),
}
MAPPINGS: Mapping[str, Rule] = {
    "server_env": environment.variables,
    "server_secret_env": environment.secret_variables,
    "build_args": build_args,
}
