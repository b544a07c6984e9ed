# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import email.utils
import time

import google.auth.exceptions
import pytest
import requests
import trustme
from ansible_collections.mlplatform.gcp.plugins.module_utils import _credentials, _errors, _http
from ansible_collections.mlplatform.gcp.tests.unit.plugins import _loopback, _scripted
from urllib3.exceptions import MaxRetryError, NewConnectionError

URL = "https://run.googleapis.com/v2/x"
LOST = requests.exceptions.ConnectionError("Connection aborted.")
REFUSED = NewConnectionError(None, "Connection refused")
UNSENT = requests.exceptions.ConnectTimeout("no answer")


def test_headers_name_the_collection(cloud):
    cloud.expect("GET", URL, body={"a": 1})
    assert cloud.client.get(URL, {"q": 1}) == {"a": 1}
    headers = cloud.requests[0].headers
    assert headers["User-Agent"].startswith(f"mlplatform.gcp/{_http.VERSION} ")
    assert cloud.requests[0].query == {"q": 1}


def test_raw_and_empty_responses(cloud):
    cloud.expect("GET", URL, body=b"bytes")
    assert cloud.client.request("GET", URL, raw=True).content == b"bytes"
    cloud.expect("DELETE", URL, status=204)
    assert cloud.client.request("DELETE", URL) == {}
    cloud.expect("GET", URL, body=b"<html>")
    assert cloud.client.get(URL) == {}


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_reads_are_retried_with_jitter(cloud, status):
    for _again in range(3):
        cloud.expect_error("GET", URL, status)
    cloud.expect("GET", URL, body={"a": 1})
    assert cloud.client.get(URL) == {"a": 1}
    assert cloud.clock.slept == [0.5, 1.0, 2.0]


def test_retries_end(cloud):
    for _again in range(_http.ATTEMPTS):
        cloud.expect_error("GET", URL, 503)
    with pytest.raises(_errors.Unavailable):
        cloud.client.get(URL)
    cloud.done()


def test_lost_connections_are_retried_where_that_is_safe(cloud):
    cloud.expect("GET", URL, error=LOST)
    cloud.expect("GET", URL, body={})
    cloud.client.get(URL)
    cloud.expect("POST", URL, error=LOST)
    with pytest.raises(_errors.ConnectionFailed, match="Connection aborted"):
        cloud.client.post(URL, {})
    cloud.expect("POST", URL, error=LOST)
    cloud.expect("POST", URL, body={})
    cloud.client.post(URL, {}, safe=True)
    cloud.done()


def test_what_was_never_sent_is_sent_again(cloud):
    cloud.expect("POST", URL, error=UNSENT)
    cloud.expect("POST", URL, error=requests.exceptions.ConnectionError(MaxRetryError(None, "/", reason=REFUSED)))
    cloud.expect("POST", URL, body={"ok": True})
    assert cloud.client.post(URL) == {"ok": True}


def test_an_unsafe_post_is_not_repeated_after_a_server_error_but_after_a_rate_limit(cloud):
    cloud.expect_error("POST", URL, 503)
    with pytest.raises(_errors.Unavailable):
        cloud.client.post(URL)
    cloud.expect_error("POST", URL, 429, code="RESOURCE_EXHAUSTED")
    cloud.expect("POST", URL, body={})
    cloud.client.post(URL)
    cloud.done()


def test_retry_after_in_seconds_and_as_a_date(cloud):
    cloud.expect_error("GET", URL, 503, headers={"Retry-After": "7"})
    cloud.expect_error("GET", URL, 503, headers={"Retry-After": email.utils.formatdate(time.time() + 20, usegmt=True)})
    cloud.expect_error("GET", URL, 503, headers={"Retry-After": "nonsense"})
    cloud.expect("GET", URL, body={})
    cloud.client.get(URL)
    assert cloud.clock.slept[0] == 7
    assert 15 < cloud.clock.slept[1] <= 21
    assert cloud.clock.slept[2] == 2.0


def test_a_long_retry_after_is_not_waited_for(cloud):
    cloud.expect_error("GET", URL, 503, headers={"Retry-After": "3600"})
    with pytest.raises(_errors.Unavailable):
        cloud.client.get(URL)
    assert cloud.clock.slept == []


def test_credentials_errors(cloud):
    cloud.expect("GET", URL, error=google.auth.exceptions.RefreshError("bad key"))
    with pytest.raises(_errors.CredentialsError, match="bad key"):
        cloud.client.get(URL)
    cloud.expect("GET", URL, error=google.auth.exceptions.TransportError("token endpoint away"))
    cloud.expect("GET", URL, body={})
    cloud.client.get(URL)


DISABLED = {
    "reason": "SERVICE_DISABLED",
    "code": "PERMISSION_DENIED",
    "metadata": {"service": "run.googleapis.com", "consumer": "projects/7"},
}
STATE = "https://serviceusage.googleapis.com/v1/projects/7/services/run.googleapis.com"


def test_an_api_that_was_just_enabled_is_waited_for(cloud):
    cloud.expect_error("POST", URL, 403, **DISABLED)
    cloud.expect("GET", STATE, body={"state": "ENABLED"})
    cloud.expect_error("POST", URL, 403, **DISABLED)
    cloud.expect("POST", URL, body={"ok": 1})
    assert cloud.client.post(URL) == {"ok": 1}
    assert cloud.clock.slept == [5, 5]


def test_that_wait_ends(cloud):
    cloud.expect_error("GET", URL, 403, **DISABLED)
    cloud.expect("GET", STATE, body={"state": "ENABLED"})
    for _again in range(_http.ENABLED_SECONDS // 5):
        cloud.expect_error("GET", URL, 403, **DISABLED)
    with pytest.raises(_errors.ApiDisabled):
        cloud.client.get(URL)
    cloud.done()


def test_a_disabled_api_fails_at_once(cloud):
    cloud.expect_error("GET", URL, 403, **DISABLED)
    cloud.expect("GET", STATE, body={"state": "DISABLED"})
    with pytest.raises(_errors.ApiDisabled):
        cloud.client.get(URL)
    cloud.expect_error("GET", URL, 403, **DISABLED)
    cloud.expect_error("GET", STATE, 403, code="PERMISSION_DENIED")
    with pytest.raises(_errors.ApiDisabled):
        cloud.client.get(URL)
    own = dict(DISABLED, metadata={"service": "serviceusage.googleapis.com", "consumer": "projects/7"})
    cloud.expect_error("GET", STATE, 403, **own)
    with pytest.raises(_errors.ApiDisabled):
        cloud.client.get(STATE)
    assert cloud.clock.slept == []


def test_the_innermost_reason_is_reported():
    outer = requests.exceptions.ConnectionError(MaxRetryError(None, "/", reason=REFUSED))
    assert "Connection refused" in _http._reason(outer) and "NewConnectionError" in _http._reason(outer)


def test_version_is_the_collections():
    import pathlib

    import yaml

    root = pathlib.Path(_scripted.__file__).resolve().parents[3]
    assert yaml.safe_load((root / "galaxy.yml").read_text())["version"] == _http.VERSION


@pytest.fixture
def server(tmp_path, monkeypatch):
    server = _loopback.Server(tmp_path)
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.bundle))
    yield server
    server.close()


@pytest.fixture
def client(cloud):
    """A client with real connections, and the test's clock."""
    return _http.Client(_credentials.from_params({"access_token": "t"}), clock=cloud.clock)


class TestTls:
    """Real connections to a server of our own."""

    def test_one_reading_of_the_bundle_serves_all_connections(self, client, server):
        _http._tls_context.cache_clear()
        _http.warm_up()
        for _again in range(2):
            assert client.get(server.url) == {"ok": True}
        assert _http._tls_context.cache_info().misses == 1

    def test_an_untrusted_certificate_is_rejected(self, client, server, tmp_path, monkeypatch):
        trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "other.pem"))
        with pytest.raises(_errors.ConnectionFailed, match="CERTIFICATE_VERIFY_FAILED") as raised:
            client.post(server.url)
        assert server.arrived == [] and not raised.value.sent

    def test_another_name_is_refused(self, client, server):
        with pytest.raises(_errors.ConnectionFailed, match="127"):
            client.get(server.url.replace("localhost", "127.0.0.1"))

    @pytest.mark.parametrize("content", [None, "no certificate"])
    def test_a_bundle_that_cannot_be_read_is_an_error_of_the_first_request(
        self, cloud, client, server, tmp_path, monkeypatch, content
    ):
        path = tmp_path / "bundle.pem"
        if content:
            path.write_text(content)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
        _http.warm_up()
        with pytest.raises(_errors.UserError, match=r"The certificates in .*bundle\.pem cannot be read"):
            client.get(server.url)
        assert cloud.clock.slept == []


class TestProxy:
    """Real connections through a proxy of our own, which loses answers."""

    @pytest.fixture
    def through(self, server, monkeypatch):
        made = []

        def through(*plan):
            made.append(_loopback.Proxy(server, *plan))
            monkeypatch.setenv("HTTPS_PROXY", f"http://us:pa55word@{made[0].address}")
            return made[0]

        yield through
        for proxy in made:
            proxy.close()

    def test_an_answer_that_is_lost_behind_the_proxy(self, client, server, through):
        through("tunnel")
        server.lose = "POST /"
        with pytest.raises(_errors.ConnectionFailed, match="may have processed it: run the task again") as raised:
            client.post(server.url)
        assert server.writes() == ["POST /"]
        assert raised.value.sent and "pa55word" not in str(raised.value)

    def test_a_safe_write_is_sent_again(self, client, server, through):
        through("tunnel")
        server.lose = "POST /"
        assert client.post(server.url, safe=True) == {"ok": True}
        assert server.writes() == ["POST /"] * 2

    def test_without_a_tunnel_nothing_was_sent(self, client, server, through):
        proxy = through("refuse", "tunnel")
        assert client.post(server.url) == {"ok": True}
        assert server.writes() == ["POST /"]
        assert len(proxy.asked) == 2

    def test_a_proxy_that_does_not_listen(self, client, server, through):
        through("tunnel").close()
        with pytest.raises(_errors.ConnectionFailed) as raised:
            client.post(server.url)
        assert not raised.value.sent and "may have" not in str(raised.value)

    def test_a_proxy_that_hangs_up_may_have_sent_it(self, client, server, through):
        through("hang up", "tunnel")
        with pytest.raises(_errors.ConnectionFailed):
            client.post(server.url)
        assert server.writes() == []

    def test_what_was_made_is_found_and_not_made_again(self, cloud, client, server, through):
        through("tunnel")
        server.lose = "POST /"
        assert client.post(server.url, made=lambda: client.get(f"{server.url}made")) == {"ok": True}
        assert server.arrived == ["POST /", "GET /made"]
        assert cloud.clock.slept == [_http.SETTLED_SECONDS]

    def test_what_was_not_made_is_made(self, client, server, through):
        through("tunnel")
        server.lose = "POST /"
        assert client.post(server.url, made=lambda: None) == {"ok": True}
        assert server.writes() == ["POST /"] * 2

    def test_white_space_around_its_address(self, client, server, through, monkeypatch):
        proxy = through("tunnel")
        monkeypatch.setenv("HTTPS_PROXY", f" http://us:pa55word@{proxy.address}\n")
        assert client.get(server.url) == {"ok": True}
        assert "Proxy-Authorization: Basic dXM6cGE1NXdvcmQ=" in proxy.asked[0]


class TestMade:
    """What happens to an unsafe request without an answer."""

    STALLED = requests.exceptions.ReadTimeout("Read timed out.")

    def test_a_server_error_is_looked_into_too(self, cloud):
        cloud.expect_error("POST", URL, 503)
        assert cloud.client.post(URL, made=lambda: {"found": 1}) == {"found": 1}

    def test_after_a_time_out_it_is_never_sent_again(self, cloud):
        cloud.expect("POST", URL, error=self.STALLED)
        with pytest.raises(_errors.ConnectionFailed, match=r"Read timed out.*may have processed it"):
            cloud.client.post(URL, made=lambda: None)
        cloud.expect("POST", URL, error=self.STALLED)
        assert cloud.client.post(URL, made=lambda: {"found": 1}) == {"found": 1}
        cloud.done()

    def test_without_a_look_it_is_not_sent_again(self, cloud):
        def made():
            raise _errors.PermissionDenied("no", status=403)

        cloud.expect("POST", URL, error=LOST)
        with pytest.raises(_errors.ConnectionFailed, match="Connection aborted"):
            cloud.client.post(URL, made=made)
        cloud.done()

    def test_a_refusal_is_no_lost_answer(self, cloud):
        cloud.expect_error("POST", URL, 400)
        with pytest.raises(_errors.InvalidRequest) as raised:
            cloud.client.post(URL, made=lambda: {"found": 1})
        assert not raised.value.repeated

    def test_errors_after_a_lost_answer_say_so(self, cloud):
        cloud.expect("POST", URL, error=LOST)
        cloud.expect_error("POST", URL, 409)
        with pytest.raises(_errors.AlreadyExists) as raised:
            cloud.client.post(URL, safe=True)
        assert raised.value.repeated


@pytest.mark.parametrize(
    "error",
    [
        requests.exceptions.InvalidURL("Failed to parse: http://us:pa55word@h:x"),
        requests.exceptions.InvalidHeader("return character(s) in header value: 'Bearer 12345\\n'"),
        ValueError("Invalid header value b'Basic dXM6cGE1NXdvcmQ='"),
        UnicodeEncodeError("latin-1", "pa55word", 0, 1, "ordinal not in range(256)"),
    ],
)
def test_what_a_library_rejects_is_shown_once_and_without_secrets(cloud, error):
    cloud.expect("GET", URL, error=error)
    with pytest.raises(_errors.UserError, match="cannot be sent") as raised:
        cloud.client.get(URL)
    assert cloud.clock.slept == []
    assert not any(secret in str(raised.value) for secret in ("pa55word", "12345", "dXM6cGE1NXdvcmQ"))
