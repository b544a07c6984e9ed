#!/usr/bin/python
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: storage_bucket
short_description: Manage Cloud Storage buckets
version_added: 0.1.0
description:
  - Creates, changes and deletes buckets of Cloud Storage.
  - Only what the task sets is compared and changed.
author:
  - the mlplatform.gcp authors (@mlplatform)
options:
  name:
    description: The bucket's name, which is unique in all of Google Cloud.
    type: str
    required: true
  location:
    description:
      - Region, dual-region or multi-region. Cannot be changed.
      - Google's default is V(US).
    type: str
  storage_class:
    description:
      - Storage class of objects that name none.
      - V(REGIONAL) and V(MULTI_REGIONAL) are older names of V(STANDARD). A bucket that has one of them is not changed
        to another. V(DURABLE_REDUCED_AVAILABILITY) is an older class of its own.
    type: str
    choices: [STANDARD, NEARLINE, COLDLINE, ARCHIVE, REGIONAL, MULTI_REGIONAL, DURABLE_REDUCED_AVAILABILITY]
  uniform_bucket_level_access:
    description: Whether access is granted by IAM alone and not by ACLs of single objects.
    type: bool
  public_access_prevention:
    description: Whether public access is prevented regardless of the bucket's policy.
    type: str
    choices: [enforced, inherited]
  versioning:
    description: Whether replaced and deleted objects are kept as noncurrent versions.
    type: bool
  lifecycle_rules:
    description:
      - Rules of the bucket's life cycle, as in the API, in any order. They replace the existing rules.
      - See U(https://cloud.google.com/storage/docs/json_api/v1/buckets#lifecycle).
    type: list
    elements: dict
    suboptions:
      action:
        description: What is done, for example C(type=Delete).
        type: dict
        required: true
      condition:
        description: With which objects, for example C(age=30).
        type: dict
        required: true
  soft_delete_seconds:
    description: For how long deleted objects can be restored, V(0) for not at all.
    type: int
  cors:
    description: Cross-origin rules as in the API. They replace the existing rules.
    type: list
    elements: dict
    suboptions:
      origin:
        description: Origins that may ask.
        type: list
        elements: str
      method:
        description: Methods that may be used.
        type: list
        elements: str
      responseHeader:
        description: Response headers that may be read.
        type: list
        elements: str
      maxAgeSeconds:
        description: For how long a browser may remember the answer.
        type: int
  kms_key:
    description:
      - A key of Cloud KMS as C(projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY), that encrypts new
        objects. Existing objects keep their key.
      - The service's agent needs C(roles/cloudkms.cryptoKeyEncrypterDecrypter) on it.
    type: str
    version_added: 0.3.0
  force:
    description:
      - Whether O(state=absent) deletes a bucket that holds objects, and the objects with it.
    type: bool
    default: false
extends_documentation_fragment:
  - mlplatform.gcp.bindings
  - mlplatform.gcp.owner
  - mlplatform.gcp.policy
  - mlplatform.gcp.gcp
  - mlplatform.gcp.labels
  - mlplatform.gcp.state
  - mlplatform.gcp.attributes
  - mlplatform.gcp.use
notes:
  - Needs C(storage.buckets.get), C(storage.buckets.create), C(storage.buckets.update), C(storage.buckets.delete), and
    for O(force) C(storage.objects.list) and C(storage.objects.delete); all are in C(roles/storage.admin).
"""

EXAMPLES = r"""
- name: A private bucket for artifacts exists
  mlplatform.gcp.storage_bucket:
    project: my-project
    name: my-project-mlflow-artifacts
    location: europe-west1
    uniform_bucket_level_access: true
    public_access_prevention: enforced
    lifecycle_rules:
      - action: {type: AbortIncompleteMultipartUpload}
        condition: {age: 7}
    labels:
      managed-by: mlplatform-gcp

- name: Delete the bucket and all its objects
  mlplatform.gcp.storage_bucket:
    name: my-project-mlflow-artifacts
    state: absent
    force: true
"""

RETURN = r"""
changes:
  description:
    - What changes. An entry has C(kind) and C(name) of a resource, C(action) (V(create), V(change), V(delete) or
      V(adopt)), C(fields) with C(path), C(before) and C(after), and C(implies), a list of texts.
    - The callback C(mlplatform.gcp.plan) prints the changes of a run.
  returned: success
  type: list
  elements: dict
resource:
  description: The bucket as Google describes it.
  returned: when O(state=present)
  type: dict
  sample:
    name: my-project-mlflow-artifacts
    location: EUROPE-WEST1
    storageClass: STANDARD
"""


from ansible_collections.mlplatform.gcp.plugins.module_utils import _bindings, _verbs
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.storage import BUCKET
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules.storage import CLASSES
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import UserError
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import (
    GCP,
    LABELS,
    OWNER,
    POLICY,
    STATE,
    USE,
    Options,
)

OPTIONS = (
    GCP
    + LABELS
    + OWNER
    + POLICY
    + STATE
    + USE
    + Options(
        {
            "name": {"type": "str", "required": True},
            "location": {"type": "str"},
            "storage_class": {"type": "str", "choices": list(CLASSES)},
            "uniform_bucket_level_access": {"type": "bool"},
            "public_access_prevention": {"type": "str", "choices": ["enforced", "inherited"]},
            "versioning": {"type": "bool"},
            "lifecycle_rules": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "action": {"type": "dict", "required": True},
                    "condition": {"type": "dict", "required": True},
                },
            },
            "soft_delete_seconds": {"type": "int"},
            "cors": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "origin": {"type": "list", "elements": "str"},
                    "method": {"type": "list", "elements": "str"},
                    "responseHeader": {"type": "list", "elements": "str"},
                    "maxAgeSeconds": {"type": "int"},
                },
            },
            "kms_key": {"type": "str", "no_log": False},
            "force": {"type": "bool", "default": False},
        }
    )
)


def desired(params):
    """The bucket that the options describe, as the API's fields."""
    uniform, rules = params["uniform_bucket_level_access"], params["lifecycle_rules"]
    return {
        "name": params["name"],
        "location": params["location"],
        "storageClass": params["storage_class"],
        "iamConfiguration": {
            "uniformBucketLevelAccess": None if uniform is None else {"enabled": uniform},
            "publicAccessPrevention": params["public_access_prevention"],
        },
        "versioning": None if params["versioning"] is None else {"enabled": params["versioning"]},
        "lifecycle": None if rules is None else {"rule": rules},
        "softDeletePolicy": None
        if params["soft_delete_seconds"] is None
        else {"retentionDurationSeconds": str(params["soft_delete_seconds"])},
        "cors": params["cors"],
        "encryption": {"defaultKmsKeyName": params["kms_key"]},
        "labels": params["labels"],
    }


def run(task):
    remote = task.remote(BUCKET, name=task.params["name"])
    if task.params["state"] == "absent":
        return remote.ensure_absent(guard=lambda plan: empty(task))
    return _bindings.ensure(task, remote, remote.ensure(desired(task.params)))


def empty(task):
    """Delete the bucket's objects with all their versions, if the task allows it."""
    name, force = task.params["name"], task.params["force"]
    query = {
        "versions": "true",
        "fields": "items(name,generation),nextPageToken",
        "maxResults": 1000 if force else 1,
    }
    while True:
        # The first page, again and again: what was on it before is deleted.
        page = _verbs.call(task, "storage.objects.list", query=query, bucket=name)
        objects = page.get("items") or []
        if objects and not force:
            raise UserError(
                f"The bucket {name} holds objects (the first is {objects[0]['name']}) and is not deleted.",
                "Set force: true to delete the objects with it.",
            )
        if task.check_mode or not objects:
            return
        for item in objects:
            _verbs.call(
                task,
                "storage.objects.delete",
                query={"generation": item["generation"]},
                bucket=name,
                object=item["name"],
            )


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
