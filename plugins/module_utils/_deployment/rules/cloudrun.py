# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Cloud Run takes.

Sources: https://cloud.google.com/run/docs/configuring/services/cpu, .../memory-limits, .../concurrency,
.../request-timeout, .../min-instances.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.problems import Problem
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules.kinds import Fault, Rule

# vCPU -> least and most memory in MiB.
MEMORY_OF_CPU = {1: (128, 4096), 2: (128, 8192), 4: (2048, 16384), 6: (4096, 24576), 8: (4096, 32768)}
_UNITS = {"": 2**-20, "k": 1e3 / 2**20, "M": 1e6 / 2**20, "G": 1e9 / 2**20, "Ki": 2**-10, "Mi": 1.0, "Gi": 1024.0}
_MEMORY = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)(k|M|G|Ki|Mi|Gi)?")
_CPU = re.compile(r"[0-9]{1,6}(\.[0-9]{1,3})?|[0-9]{1,8}m")
# MiB. Jobs run in the second generation's environment, which has this much at least, and MLflow needs as much.
_LEAST = 512


def cpus(value: Any) -> float | None:
    """Return the CPUs of "1", "0.5" or "500m"; None for what is no number of CPUs."""
    text = str(value)
    if not _CPU.fullmatch(text):
        return None
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def mebibytes(value: Any) -> float | None:
    """Return the MiB of "512Mi", "2Gi" or "1G"; None for what is no amount of memory."""
    found = _MEMORY.fullmatch(str(value))
    return float(found[1]) * _UNITS[found[2] or ""] if found else None


def cpu(value: Any) -> Fault | None:
    """A number of CPUs on any target."""
    amount = cpus(value)
    if amount is None or amount <= 0:
        return "which is not a number of CPUs", 'Set it to a number such as "1" or "2".'
    return None


def run_cpu(value: Any) -> Fault | None:
    """CPUs of Cloud Run: a fraction from 0.08, or one of five numbers."""
    fault = cpu(value)
    amount = cpus(value)
    if fault or amount is None:
        return fault
    if amount in MEMORY_OF_CPU or 0.08 <= amount < 1:
        return None
    return (
        "and Cloud Run gives an instance 1, 2, 4, 6 or 8 CPUs, or a fraction from 0.08",
        f"Set it to {_nearest_cpu(amount)}.",
    )


def memory(value: Any) -> Fault | None:
    """An amount of memory on any target."""
    amount = mebibytes(value)
    if amount is None or amount <= 0:
        wrong = re.fullmatch(r"([0-9.]+)\s*([GMK])i?[bB]", str(value).strip())
        hint = f"{wrong[1]}{wrong[2].upper()}i" if wrong else "2Gi"
        return "which is not an amount of memory", f"Set it to a number with Mi or Gi, for example {hint}."
    return None


def _nearest_cpu(amount: float) -> str:
    return str(next((number for number in MEMORY_OF_CPU if number >= amount), max(MEMORY_OF_CPU)))


def _memory_of(amount: float) -> tuple[int, int]:
    if amount < 1:
        return (128, 512) if amount < 0.5 else (128, 1024)
    return MEMORY_OF_CPU[int(amount)]


def _mib(amount: float) -> str:
    return f"{amount / 1024:g}Gi" if amount >= 1024 else f"{amount:g}Mi"


def _resources(cpu_name: str, memory_name: str, values: Mapping[str, Any]) -> Iterator[Problem]:
    """Whether the memory fits the CPUs."""
    cpu_text, memory_text = values.get(cpu_name), values.get(memory_name)
    amount = mebibytes(memory_text)
    if run_cpu(cpu_text) or memory(memory_text) or amount is None:
        return
    least, most = _memory_of(cpus(cpu_text) or 1)
    if not least <= amount <= most:
        larger = next((number for number, (low, high) in MEMORY_OF_CPU.items() if low <= amount <= high), None)
        yield Problem(
            memory_name,
            f"{memory_name} is {memory_text}, and with {cpu_name} {cpu_text} Cloud Run gives an instance {_mib(least)} "
            f"to {_mib(most)}.",
            f"Set {memory_name} to {_mib(least)} to {_mib(most)}"
            + (f", or {cpu_name} to {larger}." if larger else "."),
        )


def check(values: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what Cloud Run refuses about the server, where each value is one by itself."""
    yield from _open(values)
    if fault := run_cpu(values.get("mlflow_cpu")):
        if cpu(values.get("mlflow_cpu")) is None:
            yield Problem("mlflow_cpu", f"mlflow_cpu is {values.get('mlflow_cpu')}, {fault[0]}.", fault[1])
        return
    amount, size = cpus(values.get("mlflow_cpu")) or 1, mebibytes(values.get("mlflow_memory"))
    if size is not None and size < _LEAST:
        yield Problem(
            "mlflow_memory",
            f"mlflow_memory is {values['mlflow_memory']}, too little for MLflow's server to start.",
            "Set it to 2Gi.",
        )
    else:
        yield from _resources("mlflow_cpu", "mlflow_memory", values)
    concurrency, idle = values.get("cloudrun_mlflow_concurrency") or 1, values.get("cloudrun_mlflow_cpu_idle")
    if amount < 1 and concurrency > 1:
        yield Problem(
            "mlflow_cpu",
            f"mlflow_cpu is {values['mlflow_cpu']}, and Cloud Run gives less than one CPU only to instances that serve "
            f"one request at a time; cloudrun_mlflow_concurrency is {concurrency}.",
            'Set mlflow_cpu to "1", or cloudrun_mlflow_concurrency to 1.',
        )
    if amount < 1 and idle is False:
        yield Problem(
            "cloudrun_mlflow_cpu_idle",
            f"cloudrun_mlflow_cpu_idle is false, which Cloud Run takes with at least one CPU; mlflow_cpu is "
            f"{values['mlflow_cpu']}.",
            'Set mlflow_cpu to "1", or cloudrun_mlflow_cpu_idle to true.',
        )


def _open(values: Mapping[str, Any]) -> Iterator[Problem]:
    """Whether a service without a check of the invoker role is one that is open in any case."""
    if values.get("cloudrun_mlflow_invoker_iam_disabled") and values.get("mlflow_access") != "password":
        yield Problem(
            "cloudrun_mlflow_invoker_iam_disabled",
            "cloudrun_mlflow_invoker_iam_disabled is true, which lets requests without the invoker role pass, and"
            f" mlflow_access is {values.get('mlflow_access')}, which depends on that role.",
            "Remove it, or use mlflow_access=password.",
        )


def check_job(values: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what Cloud Run refuses about the migration's job."""
    size = mebibytes(values.get("mlflow_migration_memory"))
    if size is None or size >= _LEAST:
        yield from _resources("mlflow_migration_cpu", "mlflow_migration_memory", values)
    else:
        yield Problem(
            "mlflow_migration_memory",
            f"mlflow_migration_memory is {values['mlflow_migration_memory']}, and a job has at least 512Mi.",
            "Set it to 2Gi.",
        )


RULES: Mapping[str, Rule] = {"cpu": cpu, "run_cpu": run_cpu, "memory": memory}
