#!/usr/bin/python
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: app_engine_application
short_description: Manage the App Engine application of a project
version_added: 0.2.0
description:
  - Creates the App Engine application of a project, or uses the existing one, and changes its settings. A project has
    at most one.
  - The module compares and changes only the options of the task.
  - An application can never be moved to another location nor be deleted. O(state=absent) therefore fails and says how
    to disable it.
author:
  - the mlplatform.gcp authors (@mlplatform)
options:
  location:
    description:
      - Where the application is. Cannot be changed. Required to make one.
      - App Engine calls the regions C(europe-west1) and C(us-central1) V(europe-west) and V(us-central). Both names are
        understood.
    type: str
  database_type:
    description: Kind of the database that belongs to the application.
    type: str
    choices: [CLOUD_FIRESTORE, CLOUD_DATASTORE_COMPATIBILITY, CLOUD_DATASTORE]
  iap_enabled:
    description:
      - Whether Identity-Aware Proxy stands in front of all services of the application.
      - Without an OAuth client of one's own, Google's managed client signs people in, which serves people of the
        project's organization only.
    type: bool
  managed_oauth_client:
    description:
      - With V(true) a custom OAuth client is removed, so that Google's managed client is used for sign-in.
      - An application without a custom client does not change. Without this option and the two secrets, the existing
        client does not change.
    type: bool
  default_service_account:
    description: E-mail address of the account that versions without one of their own run as.
    type: str
  serving_status:
    description: Whether requests are served. V(USER_DISABLED) stops all versions and costs nothing any more.
    type: str
    choices: [SERVING, USER_DISABLED]
  split_health_checks:
    description:
      - Whether versions of the flexible environment are checked for liveness and readiness separately.
    type: bool
  dispatch_rules:
    description: Routing rules of requests to services, in this order. They replace the existing rules.
    type: list
    elements: dict
    suboptions:
      domain:
        description: Host name, C(*.) in front stands for any subdomain.
        type: str
        default: "*"
      path:
        description: Path with C(/) in front; C(*) at its end stands for anything.
        type: str
        required: true
      service:
        description: Service that gets the requests. It must exist.
        type: str
        required: true
  auth_domain:
    description: Google Workspace domain of the users with access to the application.
    type: str
  ssl_policy:
    description: Whether old versions of TLS are refused.
    type: str
    choices: [DEFAULT, MODERN]
extends_documentation_fragment:
  - mlplatform.gcp.gcp
  - mlplatform.gcp.oauth_client
  - mlplatform.gcp.state
  - mlplatform.gcp.wait
  - mlplatform.gcp.attributes
notes:
  - Needs C(appengine.applications.get), C(appengine.applications.create) (in C(roles/appengine.appCreator)),
    C(appengine.applications.update) and C(appengine.operations.get) (in C(roles/appengine.appAdmin)), and
    C(secretmanager.versions.access) on the two secrets.
  - Whether Google's managed client can be chosen through the API is for Google to say; where it is refused, the error
    says what to do.
seealso:
  - module: mlplatform.gcp.app_engine_version
  - module: mlplatform.gcp.iap_access
  - module: google.cloud.gcp_appengine_firewall_rule
"""

EXAMPLES = r"""
- name: The project has an application behind Identity-Aware Proxy
  mlplatform.gcp.app_engine_application:
    project: my-project
    location: europe-west1
    iap_enabled: true
    split_health_checks: true

- name: People sign in with an OAuth client of our own
  mlplatform.gcp.app_engine_application:
    project: my-project
    iap_enabled: true
    oauth_client_id_secret: projects/my-project/secrets/iap-client-id
    oauth_client_secret_secret: projects/my-project/secrets/iap-client-secret

- name: Disable the application
  mlplatform.gcp.app_engine_application:
    project: my-project
    serving_status: USER_DISABLED
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
  description: The application as Google describes it.
  returned: success
  type: dict
  sample:
    name: apps/my-project
    id: my-project
    locationId: europe-west
    defaultHostname: my-project.ew.r.appspot.com
    servingStatus: SERVING
operation:
  description: Name of the operation in progress.
  returned: when O(wait=false) and an operation was started
  type: str
"""

import dataclasses

from ansible_collections.mlplatform.gcp.plugins.module_utils import _errors, _oauth_client
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.appengine import APPLICATION, location
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP, STATE, WAIT, Options

OPTIONS = (
    GCP
    + _oauth_client.OAUTH_CLIENT
    + STATE
    + WAIT
    + Options(
        {
            "location": {"type": "str"},
            "database_type": {
                "type": "str",
                "choices": ["CLOUD_FIRESTORE", "CLOUD_DATASTORE_COMPATIBILITY", "CLOUD_DATASTORE"],
            },
            "iap_enabled": {"type": "bool"},
            "managed_oauth_client": {"type": "bool"},
            "default_service_account": {"type": "str"},
            "serving_status": {"type": "str", "choices": ["SERVING", "USER_DISABLED"]},
            "split_health_checks": {"type": "bool"},
            "dispatch_rules": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "domain": {"type": "str", "default": "*"},
                    "path": {"type": "str", "required": True},
                    "service": {"type": "str", "required": True},
                },
            },
            "auth_domain": {"type": "str"},
            "ssl_policy": {"type": "str", "choices": ["DEFAULT", "MODERN"]},
        },
    )
)
NO_CLIENT = (
    "Google's managed client signs in people of the project's organization only, and may not be offered for App Engine."
    " Use an OAuth client of your own: oauth_client_id_secret and oauth_client_secret_secret."
)


def desired(params, client_id, digest):
    """The application that the options describe, as the API's fields."""
    managed = "" if params["managed_oauth_client"] else None
    return {
        "locationId": params["location"] and location(params["location"]),
        "databaseType": params["database_type"],
        "iap": {
            "enabled": params["iap_enabled"],
            "oauth2ClientId": managed if client_id is None else client_id,
            "oauth2ClientSecretSha256": managed if digest is None else digest,
        },
        "serviceAccount": params["default_service_account"],
        "servingStatus": params["serving_status"],
        "featureSettings": {"splitHealthChecks": params["split_health_checks"]},
        "dispatchRules": params["dispatch_rules"],
        "authDomain": params["auth_domain"],
        "sslPolicy": params["ssl_policy"],
    }


def with_client(secret):
    """The description of an application for this task: where a plan has the hash of the secret, the secret is sent."""

    def uncovered(iap):
        sent = {name: value for name, value in iap.items() if name != "oauth2ClientSecretSha256"}
        if "oauth2ClientSecretSha256" in iap:
            sent["oauth2ClientSecret"] = secret or ""
        return sent

    def create(names, body):
        return dict({"id": names["project"]}, **(dict(body, iap=uncovered(body["iap"])) if "iap" in body else body))

    def update(plan, body, mask):
        if not {"iap.oauth2ClientId", "iap.oauth2ClientSecretSha256"} & set(mask):
            return body, mask
        # The client's id and secret belong together, and must be set when the proxy is enabled.
        kept = [path for path in mask if not path.startswith("iap.")]
        return dict(body, iap=uncovered(plan.after["iap"])), [*kept, "iap"]

    return dataclasses.replace(
        APPLICATION, create_body=create, update=dataclasses.replace(APPLICATION.update, rewrite=update)
    )


def run(task):
    params = task.params
    if params["state"] == "absent":
        raise _errors.UserError(
            f"The App Engine application of project {task.project} cannot be deleted, except with the project.",
            "Disable it instead (serving_status: USER_DISABLED), and delete its services and versions.",
        )
    if params["managed_oauth_client"] and params["oauth_client_id_secret"]:
        raise _errors.UserError(
            "managed_oauth_client is set and a client of your own as well.", "Leave one of them out."
        )
    client_id, secret = _oauth_client.read(task)
    wanted = desired(params, client_id, _oauth_client.digest(secret))
    remote = task.remote(with_client(secret))
    result = ensure(remote, wanted)
    made = result.diff["before"] == {} and task.wait and not task.check_mode
    if made and remote.plan(wanted, result.resource).changed:
        # Set the options that the creation of an application does not accept.
        result.resource = ensure(remote, wanted).resource
    return result


def ensure(remote, wanted):
    def guard(plan):
        if plan.action == "create" and not wanted["locationId"]:
            raise _errors.UserError(f"{remote.title} does not exist.", "To create it, set location.")

    try:
        return remote.ensure(wanted, guard=guard)
    except _errors.AlreadyExists:
        # Another run makes it, which takes longer than the engine tries again.
        remote.task.waiter.until(lambda: (None, "" if remote.read() else "made by another run"), what=remote.title)
        return remote.ensure(wanted, guard=guard)
    except _errors.InvalidRequest as error:
        if "oauth" not in error.text.lower() and "client id" not in error.text.lower():
            raise
        error.hint = NO_CLIENT
        raise


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
