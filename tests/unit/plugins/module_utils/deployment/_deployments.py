# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deployments for the tests of the model, and reports of what exists."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.model import Observed, compute

VARIABLES = {
    "gcp_project": "mlflow-sandbox",
    "gcp_region": "europe-west1",
    "mlflow_name": "demo",
    "mlflow_access_members": ["user:alice@example.com"],
}
NUMBER = "827594110180"
DEPLOYER = "serviceAccount:deployer@mlflow-sandbox.iam.gserviceaccount.com"
# The build context of an image that reads all its secrets by name.
BY_NAME = {"secret_content_tag": "ba9876543210", "secret_image_context": "/collection/secrets"}
ENABLED = ("run.googleapis.com", "sqladmin.googleapis.com", "iap.googleapis.com")


def resource(kind, name, *, owned=True, **facts):
    """Return a resource that exists, as preflight reports it."""
    return {"type": kind, "name": name, "exists": True, "owned": owned, "labels": {}, **facts}


def report(*resources, enabled=ENABLED, disabled=(), unanswered=(), caller=DEPLOYER):
    """Return a report of preflight."""
    return {
        "project": {"project_id": "mlflow-sandbox", "number": NUMBER, "organization": "organizations/1"},
        "caller": {"email": caller.partition(":")[2], "member": caller} if caller else None,
        "services": {"enabled": list(enabled), "disabled": list(disabled)},
        "resources": list(resources),
        "problems": [],
        "unanswered": list(unanswered),
    }


def computed(given=None, found=None, made=None, action="deploy", **variables):
    """Return the outcome of the model for the usual variables and others."""
    observed = Observed(found, made, content_tag="0123456789ab", image_context="/collection/image", **BY_NAME)
    return compute(VARIABLES | (given or {}) | variables, observed, action=action)


def deployed(*args, **more):
    """Return the deployment, which has no problems."""
    outcome = computed(*args, **more)
    assert outcome.problems == [], outcome.problems
    return outcome.deployment


def variables_of(outcome):
    """Return the variables that have problems."""
    return [problem.variable for problem in outcome.problems]
