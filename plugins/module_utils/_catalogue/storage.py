# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cloud Storage."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue import kms
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.kind import Kind
from ansible_collections.mlplatform.gcp.plugins.module_utils._ownership import Labels
from ansible_collections.mlplatform.gcp.plugins.module_utils._plan import Rules
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import Resource, Update

BASE = "https://storage.googleapis.com/storage/v1"

BUCKET = Resource(
    kind="bucket",
    base=BASE,
    path="b/{name}",
    permission="storage.buckets",
    create_query={"project": "{project}"},
    update=Update(style="merge", depth=9),
    version="metageneration",
    version_query="ifMetagenerationMatch",
    delete_guard="ifMetagenerationMatch",
    mark=Labels(),
    kept=("encryption",),
    transient=kms.TRANSIENT,
    rules=Rules(
        immutable={
            "location": "Move the data to a bucket with another name (gcloud storage cp -r), or set location to where"
            " the bucket is."
        },
        unordered=("lifecycle.rule", "cors.origin", "cors.method", "cors.responseHeader"),
        normalise={
            "location": lambda value: value and value.upper(),
            "storageClass": lambda value: "STANDARD" if value in ("REGIONAL", "MULTI_REGIONAL") else value,
        },
    ),
    implies={"delete": "loss of its objects"},
)

KINDS = {
    "storage_bucket": Kind(
        BUCKET,
        items="items",
        location=lambda body: body["location"].lower(),
        policy="//storage.googleapis.com/projects/_/buckets/{name}",
    ),
}
