# SPDX-License-Identifier: Apache-2.0
"""Google's OAuth 2.0 token endpoint, token inspection and user information.

Sources: developers.google.com/identity/protocols/oauth2/service-account (assertions and the errors they can get),
developers.google.com/identity/protocols/oauth2/web-server (refresh tokens).
"""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import parse_qsl

from gcp_sandbox.gateway import tokens
from gcp_sandbox.gateway.call import Call
from gcp_sandbox.gateway.errors import invalid
from gcp_sandbox.gateway.identity import (
    CLIENT_ID,
    CLIENT_SECRET,
    CLOUD_PLATFORM,
    EMAIL_SCOPE,
    TOKEN_URIS,
    Principal,
)
from gcp_sandbox.gateway.messages import Response
from gcp_sandbox.gateway.service import Service, method, route

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LIFETIME = 3600
#: Seconds that a client's clock may be ahead of ours.
SKEW = 60

TIMEFRAME = (
    "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
    "Check your iat and exp values in the JWT claim."
)


class Refused(Exception):
    """An error of RFC 6749, section 5.2."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.error, self.description, self.status = error, description, status


class OAuth2(Service):
    name = "oauth2"
    versions = ("v2",)
    hosts = ("oauth2.googleapis.com", "accounts.google.com", "openidconnect.googleapis.com")
    api = None

    @route("POST", "/token", hosts=("oauth2.googleapis.com",), auth="none")
    @route("POST", "/oauth2/v4/token", hosts=("www.googleapis.com",), auth="none")
    @route("POST", "/o/oauth2/token", hosts=("accounts.google.com",), auth="none")
    def token(self, call: Call) -> Response:
        """Serve the token endpoint: service account assertions and refresh tokens."""
        try:
            form = _form(call)
            grants = {JWT_BEARER: self._assertion, "refresh_token": self._refresh}
            grant = form.get("grant_type", "")
            if not grant:
                raise Refused("invalid_request", "Required parameter is missing: grant_type")
            if grant not in grants:
                raise Refused("unsupported_grant_type", f"Invalid grant_type: {grant}")
            answer = grants[grant](form)
        except Refused as error:
            body = {"error": error.error, "error_description": error.description}
            return Response(error.status, _NO_STORE.copy(), json=body)
        return Response(200, _NO_STORE.copy(), json=answer)

    @route("POST", "/revoke", hosts=("oauth2.googleapis.com",), auth="none")
    def revoke(self, call: Call) -> Response:
        """Accepts a token that is valid; the sandbox's tokens are short-lived and are not remembered."""
        token = _form(call).get("token") or call.query.get("token", "")
        identities = self.sandbox.identities
        if identities.verify_access_token(token) or identities.redeem_refresh_token(token):
            return Response(json={})
        return Response(400, json={"error": "invalid_token", "error_description": "Token expired or revoked"})

    @route("GET", "/tokeninfo", hosts=("oauth2.googleapis.com",), auth="none")
    @route("POST", "/tokeninfo", hosts=("oauth2.googleapis.com",), auth="none")
    @route("GET", "/oauth2/v3/tokeninfo", hosts=("www.googleapis.com",), auth="none")
    @route("GET", "/oauth2/v1/tokeninfo", hosts=("www.googleapis.com",), auth="none")
    def tokeninfo(self, call: Call) -> Response:
        """What an access token or an ID token says, all values as strings."""
        given = {**call.query, **_form(call)}
        info = None
        if given.get("access_token"):
            info = self._access_token_info(given["access_token"])
        elif given.get("id_token"):
            info = self._id_token_info(given["id_token"])
        if info is None:
            return Response(400, json={"error": "invalid_token", "error_description": "Invalid Value"})
        return Response(json=info)

    @method("tokeninfo", permission=None, anonymous=True)
    def tokeninfo_v2(self, call: Call) -> dict[str, Any]:
        """Serve the v2 form of `tokeninfo`, which has other names."""
        info = self._access_token_info(call.query.get("access_token", ""))
        if info is None:
            raise invalid("Invalid Value")
        names = {"azp": "issued_to", "aud": "audience", "sub": "user_id", "scope": "scope", "email": "email"}
        answer: dict[str, Any] = {new: info[old] for old, new in names.items() if old in info}
        return {**answer, "expires_in": int(info["expires_in"]), "access_type": info["access_type"]}

    @route("GET", "/v1/userinfo", hosts=("openidconnect.googleapis.com",))
    @route("GET", "/oauth2/v3/userinfo", hosts=("www.googleapis.com",))
    def userinfo(self, call: Call) -> dict[str, Any]:
        """OpenID Connect's userinfo about the caller."""
        caller = call.caller
        answer = {"sub": caller.unique_id, "email": caller.email, "email_verified": True}
        name = self.sandbox.identities.user_name(caller.email)
        return {**answer, "name": name, "hd": caller.domain} if caller.kind == "user" else answer

    @method("userinfo.get", permission=None)
    @method("userinfo.v2.me.get", permission=None)
    def userinfo_v2(self, call: Call) -> dict[str, Any]:
        """Serve the v2 form of `userinfo`."""
        caller = call.caller
        answer = {"id": caller.unique_id, "email": caller.email, "verified_email": True}
        name = self.sandbox.identities.user_name(caller.email)
        return {**answer, "name": name, "hd": caller.domain} if caller.kind == "user" else answer

    # --- grants -------------------------------------------------------------------------------------------------

    def _assertion(self, form: dict[str, str]) -> dict[str, Any]:
        """RFC 7523: a JWT that a service account signed, for an access token or (target_audience) an ID token."""
        assertion = form.get("assertion", "")
        if not assertion:
            raise Refused("invalid_request", "Missing required parameter: assertion")
        try:
            account, claims = self.sandbox.identities.verify_account_jwt(assertion)
        except tokens.InvalidToken as error:
            raise Refused("invalid_grant", str(error)) from error
        _check_times(claims)
        audience = claims.get("aud")
        accepted = (*TOKEN_URIS, "https://accounts.google.com/o/oauth2/token")
        if not ({audience} if isinstance(audience, str) else set(audience or ())) & set(accepted):
            raise Refused("invalid_grant", "Invalid JWT: Failed audience check")
        email = account["email"]
        if claims.get("sub", email) != email:
            raise Refused(
                "unauthorized_client",
                "Client is unauthorized to retrieve access tokens using this method, or client not authorized for any "
                "of the scopes requested.",
                401,
            )
        if claims.get("target_audience"):
            return {"id_token": self.sandbox.identities.mint_id_token(email, str(claims["target_audience"]))}
        scopes = str(claims.get("scope") or form.get("scope") or "").split()
        if not scopes:
            raise Refused("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        return self._granted(email, scopes)

    def _refresh(self, form: dict[str, str]) -> dict[str, Any]:
        if form.get("client_id") != CLIENT_ID:
            raise Refused("invalid_client", "The OAuth client was not found.", 401)
        if form.get("client_secret") != CLIENT_SECRET:
            raise Refused("invalid_client", "Unauthorized", 401)
        principal = self.sandbox.identities.redeem_refresh_token(form.get("refresh_token", ""))
        if principal is None:
            raise Refused("invalid_grant", "Bad Request")
        scopes = form.get("scope", "").split() or [CLOUD_PLATFORM, EMAIL_SCOPE, "openid"]
        answer = self._granted(principal.email, scopes)
        id_token = self.sandbox.identities.mint_id_token(principal.email, CLIENT_ID, azp=CLIENT_ID)
        return {**answer, "scope": " ".join(scopes), "id_token": id_token}

    def _granted(self, email: str, scopes: list[str]) -> dict[str, Any]:
        token = self.sandbox.identities.mint_access_token(email, scopes)
        left = self.sandbox.identities.granted_lifetime() - 1
        return {"access_token": token, "expires_in": left, "token_type": "Bearer"}

    # --- inspection ---------------------------------------------------------------------------------------------

    def _access_token_info(self, token: str) -> dict[str, str] | None:
        principal = self.sandbox.identities.verify_access_token(token)
        if principal is None:
            return None
        client = principal.unique_id if principal.kind == "serviceAccount" else CLIENT_ID
        scopes = principal.claims["scopes"]
        answer = {
            "azp": client,
            "aud": client,
            "sub": principal.unique_id,
            "scope": " ".join(scopes),
            "exp": str(principal.claims["exp"]),
            "expires_in": str(int(principal.claims["exp"] - time.time())),
            "access_type": "online",
        }
        return answer | _address(principal, scopes)

    def _id_token_info(self, token: str) -> dict[str, str] | None:
        principal = self.sandbox.identities.verify_id_token(token)
        if principal is None:
            return None
        header, _ = tokens.split(token)
        info = {
            key: json.dumps(value) if not isinstance(value, str) else value for key, value in principal.claims.items()
        }
        return info | {key: str(value) for key, value in header.items()}


_NO_STORE = {"Cache-Control": "no-cache, no-store, max-age=0, must-revalidate", "Pragma": "no-cache"}


def _address(principal: Principal, scopes: list[str]) -> dict[str, str]:
    if not {EMAIL_SCOPE, "email", CLOUD_PLATFORM} & set(scopes):
        return {}
    return {"email": principal.email, "email_verified": "true"}


def _form(call: Call) -> dict[str, str]:
    """Return the form of the body; the endpoint takes JSON as well."""
    if "json" in call.headers.get("Content-Type", ""):
        try:
            document = json.loads(call.raw or b"{}")
        except ValueError as error:
            raise Refused("invalid_request", "Invalid JSON payload received.") from error
        return {key: str(value) for key, value in document.items()} if isinstance(document, dict) else {}
    return dict(parse_qsl(call.raw.decode("utf-8", "replace")))


def _check_times(claims: dict[str, Any]) -> None:
    now = time.time()
    issued, expires = claims.get("iat"), claims.get("exp")
    if not all(isinstance(value, int | float) for value in (issued, expires)):
        raise Refused("invalid_grant", TIMEFRAME)
    if issued > now + SKEW or expires <= now or expires - issued > LIFETIME + SKEW:
        raise Refused("invalid_grant", TIMEFRAME)
