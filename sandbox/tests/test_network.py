# SPDX-License-Identifier: Apache-2.0
"""The network: proxy, TLS, browser port, request log. All that clients have is the sandbox's proxy and CA."""

import asyncio
import dataclasses
import http.client
import http.server
import json
import socket
import ssl
import statistics
import threading
import time
from pathlib import Path

import pytest
import requests
from gcp_sandbox.environment import variables
from gcp_sandbox.gateway.messages import Response
from gcp_sandbox.gateway.requestlog import RequestReader
from gcp_sandbox.gateway.service import Service, route
from gcp_sandbox.network.listeners import Listeners, bind
from gcp_sandbox.sandbox import Sandbox
from gcp_sandbox.testing import Client

REAL = "app-abc123.cloudfunctions.net"


class Echo(Service):
    """A service with routes only."""

    name = "echo"
    versions = ()
    hosts = ("echo.googleapis.com",)
    sized = 0

    @route("GET", "/v1/{name}/{rest+}", auth="none")
    def get(self, call):
        return {"params": call.params, "query": call.query}

    @route("POST", "/upload", auth="none", spool=True)
    def upload(self, call):
        return {"size": call.media.size, "spooled": call.media.path.stat().st_size, "type": call.media.content_type}

    @route("POST", "/json", auth="none")
    def json(self, call):
        self.sized += 1
        return {"size": len(call.raw)}

    @route("GET", "/file", auth="none")
    def file(self, call):
        return Response(path=self.sandbox.settings.state / "file", start=1_000_000, length=2_500_000)

    @route("GET", "/stream", auth="none")
    def stream(self, call):
        return Response(stream=(f"{n};".encode() for n in range(3)))

    @route("GET", "/who", auth="required")
    def who(self, call):
        return {"email": call.caller.email}


async def application(scope, receive, send):
    """A deployed application that shows its request."""
    headers = {k.decode(): v.decode() for k, v in scope["headers"]}
    body = json.dumps({"headers": headers, "origin": scope["gcp_sandbox"]["origin"], "path": scope["path"]}).encode()
    extra = [
        (b"location", b"https://app-abc123.cloudfunctions.net/next?a=b"),
        (b"set-cookie", b"__Host-session=1; Path=/; Secure; SameSite=None; HttpOnly"),
        (b"set-cookie", b"plain=2; Domain=app-abc123.cloudfunctions.net"),
    ]
    if scope["path"] == "/away":
        extra[0] = (b"location", b"https://accounts.google.com/o/oauth2?x=1")
    if scope["path"] == "/elsewhere":
        extra[0] = (b"location", b"https://example.org/")
    await send({"type": "http.response.start", "status": 302, "headers": extra})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def live(tmp_path_factory, new_settings):
    """A listening sandbox with a service and a deployed application of the test's own."""
    with new_settings(tmp_path_factory.mktemp("live")) as settings:
        yield from _live(settings)


def _live(settings):
    settings, sockets = bind(settings)
    sandbox = Sandbox(settings)
    sandbox.add(Echo(sandbox))
    loop = asyncio.new_event_loop()
    listeners = Listeners(sandbox, sockets, lambda: None)
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(listeners.start(), loop).result(60)
    sandbox.start()
    sandbox.ingress.register("app-*.cloudfunctions.net", application)
    sandbox.ingress.publish(labels=lambda: ["app"], locate={"app": REAL}.get)
    yield sandbox
    asyncio.run_coroutine_threadsafe(listeners.stop(), loop).result(60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(60)
    sandbox.stop()


@pytest.fixture
def web(live):
    """A session that goes through the proxy and trusts the bundle, and nothing else."""
    session = requests.Session()
    session.trust_env = False
    session.proxies = {"https": live.settings.proxy_url, "http": live.settings.proxy_url}
    session.verify = str(live.settings.ca_bundle)
    yield session
    session.close()


def test_routes_get_decoded_parameters(web):
    answer = web.get("https://echo.googleapis.com/v1/a%2Fb/c/d%20e?x=1&y=")
    assert answer.json() == {"params": {"name": "a/b", "rest": "c/d e"}, "query": {"x": "1", "y": ""}}
    assert answer.headers["content-type"] == "application/json; charset=UTF-8"


def test_the_certificate_is_for_the_host_that_was_asked_for(live):
    context = ssl.create_default_context(cafile=str(live.settings.ca_certificate))
    for name in ("storage.googleapis.com", "secretmanager.mtls.googleapis.com", "x-y.a.run.app"):
        with (
            socket.create_connection(("127.0.0.1", live.settings.ports.tls)) as plain,
            context.wrap_socket(plain, server_hostname=name) as secure,
        ):
            assert dict(secure.getpeercert())["subjectAltName"] == (("DNS", name),)


def test_a_client_without_the_ca_refuses_the_certificate(web):
    web.verify = True
    with pytest.raises(requests.exceptions.SSLError):
        web.get("https://echo.googleapis.com/v1/a/b")


def test_unknown_paths_get_googles_page_and_unknown_services_name_themselves(web):
    page = web.get("https://secretmanager.googleapis.com/v7/nothing?secret=1")
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=UTF-8")
    assert "<code>/v7/nothing</code>" in page.text
    missing = web.get("https://spanner.googleapis.com/v1/x")
    assert missing.status_code == 501
    assert "spanner.googleapis.com" in missing.json()["error"]["message"]


def test_methods_that_are_not_implemented_name_themselves(live, web):
    token = live.identities.mint_access_token(f"deployer@{live.settings.project}.iam.gserviceaccount.com")
    url = "https://storage.googleapis.com/storage/v1/b/x/notificationConfigs"
    answer = web.get(url, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 501
    assert "storage.notifications.list" in answer.json()["error"]["message"]


def test_credentials_are_asked_for_and_checked(live, web):
    missing = web.get("https://echo.googleapis.com/who")
    assert missing.status_code == 401
    assert missing.headers["www-authenticate"].startswith("Bearer ")
    assert web.get("https://echo.googleapis.com/who", headers={"Authorization": "Bearer ya29.x"}).status_code == 401
    token = live.identities.mint_access_token("alice@example.com")
    found = web.get("https://echo.googleapis.com/who", headers={"Authorization": f"Bearer {token}"})
    assert found.json() == {"email": "alice@example.com"}


def test_uploads_are_spooled_and_removed(live, web):
    data = (b"x" * 1_000_000 for _ in range(20))
    answer = web.post("https://echo.googleapis.com/upload", data=data, headers={"Content-Type": "a/b"})
    assert answer.json() == {"size": 20_000_000, "spooled": 20_000_000, "type": "a/b"}
    deadline = time.monotonic() + 60
    while list(live.settings.spool.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert list(live.settings.spool.iterdir()) == []


def test_json_bodies_have_a_limit(web, monkeypatch):
    monkeypatch.setattr("gcp_sandbox.network.app.MAX_JSON", 1000)
    assert web.post("https://echo.googleapis.com/json", data=b"x" * 1000).json() == {"size": 1000}
    assert web.post("https://echo.googleapis.com/json", data=b"x" * 1001).status_code == 413


def test_files_are_sent_in_ranges_and_streams_in_pieces(live, web):
    content = bytes(range(256)) * 20_000
    (live.settings.state / "file").write_bytes(content)
    answer = web.get("https://echo.googleapis.com/file")
    assert answer.headers["content-length"] == "2500000"
    assert answer.content == content[1_000_000:3_500_000]
    head = web.head("https://echo.googleapis.com/file")
    assert (head.headers["content-length"], head.content) == ("2500000", b"")
    assert web.get("https://echo.googleapis.com/stream").text == "0;1;2;"


def test_a_kept_connection_does_not_stall(live, web):
    """A delayed acknowledgement (40 ms) would make a request more than a hundred times as long as the answer takes."""
    inside = Client(live)

    def through_the_network():
        web.get("https://echo.googleapis.com/v1/a/b")

    def with_a_body():
        web.post("https://echo.googleapis.com/json", data=b"{}")

    def in_this_process():
        inside.get("https://echo.googleapis.com/v1/a/b")

    def median(request):
        times = []
        for _ in range(50):
            began = time.perf_counter()
            request()
            times.append(time.perf_counter() - began)
        return statistics.median(times)

    through_the_network()
    # The best of three in turn: other load of the machine is not what is measured.
    rounds = [[median(request) for request in (through_the_network, with_a_body, in_this_process)] for _ in range(3)]
    plain, body, answer = (min(times) for times in zip(*rounds, strict=True))
    assert plain < 50 * answer
    assert body < 4 * plain


@pytest.mark.parametrize(("kind", "processed"), [("reset", 0), ("lost", 1)])
def test_faults_close_the_connection(live, web, kind, processed):
    before = live.services["echo"].sized
    live.set_faults([{"kind": kind, "method": "POST /json"}])
    try:
        with pytest.raises(requests.exceptions.ConnectionError):
            web.post("https://echo.googleapis.com/json", data=b"{}")
        assert web.get("https://echo.googleapis.com/v1/fine/x").status_code == 200
    finally:
        live.faults.clear()
    assert live.services["echo"].sized - before == processed


def test_faults_answer_with_errors(live, web):
    live.set_faults([{"kind": 503, "service": "echo", "first": 1, "retry_after": 7}])
    try:
        busy = web.get("https://echo.googleapis.com/v1/busy/x")
        assert (busy.status_code, busy.headers["retry-after"]) == (503, "7")
        assert web.get("https://echo.googleapis.com/v1/busy/x").status_code == 200
    finally:
        live.faults.clear()


def test_a_round_trip_is_added(live, web, monkeypatch):
    web.get("https://echo.googleapis.com/v1/a/b")
    monkeypatch.setattr(live, "settings", dataclasses.replace(live.settings, rtt=0.2))
    began = time.monotonic()
    web.get("https://echo.googleapis.com/v1/a/b")
    assert time.monotonic() - began >= 0.2


def test_requests_are_logged_without_their_query(live, web):
    token = live.identities.mint_access_token("alice@example.com")
    began = time.time()
    web.get("https://echo.googleapis.com/v1/logged/b?password=hunter2", headers={"User-Agent": "test/1"})
    web.get("https://echo.googleapis.com/who", headers={"Authorization": f"Bearer {token}"})
    web.get(f"https://{REAL}/inside", allow_redirects=False)
    live.requests.flush()
    reader = RequestReader(live.settings.state / "requests.sqlite3")
    rows = reader.select(since=began)
    assert [(row.service, row.status) for row in rows] == [("echo", 200), ("echo", 200), ("ingress", 302)]
    assert rows[0].method == "GET /v1/{name}/{rest+}"
    assert (rows[0].agent, rows[0].path) == ("test/1", "/v1/logged/b")
    assert rows[1].caller == "alice@example.com"
    stored = (live.settings.state / "requests.sqlite3").read_bytes()
    stored += (live.settings.state / "requests.sqlite3-wal").read_bytes()
    assert b"hunter2" not in stored and token.encode() not in stored
    assert reader.select(since=began, service="ingress", method="app-") == rows[2:]
    assert [row[:3] for row in reader.table(since=began)] == [("echo", 2, 0), ("ingress", 1, 0)]
    reader.close()


# -- the proxy --------------------------------------------------------------------------------------------------------


def _proxy(live, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", live.settings.ports.proxy), timeout=10) as connection:
        connection.sendall(request)
        answer = b""
        while data := connection.recv(65536):
            answer += data
    return answer


def test_other_hosts_are_reached_through_the_proxy(live):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"x" * 3_000_000)

        def log_message(self, *args):
            """Quiet."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    connection = http.client.HTTPConnection("127.0.0.1", live.settings.ports.proxy, timeout=10)
    connection.set_tunnel("127.0.0.1", server.server_address[1])
    connection.request("GET", "/")
    assert len(connection.getresponse().read()) == 3_000_000
    connection.close()
    server.shutdown()
    server.server_close()


def test_other_hosts_are_reached_through_the_machines_own_proxy(live, monkeypatch):
    """The sandbox's proxy as upstream of itself would loop, so this one is a few lines of its own."""
    asked = []

    def upstream(listener):
        connection, _ = listener.accept()
        asked.append(connection.recv(10_000).decode())
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nhello from behind")
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=upstream, args=(listener,))
        thread.start()
        monkeypatch.setenv("https_proxy", f"http://me:s%40cret@127.0.0.1:{listener.getsockname()[1]}")
        answer = _proxy(live, b"CONNECT example.org:443 HTTP/1.1\r\n\r\n")
        thread.join(60)
    assert answer.endswith(b"hello from behind")
    assert asked[0].startswith("CONNECT example.org:443 HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic bWU6c0BjcmV0\r\n" in asked[0]


def test_the_proxy_explains_what_it_refuses(live):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert _proxy(live, f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode()).startswith(b"HTTP/1.1 502 ")
    assert _proxy(live, b"CONNECT nonsense HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert b"HTTPS_PROXY" in _proxy(live, b"GET http://example.org/ HTTP/1.1\r\n\r\n")
    redirect = _proxy(live, f"GET http://{REAL}/x HTTP/1.1\r\n\r\n".encode())
    assert redirect.startswith(b"HTTP/1.1 302 ") and f"Location: https://{REAL}/x".encode() in redirect


def test_a_client_that_distrusts_the_certificate_does_no_harm(live, web):
    with socket.create_connection(("127.0.0.1", live.settings.ports.proxy), timeout=10) as connection:
        connection.sendall(b"CONNECT echo.googleapis.com:443 HTTP/1.1\r\n\r\n")
        assert b" 200 " in connection.recv(1000)
        connection.sendall(b"this is not TLS\r\n")
        connection.recv(1000)
    assert web.get("https://echo.googleapis.com/v1/a/b").status_code == 200


def test_everything_listens_on_loopback_only(live):
    ports = {f"{port:04X}" for port in dataclasses.astuple(live.settings.ports)}
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = {(line[1].split(":")[0], line[1].split(":")[1]) for line in lines if line[3] == "0A"}
    assert {address for address, port in listening if port in ports} == {"0100007F"}


# -- the browser port --------------------------------------------------------------------------------------------------


def visit(live, label, path="/", **headers):
    port = live.settings.ports.browser
    url = f"http://127.0.0.1:{port}{path}"
    return requests.get(url, headers={"Host": f"{label}:{port}", **headers}, allow_redirects=False, timeout=10)


def test_the_browser_port_shows_the_application_its_real_host(live):
    origin = f"http://app.localhost:{live.settings.ports.browser}"
    answer = visit(live, "app.localhost", "/a", Origin=origin, Referer=f"{origin}/b", Cookie="localhost-Host-session=1")
    seen = answer.json()
    assert seen["headers"]["host"] == REAL
    assert seen["headers"]["origin"] == f"https://{REAL}"
    assert seen["headers"]["referer"] == f"https://{REAL}/b"
    assert seen["headers"]["cookie"] == "__Host-session=1"
    assert (seen["origin"], seen["path"]) == (origin, "/a")
    assert answer.headers["location"] == f"{origin}/next?a=b"
    assert answer.raw.headers.getlist("set-cookie") == ["localhost-Host-session=1; Path=/; HttpOnly", "plain=2"]


def test_the_browser_port_rewrites_google_addresses_only(live):
    port = live.settings.ports.browser
    assert visit(live, "app.localhost", "/away").headers["location"] == (
        f"http://accounts.google.com.localhost:{port}/o/oauth2?x=1"
    )
    assert visit(live, "app.localhost", "/elsewhere").headers["location"] == "https://example.org/"
    assert visit(live, "echo.googleapis.com.localhost", "/v1/a/b").json()["params"]["name"] == "a"


def test_the_browser_port_has_an_index_and_a_page_for_unknown_names(live):
    port = live.settings.ports.browser
    assert f'href="http://app.localhost:{port}/"' in visit(live, "localhost").text
    missing = visit(live, "nothing.localhost")
    assert missing.status_code == 404 and "nothing.localhost" in missing.text
    assert visit(live, "example.org").status_code == 404


def test_the_environment_names_existing_files(live):
    values = variables(live.settings, live.settings.credentials / "deployer.json")
    assert values["HTTPS_PROXY"] == values["https_proxy"] == live.settings.proxy_url
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "GOOGLE_APPLICATION_CREDENTIALS"):
        with open(values[name]) as file:
            assert file.read(1)
    assert (live.settings.credentials / "deployer.json").stat().st_mode & 0o077 == 0
    assert live.settings.state.stat().st_mode & 0o077 == 0
