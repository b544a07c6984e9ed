# SPDX-License-Identifier: Apache-2.0
"""Identity-Aware Proxy's decision about one request to an application, in its own words.

    decision = sandbox.ports.get(WebAuthorizer).authorize(protected, request)
    if isinstance(decision, Response): answer with it
    else: pass the request on, without `decision.remove` and with `decision.headers`

A browser without a session goes to the sign-in page and comes back with a cookie. A program presents, in
Proxy-Authorization or Authorization, an OpenID Connect token for the custom OAuth client (or one that is
allow-listed), or a JWT signed by a service account for the application's address. The principal must hold
iap.webServiceVersions.accessViaIAP on the application.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from gcp_sandbox.gateway import tokens
from gcp_sandbox.gateway.identity import ANONYMOUS, ISSUER, Principal
from gcp_sandbox.gateway.messages import Response
from gcp_sandbox.services.iap.settings import Settings
from gcp_sandbox.services.iap.signin import SignIn
from gcp_sandbox.serving.web import OWN_HEADERS, Granted, Protected, WebRequest

if TYPE_CHECKING:
    from gcp_sandbox.backends.platform import Platform

PERMISSION = "iap.webServiceVersions.accessViaIAP"
ASSERTION_LIFETIME = 600
SELF_SIGNED_LIFETIME = 3600
SKEW = 30

GENERATED = {"X-Goog-IAP-Generated-Response": "true", "Cache-Control": "no-store"}

EMPTY_CLIENT = "Empty Google Account OAuth client ID(s)."


class Refused(Exception):
    """An invalid credential."""


class Access:
    """IAP's decisions."""

    def __init__(self, sandbox: Platform, settings: Settings) -> None:
        self.sandbox = sandbox
        self.settings = settings
        self.sign_in = SignIn(sandbox)

    def authorize(self, protected: Protected, request: WebRequest) -> Granted | Response:
        """Let the request through or answer it."""
        effective = self.settings.effective(protected.resource).get("accessSettings", {})
        if request.method == "OPTIONS" and effective.get("corsSettings", {}).get("allowHttpOptions"):
            return Granted(None)
        oauth = effective.get("oauthSettings", {})
        if protected.client_id and not oauth.get("clientId"):
            oauth = {**oauth, "clientId": protected.client_id}
        try:
            if mode := self._mode(protected, request):
                return mode
            principal, remove = self._identify(protected, request, oauth)
        except Refused as refusal:
            return self._text(401, f"Invalid IAP credentials: {refusal}")
        resource = f"//iap.googleapis.com/{protected.resource}"
        if principal is None:
            if self.sandbox.iam.allowed(ANONYMOUS, resource, PERMISSION):
                return Granted(None)
            return self._challenge(protected, request, oauth)
        if not self.sandbox.iam.allowed(principal, resource, PERMISSION):
            return self._denied(request, principal)
        return Granted(principal, frozenset(OWN_HEADERS) | remove, self._assertion(protected, principal))

    # -- the principal

    def _identify(
        self, protected: Protected, request: WebRequest, oauth: Mapping[str, Any]
    ) -> tuple[Principal | None, frozenset[str]]:
        """Return the caller, and the header that said so; None without a credential for IAP."""
        for header in ("proxy-authorization", "authorization"):
            scheme, _, token = request.headers.get(header, "").partition(" ")
            if scheme.lower() != "bearer":
                continue
            try:
                return self._verify(token.strip(), request, oauth), frozenset({header})
            except Refused:
                # Behind a good Proxy-Authorization the other header is the application's own; a bad one lets IAP look
                # on.
                if header == "proxy-authorization" and request.headers.get("authorization", "").lower().startswith(
                    "bearer "
                ):
                    continue
                raise
        email = self.sign_in.session(request.headers.get("cookie", ""), protected.audience)
        return (self.sandbox.identities.principal(email) if email else None), frozenset()

    def _verify(self, token: str, request: WebRequest, oauth: Mapping[str, Any]) -> Principal:
        if not token:
            raise Refused("empty token")
        try:
            _, payload = tokens.split(token)
        except tokens.InvalidToken as error:
            raise Refused("Unable to parse JWT") from error
        if payload.get("iss") in (ISSUER, ISSUER.removeprefix("https://")):
            return self._verify_oidc(token, payload, oauth)
        return self._verify_self_signed(token, request)

    def _verify_oidc(self, token: str, payload: Mapping[str, Any], oauth: Mapping[str, Any]) -> Principal:
        if float(payload.get("exp", 0)) + SKEW < time.time():
            raise Refused("JWT has expired")
        principal = self.sandbox.identities.verify_id_token(token)
        if principal is None:
            raise Refused("JWT signature is invalid")
        client = oauth.get("clientId", "")
        accepted = {client, *oauth.get("programmaticClients", ())} - {""}
        if payload.get("aud") not in accepted:
            raise Refused(
                f"JWT audience doesn't match this application ('aud' claim ({payload.get('aud')}) doesn't match "
                "expected value "
                f"({client or 'a custom OAuth client: this application has a Google-managed one'}))"
            )
        if not isinstance(payload.get("email"), str):
            raise Refused("JWT 'email' claim isn't a string")
        return principal

    def _verify_self_signed(self, token: str, request: WebRequest) -> Principal:
        """cloud.google.com/iap/docs/authentication-howto: iss and sub are the account, aud the URL, at most an hour."""
        try:
            account, payload = self.sandbox.identities.verify_account_jwt(token)
        except tokens.InvalidToken as error:
            raise Refused("JWT signature is invalid") from error
        now = time.time()
        issued, expires = payload.get("iat"), payload.get("exp")
        if not isinstance(issued, int | float) or not isinstance(expires, int | float):
            raise Refused("JWT 'iat' and 'exp' claims must be numbers")
        if expires + SKEW < now:
            raise Refused("JWT has expired")
        if issued - SKEW > now or expires - issued > SELF_SIGNED_LIFETIME:
            raise Refused("JWT must be issued in the past and expire within one hour of that")
        if payload.get("sub") != payload.get("iss"):
            raise Refused("JWT 'sub' claim doesn't match the 'iss' claim")
        audience = payload.get("aud")
        if not isinstance(audience, str) or not audience_covers(audience, request):
            raise Refused(
                f"JWT audience doesn't match this application ('aud' claim ({audience}) doesn't match expected value "
                f"(https://{request.host}{request.path}))"
            )
        return Principal(account["email"], "serviceAccount", account["uniqueId"], payload)

    # -- answers

    def _mode(self, protected: Protected, request: WebRequest) -> Response | None:
        """IAP's own pages on the application's host."""
        query = dict(parse_qsl(request.query, keep_blank_values=True))
        if query.get("gcp-iap-mode") == "AUTHENTICATING" and "redirect_token" in query:
            return self.sign_in.finish(query["redirect_token"], request, protected.audience)
        if query.get("gcp-iap-mode") == "CLEAR_LOGIN_COOKIE" or request.path == "/_gcp_iap/clear_login_cookie":
            return self.sign_in.sign_out(protected.audience)
        if query.get("gcp-iap-mode") == "IDENTITY" or request.path == "/_gcp_iap/identity":
            email = self.sign_in.session(request.headers.get("cookie", ""), protected.audience)
            principal = self.sandbox.identities.principal(email) if email else None
            if principal is None:
                return self._text(401, "No identity: not signed in.")
            identity = {"email": f"accounts.google.com:{email}", "sub": f"accounts.google.com:{principal.unique_id}"}
            return Response(200, dict(GENERATED), json=identity)
        return None

    def _challenge(self, protected: Protected, request: WebRequest, oauth: Mapping[str, Any]) -> Response:
        """Answer a request without a session: the sign-in page for browsers, 401 for all other clients."""
        if not oauth.get("clientId") and not protected.project.parent:
            return self._text(500, EMPTY_CLIENT)
        if not request.browser:
            return self._text(401, "Invalid IAP credentials: empty token")
        client = oauth.get("clientId") or f"{protected.project.number}-managed.apps.googleusercontent.com"
        state, cookie = self.sign_in.begin(request, protected, managed=not oauth.get("clientId"))
        query = {
            "client_id": client,
            "response_type": "code",
            "scope": "openid email",
            "redirect_uri": f"https://iap.googleapis.com/v1/oauth/clientIds/{client}:handleRedirect",
            "state": state,
        }
        if oauth.get("loginHint"):
            query["hd"] = oauth["loginHint"]
        location = f"https://accounts.google.com/o/oauth2/v2/auth?{urlencode(query)}"
        return Response(302, {**GENERATED, "Location": location, "Set-Cookie": cookie})

    def _denied(self, request: WebRequest, principal: Principal) -> Response:
        if "text/html" not in request.headers.get("accept", ""):
            return self._text(403, f"You don't have access: {principal.email} may not use {request.url}")
        page = self.sign_in.render("denied.html", email=principal.email, url=request.shown)
        return Response(403, {**GENERATED, "Content-Type": "text/html; charset=utf-8"}, page)

    @staticmethod
    def _text(status: int, text: str) -> Response:
        return Response(status, {**GENERATED, "Content-Type": "text/html"}, text.encode())

    def _assertion(self, protected: Protected, principal: Principal) -> dict[str, str]:
        """What the application learns (cloud.google.com/iap/docs/signed-headers-howto)."""
        now = int(time.time())
        claims: dict[str, Any] = {
            "aud": protected.audience,
            "email": principal.email,
            "sub": f"accounts.google.com:{principal.unique_id}",
            "iat": now,
            "exp": now + ASSERTION_LIFETIME,
            "identity_source": "GOOGLE",
        }
        if principal.kind == "user":
            claims["hd"] = principal.domain
        return {
            "x-goog-iap-jwt-assertion": self.sandbox.identities.sign_iap(claims),
            "x-goog-authenticated-user-email": f"accounts.google.com:{principal.email}",
            "x-goog-authenticated-user-id": f"accounts.google.com:{principal.unique_id}",
        }


def audience_covers(audience: str, request: WebRequest) -> bool:
    """Return whether the `aud` of a self-signed JWT is the requested URL, or ends with `/*` and covers it."""
    url = f"https://{request.host}{request.path}"
    if audience.endswith("/*"):
        return url.startswith(audience[:-1])
    return audience == url or (audience == f"https://{request.host}" and request.path == "/")
