# SPDX-License-Identifier: Apache-2.0
"""MLflow's own client with the package installed, and the answers of the servers that it talks to.

How MLflow finds the package is not arranged here: its registries load the entry points of what is installed.
"""

from __future__ import annotations

import io
import sys

import pytest
import requests
from _world import CUSTOM, GOOGLE_KEY, IAM_HOST, MANAGED, answer, claims_of, unreachable

mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed")
HOME = "https://m.example"
EACH_GUARD = pytest.mark.parametrize(
    "guard",
    [{"iap": CUSTOM}, {"iap": MANAGED, "managed": True}, {"invoker": True}],
    ids=["custom", "managed", "invoker"],
)


@pytest.fixture(autouse=True)
def tracking(monkeypatch, broker):
    """Set m.example as MLflow's tracking server in the environment."""
    from mlflow_google_auth import providers

    monkeypatch.setenv("MLFLOW_TRACKING_URI", HOME)
    monkeypatch.setattr(providers, "_warned", set())
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", None)


@pytest.fixture(params=["header", "auth"])
def entry_point(request, monkeypatch):
    """Both ways in which MLflow asks for credentials."""
    if request.param == "auth":
        monkeypatch.setenv("MLFLOW_TRACKING_AUTH", "google")
    return request.param


@pytest.fixture
def chosen(monkeypatch):
    """The auth provider, chosen as its documentation says."""
    monkeypatch.setenv("MLFLOW_TRACKING_AUTH", "google")


def ask(host=HOME, method="POST", endpoint="/api/2.0/mlflow/runs/create", **more):
    """As MLflow's stores do it."""
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    more = {"json": {"name": "x"}} | more if method == "POST" and "data" not in more else more
    return http_request(get_default_host_creds(host), endpoint, method, max_retries=0, **more)


def sent(server):
    """The last request that got through."""
    return server.reached[-1].headers


@EACH_GUARD
def test_the_client_gets_in(world, user, entry_point, guard):
    server = world.serve("m.example", **guard)
    assert ask().status_code == 200
    assert sent(server)["Authorization"].startswith("Bearer ey")
    assert "X-MLflow-Client-Version" in sent(server), "MLflow's own headers are kept"
    assert "Proxy-Authorization" not in sent(server)


def test_an_open_server_gets_nothing(world, entry_point):
    server = world.serve("m.example")
    ask()
    assert "Authorization" not in sent(server)


@pytest.mark.parametrize("login", ["password", "token"])
@pytest.mark.parametrize("guard", [{"iap": CUSTOM}, {"iap": MANAGED, "managed": True}], ids=["custom", "managed"])
def test_behind_iap_authorization_is_left_to_mlflow(world, user, entry_point, monkeypatch, guard, login):
    if login == "token":
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "mlflows-own")
        own = "Bearer mlflows-own"
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
        own = "Basic YWRhOnNlY3JldA=="
    server = world.serve("m.example", **guard)
    assert ask().status_code == 200
    assert sent(server)["Authorization"] == own
    assert sent(server)["Proxy-Authorization"].startswith("Bearer ey")


def test_behind_the_invoker_check_the_third_header_is_used(world, user, chosen, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    server = world.serve("m.example", invoker=True)
    assert ask().status_code == 200
    assert sent(server)["Authorization"] == "Basic YWRhOnNlY3JldA=="
    assert sent(server)["X-Serverless-Authorization"].startswith("Bearer ey")


def test_the_header_provider_does_not_send_what_a_redirect_would_carry_along(world, user, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "mlflows-own")
    world.serve("m.example", invoker=True)
    assert ask().status_code == 401
    assert "X-Serverless-Authorization" not in world.seen[-1].headers
    assert "MLFLOW_TRACKING_AUTH=google" in caplog.text


@pytest.mark.parametrize("other", ["https://other.example", "https://m.example:8443", "https://sub.m.example"])
def test_another_host_gets_nothing(world, user, entry_point, other):
    world.serve("m.example", invoker=True)
    server = world.serve(other.removeprefix("https://"))
    ask(other)
    ask()
    assert "Authorization" not in sent(server)
    assert len(world.requests(other.removeprefix("https://"))) == 1, "not even asked what it wants"


def test_a_host_that_the_user_names_gets_a_token(world, user, entry_point, monkeypatch):
    server = world.serve("other.example", invoker=True)
    monkeypatch.setenv("MLFLOW_GOOGLE_AUTH_HOSTS", "other.example")
    assert ask("https://other.example").status_code == 200
    assert claims_of(sent(server)["Authorization"][7:], GOOGLE_KEY[1])["aud"] == "https://other.example"


def test_the_registry_gets_a_token_of_its_own(world, user, entry_point, monkeypatch):
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "https://registry.example/")
    tracking, registry = world.serve("m.example", invoker=True), world.serve("registry.example", invoker=True)
    assert ask().status_code == ask("https://registry.example").status_code == 200
    audiences = [claims_of(sent(s)["Authorization"][7:], GOOGLE_KEY[1])["aud"] for s in (tracking, registry)]
    assert audiences == ["https://m.example", "https://registry.example"]


def test_a_tracking_server_below_a_path(world, user, entry_point, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{HOME}/mlflow/")
    server = world.serve("m.example", iap=CUSTOM)
    assert ask(f"{HOME}/mlflow").status_code == 200
    assert sent(server)["Authorization"].startswith("Bearer ey")
    asked = {request.path_url for request in world.requests("m.example")}
    assert asked == {"/mlflow/health", "/mlflow/api/2.0/mlflow/runs/create"}


def test_the_warning_about_a_google_host_without_token_is_logged_once(world, user, entry_point, caplog):
    world.serve("x-123.europe-west1.run.app")
    for _ in range(2):
        ask("https://x-123.europe-west1.run.app")
    assert caplog.text.count("MLFLOW_GOOGLE_AUTH_HOSTS") == 1


def test_plain_http_gets_nothing(world, user, entry_point, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://m.example")
    server = world.serve("m.example")
    ask("http://m.example")
    assert "Authorization" not in sent(server)
    assert world.requests(IAM_HOST) == []


def test_a_signed_url_of_the_bucket_gets_nothing(world, user, entry_point):
    from mlflow.utils.request_utils import cloud_storage_http_request

    bucket = world.serve("storage.googleapis.com")
    cloud_storage_http_request("put", "https://storage.googleapis.com/b/o?X-Goog-Signature=1", data=b"x")
    assert "Authorization" not in sent(bucket)


@pytest.mark.parametrize("login", ["", "mlflows-own"])
@EACH_GUARD
def test_a_redirect_to_another_host_takes_nothing_along(world, user, entry_point, monkeypatch, guard, login):
    if login:
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", login)
    home, other = world.serve("m.example", **guard), world.serve("other.example")
    home.application = lambda request: answer(request, 302, "", {"Location": "https://other.example/x"})
    ask(method="GET", endpoint="/x")
    if entry_point == "header" and login and "invoker" in guard:
        return  # it does not get through: see above
    assert home.reached and other.reached
    carried = {name.lower() for name in sent(other)}
    assert not carried & {"authorization", "proxy-authorization", "x-serverless-authorization"}


def test_a_redirect_on_the_same_host_keeps_the_token(world, user, chosen):
    home = world.serve("m.example", invoker=True)
    home.application = lambda request: (
        answer(request, 302, "", {"Location": "/new"}) if request.url.endswith("/old") else answer(request, 200, "OK")
    )
    assert ask(method="GET", endpoint="/old").status_code == 200


@pytest.fixture
def later(clock):
    """A function that lets a minute pass, by which a token is not new any more."""
    return lambda: clock.advance(60)


@EACH_GUARD
@pytest.mark.parametrize("body", ["json", "file"])
def test_a_token_that_is_not_taken_any_more_is_replaced_once(world, user, chosen, later, guard, body, tmp_path):
    server = world.serve("m.example", **guard)
    ask()
    server.revoked.add(sent(server)["Authorization"][7:])
    later()
    if body == "file":
        read = []

        def application(request):
            if request.method == "POST":
                read.append(request.body.read())
            return answer(request, 200)

        server.application = application
        file = io.BytesIO(b"header and content")
        file.seek(7)
        assert ask(data=file).status_code == 200
        assert read == [b"and content"], "the second attempt sends what the first did"
    else:
        assert ask().status_code == 200


def test_a_body_that_can_be_read_once_is_not_sent_twice(world, user, chosen, later):
    server = world.serve("m.example", invoker=True)
    ask()
    server.revoked.add(sent(server)["Authorization"][7:])
    later()
    assert ask(data=(part for part in [b"a", b"b"])).status_code == 401


def test_requests_to_a_server_that_rejects_every_token_are_limited(world, user, chosen, later):
    server = world.serve("m.example", invoker=True)
    ask()
    later()
    server.world.lifetime = -1000  # every token has expired
    server.revoked.add(sent(server)["Authorization"][7:])
    before = len(world.requests("m.example"))
    assert ask().status_code == 401
    assert len(world.requests("m.example")) - before == 3, "the request, the detection, one retry"


def test_the_header_provider_cannot_see_the_answer(world, user, later):
    server = world.serve("m.example", invoker=True)
    ask()
    server.revoked.add(sent(server)["Authorization"][7:])
    later()
    assert ask().status_code == 401


def test_a_401_of_mlflow_itself_is_not_the_guards(world, user, chosen, later):
    server = world.serve("m.example", invoker=True)
    server.application = lambda request: answer(request, 401, "You are not authenticated.")
    ask()
    later()
    assert ask().status_code == 401
    assert world.counts["generateIdToken"] == 1


def test_a_missing_role_is_logged(world, user, chosen, caplog):
    world.serve("m.example", iap=CUSTOM).lets_in = False
    assert ask().status_code == 403
    assert "demo-dev-client@p.iam.gserviceaccount.com" in caplog.text
    assert "roles/iap.httpsResourceAccessor" in caplog.text


def test_what_is_wrong_reaches_the_user(world, user, chosen):
    world.serve("m.example", invoker=True)
    world.denied = "Permission 'iam.serviceAccounts.getOpenIdToken' denied"
    with pytest.raises(mlflow.MlflowException, match=r"getOpenIdToken.*roles/iam\.serviceAccountTokenCreator"):
        ask()


def test_the_header_provider_tells_by_a_warning(world, user, caplog):
    world.serve("m.example", invoker=True)
    world.denied = "Permission 'iam.serviceAccounts.getOpenIdToken' denied"
    assert ask().status_code == 403
    assert "roles/iam.serviceAccountTokenCreator" in caplog.text


def test_no_token_is_ever_logged(world, user, entry_point, caplog):
    caplog.set_level("DEBUG")
    server = world.serve("m.example", iap=MANAGED, managed=True)
    ask()
    server.lets_in = False
    ask()
    for request in world.seen:
        for name in ("Authorization", "Proxy-Authorization"):
            assert request.headers.get(name, "Bearer \0").split()[1] not in caplog.text


def test_a_server_that_is_down_is_reported_by_mlflow(world, user, entry_point):
    world.hosts["m.example"] = unreachable
    with pytest.raises(mlflow.MlflowException, match=r"no route to m\.example"):
        ask()


def test_another_mlflow_that_hides_its_request_gets_nothing(world, user, caplog):
    from mlflow.tracking.request_header.registry import resolve_request_headers

    assert "Authorization" not in resolve_request_headers()
    assert "MLFLOW_TRACKING_AUTH=google" in caplog.text
    assert world.seen == []


def test_it_is_the_entry_points_that_mlflow_loads():
    from mlflow.tracking.request_auth.registry import _request_auth_provider_registry as auth
    from mlflow.tracking.request_header.registry import _request_header_provider_registry as headers

    assert [type(p).__name__ for p in headers].count("GoogleRequestHeaderProvider") == 1
    assert [p.get_name() for p in auth].count("google") == 1


def test_the_package_does_not_import_mlflow():
    import subprocess

    code = "import sys, mlflow_google_auth, mlflow_google_auth.providers; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_auth_for_requests_of_ones_own(world, user):
    import mlflow_google_auth

    server = world.serve("m.example", invoker=True)
    other = world.serve("other.example", invoker=True)
    auth = mlflow_google_auth.GoogleAuth(HOME)
    assert requests.get(f"{HOME}/version", auth=auth).status_code == 200
    assert requests.get("https://other.example/", auth=auth).status_code == 403 and not other.reached
    assert requests.get(f"{HOME}/version", headers=mlflow_google_auth.headers(HOME)).status_code == 200
    assert len(server.reached) == 2
