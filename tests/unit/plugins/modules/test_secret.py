# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import re

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.mlplatform.gcp.plugins.module_utils import _secret_sources
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue import secretmanager
from ansible_collections.mlplatform.gcp.plugins.modules import secret
from ansible_collections.mlplatform.gcp.tests.unit.plugins._scripted import Failed
from cryptography import fernet

BASE = "https://secretmanager.googleapis.com/v1/projects/p/secrets"
URL = f"{BASE}/s"
BODY = {"name": "projects/1/secrets/s", "replication": {"automatic": {}}, "etag": "e"}
VALUE = "correct horse"


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def recorded(made_of, number="3", **more):
    return dict(BODY, annotations={secretmanager.MADE_VERSION: number, secretmanager.MADE_OF: made_of}, **more)


def version(number, state="ENABLED"):
    return {"name": f"projects/1/secrets/s/versions/{number}", "state": state}


class Recorder(dict):
    """Compares equal to any record of a version, and keeps the fingerprint."""

    def __eq__(self, sent):
        assert sent["etag"] == "e"
        self.update(sent["annotations"])
        return set(sent["annotations"]) == {secretmanager.MADE_VERSION, secretmanager.MADE_OF}

    __hash__ = None


def expect_latest(cloud, number=None, state="ENABLED"):
    """The newest version is read; None for no version."""
    if number:
        cloud.expect("GET", f"{URL}/versions/latest", body=version(number, state))
    else:
        cloud.expect_error("GET", f"{URL}/versions/latest", 404)


def expect_new(cloud, value, number="1"):
    """A version is added and recorded."""
    cloud.expect(
        "POST", f"{URL}:addVersion", sent={"payload": {"data": encoded(value)}} if value else None, body=version(number)
    )
    cloud.expect("GET", URL, body=BODY)
    record = Recorder()
    cloud.expect("PATCH", URL, query={"updateMask": "annotations"}, sent=record, body=BODY)
    return record


@pytest.mark.parametrize("check_mode", [True, False])
def test_only_the_secret(cloud, check_mode):
    cloud.expect_error("GET", URL, 404)
    if not check_mode:
        sent = {"replication": {"automatic": {}}, "labels": {"a": "b"}}
        cloud.expect("POST", BASE, query={"secretId": "s"}, sent=sent, body=BODY)
    result = cloud.run(secret, check_mode, name="s", labels={"a": "b"})
    assert result["changed"] and result["secret"] == "projects/p/secrets/s"
    assert "version" not in result


def test_a_new_secret_with_a_value(cloud):
    cloud.expect_error("GET", URL, 404)
    cloud.expect("POST", BASE, body=BODY)
    expect_latest(cloud)
    record = expect_new(cloud, VALUE)
    result = cloud.run(secret, name="s", payload=VALUE)
    assert result["version"] == "projects/p/secrets/s/versions/1"
    assert record[secretmanager.MADE_VERSION] == "1"
    assert VALUE not in str(result)
    assert _secret_sources.Given(VALUE.encode()).matches(record[secretmanager.MADE_OF])
    assert not _secret_sources.Given(b"another").matches(record[secretmanager.MADE_OF])


def test_nothing_to_do_is_one_request(cloud):
    cloud.expect("GET", URL, body=recorded(_secret_sources.Given(VALUE.encode()).fingerprint()))
    result = cloud.run(secret, name="s", payload=VALUE)
    assert not result["changed"]
    assert result["version"] == "projects/p/secrets/s/versions/3"
    assert result["diff"] == {"before": {}, "after": {}}


def test_fingerprints_are_not_shown(cloud):
    made_of = _secret_sources.Given(b"old").fingerprint()
    cloud.expect("GET", URL, body=recorded(made_of))
    assert made_of not in str(cloud.run(secret, name="s", payload="old"))
    cloud.expect("GET", URL, body=recorded(made_of))
    result = cloud.run(secret, True, name="s", state="absent")
    assert made_of not in str(result)
    assert result["diff"]["before"]["annotations"][secretmanager.MADE_VERSION] == "3"


def test_fingerprints_are_salted():
    assert _secret_sources.Given(b"x").fingerprint() != _secret_sources.Given(b"x").fingerprint()


@pytest.mark.parametrize("check_mode", [True, False])
def test_another_value_is_another_version(cloud, check_mode):
    cloud.expect("GET", URL, body=recorded(_secret_sources.Given(b"old").fingerprint()))
    cloud.expect("GET", f"{URL}/versions/latest", body=version(3))
    cloud.expect("GET", f"{URL}/versions/3:access", body={"payload": {"data": encoded("old")}})
    if not check_mode:
        expect_latest(cloud, 3)
        expect_new(cloud, VALUE, "4")
    result = cloud.run(secret, check_mode, name="s", payload=VALUE)
    assert result["changed"]
    assert result["version"].endswith("/latest" if check_mode else "/4")
    assert result["diff"]["before"]["version"] == "3" and result["diff"]["after"]["version"] == "(new)"


def test_an_interrupted_run_is_finished_without_another_version(cloud):
    cloud.expect("GET", URL, body=BODY)
    cloud.expect("GET", f"{URL}/versions/latest", body=version(1))
    cloud.expect("GET", f"{URL}/versions/1:access", body={"payload": {"data": encoded(VALUE)}})
    cloud.expect("GET", URL, body=BODY)
    cloud.expect("PATCH", URL, body=BODY)
    result = cloud.run(secret, name="s", payload=VALUE)
    assert result["version"].endswith("/versions/1")


def test_not_being_allowed_to_look_makes_another_version(cloud):
    cloud.expect("GET", URL, body=BODY)
    cloud.expect("GET", f"{URL}/versions/latest", body=version(1))
    cloud.expect_error("GET", f"{URL}/versions/1:access", 403)
    expect_latest(cloud, 1)
    expect_new(cloud, VALUE, "2")
    assert cloud.run(secret, name="s", payload=VALUE)["version"].endswith("/2")


def test_a_file(cloud, tmp_path):
    path = tmp_path / "value"
    path.write_bytes(VALUE.encode())
    cloud.expect("GET", URL, body=recorded(_secret_sources.Given(VALUE.encode()).fingerprint()))
    assert not cloud.run(secret, name="s", payload_file=str(path))["changed"]
    with pytest.raises(Failed, match="Cannot read payload_file"):
        cloud.run(secret, name="s", payload_file=str(tmp_path / "none"))


def test_generated_once(cloud):
    cloud.expect_error("GET", URL, 404)
    cloud.expect("POST", BASE, body=BODY)
    expect_latest(cloud)
    record = expect_new(cloud, None)
    result = cloud.run(secret, name="s", generate={"length": 40, "alphabet": "xyz"})
    value = base64.b64decode(cloud.requests[3].body["payload"]["data"]).decode()
    assert re.fullmatch("[xyz]{40}", value)
    assert value not in str(result)
    cloud.expect("GET", URL, body=recorded(record[secretmanager.MADE_OF], "1"))
    assert not cloud.run(secret, name="s", generate={"length": 8})["changed"]


def test_generated_values_differ():
    values = {_secret_sources.Generated(32, None).value() for _again in range(10)}
    assert len(values) == 10
    assert all(re.fullmatch(b"[A-Za-z0-9]{32}", value) for value in values)


@pytest.mark.parametrize("source", [{"payload": VALUE}, {"generate": {}}])
@pytest.mark.parametrize("exists", [False, True])
def test_a_version_that_another_run_has_added_meanwhile_is_kept(cloud, source, exists):
    if exists:
        cloud.expect("GET", URL, body=BODY)
        expect_latest(cloud)
        expect_latest(cloud)
    else:
        cloud.expect_error("GET", URL, 404)
        cloud.expect("POST", BASE, body=BODY)
    expect_latest(cloud, 1)
    if "payload" in source:
        cloud.expect("GET", f"{URL}/versions/1:access", body={"payload": {"data": encoded(VALUE)}})
    cloud.expect("GET", URL, body=BODY)
    cloud.expect("PATCH", URL, body=BODY)
    assert cloud.run(secret, name="s", **source)["version"].endswith("/1")


def test_another_value_of_another_run_is_replaced(cloud):
    cloud.expect_error("GET", URL, 404)
    cloud.expect("POST", BASE, body=BODY)
    expect_latest(cloud, 1)
    cloud.expect("GET", f"{URL}/versions/1:access", body={"payload": {"data": encoded("another")}})
    expect_new(cloud, VALUE, "2")
    assert cloud.run(secret, name="s", payload=VALUE)["version"].endswith("/2")


def test_generate_keeps_a_version_that_is_there(cloud):
    cloud.expect("GET", URL, body=BODY)
    cloud.expect("GET", f"{URL}/versions/latest", body=version(7))
    cloud.expect("GET", URL, body=BODY)
    cloud.expect("PATCH", URL, body=BODY)
    assert cloud.run(secret, name="s", generate={})["version"].endswith("/7")


def test_generate_keeps_what_another_run_is_just_making(cloud):
    cloud.expect("GET", URL, body=BODY)
    cloud.expect_error("GET", f"{URL}/versions/latest", 404)
    cloud.expect("GET", f"{URL}/versions/latest", body=version(1))
    cloud.expect("GET", URL, body=BODY)
    cloud.expect("PATCH", URL, body=BODY)
    assert cloud.run(secret, name="s", generate={})["version"].endswith("/1")


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize(
    ("held", "source", "warns"),
    [
        (VALUE, {"payload": VALUE}, False),
        ("battery staple", {"payload": VALUE}, True),
        (None, {"generate": {"length": 32}}, False),
    ],
)
def test_what_is_adopted_keeps_its_value_and_is_not_written_to(cloud, check_mode, held, source, warns):
    cloud.expect("GET", URL, body=BODY)
    cloud.expect("GET", f"{URL}/versions/latest", body=version(2))
    if held:
        cloud.expect("GET", f"{URL}/versions/2:access", body={"payload": {"data": encoded(held)}})
    result = cloud.run(secret, check_mode, name="s", adopt=True, **source)
    assert not result["changed"]
    assert result["version"] == "projects/p/secrets/s/versions/2"
    assert len(cloud.warnings) == warns
    assert not any(value in str(cloud.warnings) for value in (VALUE, "battery"))


@pytest.mark.parametrize("written", ["u:a%23b@h", "u:a#b@h"])
def test_an_adopted_address_need_not_be_quoted(cloud, written):
    source = {"template": "u:{password:url}@h", "template_secrets": {"password": "projects/p/secrets/w/versions/1"}}
    cloud.expect("GET", URL, body=BODY)
    cloud.expect("GET", f"{URL}/versions/latest", body=version(2))
    cloud.expect("GET", f"{BASE}/w/versions/1:access", body={"payload": {"data": encoded("a#b")}})
    for _look in range(1 if "%" in written else 2):
        cloud.expect("GET", f"{URL}/versions/2:access", body={"payload": {"data": encoded(written)}})
    result = cloud.run(secret, name="s", adopt=True, **source)
    assert not result["changed"] and not cloud.warnings


def test_an_adopted_secret_without_a_value_gets_one(cloud):
    cloud.expect("GET", URL, body=BODY)
    for _time in ("now", "a moment later", "before it is added"):
        expect_latest(cloud)
    expect_new(cloud, VALUE)
    assert cloud.run(secret, name="s", adopt=True, payload=VALUE)["changed"]


@pytest.mark.parametrize("state", ["DISABLED", None])
def test_generate_when_no_version_is_usable(cloud, state):
    cloud.expect("GET", URL, body=BODY)
    for _time in ("now", "a moment later", "before it is added"):
        expect_latest(cloud, state and 7, state)
        if state:
            cloud.expect("GET", f"{URL}/versions", body={})
    expect_new(cloud, None, "8")
    assert cloud.run(secret, name="s", generate={})["version"].endswith("/8")


def test_the_newest_usable_version_is_kept_where_the_latest_is_disabled(cloud):
    cloud.expect("GET", URL, body=BODY)
    expect_latest(cloud, 11, "DISABLED")
    query = {"pageSize": 1000, "filter": "state:ENABLED"}
    cloud.expect("GET", f"{URL}/versions", query=query, body={"versions": [version(9), version(10)]})
    cloud.expect("GET", URL, body=BODY)
    cloud.expect("PATCH", URL, query={"updateMask": "annotations"}, sent=Recorder(), body=BODY)
    assert cloud.run(secret, name="s", generate={})["version"].endswith("/10")


@pytest.mark.parametrize("state", ["ENABLED", "DESTROYED"])
def test_verify_looks_at_the_version(cloud, state):
    cloud.expect("GET", URL, body=recorded("generated"))
    cloud.expect("GET", f"{URL}/versions/3", body=version(3, state))
    if state == "DESTROYED":
        expect_new(cloud, None, "4")
    result = cloud.run(secret, name="s", generate={}, verify=True)
    assert result["changed"] is (state == "DESTROYED")


TEMPLATE = {
    "template": "postgresql://u:{password:url}@/db#{password}",
    "template_secrets": {"password": "projects/p/secrets/pw/versions/2"},
}


def test_composed_of_other_secrets(cloud):
    cloud.expect_error("GET", URL, 404)
    cloud.expect("POST", BASE, body=BODY)
    cloud.expect("GET", f"{BASE}/pw/versions/2:access", body={"payload": {"data": encoded("a/b@c")}})
    expect_latest(cloud)
    record = expect_new(cloud, "postgresql://u:a%2Fb%40c@/db#a/b@c")
    cloud.run(secret, name="s", **TEMPLATE)
    cloud.expect("GET", URL, body=recorded(record[secretmanager.MADE_OF], "1"))
    assert not cloud.run(secret, name="s", **TEMPLATE)["changed"]


def test_composed_again_when_a_source_has_a_new_version(cloud):
    made_of = _secret_sources.Composed(None, TEMPLATE["template"], TEMPLATE["template_secrets"]).fingerprint()
    sources = {"password": "pw"}
    cloud.expect(
        "GET", f"{BASE}/pw/versions/latest", body={"name": "projects/1/secrets/pw/versions/2", "state": "ENABLED"}
    )
    cloud.expect("GET", URL, body=recorded(made_of))
    assert not cloud.run(secret, name="s", template=TEMPLATE["template"], template_secrets=sources)["changed"]
    cloud.expect(
        "GET", f"{BASE}/pw/versions/latest", body={"name": "projects/1/secrets/pw/versions/3", "state": "ENABLED"}
    )
    cloud.expect("GET", URL, body=recorded(made_of))
    cloud.expect("GET", f"{URL}/versions/latest", body=version(3))
    for name in ("pw/versions/3", "s/versions/3"):
        cloud.expect("GET", f"{BASE}/{name}:access", body={"payload": {"data": encoded("new")}})
    expect_latest(cloud, 3)
    expect_new(cloud, "postgresql://u:new@/db#new", "4")
    assert cloud.run(secret, name="s", template=TEMPLATE["template"], template_secrets=sources)["changed"]


def test_sources_that_are_not_there(cloud):
    cloud.expect_error("GET", f"{BASE}/pw/versions/latest", 404)
    cloud.expect_error("GET", URL, 404)
    options = {"name": "s", "template": "{password}", "template_secrets": {"password": "pw"}}
    assert cloud.run(secret, True, **options)["changed"]
    cloud.expect_error("GET", f"{BASE}/pw/versions/latest", 404)
    with pytest.raises(Failed, match="404"):
        cloud.run(secret, **options)


def test_placeholders_need_a_secret(cloud):
    with pytest.raises(Failed, match="placeholders without a secret: login"):
        cloud.run(secret, name="s", template="{login:url}", template_secrets={"password": "pw"})


@pytest.mark.parametrize(("value", "words"), [("", "is empty"), ("x" * 65537, "has 65537 bytes")])
def test_values_that_cannot_be(cloud, value, words):
    cloud.expect_error("GET", URL, 404)
    cloud.expect("POST", BASE, body=BODY)
    with pytest.raises(Failed, match=words):
        cloud.run(secret, name="s", payload=value)


@pytest.mark.parametrize(("verb", "states"), [("disable", ["4"]), ("destroy", ["4", "3"])])
def test_old_versions(cloud, verb, states):
    cloud.expect("GET", URL, body=recorded(_secret_sources.Given(b"old").fingerprint(), "5"))
    expect_latest(cloud)
    expect_latest(cloud)
    expect_new(cloud, VALUE, "6")
    versions = [version(6), version(5), version(4), version(3, "DISABLED"), version(2, "DESTROYED")]
    cloud.expect("GET", f"{URL}/versions", body={"versions": versions})
    for number in states:
        cloud.expect("POST", f"{URL}/versions/{number}:{verb}")
    assert cloud.run(secret, name="s", payload=VALUE, old_versions=verb)["changed"]


def test_bindings_belong_to_it(cloud):
    cloud.expect("GET", URL, body=BODY)
    cloud.expect("GET", f"{URL}:getIamPolicy", body={"etag": "1"})
    cloud.expect("POST", f"{URL}:setIamPolicy", body={})
    bindings = [{"role": "roles/secretmanager.secretAccessor", "members": ["user:a@x.com"]}]
    result = cloud.run(secret, name="s", bindings=bindings)
    assert result["changed"]
    assert result["diff"]["after"] == {"roles/secretmanager.secretAccessor": ["user:a@x.com"]}


def test_replication_cannot_change(cloud):
    cloud.expect("GET", URL, body=BODY)
    with pytest.raises(Failed, match=r"replication\.userManaged.* cannot be changed"):
        cloud.run(secret, name="s", replication_locations=["europe-west1"])
    managed = {"userManaged": {"replicas": [{"location": "b"}, {"location": "a", "x": 1}]}}
    cloud.expect("GET", URL, body=dict(BODY, replication=managed))
    assert not cloud.run(secret, name="s", replication_locations=["a", "b"])["changed"]


KEY = "projects/k/locations/{}/keyRings/r/cryptoKeys/k"


def managed(*keys):
    """Return a replication to the locations of keys."""
    replicas = [{"location": key.split("/")[3], "customerManagedEncryption": {"kmsKeyName": key}} for key in keys]
    return {"userManaged": {"replicas": replicas}}


def test_each_location_has_its_key(cloud):
    keys = [KEY.format("b"), KEY.format("a")]
    cloud.expect_error("GET", URL, 404)
    cloud.expect("POST", BASE, body=BODY, sent={"replication": managed(*keys[::-1])})
    assert cloud.run(secret, name="s", replication_locations=["a", "b"], kms_keys=keys)["changed"]
    with pytest.raises(Failed, match="kms_keys has no key in b"):
        cloud.run(secret, name="s", replication_locations=["a", "b"], kms_keys=[KEY.format("a")])


def test_the_key_of_later_versions_can_change(cloud):
    cloud.expect("GET", URL, body=dict(BODY, replication=managed(KEY.format("a"))))
    new = KEY.format("a").replace("r/", "q/")
    cloud.expect("PATCH", URL, query={"updateMask": "replication"}, body=BODY)
    assert cloud.run(secret, name="s", replication_locations=["a"], kms_keys=[new])["changed"]
    cloud.expect("GET", URL, body=BODY)
    cloud.expect("PATCH", URL, query={"updateMask": "replication"}, body=BODY)
    assert cloud.run(secret, name="s", kms_keys=[KEY.format("global")])["changed"]


def test_without_the_option_a_secret_keeps_its_key(cloud):
    cloud.expect("GET", URL, body=dict(BODY, replication=managed(KEY.format("a"))))
    assert not cloud.run(secret, name="s", replication_locations=["a"])["changed"]


def test_delete(cloud):
    cloud.expect("GET", URL, body=BODY)
    cloud.expect("DELETE", URL, query={"etag": "e"})
    assert cloud.run(secret, name="s", state="absent")["changed"]


def test_a_value_that_replaces_a_generated_one_is_added(cloud):
    """The recorded fingerprint is that of another kind of source."""
    generated = _secret_sources.Generated(32, None).fingerprint()
    assert not _secret_sources.Given(b"x").matches(generated)
    assert not _secret_sources.Given(b"x").matches("")


def test_a_template_with_a_secret_that_does_not_exist_yet_resembles_nothing(cloud):
    cloud.expect_error(
        "GET", "https://secretmanager.googleapis.com/v1/projects/p/secrets/pw/versions/latest", 404, code="NOT_FOUND"
    )
    task = cloud.task({"project": "p"}, check_mode=True)
    composed = _secret_sources.Composed(task, "postgresql://{pw:url}@", {"pw": "pw"})
    assert not composed.resembles(task, "projects/p/secrets/s/versions/1")
    cloud.done()


class TestSeveral:
    """The option secrets: several in one task."""

    OTHER = f"{BASE}/t"

    def test_each_is_managed_with_the_options_of_the_task(self, cloud):
        for url, name in ((URL, "s"), (self.OTHER, "t")):
            cloud.expect("GET", url, body=dict(BODY, name=f"projects/1/secrets/{name}", labels={"a": "b"}))
        result = cloud.run(secret, secrets=[{"name": "s"}, {"name": "t"}], labels={"a": "b"})
        assert not result["changed"]
        assert [(item["name"], item["secret"]) for item in result["results"]] == [
            ("s", "projects/p/secrets/s"),
            ("t", "projects/p/secrets/t"),
        ]

    def test_changes_of_all_are_reported_and_values_are_not(self, cloud):
        for url in (URL, self.OTHER):
            cloud.expect("GET", url, body=BODY)
            cloud.expect("PATCH", url, body=dict(BODY, labels={"a": "b"}))
        result = cloud.run(secret, secrets=[{"name": "s"}, {"name": "t"}], labels={"a": "b"})
        assert result["changed"]
        assert [item["name"] for item in result["changes"]] == ["projects/p/secrets/s", "projects/p/secrets/t"]
        assert not any("changes" in item or "diff" in item for item in result["results"])

    def test_an_empty_list_changes_nothing(self, cloud):
        assert cloud.run(secret, secrets=[], state="absent") == {
            "changed": False,
            "changes": [],
            "results": [],
            "diff": {"before": {}, "after": {}},
        }

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({}, "one of the following is required: name, secrets"),
            ({"name": "s", "secrets": []}, "mutually exclusive"),
            ({"secrets": [{"name": "s", "payload": "x", "template": "y"}]}, "mutually exclusive"),
            ({"secrets": [{}]}, "missing required arguments: name"),
        ],
    )
    def test_options_that_do_not_fit_are_refused(self, options, words):
        spec = secret.OPTIONS
        checked = ArgumentSpecValidator(dict(spec.arguments), **spec.rules()).validate(options)
        assert words in " ".join(checked.error_messages)

    def test_the_values_are_secret(self):
        checked = ArgumentSpecValidator(dict(secret.OPTIONS.arguments)).validate(
            {"secrets": [{"name": "s", "payload": "hunter2"}]}
        )
        assert checked._no_log_values == {"hunter2"}


def test_random_bytes_in_base64_are_a_key_of_fernet():
    keys = {_secret_sources.Generated(32, None, "base64url").value() for _again in range(10)}
    assert len(keys) == 10
    for key in keys:
        cipher = fernet.Fernet(key)
        assert cipher.decrypt(cipher.encrypt(b"hook")) == b"hook"
