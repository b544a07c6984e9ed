# SPDX-License-Identifier: Apache-2.0
"""Identity-Aware Proxy: policies and settings of what it protects, and its part of the browser's sign-in.

The decision about a request is in `access.py`; products that serve applications (Cloud Run, App Engine) call it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gcp_sandbox.gateway import errors
from gcp_sandbox.gateway.denials import IamFacts, plain
from gcp_sandbox.gateway.iam_methods import requested_version, test_iam_permissions
from gcp_sandbox.gateway.messages import Response
from gcp_sandbox.gateway.service import Service, method, route
from gcp_sandbox.services.iap import settings
from gcp_sandbox.services.iap.access import Access
from gcp_sandbox.services.iap.settings import Settings
from gcp_sandbox.serving.web import WebAuthorizer

if TYPE_CHECKING:
    from gcp_sandbox.backends.platform import Platform
    from gcp_sandbox.gateway.call import Call

Json = dict[str, Any]

# cloud.google.com/iap/docs/deprecations. Later answers of the API are not documented; any error will do for clients
# that must not depend on it.
SHUT_DOWN = (
    "The IAP OAuth Admin APIs were shut down on March 19, 2026. Use a Google-managed OAuth client, or create an "
    "OAuth client in "
    "the Google Cloud console. See https://cloud.google.com/iap/docs/deprecations."
)


def _resource(call: Call) -> str:
    name = next(iter(call.params.values()))
    settings.kind(name)
    if name.startswith("projects/") and name.count("/") > 1:
        return f"//iap.googleapis.com/{name}"
    return f"//cloudresourcemanager.googleapis.com/{name}"


class Iap(Service):
    """iap.googleapis.com, and the sign-in page at accounts.google.com."""

    name = "iap"
    iam = IamFacts(denial=plain, numbered=True)

    def __init__(self, sandbox: Platform) -> None:
        super().__init__(sandbox)
        self.settings = Settings(sandbox)
        self.access = Access(sandbox, self.settings)
        sandbox.ports.offer(WebAuthorizer, self.access)

    # -- policies

    @method("getIamPolicy", permission=None)
    def get_iam_policy(self, call: Call) -> Json:
        resource = self._require(call, "getIamPolicy")
        return self.sandbox.iam.get_policy(resource, requested_version=requested_version(call))

    @method("setIamPolicy", permission=None)
    def set_iam_policy(self, call: Call) -> Json:
        resource = self._require(call, "setIamPolicy")
        return self.sandbox.iam.set_policy(resource, call.body.get("policy", {}), call.body.get("updateMask", ""))

    @method("testIamPermissions", permission=None)
    def test_iam_permissions(self, call: Call) -> Json:
        return test_iam_permissions(call, _resource(call))

    def _require(self, call: Call, verb: str) -> str:
        resource = _resource(call)
        what = settings.kind(next(iter(call.params.values())))
        if what in ("organizations", "folders", "projects"):
            raise errors.invalid(f"IAP has no IAM policy on {what}; use Resource Manager's.")
        call.require(f"iap.{what}.{verb}", resource)
        return resource

    # -- settings

    @method("getIapSettings", permission=None)
    def get_iap_settings(self, call: Call) -> Json:
        name = call.params["name"]
        call.require(f"iap.{settings.kind(name)}.getSettings", _resource(call))
        return self.settings.get(name)

    @method("updateIapSettings", permission=None)
    def update_iap_settings(self, call: Call) -> Json:
        name = call.params["name"]
        call.require(f"iap.{settings.kind(name)}.updateSettings", _resource(call))
        return self.settings.update(name, call.body, call.query.get("updateMask", ""))

    # -- the OAuth Admin API

    @method("projects.brands.create", permission=None)
    @method("projects.brands.get", permission=None)
    @method("projects.brands.list", permission=None)
    @method("projects.brands.identityAwareProxyClients.create", permission=None)
    @method("projects.brands.identityAwareProxyClients.delete", permission=None)
    @method("projects.brands.identityAwareProxyClients.get", permission=None)
    @method("projects.brands.identityAwareProxyClients.list", permission=None)
    @method("projects.brands.identityAwareProxyClients.resetSecret", permission=None)
    def oauth_admin(self, call: Call) -> Json:
        """Answer every method of it with the same error."""
        raise errors.failed_precondition(SHUT_DOWN)

    # -- sign-in

    @route("GET", "/o/oauth2/v2/auth", hosts=("accounts.google.com",), auth="none")
    def sign_in_page(self, call: Call) -> Response:
        """Show the account chooser, without passwords."""
        return self.access.sign_in.page(call)

    @route("POST", "/o/oauth2/v2/auth", hosts=("accounts.google.com",), auth="none")
    def sign_in(self, call: Call) -> Response:
        """Send the browser back to IAP with a code for the chosen user."""
        return self.access.sign_in.choose(call)

    @route("GET", "/v1/oauth/clientIds/{client}:handleRedirect", hosts=("iap.googleapis.com",), auth="none")
    def handle_redirect(self, call: Call) -> Response:
        """IAP takes the code and sends the browser back to the application with a token for its cookie."""
        return self.access.sign_in.redeem(call)
