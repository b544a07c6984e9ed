# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role bucket."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.roles import _shared
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules.storage import CLASSES
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.spec import RoleSpec, Variable

ROLE = RoleSpec(
    name="bucket",
    short_description="A Cloud Storage bucket and its access policy",
    description=("Creates a bucket with uniform access and public access prevention, and grants roles on it.",),
    registers=("bucket_managed",),
    variables=(
        _shared.state("Whether the bucket should exist.", "bucket"),
        Variable("bucket_name", "str", ("Name of the bucket, 3 to 63 characters.",), required=True, rule="bucket"),
        Variable(
            "bucket_location",
            "str",
            (
                "A region, a dual-region or a multi-region. It cannot be changed later.",
                "In a deployment C(mlflow_bucket_location) is the same setting.",
            ),
            default="{{ gcp_region }}",
            rule="bucket_location",
        ),
        Variable(
            "bucket_storage_class",
            "str",
            ("Storage class of new objects.",),
            default="STANDARD",
            choices=CLASSES,
        ),
        Variable(
            "bucket_public_access_prevention",
            "str",
            (
                "With V(enforced) nothing in the bucket can be made public. V(inherited) leaves that to the"
                " organization's policy.",
            ),
            default="enforced",
            choices=("enforced", "inherited"),
        ),
        Variable(
            "bucket_versioning",
            "bool",
            ("Whether to keep overwritten and deleted objects as noncurrent versions.",),
            default=False,
        ),
        Variable(
            "bucket_soft_delete_seconds",
            "int",
            ("How long a deleted object can be restored, 7 to 90 days. V(0) disables soft delete.",),
            default=604800,
            rule="soft_delete",
        ),
        Variable(
            "bucket_lifecycle_rules",
            "list",
            ("Lifecycle rules in the API's format, with C(action) and C(condition).",),
            default=[],
            elements="dict",
            rule="lifecycle",
        ),
        Variable(
            "bucket_cors",
            "list",
            ("CORS rules in the API's format.",),
            default=[],
            elements="dict",
            rule="cors",
        ),
        Variable(
            "bucket_kms_key",
            "str",
            (
                "Key of Cloud KMS that encrypts new objects, in the bucket's location (C(europe) for V(EU)).",
                "In a deployment the default is C(mlflow_kms_key).",
            ),
            default="",
            rule="kms_key",
        ),
        Variable(
            "bucket_labels",
            "dict",
            ("Labels of the bucket, besides those of its owner.",),
            default={},
            elements="str",
            rule="labels",
        ),
        Variable(
            "bucket_bindings",
            "list",
            (
                "Roles on the bucket. The members of each listed role become exactly these, except in an adopted"
                " bucket, where no principal loses a role.",
            ),
            default=[],
            elements="dict",
            options=_shared.BINDING,
        ),
        Variable(
            "bucket_force",
            "bool",
            ("Whether O(bucket_state=absent) deletes a bucket that has objects.",),
            default=False,
        ),
        Variable(
            "bucket_managed",
            "bool",
            ("Whether to create and change the bucket. Otherwise it must exist, and only roles on it are granted.",),
            default=True,
        ),
        *_shared.ownership("bucket", "the bucket"),
    ),
)
