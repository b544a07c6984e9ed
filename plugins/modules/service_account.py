#!/usr/bin/python
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_account
short_description: Manage service accounts
version_added: 0.1.0
description:
  - Creates, changes, disables and deletes service accounts.
  - Keys are not made; nothing in this collection needs one.
author:
  - the mlplatform.gcp authors (@mlplatform)
options:
  account_id:
    description: The part of the address before the C(@), 6 to 30 lower-case letters, digits and dashes.
    type: str
  accounts:
    description: Several accounts in one task. The options that an entry lacks hold for all of them.
    type: list
    elements: dict
    version_added: 0.3.0
    suboptions:
      account_id:
        description: As O(account_id).
        type: str
        required: true
      display_name:
        description: As O(display_name).
        type: str
      description:
        description: As O(description).
        type: str
      disabled:
        description: As O(disabled).
        type: bool
      impersonators:
        description: As O(impersonators).
        type: list
        elements: str
      adopt:
        description: As O(adopt).
        type: bool
  display_name:
    description: A name for people.
    type: str
  description:
    description: What the account is for.
    type: str
  disabled:
    description: Whether the account is disabled.
    type: bool
  impersonators:
    description:
      - Principals that can act as the account, which is C(roles/iam.serviceAccountTokenCreator) on it.
      - With O(bindings_authoritative=true) they are the only ones. Without this option that role is not managed.
    type: list
    elements: str
    version_added: 0.3.0
extends_documentation_fragment:
  - mlplatform.gcp.bindings
  - mlplatform.gcp.owner
  - mlplatform.gcp.policy
  - mlplatform.gcp.gcp
  - mlplatform.gcp.state
  - mlplatform.gcp.attributes
  - mlplatform.gcp.use
notes:
  - Needs C(iam.serviceAccounts.get), C(iam.serviceAccounts.create), C(iam.serviceAccounts.update),
    C(iam.serviceAccounts.delete), C(iam.serviceAccounts.enable) and C(iam.serviceAccounts.disable), which are in
    C(roles/iam.serviceAccountAdmin).
  - IAM policies may not know an account for a minute after it was made. M(mlplatform.gcp.iam_bindings) waits that out.
"""

EXAMPLES = r"""
- name: MLflow's server has an identity of its own
  mlplatform.gcp.service_account:
    project: my-project
    account_id: mlflow-server
    display_name: MLflow server
  register: server

- name: A group acts as one of two accounts
  mlplatform.gcp.service_account:
    project: my-project
    accounts:
      - account_id: mlflow-server
      - account_id: mlflow-client
        impersonators: ["group:ml-team@example.com"]
    bindings_authoritative: true
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
  description: The service account as Google describes it.
  returned: when O(account_id) is given and O(state=present)
  type: dict
  sample:
    email: mlflow-server@my-project.iam.gserviceaccount.com
email:
  description: The account's address.
  returned: when O(account_id) is given
  type: str
  sample: mlflow-server@my-project.iam.gserviceaccount.com
member:
  description: The account as IAM policies name it.
  returned: when O(account_id) is given
  type: str
  sample: serviceAccount:mlflow-server@my-project.iam.gserviceaccount.com
results:
  description:
    - For each of O(accounts), its C(account_id), and the C(email), C(member) and C(resource) of a task for it.
  returned: when O(accounts) is given
  type: list
  elements: dict
"""

from ansible_collections.mlplatform.gcp.plugins.module_utils import _bindings, _verbs
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.accounts import ACCOUNT, address
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP, OWNER, POLICY, STATE, USE, Options
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import Result

# The options of one account.
_ACCOUNT = {
    "account_id": {"type": "str"},
    "display_name": {"type": "str"},
    "description": {"type": "str"},
    "disabled": {"type": "bool"},
    "impersonators": {"type": "list", "elements": "str"},
}
_ENTRY = _ACCOUNT | {"account_id": {"type": "str", "required": True}, "adopt": {"type": "bool"}}

OPTIONS = (
    GCP
    + OWNER
    + POLICY
    + STATE
    + USE
    + Options(
        _ACCOUNT | {"accounts": {"type": "list", "elements": "dict", "options": _ENTRY}},
        mutually_exclusive=(("account_id", "accounts"),),
        required_one_of=(("account_id", "accounts"),),
    )
)
_IMPERSONATE = "roles/iam.serviceAccountTokenCreator"


def switch(task, remote, account):
    """Disable or enable the account, which is not a field that can be patched."""
    wanted, now = task.params["disabled"], bool((account or {}).get("disabled"))
    if wanted is None or wanted == now:
        return Result()
    if not task.check_mode:
        verb = "disable" if wanted else "enable"
        _verbs.call(task, f"iam.projects.serviceAccounts.{verb}", **remote.names)
    account["disabled"] = wanted
    return Result.of(ACCOUNT.kind, remote.path, {"disabled": now}, {"disabled": wanted})


def run(task):
    return ensure(task) if task.params["accounts"] is None else task.each("accounts", ensure, key="account_id")


def ensure(task):
    """Make one account what the options say."""
    params = task.params
    if params["impersonators"] is not None:
        granted = [{"role": _IMPERSONATE, "members": params["impersonators"]}]
        task.params = params | {"bindings": (params["bindings"] or []) + granted}
    email = address(params["account_id"], task.project)
    remote = task.remote(ACCOUNT, email=email)
    desired = {"displayName": params["display_name"], "description": params["description"]}
    if params["state"] == "absent":
        result = remote.ensure_absent()
    else:
        result = remote.ensure(desired)
        if not params["use"]:
            result.add(switch(task, remote, result.resource))
        result.resource.setdefault("email", email)
        _bindings.ensure(task, remote, result)
    result.extra.update({"email": email, "member": f"serviceAccount:{email}"})
    return result


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
