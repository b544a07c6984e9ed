# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role gcp_data_plane."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.spec import EntryPoint, RoleSpec

ROLE = RoleSpec(
    name="gcp_data_plane",
    short_description="Database, bucket, secrets, image and migration of MLflow on Google Cloud",
    description=(
        "Runs the building blocks with what M(mlplatform.gcp.deployment) computed, registered as C(deployment).",
        "For targets that keep their data on Google Cloud. By itself the role does nothing.",
    ),
    variables=(),
    main=False,
    entry_points=(
        EntryPoint(
            "start",
            "Start what takes minutes",
            ("Starts the database and the image, and creates the service accounts.",),
        ),
        EntryPoint(
            "finish",
            "Create the rest of what a server needs",
            ("Creates the bucket and the secrets, and waits for the database and the image.",),
        ),
        EntryPoint("migrate", "Migrate the schema", ("Runs the migration as a Cloud Run job if the image changed.",)),
        EntryPoint(
            "absent",
            "Remove what a server needed",
            ("Removes what the deployment owns. Data are kept unless C(mlflow_destroy_data) is true.",),
        ),
    ),
)
