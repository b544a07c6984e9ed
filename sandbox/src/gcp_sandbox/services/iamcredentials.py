# SPDX-License-Identifier: Apache-2.0
"""IAM Service Account Credentials: tokens and signatures of a service account, for authorized callers."""

from __future__ import annotations

import base64
import re
import time
from typing import Any

from gcp_sandbox.gateway.call import Call
from gcp_sandbox.gateway.errors import ApiError, failed_precondition, invalid, not_found
from gcp_sandbox.gateway.service import Service, method
from gcp_sandbox.gateway.times import timestamp

MAX_LIFETIME = 3600

NAME = re.compile(r"projects/-/serviceAccounts/([^/]+)")


class IamCredentials(Service):
    name = "iamcredentials"

    @method("projects.serviceAccounts.generateAccessToken", permission=None)
    def generate_access_token(self, call: Call) -> dict[str, Any]:
        """Return an access token of the account, for at most an hour."""
        account = self._account(call, "iam.serviceAccounts.getAccessToken")
        scopes = call.body.get("scope", [])
        if not scopes:
            raise invalid("Scope is required.")
        lifetime = float(str(call.body.get("lifetime", f"{MAX_LIFETIME}s")).removesuffix("s"))
        if lifetime > MAX_LIFETIME:
            raise invalid(
                f"Invalid lifetime: {lifetime:g}s. It must be at most {MAX_LIFETIME}s, unless the organization policy "
                "constraints/iam.allowServiceAccountCredentialLifetimeExtension lists the service account."
            )
        if lifetime <= 0:
            raise invalid("Invalid lifetime: it must be positive.")
        token = self.sandbox.identities.mint_access_token(account["email"], scopes, lifetime)
        expires = re.sub(r"\.\d+Z$", "Z", timestamp(time.time() + self.sandbox.identities.granted_lifetime(lifetime)))
        return {"accessToken": token, "expireTime": expires}

    @method("projects.serviceAccounts.generateIdToken", permission=None)
    def generate_id_token(self, call: Call) -> dict[str, Any]:
        """Return an OpenID Connect token of the account, for an hour."""
        account = self._account(call, "iam.serviceAccounts.getOpenIdToken")
        audience = call.body.get("audience", "")
        if not audience:
            raise invalid("Audience is required.")
        include_email = bool(call.body.get("includeEmail"))
        return {"token": self.sandbox.identities.mint_id_token(account["email"], audience, include_email=include_email)}

    @method("projects.serviceAccounts.signJwt", permission=None)
    def sign_jwt(self, call: Call) -> dict[str, Any]:
        """Return a JWT signed by the account's system-managed key."""
        account = self._account(call, "iam.serviceAccounts.signJwt")
        return self.sandbox.identities.sign_claims(account, call.body.get("payload", ""))

    @method("projects.serviceAccounts.signBlob", permission=None)
    def sign_blob(self, call: Call) -> dict[str, Any]:
        """Return a signature by the account's system-managed key."""
        account = self._account(call, "iam.serviceAccounts.signBlob")
        key_id, signature = self.sandbox.identities.sign_blob(account, base64.b64decode(call.body.get("payload", "")))
        return {"keyId": key_id, "signedBlob": base64.b64encode(signature).decode()}

    @method("projects.serviceAccounts.getAllowedLocations", permission=None)
    def allowed_locations(self, call: Call) -> dict[str, Any]:
        """Return the regional access boundary: none, "0x0", as for all accounts without an organization policy."""
        self._find(call.params["name"])
        return {"locations": [], "encodedLocations": "0x0"}

    def _account(self, call: Call, permission: str) -> dict[str, Any]:
        """Return the account that the call names, once the caller and every delegate have been found to be allowed.

        Each in the chain caller -> delegates -> account needs iam.serviceAccounts.implicitDelegation on the next one,
        the last one `permission`, both of which come with roles/iam.serviceAccountTokenCreator.
        """
        chain = [*call.body.get("delegates", []), call.params["name"]]
        caller = call.caller
        account: dict[str, Any] = {}
        for index, name in enumerate(chain):
            account = self._find(name)
            last = index == len(chain) - 1
            needed = permission if last else "iam.serviceAccounts.implicitDelegation"
            self.sandbox.iam.check(caller, f"//iam.googleapis.com/{account['name']}", needed)
            caller = self.sandbox.identities.service_account(account["email"])
        home = self.sandbox.identities.project_of(account["email"])
        if home:
            self.sandbox.enablement.require(home, "iamcredentials.googleapis.com")
        if account.get("disabled"):
            raise failed_precondition(f"Service account {account['email']} is disabled.")
        return account

    def _find(self, name: str) -> dict[str, Any]:
        found = NAME.fullmatch(name)
        if found is None:
            raise invalid(
                f"Invalid form of account resource name: {name}. It must be projects/-/serviceAccounts/ACCOUNT."
            )
        account = self.sandbox.identities.account(found[1])
        if account is None:
            raise unknown_account(found[1])
        return account


def unknown_account(email: str) -> ApiError:
    """404 for an account that does not exist."""
    return not_found(f"Not found; Gaia id not found for email {email}")
