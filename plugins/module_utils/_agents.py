# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Service agents, the accounts of Google's services in a project: https://cloud.google.com/iam/docs/service-agents."""

from __future__ import annotations

STORAGE = "storage.googleapis.com"
_DOMAINS = {
    "artifactregistry.googleapis.com": "gcp-sa-artifactregistry",
    "cloudbuild.googleapis.com": "gcp-sa-cloudbuild",
    "container.googleapis.com": "container-engine-robot",
    "iap.googleapis.com": "gcp-sa-iap",
    "run.googleapis.com": "serverless-robot-prod",
    "secretmanager.googleapis.com": "gcp-sa-secretmanager",
    "sqladmin.googleapis.com": "gcp-sa-cloud-sql",
    STORAGE: "gs-project-accounts",
}


def address(service, number):
    """Return the address of the agent that a service has in the project with a number."""
    domain = _DOMAINS.get(service) or f"gcp-sa-{service.split('.')[0]}"
    return f"service-{number}@{domain}.iam.gserviceaccount.com"
