# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils import _errors

URL = "https://run.googleapis.com/v2/projects/p/locations/l/services/s?x=1"


def made(status, body=None, method="GET", url=URL, **more):
    return _errors.from_response(status, body, method=method, url=url, caller="me@p.iam.gserviceaccount.com", **more)


def rpc(code, message="no", reason="", metadata=None, details=()):
    error = {"code": 1, "status": code, "message": message, "details": list(details)}
    if reason:
        error["details"].append({"@type": "x/google.rpc.ErrorInfo", "reason": reason, "metadata": metadata or {}})
    return {"error": error}


def legacy(reason, message="no"):
    return {"error": {"errors": [{"reason": reason, "message": message}], "message": message}}


@pytest.mark.parametrize(
    ("status", "body", "method", "kind"),
    [
        (400, rpc("INVALID_ARGUMENT"), "POST", _errors.InvalidRequest),
        (400, rpc("FAILED_PRECONDITION"), "POST", _errors.InvalidRequest),
        (401, rpc("UNAUTHENTICATED"), "GET", _errors.Unauthenticated),
        (403, rpc("PERMISSION_DENIED"), "GET", _errors.PermissionDenied),
        (403, legacy("forbidden"), "GET", _errors.PermissionDenied),
        (403, rpc("PERMISSION_DENIED", reason="SERVICE_DISABLED"), "GET", _errors.ApiDisabled),
        (403, legacy("accessNotConfigured"), "GET", _errors.ApiDisabled),
        (403, rpc("PERMISSION_DENIED", reason="BILLING_DISABLED"), "GET", _errors.BillingDisabled),
        (403, legacy("accountDisabled"), "GET", _errors.BillingDisabled),
        (
            400,
            rpc("FAILED_PRECONDITION", "Billing account for project 1 is not found."),
            "POST",
            _errors.BillingDisabled,
        ),
        (403, legacy("rateLimitExceeded"), "GET", _errors.QuotaExceeded),
        (403, legacy("quotaExceeded"), "POST", _errors.QuotaExceeded),
        (429, rpc("RESOURCE_EXHAUSTED"), "GET", _errors.QuotaExceeded),
        (404, rpc("NOT_FOUND"), "GET", _errors.NotFound),
        (409, rpc("ALREADY_EXISTS"), "POST", _errors.AlreadyExists),
        (409, legacy("instanceAlreadyExists"), "POST", _errors.AlreadyExists),
        (400, legacy("invalid", 'Detail: pq: database "d" already exists.'), "POST", _errors.AlreadyExists),
        (
            400,
            legacy("invalid", "Error 1007: Can't create 'd'; database exists"),
            "POST",
            _errors.AlreadyExists,
        ),
        (400, rpc("FAILED_PRECONDITION", 'etag ["1"] does not match the latest etag ["2"]'), "PATCH", _errors.Conflict),
        (409, legacy("operationInProgress"), "PATCH", _errors.OperationInProgress),
        (
            409,
            rpc("ABORTED", "Cannot operate on apps/p because an operation is already in progress for apps/p by 1-2."),
            "POST",
            _errors.OperationInProgress,
        ),
        (409, rpc("ABORTED"), "POST", _errors.Conflict),
        (409, legacy("conflict"), "PATCH", _errors.Conflict),
        (412, legacy("conditionNotMet"), "PATCH", _errors.Conflict),
        (400, legacy("staleData"), "PATCH", _errors.Conflict),
        (500, {}, "GET", _errors.Unavailable),
        (503, rpc("UNAVAILABLE"), "GET", _errors.Unavailable),
        (501, rpc("UNIMPLEMENTED"), "GET", _errors.InvalidRequest),
        (502, "<html>", "GET", _errors.Unavailable),
        (400, {"error": "invalid_grant"}, "POST", _errors.InvalidRequest),
    ],
)
def test_kinds(status, body, method, kind):
    error = made(status, body, method)
    assert error.__class__ is kind
    assert error.url == URL.partition("?")[0]
    assert error.status == status


def test_permission_from_metadata():
    error = made(
        403, rpc("PERMISSION_DENIED", reason="IAM_PERMISSION_DENIED", metadata={"permission": "run.services.get"})
    )
    assert error.failure()["permission"] == "run.services.get"
    assert "me@p.iam.gserviceaccount.com lacks the permission run.services.get" in str(error)


@pytest.mark.parametrize(
    ("text", "permission"),
    [
        ("Permission 'run.services.get' denied on resource 'projects/p'", "run.services.get"),
        ("Possibly missing permission cloudsql.instances.get on resource instances/x.", "cloudsql.instances.get"),
        ("me@p.iam.gserviceaccount.com does not have storage.buckets.get access to it", "storage.buckets.get"),
        ("You do not have permission to act as 'a@p.iam.gserviceaccount.com'", "iam.serviceAccounts.actAs"),
        ("The client is not authorized to make this request to www.googleapis.com.", "known.from.before"),
    ],
)
def test_permission_from_words(text, permission):
    error = made(403, rpc("PERMISSION_DENIED", text), project="p", permission="known.from.before")
    assert error.facts["permission"] == permission
    assert "gcloud projects add-iam-policy-binding p --member=serviceAccount:me@p.iam.gserviceaccount.com" in str(error)


def test_permission_hint_for_authenticated_and_anonymous_callers():
    assert "--member=user:a@example.com" in _errors.permission_hint("x.y.z", "a@example.com", "p")
    assert "--role=roles/run.viewer " in _errors.permission_hint("run.services.get", "a@example.com", "p")
    assert "--role=ROLE " in _errors.permission_hint("x.y.z", "a@example.com", "p")
    hint = _errors.permission_hint("", "", "")
    assert hint.startswith("The caller lacks a permission for this.") and "PROJECT --member=MEMBER" in hint


def test_disabled_api_says_how_to_enable_it():
    body = rpc(
        "PERMISSION_DENIED",
        reason="SERVICE_DISABLED",
        metadata={"service": "run.googleapis.com", "consumer": "projects/7"},
    )
    error = made(403, body)
    assert (error.service, error.consumer) == ("run.googleapis.com", "7")
    assert "gcloud services enable run.googleapis.com --project=7" in str(error)


def test_disabled_api_of_a_service_that_does_not_say_which():
    error = made(403, legacy("accessNotConfigured"), url="https://europe-west1-run.googleapis.com/v1/x", project="p")
    assert (error.service, error.consumer) == ("run.googleapis.com", "p")


def test_billing_and_quota_name_the_project():
    assert "billing/linkedaccount?project=p" in str(made(403, legacy("accountDisabled"), project="p"))
    body = rpc(
        "RESOURCE_EXHAUSTED", reason="RATE_LIMIT_EXCEEDED", metadata={"quota_metric": "run.googleapis.com/reads"}
    )
    error = made(429, body, project="p")
    assert error.facts["quota"] == "run.googleapis.com/reads"
    assert "run.googleapis.com/reads" in str(error) and "quotas?project=p" in str(error)


def test_only_rate_limits_are_retried():
    assert made(429, rpc("RESOURCE_EXHAUSTED")).retryable
    assert made(403, legacy("rateLimitExceeded")).retryable
    assert not made(403, legacy("quotaExceeded")).retryable
    assert made(503).retryable
    assert not made(404).retryable


def test_violations_are_reported():
    details = [{"fieldViolations": [{"field": "spec.name", "description": "too long"}, {"description": "bad"}, "odd"]}]
    text = str(made(400, rpc("INVALID_ARGUMENT", details=details)))
    assert "[spec.name: too long]" in text and "[bad]" in text


def test_an_error_without_words():
    assert "answered 500: the service answered 500 without saying why" in str(made(500, None))


def test_message_and_hint_read_as_sentences():
    assert str(_errors.GcpError("It broke", "Mend it.")) == "It broke. Mend it."
    assert str(_errors.GcpError("It broke!", "Mend it.")) == "It broke! Mend it."
    assert str(_errors.GcpError("It broke")) == "It broke"
    assert _errors.GcpError("m", "", a=1, b="", c=None).failure() == {"msg": "m", "a": 1}
