# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The types of errors, and their messages for the user.

Everything below the module raises a :class:`GcpError`; one place (``_module.execute``) turns it into a failed task.
A message says what happened and where; the hint says what to do next.
"""

from __future__ import annotations

import re

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment import deployer_roles

# What to do about a lost connection.
NETWORK = "Check the network, the proxy settings (HTTPS_PROXY, REQUESTS_CA_BUNDLE) and https://status.cloud.google.com"

# What to do about an operation that failed for no reason of the user's.
INTERNAL = "The error is internal to the service: run the task again, which reads what exists and continues."


class GcpError(Exception):
    """Base of every error that a user is meant to read.

    ``repeated`` says that the answer to an earlier attempt of the same request was lost: it may have succeeded.
    """

    repeated = False

    def __init__(self, message, hint="", **facts):
        super().__init__(message)
        self.message = message.rstrip()
        self.hint = hint
        self.facts = facts

    def __str__(self):
        if not self.hint:
            return self.message
        return "{} {}".format(self.message if self.message.endswith((".", "!", "?")) else self.message + ".", self.hint)

    def failure(self):
        """The failed result: ``msg`` and whatever facts the error carries."""
        return dict({key: value for key, value in self.facts.items() if value not in (None, "")}, msg=str(self))


class UserError(GcpError):
    """The task's own options cannot work."""


class CredentialsError(GcpError):
    """No usable credentials, or they were refused."""


class ImmutableFieldError(GcpError):
    """The task asks to change a field that the service never changes."""


class ResourceFailed(GcpError):
    """The resource is in a state from which it does not recover by waiting."""


class OperationFailed(GcpError):
    """A long-running operation ended with an error."""


class OperationTimeout(GcpError):
    """A long-running operation was still running at the task's deadline."""


class Locked(GcpError):
    """Another run changes the deployment, or has changed it since this run read it."""


class ConnectionFailed(GcpError):
    """The service could not be reached, or the connection was lost, more often than retries allow.

    ``sent`` says that the request may have been processed, ``stalled`` that it may be in process still.
    """

    sent = stalled = False


class ApiError(GcpError):
    """A response that reports an error.

    ``status`` is the HTTP status, ``code`` google.rpc's name of it (or the legacy reason), ``reason`` the reason of
    an ErrorInfo detail or of the legacy ``errors`` list, ``text`` the service's own words.
    """

    retryable = False

    def __init__(self, message, hint="", *, status=0, code="", reason="", text="", method="", url="", **facts):
        super().__init__(message, hint, status=status, reason=reason or code, url=url, **facts)
        self.status = status
        self.code = code
        self.reason = reason
        self.text = text
        self.method = method
        self.url = url


class NotFound(ApiError):
    pass


class AlreadyExists(ApiError):
    pass


class Conflict(ApiError):
    """Another client changed the resource since it was read (etag, generation, settings version)."""


class OperationInProgress(ApiError):
    """The resource is busy with another operation."""


class InvalidRequest(ApiError):
    pass


class Unauthenticated(ApiError):
    pass


class PermissionDenied(ApiError):
    pass


class ApiDisabled(ApiError):
    """The API is not enabled in the project, or was enabled a moment ago. ``service`` and ``consumer`` say which."""

    service = ""
    consumer = ""


class BillingDisabled(ApiError):
    pass


class QuotaExceeded(ApiError):
    """A limit was reached. Only a rate limit is worth another try."""

    @property
    def retryable(self):
        return "quota" not in self.reason.lower() or self.status == 429


class Unavailable(ApiError):
    retryable = True


# Reasons of services that speak the older error format, and of google.rpc.ErrorInfo.
_RATE_LIMITS = {"rateLimitExceeded", "userRateLimitExceeded", "RATE_LIMIT_EXCEEDED"}
_QUOTAS = {"quotaExceeded", "dailyLimitExceeded", "resourceQuotaExceeded", "QUOTA_EXCEEDED"}
_DISABLED = {"SERVICE_DISABLED", "accessNotConfigured"}
_BILLING = {"BILLING_DISABLED", "accountDisabled", "UREQ_PROJECT_BILLING_NOT_FOUND", "billingNotEnabled"}
# A change that is built on a stale read, in the words of Secret Manager and of Google Kubernetes Engine.
_OTHER_ETAG = re.compile(r"\betag\b.* does not match the latest etag|\bfingerprint mismatch")
# What Cloud SQL passes on from a database server.
_TAKEN = re.compile(r'database "?\S+?"? already exists|database exists')
# A resource that is busy, in the words of App Engine (with the code that others use for a stale read) and of Google
# Kubernetes Engine, which allows one operation at a time on a cluster.
_BUSY = re.compile(
    r"operation is already in progress|running incompatible operation|Operation \S+ is currently \w+ing \w+"
)
_BUSY_REASONS = {"operationInProgress", "resourceNotReady", "CLUSTER_ALREADY_HAS_OPERATION"}
_STALE = {"conditionNotMet", "staleData", "settingsVersionMismatch"}
# Cloud Run and App Engine say what deploying as a service account takes in words.
_ACT_AS = re.compile(r"ermission to act as\b")
_PERMISSION = re.compile(r"\b([a-z][a-zA-Z]+\.[a-zA-Z]+\.[a-zA-Z]+)\b(?!\.)")


class _Details:
    """The parts of an error body that matter, from either of Google's two formats."""

    def __init__(self, status, body):
        error = body.get("error") if isinstance(body, dict) else None
        if not isinstance(error, dict):
            error = {"message": error if isinstance(error, str) else ""}
        legacy = [item for item in error.get("errors") or [] if isinstance(item, dict)]
        details = [item for item in error.get("details") or [] if isinstance(item, dict)]
        info = next((item for item in details if str(item.get("@type", "")).endswith("ErrorInfo")), {})
        self.status = status
        self.text = str(error.get("message") or (legacy[0].get("message") if legacy else "") or "").strip()
        self.code = error.get("status") or ""
        self.reason = info.get("reason") or (legacy[0].get("reason") if legacy else "") or ""
        self.metadata = info.get("metadata") or {}
        self.violations = [
            violation
            for item in details
            for violation in (item.get("fieldViolations") or item.get("violations") or [])
            if isinstance(violation, dict)
        ]


def _kind(details, method):
    """The exception's type for an error body."""
    status, reason, text = details.status, details.reason, details.text
    if status == 401:
        return Unauthenticated
    if reason in _DISABLED:
        return ApiDisabled
    if reason in _BILLING or (status in (400, 403) and "billing" in text.lower()):
        return BillingDisabled
    if status == 429 or reason in _RATE_LIMITS or reason in _QUOTAS:
        return QuotaExceeded
    if status == 404:
        return NotFound
    if status == 403:
        return PermissionDenied
    if reason in _BUSY_REASONS or (status in (400, 409) and _BUSY.search(text)):
        return OperationInProgress
    if status == 412 or reason in _STALE or details.code == "ABORTED" or (status == 400 and _OTHER_ETAG.search(text)):
        return Conflict
    if status == 409:
        return AlreadyExists if method == "POST" else Conflict
    if status == 400 and method == "POST" and _TAKEN.search(text):
        return AlreadyExists
    if status >= 500 and status != 501:
        return Unavailable
    return InvalidRequest


def from_response(status, body, *, method, url, caller="", project="", permission=""):
    """The exception for an error response.

    ``body`` is the parsed JSON (anything else counts as empty), ``caller`` the identity that asked,
    ``permission`` the known permission of the request, for services that do not name it.
    """
    details = _Details(status, body)
    kind = _kind(details, method)
    text = details.text or f"the service answered {status} without saying why"
    for violation in details.violations:
        what = violation.get("description") or ""
        where = violation.get("field") or violation.get("subject") or ""
        if what and what not in text:
            text += f" [{where}: {what}]" if where else f" [{what}]"
    path = url.split("?", 1)[0]
    message = f"{method} {path} answered {status}: {text}"
    service = details.metadata.get("service") or _api_name(path)
    consumer = (details.metadata.get("consumer") or "").rsplit("/", 1)[-1] or project
    hint, facts = "", {}

    here = f"?project={consumer}" if consumer else ""
    if kind is PermissionDenied:
        needed = details.metadata.get("permission") or _named_permission(details.text) or permission
        facts["permission"] = needed
        hint = permission_hint(needed, caller, project)
    elif kind is ApiDisabled:
        message = f"The API {service} is not enabled in project {consumer or 'of the caller'} ({method} {path})"
        command = f"gcloud services enable {service}" + (f" --project={consumer}" if consumer else "")
        hint = f"Enable it with mlplatform.gcp.project_services or with: {command}"
    elif kind is BillingDisabled:
        hint = (
            f"Link an active billing account to project {consumer or 'of the request'}:"
            f" https://console.cloud.google.com/billing/linkedaccount{here}"
        )
    elif kind is QuotaExceeded:
        quota = details.metadata.get("quota_metric") or details.metadata.get("quota_limit") or ""
        facts["quota"] = quota
        hint = (
            f"The exhausted quota is {quota or 'named in the message above'}. Ask for more at"
            f" https://console.cloud.google.com/iam-admin/quotas{here} or try later."
        )
    elif kind is Unauthenticated:
        whose = f" of {caller}" if caller else ""
        hint = f"The credentials{whose} were refused: they may be expired, revoked, or of a deleted account."

    error = kind(
        message,
        hint,
        status=status,
        code=details.code,
        reason=details.reason,
        text=text,
        method=method,
        url=path,
        **facts,
    )
    if kind is ApiDisabled:
        error.service, error.consumer = service, consumer
    return error


def permission_hint(permission, caller, project):
    """Return one sentence and one command that give ``caller`` the ``permission``."""
    known = deployer_roles.smallest([permission] if permission else [])
    granting = deployer_roles.RoleSet(known.roles or ("ROLE",))
    (command,) = deployer_roles.commands(project or "PROJECT", deployer_roles.member(caller), granting)
    return "{} lacks {}. Grant a role that contains it, for example: {}".format(
        caller or "The caller",
        f"the permission {permission}" if permission else "a permission for this",
        command,
    )


def _named_permission(text):
    """The permission that a message names, such as ``storage.buckets.get``; host names do not count."""
    if _ACT_AS.search(text):
        return "iam.serviceAccounts.actAs"
    for match in _PERMISSION.finditer(text):
        if not match.group(1).endswith((".com", ".app", ".dev", ".org")):
            return match.group(1)
    return ""


def _api_name(url):
    """``run.googleapis.com`` of a URL, without a region in front of it."""
    host = url.split("//", 1)[-1].split("/", 1)[0]
    return re.sub(r"^[a-z]+-[a-z]+\d+-(?=[a-z]+\.googleapis\.com$)", "", host)
