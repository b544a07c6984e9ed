# SPDX-License-Identifier: Apache-2.0
"""Test the detection of the access control and the request for it."""

from __future__ import annotations

import pathlib

import pytest
import requests
from _world import CUSTOM, answer

from mlflow_google_auth import guard
from mlflow_google_auth.guard import IAM, IAP, NONE, Guard, look


def test_iap_is_detected_with_the_client_of_its_sign_in_page(world):
    world.serve("m.example", iap=CUSTOM)
    assert look("https://m.example", 5) == Guard(IAP, CUSTOM)


def test_cloud_runs_invoker_check_is_detected_by_its_text(world):
    world.serve("m.example", invoker=True)
    assert look("https://m.example", 5) == Guard(IAM)


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (200, "OK", {}),
        (404, "not found", {"Content-Type": "text/html"}),
        (401, "You are not authenticated.", {"WWW-Authenticate": 'Basic realm="mlflow"'}),
        (403, "Invalid Host header - possible DNS rebinding attack detected", {"Content-Type": "text/plain"}),
        (403, '{"error_code": "PERMISSION_DENIED"}', {"Content-Type": "application/json"}),
        (302, "", {"Location": "https://accounts.google.com/o/oauth2/v2/auth?client_id=the-applications-own"}),
        (302, "", {"Location": "/login"}),
    ],
)
def test_an_answer_of_the_application_is_no_guards(world, status, body, headers):
    world.hosts["m.example"] = lambda request: answer(request, status, body, headers)
    assert look("https://m.example", 5) == Guard(NONE)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_overloaded_server_tells_nothing(world, status):
    world.hosts["m.example"] = lambda request: answer(request, status, "later")
    assert look("https://m.example", 5) is None


def test_an_error_of_iap_is_still_iap(world):
    mark = {"X-Goog-IAP-Generated-Response": "true"}
    world.hosts["m.example"] = lambda request: answer(request, 500, "Empty Google Account OAuth client ID(s).", mark)
    assert look("https://m.example", 5) == Guard(IAP)


def test_a_server_that_cannot_be_reached_tells_nothing(world):
    def fail(request):
        raise requests.ConnectionError("no route")

    world.hosts["m.example"] = fail
    assert look("https://m.example", 5) is None


def test_the_probe_carries_no_credentials_not_even_those_of_netrc(world, monkeypatch, tmp_path):
    netrc = pathlib.Path(tmp_path) / "netrc"
    netrc.write_text("machine m.example login ada password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    world.serve("m.example")
    look("https://m.example", 5)
    (probe,) = world.requests("m.example")
    assert probe.url == "https://m.example/health"
    assert not {"authorization", "proxy-authorization", "cookie"} & {name.lower() for name in probe.headers}


def test_the_probe_verifies_certificates_as_mlflow_does(world, monkeypatch):
    seen = []
    monkeypatch.setattr(
        requests.adapters.HTTPAdapter,
        "send",
        lambda adapter, request, **kwargs: (seen.append(kwargs["verify"]), answer(request, 200))[1],
    )
    look("https://m.example", 5)
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", "/etc/ca.pem")
    look("https://m.example", 5)
    monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
    look("https://m.example", 5)
    assert seen == [True, "/etc/ca.pem", False]


def test_a_rejection_by_the_access_control_differs_from_one_by_mlflow(world):
    request = requests.Request("GET", "https://m.example/").prepare()
    assert guard.of_invoker(answer(request, 401, "x", {"WWW-Authenticate": 'Bearer error="invalid_token"'}))
    assert not guard.of_invoker(answer(request, 401, "x", {"WWW-Authenticate": "Basic"}))
