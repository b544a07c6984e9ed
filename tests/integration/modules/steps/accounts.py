# SPDX-License-Identifier: Apache-2.0
"""Steps for service_account and service_account_info."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.tests.integration.modules._cloud import IAM
from ansible_collections.mlplatform.gcp.tests.integration.modules._steps import Step, both, information, same


def account(cloud):
    return cloud.get(f"{IAM}/{cloud.home}/serviceAccounts/{cloud.email('made-here')}")


def created(seen, result, cloud):
    assert (seen["displayName"], seen["description"]) == ("Made here", "for a test")
    assert "disabled" not in seen
    assert result["email"] == seen["email"] == cloud.email("made-here")
    assert result["member"] == f"serviceAccount:{seen['email']}"


def changed(seen, result, cloud):
    assert (seen["displayName"], seen["description"], seen["disabled"]) == ("Changed", "for a test", True)
    assert result["resource"]["disabled"] is True


def absent(seen, result, cloud):
    assert seen is None


def _account(title, expect, *, state="present", **options):
    options = {"account_id": "made-here", "state": state, **options}
    return Step(title, "service_account", options, account, expect)


FOUND = {"name": "made-here@{{ project }}.iam.gserviceaccount.com"}

STEPS = [
    both(_account("A service account is created", created, display_name="Made here", description="for a test")),
    both(_account("A service account is renamed and disabled", changed, display_name="Changed", disabled=True)),
    both(information("A service account is found", "service_account_info", FOUND, lambda cloud: [account(cloud)])),
    information(
        "All service accounts are found",
        "service_account_info",
        {},
        lambda cloud: cloud.get(f"{IAM}/{cloud.home}/serviceAccounts")["accounts"],
    ),
    _account(
        "A service account is enabled again",
        lambda seen, result, cloud: same("disabled" in seen, False),
        disabled=False,
    ),
    both(_account("A service account is deleted", absent, state="absent")),
    information("No service account is found", "service_account_info", FOUND, lambda cloud: []),
    Step(
        "An invalid name is rejected",
        "service_account",
        {"account_id": "No_Name"},
        lambda cloud: cloud.get(f"{IAM}/{cloud.home}/serviceAccounts"),
        fails="'No_Name' cannot be the name of a service account",
    ),
]
