#!/usr/bin/python
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iap_settings
short_description: Manage settings and access of Identity-Aware Proxy
version_added: 0.1.0
description:
  - Changes the settings of Identity-Aware Proxy for a project, an application or a single service.
  - Only what the task sets is compared and changed. With nothing but O(bindings), the settings are not read.
  - Without an OAuth client of your own, users sign in with Google's managed client. Create an OAuth client of your own
    in the console; the API for that was removed. The module reads its id and secret from Secret Manager itself.
  - The client of an App Engine application is set by M(mlplatform.gcp.app_engine_application).
author:
  - the mlplatform.gcp authors (@mlplatform)
options:
  resource:
    description:
      - The protected resource, such as C(projects/123456789012/iap_web/cloud_run-europe-west1/services/mlflow),
        C(projects/123456789012/iap_web/appengine-my-project) for an App Engine application, or
        C(projects/123456789012/iap_web/appengine-my-project/services/default) for one of its services.
    type: str
    required: true
  programmatic_clients:
    description: Ids of OAuth clients that programs can get tokens for. They replace the existing ones.
    type: list
    elements: str
  login_hint:
    description: Domain that users are to sign in with.
    type: str
  cors_allow_http_options:
    description: Whether C(OPTIONS) requests pass without being authenticated.
    type: bool
  cookie_domain:
    description: Domain of the cookie of Identity-Aware Proxy.
    type: str
extends_documentation_fragment:
  - mlplatform.gcp.bindings
  - mlplatform.gcp.policy
  - mlplatform.gcp.gcp
  - mlplatform.gcp.oauth_client
  - mlplatform.gcp.attributes
notes:
  - Needs C(iap.webServices.getSettings) and C(iap.webServices.updateSettings) (or those of the kind of resource), in
    C(roles/iap.settingsAdmin), and C(secretmanager.versions.access) on the two secrets.
  - The secret of the client is never shown. The API returns a hash of it, which is compared.
"""

EXAMPLES = r"""
- name: Let users sign in with an OAuth client of our own
  mlplatform.gcp.iap_settings:
    resource: projects/123456789012/iap_web/cloud_run-europe-west1/services/mlflow
    oauth_client_id_secret: projects/my-project/secrets/iap-client-id
    oauth_client_secret_secret: projects/my-project/secrets/iap-client-secret

- name: Grant access to exactly one group
  mlplatform.gcp.iap_settings:
    resource: projects/123456789012/iap_web/cloud_run-europe-west1/services/mlflow
    bindings:
      - role: roles/iap.httpsResourceAccessor
        members: ["group:data-science@example.com"]
    bindings_authoritative: true

- name: Accept tokens for another OAuth client from programs
  mlplatform.gcp.iap_settings:
    resource: projects/123456789012/iap_web/appengine-my-project/services/default
    programmatic_clients: [1-a.apps.googleusercontent.com]
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
  description: The settings as returned by the API.
  returned: when the task sets any
  type: dict
  sample:
    name: projects/123456789012/iap_web/cloud_run-europe-west1/services/mlflow
"""

from ansible_collections.mlplatform.gcp.plugins.module_utils import _iap, _oauth_client, _policy, _verbs
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import ApiDisabled, NotFound
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP, POLICY, Options
from ansible_collections.mlplatform.gcp.plugins.module_utils._plan import Rules, plan
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import Result

RULES = Rules(unordered=("accessSettings.oauthSettings.programmaticClients",))

OPTIONS = (
    GCP
    + POLICY
    + _oauth_client.OAUTH_CLIENT
    + Options(
        {
            "resource": {"type": "str", "required": True},
            "programmatic_clients": {"type": "list", "elements": "str"},
            "login_hint": {"type": "str"},
            "cors_allow_http_options": {"type": "bool"},
            "cookie_domain": {"type": "str"},
        }
    )
)


def desired(params, client_id, digest):
    """Return the settings that the options describe. The API returns the client's secret as a SHA-256 only."""
    return {
        "accessSettings": {
            "oauthSettings": {
                "clientId": client_id,
                "clientSecretSha256": digest,
                "programmaticClients": params["programmatic_clients"],
                "loginHint": params["login_hint"],
            },
            "corsSettings": {"allowHttpOptions": params["cors_allow_http_options"]},
        },
        "applicationSettings": {"cookieDomain": params["cookie_domain"]},
    }


def run(task):
    params = task.params
    result = settings(task) if sets_any(params) or not params["bindings"] else Result()
    if params["bindings"]:
        name, authoritative = f"//iap.googleapis.com/{params['resource']}", params["bindings_authoritative"]
        result.add(_policy.ensure(task, name, params["bindings"], authoritative=authoritative))
    return result


def sets_any(params):
    """Return whether the task has any setting, so that the settings must be read."""
    names = ("programmatic_clients", "login_hint", "cors_allow_http_options", "cookie_domain")
    return bool(params["oauth_client_id_secret"]) or any(params[name] is not None for name in names)


def settings(task):
    """Make the settings what the task says. Return the result."""
    params = task.params
    client_id, secret = _oauth_client.read(task)
    wanted = desired(params, client_id, _oauth_client.digest(secret))
    names = {"resource": params["resource"], "permissions": _iap.permissions(params["resource"])}
    title = f"IAP settings of {params['resource']}"
    changes = plan(wanted, read(task, names), RULES, name=title)
    result = Result(
        changes.changed, changes.diff(title), changes.after, changes=changes.record(_iap.KIND, params["resource"])
    )
    if changes.changed and not task.check_mode:
        # Fields are named three deep: a message that is sent whole would reset its other fields.
        body, mask = changes.patch(3), changes.changed_paths(3)
        send_secret(body, mask, secret)
        query = {"updateMask": ",".join(f"iapSettings.{path}" for path in mask)}
        body["name"] = params["resource"]
        result.resource = _verbs.call(task, "iap.updateIapSettings", body, query=query, **names)
    return result


def read(task, names):
    """Return the settings; none in check mode for a service that does not exist yet."""
    try:
        return _verbs.call(task, "iap.getIapSettings", **names)
    except (NotFound, ApiDisabled) as error:
        if not task.check_mode:
            raise
        if isinstance(error, ApiDisabled):
            task.assume_enabled(error)
        return {}


def send_secret(body, mask, secret):
    """Replace the hash in a request by the secret itself: the service computes the hash."""
    path = "accessSettings.oauthSettings.clientSecretSha256"
    if path not in mask:
        return
    settings = body["accessSettings"]["oauthSettings"]
    del settings["clientSecretSha256"]
    settings["clientSecret"] = secret
    mask[mask.index(path)] = "accessSettings.oauthSettings.clientSecret"


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
