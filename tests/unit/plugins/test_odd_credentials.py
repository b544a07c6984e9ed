# SPDX-License-Identifier: Apache-2.0
"""Odd characters in every credential and proxy setting: a clear error, and no secret in any output.

Each setting goes through an option and through its environment variables, into the action plugin and into an ordinary
module, which send a request to a server of the test.
"""

from __future__ import annotations

import json
import sys

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.mlplatform.gcp.plugins.module_utils import _http, _module, _settings, _shared
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP
from ansible_collections.mlplatform.gcp.plugins.plugin_utils import controller
from ansible_collections.mlplatform.gcp.tests.unit.plugins import _loopback
from ansible_collections.mlplatform.gcp.tests.unit.plugins._acting import NAME

pytestmark = pytest.mark.inputs

# The parts of a secret around an odd character. Each part alone must not be shown.
FIRST, SECOND = "first4711qwertz", "second4712asdfg"
ODD = {
    "line break": "\n",
    "carriage return": "\r\n",
    "tab": "\t",
    "escape": "\x1b",
    "delete": "\x7f",
    "space": " ",
    "umlaut": "\u00e4",
    "invisible": "\u200b",
}
EMAIL = "me@p.iam.gserviceaccount.com"
WORDS = ["access_token", "service_account_email", "impersonate_service_account", "quota_project", "project", "scopes"]
SECRET = {"access_token"}
PROXIES = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]


def variables(option):
    return GCP.arguments[option]["fallback"][1]


# (option, variable or "" for the option itself)
WAYS = [(option, "") for option in WORDS] + [(option, name) for option in WORDS for name in variables(option)]
# Each character for what is secret; one of each kind for the other settings.
CASES = [(*way, odd) for way in WAYS for odd in (ODD if way[0] in SECRET else ("line break", "escape", "umlaut"))]


@pytest.fixture(scope="module")
def one_server(tmp_path_factory):
    server = _loopback.Server(tmp_path_factory.mktemp("server"))
    yield server
    server.close()


@pytest.fixture
def server(one_server, tmp_path, monkeypatch):
    one_server.arrived.clear()
    one_server.headers.clear()
    for name in (*PROXIES, "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(one_server.bundle))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(_shared, "_memory", _shared._LocalMemory())
    # A retry cannot succeed.
    monkeypatch.setattr(_http, "ATTEMPTS", 1)
    return one_server


@pytest.fixture(params=["action plugin", "ordinary module"])
def run(request, server, act, probe, monkeypatch, capsys):
    """A function that runs a task and returns its result and all that it has printed."""
    lines = []
    monkeypatch.setattr(controller.display, "display", lambda text, **more: lines.append(text))

    def send(task):
        task.warn(f"The project is {task.project}.")
        task.progress("in progress")
        return dict(task.client.get(server.url), changed=False)

    probe.result = send

    def run(**options):
        options = dict({"name": "x", "project": "p"}, **options)
        options = {name: value for name, value in options.items() if value is not None}
        if request.param == "action plugin":
            result = act(options)
            return result, json.dumps(result, default=str) + "".join(lines) + "".join(capsys.readouterr())
        module = sys.modules[f"{controller.MODULES}.{NAME}"]
        with patch_module_args(options), pytest.raises(SystemExit):
            _module.run_module(module.OPTIONS, module.run)
        out, err = capsys.readouterr()
        return json.loads(out), out + err

    return run


def refused(run, where, secret, **options):
    """Run a task that fails with the name of what is wrong and, if it is ``secret``, without any part of it."""
    result, shown = run(**options)
    assert result["failed"] and where in result["msg"], result["msg"]
    for part in (FIRST, SECOND):
        assert part not in result["msg"]
        assert not secret or part not in shown


def of_environment(option, variable, value, monkeypatch):
    """Set a value in one way and return the options of the task and the name that its error has."""
    # An option that is not given lets its variable count.
    given = {option: None} if variable else {option: value}
    if variable:
        monkeypatch.setenv(variable, value)
    if option != "access_token":
        given["access_token"] = FIRST
    if option == "service_account_email":
        given.update(auth_kind="machineaccount", access_token=None)
    return given, variable or option


@pytest.mark.parametrize(("option", "variable", "odd"), CASES)
def test_an_odd_character_inside(run, monkeypatch, option, variable, odd):
    given, where = of_environment(option, variable, FIRST + ODD[odd] + SECOND, monkeypatch)
    if option != "access_token" and given["access_token"]:
        given["access_token"] = "a-good-token"
    refused(run, where, option in SECRET, **given)


@pytest.mark.parametrize("around", ["\n", " \t\r\n"])
@pytest.mark.parametrize(("option", "variable"), [way for way in WAYS if way[0] != "service_account_email"])
def test_white_space_around_it_is_removed(run, server, monkeypatch, option, variable, around):
    value = "https://www.googleapis.com/auth/cloud-platform" if option == "scopes" else FIRST
    given, _where = of_environment(option, variable, around + value + around, monkeypatch)
    if option == "impersonate_service_account":
        # The test's server has no tokens for other accounts.
        params = dict({"access_token": "t"}, **{name: item for name, item in given.items() if item is not None})
        params.setdefault(option, around + value + around)
        assert _settings.credentials(params)[option] == FIRST
        return
    result, shown = run(**given)
    assert not result.get("failed"), result
    assert server.headers[0]["authorization"] == f"Bearer {FIRST}"
    if option == "quota_project":
        assert server.headers[0]["x-goog-user-project"] == FIRST
    if option in SECRET:
        assert FIRST not in shown


@pytest.mark.parametrize("way", ["option", "GCP_SERVICE_ACCOUNT_CONTENTS", "file", "GOOGLE_APPLICATION_CREDENTIALS"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("private_key", f"-----BEGIN PRIVATE KEY-----\n{FIRST}\u00e4{SECOND}\n-----END PRIVATE KEY-----\n"),
        ("private_key", f"{FIRST}\x1b{SECOND}"),
        ("private_key", 17),
        ("client_email", f"{FIRST}\n{SECOND}"),
        ("token_uri", f"https://{FIRST}\n:{SECOND}@h/token"),
    ],
)
def test_a_key_with_an_odd_field(run, key, tmp_path, monkeypatch, way, field, value):
    document = json.dumps(dict(key, **{field: value}))
    path = tmp_path / "key.json"
    path.write_text(document)
    options = {}
    if way == "option":
        options = {"service_account_contents": document}
    elif way == "file":
        options = {"service_account_file": str(path)}
    else:
        monkeypatch.setenv(way, document if way == "GCP_SERVICE_ACCOUNT_CONTENTS" else str(path))
    result, shown = run(**options)
    assert result["failed"] and "Unexpected" not in result["msg"]
    assert not any(part in shown for part in (FIRST, SECOND, key["private_key"].splitlines()[1]))


@pytest.mark.parametrize("document", [f'{{"private_key": "{FIRST}\n"', f'"{FIRST}"', f'["{FIRST}"]', f"\ufeff{FIRST}"])
@pytest.mark.parametrize("way", ["service_account_contents", "service_account_file"])
def test_a_key_that_is_no_json_object(run, tmp_path, way, document):
    path = tmp_path / "key.json"
    path.write_text(document)
    result, shown = run(**{way: document if way.endswith("contents") else str(path)})
    assert result["failed"] and ("contents" in result["msg"] or str(path) in result["msg"])
    assert FIRST not in shown


@pytest.mark.parametrize("odd", ["line break", "escape"])
@pytest.mark.parametrize(
    "variable", ["", "GCP_SERVICE_ACCOUNT_FILE", "GCE_CREDENTIALS_FILE_PATH", "GOOGLE_APPLICATION_CREDENTIALS"]
)
def test_the_path_of_a_key(run, key, tmp_path, monkeypatch, variable, odd):
    path = tmp_path / "a folder of \u00fcbung" / "key.json"
    path.parent.mkdir()
    path.write_text(json.dumps(key))
    value = f" {path}\n"
    for given, works in ((value, True), (f"{path}{ODD[odd]}{FIRST}", False)):
        options = {}
        if variable:
            monkeypatch.setenv(variable, given)
        else:
            options = {"service_account_file": given}
        if works:
            assert not run(**options)[0].get("failed")
        else:
            refused(run, variable or "service_account_file", False, **options)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("variable", PROXIES)
def test_a_proxy_with_an_odd_character(run, server, monkeypatch, variable, odd):
    monkeypatch.setenv(variable, f"http://us:{FIRST}{ODD[odd]}{SECOND}@127.0.0.1:9")
    refused(run, f"{variable} in the environment has", True, access_token="t0ken-t0ken")
    assert server.arrived == []


@pytest.mark.parametrize(
    "address",
    [
        "http://us:{0}/{1}@127.0.0.1:9",
        "http://us:{0}#{1}@127.0.0.1:9",
        "http://us:{0}?{1}@127.0.0.1:9",
        "http://us:{0}@127.0.0.1:{1}",
        "http://us:{0}@127.0.0.1:99999",
        "http://us:{0}@[::1",
        "http://us:{0}@",
        "us:{0}/{1}@127.0.0.1:9",
        "ftp://us:{0}@127.0.0.1:9",
    ],
)
def test_a_proxy_that_is_no_address(run, server, monkeypatch, address):
    monkeypatch.setenv("HTTPS_PROXY", address.format(FIRST, SECOND))
    refused(run, "HTTPS_PROXY in the environment", True, access_token="t0ken-t0ken")
    assert server.arrived == []


@pytest.mark.parametrize("address", ["http://us:{}@127.0.0.1:9", "us:{}@127.0.0.1:9", "http://us:{}%2F%40@127.0.0.1:9"])
@pytest.mark.parametrize("how", ["closed", "refuse", "hang up"])
def test_a_proxy_that_does_not_work(run, server, monkeypatch, address, how):
    proxy = _loopback.Proxy(server, how)
    if how == "closed":
        proxy.close()
    monkeypatch.setenv("HTTPS_PROXY", address.format(FIRST).replace("127.0.0.1:9", proxy.address))
    refused(run, "the proxy settings (HTTPS_PROXY", True, access_token="t0ken-t0ken")
    proxy.close()


def test_an_exception_that_nothing_expects(run, probe, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", f"http://us:{SECOND}@127.0.0.1:9")

    def fails(task):
        raise RuntimeError(f"the token {task.params['access_token']!r} by http://us:{SECOND}@127.0.0.1:9")

    probe.result = fails
    refused(run, "Unexpected RuntimeError: the token", True, access_token=f"{FIRST}\n")


@pytest.mark.parametrize("kept", ["warn", "progress", "result"])
def test_a_token_is_in_no_other_output(run, probe, kept):
    """Also without the white space that the option has around it, and escaped."""

    def leak(task):
        text = json.dumps(f"{FIRST}\n") + repr(f"{FIRST}\n") + task.credentials.source.token
        if kept != "result":
            getattr(task, kept)(text)
        return {"changed": False, "diff": {"before": text * (kept == "result"), "after": ""}}

    probe.result = leak
    result, shown = run(access_token=f"{FIRST}\n")
    assert not result.get("failed") and FIRST not in shown
