# SPDX-License-Identifier: Apache-2.0
"""App Engine: the Admin API from outside, real processes behind versions, and requests to them."""

from __future__ import annotations

import pytest
from gcp_sandbox.services.appengine.testing import Deployments


@pytest.fixture
def engine(sandbox, tmp_path):
    deployments = Deployments(sandbox)
    deployments.make_image(tmp_path / "context")
    yield deployments
    deployments.close()


@pytest.fixture
def app(engine):
    """With an application."""
    engine.create_application()
    return engine


# -- the application


def test_an_application_has_what_google_makes_for_it(engine):
    app = engine.create_application()
    assert app["@type"].endswith("google.appengine.v1.Application")
    shown = engine.show()
    assert shown["name"] == engine.app and shown["id"] == engine.project.id
    assert shown["locationId"] == "europe-west" and shown["servingStatus"] == "SERVING"
    assert shown["defaultHostname"] == f"{engine.project.id}.ew.r.appspot.com"
    assert shown["codeBucket"] == f"staging.{engine.project.id}.appspot.com"
    assert shown["serviceAccount"] == f"{engine.project.id}@appspot.gserviceaccount.com"
    assert shown["featureSettings"]["splitHealthChecks"] is True
    for bucket in (shown["codeBucket"], shown["defaultBucket"]):
        made = engine.api.ok("GET", f"https://storage.googleapis.com/storage/v1/b/{bucket}")
        assert made["location"] == "EU"
    account = f"projects/{engine.project.id}/serviceAccounts/{shown['serviceAccount']}"
    assert engine.api.ok("GET", f"https://iam.googleapis.com/v1/{account}")["email"] == shown["serviceAccount"]


def test_a_version_serves_and_traffic_moves(app):
    version = app.deploy("v1", env={"A": "one"})
    assert version["versionUrl"] == f"https://v1-dot-{app.host}"
    env = app.fetch("/env").json()
    assert env["A"] == "one" and env["GAE_VERSION"] == "v1" and env["GAE_SERVICE"] == "default"
    app.deploy("v2", env={"A": "two"})
    assert app.fetch("/env").json()["A"] == "one"
    assert app.fetch("/env", host=f"v2-dot-{app.host}").json()["A"] == "two"
    app.finish(app.split(v2=1))
    assert app.fetch("/env").json()["A"] == "two"


def test_iap_guards_the_application(app):
    app.deploy("v1")
    assert app.fetch("/").status_code == 200
    app.done("PATCH", "?updateMask=iap", {"iap": {"enabled": True}})
    refused = app.fetch("/", headers={"accept": "application/json"})
    assert refused.status_code == 401
    page = app.fetch("/", headers={"accept": "text/html"})
    assert page.status_code == 302 and page.headers["location"].startswith("https://accounts.google.com/")
