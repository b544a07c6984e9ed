# SPDX-License-Identifier: Apache-2.0
"""Numbers of enum values, for clients that send and ask for numbers (`$alt=json;enum-encoding=int`).

Discovery documents list values in the order of their numbers and leave the numbers out. Where the proto has a gap the
order is not the number; those are listed here (google-cloud-* protos; tests/test_schema.py compares).
"""

from __future__ import annotations

from collections.abc import Sequence

# First value of the enum -> numbers of the values that differ from their position.
_GAPS: dict[str, dict[str, int]] = {
    # google.cloud.run.v2.Condition.CommonReason
    "COMMON_REASON_UNDEFINED": {
        "REVISION_FAILED": 3,
        "PROGRESS_DEADLINE_EXCEEDED": 4,
        "CONTAINER_MISSING": 6,
        "CONTAINER_PERMISSION_DENIED": 7,
        "CONTAINER_IMAGE_UNAUTHORIZED": 8,
        "CONTAINER_IMAGE_AUTHORIZATION_CHECK_FAILED": 9,
        "ENCRYPTION_KEY_PERMISSION_DENIED": 10,
        "ENCRYPTION_KEY_CHECK_FAILED": 11,
        "SECRETS_ACCESS_CHECK_FAILED": 12,
        "WAITING_FOR_OPERATION": 13,
        "IMMEDIATE_RETRY": 14,
        "POSTPONED_RETRY": 15,
        "INTERNAL": 16,
        "VPC_NETWORK_NOT_FOUND": 17,
    },
    # google.cloud.secretmanager.v1.Secret.SecretType
    "SECRET_TYPE_UNSPECIFIED": {"OTHER": 50},
    # google.devtools.artifactregistry.v1.ProjectSettings.RedirectionState
    "REDIRECTION_STATE_UNSPECIFIED": {
        "REDIRECTION_FROM_GCR_IO_ENABLED_AND_COPYING": 5,
        "REDIRECTION_FROM_GCR_IO_PARTIAL_AND_COPYING": 6,
    },
    # google.iam.admin.v1.LintResult.Level
    "LEVEL_UNSPECIFIED": {"CONDITION": 3},
    # google.iam.admin.v1.Role.RoleLaunchStage
    "ALPHA": {"DEPRECATED": 4, "DISABLED": 5, "EAP": 6},
}


def enum_number(values: Sequence[str], name: str) -> int | None:
    """Return the number of value `name` of the enum with `values`, None when it is not one of them."""
    if name not in values:
        return None
    gaps = _GAPS.get(values[0], {})
    # Two enums may begin alike; the gaps are those of the one that has all their values.
    if name in gaps and gaps.keys() <= set(values):
        return gaps[name]
    return list(values).index(name)


def enum_value(values: Sequence[str], number: int) -> str | None:
    """Return the value with `number`, None when there is none."""
    return next((name for name in values if enum_number(values, name) == number), None)
