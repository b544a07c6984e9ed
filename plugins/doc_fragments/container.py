# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # What Cloud Run runs: the option group CONTAINER of module_utils/_run.py.
    DOCUMENTATION = r"""
options:
  name:
    description: Name of the service or job, at most 49 characters.
    type: str
    required: true
  location:
    description: Region. The same name in another region is another resource.
    type: str
    required: true
  image:
    description: The container image. Required for a new one. With a digest, what runs is certain.
    type: str
  command:
    description: Replaces the image's entry point.
    type: list
    elements: str
  args:
    description: Arguments to the entry point.
    type: list
    elements: str
  env:
    description:
      - Environment variables. Together with O(secret_env) they replace the existing variables.
      - All principals with read access to the service can read them. Use O(secret_env) for passwords.
    type: dict
  secret_env:
    description:
      - Environment variables with values from Secret Manager, as C(projects/p/secrets/s/versions/3) or
        C(projects/p/secrets/s) for the latest version at each start.
    type: dict
  secret_volumes:
    description: Secrets as files.
    type: list
    elements: dict
    suboptions:
      mount_path:
        description: Folder that the file is in.
        type: str
        required: true
      secret:
        description: Name of the secret, as in O(secret_env).
        type: str
        required: true
      file:
        description: Name of the file.
        type: str
        required: true
  cloudsql_instances:
    description: Connection names of Cloud SQL instances. Their sockets are mounted under C(/cloudsql).
    type: list
    elements: str
  cpu:
    description: Processors, such as V(1) or V(2000m).
    type: str
  memory:
    description: Memory, such as V(2Gi).
    type: str
  service_account:
    description: E-mail address of the service account that it runs as.
    type: str
  timeout:
    description: Seconds after which a request, or a task of a job, is given up.
    type: int
  kms_key:
    description:
      - A key of Cloud KMS as C(projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY), in O(location), that
        encrypts the container image.
      - Cloud Run's agent needs C(roles/cloudkms.cryptoKeyEncrypterDecrypter) on it.
    type: str
  vpc_access:
    description: Direct VPC egress.
    type: dict
    suboptions:
      network:
        description: Name of the network.
        type: str
      subnetwork:
        description: Name of the subnetwork.
        type: str
      egress:
        description: What goes through the network.
        type: str
        choices: [ALL_TRAFFIC, PRIVATE_RANGES_ONLY]
  annotations:
    description: Annotations. Others are left alone.
    type: dict
"""
