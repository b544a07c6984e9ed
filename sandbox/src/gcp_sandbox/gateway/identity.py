# SPDX-License-Identifier: Apache-2.0
"""Callers and credentials: users, service accounts and their keys, access and ID tokens, Google's signing keys."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gcp_sandbox.config import MAX_TOKEN_LIFETIME, private_folder, write_private
from gcp_sandbox.gateway import catalog, tokens
from gcp_sandbox.gateway.errors import ApiError, error_info, invalid, permission_denied, unauthenticated
from gcp_sandbox.gateway.projects import Project

if TYPE_CHECKING:
    from gcp_sandbox.config import Settings
    from gcp_sandbox.gateway.latency import Latency
    from gcp_sandbox.gateway.projects import Projects
    from gcp_sandbox.store import Store

USER_KIND = "identity.user"
ACCOUNT_KIND = "iam.serviceAccount"
DELETED_KIND = "iam.deletedServiceAccount"
KEY_KIND = "iam.serviceAccountKey"
SYSTEM_KEY_KIND = "iam.systemManagedKey"
GOOGLE_KEY_KIND = "identity.signingKey"


#: Latest expiry of a JWT to be signed, in seconds from now (signJwt's documentation).
MAX_JWT_LIFETIME = 12 * 3600
# The etag of every service account on Google Cloud.
ACCOUNT_ETAG = "MDEwMjE5MjA="

ISSUER = "https://accounts.google.com"
IAP_ISSUER = "https://cloud.google.com/iap"
TOKEN_URIS = ("https://oauth2.googleapis.com/token", "https://www.googleapis.com/oauth2/v4/token")
CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
# Accepted by IAM's APIs although their discovery documents do not list it; google-auth impersonates with it.
IAM_SCOPE = "https://www.googleapis.com/auth/iam"
IAM_HOSTS = ("iam.googleapis.com", "iamcredentials.googleapis.com")
EMAIL_SCOPE = "https://www.googleapis.com/auth/userinfo.email"

# The OAuth client of `gcp-sandbox exec --as`: what gcloud's own client is to `gcloud auth application-default login`.
CLIENT_ID = "sandbox.apps.googleusercontent.com"
CLIENT_SECRET = "sandbox"

ACCESS_PREFIX = "ya29.c."
REFRESH_PREFIX = "1//"

SIGN_IN_HELP = (
    "Expected OAuth 2 access token, login cookie or other valid authentication credential. "
    "See https://developers.google.com/identity/sign-in/web/devconsole-project."
)


@dataclass(frozen=True)
class Principal:
    """The user, service account or anonymous caller that makes a request.

    :param kind: "user", "serviceAccount" or "anonymous".
    :param unique_id: the numeric id, `sub` of the tokens.
    :param claims: what the credential said: `scopes` (a list) for an access token, the payload for a JWT.
    """

    email: str = ""
    kind: str = "anonymous"
    unique_id: str = ""
    claims: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def anonymous(self) -> bool:
        return self.kind == "anonymous"

    @property
    def member(self) -> str:
        """As IAM policies name it: "user:a@b", "serviceAccount:x@p.iam.gserviceaccount.com"; "" when anonymous."""
        return "" if self.anonymous else f"{self.kind}:{self.email}"

    @property
    def domain(self) -> str:
        return self.email.rpartition("@")[2]


ANONYMOUS = Principal()


class Policies(Protocol):
    """What changes of service accounts do to IAM policies (`iam.Iam`)."""

    def add_binding(self, resource: str, role: str, member: str) -> None:
        """Grant a role without any check."""

    def delete_policy(self, resource: str) -> None:
        """Forget the policies of a deleted resource."""

    def member_deleted(self, email: str, unique_id: str) -> None:
        """Rename a deleted service account in every policy."""

    def member_undeleted(self, email: str, unique_id: str) -> None:
        """Undo `member_deleted`."""


class Host(Protocol):
    """The parts of the sandbox that `Identities` uses."""

    settings: Settings
    store: Store
    latency: Latency
    projects: Projects

    @property
    def iam(self) -> Policies:
        """The policies that name its accounts."""


class Identities:
    """Users and service accounts of the sandbox and every kind of token about them. State is in the store."""

    def __init__(self, sandbox: Host) -> None:
        self.sandbox = sandbox

    def start(self) -> None:
        """Make the keys that Google signs with, once."""
        with self.sandbox.store.transaction():
            self._seed_keys()

    # --- principals ---------------------------------------------------------------------------------------------

    def users(self) -> list[Principal]:
        """Return the people of the organization, by address."""
        rows = self.sandbox.store.list(USER_KIND)
        return [Principal(body["email"], "user", body["id"]) for _, body in rows]

    def create_user(self, email: str, name: str) -> None:
        """Store a user of the organization; does nothing where the address exists."""
        if self.sandbox.store.get(USER_KIND, email) is None:
            self.sandbox.store.put(USER_KIND, email, {"email": email, "id": _unique_id(), "name": name})

    def user_name(self, email: str) -> str:
        """Return a user's display name; "" for an unknown user."""
        return (self.sandbox.store.get(USER_KIND, email) or {}).get("name", "")

    def principal(self, email: str) -> Principal | None:
        """Return the user or service account with this address; None when there is none or the account was deleted."""
        if user := self.sandbox.store.get(USER_KIND, email):
            return Principal(email, "user", user["id"])
        account = self.account(email)
        return Principal(account["email"], "serviceAccount", account["uniqueId"]) if account else None

    def service_account(self, email: str) -> Principal:
        """Return the principal of a running service's identity.

        A deleted or disabled account is still a principal: its tokens fail, its permissions are whatever policies say.
        """
        account = self.account(email)
        return Principal(email, "serviceAccount", account["uniqueId"] if account else "")

    def member_exists(self, member: str) -> bool:
        """Return whether a policy may name this `type:address`.

        The directory is complete for the sandbox's own projects only: accounts of projects elsewhere and users of
        Google at large are taken to exist, except in the domain that can never have any (.invalid, RFC 2606). A
        service account is unknown for a moment after its creation.
        """
        kind, _, value = member.partition(":")
        if value.endswith(".invalid"):
            return False
        if kind != "serviceAccount":
            return True
        account = self.account(value)
        if account is not None:
            return time.time() >= account.get("knownFrom", 0)
        return self.project_of(value) is None

    def project_of(self, email: str) -> Project | None:
        """Return the sandbox's project that a service account's address belongs to, from the address alone."""
        local, _, domain = email.partition("@")
        if domain.endswith(".iam.gserviceaccount.com") and not catalog.is_service_agent(email):
            return self.sandbox.projects.at(domain.removesuffix(".iam.gserviceaccount.com"))
        if domain == "appspot.gserviceaccount.com":
            return self.sandbox.projects.at(local)
        number = (
            local.partition("-")[0] if domain == "developer.gserviceaccount.com" else local.removeprefix("service-")
        )
        return self.sandbox.projects.get(number) if number.isdigit() else None

    # --- service accounts ---------------------------------------------------------------------------------------

    def account(self, email_or_id: str) -> dict[str, Any] | None:
        """Return the stored document of a service account by address or unique id; None when there is none."""
        if email_or_id.isdigit():
            rows = (body for _, body in self.sandbox.store.list(ACCOUNT_KIND))
            return next((body for body in rows if body["uniqueId"] == email_or_id), None)
        return self.sandbox.store.get(ACCOUNT_KIND, email_or_id)

    def create_account(self, project: Project, email: str, *, at_once: bool = True, **fields: str) -> dict[str, Any]:
        """Store a service account; `fields` are displayName and description.

        :param at_once: known to policies from now on and not after the propagation delay.
        """
        delay = 0.0 if at_once else self.sandbox.latency.propagation("service_account")
        body: dict[str, Any] = {
            "name": f"projects/{project.id}/serviceAccounts/{email}",
            "projectId": project.id,
            "uniqueId": _unique_id(),
            "email": email,
            "oauth2ClientId": _unique_id(),
            "etag": ACCOUNT_ETAG,
            "knownFrom": time.time() + delay,
        }
        body |= {key: value for key, value in fields.items() if value}
        self.save_account(body)
        return body

    def save_account(self, body: dict[str, Any]) -> None:
        """Write back a changed document."""
        agent = catalog.is_service_agent(body["email"])
        parent = "" if agent else f"projects/{body['projectId']}"
        self.sandbox.store.put(ACCOUNT_KIND, body["email"], body, parent=parent)

    def accounts(self, project: Project) -> list[dict[str, Any]]:
        """Return the service accounts of a project by address, Google's own service agents left out."""
        return [body for _, body in self.sandbox.store.list(ACCOUNT_KIND, parent=f"projects/{project.id}")]

    def delete_account(self, body: dict[str, Any]) -> None:
        """Remove an account and its keys; policies that name it call it deleted from now on."""
        store = self.sandbox.store
        store.delete(ACCOUNT_KIND, body["email"])
        store.put(DELETED_KIND, body["uniqueId"], body)
        for key in self.keys(body["email"]):
            self.delete_key(body["email"], key["id"])
        self.sandbox.iam.delete_policy(f"//iam.googleapis.com/{body['name']}")
        self.sandbox.iam.member_deleted(body["email"], body["uniqueId"])

    def undelete_account(self, unique_id: str) -> dict[str, Any] | None:
        """Bring a deleted account back; None when there is none, or its address is another account's by now."""
        body = self.sandbox.store.get(DELETED_KIND, unique_id)
        if body is None or self.account(body["email"]) is not None:
            return None
        self.sandbox.store.delete(DELETED_KIND, unique_id)
        self.save_account(body)
        self.sandbox.iam.member_undeleted(body["email"], unique_id)
        return body

    def service_agent(self, project: Project, service: str) -> dict[str, Any] | None:
        """Return the service agent of an API in a project, made and granted its role when new; None without one."""
        agent = catalog.service_agent(service, project)
        if agent is None:
            return None
        found = self.account(agent.email)
        if found is None:
            found = self.create_account(project, agent.email)
            if agent.role:
                self.sandbox.iam.add_binding(project.name, agent.role, f"serviceAccount:{agent.email}")
        return found

    def service_enabled(self, project: Project, services: Iterable[str]) -> None:
        """Make the accounts that come with APIs: service agents, and the default accounts of Compute and App Engine.

        Default accounts get no role, as in organizations made since May 2024 (FACTS.md).
        """
        for service in services:
            if catalog.has_agent_on_enable(service):
                self.service_agent(project, service)
            account = catalog.default_account(service, project)
            if account and self.account(account[0]) is None:
                self.create_account(project, account[0], displayName=account[1])

    # --- keys of service accounts -------------------------------------------------------------------------------

    def create_key(self, account: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return a new user-managed key: its stored document, and the key file's contents (which are not stored)."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        start = _now()
        pem = tokens.certificate(key, account["uniqueId"], start=start, end=tokens.FOREVER)
        body = self.add_key(account, secrets.token_hex(20), pem, origin="GOOGLE_PROVIDED", start=start)
        address = account["email"].replace("@", "%40")
        file = {
            "type": "service_account",
            "project_id": account["projectId"],
            "private_key_id": body["id"],
            "private_key": tokens.private_pem(key),
            "client_email": account["email"],
            "client_id": account["uniqueId"],
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": TOKEN_URIS[0],
            "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
            "client_x509_cert_url": f"https://www.googleapis.com/robot/v1/metadata/x509/{address}",
            "universe_domain": "googleapis.com",
        }
        return body, file

    def add_key(
        self, account: Mapping[str, Any], key_id: str, pem: str, *, origin: str, start: datetime.datetime
    ) -> dict[str, Any]:
        """Store the public half of a user-managed key."""
        body = {
            "id": key_id,
            "name": f"{account['name']}/keys/{key_id}",
            "origin": origin,
            "pem": pem,
            "validAfterTime": start.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "validBeforeTime": tokens.FOREVER.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        self.save_key(account, body)
        return body

    def save_key(self, account: Mapping[str, Any], body: dict[str, Any]) -> None:
        """Write back a changed key."""
        self.sandbox.store.put(KEY_KIND, f"{account['email']}/{body['id']}", body, parent=account["email"])

    def keys(self, email: str) -> list[dict[str, Any]]:
        """Return the user-managed keys of an account."""
        return [body for _, body in self.sandbox.store.list(KEY_KIND, parent=email)]

    def delete_key(self, email: str, key_id: str) -> bool:
        """Remove a user-managed key; False when there is none of this id."""
        return self.sandbox.store.delete(KEY_KIND, f"{email}/{key_id}")

    def system_key(self, account: Mapping[str, Any]) -> dict[str, Any]:
        """Return the key that Google holds for an account, made at first use: {id, pem (certificate), private, ...}."""
        found = self.existing_system_key(account)
        if found is None:
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            start = _now()
            end = start + datetime.timedelta(days=730)
            found = {
                "id": secrets.token_hex(20),
                "uniqueId": account["uniqueId"],
                "pem": tokens.certificate(key, account["email"], start=start, end=end),
                "private": tokens.private_pem(key),
                "validAfterTime": start.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "validBeforeTime": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
            self.sandbox.store.put(SYSTEM_KEY_KIND, account["email"], found)
        return found

    def existing_system_key(self, account: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the key that Google holds for an account, None as long as it was never needed."""
        found = self.sandbox.store.get(SYSTEM_KEY_KIND, account["email"])
        return found if found and found["uniqueId"] == account["uniqueId"] else None

    def certificates(self, account: Mapping[str, Any]) -> dict[str, str]:
        """Key id -> PEM of every key that signs for an account: its own, where enabled, and the system-managed one."""
        pems = {body["id"]: body["pem"] for body in self.keys(account["email"]) if not body.get("disabled")}
        system = self.system_key(account)
        return {**pems, system["id"]: system["pem"]}

    def sign_jwt(self, account: Mapping[str, Any], payload: str | dict[str, Any]) -> tuple[str, str]:
        """Return (key id, JWT) signed by the account's system-managed key, as iamcredentials.signJwt does."""
        key = self.system_key(account)
        return key["id"], tokens.encode(payload, _private(key["private"]), key["id"])

    def sign_claims(self, account: Mapping[str, Any], payload: str) -> dict[str, str]:
        """Return the answer of signJwt; ApiError 400 for what is no JSON object or expires in more than 12 hours."""
        try:
            claims = json.loads(payload)
        except ValueError as error:
            raise invalid("Invalid JWT payload: it must be a serialized JSON object.") from error
        if not isinstance(claims, dict):
            raise invalid("Invalid JWT payload: it must be a serialized JSON object.")
        expires = claims.get("exp")
        if expires is not None and (not isinstance(expires, int) or expires > time.time() + MAX_JWT_LIFETIME):
            raise invalid("Invalid JWT payload: exp must be an integer timestamp no more than 12 hours in the future.")
        key_id, token = self.sign_jwt(account, payload)
        return {"keyId": key_id, "signedJwt": token}

    def sign_blob(self, account: Mapping[str, Any], data: bytes) -> tuple[str, bytes]:
        """Return (key id, RSASSA-PKCS1-v1_5 signature with SHA-256) by the account's system-managed key."""
        key = self.system_key(account)
        return key["id"], tokens.sign(data, _private(key["private"]))

    def verify_account_jwt(self, token: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return (account, payload) of a JWT that a service account signed as its `iss`.

        Signature, key and account are checked, times and audience are not. Raises tokens.InvalidToken with the words
        that Google's token endpoint uses.
        """
        header, payload = tokens.split(token)
        issuer = payload.get("iss")
        account = self.account(issuer) if isinstance(issuer, str) and "@" in issuer else None
        if account is None:
            raise tokens.InvalidToken("Invalid grant: account not found")
        if account.get("disabled"):
            raise tokens.InvalidToken("Service account has been disabled")
        pems = self.certificates(account)
        key_id = header.get("kid")
        candidates = [pems[key_id]] if key_id in pems else [] if key_id else list(pems.values())
        if header.get("alg") == "RS256":
            for pem in candidates:
                try:
                    return account, tokens.verify(token, _public(pem))
                except tokens.InvalidToken:
                    continue
        raise tokens.InvalidToken("Invalid JWT Signature.")

    # --- Google's own keys --------------------------------------------------------------------------------------

    def google_keys(self) -> dict[str, str]:
        """Key id -> PEM certificate of the keys that sign ID tokens."""
        rows = self.sandbox.store.list(GOOGLE_KEY_KIND, parent="id-token")
        return {body["id"]: body["pem"] for _, body in rows}

    def iap_keys(self) -> dict[str, str]:
        """Key id -> PEM public key (P-256) of the keys that sign IAP's assertions."""
        rows = self.sandbox.store.list(GOOGLE_KEY_KIND, parent="iap")
        return {body["id"]: body["pem"] for _, body in rows}

    def sign_iap(self, payload: dict[str, Any]) -> str:
        """Return an `X-Goog-IAP-JWT-Assertion`: ES256; the issuer is added."""
        _, body = self.sandbox.store.list(GOOGLE_KEY_KIND, parent="iap")[0]
        return tokens.encode({"iss": IAP_ISSUER, **payload}, _private(body["private"]), body["id"])

    # --- tokens that Google makes -------------------------------------------------------------------------------

    def granted_lifetime(self, wanted: float = MAX_TOKEN_LIFETIME) -> int:
        """Seconds that a token lives from now on: what is wanted, as far as the sandbox's settings let it."""
        return int(min(wanted, self.sandbox.settings.token_lifetime))

    def mint_access_token(
        self, email: str, scopes: Iterable[str] = (CLOUD_PLATFORM,), lifetime: float = MAX_TOKEN_LIFETIME
    ) -> str:
        """Return an opaque OAuth access token for `granted_lifetime(lifetime)` seconds; a restart keeps it valid."""
        principal = self.principal(email)
        if principal is None:
            raise KeyError(email)
        claims = {
            "email": email,
            "sub": principal.unique_id,
            "scopes": sorted(set(scopes)),
            "exp": int(time.time() + self.granted_lifetime(lifetime)),
            "jti": secrets.token_hex(4),
        }
        return ACCESS_PREFIX + self._seal(claims)

    def mint_refresh_token(self, email: str) -> str:
        """Return the refresh token of an `authorized_user` credential; it does not expire."""
        return REFRESH_PREFIX + self._seal({"email": email, "grant": "refresh"})

    def redeem_refresh_token(self, token: str) -> Principal | None:
        """Return the owner of a refresh token; None when it is not the sandbox's or its owner is deleted."""
        claims = self._unseal(token, REFRESH_PREFIX)
        return self.principal(claims["email"]) if claims else None

    def adc(self, email: str) -> dict[str, str]:
        """Application default credentials (`authorized_user`) that act as a user or a service account."""
        if self.principal(email) is None:
            raise KeyError(email)
        return {
            "type": "authorized_user",
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "refresh_token": self.mint_refresh_token(email),
            "universe_domain": "googleapis.com",
        }

    def mint_id_token(
        self,
        email: str,
        audience: str,
        *,
        include_email: bool = True,
        lifetime: float = MAX_TOKEN_LIFETIME,
        **claims: Any,
    ) -> str:
        """Return an OpenID Connect ID token signed by Google (RS256) for `audience`; `claims` are added."""
        principal = self.principal(email)
        if principal is None:
            raise KeyError(email)
        now = int(time.time())
        payload: dict[str, Any] = {
            "iss": ISSUER,
            "aud": audience,
            "azp": principal.unique_id,
            "sub": principal.unique_id,
            "iat": now,
            "exp": now + self.granted_lifetime(lifetime),
        }
        if include_email:
            payload |= {"email": email, "email_verified": True}
        if principal.kind == "user":
            payload["hd"] = principal.domain
        _, body = self.sandbox.store.list(GOOGLE_KEY_KIND, parent="id-token")[0]
        return tokens.encode({**payload, **claims}, _private(body["private"]), body["id"])

    # --- tokens that callers present ----------------------------------------------------------------------------

    def verify_access_token(self, token: str) -> Principal | None:
        """Return the owner of an access token; None when it is forged, expired, or its owner is deleted or disabled."""
        claims = self._unseal(token, ACCESS_PREFIX)
        if claims is None or claims["exp"] <= time.time():
            return None
        principal = self.principal(claims["email"])
        if principal is None or principal.unique_id != claims["sub"]:
            return None
        if principal.kind == "serviceAccount" and (self.account(principal.email) or {}).get("disabled"):
            return None
        return Principal(principal.email, principal.kind, principal.unique_id, claims)

    def verify_id_token(self, token: str, audiences: Iterable[str] | None = None) -> Principal | None:
        """Return the owner of an ID token that Google signed, with the payload as claims; None when it is not valid.

        :param audiences: accepted values of `aud`; None accepts any.
        """
        try:
            header, payload = tokens.split(token)
            pem = self.google_keys().get(header.get("kid", ""))
            if pem is None:
                return None
            payload = tokens.verify(token, _public(pem))
        except tokens.InvalidToken:
            return None
        if payload["exp"] <= time.time() or (audiences is not None and payload["aud"] not in set(audiences)):
            return None
        return self._by_unique_id(payload)

    def verify_self_signed(self, token: str, host: str) -> Principal | None:
        """Return the service account of a self-signed JWT that is an access token (https://google.aip.dev/auth/4111).

        `iss` and `sub` are the account, and either `aud` is the service's URL or there is a `scope`. At most an hour
        long. None when it is not valid for `host`.
        """
        try:
            account, payload = self.verify_account_jwt(token)
        except tokens.InvalidToken:
            return None
        now = time.time()
        issued, expires = payload.get("iat", 0), payload.get("exp", 0)
        if payload.get("sub", payload["iss"]) != payload["iss"] or not all(
            isinstance(value, int | float) for value in (issued, expires)
        ):
            return None
        if not (issued - 60 <= now < expires <= issued + 3600 + 60):
            return None
        audience = str(payload.get("aud", ""))
        if not payload.get("scope") and not f"{audience.rstrip('/')}/".startswith(f"https://{host}/"):
            return None
        scopes = str(payload["scope"]).split() if payload.get("scope") else [CLOUD_PLATFORM]
        return Principal(account["email"], "serviceAccount", account["uniqueId"], {**payload, "scopes": scopes})

    def authenticate(self, headers: Mapping[str, str], query: Mapping[str, Any] | None = None) -> Principal:
        """Return the caller of a request to a Google API; ANONYMOUS without credentials.

        :param headers: names in any case (`Headers`); `Host` is the audience that a self-signed JWT must have.
        :param query: parsed parameters; `access_token` and `oauth_token` are credentials too.
        :raises ApiError: 401 for credentials that are not valid.
        """
        header = headers.get("Authorization", "")
        host = headers.get("Host", "").partition(":")[0].lower()
        query = query or {}
        scheme, _, token = header.partition(" ")
        token = token.strip()
        if not header:
            token = str(query.get("access_token") or query.get("oauth_token") or "")
            if not token:
                return ANONYMOUS
        elif scheme.lower() not in ("bearer", "oauth"):
            raise self.rejected(host)
        if token.startswith(ACCESS_PREFIX):
            principal = self.verify_access_token(token)
        else:
            principal = self.verify_self_signed(token, host)
        if principal is None:
            raise self.rejected(host)
        return principal

    @staticmethod
    def rejected(host: str, method: str = "") -> ApiError:
        """401 for credentials that are not valid."""
        return unauthenticated(
            f"Request had invalid authentication credentials. {SIGN_IN_HELP}",
            details=[error_info("ACCESS_TOKEN_TYPE_UNSUPPORTED", **_about(host, method))],
            headers={"WWW-Authenticate": f'Bearer realm="{ISSUER}/", error="invalid_token"'},
        )

    @staticmethod
    def missing(host: str, method: str = "") -> ApiError:
        """401 for a request without credentials."""
        return unauthenticated(
            f"Request is missing required authentication credential. {SIGN_IN_HELP}",
            details=[error_info("CREDENTIALS_MISSING", **_about(host, method))],
            headers={"WWW-Authenticate": f'Bearer realm="{ISSUER}/"'},
        )

    @staticmethod
    def require_scope(principal: Principal, accepted: Iterable[str], host: str, method: str = "") -> None:
        """403 unless the caller's token has one of the scopes that the discovery document lists for the method."""
        accepted = set(accepted)
        if accepted and host in IAM_HOSTS:
            accepted.add(IAM_SCOPE)
        held = set(principal.claims.get("scopes", ()))
        if accepted and not principal.anonymous and not accepted & held:
            raise permission_denied(
                "Request had insufficient authentication scopes.",
                details=[error_info("ACCESS_TOKEN_SCOPE_INSUFFICIENT", **_about(host, method))],
                headers={
                    "WWW-Authenticate": f'Bearer realm="{ISSUER}/", error="insufficient_scope", '
                    f'scope="{" ".join(sorted(accepted))}"'
                },
            )

    # --- private ------------------------------------------------------------------------------------------------

    def _by_unique_id(self, payload: dict[str, Any]) -> Principal | None:
        """Return the owner of a Google-signed token, found by `sub` where the token has no address."""
        email = payload.get("email")
        if email:
            principal = self.principal(email)
        else:
            account = self.account(payload["sub"])
            user = next((user for user in self.users() if user.unique_id == payload["sub"]), None)
            principal = self.principal(account["email"]) if account else user
        if principal is None or principal.unique_id != payload["sub"]:
            return None
        return Principal(principal.email, principal.kind, principal.unique_id, payload)

    def _seed_keys(self) -> None:
        store = self.sandbox.store
        if store.list(GOOGLE_KEY_KIND, limit=1):
            return
        start = _now() - datetime.timedelta(days=1)
        end = start + datetime.timedelta(days=3650)
        for _ in range(2):  # two, as Google always publishes the next one along with the one in use
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            pem = tokens.certificate(key, "federated-signon.system.gserviceaccount.com", start=start, end=end)
            body = {"id": secrets.token_hex(20), "pem": pem, "private": tokens.private_pem(key)}
            store.put(GOOGLE_KEY_KIND, f"id-token/{body['id']}", body, parent="id-token")
        key = ec.generate_private_key(ec.SECP256R1())
        body = {
            "id": secrets.token_urlsafe(4),
            "pem": tokens.public_pem(key.public_key()),
            "private": tokens.private_pem(key),
        }
        store.put(GOOGLE_KEY_KIND, f"iap/{body['id']}", body, parent="iap")
        store.put(GOOGLE_KEY_KIND, "opaque", {"secret": secrets.token_hex(32)}, parent="opaque")

    def _mac(self, data: str) -> str:
        secret = self.sandbox.store.get(GOOGLE_KEY_KIND, "opaque")["secret"]
        return tokens.b64encode(hmac.new(secret.encode(), data.encode(), hashlib.sha256).digest())

    def _seal(self, claims: dict[str, Any]) -> str:
        text = tokens.b64encode(json.dumps(claims, separators=(",", ":")).encode())
        return f"{text}.{self._mac(text)}"

    def _unseal(self, token: str, prefix: str) -> dict[str, Any] | None:
        text, _, mac = token.removeprefix(prefix).partition(".")
        if not token.startswith(prefix) or not hmac.compare_digest(mac, self._mac(text)):
            return None
        claims = json.loads(tokens.b64decode(text))
        return claims if ("grant" in claims) == (prefix == REFRESH_PREFIX) else None

    def write_deployer_key(self, file: dict[str, Any]) -> None:
        """Leave the deployer's key where `exec` and `env` point clients: credentials/deployer.json, mode 0600."""
        private_folder(self.sandbox.settings.credentials)
        write_private(self.sandbox.settings.credentials / "deployer.json", json.dumps(file, indent=2) + "\n")


def _about(host: str, method: str) -> dict[str, str]:
    metadata = {"service": host}
    return {**metadata, "method": method} if method else metadata


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def _unique_id() -> str:
    """21 digits, as Google numbers accounts."""
    return "1" + "".join(secrets.choice("0123456789") for _ in range(20))


@lru_cache(maxsize=256)
def _private(pem: str) -> tokens.PrivateKey:
    return tokens.load_private(pem)


@lru_cache(maxsize=256)
def _public(pem: str) -> tokens.PublicKey:
    return tokens.load_public(pem)
