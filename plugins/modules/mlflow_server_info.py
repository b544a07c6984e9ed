#!/usr/bin/python
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_server_info
short_description: Gather information about an MLflow server at its address
version_added: 0.3.0
description:
  - Sends requests to the address of a server and fails unless it answers as it must under its O(access). Requests
    without credentials must be rejected. With O(thorough), MLflow must answer with the O(version).
  - It waits until then, because a new policy takes effect after minutes.
  - In check mode it sends no request.
author:
  - the mlplatform.gcp authors (@mlplatform)
options:
  url:
    description: Address of the server, with the path that it serves everything below if it has one.
    type: str
    required: true
  access:
    description: How the server is protected.
    type: str
    choices:
      iap: By Identity-Aware Proxy.
      iam: By Cloud Run, which lets its invokers pass.
      password: By MLflow's own login.
    required: true
  client_account:
    description: Service account that has access. Its token is sent for V(iap) and V(iam).
    type: str
    required: true
  client_required:
    description:
      - Whether a token for the O(client_account) must be available. Otherwise, a caller that may not act as the account
        sends only requests without credentials.
    type: bool
    default: false
  username_secret:
    description: Secret with the user name of the login, for V(password).
    type: str
    default: ""
  password_secret:
    description: Secret with the password of the login, for V(password).
    type: str
    default: ""
  version:
    description: Version of MLflow that must answer. Empty is any.
    type: str
    default: ""
  thorough:
    description: Whether to send requests with credentials as well. Otherwise the module sends one request.
    type: bool
    default: true
  skip:
    description: Why the server cannot be reached from here. Then no request is sent.
    type: str
    default: ""
  report:
    description: Lines that come before the result in RV(msg).
    type: list
    elements: str
    default: []
  wait_timeout:
    description: Seconds to wait until the server answers as it must.
    type: int
    default: 420
extends_documentation_fragment:
  - mlplatform.gcp.gcp
  - mlplatform.gcp.attributes.info
notes:
  - Needs C(iam.serviceAccounts.signJwt) for V(iap) or C(iam.serviceAccounts.getOpenIdToken) for V(iam), in
    C(roles/iam.serviceAccountTokenCreator) on the O(client_account), and C(secretmanager.versions.access) for
    V(password).
  - The credentials of the task are not sent to the server.
"""

EXAMPLES = r"""
- name: Require that MLflow answers behind Identity-Aware Proxy
  mlplatform.gcp.mlflow_server_info:
    url: https://mlflow-123456789012.europe-west1.run.app
    access: iap
    client_account: mlflow-client@my-project.iam.gserviceaccount.com
    version: 3.17.2
"""

RETURN = r"""
answered:
  description: What has answered. Empty if no request was sent.
  returned: success
  type: str
  sample: MLflow 3.17.2
msg:
  description: The O(report) and the result, one line each.
  returned: success
  type: list
  elements: str
"""

from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP, Options
from ansible_collections.mlplatform.gcp.plugins.module_utils._serving import Server

OPTIONS = GCP + Options(
    {
        "url": {"type": "str", "required": True},
        "access": {"type": "str", "choices": ["iap", "iam", "password"], "required": True},
        "client_account": {"type": "str", "required": True},
        "client_required": {"type": "bool", "default": False},
        # names of secrets, not secrets
        "username_secret": {"type": "str", "default": "", "no_log": False},
        "password_secret": {"type": "str", "default": "", "no_log": False},
        "version": {"type": "str", "default": ""},
        "thorough": {"type": "bool", "default": True},
        "skip": {"type": "str", "default": ""},
        "report": {"type": "list", "elements": "str", "default": []},
        "wait_timeout": {"type": "int", "default": 420},
    }
)


def run(task):
    params = task.params
    lines, answered = list(params["report"]), ""
    if params["skip"]:
        lines.append(f"{'Not asked:':<13}{params['skip']}")
    elif not task.check_mode:
        server = Server(
            task,
            url=params["url"],
            access=params["access"],
            client_account=params["client_account"],
            login=(params["username_secret"], params["password_secret"]),
            version=params["version"],
        )
        answered = server.expect(thorough=params["thorough"], certain=params["client_required"])
        lines.append(f"{'Answers:':<13}{answered}")
    return {"changed": False, "answered": answered, "msg": lines}


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
