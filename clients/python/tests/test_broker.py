# SPDX-License-Identifier: Apache-2.0
"""Which credential a server gets, and when it is made anew."""

from __future__ import annotations

import os
import threading
import time

import pytest
import requests
from _world import ACCOUNT, ACCOUNT_KEY, CUSTOM, GOOGLE_KEY, IAM_HOST, MANAGED, answer, claims_of

from mlflow_google_auth.errors import AuthError

URL = "https://m.example"


def test_a_custom_client_gets_an_id_token_for_its_id(world, broker, user):
    world.serve("m.example", iap=CUSTOM)
    found = broker.credential(URL)
    said = claims_of(found.value, GOOGLE_KEY[1])
    assert (said["aud"], said["email"], found.email) == (CUSTOM, ACCOUNT, ACCOUNT)
    assert world.counts == {"generateIdToken": 1}


def test_a_managed_client_gets_a_jwt_that_the_account_signed_for_the_address(world, broker, user):
    world.serve("m.example", iap=MANAGED, managed=True)
    said = claims_of(broker.credential(URL).value, ACCOUNT_KEY[1])
    assert said["aud"] == "https://m.example/*"
    assert said["iss"] == said["sub"] == ACCOUNT
    assert said["exp"] - said["iat"] == 3600


def test_the_invoker_check_gets_an_id_token_for_the_service(world, broker, user):
    world.serve("m.example", invoker=True)
    found = broker.credential(URL)
    assert claims_of(found.value, GOOGLE_KEY[1])["aud"] == found.audience == "https://m.example"


def test_a_server_without_access_control_gets_no_token_and_no_credentials_are_read(world, broker):
    world.serve("m.example")
    assert broker.credential(URL) is None
    assert broker.credential(URL) is None
    assert len(world.seen) == 1, "one request"


def test_the_server_is_asked_once(world, broker, user):
    server = world.serve("m.example", iap=CUSTOM)
    for _ in range(50):
        broker.credential(URL)
    assert len(world.requests("m.example")) == 2, "a probe, and whether IAP takes ID tokens"
    assert len(server.reached) == 1
    assert world.counts["generateIdToken"] == 1


def test_whether_a_role_is_missing_does_not_decide_which_token_is_right(world, broker, user):
    world.serve("m.example", iap=CUSTOM).lets_in = False
    assert broker.credential(URL).audience == CUSTOM


def test_a_server_below_a_path_is_asked_there_and_its_tokens_are_for_the_host(world, broker, user):
    """As behind a load balancer, which has other backends for other paths."""
    inner = world.serve("m.example", iap=MANAGED, managed=True)
    world.hosts["m.example"] = lambda request: (
        inner(request) if request.path_url.startswith("/mlflow/") else answer(request, 200, "another backend")
    )
    assert broker.credential("https://m.example/mlflow/").audience == "https://m.example/*"
    assert broker.credential("https://m.example/shop") is None


@pytest.mark.parametrize("url", ["http://m.example/", "sqlite:///x.db", "databricks", "file:///tmp"])
def test_what_can_be_read_on_the_way_gets_nothing(world, broker, user, url):
    assert broker.credential(url) is None
    assert world.seen == []


def test_off_is_off(world, broker, user, monkeypatch):
    monkeypatch.setenv("MLFLOW_GOOGLE_AUTH_MODE", "off")
    assert broker.credential(URL) is None
    assert world.seen == []


@pytest.mark.parametrize(
    ("mode", "audience", "expected"),
    [
        ("iam", "", "https://m.example"),
        ("iam", "https://x-ew.a.run.app", "https://x-ew.a.run.app"),
        ("iap-jwt", "", "https://m.example/*"),
        ("iap-jwt", "https://lb.example/*", "https://lb.example/*"),
        ("iap-id-token", CUSTOM, CUSTOM),
    ],
)
def test_a_complete_mode_sends_no_request(world, broker, user, monkeypatch, mode, audience, expected):
    monkeypatch.setenv("MLFLOW_GOOGLE_AUTH_MODE", mode)
    monkeypatch.setenv("MLFLOW_GOOGLE_AUTH_AUDIENCE", audience)
    assert broker.credential(URL).audience == expected
    assert world.requests("m.example") == []


def test_an_audience_decides_between_the_two_of_iap(world, broker, user, monkeypatch):
    world.serve("m.example", iap=MANAGED, managed=True)
    monkeypatch.setenv("MLFLOW_GOOGLE_AUTH_AUDIENCE", "https://m.example/api/*")
    assert claims_of(broker.credential(URL).value, ACCOUNT_KEY[1])["aud"] == "https://m.example/api/*"
    monkeypatch.setenv("MLFLOW_GOOGLE_AUTH_AUDIENCE", "77-allowed.apps.googleusercontent.com")
    assert claims_of(broker.credential(URL).value, GOOGLE_KEY[1])["aud"] == "77-allowed.apps.googleusercontent.com"


def test_id_tokens_need_a_client_id(world, broker, user, monkeypatch):
    monkeypatch.setenv("MLFLOW_GOOGLE_AUTH_MODE", "iap-id-token")
    mark = {"X-Goog-IAP-Generated-Response": "true"}
    world.hosts["m.example"] = lambda request: answer(request, 401, "Invalid IAP credentials", mark)
    with pytest.raises(AuthError, match="MLFLOW_GOOGLE_AUTH_AUDIENCE"):
        broker.credential(URL)


def test_another_identity_has_tokens_of_its_own(world, broker, user, monkeypatch):
    world.serve("m.example", invoker=True)
    first = broker.credential(URL)
    monkeypatch.setenv("MLFLOW_GOOGLE_AUTH_IMPERSONATE", "other@p.iam.gserviceaccount.com")
    second = broker.credential(URL)
    assert (first.email, second.email) == (ACCOUNT, "other@p.iam.gserviceaccount.com")
    assert world.requests(IAM_HOST)[-1].url.endswith("/other@p.iam.gserviceaccount.com:generateIdToken")


def test_a_server_that_did_not_answer_is_asked_again(world, broker, user, monkeypatch):
    def fail(request):
        raise requests.ConnectionError("starting")

    monkeypatch.setattr("mlflow_google_auth.broker.UNREACHABLE", 0.05)
    world.hosts["m.example"] = fail
    assert broker.credential(URL) is None
    world.serve("m.example", invoker=True)
    time.sleep(0.06)
    assert broker.credential(URL) is not None


def test_short_lived_tokens_are_renewed_in_time_and_not_at_each_request(world, broker, user, clock):
    """Tokens of 30 s, used all the time for 100 s: never an expired one, and one every 24 s."""
    world.lifetime = 30.0
    world.serve("m.example", invoker=True)
    for _ in range(1000):
        said = claims_of(broker.credential(URL).value, GOOGLE_KEY[1])
        assert said["exp"] > time.time(), "an expired token was handed out"
        clock.advance(0.1)
    assert world.counts["generateIdToken"] == 5


def test_many_threads_cause_one_renewal(world, broker, user):
    world.before_token = lambda: time.sleep(0.2)
    world.serve("m.example", invoker=True)
    found, barrier = [], threading.Barrier(20)

    def use():
        barrier.wait()
        found.append(broker.credential(URL).value)

    threads = [threading.Thread(target=use) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20 and len(set(found)) == 1
    assert world.counts["generateIdToken"] == 1


def test_while_one_thread_renews_the_others_use_the_old_token(world, broker, user, clock):
    world.lifetime = 30.0
    server = world.serve("m.example", invoker=True)
    old = broker.credential(URL)
    clock.advance(25)  # no longer fresh, still usable
    asked, go_on = threading.Event(), threading.Event()
    world.before_token = lambda: (asked.set(), go_on.wait(120))
    renewing = threading.Thread(target=broker.credential, args=(URL,))
    renewing.start()
    assert asked.wait(120)
    assert broker.credential(URL).value == old.value
    go_on.set()
    renewing.join()
    assert broker.credential(URL).value != old.value
    assert server.reached == []


def test_a_renewal_that_fails_leaves_the_old_token_while_it_lasts(world, broker, user, caplog, clock):
    world.lifetime = 30.0
    world.serve("m.example", invoker=True)
    old = broker.credential(URL)
    world.denied = "Permission 'iam.serviceAccounts.getOpenIdToken' denied"
    clock.advance(25)
    assert broker.credential(URL).value == old.value
    assert "the old one is still valid" in caplog.text and "getOpenIdToken" in caplog.text
    assert old.value not in caplog.text
    clock.advance(4)
    with pytest.raises(AuthError, match="getOpenIdToken"):
        broker.credential(URL)


def test_what_failed_is_not_tried_at_each_request(world, broker, user, clock):
    world.serve("m.example", invoker=True)
    world.denied = "denied"
    for _ in range(20):
        with pytest.raises(AuthError, match=r"roles/iam\.serviceAccountTokenCreator on demo-dev-client"):
            broker.credential(URL)
    assert world.counts["generateIdToken"] == 1
    clock.advance(11)
    world.denied = ""
    assert broker.credential(URL) is not None


def test_a_rejected_token_is_made_anew_unless_it_was_made_just_now(world, broker, user, clock):
    world.serve("m.example", invoker=True)
    first = broker.credential(URL)
    assert broker.rejected(URL, first) is False
    assert broker.credential(URL).value == first.value
    clock.advance(60)
    assert broker.rejected(URL, first) is True
    second = broker.credential(URL)
    assert second.value != first.value
    assert broker.rejected(URL, first) is True, "another thread has renewed it already"
    assert broker.credential(URL).value == second.value


def test_after_a_change_to_a_managed_client_the_server_is_asked_again(world, broker, user, clock):
    world.serve("m.example", iap=CUSTOM)
    first = broker.credential(URL)
    world.serve("m.example", iap=MANAGED, managed=True)
    clock.advance(60)
    broker.rejected(URL, first)
    assert broker.credential(URL).audience == "https://m.example/*"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_that_was_forked_during_a_renewal_goes_on(world, broker, user, clock):
    """As the workers of a DataLoader: the lock was held by a thread that does not exist in the child."""
    world.lifetime = 30.0
    world.serve("m.example", invoker=True)
    broker.credential(URL)
    clock.advance(31)  # the caller waits for the lock
    asked, go_on = threading.Event(), threading.Event()
    world.before_token = lambda: (asked.set(), go_on.wait(120))
    renewing = threading.Thread(target=broker.credential, args=(URL,))
    renewing.start()
    assert asked.wait(120)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        world.before_token = lambda: None
        try:
            found = broker.credential(URL)
            os.write(writer, b"ok" if claims_of(found.value, GOOGLE_KEY[1])["exp"] > time.time() else b"expired")
        finally:
            os._exit(0)
    os.close(writer)
    for _attempt in range(6000):
        if os.waitpid(child, os.WNOHANG) != (0, 0):
            break
        time.sleep(0.01)
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
        pytest.fail("the child waits for a lock that no thread holds")
    go_on.set()
    renewing.join()
    assert os.read(reader, 10) == b"ok"
    os.close(reader)


def test_a_credential_is_not_shown(world, broker, user):
    world.serve("m.example", invoker=True)
    found = broker.credential(URL)
    assert found.value not in repr(found)
