# SPDX-License-Identifier: Apache-2.0
"""The application of a project, and the locations that there are."""

from __future__ import annotations

import copy
import hashlib
from typing import TYPE_CHECKING, Any

from gcp_sandbox.gateway import errors, masks
from gcp_sandbox.gateway.ports import BucketProvider
from gcp_sandbox.gateway.service import job, method
from gcp_sandbox.services.appengine import names
from gcp_sandbox.services.appengine.base import APP_KIND, SERVICE_KIND, TYPE, on_project, shown
from gcp_sandbox.services.appengine.common import Common
from gcp_sandbox.serving.access import may_act_as

if TYPE_CHECKING:
    from gcp_sandbox.gateway.call import Call
    from gcp_sandbox.gateway.operations import Op
    from gcp_sandbox.gateway.projects import Project

Json = dict[str, Any]

# How long Google takes to make an application, to change one, and to make its parts again.
CREATE_SECONDS, PATCH_SECONDS, REPAIR_SECONDS = 60.0, 8.0, 10.0

# Fields of a new application that a caller may set, and those that `apps.patch` can change: the documented ones, and
# those that gcloud and Terraform's provider change besides. Everything else is Google's or fixed.
CHANGEABLE = (
    "authDomain",
    "databaseType",
    "defaultCookieExpiration",
    "dispatchRules",
    "featureSettings",
    "iap",
    "serviceAccount",
    "servingStatus",
    "sslPolicy",
)
# Terraform's provider sends it back with every patch, under a mask that leaves it out.
FIXED = ("locationId", "id", "name")

# apps: at most 20 rules, and 100 characters for domain and path together.
MAX_RULES, MAX_RULE_LENGTH = 20, 100

MULTI_REGIONS = {"europe-west": "EU", "us-central": "US"}


def account_of(project: Project) -> str:
    """Return the service account that App Engine makes for an application."""
    return f"{project.dotted}@appspot.gserviceaccount.com"


class Applications(Common):
    """apps, and apps.locations."""

    # The project of the application is in the body, so the API must be enabled in the caller's project, too.
    @method("apps.create", permission=None)
    def create_application(self, call: Call) -> Json:
        id = call.body.get("id", "")
        if not id:
            raise errors.invalid("The application id must be the id of a Cloud project; 'id' is missing.")
        project = call.project(id)
        call.require("appengine.applications.create", project.name)
        self.sandbox.enablement.require(project, self.api_name)
        name = f"apps/{project.id}"
        if self.store.get(APP_KIND, name) is not None:
            raise errors.already_exists("This application already exists and cannot be re-created.")
        # Defaults to us-central, as the documentation of the field says.
        location = call.body.get("locationId") or "us-central"
        names.check_location(location)
        asked = {key: call.body[key] for key in CHANGEABLE if key in call.body}
        body = {
            "name": name,
            "id": project.id,
            "authDomain": "gmail.com",
            "locationId": location,
            "codeBucket": f"staging.{project.dotted}.appspot.com",
            "servingStatus": "SERVING",
            "defaultHostname": names.default_host(project.dotted, location),
            "defaultBucket": f"{project.dotted}.appspot.com",
            "gcrDomain": "eu.gcr.io" if location.startswith("europe-") else "us.gcr.io",
            "databaseType": "CLOUD_DATASTORE_COMPATIBILITY",
            "featureSettings": {"splitHealthChecks": True, "useContainerOptimizedOs": True},
            "serviceAccount": account_of(project),
        }
        body = self._completed(call, project, {**body, **_without_unspecified(asked)}, {})
        return self.operation(
            call, "Applications.CreateApplication", name, "apps.create", CREATE_SECONDS, {"application": body}
        )

    @job("apps.create")
    def make_application(self, op: Op) -> Json:
        """Make the application with what belongs to it."""
        op.elapse()
        body = op.args["application"]
        project = self.sandbox.projects.get(body["id"])
        email = account_of(project)
        with self.store.transaction():
            if self.sandbox.identities.account(email) is None:
                self.sandbox.identities.create_account(project, email, displayName="App Engine default service account")
            self._make_buckets(body)
            self.store.put(APP_KIND, body["name"], body)
        self.runtime.refresh()
        return self.response(op, "Application", body)

    @method("apps.get", permission="appengine.applications.get", on=on_project)
    def get_application(self, call: Call) -> Json:
        return shown(self.application(call))

    @method("apps.patch", permission="appengine.applications.update", on=on_project)
    def patch_application(self, call: Call) -> Json:
        existing = self.application(call)
        project = call.project(existing["id"])
        for field, *_ in masks.mask_paths(call.query.get("updateMask")):
            if field in FIXED and call.body.get(field) not in (None, existing[field]):
                raise errors.invalid(f"The field '{field}' of an application cannot be changed.")
        mask = self.mask_of(call, CHANGEABLE, ignored=FIXED)
        merged = masks.merge_mask(existing, call.body, mask) if mask else existing
        merged = {**merged, **{key: existing[key] for key in ("databaseType", "servingStatus") if not merged.get(key)}}
        body = self._completed(call, project, merged, existing)
        return self.operation(
            call, "Applications.UpdateApplication", body["name"], "apps.patch", PATCH_SECONDS, {"application": body}
        )

    @job("apps.patch")
    def change_application(self, op: Op) -> Json:
        """Put a change into effect."""
        op.elapse()
        body = op.args["application"]
        self.store.put(APP_KIND, body["name"], body)
        self.runtime.refresh()
        return self.response(op, "Application", body)

    @method("apps.repair", permission="appengine.applications.update", on=on_project)
    def repair_application(self, call: Call) -> Json:
        name = self.application(call)["name"]
        return self.operation(call, "Applications.RepairApplication", name, "apps.repair", REPAIR_SECONDS, {})

    @job("apps.repair")
    def remake_parts(self, op: Op) -> Json:
        """Make again what is missing of an application; a service account that was deleted can only be undeleted."""
        op.elapse()
        body = self.store.get(APP_KIND, op.target)
        with self.store.transaction():
            self._make_buckets(body)
        return self.response(op, "Application", body)

    # -- locations

    @method("apps.locations.list", permission="appengine.applications.get", on=on_project)
    def list_locations(self, call: Call) -> Json:
        if call.query.get("filter"):
            raise errors.unimplemented("filters of appengine.apps.locations.list")
        locations = [self._location(call, name) for name in names.LOCATIONS]
        return call.page(locations, key="locations", default=100, maximum=1000)

    @method("apps.locations.get", permission="appengine.applications.get", on=on_project)
    def get_location(self, call: Call) -> Json:
        location = call.params["locationsId"]
        if location not in names.LOCATIONS:
            raise errors.not_found(f"Could not find Location '{location}'.")
        return self._location(call, location)

    @staticmethod
    def _location(call: Call, location: str) -> Json:
        return {
            "name": f"apps/{call.params['appsId']}/locations/{location}",
            "locationId": location,
            "displayName": names.LOCATIONS[location],
            "labels": {"cloud.googleapis.com/region": location},
            "metadata": {
                "@type": f"{TYPE}{call.version}.LocationMetadata",
                "standardEnvironmentAvailable": True,
                "flexibleEnvironmentAvailable": True,
            },
        }

    # -- private

    def _make_buckets(self, body: Json) -> None:
        """Make the buckets that come with an application; an existing one is left as it is."""
        project = self.sandbox.projects.get(body["id"])
        location = MULTI_REGIONS.get(body["locationId"]) or body["locationId"].upper()
        for bucket in (body["codeBucket"], body["defaultBucket"]):
            self.sandbox.ports.get(BucketProvider).provide_bucket(project, bucket, location)

    def _completed(self, call: Call, project: Project, body: Json, existing: Json) -> Json:
        """Return the application as it is stored, after what Google checks of it."""
        body = copy.deepcopy(body)
        email = body.setdefault("serviceAccount", account_of(project))
        if email not in (account_of(project), existing.get("serviceAccount")) and not may_act_as(
            self.sandbox, call.caller, email, project.id
        ):
            raise errors.permission_denied(f"You do not have permission to act as '{email}'")
        if body.get("servingStatus") == "SYSTEM_DISABLED" and existing.get("servingStatus") != "SYSTEM_DISABLED":
            raise errors.invalid("The serving status SYSTEM_DISABLED is set by App Engine only.")
        if "iap" in body:
            body["iap"] = _iap(body["iap"], existing.get("iap", {}))
        self._check_rules(body)
        return body

    def _check_rules(self, body: Json) -> None:
        rules = body.get("dispatchRules", [])
        if len(rules) > MAX_RULES:
            raise errors.invalid(f"An application may have at most {MAX_RULES} dispatch rules.")
        for rule in rules:
            rule.setdefault("domain", "*")
            domain, path, service = rule["domain"], rule.get("path", ""), rule.get("service", "")
            if not path.startswith("/") or "*" in path[:-1]:
                raise errors.invalid(
                    f"Invalid dispatch rule path '{path}': it must begin with '/' and may end with one '*'."
                )
            if "*" in domain.removeprefix("*") or (domain.startswith("*") and domain != "*" and domain[1] != "."):
                raise errors.invalid(f"Invalid dispatch rule domain '{domain}': '*' may only stand before a period.")
            if len(domain) + len(path) > MAX_RULE_LENGTH:
                raise errors.invalid(f"Domain and path of a dispatch rule may have {MAX_RULE_LENGTH} characters.")
            if self.store.get(SERVICE_KIND, f"{body['name']}/services/{service}") is None:
                raise errors.invalid(f"The service '{service}' of a dispatch rule does not exist.")


def _without_unspecified(body: Json) -> Json:
    """Terraform's provider and gcloud send empty strings and unspecified enum values for what they do not set."""
    return {key: value for key, value in body.items() if value not in ("", "UNSPECIFIED", "DATABASE_TYPE_UNSPECIFIED")}


def _iap(asked: Json, existing: Json) -> Json:
    """IAP's settings as they are stored: the secret as its hash only.

    A client of one's own needs an id and a secret; without either, IAP uses the client that Google manages.
    """
    body: Json = {"enabled": True} if asked.get("enabled") else {}
    client, secret = asked.get("oauth2ClientId", ""), asked.get("oauth2ClientSecret", "")
    if client:
        same = client == existing.get("oauth2ClientId")
        hashed = hashlib.sha256(secret.encode()).hexdigest() if secret else ""
        hashed = hashed or (existing.get("oauth2ClientSecretSha256", "") if same else "")
        if not hashed:
            raise errors.invalid("The field 'iap.oauth2_client_secret' must be non-empty with a client id.")
        body |= {"oauth2ClientId": client, "oauth2ClientSecretSha256": hashed}
    elif secret:
        raise errors.invalid("The field 'iap.oauth2_client_id' must be non-empty with a client secret.")
    return body
