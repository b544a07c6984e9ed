# SPDX-License-Identifier: Apache-2.0
"""Where the world finds the public keys of everything that Google and service accounts sign."""

from __future__ import annotations

from typing import Any

from gcp_sandbox.gateway import tokens
from gcp_sandbox.gateway.call import Call
from gcp_sandbox.gateway.identity import ISSUER, TOKEN_URIS
from gcp_sandbox.gateway.messages import Response
from gcp_sandbox.gateway.service import Service, route

WWW = ("www.googleapis.com",)
GSTATIC = ("www.gstatic.com",)


class PublicKeys(Service):
    name = "publickeys"
    versions = ()
    hosts = ("www.googleapis.com", "www.gstatic.com", "accounts.google.com")
    api = None

    @route("GET", "/oauth2/v1/certs", hosts=WWW, auth="none")
    def google_x509(self, call: Call) -> Response:
        """Google's ID token keys: {key id: PEM certificate}."""
        return _published(self.sandbox.identities.google_keys())

    @route("GET", "/oauth2/v3/certs", hosts=WWW, auth="none")
    def google_jwk(self, call: Call) -> Response:
        """Google's ID token keys as a JWK set."""
        return _published(_jwk_set(self.sandbox.identities.google_keys()))

    @route("GET", "/.well-known/openid-configuration", hosts=("accounts.google.com",), auth="none")
    def openid_configuration(self, call: Call) -> Response:
        """OpenID Connect discovery of accounts.google.com."""
        return _published(
            {
                "issuer": ISSUER,
                "authorization_endpoint": f"{ISSUER}/o/oauth2/v2/auth",
                "token_endpoint": TOKEN_URIS[0],
                "userinfo_endpoint": "https://openidconnect.googleapis.com/v1/userinfo",
                "revocation_endpoint": "https://oauth2.googleapis.com/revoke",
                "jwks_uri": "https://www.googleapis.com/oauth2/v3/certs",
                "response_types_supported": ["code", "token", "id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "scopes_supported": ["openid", "email", "profile"],
                "claims_supported": ["aud", "email", "email_verified", "exp", "iat", "iss", "name", "sub"],
                "grant_types_supported": ["refresh_token", "urn:ietf:params:oauth:grant-type:jwt-bearer"],
            }
        )

    @route("GET", "/service_accounts/v1/metadata/x509/{email}", hosts=WWW, auth="none")
    @route("GET", "/robot/v1/metadata/x509/{email}", hosts=WWW, auth="none")
    def account_x509(self, call: Call) -> Response:
        """Return a service account's keys: {key id: PEM certificate}."""
        return self._account_keys(call, lambda pems: pems)

    @route("GET", "/service_accounts/v1/jwk/{email}", hosts=WWW, auth="none")
    @route("GET", "/service_accounts/v1/metadata/jwk/{email}", hosts=WWW, auth="none")
    @route("GET", "/robot/v1/metadata/jwk/{email}", hosts=WWW, auth="none")
    def account_jwk(self, call: Call) -> Response:
        """Return a service account's keys as a JWK set."""
        return self._account_keys(call, _jwk_set)

    @route("GET", "/service_accounts/v1/metadata/raw/{email}", hosts=WWW, auth="none")
    @route("GET", "/robot/v1/metadata/raw/{email}", hosts=WWW, auth="none")
    def account_raw(self, call: Call) -> Response:
        """Return a service account's keys: {key id: PEM public key}."""
        return self._account_keys(
            call, lambda pems: {key: tokens.public_pem(tokens.load_public(pem)) for key, pem in pems.items()}
        )

    @route("GET", "/iap/verify/public_key", hosts=GSTATIC, auth="none")
    def iap_pem(self, call: Call) -> Response:
        """IAP's assertion keys: {key id: PEM public key}."""
        return _published(self.sandbox.identities.iap_keys())

    @route("GET", "/iap/verify/public_key-jwk", hosts=GSTATIC, auth="none")
    def iap_jwk(self, call: Call) -> Response:
        """IAP's assertion keys as a JWK set."""
        return _published(_jwk_set(self.sandbox.identities.iap_keys()))

    def _account_keys(self, call: Call, shape: Any) -> Response:
        account = self.sandbox.identities.account(call.params["email"])
        if account is None:
            return Response(404, json={"error": {"code": 404, "message": "Not found", "status": "NOT_FOUND"}})
        return _published(shape(self.sandbox.identities.certificates(account)))


def _jwk_set(pems: dict[str, str]) -> dict[str, Any]:
    return {"keys": [tokens.jwk(tokens.load_public(pem), key_id) for key_id, pem in pems.items()]}


def _published(document: dict[str, Any]) -> Response:
    return Response(200, {"Cache-Control": "public, max-age=20000, must-revalidate, no-transform"}, json=document)
