# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: secret
short_description: Read the value of a secret
version_added: 0.1.0
description:
  - Returns values of secrets in Secret Manager. A payload is read as everywhere in this collection, as text in UTF-8
    without the line breaks at its end. A payload that is empty or not text is an error.
  - The value becomes part of whatever it is used in. The modules of this collection take names of secrets instead and
    read them by themselves; prefer that, and set C(no_log) on tasks that use this lookup.
author:
  - the mlplatform.gcp authors (@mlplatform)
options:
  _terms:
    description:
      - Secrets, each as C(projects/PROJECT/secrets/SECRET/versions/VERSION), without the version for the newest, or as
        a bare name for a secret in O(project).
    type: list
    elements: str
    required: true
extends_documentation_fragment:
  - mlplatform.gcp.gcp.plugin
requirements:
  - google-auth
  - google-cloud-secret-manager
notes:
  - Needs C(secretmanager.versions.access), which is in C(roles/secretmanager.secretAccessor).
"""

EXAMPLES = r"""
- name: Sign in once
  ansible.builtin.uri:
    url: https://mlflow.example.com/api/2.0/mlflow/users/get?username=admin
    url_username: admin
    url_password: "{{ lookup('mlplatform.gcp.secret', 'projects/my-project/secrets/mlflow-password') }}"
  no_log: true
"""

RETURN = r"""
_raw:
  description: The values, as text.
  type: list
  elements: str
"""

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.mlplatform.gcp.plugins.module_utils import _credentials, _redaction, _settings
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import GcpError
from ansible_collections.mlplatform.gcp.plugins.module_utils._secrets import text, version_name

try:
    from google.api_core import exceptions
    from google.auth.exceptions import GoogleAuthError
    from google.cloud import secretmanager

    IMPORT_ERROR = None
except ImportError as missing:
    IMPORT_ERROR = missing


class LookupModule(LookupBase):
    def run(self, terms, variables=None, **kwargs):
        if IMPORT_ERROR is not None:
            raise AnsibleLookupError(
                f"The lookup mlplatform.gcp.secret needs the library google-cloud-secret-manager: {IMPORT_ERROR}"
            )
        self.set_options(var_options=variables, direct=kwargs)
        params = self.get_options()
        try:
            credentials = _credentials.from_params(params)
            client = secretmanager.SecretManagerServiceClient(credentials=credentials, transport="rest")
            names = [version_name(term, lambda: _project(params, credentials)) for term in terms]
            return [_value(client, name, credentials) for name in names]
        except GcpError as error:
            # Ansible would show the text of the cause, too.
            raise AnsibleLookupError(str(error)) from None


def _project(params, credentials):
    """The project for bare names: the option, or the project of the credentials."""
    project = _settings.project(params)
    if project:
        return project
    if credentials.source and credentials.project:
        return credentials.project
    raise AnsibleLookupError("The secret has no project. Set project, or GCP_PROJECT in the environment.")


def _value(client, name, credentials):
    try:
        payload = client.access_secret_version(name=name).payload.data
    except (exceptions.GoogleAPICallError, exceptions.RetryError, GoogleAuthError, OSError, ValueError) as error:
        words = _redaction.text(error, credentials.secrets)
        raise AnsibleLookupError(f"Cannot read the secret {name}: {words}") from None
    return text(payload, name)
