#!/usr/bin/python
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_info
short_description: Report problems that would make a deployment fail
version_added: 0.1.0
description:
  - Reads from Google Cloud, concurrently, all information that a deployment needs later, and returns all problems with
    the next step.
  - By default problems do not make the task fail. The module changes nothing.
  - Later tasks of the same play that run in the controller compare with this data for 300 seconds. They read a resource
    again before they change it.
author:
  - the mlplatform.gcp authors (@mlplatform)
options:
  region:
    description: Where regional resources are going to be.
    type: str
  services:
    description: APIs that the deployment will enable.
    type: list
    elements: str
    default: []
  other_services:
    description: APIs that the deployment does not need, and wants to know whether they are enabled.
    type: list
    elements: str
    default: []
  permissions:
    description:
      - Permissions on the project that the deployment will need.
      - The problem about missing ones has the finished commands that grant the smallest set of predefined roles.
    type: list
    elements: str
    default: []
  resources:
    description: What the deployment is going to make.
    type: list
    elements: dict
    default: []
    suboptions:
      type:
        description: Kind of the resource.
        type: str
        required: true
        choices:
          - app_engine_application
          - app_engine_service
          - app_engine_version
          - artifact_repository
          - cloud_run_job
          - cloud_run_service
          - crypto_key
          - docker_image
          - image_tag
          - network
          - project
          - project_service
          - secret
          - secret_version
          - service_account
          - sql_database
          - sql_flags
          - sql_instance
          - sql_user
          - storage_bucket
          - subnetwork
      name:
        description:
          - Its name. That of a service account is its id, without the project; that of an App Engine application the
            project's id; that of a version C(SERVICE/VERSION); that of a database or of its user C(INSTANCE/NAME);
            that of an image tag C(REGION-docker.pkg.dev/PROJECT/REPOSITORY/NAME:TAG), that of a Docker image the same
            with C(@sha256:DIGEST) in place of the tag; that of a secret's version
            C(projects/PROJECT/secrets/SECRET/versions/VERSION); that of database flags the version of the database;
            that of a key C(projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY).
        type: str
        required: true
      location:
        description: Where it is going to be, by default O(region). With V(*) it may be anywhere.
        type: str
      read:
        description:
          - Related data to read in addition, so that later tasks of the play do not read it again.
          - V(policy) is its IAM policy and V(iap_policy) that of Identity-Aware Proxy; V(latest_version) belongs to a
            secret, V(latest_execution) to a Cloud Run job, V(instances) to a version of App Engine.
        type: list
        elements: str
        choices: [policy, iap_policy, latest_version, latest_execution, instances]
        default: []
      host:
        description: The host of a database user of MySQL.
        type: str
      adopt:
        description: Whether it may lack O(owner_labels), independent of O(adopt).
        type: bool
        default: false
        version_added: 0.3.0
      referenced_by:
        description:
          - The variable that refers to the resource, which the deployment does not create. It is a problem if a version
            of a secret, an image or a key does not exist, and if the version, or that of the key, is not enabled.
          - A resource that the caller may not read is a warning.
        type: str
        version_added: 0.3.0
      readers:
        description:
          - Members that must be able to read the resource of O(resources[].referenced_by). C({number}) in a member is
            the project's number.
          - A member is a warning if neither the policy of the resource nor that of its project grants it a role, as far
            as the caller may read them.
        type: list
        elements: str
        default: []
        version_added: 0.3.0
      named_by:
        description: The variable with the name of the resource, for the problems with its value.
        type: str
        version_added: 0.3.0
      minimum_length:
        description:
          - The number of characters that the value of a secret or of its version must have at least. The value is read
            and is not returned. A value that the caller may not read is not checked.
        type: int
        version_added: 0.3.0
      rejected_values:
        description: Values that a secret or its version must not have, such as a well-known default.
        type: list
        elements: str
        default: []
        version_added: 0.3.0
      one_word:
        description:
          - Whether the value of a secret or of its version must be printable and without white space. The value is read
            as for O(resources[].minimum_length).
        type: bool
        default: false
        version_added: 0.3.0
      restorable:
        description:
          - Whether to warn of a deleted bucket of this name that can be restored (soft delete), where no bucket has it.
          - Needs C(storage.buckets.list). Without it there is no warning.
        type: bool
        default: false
        version_added: 0.3.0
  owner_labels:
    description:
      - Labels of the deployment's resources. An existing resource without them has another owner.
      - A service account has no labels; its description must contain C(key=value) for each of them.
      - A version of App Engine has none either; its environment variable C(MLFLOW_DEPLOYMENT) stands for C(managed-by)
        and C(mlflow-deployment). The owner of a service is the owner of the versions that get its requests. An
        application is shared by the whole project and is used without changes.
    type: dict
    default: {}
  adopt:
    description: Whether to adopt resources without O(owner_labels).
    type: bool
    default: false
  problems:
    description: Whether problems make the task fail.
    type: str
    choices:
      report: Problems are returned.
      fail: All problems are listed in the error.
    default: report
    version_added: 0.3.0
  organization_required:
    description: Whether the project must be in an organization.
    type: bool
    default: false
  principals:
    description:
      - Members that will be granted roles, such as C(group:EMAIL). An invalid member is a problem, and so is a service
        account that neither exists nor is among O(resources).
      - Google checks the existence of a user or a group only when a policy is written.
    type: list
    elements: str
    default: []
    version_added: 0.2.0
extends_documentation_fragment:
  - mlplatform.gcp.gcp
  - mlplatform.gcp.attributes.info
notes:
  - Needs C(resourcemanager.projects.get), C(serviceusage.services.get), and the C(get) permission of each kind of
    resource. A resource without read permission is among the problems.
"""

EXAMPLES = r"""
- name: Check the project before a deployment
  mlplatform.gcp.preflight_info:
    project: my-project
    region: europe-west1
    services: [run.googleapis.com, sqladmin.googleapis.com]
    permissions: [run.services.create, cloudsql.instances.create]
    resources:
      - type: storage_bucket
        name: my-project-mlflow
    owner_labels:
      managed-by: mlplatform-gcp
  register: preflight

- name: Require that no problem exists
  ansible.builtin.assert:
    that: preflight.problems | length == 0
"""

RETURN = r"""
problems:
  description: All problems, in the order of the checks.
  returned: always
  type: list
  elements: dict
  contains:
    check:
      description: Name of the check, such as C(permissions).
      type: str
    resource:
      description: Full name of the resource, if the problem concerns one.
      type: str
    what:
      description: What is wrong.
      type: str
    next:
      description: What to do about it.
      type: str
unanswered:
  description: Checks that were not possible, because their API is not enabled yet.
  returned: always
  type: list
  elements: str
project:
  description: The readable data of the project, or null.
  returned: always
  type: dict
  sample: {project_id: my-project, number: "123456789012", state: ACTIVE, organization: organizations/1}
caller:
  description: Principal of the credentials, or null if it is unknown.
  returned: always
  type: dict
  sample:
    email: deployer@my-project.iam.gserviceaccount.com
    member: serviceAccount:deployer@my-project.iam.gserviceaccount.com
services:
  description: Enabled and disabled APIs. Of O(other_services) only the enabled ones are listed.
  returned: always
  type: dict
  sample: {enabled: [run.googleapis.com], disabled: [sqladmin.googleapis.com]}
resources:
  description: The resources of O(resources) with their current data.
  returned: always
  type: list
  elements: dict
  contains:
    exists:
      description: Whether it exists.
      type: bool
    owned:
      description: Whether it carries O(owner_labels).
      type: bool
    location:
      description: Where it is, or is going to be.
      type: str
    state:
      description: Its state, if its kind has one.
      type: str
    labels:
      description: Its labels.
      type: dict
    relation:
      description:
        - Relation to the owner. V(created) when it does not exist yet, V(managed) when it carries O(owner_labels),
          V(adopted) when it does not and O(adopt=true), V(foreign) when it does not, V(shared) for what belongs to the
          whole project.
      type: str
    version:
      description: Version of the database, for example C(POSTGRES_16).
      returned: for a Cloud SQL instance that exists
      type: str
    tier:
      description: Its machine type.
      returned: for a Cloud SQL instance that exists
      type: str
    edition:
      description: Its edition.
      returned: for a Cloud SQL instance that exists
      type: str
    connection_name:
      description: The name by which clients connect, C(PROJECT:REGION:INSTANCE).
      returned: for a Cloud SQL instance that exists
      type: str
    binary_log:
      description: Whether it writes binary logs.
      returned: for a Cloud SQL instance that exists, with MySQL
      type: bool
    flags:
      description: Its database flags. For database flags, all that the version has, each with its type and limits.
      returned: for a Cloud SQL instance that exists, and for database flags
      type: dict
    url:
      description: The address of a Cloud Run service.
      returned: for a Cloud Run service that exists
      type: str
    services:
      description: Names of the services.
      returned: for an App Engine application that exists
      type: list
      elements: str
    versions:
      description: How many versions they have together.
      returned: for an App Engine application that exists
      type: int
    iap_enabled:
      description: Whether Identity-Aware Proxy is on.
      returned: for an App Engine application that exists
      type: bool
    hostname:
      description: Its default host name.
      returned: for an App Engine application that exists
      type: str
    allocations:
      description: Version -> share of the requests.
      returned: for an App Engine service that exists
      type: dict
    version_list:
      description: The versions, each with C(id), C(serving_status), C(create_time) and C(deployment), its owner.
      returned: for an App Engine service that exists
      type: list
      elements: dict
"""

from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.kinds import KINDS
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.problems import Problem, listed
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import UserError
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP, Options
from ansible_collections.mlplatform.gcp.plugins.module_utils._preflight import Preflight

OPTIONS = GCP + Options(
    {
        "region": {"type": "str"},
        "services": {"type": "list", "elements": "str", "default": []},
        "other_services": {"type": "list", "elements": "str", "default": []},
        "permissions": {"type": "list", "elements": "str", "default": []},
        "resources": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "type": {"type": "str", "required": True, "choices": list(KINDS)},
                "name": {"type": "str", "required": True},
                "location": {"type": "str"},
                "read": {
                    "type": "list",
                    "elements": "str",
                    "choices": ["policy", "iap_policy", *(name for kind in KINDS.values() for name in kind.related)],
                    "default": [],
                },
                "host": {"type": "str"},
                "adopt": {"type": "bool", "default": False},
                "referenced_by": {"type": "str"},
                "readers": {"type": "list", "elements": "str", "default": []},
                "named_by": {"type": "str"},
                "minimum_length": {"type": "int"},
                "one_word": {"type": "bool", "default": False},
                "restorable": {"type": "bool", "default": False},
                "rejected_values": {"type": "list", "elements": "str", "default": []},
            },
        },
        "owner_labels": {"type": "dict", "default": {}},
        "adopt": {"type": "bool", "default": False},
        "problems": {"type": "str", "choices": ["report", "fail"], "default": "report"},
        "organization_required": {"type": "bool", "default": False},
        "principals": {"type": "list", "elements": "str", "default": []},
    }
)


def run(task):
    result = Preflight(task).result()
    if result["problems"] and task.params["problems"] == "fail":
        problems = [Problem("", item["what"], item["next"]) for item in result["problems"]]
        raise UserError(listed(problems, "Nothing was changed: this would fail."))
    return result


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
