# SPDX-License-Identifier: Apache-2.0
"""Test the responses that later tasks of the play reuse, and those that are always read again."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils import _shared, _snapshot, _survey
from ansible_collections.mlplatform.gcp.plugins.module_utils._http import Client
from ansible_collections.mlplatform.gcp.plugins.module_utils._snapshot import Snapshot, Stale, place
from ansible_collections.mlplatform.gcp.plugins.modules import (
    cloud_run_job,
    iam_bindings,
    image_build,
    preflight_info,
    secret,
    sql_database,
    sql_instance,
    sql_user,
    storage_bucket,
    storage_bucket_info,
)
from ansible_collections.mlplatform.gcp.tests.unit.plugins._scripted import Failed

BUCKET = "https://storage.googleapis.com/storage/v1/b/bkt"
SECRET = "https://secretmanager.googleapis.com/v1/projects/p/secrets/s"
INSTANCE = "https://sqladmin.googleapis.com/v1/projects/p/instances/db"
PROJECT = "https://cloudresourcemanager.googleapis.com/v3/projects/p"
USAGE = "https://serviceusage.googleapis.com/v1/projects/p/services:batchGet"
BILLING = "https://cloudbilling.googleapis.com/v1/projects/p/billingInfo"
OURS = {"managed-by": "mlplatform-gcp", "mlflow-deployment": "demo"}


@pytest.fixture(autouse=True)
def heap(monkeypatch):
    heap = _shared.Heap()
    monkeypatch.setattr(_shared, "_heap", heap)
    monkeypatch.setattr(_survey, "SIDE_BY_SIDE", 1)
    return heap


@pytest.fixture
def play(cloud):
    """Run modules one after another as tasks of one play; ``play(module, scope=...)`` for others."""

    def run(module, check_mode=False, scope="play key", **options):
        consult = not module.__name__.endswith("_info")
        snapshot = Snapshot(scope, consult=consult, shared=True)
        cloud.client = Client(
            SimpleNamespace(email="me@p.iam.gserviceaccount.com"),
            project="p",
            session=cloud,
            clock=cloud.clock,
            snapshot=snapshot,
        )
        return cloud.run(module, check_mode, **options)

    return run


@pytest.fixture
def survey(cloud, play):
    """Let preflight_info read resources; ``answers`` are ``(method, url, body)`` in the order of its questions."""

    def run(resources, *answers, **options):
        service = {"name": "projects/1/services/serviceusage.googleapis.com", "state": "ENABLED"}
        cloud.expect("GET", USAGE, body={"services": [service]})
        cloud.expect("GET", PROJECT, body={"name": "projects/1", "projectId": "p", "state": "ACTIVE"})
        cloud.expect("GET", BILLING, body={"billingEnabled": True})
        for method, url, body in answers:
            if body is None:
                cloud.expect_error(method, url, 404, code="NOT_FOUND")
            else:
                cloud.expect(method, url, body=body)
        result = play(preflight_info, region="europe-west1", resources=resources, **options)
        cloud.requests.clear()
        return result

    return run


def bucket(**more):
    return dict({"name": "bkt", "location": "EUROPE-WEST1", "metageneration": "1", "labels": OURS}, **more)


def test_a_run_that_changes_nothing_reads_nothing_again(cloud, play, survey):
    execution = "projects/p/locations/l/jobs/j/executions/e1"
    run = "https://run.googleapis.com/v2/"
    container = {"image": "i"}
    job = {
        "name": "projects/p/locations/l/jobs/j",
        "labels": OURS,
        "template": {"template": {"containers": [container]}},
        "latestCreatedExecution": {"name": execution},
    }
    done = {"template": {"containers": [container]}, "completionTime": "t", "succeededCount": 1}
    version = {"name": "projects/1/secrets/s/versions/3", "state": "ENABLED"}
    policy = {"bindings": [{"role": "roles/r", "members": ["user:a@x.org"]}]}
    from ansible_collections.mlplatform.gcp.plugins.module_utils import _sql_users

    names = {"project": "p", "instance": "db", "name": "mlflow"}
    annotation = _sql_users.PasswordVersion(cloud.task({}), names).annotation
    annotations = {"mlplatform-gcp-version": "3", "mlplatform-gcp-made-of": "generated", annotation: "3"}
    image = "europe-west1-docker.pkg.dev/p/r/n:t"
    tag = "...repositories/r/packages/n/tags/t"
    result = survey(
        [
            {"type": "storage_bucket", "name": "bkt", "read": ["policy"]},
            {"type": "secret", "name": "s", "read": ["policy", "latest_version"]},
            {"type": "sql_instance", "name": "db"},
            {"type": "sql_database", "name": "db/mlflow"},
            {"type": "sql_user", "name": "db/mlflow"},
            {"type": "cloud_run_job", "name": "j", "location": "l", "read": ["latest_execution"]},
            {"type": "image_tag", "name": image},
            {"type": "project", "name": "p", "read": ["policy"]},
        ],
        ("GET", BUCKET, bucket()),
        ("GET", f"{BUCKET}/iam", policy),
        ("GET", SECRET, {"name": "projects/1/secrets/s", "annotations": annotations, "labels": OURS}),
        ("GET", f"{SECRET}:getIamPolicy", policy),
        ("GET", f"{SECRET}/versions/latest", version),
        ("GET", INSTANCE, {"region": "europe-west1", "state": "RUNNABLE", "settings": {"userLabels": OURS}}),
        ("GET", f"{INSTANCE}/databases/mlflow", {"name": "mlflow", "charset": "UTF8"}),
        ("GET", f"{INSTANCE}/users/mlflow", {"name": "mlflow"}),
        ("GET", f"{run}{job['name']}", job),
        ("GET", f"{run}{execution}", done),
        ("GET", tag, {"version": "projects/p/versions/sha256:1"}),
        ("POST", f"{PROJECT}:getIamPolicy", policy),
        owner_labels=OURS,
    )
    assert result["problems"] == []
    assert [found["relation"] for found in result["resources"][3:5]] == ["managed", "managed"]

    bindings = {"bindings": [{"role": "roles/r", "members": ["user:a@x.org"]}], "owner": OURS}
    full = "//storage.googleapis.com/projects/_/buckets/bkt"
    tasks = [
        (storage_bucket, {"name": "bkt", "location": "europe-west1", "labels": OURS, "owner": OURS}),
        (iam_bindings, dict(bindings, resource=full)),
        (iam_bindings, dict(bindings, resource="//cloudresourcemanager.googleapis.com/projects/p")),
        (secret, dict(bindings, name="s", generate={"length": 8})),
        (sql_instance, {"name": "db", "region": "europe-west1", "owner": OURS}),
        (sql_database, {"instance": "db", "name": "mlflow", "charset": "utf8", "owner": OURS}),
        (sql_user, {"instance": "db", "name": "mlflow", "password_secret": "projects/p/secrets/s", "owner": OURS}),
        (cloud_run_job, {"name": "j", "location": "l", "image": "i", "execute": "on_change"}),
        (image_build, {"image": image, "context": "/nowhere", "engine": "docker"}),
    ]
    for module, options in tasks:
        assert not play(module, **options)["changed"], module.__name__
    assert cloud.requests == []


def test_a_change_is_planned_with_what_the_service_says(cloud, play, survey):
    survey([{"type": "storage_bucket", "name": "bkt"}], ("GET", BUCKET, bucket()))
    # Meanwhile another user has labelled the bucket, and turned versioning on.
    cloud.expect("GET", BUCKET, body=bucket(metageneration="2", versioning={"enabled": True}))
    sent = {"storageClass": "NEARLINE"}
    query = {"ifMetagenerationMatch": "2"}
    cloud.expect("PATCH", BUCKET, sent=sent, query=query, body=bucket(**sent))
    result = play(storage_bucket, name="bkt", storage_class="NEARLINE", versioning=True)
    assert result["changed"] and result["diff"]["before"]["versioning"] == {"enabled": True}


def test_what_another_user_has_changed_as_wanted_is_not_changed_again(cloud, play, survey):
    survey([{"type": "storage_bucket", "name": "bkt"}], ("GET", BUCKET, bucket()))
    cloud.expect("GET", BUCKET, body=bucket(storageClass="NEARLINE"))
    assert not play(storage_bucket, name="bkt", storage_class="NEARLINE")["changed"]


def test_a_resource_that_another_owner_has_created_since_is_refused(cloud, play, survey):
    survey([{"type": "storage_bucket", "name": "bkt"}], ("GET", BUCKET, None))
    cloud.expect("GET", BUCKET, body=bucket(labels={"mlflow-deployment": "other"}))
    with pytest.raises(Failed, match="belongs to the deployment other"):
        play(storage_bucket, name="bkt", location="europe-west1", owner=OURS)


def test_a_task_fails_only_with_what_the_service_says(cloud, play, survey):
    survey([{"type": "storage_bucket", "name": "bkt"}], ("GET", BUCKET, bucket(location="US")))
    cloud.expect("GET", BUCKET, body=bucket())
    assert not play(storage_bucket, name="bkt", location="europe-west1")["changed"]


def test_check_mode_plans_with_what_was_read(cloud, play, survey):
    survey([{"type": "storage_bucket", "name": "bkt"}], ("GET", BUCKET, None))
    assert play(storage_bucket, True, name="bkt")["changed"]
    assert cloud.requests == []


def test_after_a_change_the_next_task_reads_again(cloud, play, survey):
    survey(
        [{"type": "storage_bucket", "name": "bkt", "read": ["policy"]}],
        ("GET", BUCKET, bucket()),
        ("GET", f"{BUCKET}/iam", {}),
    )
    cloud.expect("GET", BUCKET, body=bucket())
    cloud.expect("PATCH", BUCKET, body=bucket(storageClass="NEARLINE"))
    play(storage_bucket, name="bkt", storage_class="NEARLINE")
    cloud.expect("GET", BUCKET, body=bucket(storageClass="NEARLINE"))
    assert not play(storage_bucket, name="bkt", storage_class="NEARLINE")["changed"]
    cloud.expect("GET", f"{BUCKET}/iam", body={})
    full = "//storage.googleapis.com/projects/_/buckets/bkt"
    assert play(iam_bindings, True, resource=full, bindings=[{"role": "r", "members": ["allUsers"]}])["changed"]


def test_info_modules_read_from_the_service(cloud, play, survey):
    survey([{"type": "storage_bucket", "name": "bkt"}], ("GET", BUCKET, bucket()))
    cloud.expect("GET", BUCKET, body=bucket(etag="new"))
    assert play(storage_bucket_info, name="bkt")["resources"][0]["etag"] == "new"


def test_waiting_reads_from_the_service(cloud, play, survey):
    pending = {"region": "europe-west1", "state": "PENDING_CREATE", "settings": {}}
    survey([{"type": "sql_instance", "name": "db"}], ("GET", INSTANCE, pending))
    cloud.expect("GET", INSTANCE, body=dict(pending, state="RUNNABLE"))
    assert play(sql_instance, name="db")["resource"]["state"] == "RUNNABLE"


@pytest.mark.parametrize("scope", ["another play key", "play another key"])
def test_another_play_and_other_credentials_read_for_themselves(cloud, play, survey, scope):
    survey([{"type": "storage_bucket", "name": "bkt"}], ("GET", BUCKET, bucket()))
    cloud.expect("GET", BUCKET, body=bucket())
    assert not play(storage_bucket, name="bkt", scope=scope)["changed"]


def test_answers_are_kept_for_a_while_only(cloud, play, survey, monkeypatch):
    survey([{"type": "storage_bucket", "name": "bkt"}], ("GET", BUCKET, bucket()))
    now = _shared.time.time()
    monkeypatch.setattr(_shared.time, "time", lambda: now + _snapshot.SECONDS + 1)
    cloud.expect("GET", BUCKET, body=bucket())
    play(storage_bucket, name="bkt")


def test_without_shared_memory_every_task_reads(cloud, play, survey, monkeypatch):
    monkeypatch.setattr(_shared, "_heap", None)
    survey([{"type": "storage_bucket", "name": "bkt"}], ("GET", BUCKET, bucket()))
    cloud.expect("GET", BUCKET, body=bucket())
    play(storage_bucket, name="bkt")


def test_an_image_that_is_built_here_is_looked_for_again(cloud, play, survey, monkeypatch, tmp_path):
    image, tag = "europe-west1-docker.pkg.dev/p/r/n:t", "...repositories/r/packages/n/tags/t"
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    survey([{"type": "image_tag", "name": image}], ("GET", tag, None))
    cloud.expect("GET", tag, body={"version": "projects/p/versions/sha256:1"})
    result = play(image_build, image=image, context=str(tmp_path), engine="docker")
    assert not result["changed"] and result["image"].endswith("@sha256:1")


def test_errors_of_related_reads_are_for_the_task_that_needs_them(cloud, play, survey):
    answers = [("GET", BUCKET, bucket()), ("GET", f"{BUCKET}/iam", None)]
    assert survey([{"type": "storage_bucket", "name": "bkt", "read": ["policy"]}], *answers)["problems"] == []


# The snapshot by itself


def kept(url, **more):
    snapshot = Snapshot("s", shared=True)
    snapshot.keep = True
    snapshot.add("GET", url, None, None, {"name": url}, snapshot.begin(), **more)


def known(url):
    return Snapshot("s", consult=True, shared=True).find("GET", url, None, None)


@pytest.mark.parametrize(
    ("changed", "forgotten"),
    [
        ("https://a.com/v1/p/x", True),
        ("https://a.com/v1/p/x:setIamPolicy", True),
        ("https://a.com/v1/p/x/versions/3:disable", True),
        ("https://a.com/v1/p", True),
        ("https://a.com/v1/p/xy", False),
        ("https://a.com/v1/p/y", False),
        ("https://b.com/v1/p/x", False),
    ],
)
def test_what_a_change_concerns(changed, forgotten):
    kept("https://a.com/v1/p/x")
    Snapshot("other").forget(changed)
    assert (known("https://a.com/v1/p/x") is None) is forgotten


def test_a_read_that_a_change_has_overtaken_is_not_kept():
    snapshot = Snapshot("s", shared=True)
    snapshot.keep = True
    began = snapshot.begin()
    Snapshot("other").forget("https://a.com/v1/z")
    snapshot.add("GET", "https://a.com/v1/p", None, None, {}, began)
    assert known("https://a.com/v1/p") is None


def test_a_query_is_compared_as_it_is_sent():
    snapshot = Snapshot("s", consult=True, shared=True)
    snapshot.keep = True
    snapshot.add("GET", "https://a.com/p", {"v": 3}, None, {"a": 1}, snapshot.begin())
    assert snapshot.find("GET", "https://a.com/p", {"v": "3"}, None) == [True, {"a": 1}]
    assert snapshot.find("GET", "https://a.com/p", {"v": "4"}, None) is None


@pytest.mark.parametrize(
    ("method", "url", "known"),
    [
        ("GET", BUCKET, True),
        ("GET", f"{BUCKET}/iam", True),
        ("POST", f"{SECRET}:getIamPolicy", True),
        ("GET", f"{SECRET}/versions/latest", True),
        ("GET", f"{SECRET}2", False),
        ("GET", f"{BUCKET}2/iam", False),
        ("GET", SECRET.rpartition("/")[0], False),
    ],
)
def test_what_does_not_exist_has_no_policy_and_nothing_in_it(method, url, known):
    keeper = Snapshot("key", shared=True)
    keeper.keep = True
    for missing in (BUCKET, SECRET):
        keeper.add("GET", missing, None, None, None, keeper.begin())
    reader = Snapshot("key", consult=True, shared=True)
    assert reader.find(method, url, {"version": 3}, None) == ([False, None] if known and url != BUCKET else None)
    assert reader.find(method, url, None, None) == ([False, None] if known else None)
    reader.afresh()
    assert reader.find(method, url, None, None) is None


def test_values_of_secrets_are_not_kept():
    kept("https://a.com/v1/p/secrets/s/versions/1:access")
    assert known("https://a.com/v1/p/secrets/s/versions/1:access") is None


def test_a_change_after_a_kept_answer_starts_again():
    kept("https://a.com/p")
    snapshot = Snapshot("s", consult=True, shared=True)
    assert snapshot.find("GET", "https://a.com/p", None, None)
    with pytest.raises(Stale):
        snapshot.changing("https://a.com/q")
    assert snapshot.afresh()
    snapshot.changing("https://a.com/q")
    assert snapshot.find("GET", "https://a.com/p", None, None) is None


def test_a_deleted_account_concerns_all_policies(cloud):
    kept("https://a.com/v1/p")
    client = Client(None, session=cloud, clock=cloud.clock, snapshot=Snapshot("s", shared=True))
    cloud.expect("DELETE", "https://iam.googleapis.com/v1/projects/p/serviceAccounts/a")
    client.request("DELETE", "https://iam.googleapis.com/v1/projects/p/serviceAccounts/a")
    assert known("https://a.com/v1/p") is None


def test_the_place_of_a_resource():
    assert place("https://a.com/v1/p/x:setIamPolicy?a=b") == "a.com/v1/p/x"
    assert place("https://a.com/v1/p/a@b.c") == "a.com/v1/p/a@b.c"
