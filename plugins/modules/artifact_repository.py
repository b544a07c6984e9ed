#!/usr/bin/python
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: artifact_repository
short_description: Manage repositories of Artifact Registry
version_added: 0.1.0
description:
  - Creates, changes and deletes repositories of Artifact Registry, where container images and packages are kept.
  - Only what the task sets is compared and changed.
author:
  - the mlplatform.gcp authors (@mlplatform)
options:
  name:
    description: The repository's id.
    type: str
    required: true
  location:
    description: Region or multi-region of the repository. A repository of the same id elsewhere is another one.
    type: str
    required: true
  format:
    description: What the repository keeps. Cannot be changed.
    type: str
    default: DOCKER
    choices: [DOCKER, MAVEN, NPM, APT, YUM, PYTHON, KFP, GO, GENERIC]
  description:
    description: What the repository is for.
    type: str
  kms_key:
    description:
      - A key of Cloud KMS as C(projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY), that encrypts the
        images. It must be in O(location), and cannot be changed.
      - The service's agent needs C(roles/cloudkms.cryptoKeyEncrypterDecrypter) on it.
    type: str
    version_added: 0.3.0
  cleanup_policies:
    description:
      - Policies that delete or keep versions automatically. They replace the existing policies.
      - See U(https://cloud.google.com/artifact-registry/docs/repositories/cleanup-policy).
    type: list
    elements: dict
    suboptions:
      id:
        description: Name of the policy.
        type: str
        required: true
      action:
        description: Whether what matches is deleted, or kept whatever other policies say.
        type: str
        required: true
        choices: [DELETE, KEEP]
      condition:
        description: What matches. Excludes O(cleanup_policies[].most_recent_versions).
        type: dict
        suboptions:
          tag_state:
            description: Whether the version has tags.
            type: str
            choices: [TAGGED, UNTAGGED, ANY]
          tag_prefixes:
            description: Beginnings of tags.
            type: list
            elements: str
          version_name_prefixes:
            description: Beginnings of names of versions.
            type: list
            elements: str
          package_name_prefixes:
            description: Beginnings of names of packages.
            type: list
            elements: str
          older_than:
            description: Age in seconds, such as V(2592000s).
            type: str
          newer_than:
            description: Age in seconds, such as V(86400s).
            type: str
      most_recent_versions:
        description: The newest versions of each package match.
        type: dict
        suboptions:
          keep_count:
            description: How many.
            type: int
          package_name_prefixes:
            description: Beginnings of names of packages.
            type: list
            elements: str
extends_documentation_fragment:
  - mlplatform.gcp.bindings
  - mlplatform.gcp.owner
  - mlplatform.gcp.policy
  - mlplatform.gcp.gcp
  - mlplatform.gcp.labels
  - mlplatform.gcp.state
  - mlplatform.gcp.wait
  - mlplatform.gcp.attributes
  - mlplatform.gcp.use
notes:
  - Needs C(artifactregistry.repositories.get), C(artifactregistry.repositories.create),
    C(artifactregistry.repositories.update) and C(artifactregistry.repositories.delete); all are in
    C(roles/artifactregistry.admin).
"""

EXAMPLES = r"""
- name: A repository for images exists and keeps the ten newest
  mlplatform.gcp.artifact_repository:
    project: my-project
    name: mlflow
    location: europe-west1
    description: Images of MLflow
    cleanup_policies:
      - id: keep-recent
        action: KEEP
        most_recent_versions:
          keep_count: 10
      - id: delete-old
        action: DELETE
        condition:
          older_than: 2592000s

- name: Delete the repository with all its images
  mlplatform.gcp.artifact_repository:
    name: mlflow
    location: europe-west1
    state: absent
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
  description: The repository as Google describes it.
  returned: when O(state=present)
  type: dict
  sample:
    name: projects/my-project/locations/europe-west1/repositories/mlflow
    format: DOCKER
operation:
  description: Name of the operation in progress.
  returned: when O(wait=false) and an operation was started
  type: str
"""

from ansible_collections.mlplatform.gcp.plugins.module_utils import _bindings
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.registry import REPOSITORY
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import (
    GCP,
    LABELS,
    OWNER,
    POLICY,
    STATE,
    USE,
    WAIT,
    Options,
)

_PREFIXES = {"type": "list", "elements": "str"}

OPTIONS = (
    GCP
    + LABELS
    + OWNER
    + POLICY
    + STATE
    + WAIT
    + USE
    + Options(
        {
            "name": {"type": "str", "required": True},
            "location": {"type": "str", "required": True},
            "format": {
                "type": "str",
                "default": "DOCKER",
                "choices": ["DOCKER", "MAVEN", "NPM", "APT", "YUM", "PYTHON", "KFP", "GO", "GENERIC"],
            },
            "description": {"type": "str"},
            "kms_key": {"type": "str", "no_log": False},
            "cleanup_policies": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "id": {"type": "str", "required": True},
                    "action": {"type": "str", "required": True, "choices": ["DELETE", "KEEP"]},
                    "condition": {
                        "type": "dict",
                        "options": {
                            "tag_state": {"type": "str", "choices": ["TAGGED", "UNTAGGED", "ANY"]},
                            "tag_prefixes": _PREFIXES,
                            "version_name_prefixes": _PREFIXES,
                            "package_name_prefixes": _PREFIXES,
                            "older_than": {"type": "str"},
                            "newer_than": {"type": "str"},
                        },
                    },
                    "most_recent_versions": {
                        "type": "dict",
                        "options": {"keep_count": {"type": "int"}, "package_name_prefixes": _PREFIXES},
                    },
                },
                "mutually_exclusive": [("condition", "most_recent_versions")],
                "required_one_of": [("condition", "most_recent_versions")],
            },
        }
    )
)


def desired(params):
    """The repository that the options describe, as the API's fields."""
    policies = params["cleanup_policies"]
    return {
        "format": params["format"],
        "description": params["description"],
        "labels": params["labels"],
        "kmsKeyName": params["kms_key"],
        "cleanupPolicies": None if policies is None else {policy["id"]: cleanup_policy(policy) for policy in policies},
    }


def cleanup_policy(policy):
    condition, recent = policy["condition"], policy["most_recent_versions"]
    return {
        "id": policy["id"],
        "action": policy["action"],
        "condition": condition
        and {
            "tagState": condition["tag_state"],
            "tagPrefixes": condition["tag_prefixes"],
            "versionNamePrefixes": condition["version_name_prefixes"],
            "packageNamePrefixes": condition["package_name_prefixes"],
            "olderThan": condition["older_than"],
            "newerThan": condition["newer_than"],
        },
        "mostRecentVersions": recent
        and {"keepCount": recent["keep_count"], "packageNamePrefixes": recent["package_name_prefixes"]},
    }


def run(task):
    remote = task.remote(REPOSITORY, location=task.params["location"], name=task.params["name"])
    if task.params["state"] == "absent":
        return remote.ensure_absent()
    return _bindings.ensure(task, remote, remote.ensure(desired(task.params)))


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
