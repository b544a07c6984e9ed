# SPDX-License-Identifier: Apache-2.0
"""A browser's way through IAP: to the account chooser, back through iap.googleapis.com, to a cookie of the
application's host.

The steps are Google's; the account chooser is the sandbox's own and asks for no password. Everything that travels
through the browser is signed with a key that only this sandbox has.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

import jinja2

from gcp_sandbox.gateway import tokens
from gcp_sandbox.gateway.messages import Response

if TYPE_CHECKING:
    from gcp_sandbox.backends.platform import Platform
    from gcp_sandbox.gateway.call import Call
    from gcp_sandbox.serving.web import Protected, WebRequest

KEY_KIND = "iap.sessionKey"

STATE_LIFETIME, CODE_LIFETIME, TOKEN_LIFETIME = 600, 120, 120
SESSION_LIFETIME = 3600 * 24

GENERATED = {"X-Goog-IAP-Generated-Response": "true", "Cache-Control": "no-store"}
HTML = {**GENERATED, "Content-Type": "text/html; charset=utf-8"}


class SignIn:
    """The sign-in flow and its sessions."""

    def __init__(self, sandbox: Platform) -> None:
        self.sandbox = sandbox
        loader = jinja2.PackageLoader("gcp_sandbox.services.iap", "pages")
        self._pages = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)

    def render(self, page: str, **values: Any) -> bytes:
        """Return one of the HTML pages."""
        return self._pages.get_template(page).render(**values).encode()

    # -- on the application's host

    def begin(self, request: WebRequest, protected: Protected, *, managed: bool) -> tuple[str, str]:
        """Return (state for the account chooser, cookie that ties it to this browser)."""
        nonce = secrets.token_urlsafe(12)
        state = self._seal(
            {
                "use": "state",
                "origin": request.origin or f"https://{request.host}",
                "path": request.path + (f"?{request.query}" if request.query else ""),
                "audience": protected.audience,
                "organization": bool(protected.project.parent),
                "managed": managed,
                "nonce": nonce,
            },
            STATE_LIFETIME,
        )
        name = self._cookie_name("GCP_IAP_XSRF_NONCE", protected.audience)
        return state, f"{name}={nonce}; Path=/; Secure; HttpOnly; SameSite=None; Max-Age={STATE_LIFETIME}"

    def finish(self, token: str, request: WebRequest, audience: str) -> Response:
        """Back from sign-in: give the browser its session and the page that it asked for first."""
        claims = self._open(token, "redirect")
        nonce = self._cookies(request.headers.get("cookie", "")).get(self._cookie_name("GCP_IAP_XSRF_NONCE", audience))
        if claims is None or claims["audience"] != audience or claims["nonce"] != nonce:
            page = self.render(
                "error.html", title="Sign-in did not finish", text="Error code 9: an OAuth redirect was not valid."
            )
            return Response(401, dict(HTML), page)
        session = self._seal({"use": "session", "email": claims["email"], "audience": audience}, SESSION_LIFETIME)
        name = self._cookie_name("GCP_IAP_AUTH_TOKEN", audience)
        cookie = f"{name}={session}; Path=/; Secure; HttpOnly; SameSite=None; Max-Age={SESSION_LIFETIME}"
        return Response(302, {**GENERATED, "Location": claims["target"], "Set-Cookie": cookie})

    def session(self, cookie: str, audience: str) -> str | None:
        """Return the address of the user that is signed in to the application; None without a session."""
        token = self._cookies(cookie).get(self._cookie_name("GCP_IAP_AUTH_TOKEN", audience))
        claims = self._open(token, "session") if token else None
        return claims["email"] if claims and claims["audience"] == audience else None

    def sign_out(self, audience: str) -> Response:
        """Forget the session and begin again."""
        name = self._cookie_name("GCP_IAP_AUTH_TOKEN", audience)
        cookie = f"{name}=; Path=/; Secure; HttpOnly; SameSite=None; Max-Age=0"
        return Response(302, {**GENERATED, "Location": "/", "Set-Cookie": cookie})

    # -- at accounts.google.com

    def page(self, call: Call) -> Response:
        """Return the account chooser: all users of the sandbox."""
        state = self._open(call.query.get("state", ""), "state")
        if state is None:
            return self._error(400, "This sign-in has expired", "Go back to the application and begin again.")
        users = [
            {"email": user.email, "name": self.sandbox.identities.user_name(user.email) or user.email}
            for user in self.sandbox.identities.users()
        ]
        page = self.render("signin.html", users=users, target=state["origin"], query=dict(call.query))
        return Response(200, dict(HTML), page)

    def choose(self, call: Call) -> Response:
        """Return to IAP with a code for the chosen user."""
        form = dict(parse_qsl(call.raw.decode()))
        state = self._open(form.get("state", ""), "state")
        email = form.get("email", "")
        if state is None:
            return self._error(400, "This sign-in has expired", "Go back to the application and begin again.")
        principal = self.sandbox.identities.principal(email)
        if principal is None or principal.kind != "user":
            return self._error(400, "Couldn't find your account", f"The sandbox has no user {email}.")
        if state["managed"] and principal.domain != self._domain():
            text = "Error 403: org_internal. This application's OAuth client is for members of its organization only."
            return self._error(403, "Access blocked", text)
        code = self._seal({"use": "code", "email": email, "client": form.get("client_id", "")}, CODE_LIFETIME)
        client = form.get("client_id", "")
        target = f"https://iap.googleapis.com/v1/oauth/clientIds/{client}:handleRedirect"
        return Response(302, {**GENERATED, "Location": f"{target}?{urlencode({'state': form['state'], 'code': code})}"})

    # -- at iap.googleapis.com

    def redeem(self, call: Call) -> Response:
        """Exchange the code for a short-lived token for the application's host, where it becomes a cookie."""
        state = self._open(call.query.get("state", ""), "state")
        code = self._open(call.query.get("code", ""), "code")
        if state is None or code is None or code["client"] != call.params["client"]:
            return self._error(400, "Sign-in did not finish", "Error code 9: an OAuth redirect was not valid.")
        claims = {
            "use": "redirect",
            "email": code["email"],
            "audience": state["audience"],
            "nonce": state["nonce"],
            "target": state["origin"] + state["path"],
        }
        query = urlencode({"gcp-iap-mode": "AUTHENTICATING", "redirect_token": self._seal(claims, TOKEN_LIFETIME)})
        return Response(302, {**GENERATED, "Location": f"{state['origin']}/?{query}"})

    # -- private

    def _error(self, status: int, title: str, text: str) -> Response:
        return Response(status, dict(HTML), self.render("error.html", title=title, text=text))

    @staticmethod
    def _domain() -> str:
        from gcp_sandbox.gateway.projects import DOMAIN

        return DOMAIN

    @staticmethod
    def _cookie_name(kind: str, audience: str) -> str:
        return f"__Host-{kind}_{hashlib.sha256(audience.encode()).hexdigest()[:16].upper()}"

    @staticmethod
    def _cookies(header: str) -> dict[str, str]:
        """Cookies by name. http.cookies gives up at the first one with characters that browsers do send."""
        pairs = (part.strip().partition("=") for part in header.split(";"))
        return {name: value for name, _, value in pairs if name}

    def _key(self) -> bytes:
        with self.sandbox.store.transaction() as store:
            found = store.get(KEY_KIND, "key")
            if found is None:
                found = {"key": secrets.token_hex(32)}
                store.put(KEY_KIND, "key", found)
        return bytes.fromhex(found["key"])

    def _seal(self, claims: dict[str, Any], lifetime: float) -> str:
        text = tokens.b64encode(json.dumps({**claims, "exp": time.time() + lifetime}, separators=(",", ":")).encode())
        return f"{text}.{self._mac(text)}"

    def _open(self, token: str, use: str) -> dict[str, Any] | None:
        """Return the content of a token that was sealed for this use, if it has not expired."""
        text, _, mac = token.partition(".")
        if not hmac.compare_digest(mac.encode(), self._mac(text).encode()):
            return None
        claims = json.loads(tokens.b64decode(text))
        return claims if claims["use"] == use and claims["exp"] > time.time() else None

    def _mac(self, text: str) -> str:
        return tokens.b64encode(hmac.new(self._key(), text.encode(), hashlib.sha256).digest())
