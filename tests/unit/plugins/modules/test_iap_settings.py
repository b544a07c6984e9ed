# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import hashlib
import json

import pytest
from ansible_collections.mlplatform.gcp.plugins.modules import iap_settings
from ansible_collections.mlplatform.gcp.tests.unit.plugins._scripted import Failed

RESOURCE = "projects/1/iap_web/cloud_run-europe-west1/services/s"
URL = f"https://iap.googleapis.com/v1/{RESOURCE}:iapSettings"
SECRETS = "https://secretmanager.googleapis.com/v1/projects/p/secrets"
CLIENT = {
    "oauth_client_id_secret": "projects/p/secrets/id",
    "oauth_client_secret_secret": "projects/p/secrets/key",
}
KEY = "GOCSPX-not-to-be-seen"
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()


def client(cloud, key=KEY):
    for name, value in (("id", "1.apps.googleusercontent.com\n"), ("key", key)):
        data = base64.b64encode(value.encode()).decode()
        cloud.expect("GET", f"{SECRETS}/{name}/versions/latest:access", body={"payload": {"data": data}})


def test_nothing_to_do(cloud):
    client(cloud)
    settings = {"clientId": "1.apps.googleusercontent.com", "clientSecretSha256": DIGEST}
    cloud.expect("GET", URL, body={"name": RESOURCE, "accessSettings": {"oauthSettings": settings}})
    assert not cloud.run(iap_settings, resource=RESOURCE, **CLIENT)["changed"]


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_client_of_ones_own(cloud, check_mode):
    client(cloud)
    cloud.expect("GET", URL, body={"name": RESOURCE})
    if not check_mode:
        paths = ["clientId", "clientSecret"]
        cloud.expect(
            "PATCH",
            URL,
            query={"updateMask": ",".join(f"iapSettings.accessSettings.oauthSettings.{path}" for path in paths)},
            sent={
                "name": RESOURCE,
                "accessSettings": {"oauthSettings": {"clientId": "1.apps.googleusercontent.com", "clientSecret": KEY}},
            },
            body={"name": RESOURCE},
        )
    result = cloud.run(iap_settings, check_mode, resource=RESOURCE, **CLIENT)
    assert result["changed"]
    assert KEY not in json.dumps(result)


POLICY = f"https://iap.googleapis.com/v1/{RESOURCE}"
BINDING = {"role": "roles/iap.httpsResourceAccessor", "members": ["group:a@example.com"]}


@pytest.mark.parametrize("existing", [[BINDING], []])
def test_with_bindings_only_the_settings_are_not_read(cloud, existing):
    cloud.expect("POST", f"{POLICY}:getIamPolicy", body={"etag": "e", "bindings": existing})
    if not existing:
        cloud.expect("POST", f"{POLICY}:setIamPolicy", body={"etag": "f", "bindings": [BINDING]})
    # The role passes empty names where there is no client.
    no_client = dict.fromkeys(CLIENT, "")
    bindings = {"bindings": [BINDING], "bindings_authoritative": True}
    result = cloud.run(iap_settings, resource=RESOURCE, **bindings, **no_client)
    assert result["changed"] == (not existing)
    assert "resource" not in result


def test_settings_come_before_bindings(cloud):
    cloud.expect("GET", URL, body={"name": RESOURCE, "accessSettings": {"oauthSettings": {"loginHint": "example.com"}}})
    cloud.expect("POST", f"{POLICY}:getIamPolicy", body={"etag": "e", "bindings": [BINDING]})
    assert not cloud.run(iap_settings, resource=RESOURCE, login_hint="example.com", bindings=[BINDING])["changed"]


def test_other_settings_are_left_alone(cloud):
    cors = {"allowHttpOptions": True}
    cloud.expect("GET", URL, body={"name": RESOURCE, "accessSettings": {"corsSettings": cors}})
    cloud.expect(
        "PATCH",
        URL,
        query={
            "updateMask": "iapSettings.accessSettings.oauthSettings.programmaticClients,"
            "iapSettings.applicationSettings.cookieDomain"
        },
        sent={
            "name": RESOURCE,
            "accessSettings": {"oauthSettings": {"programmaticClients": ["x"]}},
            "applicationSettings": {"cookieDomain": ".example.com"},
        },
        body={"name": RESOURCE},
    )
    options = {"programmatic_clients": ["x"], "cookie_domain": ".example.com", "cors_allow_http_options": True}
    assert cloud.run(iap_settings, resource=RESOURCE, **options)["changed"]


def test_an_empty_secret(cloud):
    client(cloud, key="\n")
    with pytest.raises(Failed, match="projects/p/secrets/key is empty"):
        cloud.run(iap_settings, resource=RESOURCE, **CLIENT)


def test_check_mode_before_the_service_is_there(cloud):
    cloud.expect_error("GET", URL, 404, code="NOT_FOUND")
    assert cloud.run(iap_settings, True, resource=RESOURCE, login_hint="example.com")["changed"]


def test_without_check_mode_the_service_has_to_be_there(cloud):
    cloud.expect_error("GET", URL, 404, code="NOT_FOUND")
    with pytest.raises(Failed, match="answered 404"):
        cloud.run(iap_settings, resource=RESOURCE, login_hint="example.com")


def test_secrets_that_are_not_there_yet_in_check_mode(cloud):
    for name in ("id", "key"):
        cloud.expect_error("GET", f"{SECRETS}/{name}/versions/latest:access", 404, code="NOT_FOUND")
    cloud.expect("GET", URL, body={"name": RESOURCE})
    result = cloud.run(iap_settings, True, resource=RESOURCE, **CLIENT)
    settings = result["diff"]["after"]["accessSettings"]["oauthSettings"]
    assert settings == {"clientId": "(not known yet)", "clientSecretSha256": "(not known yet)"}


def test_secrets_that_are_not_there(cloud):
    cloud.expect_error("GET", f"{SECRETS}/id/versions/latest:access", 404, code="NOT_FOUND")
    with pytest.raises(Failed, match="oauth_client_id_secret: projects/p/secrets/id/versions/latest does not exist"):
        cloud.run(iap_settings, resource=RESOURCE, **CLIENT)


@pytest.mark.parametrize(
    ("path", "kind"),
    [("appengine-p", "webTypes"), ("appengine-p/services/s", "webServices")],
)
def test_settings_of_app_engine(cloud, path, kind):
    resource = f"projects/1/iap_web/{path}"
    url = f"https://iap.googleapis.com/v1/{resource}:iapSettings"
    cloud.expect("GET", url, body={"name": resource})
    mask = "iapSettings.accessSettings.oauthSettings.programmaticClients"
    cloud.expect("PATCH", url, query={"updateMask": mask}, body={"name": resource})
    assert cloud.run(iap_settings, resource=resource, programmatic_clients=["1-a"])["changed"]
    cloud.expect_error("GET", url, 403, code="PERMISSION_DENIED", message="The caller does not have permission")
    with pytest.raises(Failed, match=rf"lacks the permission iap\.{kind}\.getSettings"):
        cloud.run(iap_settings, resource=resource, programmatic_clients=["1-a"])


@pytest.mark.parametrize("check_mode", [True, False])
def test_an_oauth_client_where_secrets_are_not_enabled_yet(cloud, check_mode):
    version = "https://secretmanager.googleapis.com/v1/projects/p/secrets/{}/versions/latest:access"
    options = {"resource": "projects/12/iap_web", "oauth_client_id_secret": "id", "oauth_client_secret_secret": "s"}
    cloud.expect_disabled(version.format("id"), "secretmanager.googleapis.com")
    if not check_mode:
        with pytest.raises(Failed, match=r"The API secretmanager\.googleapis\.com is not enabled"):
            cloud.run(iap_settings, **options)
        return
    cloud.expect_disabled(version.format("s"), "secretmanager.googleapis.com")
    cloud.expect("GET", "https://iap.googleapis.com/v1/projects/12/iap_web:iapSettings", body={})
    after = cloud.run(iap_settings, True, **options)["diff"]["after"]["accessSettings"]["oauthSettings"]
    assert set(after.values()) == {"(not known yet)"}
