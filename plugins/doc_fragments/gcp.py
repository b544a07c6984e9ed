# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # Project and credentials: the option group GCP of module_utils/_options.py.
    DOCUMENTATION = r"""
options:
  project:
    description:
      - The project's id.
      - Without it, the project of the credentials is used.
      - Falls back on the environment variables E(GCP_PROJECT), E(GCE_PROJECT) and E(GOOGLE_CLOUD_PROJECT).
    type: str
  auth_kind:
    description:
      - Where credentials come from.
      - With V(application), Google's application default credentials.
      - With V(serviceaccount), O(service_account_file) or O(service_account_contents).
      - With V(accesstoken), O(access_token).
      - With V(machineaccount), the metadata server of the machine that the module runs on.
      - By default, whichever of these options is set decides, else V(application).
      - Falls back on the environment variable E(GCP_AUTH_KIND).
    type: str
    choices: [application, serviceaccount, accesstoken, machineaccount]
  service_account_file:
    description:
      - Path of a service account's JSON key.
      - Falls back on the environment variables E(GCP_SERVICE_ACCOUNT_FILE) and E(GCE_CREDENTIALS_FILE_PATH).
    type: path
  service_account_contents:
    description:
      - The contents of a service account's JSON key.
      - Falls back on the environment variable E(GCP_SERVICE_ACCOUNT_CONTENTS).
    type: jsonarg
  service_account_email:
    description:
      - The service account of the machine to use with O(auth_kind=machineaccount), by default its first.
      - Falls back on the environment variables E(GCP_SERVICE_ACCOUNT_EMAIL) and E(GCE_EMAIL).
    type: str
  access_token:
    description:
      - An OAuth 2.0 access token. It is not refreshed.
      - Falls back on the environment variable E(GCP_ACCESS_TOKEN).
    type: str
  scopes:
    description:
      - OAuth 2.0 scopes, by default C(https://www.googleapis.com/auth/cloud-platform).
      - Falls back on the environment variable E(GCP_SCOPES).
    type: list
    elements: str
  impersonate_service_account:
    description:
      - E-mail address of a service account to act as. The credentials need C(iam.serviceAccounts.getAccessToken) on it.
      - Falls back on the environment variables E(GCP_IMPERSONATE_SERVICE_ACCOUNT) and
        E(GOOGLE_IMPERSONATE_SERVICE_ACCOUNT).
    type: str
  quota_project:
    description:
      - The project that is charged for the requests where it is not the credentials' own.
      - Falls back on the environment variables E(GCP_QUOTA_PROJECT) and E(GOOGLE_CLOUD_QUOTA_PROJECT).
    type: str
  lock:
    description:
      - The lock of the deployment that the task belongs to, as M(mlplatform.gcp.deployment) returns it. The task takes
        it before its first change, and waits while another run has it.
      - By default it is C(lock) of the variable C(deployment), which the roles register. Without it the task takes no
        lock.
    type: dict
    version_added: 0.3.0
requirements:
  - python >= 3.11
  - google-auth
  - requests
notes:
  - An empty option of project and credentials counts as not given. Then the variable of the role C(gcp) applies, which
    is C(gcp_) and the option's name, for example C(gcp_project), and after it the environment. The options C(scopes)
    and C(lock) have no such variable.
  - White space around project, credentials and the addresses of proxies (E(HTTPS_PROXY), E(HTTP_PROXY), E(ALL_PROXY))
    is removed. A line break, a space, a control character or a character that is not ASCII in them is an error.
  - With a local connection the module runs inside Ansible's own process, which saves starting an interpreter for each
    task. The variable C(gcp_in_controller) set to V(false), C(become), C(async), another connection or another
    C(ansible_python_interpreter) make it run as an ordinary module.
"""

    # The same options for plugins that run in the controller, which name their environment variables themselves.
    PLUGIN = r"""
options:
  project:
    description: The project's id. Without it, the project of the credentials is used.
    type: str
    env:
      - name: GCP_PROJECT
      - name: GCE_PROJECT
      - name: GOOGLE_CLOUD_PROJECT
  auth_kind:
    description: Where credentials come from, as in the collection's modules.
    type: str
    choices: [application, serviceaccount, accesstoken, machineaccount]
    env:
      - name: GCP_AUTH_KIND
  service_account_file:
    description: Path of a service account's JSON key.
    type: path
    env:
      - name: GCP_SERVICE_ACCOUNT_FILE
      - name: GCE_CREDENTIALS_FILE_PATH
  service_account_contents:
    description: The contents of a service account's JSON key.
    type: raw
    env:
      - name: GCP_SERVICE_ACCOUNT_CONTENTS
  service_account_email:
    description: The service account of the machine to use with O(auth_kind=machineaccount), by default its first.
    type: str
    env:
      - name: GCP_SERVICE_ACCOUNT_EMAIL
      - name: GCE_EMAIL
  access_token:
    description: An OAuth 2.0 access token. It is not refreshed.
    type: str
    env:
      - name: GCP_ACCESS_TOKEN
  scopes:
    description: OAuth 2.0 scopes, by default C(https://www.googleapis.com/auth/cloud-platform).
    type: list
    elements: str
    env:
      - name: GCP_SCOPES
  impersonate_service_account:
    description: E-mail address of a service account to act as.
    type: str
    env:
      - name: GCP_IMPERSONATE_SERVICE_ACCOUNT
      - name: GOOGLE_IMPERSONATE_SERVICE_ACCOUNT
  quota_project:
    description: The project that is charged for the requests where it is not the credentials' own.
    type: str
    env:
      - name: GCP_QUOTA_PROJECT
      - name: GOOGLE_CLOUD_QUOTA_PROJECT
"""
