# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role gcp."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.spec import RoleSpec, Variable

ROLE = RoleSpec(
    name="gcp",
    short_description="Project, region and credentials",
    description=(
        "The project and the region of all resources, and the credentials of all requests. Other roles depend on it.",
        "Empty variables are read from the environment, with the names of the C(google.cloud) collection and AWX.",
    ),
    main=False,
    text=True,
    variables=(
        Variable(
            "gcp_project",
            "str",
            (
                "Id of the project. One with a domain is written C(example.com:my-project).",
                "The default is C(GCP_PROJECT) in the environment.",
            ),
            default="{{ lookup('ansible.builtin.env', 'GCP_PROJECT') }}",
            rule="project",
        ),
        Variable(
            "gcp_region",
            "str",
            (
                "Region of everything that is regional, for example V(europe-west1). The default is C(GCP_REGION)"
                " in the environment.",
            ),
            default="{{ lookup('ansible.builtin.env', 'GCP_REGION') }}",
            rule="region",
        ),
        Variable(
            "gcp_auth_kind",
            "str",
            ("Kind of the credentials. Empty uses what Google's own tools find.",),
            default="",
            choices=("application", "serviceaccount", "accesstoken", "machineaccount"),
        ),
        Variable("gcp_service_account_file", "path", ("Path of a service account's key file.",), default=""),
        Variable(
            "gcp_service_account_contents",
            "str",
            ("Contents of a service account's key file.",),
            default="",
            no_log=True,
        ),
        Variable(
            "gcp_service_account_email",
            "str",
            ("The service account of the machine to use with V(machineaccount).",),
            default="",
            rule="account_email",
        ),
        Variable("gcp_access_token", "str", ("An access token.",), default="", no_log=True),
        Variable(
            "gcp_impersonate_service_account",
            "str",
            ("A service account to impersonate with the credentials.",),
            default="",
            rule="account_email",
        ),
        Variable(
            "gcp_quota_project",
            "str",
            ("The project that requests are counted and billed to.",),
            default="",
            rule="quota_project",
        ),
    ),
)
