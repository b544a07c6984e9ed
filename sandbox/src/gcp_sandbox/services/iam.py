# SPDX-License-Identifier: Apache-2.0
"""IAM v1 and v2: service accounts, their keys and policies, predefined roles, deny policies."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import re
import secrets
from typing import Any
from urllib.parse import unquote

from cryptography.hazmat.primitives.asymmetric import rsa

from gcp_sandbox.gateway import etags, tokens
from gcp_sandbox.gateway.call import Call
from gcp_sandbox.gateway.denials import IamFacts, worded
from gcp_sandbox.gateway.errors import (
    ApiError,
    aborted,
    already_exists,
    failed_precondition,
    invalid,
    not_found,
    permission_denied,
    resource_exhausted,
)
from gcp_sandbox.gateway.iam import DENY_KIND
from gcp_sandbox.gateway.iam_methods import IamPolicies
from gcp_sandbox.gateway.projects import MANAGER, Project
from gcp_sandbox.gateway.roles import BASIC, Role
from gcp_sandbox.gateway.service import method

ACCOUNT_ID = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])")
ACCOUNT_FIELDS = ("name", "projectId", "uniqueId", "email", "displayName", "description", "etag", "oauth2ClientId")
MUTABLE = {"displayName": "displayName", "display_name": "displayName", "description": "description"}

MAX_ACCOUNTS = 100
MAX_KEYS = 10

V2 = "type.googleapis.com/google.iam.v2."


class IamApi(IamPolicies):
    name = "iam"
    iam = IamFacts(
        denial=worded("Permission '{permission}' denied on resource (or it may not exist)."),
        types={"serviceAccounts": "ServiceAccount"},
    )
    versions = ("v1", "v2")
    consumer = "caller"
    iam_resources = {"projects.serviceAccounts": "iam.serviceAccounts"}
    iam_public = False

    def iam_exists(self, call: Call, resource: str) -> None:
        self._account(call.params["resource"])

    # --- service accounts ---------------------------------------------------------------------------------------

    @method("projects.serviceAccounts.create", permission=None)
    def create(self, call: Call) -> dict[str, Any]:
        """Make a service account; policies may name it only after a moment."""
        project = self._project(call)
        call.require("iam.serviceAccounts.create", f"//iam.googleapis.com/projects/{project.id}")
        account_id = call.body.get("accountId", "")
        if not 6 <= len(account_id) <= 30:
            raise invalid(f'The account ID "{account_id}" does not have a length between 6 and 30.')
        if not ACCOUNT_ID.fullmatch(account_id):
            raise invalid(
                f'The account ID "{account_id}" is invalid: it must match the regular expression '
                "[a-z]([-a-z0-9]*[a-z0-9])."
            )
        details = call.body.get("serviceAccount", {})
        _check_texts(details)
        email = f"{account_id}@{project.dotted}.iam.gserviceaccount.com"
        if self.sandbox.identities.account(email):
            raise already_exists(f"Service account {account_id} already exists within project projects/{project.id}.")
        if len(self.sandbox.identities.accounts(project)) >= MAX_ACCOUNTS:
            raise resource_exhausted("Maximum number of service accounts on project reached.")
        fields = {name: details.get(name, "") for name in ("displayName", "description")}
        return _account(self.sandbox.identities.create_account(project, email, at_once=False, **fields))

    @method("projects.serviceAccounts.get", permission=None)
    def get(self, call: Call) -> dict[str, Any]:
        """Return one service account."""
        return _account(self._allowed(call, "iam.serviceAccounts.get"))

    @method("projects.serviceAccounts.list", permission=None)
    def list(self, call: Call) -> dict[str, Any]:
        """Return the service accounts of a project."""
        project = self._project(call)
        call.require("iam.serviceAccounts.list", f"//iam.googleapis.com/projects/{project.id}")
        accounts = [_account(body) for body in self.sandbox.identities.accounts(project)]
        return call.page(accounts, key="accounts", default=20, maximum=100)

    @method("projects.serviceAccounts.patch", permission=None)
    def patch(self, call: Call) -> dict[str, Any]:
        """Change display name or description; the answer has only the fields of the request."""
        body = self._allowed(call, "iam.serviceAccounts.update")
        self._allowed(call, "iam.serviceAccounts.get")
        wanted = call.body.get("serviceAccount", {})
        mask = [part.strip() for part in call.body.get("updateMask", "").split(",") if part.strip()]
        if unknown := [field for field in mask if field not in MUTABLE]:
            raise invalid(f"Invalid update mask: {', '.join(unknown)} cannot be updated.")
        if not mask:
            raise invalid("The update mask must not be empty.")
        names = [MUTABLE[field] for field in mask]
        self._change(body, {name: wanted.get(name, "") for name in names}, wanted.get("etag"))
        return {name: body[name] for name in ("name", *names) if name in body}

    @method("projects.serviceAccounts.update", permission=None)
    def update(self, call: Call) -> dict[str, Any]:
        """Change the display name; superseded by patch."""
        body = self._allowed(call, "iam.serviceAccounts.update")
        self._change(body, {"displayName": call.body.get("displayName", "")}, call.body.get("etag"))
        return _account(body)

    def _change(self, body: dict[str, Any], fields: dict[str, str], etag: str | None) -> None:
        if not etags.matches(etag, body["etag"]):
            raise aborted(
                "There were concurrent changes to the service account. Please retry the whole read-modify-write."
            )
        _check_texts(fields)
        for name, value in fields.items():
            if value:
                body[name] = value
            else:
                body.pop(name, None)
        self.sandbox.identities.save_account(body)

    @method("projects.serviceAccounts.delete", permission=None)
    def delete(self, call: Call) -> dict[str, Any]:
        """Delete a service account; it can be brought back by its unique id."""
        self.sandbox.identities.delete_account(self._allowed(call, "iam.serviceAccounts.delete"))
        return {}

    @method("projects.serviceAccounts.undelete", permission=None)
    def undelete(self, call: Call) -> dict[str, Any]:
        """Bring a deleted service account back, its keys excepted."""
        unique_id = call.params["name"].rpartition("/")[2]
        body = self.sandbox.identities.undelete_account(unique_id)
        if body is None:
            raise not_found(
                f"Service account {unique_id} cannot be undeleted: it does not exist or its address is taken."
            )
        call.require("iam.serviceAccounts.undelete", f"//iam.googleapis.com/projects/{body['projectId']}")
        return {"restoredAccount": _account(body)}

    @method("projects.serviceAccounts.disable", permission=None)
    def disable(self, call: Call) -> dict[str, Any]:
        """Make an account's credentials useless until it is enabled again."""
        body = self._allowed(call, "iam.serviceAccounts.disable")
        self.sandbox.identities.save_account({**body, "disabled": True})
        return {}

    @method("projects.serviceAccounts.enable", permission=None)
    def enable(self, call: Call) -> dict[str, Any]:
        """Enable again after `disable`."""
        body = self._allowed(call, "iam.serviceAccounts.enable")
        body.pop("disabled", None)
        self.sandbox.identities.save_account(body)
        return {}

    @method("projects.serviceAccounts.signBlob", permission=None)
    def sign_blob(self, call: Call) -> dict[str, Any]:
        """Superseded by iamcredentials."""
        body = self._allowed(call, "iam.serviceAccounts.signBlob")
        data = base64.b64decode(call.body.get("bytesToSign", ""))
        key_id, signature = self.sandbox.identities.sign_blob(body, data)
        return {"keyId": key_id, "signature": base64.b64encode(signature).decode()}

    @method("projects.serviceAccounts.signJwt", permission=None)
    def sign_jwt(self, call: Call) -> dict[str, Any]:
        """Superseded by iamcredentials."""
        body = self._allowed(call, "iam.serviceAccounts.signJwt")
        return self.sandbox.identities.sign_claims(body, call.body.get("payload", ""))

    # --- keys ---------------------------------------------------------------------------------------------------

    @method("projects.serviceAccounts.keys.create", permission=None)
    def create_key(self, call: Call) -> dict[str, Any]:
        """Return a new key pair; the private half is in this answer and nowhere else."""
        account = self._allowed(call, "iam.serviceAccountKeys.create")
        kind = call.body.get("privateKeyType", "TYPE_GOOGLE_CREDENTIALS_FILE")
        if kind == "TYPE_UNSPECIFIED":
            kind = "TYPE_GOOGLE_CREDENTIALS_FILE"
        if kind != "TYPE_GOOGLE_CREDENTIALS_FILE":
            raise invalid("Only TYPE_GOOGLE_CREDENTIALS_FILE keys can be made here.")
        self._check_room(account)
        key, file = self.sandbox.identities.create_key(account)
        data = base64.b64encode(json.dumps(file, indent=2).encode()).decode()
        return {**_key(key), "privateKeyType": kind, "privateKeyData": data}

    @method("projects.serviceAccounts.keys.upload", permission=None)
    def upload_key(self, call: Call) -> dict[str, Any]:
        """Register a public key (an RSA X.509 certificate in PEM) made elsewhere."""
        account = self._allowed(call, "iam.serviceAccountKeys.create")
        try:
            pem = base64.b64decode(call.body.get("publicKeyData", "")).decode()
            public = tokens.load_public(pem)
        except ValueError as error:
            raise invalid("Invalid public key data: an X.509 certificate in PEM format is needed.") from error
        if not isinstance(public, rsa.RSAPublicKey) or "CERTIFICATE" not in pem:
            raise invalid("Invalid public key data: an X.509 certificate of an RSA key is needed.")
        self._check_room(account)
        key_id = hashlib.sha1(pem.encode(), usedforsecurity=False).hexdigest()
        now = datetime.datetime.now(datetime.UTC)
        key = self.sandbox.identities.add_key(account, key_id, pem, origin="USER_PROVIDED", start=now)
        return _key(key)

    @method("projects.serviceAccounts.keys.list", permission=None)
    def list_keys(self, call: Call) -> dict[str, Any]:
        """Return the account's keys, of one type or both."""
        account = self._allowed(call, "iam.serviceAccountKeys.list")
        types = set(call.query.get("keyTypes", [])) - {"KEY_TYPE_UNSPECIFIED"}
        keys = [_key(body) for body in self.sandbox.identities.keys(account["email"])]
        system = self.sandbox.identities.existing_system_key(account)
        if system:
            keys.append(_system_key(account, system))
        keys = [key for key in keys if not types or key["keyType"] in types]
        return {"keys": keys} if keys else {}

    @method("projects.serviceAccounts.keys.get", permission=None)
    def get_key(self, call: Call) -> dict[str, Any]:
        """Return one key, on request with its public half."""
        body = self._own_key(call, "iam.serviceAccountKeys.get")
        shown = _key(body)
        match call.query.get("publicKeyType", "TYPE_NONE"):
            case "TYPE_X509_PEM_FILE":
                shown["publicKeyData"] = base64.b64encode(body["pem"].encode()).decode()
            case "TYPE_RAW_PUBLIC_KEY":
                raw = tokens.public_pem(tokens.load_public(body["pem"]))
                shown["publicKeyData"] = base64.b64encode(raw.encode()).decode()
        return shown

    @method("projects.serviceAccounts.keys.delete", permission=None)
    def delete_key(self, call: Call) -> dict[str, Any]:
        """Delete a user-managed key; what it signed is refused from now on."""
        body = self._own_key(call, "iam.serviceAccountKeys.delete")
        self.sandbox.identities.delete_key(_email_in(body["name"]), body["id"])
        return {}

    @method("projects.serviceAccounts.keys.disable", permission=None)
    def disable_key(self, call: Call) -> dict[str, Any]:
        """Make a key useless until it is enabled again."""
        body = self._own_key(call, "iam.serviceAccountKeys.disable")
        self.sandbox.identities.save_key({"email": _email_in(body["name"])}, {**body, "disabled": True})
        return {}

    @method("projects.serviceAccounts.keys.enable", permission=None)
    def enable_key(self, call: Call) -> dict[str, Any]:
        """Enable again after `disable`."""
        body = self._own_key(call, "iam.serviceAccountKeys.enable")
        self.sandbox.identities.save_key({"email": _email_in(body["name"])}, {**body, "disabled": False})
        return {}

    def _own_key(self, call: Call, permission: str) -> dict[str, Any]:
        name, _, key_id = call.params["name"].rpartition("/keys/")
        account = self._allowed(call, permission, name)
        for body in self.sandbox.identities.keys(account["email"]):
            if body["id"] == key_id:
                return body
        raise not_found(f"Service account key {key_id} does not exist.", reason="notFound")

    def _check_room(self, account: dict[str, Any]) -> None:
        if len(self.sandbox.identities.keys(account["email"])) >= MAX_KEYS:
            raise failed_precondition("Precondition check failed.")

    # --- roles and permissions ----------------------------------------------------------------------------------

    @method("roles.get", permission=None)
    def get_role(self, call: Call) -> dict[str, Any]:
        """Return a predefined role and its permissions."""
        role = self.sandbox.iam.roles.get(call.params["name"])
        if role is None:
            raise not_found(f"The role named {call.params['name']} was not found.")
        return _role(role, full=True)

    @method("roles.list", permission=None)
    def list_roles(self, call: Call) -> dict[str, Any]:
        """Return the predefined roles that the sandbox knows."""
        full = call.query.get("view") == "FULL"
        roles = (
            []
            if call.query.get("parent")
            else [_role(self.sandbox.iam.roles.get(name), full=full) for name in self.sandbox.iam.roles.names()]
        )
        return call.page(roles, key="roles", default=300, maximum=1000)

    @method("projects.roles.get", permission="iam.roles.get", on=lambda call: _role_parent(call, "name"))
    def get_project_role(self, call: Call) -> dict[str, Any]:
        """Custom roles: there are none, as the sandbox cannot make them."""
        raise not_found(f"The role named {call.params['name']} was not found.")

    @method("projects.roles.list", permission="iam.roles.list", on=lambda call: _role_parent(call, "parent"))
    def list_project_roles(self, call: Call) -> dict[str, Any]:
        """Custom roles: there are none, as the sandbox cannot make them."""
        return {}

    @method("roles.queryGrantableRoles", permission=None)
    def query_grantable_roles(self, call: Call) -> dict[str, Any]:
        """Return the roles that can be granted on a resource: basic ones on projects, a service's on its resources."""
        resource = call.body.get("fullResourceName", "")
        names = [name for name in self.sandbox.iam.roles.names() if _grantable(name, resource)]
        full = call.body.get("view") == "FULL"
        return self._paged(
            call, "roles", [_role(self.sandbox.iam.roles.get(name), full=full) for name in names], 300, 2000
        )

    @method("permissions.queryTestablePermissions", permission=None)
    def query_testable_permissions(self, call: Call) -> dict[str, Any]:
        """Return the permissions that testIamPermissions accepts on a resource."""
        service = _service_of(call.body.get("fullResourceName", ""))
        found = [
            p
            for p in sorted(self.sandbox.iam.roles.all_permissions)
            if service == "resourcemanager" or p.startswith(f"{service}.")
        ]
        return self._paged(call, "permissions", [{"name": name, "stage": "GA"} for name in found], 100, 1000)

    @staticmethod
    def _paged(call: Call, key: str, items: list[Any], default: int, maximum: int) -> dict[str, Any]:
        """`Call.page` for methods that have the page in the body."""
        call.query = {name: call.body[name] for name in ("pageSize", "pageToken") if name in call.body}
        return call.page(items, key=key, default=default, maximum=maximum)

    # --- deny policies (v2) -------------------------------------------------------------------------------------

    @method("policies.createPolicy", permission=None)
    def create_deny(self, call: Call) -> dict[str, Any]:
        """Attach a deny policy to a project, folder or organization."""
        point = self._attachment(call, call.params["parent"], "create")
        policy_id = call.query.get("policyId", "")
        if not re.fullmatch(r"[a-z][-a-z0-9.]{2,62}", policy_id):
            raise invalid(f"Invalid policy ID {policy_id!r}: 3 to 63 lower-case letters, digits, dots and hyphens.")
        key = f"{point}/denypolicies/{policy_id}"
        if self.store.get(DENY_KIND, key):
            raise already_exists("Requested entity already exists")
        body = {
            "name": f"{self._deny_parent(point)}/{policy_id}",
            "uid": "1" + "".join(secrets.choice("0123456789") for _ in range(20)),
            "kind": "DenyPolicy",
            "createTime": call.now,
            **_deny_content(call),
        }
        self.store.put(DENY_KIND, key, body, parent=point)
        return _deny_operation(call, body)

    @method("policies.listPolicies", permission=None)
    def list_deny(self, call: Call) -> dict[str, Any]:
        """Return the deny policies attached to something, without their rules."""
        point = self._attachment(call, call.params["parent"], "list")
        rows = self.store.list(DENY_KIND, parent=point)
        shown = [{key: value for key, value in body.items() if key != "rules"} for _, body in rows]
        return call.page(shown, key="policies", default=1000, maximum=1000)

    @method("policies.get", permission=None)
    def get_deny(self, call: Call) -> dict[str, Any]:
        """Return one deny policy."""
        return self._deny(call, "get")[1]

    @method("policies.update", permission=None)
    def update_deny(self, call: Call) -> dict[str, Any]:
        """Replace a deny policy's rules, display name and annotations."""
        key, body = self._deny(call, "update")
        kept = {name: body[name] for name in ("name", "uid", "kind", "createTime")}
        updated = {**kept, **_deny_content(call)}
        self.store.put(DENY_KIND, key, updated, parent=key.partition("/denypolicies/")[0])
        return _deny_operation(call, updated)

    @method("policies.delete", permission=None)
    def delete_deny(self, call: Call) -> dict[str, Any]:
        """Remove a deny policy."""
        key, body = self._deny(call, "delete")
        self.store.delete(DENY_KIND, key)
        return _deny_operation(call, {**body, "deleteTime": call.now})

    @method("policies.operations.get", permission=None)
    def get_deny_operation(self, call: Call) -> dict[str, Any]:
        """Changes of deny policies are done when they are answered, so every operation is."""
        return {"name": call.params["name"], "done": True}

    def _deny(self, call: Call, verb: str) -> tuple[str, dict[str, Any]]:
        parent, _, policy_id = call.params["name"].rpartition("/")
        key = f"{self._attachment(call, parent, verb)}/denypolicies/{policy_id}"
        body = self.store.get(DENY_KIND, key)
        if body is None:
            raise not_found("Requested entity was not found.")
        etag = call.query.get("etag") or call.body.get("etag")
        if verb in ("update", "delete") and not etags.matches(etag, body["etag"]):
            raise aborted("The policy was changed concurrently: its etag is not the one given.")
        return key, body

    def _attachment(self, call: Call, parent: str, verb: str) -> str:
        """Full resource name of the attachment point in `policies/<encoded>/denypolicies`, permission checked."""
        match = re.fullmatch(r"policies/([^/]+(?:/[^/]+)*)/denypolicies", unquote(parent))
        if match is None or not match[1].startswith("cloudresourcemanager.googleapis.com/"):
            raise invalid("Invalid attachment point: it must be a project, folder or organization.")
        point = self.sandbox.projects.canonical(f"//{match[1]}")
        if not self.sandbox.iam.allowed(call.caller, point, f"iam.denypolicies.{verb}"):
            raise permission_denied(
                f"Permission iam.googleapis.com/denypolicies.{verb} denied on resource {point.removeprefix('//')}"
            )
        return point

    def _deny_parent(self, point: str) -> str:
        """`policies/<encoded attachment point>/denypolicies` with a project's number, as answers have it."""
        name = point.removeprefix(MANAGER)
        project = self.sandbox.projects.get(name.removeprefix("projects/")) if name.startswith("projects/") else None
        name = f"projects/{project.number}" if project else name
        return f"policies/cloudresourcemanager.googleapis.com%2F{name.replace('/', '%2F')}/denypolicies"

    # --- private ------------------------------------------------------------------------------------------------

    def _project(self, call: Call) -> Project:
        return call.project(call.params["name"].removeprefix("projects/"))

    def _account(self, name: str) -> dict[str, Any]:
        """Return the account of `projects/P/serviceAccounts/E`, where P may be "-" and E a unique id; ApiError 404."""
        _, project_id, _, identifier = name.split("/")[:4]
        body = self.sandbox.identities.account(identifier)
        project = self.sandbox.projects.get(project_id) if project_id != "-" else None
        if body is None or (project_id != "-" and (project is None or project.id != body["projectId"])):
            raise _unknown_account()
        return body

    def _allowed(self, call: Call, permission: str, name: str = "") -> dict[str, Any]:
        """Return the account that a call names, once the caller was found to have the permission on it.

        Callers without access get the same error for an account that does not exist.
        """
        name = name or call.params["name"]
        try:
            body = self._account(name)
        except ApiError:
            home = self.sandbox.identities.project_of(name.rpartition("/")[2])
            project_id = home.id if home else name.split("/")[1]
            call.require(
                permission, f"//iam.googleapis.com/projects/{project_id}/serviceAccounts/{name.rpartition('/')[2]}"
            )
            raise
        call.require(permission, f"//iam.googleapis.com/{body['name']}")
        return body


def _account(body: dict[str, Any]) -> dict[str, Any]:
    shown = {name: body[name] for name in ACCOUNT_FIELDS if body.get(name)}
    return {**shown, "disabled": True} if body.get("disabled") else shown


def _key(body: dict[str, Any]) -> dict[str, Any]:
    shown = {
        "name": body["name"],
        "validAfterTime": body["validAfterTime"],
        "validBeforeTime": body["validBeforeTime"],
        "keyAlgorithm": "KEY_ALG_RSA_2048",
        "keyOrigin": body["origin"],
        "keyType": "USER_MANAGED",
    }
    return {**shown, "disabled": True} if body.get("disabled") else shown


def _system_key(account: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": f"{account['name']}/keys/{body['id']}",
        "validAfterTime": body["validAfterTime"],
        "validBeforeTime": body["validBeforeTime"],
        "keyAlgorithm": "KEY_ALG_RSA_2048",
        "keyOrigin": "GOOGLE_PROVIDED",
        "keyType": "SYSTEM_MANAGED",
    }


def _role(role: Role | None, *, full: bool) -> dict[str, Any]:
    assert role is not None
    shown: dict[str, Any] = {"name": role.name, "title": role.title, "stage": "GA", "etag": "AA=="}
    return {**shown, "includedPermissions": sorted(role.permissions)} if full else shown


def _role_parent(call: Call, parameter: str) -> str:
    return MANAGER + "/".join(call.params[parameter].split("/")[:2])


def _service_of(resource: str) -> str:
    """First part of the permissions about a resource: `resourcemanager` for a project."""
    host = resource.removeprefix("//").partition(".")[0]
    return {"cloudresourcemanager": "resourcemanager", "sqladmin": "cloudsql", "cloudbilling": "billing"}.get(
        host, host
    )


def _grantable(role: str, resource: str) -> bool:
    service = _service_of(resource)
    return service == "resourcemanager" or (role not in BASIC and role.startswith(f"roles/{service}."))


def _deny_content(call: Call) -> dict[str, Any]:
    body = call.body
    if not body.get("rules"):
        raise invalid("A deny policy needs at least one rule.")
    content = {name: body[name] for name in ("displayName", "annotations", "rules") if body.get(name)}
    return {**content, "updateTime": call.now, "etag": base64.b64encode(secrets.token_bytes(12)).decode()}


def _deny_operation(call: Call, body: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": f"{body['name']}/operations/{secrets.token_hex(8)}",
        "metadata": {"@type": f"{V2}PolicyOperationMetadata", "createTime": call.now},
        "done": True,
        "response": {"@type": f"{V2}Policy", **body},
    }


def _email_in(key_name: str) -> str:
    return key_name.split("/")[3]


def _check_texts(fields: dict[str, Any]) -> None:
    if len(fields.get("displayName", "")) > 100:
        raise invalid("The display name must be at most 100 characters long.")
    if len(fields.get("description", "").encode()) > 256:
        raise invalid("The description must be at most 256 bytes long.")


def _unknown_account() -> ApiError:
    return not_found("Unknown service account", reason="notFound")
