# SPDX-License-Identifier: Apache-2.0
"""Requests to applications of App Engine: addresses, traffic splits, dispatch rules, the firewall, IAP."""

from __future__ import annotations

import collections
import time
from urllib.parse import parse_qs, urlsplit

import pytest
from gcp_sandbox.gateway import tokens
from gcp_sandbox.serving.web import WebRequest

ROOT = "https://iap.googleapis.com/v1"
ACCESSOR = "roles/iap.httpsResourceAccessor"
HTML = {"Accept": "text/html,*/*"}
CLIENT = "123.apps.googleusercontent.com"
OURS = "203.0.113.7"  # where the tests' requests come from


@pytest.fixture
def engine(engine):
    """With an application."""
    engine.create_application()
    return engine


@pytest.fixture
def two(engine):
    """Two versions of the default service; the first has the traffic."""
    for id in ("v1", "v2"):
        engine.deploy(id)
    return engine


def served(engine, path="/env", host="", **more):
    """SERVICE/VERSION that answers."""
    env = engine.fetch(path, host, **more).json()
    return f"{env['GAE_SERVICE']}/{env['GAE_VERSION']}"


# -- addresses


def test_every_address_of_services_and_versions(two):
    two.deploy("v1", service="mlflow")
    two.deploy("v2", service="mlflow")
    project = two.project.id
    for host, expected in {
        f"{project}.ew.r.appspot.com": "default/v1",
        f"{project}.appspot.com": "default/v1",
        f"v2-dot-{project}.ew.r.appspot.com": "default/v2",
        f"v2-dot-default-dot-{project}.ew.r.appspot.com": "default/v2",
        f"mlflow-dot-{project}.ew.r.appspot.com": "mlflow/v1",
        f"v2-dot-mlflow-dot-{project}.ew.r.appspot.com": "mlflow/v2",
        f"v2-dot-mlflow-dot-{project}.appspot.com": "mlflow/v2",
        # an unknown name leads to the default
        f"nothing-dot-{project}.ew.r.appspot.com": "default/v1",
        f"v9-dot-mlflow-dot-{project}.ew.r.appspot.com": "mlflow/v1",
        f"v1-dot-nothing-dot-{project}.ew.r.appspot.com": "default/v1",
    }.items():
        assert served(two, host=host) == expected, host


def test_hosts_that_lead_nowhere(engine):
    assert engine.fetch("/").status_code == 404  # nothing is deployed yet
    engine.deploy("v1")
    assert engine.fetch("/").status_code == 200
    for host in ("other-project.ew.r.appspot.com", f"{engine.project.id}.uc.r.appspot.com"):
        assert engine.fetch("/", host=host).status_code == 404


def test_the_browser_port_has_the_services(engine):
    engine.deploy("v1")
    engine.deploy("v1", service="mlflow")
    ingress, project = engine.sandbox.ingress, engine.project.id
    assert ingress.labels() == [f"mlflow-dot-{project}", project]
    assert ingress.locate(project) == engine.host
    assert ingress.locate(f"mlflow-dot-{project}") == f"mlflow-dot-{engine.host}"
    assert ingress.locate("mlflow") is None
    stop = "/services/mlflow/versions/v1?updateMask=servingStatus"
    engine.done("PATCH", stop, {"servingStatus": "STOPPED"})
    assert ingress.labels() == [project]


def test_the_application_sees_googles_headers_and_no_forged_ones(engine):
    engine.deploy("v1")
    sent = {"X-AppEngine-User-Email": "made@up", "X-Forwarded-Proto": "http", "X-Own": "1"}
    seen = engine.fetch("/headers", headers=sent).json()
    assert "x-appengine-user-email" not in seen and seen["x-own"] == "1"
    assert seen["x-forwarded-proto"] == "https" and seen["x-forwarded-for"] == OURS
    assert seen["host"] == engine.host


def test_bodies_are_at_most_32_mib_and_answers_may_be_longer(engine):
    engine.deploy("v1")
    assert engine.post(f"https://{engine.host}/", content=b"x" * (32 << 20)).status_code == 200
    assert engine.post(f"https://{engine.host}/", content=b"x" * ((32 << 20) + 1)).status_code == 413
    assert len(engine.fetch("/big", params={"size": str(33 << 20)}).content) == 33 << 20


def test_a_disabled_application_does_not_serve(engine):
    engine.deploy("v1")
    engine.done("PATCH", "?updateMask=servingStatus", {"servingStatus": "USER_DISABLED"})
    assert engine.fetch("/").status_code == 404
    answer = engine.create("v2")
    assert answer.status == 400 and "Deploying to stopped apps" in answer.json["error"]["message"]
    engine.done("PATCH", "?updateMask=servingStatus", {"servingStatus": "SERVING"})
    assert engine.fetch("/").status_code == 200


def test_a_service_for_the_inside_only(engine):
    engine.deploy("v1")
    settings = {"networkSettings": {"ingressTrafficAllowed": "INGRESS_TRAFFIC_ALLOWED_INTERNAL_ONLY"}}
    engine.done("PATCH", "/services/default?updateMask=networkSettings", settings)
    assert engine.fetch("/").status_code == 404
    assert engine.show("/services/default")["split"] == {"allocations": {"v1": 1}}


# -- traffic


def test_traffic_moves_at_once(two):
    assert served(two) == "default/v1"
    service = two.finish(two.split(v2=1))["response"]
    assert service["split"] == {"allocations": {"v2": 1}}
    assert served(two) == "default/v2"


def routed(engine, requests):
    """How many of the requests, each from another address, lead to each version; without sending them."""
    runtime = engine.sandbox.services["appengine"].runtime
    request = WebRequest("GET", engine.host, "/", "", {})
    clients = (f"198.51.{number // 250}.{number % 250}" for number in range(requests))
    return collections.Counter(runtime.route(request, client).version["id"] for client in clients)


def test_a_split_by_cookie_stays(two):
    two.finish(two.split(shard="COOKIE", v1=0.5, v2=0.5))
    for _ in range(6):
        answer = two.fetch("/env")
        version = answer.json()["GAE_VERSION"]
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("GOOGAPPUID=")
        again = two.fetch("/env", headers={"Cookie": f"a=b; {cookie.partition(';')[0]}"})
        assert again.json()["GAE_VERSION"] == version and "set-cookie" not in again.headers
    seen = routed(two, 200)
    assert min(seen["v1"], seen["v2"]) > 60
    for place, version in ((0, "v1"), (499, "v1"), (500, "v2"), (999, "v2")):
        assert served(two, headers={"Cookie": f"GOOGAPPUID={place}"}) == f"default/{version}"


def test_a_split_at_random_follows_the_shares(two):
    two.finish(two.split(shard="RANDOM", v1=0.2, v2=0.8))
    seen = routed(two, 400)
    assert 40 <= seen["v1"] <= 130 and seen.total() == 400
    assert {served(two) for _ in range(5)} <= {"default/v1", "default/v2"}


def test_a_split_by_address_keeps_an_address_at_its_version(two):
    two.finish(two.split(shard="IP", v1=0.5, v2=0.5))
    assert len({served(two) for _ in range(10)}) == 1
    seen = routed(two, 200)
    assert min(seen.values()) > 60 and len(seen) == 2


@pytest.mark.parametrize(
    ("shard", "allocations", "words"),
    [
        ("IP", {"v1": 0.5}, "must sum to 1"),
        ("IP", {"v1": 0.5, "v2": 0.6}, "must sum to 1"),
        ("IP", {"v1": 0.333, "v2": 0.667}, "at most 2 decimal places"),
        ("COOKIE", {"v1": 0.3333, "v2": 0.6667}, "at most 3 decimal places"),
        ("IP", {"v1": 1.5, "v2": -0.5}, "must be in (0, 1]"),
        ("IP", {"v9": 1}, "'v9'"),
        ("IP", {}, "at least one version"),
    ],
)
def test_splits_that_do_not_add_up(two, shard, allocations, words):
    answer = two.split(shard=shard, **allocations)
    assert answer.status == 400 and words in answer.json["error"]["message"]


def test_a_split_by_cookie_has_three_places(two):
    split = two.finish(two.split(shard="COOKIE", v1=0.333, v2=0.667))["response"]["split"]
    assert split == {"allocations": {"v1": 0.333, "v2": 0.667}, "shardBy": "COOKIE"}


def test_a_flexible_version_cannot_be_migrated_to_gradually(two):
    split = {"split": {"shardBy": "IP", "allocations": {"v2": 1}}}
    path = "/services/default?updateMask=split"
    answer = two.ask("PATCH", f"{path}&migrateTraffic=true", split)
    assert answer.status == 400 and "flexible environment" in answer.json["error"]["message"]
    assert two.ask("PATCH", f"{path}&migrateTraffic=false", split).status == 200


# -- dispatch rules


def test_dispatch_rules_lead_to_services(engine):
    engine.deploy("v1")
    engine.deploy("v1", service="mlflow")
    rules = [{"path": "/env", "service": "mlflow"}, {"domain": "*", "path": "/api/*", "service": "mlflow"}]
    app = engine.done("PATCH", "?updateMask=dispatchRules", {"dispatchRules": rules})
    assert app["dispatchRules"][0] == {"domain": "*", "path": "/env", "service": "mlflow"}
    assert served(engine) == "mlflow/v1"
    # only requests that name no service
    assert served(engine, host=f"v1-dot-{engine.host}") == "default/v1"
    before = engine.sandbox.logs.file("mlflow").read_text().count("/api/x")
    engine.fetch("/api/x")
    assert engine.sandbox.logs.file("mlflow").read_text().count("/api/x") > before
    answer = engine.ask("DELETE", "/services/mlflow")
    assert answer.status == 400 and "dispatch rule" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"path": "/x", "service": "nothing"}, "'nothing'"),
        ({"path": "x", "service": "default"}, "begin with '/'"),
        ({"path": "/*/x", "service": "default"}, "end with one '*'"),
        ({"path": "/x", "domain": "*x", "service": "default"}, "before a period"),
        ({"path": "/" + "x" * 100, "service": "default"}, "100 characters"),
    ],
)
def test_dispatch_rules_that_are_refused(engine, rule, words):
    engine.deploy("v1")
    answer = engine.ask("PATCH", "?updateMask=dispatchRules", {"dispatchRules": [rule]})
    assert answer.status == 400 and words in answer.json["error"]["message"]


# -- the firewall


def rule(engine, priority, action, source, **more):
    body = {"priority": priority, "action": action, "sourceRange": source, **more}
    return engine.ask("POST", "/firewall/ingressRules", body)


def test_the_firewall_decides_by_the_first_rule_that_matches(engine):
    engine.deploy("v1")
    assert engine.fetch("/").status_code == 200
    assert rule(engine, 1000, "DENY", "203.0.113.0/24").status == 200
    assert engine.fetch("/").status_code == 403
    assert rule(engine, 100, "ALLOW", OURS).status == 200
    assert engine.fetch("/").status_code == 200
    assert engine.ask("DELETE", "/firewall/ingressRules/100").status == 200
    assert engine.ask("DELETE", "/firewall/ingressRules/1000").status == 200
    answer = engine.ask("PATCH", "/firewall/ingressRules/2147483647?updateMask=action", {"action": "DENY"})
    assert answer.status == 200 and answer.json["sourceRange"] == "*"
    assert engine.fetch("/").status_code == 403


def test_the_firewall_comes_before_iap(engine):
    engine.deploy("v1")
    engine.done("PATCH", "?updateMask=iap", {"iap": {"enabled": True}})
    assert engine.fetch("/", headers=HTML).status_code == 302
    rule(engine, 1, "DENY", "*")
    assert engine.fetch("/", headers=HTML).status_code == 403


def test_firewall_rules_as_a_resource(engine):
    default = {"priority": 2147483647, "action": "ALLOW", "sourceRange": "*", "description": "The default action."}
    assert engine.show("/firewall/ingressRules") == {"ingressRules": [default]}
    made = rule(engine, 1000, "DENY", "192.0.2.4/24", description="no")
    assert made.json["sourceRange"] == "192.0.2.0/24"
    assert engine.show("/firewall/ingressRules/1000") == made.json
    assert rule(engine, 1000, "DENY", "*").status == 409
    assert rule(engine, 5, "ALLOW", "2001:db8::1").status == 200
    changed = engine.ask("PATCH", "/firewall/ingressRules/1000?updateMask=action", {"action": "ALLOW"}).json
    assert changed == {**made.json, "action": "ALLOW"}
    listed = engine.show("/firewall/ingressRules")["ingressRules"]
    assert [item["priority"] for item in listed] == [5, 1000, 2147483647]
    matching = engine.show("/firewall/ingressRules?matchingAddress=192.0.2.9")["ingressRules"]
    assert [item["priority"] for item in matching] == [1000, 2147483647]
    replaced = engine.ask(
        "POST",
        "/firewall/ingressRules:batchUpdate",
        {"ingressRules": [{"priority": 7, "action": "DENY", "sourceRange": "198.51.100.0/24"}]},
    )
    assert [item["priority"] for item in replaced.json["ingressRules"]] == [7, 2147483647]
    assert engine.ask("GET", "/firewall/ingressRules/1000").status == 404


@pytest.mark.parametrize(
    ("priority", "action", "source"), [(0, "DENY", "*"), (1, "UNSPECIFIED_ACTION", "*"), (1, "DENY", "everybody")]
)
def test_firewall_rules_that_are_refused(engine, priority, action, source):
    assert rule(engine, priority, action, source).status == 400


def test_a_rule_without_a_priority_is_the_last(engine):
    body = {"action": "DENY", "sourceRange": "192.0.2.0/24"}
    assert engine.ask("POST", "/firewall/ingressRules", body).json["priority"] == 1000
    rule(engine, 5000, "DENY", "198.51.100.0/24")
    assert engine.ask("POST", "/firewall/ingressRules", body).json["priority"] > 5000
    assert engine.show("/firewall/ingressRules")["ingressRules"][-1]["priority"] == 2147483647


def test_the_default_rule_stays(engine):
    assert engine.ask("DELETE", "/firewall/ingressRules/2147483647").status == 400
    answer = engine.ask("PATCH", "/firewall/ingressRules/2147483647?updateMask=sourceRange", {"sourceRange": "1.2.3.4"})
    assert answer.status == 400


# -- IAP


def web(engine, rest=""):
    return f"projects/{engine.project.number}/iap_web/appengine-{engine.project.id}{rest}"


def let_in(engine, resource, *members):
    policy = {"policy": {"bindings": [{"role": ACCESSOR, "members": list(members)}]}}
    engine.api.ok("POST", f"{ROOT}/{resource}:setIamPolicy", policy)


def enable(engine, **iap):
    engine.done("PATCH", "?updateMask=iap", {"iap": {"enabled": True, **iap}})


@pytest.fixture
def program(engine):
    return engine.create_account("program")


def self_signed(engine, email, url, **claims):
    now = int(time.time())
    account = engine.sandbox.identities.account(email)
    payload = {"iss": email, "sub": email, "aud": url, "iat": now, "exp": now + 3600, **claims}
    return {"Authorization": f"Bearer {engine.sandbox.identities.sign_jwt(account, payload)[1]}"}


def id_token(engine, email, audience):
    return {"Authorization": f"Bearer {engine.sandbox.identities.mint_id_token(email, audience)}"}


def test_an_application_is_public_without_iap_and_closed_with_it(engine):
    engine.deploy("v1")
    assert engine.fetch("/").status_code == 200
    enable(engine)
    assert engine.fetch("/", headers={"Accept": "application/json"}).status_code == 401
    sent = engine.fetch("/x?y=z", headers=HTML)
    location = urlsplit(sent.headers["location"])
    assert sent.status_code == 302 and location.hostname == "accounts.google.com"
    assert parse_qs(location.query)["client_id"] == [f"{engine.project.number}-managed.apps.googleusercontent.com"]
    engine.done("PATCH", "?updateMask=iap", {"iap": {"enabled": False}})
    assert engine.fetch("/").status_code == 200


@pytest.mark.parametrize("place", ["", "/services/default", "/services/default/versions/v1"])
def test_the_role_counts_on_application_service_and_version(two, program, place):
    enable(two)
    url = f"https://{two.host}/*"
    assert two.fetch("/env", headers=self_signed(two, program, url)).status_code == 403
    let_in(two, web(two, place), f"serviceAccount:{program}")
    assert two.fetch("/env", headers=self_signed(two, program, url)).status_code == 200
    two.finish(two.split(v2=1))
    expected = 403 if place.endswith("v1") else 200
    assert two.fetch("/env", headers=self_signed(two, program, url)).status_code == expected


def test_the_role_is_inherited_from_all_of_the_projects_web_and_from_the_project(engine, program):
    engine.deploy("v1")
    enable(engine)
    headers = self_signed(engine, program, f"https://{engine.host}/*")
    let_in(engine, f"projects/{engine.project.number}/iap_web", f"serviceAccount:{program}")
    assert engine.fetch("/env", headers=headers).status_code == 200
    let_in(engine, f"projects/{engine.project.number}/iap_web")
    assert engine.fetch("/env", headers=headers).status_code == 403
    engine.sandbox.iam.add_binding(engine.project.name, ACCESSOR, f"serviceAccount:{program}")
    assert engine.fetch("/env", headers=headers).status_code == 200


def test_a_managed_client_takes_no_openid_tokens(engine, program):
    engine.deploy("v1")
    enable(engine)
    let_in(engine, web(engine), f"serviceAccount:{program}")
    refused = engine.fetch("/env", headers=id_token(engine, program, CLIENT))
    assert refused.status_code == 401 and "audience" in refused.text


def test_a_custom_client_takes_tokens_for_it(engine, program):
    engine.deploy("v1")
    enable(engine, oauth2ClientId=CLIENT, oauth2ClientSecret="hush")
    let_in(engine, web(engine), f"serviceAccount:{program}")
    assert engine.fetch("/env", headers=id_token(engine, program, CLIENT)).status_code == 200
    assert engine.fetch("/env", headers=id_token(engine, program, "another")).status_code == 401
    assert engine.fetch("/env", headers=id_token(engine, engine.account, CLIENT)).status_code == 403
    assert engine.fetch("/env", headers=self_signed(engine, program, f"https://{engine.host}/env")).status_code == 200
    sent = engine.fetch("/", headers=HTML)
    assert parse_qs(urlsplit(sent.headers["location"]).query)["client_id"] == [CLIENT]


def test_programmatic_clients_of_the_settings_count(engine, program):
    engine.deploy("v1")
    enable(engine)
    let_in(engine, web(engine), f"serviceAccount:{program}")
    oauth = {"accessSettings": {"oauthSettings": {"programmaticClients": ["listed"]}}}
    engine.api.ok("PATCH", f"{ROOT}/{web(engine)}:iapSettings", oauth)
    assert engine.fetch("/env", headers=id_token(engine, program, "listed")).status_code == 200


def test_the_application_learns_who_it_is(engine, program):
    engine.deploy("v1")
    enable(engine)
    let_in(engine, web(engine), f"serviceAccount:{program}")
    seen = engine.fetch("/headers", headers=self_signed(engine, program, f"https://{engine.host}/headers")).json()
    assert seen["x-goog-authenticated-user-email"] == f"accounts.google.com:{program}"
    _, claims = tokens.split(seen["x-goog-iap-jwt-assertion"])
    assert claims["aud"] == f"/projects/{engine.project.number}/apps/{engine.project.id}"
    assert claims["email"] == program and "authorization" not in seen


def test_health_checks_do_not_pass_through_iap(engine):
    enable(engine)
    engine.deploy("v1")
    assert engine.fetch("/health", headers={"Accept": "application/json"}).status_code == 401


def test_a_managed_client_needs_an_organization_and_a_custom_one_does_not(engine):
    engine.deploy("v1")
    enable(engine)
    engine.project.body.pop("parent")
    engine.sandbox.projects.save(engine.project)
    answer = engine.fetch("/", headers=HTML)
    assert answer.status_code == 500 and "Empty Google Account OAuth client ID(s)" in answer.text
    enable(engine, oauth2ClientId=CLIENT, oauth2ClientSecret="hush")
    assert engine.fetch("/", headers=HTML).status_code == 302
