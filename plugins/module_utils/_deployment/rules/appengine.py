# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What App Engine flexible takes.

Source: https://cloud.google.com/appengine/docs/flexible/reference/app-yaml.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.problems import Problem
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules import cloudrun, places
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules.kinds import Fault, Rule

# GiB a CPU, of which App Engine needs some itself.
MEMORY_OF_CPU = (0.9, 6.5)
OVERHEAD = 0.4


def _fits(number: float) -> bool:
    return number == 1 or (number % 2 == 0 and 2 <= number <= 32) or (number % 4 == 0 and 36 <= number <= 80)


def utilization(value: Any) -> Fault | None:
    """A share of the CPU."""
    return None if 0 < value <= 1 else ("which is not a share of the CPU", "Set it to a number above 0 and at most 1.")


def check(values: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what App Engine refuses about the server, where each value is one by itself."""
    if values.get("mlflow_access") == "iam":
        yield Problem(
            "mlflow_access",
            "mlflow_access is iam, and App Engine has no invoker role.",
            "Use iap, which gives programs access as well.",
        )
    number, size = cloudrun.cpus(values.get("mlflow_cpu")), cloudrun.mebibytes(values.get("mlflow_memory"))
    if number and not _fits(number):
        yield Problem(
            "mlflow_cpu",
            f"mlflow_cpu is {values['mlflow_cpu']}, and App Engine flexible gives an instance 1 CPU, an even number up"
            " to 32, or a multiple of 4 up to 80.",
            'Set it to "1" or "2".',
        )
    elif number and size:
        least, most = (round(number * share - OVERHEAD, 1) for share in MEMORY_OF_CPU)
        if not least <= size / 1024 <= most:
            yield Problem(
                "mlflow_memory",
                f"mlflow_memory is {values['mlflow_memory']}, and App Engine flexible gives an instance of "
                f"{values['mlflow_cpu']} CPU {least:g}Gi to {most:g}Gi.",
                f"Set mlflow_memory to {least:g}Gi to {most:g}Gi, or change mlflow_cpu.",
            )
    if values.get("mlflow_min_instances") == 0:
        yield Problem(
            "mlflow_min_instances",
            "mlflow_min_instances is 0, and App Engine flexible always runs at least 1 instance.",
            "Set it to 1 or more.",
        )
    for name in ("cloudrun_mlflow_command", "cloudrun_mlflow_args"):
        if values.get(name):
            yield Problem(
                name,
                f"{name} is set, and App Engine has neither a command nor arguments for a container.",
                f"Remove {name}, and set ENTRYPOINT and CMD in an image of your own (mlflow_image or"
                " mlflow_image_context), or set mlflow_target=cloudrun.",
            )
    region = values.get("gcp_region") or ""
    if not values.get("appengine_mlflow_location") and not places.region(region) and places.appengine_location(region):
        why, next = places.appengine_location(region) or ("", "")
        yield Problem("appengine_mlflow_location", f"appengine_mlflow_location is gcp_region, {region}, {why}.", next)
    for name in ("appengine_mlflow_readiness_check", "appengine_mlflow_liveness_check"):
        given = values.get(name) or {}
        if given.get("timeout") and given.get("check_interval") and given["timeout"] > given["check_interval"]:
            yield Problem(
                name,
                f"{name} has a timeout of {given['timeout']} s, longer than its check_interval of "
                f"{given['check_interval']} s.",
                "Set timeout to at most check_interval.",
            )


RULES: Mapping[str, Rule] = {"utilization": utilization}
