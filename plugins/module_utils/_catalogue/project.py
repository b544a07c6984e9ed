# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The project, its APIs and its billing account."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.kind import Kind, state_in
from ansible_collections.mlplatform.gcp.plugins.module_utils._operations import long_running
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import Resource

MANAGER = "https://cloudresourcemanager.googleapis.com"
USAGE = "https://serviceusage.googleapis.com"
BILLING = "https://cloudbilling.googleapis.com/v1"

PROJECT = Resource(
    kind="project",
    base=f"{MANAGER}/v3",
    path="projects/{project}",
    permission="resourcemanager.projects",
    update=None,
)
BILLING_INFO = Resource(
    kind="billing account of the project",
    base=BILLING,
    path="projects/{project}/billingInfo",
    update=None,
)
API = Resource(
    kind="API",
    base=f"{USAGE}/v1",
    path="projects/{project}/services/{name}",
    permission="serviceusage.services",
    operation=long_running(f"{USAGE}/v1"),
    update=None,
)

KINDS = {
    "project": Kind(
        PROJECT,
        names=lambda project, name, location: {"project": name},
        state=lambda body: (body.get("state"), body.get("state") != "ACTIVE"),
        shared=True,
        policy="//cloudresourcemanager.googleapis.com/projects/{project}",
    ),
    "project_service": Kind(API, items="services", state=state_in("state"), shared=True),
}
