# SPDX-License-Identifier: Apache-2.0
"""Identity-Aware Proxy: its API, and access to a service behind it by browsers and programs."""

from __future__ import annotations

import re
import time
from urllib.parse import parse_qs, urlsplit

import pytest
from gcp_sandbox.gateway import tokens

ROOT = "https://iap.googleapis.com/v1"
ACCESSOR = "roles/iap.httpsResourceAccessor"
HTML = {"Accept": "text/html,*/*"}


@pytest.fixture
def protected(run):
    """A service behind IAP, set up as the documentation says; alice may use it."""
    service = run.deploy("hello", iapEnabled=True, invokerIamDisabled=False)
    with run.sandbox.store.transaction():
        agent = run.sandbox.identities.service_agent(run.project, "iap")["email"]
    run.sandbox.iam.add_binding(
        f"//run.googleapis.com/{service['name']}", "roles/run.invoker", f"serviceAccount:{agent}"
    )
    let_in(run, "user:alice@example.com")
    return service


def web_resource(run):
    return f"projects/{run.project.number}/iap_web/cloud_run-europe-west1/services/hello"


def let_in(run, *members):
    policy = {"bindings": [{"role": ACCESSOR, "members": list(members)}]}
    return run.api.ok("POST", f"{ROOT}/{web_resource(run)}:setIamPolicy", {"policy": policy})


def bearer(token, header="Authorization"):
    return {header: f"Bearer {token}"}


class Browser:
    """Follows redirects by hand, and keeps cookies by host."""

    def __init__(self, run):
        self.run, self.jars = run, {}

    def ask(self, method, url, data=None):
        host = urlsplit(url).hostname
        jar = self.jars.setdefault(host, {})
        headers = {**HTML, "Cookie": "; ".join(f"{name}={value}" for name, value in jar.items())}
        answer = self.run.web.request(method, url, headers=headers, data=data)
        for cookie in answer.headers.get_list("set-cookie"):
            name, _, value = cookie.partition(";")[0].partition("=")
            jar[name] = value
        return answer

    def open(self, url):
        answer = self.ask("GET", url)
        while answer.status_code == 302:
            url = str(answer.url.join(answer.headers["location"]))
            answer = self.ask("GET", url)
        self.url = url
        return answer

    def choose(self, page, email):
        """Press an account's button on the sign-in page, and follow."""
        assert f'value="{email}"' in page.text
        fields = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', page.text))
        answer = self.ask("POST", self.url, data={**fields, "email": email})
        if answer.status_code != 302:
            return answer
        return self.open(answer.headers["location"])


# -- the API


def test_policies_on_every_kind_of_resource(run):
    number = run.project.number
    for name in (
        f"projects/{number}/iap_web",
        f"projects/{number}/iap_web/cloud_run-europe-west1",
        f"projects/{number}/iap_web/appengine-{run.project.id}/services/default",
        f"projects/{number}/iap_web/compute/services/backend",
        web_resource(run),
    ):
        policy = {"bindings": [{"role": ACCESSOR, "members": ["user:alice@example.com"]}]}
        assert run.api.ok("POST", f"{ROOT}/{name}:setIamPolicy", {"policy": policy})["bindings"] == policy["bindings"]
        assert run.api.ok("POST", f"{ROOT}/{name}:getIamPolicy", {})["bindings"] == policy["bindings"]
        assert run.api.post(f"{ROOT}/{name}:getIamPolicy", as_="bob@example.com").status == 403
    assert run.api.post(f"{ROOT}/projects/{number}/nonsense:getIamPolicy").status == 400


def test_a_policy_by_id_and_by_number_is_the_same(run):
    let_in(run, "user:alice@example.com")
    by_id = web_resource(run).replace(run.project.number, run.project.id)
    assert "bindings" in run.api.ok("POST", f"{ROOT}/{by_id}:getIamPolicy", {})


def test_settings_follow_their_mask(run):
    url = f"{ROOT}/{web_resource(run)}:iapSettings"
    oauth = {"clientId": "c.apps.googleusercontent.com", "clientSecret": "hush", "programmaticClients": ["p"]}
    body = {"accessSettings": {"oauthSettings": oauth, "corsSettings": {"allowHttpOptions": True}}}
    answer = run.api.ok("PATCH", url, body)
    assert answer["name"] == web_resource(run)
    assert "clientSecret" not in answer["accessSettings"]["oauthSettings"]
    assert len(answer["accessSettings"]["oauthSettings"]["clientSecretSha256"]) == 64
    mask = "iapSettings.accessSettings.oauthSettings.programmaticClients"
    answer = run.api.ok(
        "PATCH", f"{url}?updateMask={mask}", {"accessSettings": {"oauthSettings": {"programmaticClients": ["q"]}}}
    )
    assert answer["accessSettings"]["oauthSettings"]["programmaticClients"] == ["q"]
    assert answer["accessSettings"]["oauthSettings"]["clientId"] == "c.apps.googleusercontent.com"
    assert run.api.ok("GET", url) == answer
    assert run.api.patch(f"{url}?updateMask=nonsense", {}).status == 400
    assert b"hush" not in b"".join(path.read_bytes() for path in run.sandbox.settings.state.glob("state.sqlite3*"))


def test_settings_are_inherited(run):
    settings = run.sandbox.services["iap"].settings
    cors = {"accessSettings": {"corsSettings": {"allowHttpOptions": True}}}
    run.api.ok("PATCH", f"{ROOT}/projects/{run.project.id}/iap_web:iapSettings", cors)
    own = {"accessSettings": {"oauthSettings": {"loginHint": "example.com"}}}
    run.api.ok("PATCH", f"{ROOT}/{web_resource(run)}:iapSettings", own)
    access = settings.effective(web_resource(run))["accessSettings"]
    assert access == {"corsSettings": {"allowHttpOptions": True}, "oauthSettings": {"loginHint": "example.com"}}


def test_the_oauth_admin_api_is_gone(run):
    for method, path in (("GET", "brands"), ("POST", "brands"), ("GET", "brands/1/identityAwareProxyClients")):
        answer = run.api.request(method, f"{ROOT}/projects/{run.project.id}/{path}", {} if method == "POST" else None)
        assert answer.status == 400 and "shut down" in answer.json["error"]["message"]


# -- browsers


def test_a_browser_signs_in_and_the_application_learns_who(run, protected):
    first = run.get(f"{protected['uri']}/x?y=z", headers=HTML)
    assert first.status_code == 302 and first.headers["x-goog-iap-generated-response"] == "true"
    location = urlsplit(first.headers["location"])
    assert (location.hostname, location.path) == ("accounts.google.com", "/o/oauth2/v2/auth")
    assert parse_qs(location.query)["redirect_uri"][0].startswith("https://iap.googleapis.com/v1/oauth/clientIds/")
    browser = Browser(run)
    page = browser.open(f"{protected['uri']}/headers?y=z")
    assert page.status_code == 200 and "Sandbox sign-in" in page.text
    for email in ("admin@example.com", "alice@example.com", "bob@example.com"):
        assert email in page.text
    seen = browser.choose(page, "alice@example.com")
    assert browser.url == f"{protected['uri']}/headers?y=z"
    assert seen.json()["x-goog-authenticated-user-email"] == "accounts.google.com:alice@example.com"
    assert browser.open(f"{protected['uri']}/env").status_code == 200


def test_a_signed_in_user_without_the_role_is_denied(run, protected):
    browser = Browser(run)
    denied = browser.choose(browser.open(protected["uri"]), "bob@example.com")
    assert denied.status_code == 403 and "bob@example.com" in denied.text
    let_in(run, "user:bob@example.com")
    assert browser.open(f"{protected['uri']}/env").status_code == 200


def test_owners_are_not_let_in_by_that(run, protected):
    run.sandbox.iam.add_binding(run.project.name, "roles/owner", "user:admin@example.com")
    browser = Browser(run)
    assert browser.choose(browser.open(protected["uri"]), "admin@example.com").status_code == 403


def test_the_role_is_inherited_from_the_project(run, protected):
    run.sandbox.iam.add_binding(run.project.name, ACCESSOR, "user:bob@example.com")
    browser = Browser(run)
    assert browser.choose(browser.open(f"{protected['uri']}/env"), "bob@example.com").status_code == 200


def test_a_session_is_for_one_application_and_cannot_be_forged(run, protected):
    browser = Browser(run)
    browser.choose(browser.open(protected["uri"]), "alice@example.com")
    host = urlsplit(protected["uri"]).hostname
    jar = browser.jars[host]
    name = next(name for name in jar if "AUTH_TOKEN" in name)
    assert run.get(protected["uri"], headers={**HTML, "Cookie": f"{name}={jar[name]}"}).status_code == 200
    assert run.get(protected["uri"], headers={**HTML, "Cookie": f"{name}={jar[name][:-2]}"}).status_code == 302
    jar.pop(next(name for name in jar if "XSRF" in name))
    browser.jars[host] = {}
    page = browser.open(protected["uri"])
    browser.jars[host] = {}  # another browser's sign-in is not accepted
    assert browser.choose(page, "alice@example.com").status_code == 401


def test_signing_out(run, protected):
    browser = Browser(run)
    browser.choose(browser.open(protected["uri"]), "alice@example.com")
    page = browser.open(f"{protected['uri']}/?gcp-iap-mode=CLEAR_LOGIN_COOKIE")
    assert "Choose an account" in page.text


def test_sign_in_returns_to_the_origin_that_the_browser_sees(run, protected):
    from gcp_sandbox.serving.web import Protected, WebRequest

    access = run.sandbox.services["iap"].access
    request = WebRequest("GET", "h", "/x", "", {"accept": "text/html"}, origin="http://hello.localhost:8080")
    state, _ = access.sign_in.begin(request, Protected("r", "/a", run.project), managed=True)
    assert access.sign_in._open(state, "state")["origin"] == "http://hello.localhost:8080"


@pytest.mark.parametrize(
    ("method", "headers"),
    [("POST", HTML), ("GET", {"Accept": "application/json"}), ("GET", {**HTML, "X-Requested-With": "XMLHttpRequest"})],
)
def test_what_follows_no_redirect_gets_401(run, protected, method, headers):
    answer = run.web.request(method, protected["uri"], headers=headers)
    assert answer.status_code == 401 and "Invalid IAP credentials: empty token" in answer.text


def test_without_an_organization_there_is_no_managed_client(run, protected):
    run.project.body.pop("parent")
    run.sandbox.projects.save(run.project)
    answer = run.get(protected["uri"], headers=HTML)
    assert answer.status_code == 500 and "Empty Google Account OAuth client ID(s)" in answer.text


# -- programs


def self_signed(run, email, url, **claims):
    now = int(time.time())
    account = run.sandbox.identities.account(email)
    payload = {"iss": email, "sub": email, "aud": url, "iat": now, "exp": now + 3600, **claims}
    return run.sandbox.identities.sign_jwt(account, payload)[1]


@pytest.fixture
def program(run):
    return run.create_account("program")


def test_a_self_signed_jwt_for_the_url_lets_a_program_in(run, protected, program):
    let_in(run, f"serviceAccount:{program}")
    uri = protected["uri"]
    for url in (f"{uri}/headers", f"{uri}/*"):
        token = self_signed(run, program, url)
        seen = run.get(f"{uri}/headers", headers=bearer(token))
        assert seen.status_code == 200, seen.text
        assert seen.json()["x-goog-authenticated-user-email"] == f"accounts.google.com:{program}"
        assert "authorization" not in seen.json()
    deterministic = protected["urls"][0]
    token = self_signed(run, program, f"{deterministic}/*")
    assert run.get(f"{deterministic}/x", headers=bearer(token)).status_code == 200


def test_the_role_is_needed_by_programs_too(run, protected, program):
    token = self_signed(run, program, f"{protected['uri']}/*")
    assert run.get(protected["uri"], headers=bearer(token)).status_code == 403


def test_bad_self_signed_jwts(run, protected, program):
    let_in(run, f"serviceAccount:{program}")
    uri, now = protected["uri"], int(time.time())
    for token, words in (
        (self_signed(run, program, f"{uri}/other"), "audience doesn't match"),
        (self_signed(run, program, "https://other.example.com/*"), "audience doesn't match"),
        (self_signed(run, program, f"{uri}/*", exp=now - 60), "expired"),
        (self_signed(run, program, f"{uri}/*", exp=now + 7200), "within one hour"),
        (self_signed(run, program, f"{uri}/*")[:-4] + "AAAA", "signature is invalid"),
        ("nonsense", "Unable to parse JWT"),
        (run.sandbox.identities.mint_access_token(program), "Unable to parse JWT"),
    ):
        answer = run.get(f"{uri}/x", headers=bearer(token))
        assert answer.status_code == 401 and "Invalid IAP credentials" in answer.text, token
        assert words in answer.text


def test_proxy_authorization_leaves_the_other_header_to_the_application(run, protected, program):
    let_in(run, f"serviceAccount:{program}")
    token = self_signed(run, program, f"{protected['uri']}/*")
    headers = {**bearer(token, "Proxy-Authorization"), "Authorization": "Basic eDp5"}
    seen = run.get(f"{protected['uri']}/headers", headers=headers).json()
    assert seen["authorization"] == "Basic eDp5" and "proxy-authorization" not in seen


def test_oidc_tokens_need_a_custom_client(run, protected, program):
    let_in(run, f"serviceAccount:{program}")
    identities, uri = run.sandbox.identities, protected["uri"]
    token = identities.mint_id_token(program, "client.apps.googleusercontent.com")
    assert run.get(uri, headers=bearer(token)).status_code == 401
    oauth = {"clientId": "client.apps.googleusercontent.com", "clientSecret": "x", "programmaticClients": ["cli"]}
    settings = {"accessSettings": {"oauthSettings": oauth}}
    run.api.ok("PATCH", f"{ROOT}/{web_resource(run)}:iapSettings", settings)
    assert run.get(uri, headers=bearer(token)).status_code == 200
    assert run.get(uri, headers=bearer(identities.mint_id_token(program, "cli"))).status_code == 200
    other = run.get(uri, headers=bearer(identities.mint_id_token(program, uri)))
    assert other.status_code == 401 and f"'aud' claim ({uri})" in other.text
    nameless = identities.mint_id_token(program, "cli", include_email=False)
    assert "'email' claim isn't a string" in run.get(uri, headers=bearer(nameless)).text


def test_the_assertion_is_signed_for_this_service(run, protected, program):
    let_in(run, f"serviceAccount:{program}")
    token = self_signed(run, program, f"{protected['uri']}/*")
    forged = {
        "X-Goog-IAP-JWT-Assertion": "forged",
        "X-Goog-Authenticated-User-Email": "accounts.google.com:admin@example.com",
    }
    seen = run.get(f"{protected['uri']}/headers", headers={**bearer(token), **forged}).json()
    header, _ = tokens.split(seen["x-goog-iap-jwt-assertion"])
    assert header["alg"] == "ES256"
    key = tokens.load_public(run.sandbox.identities.iap_keys()[header["kid"]])
    claims = tokens.verify(seen["x-goog-iap-jwt-assertion"], key)
    assert claims["iss"] == "https://cloud.google.com/iap"
    assert claims["aud"] == f"/projects/{run.project.number}/locations/europe-west1/services/hello"
    assert claims["email"] == program and claims["sub"].startswith("accounts.google.com:")
    assert seen["x-goog-authenticated-user-email"] == f"accounts.google.com:{program}"
    assert seen["x-serverless-authorization"].endswith(".SIGNATURE_REMOVED_BY_GOOGLE")


def test_the_agent_comes_with_the_first_service_behind_iap(run):
    agent = f"service-{run.project.number}@gcp-sa-iap.iam.gserviceaccount.com"
    service = run.deploy("hello")
    policy = {"policy": {"bindings": [{"role": "roles/run.invoker", "members": [f"serviceAccount:{agent}"]}]}}
    address = f"https://run.googleapis.com/v2/{service['name']}"
    assert run.api.post(f"{address}:setIamPolicy", policy).status == 400
    run.finish(run.api.ok("PATCH", f"{address}?updateMask=iapEnabled", {"iapEnabled": True}))
    assert run.api.post(f"{address}:setIamPolicy", policy).status == 200


def test_without_the_agents_role_no_request_is_authorized(run, protected, program):
    let_in(run, f"serviceAccount:{program}")
    run.sandbox.iam.set_policy(f"//run.googleapis.com/{protected['name']}", {"bindings": []})
    token = self_signed(run, program, f"{protected['uri']}/*")
    answer = run.get(protected["uri"], headers=bearer(token))
    assert answer.status_code == 403 and "The IAP service account is not provisioned" in answer.text


def test_preflights_pass_where_settings_say_so(run, protected):
    assert run.web.request("OPTIONS", protected["uri"]).status_code == 401
    settings = {"accessSettings": {"corsSettings": {"allowHttpOptions": True}}}
    run.api.ok("PATCH", f"{ROOT}/{web_resource(run)}:iapSettings", settings)
    assert run.web.request("OPTIONS", protected["uri"]).status_code == 200


def test_all_users_may_be_let_in(run, protected):
    let_in(run, "allUsers")
    seen = run.get(f"{protected['uri']}/headers", headers=HTML)
    assert seen.status_code == 200 and "x-goog-authenticated-user-email" not in seen.json()
