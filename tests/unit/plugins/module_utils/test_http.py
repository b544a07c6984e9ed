# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import email.utils
import time

import google.auth.exceptions
import pytest
import requests
from ansible_collections.mlplatform.gcp.plugins.module_utils import _errors, _http
from ansible_collections.mlplatform.gcp.tests.unit.plugins import _scripted

URL = "https://run.googleapis.com/v2/x"
LOST = requests.exceptions.ConnectionError("Connection aborted.")
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
    cloud.expect("POST", URL, error=requests.exceptions.ConnectionError("NewConnectionError: refused"))
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
    from urllib3.exceptions import MaxRetryError, NewConnectionError

    inner = NewConnectionError(None, "Connection refused")
    outer = requests.exceptions.ConnectionError(MaxRetryError(None, "/", reason=inner))
    assert "Connection refused" in _http._reason(outer) and "NewConnectionError" in _http._reason(outer)


def test_version_is_the_collections():
    import pathlib

    import yaml

    root = pathlib.Path(_scripted.__file__).resolve().parents[3]
    assert yaml.safe_load((root / "galaxy.yml").read_text())["version"] == _http.VERSION


class TestTls:
    """Real connections to a server of our own."""

    @pytest.fixture
    def server(self, tmp_path, monkeypatch):
        import http.server
        import ssl
        import threading

        import trustme

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b'{"ok": true}')

            def log_message(self, *args):
                """Keep the test's output clean."""

        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        bundle = tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(bundle)
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
        yield f"https://localhost:{server.server_port}/"
        server.shutdown()
        server.server_close()

    @staticmethod
    def client(cloud):
        from ansible_collections.mlplatform.gcp.plugins.module_utils import _credentials

        return _http.Client(_credentials.from_params({"access_token": "t"}), clock=cloud.clock)

    def test_one_reading_of_the_bundle_serves_all_connections(self, cloud, server):
        _http._tls_context.cache_clear()
        _http.warm_up()
        for _again in range(2):
            assert self.client(cloud).get(server) == {"ok": True}
        assert _http._tls_context.cache_info().misses == 1

    def test_an_untrusted_certificate_is_rejected(self, cloud, server, tmp_path, monkeypatch):
        import trustme

        trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "other.pem"))
        with pytest.raises(_errors.ConnectionFailed, match="CERTIFICATE_VERIFY_FAILED"):
            self.client(cloud).get(server)

    def test_another_name_is_refused(self, cloud, server):
        with pytest.raises(_errors.ConnectionFailed, match="127"):
            self.client(cloud).get(server.replace("localhost", "127.0.0.1"))

    def test_a_bundle_that_is_not_there_is_no_concern_of_the_warm_up(self, monkeypatch):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/file")
        _http.warm_up()
