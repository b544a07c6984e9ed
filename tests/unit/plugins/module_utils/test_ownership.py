# SPDX-License-Identifier: Apache-2.0
"""Ownership as every module has it: what a task with ``owner`` creates, changes, adopts, refuses and keeps."""

from __future__ import annotations

import importlib

import pytest
from ansible_collections.mlplatform.gcp.plugins.modules import (
    app_engine_service,
    app_engine_version,
    iam_bindings,
    iap_access,
    secret,
    service_account,
    sql_database,
    sql_instance,
    sql_user,
)
from ansible_collections.mlplatform.gcp.tests.unit.plugins._scripted import Failed

OURS = {"managed-by": "mlplatform-gcp", "mlflow-deployment": "demo", "mlflow-env": "dev"}
THEIRS = {"managed-by": "mlplatform-gcp", "mlflow-deployment": "other", "mlflow-env": "dev"}
PAIRS = "managed-by=mlplatform-gcp mlflow-deployment=demo mlflow-env=dev"
RUN = "https://run.googleapis.com/v2/projects/p/locations/l"
REPOSITORIES = "https://artifactregistry.googleapis.com/v1/projects/p/locations/l/repositories"
ACCOUNT = "https://iam.googleapis.com/v1/projects/p/serviceAccounts"
BUCKET = "https://storage.googleapis.com/storage/v1/b"
SECRET = "https://secretmanager.googleapis.com/v1/projects/p/secrets"
INSTANCES = "https://sqladmin.googleapis.com/v1/projects/p/instances"
APP = "https://appengine.googleapis.com/v1/apps/p/services"


def load(name):
    return importlib.import_module(f"ansible_collections.mlplatform.gcp.plugins.modules.{name}")


def labelled(body, labels):
    return dict(body, labels=labels)


# module -> (options, address of the resource, its body without a mark, where the mark is)
LABELLED = {
    "storage_bucket": ({"name": "x", "versioning": True}, f"{BUCKET}/x", {"name": "x"}, "labels"),
    "sql_instance": (
        {"name": "x", "database_version": "POSTGRES_16", "tier": "t", "deletion_protection": False},
        f"{INSTANCES}/x",
        {"name": "x", "databaseVersion": "POSTGRES_16", "state": "RUNNABLE", "settings": {"tier": "old"}},
        "settings.userLabels",
    ),
    "artifact_repository": (
        {"name": "x", "location": "l", "description": "ours"},
        f"{REPOSITORIES}/x",
        {"name": "n", "format": "DOCKER", "description": "theirs"},
        "labels",
    ),
    "cloud_run_service": (
        {"name": "x", "location": "l", "image": "new"},
        f"{RUN}/services/x",
        {"name": "n", "template": {"containers": [{"image": "old"}]}},
        "labels",
    ),
    "cloud_run_job": (
        {"name": "x", "location": "l", "image": "new"},
        f"{RUN}/jobs/x",
        {"name": "n", "template": {"template": {"containers": [{"image": "old"}]}}},
        "labels",
    ),
    "secret": (
        {"name": "x", "annotations": {"a": "b"}},
        f"{SECRET}/x",
        {"name": "projects/1/secrets/x", "etag": "e"},
        "labels",
    ),
    "service_account": (
        {"account_id": "account", "description": "ours", "display_name": "ours"},
        f"{ACCOUNT}/account@p.iam.gserviceaccount.com",
        {"name": "n", "email": "account@p.iam.gserviceaccount.com", "description": "theirs", "displayName": "theirs"},
        "description",
    ),
}


@pytest.fixture(params=LABELLED)
def kind(request):
    return (load(request.param), *LABELLED[request.param])


def marked(body, path, labels):
    """A body that carries labels, wherever its kind has them."""
    if path == "description":
        return dict(body, description=" ".join(f"{key}={value}" for key, value in labels.items()))
    first, _dot, rest = path.partition(".")
    return dict(body, **{first: dict(body.get(first) or {}, **{rest: labels}) if rest else labels})


def at(tree, path):
    for key in path.split("."):
        tree = (tree or {}).get(key)
    return tree


def test_a_new_resource_gets_the_mark(cloud, kind):
    module, options, url, _body, path = kind
    cloud.expect_error("GET", url, 404, code="NOT_FOUND")
    result = cloud.run(module, True, owner=OURS, **options)
    mark = at(result["diff"]["after"], path)
    assert mark == (f"ours {PAIRS}" if path == "description" else OURS)
    assert result["relation"] == "created"


def test_labels_of_the_task_are_kept_beside_the_mark(cloud):
    cloud.expect_error("GET", f"{SECRET}/x", 404, code="NOT_FOUND")
    cloud.expect("POST", SECRET, sent={"replication": {"automatic": {}}, "labels": {"team": "a", **OURS}}, body={})
    cloud.run(secret, name="x", labels={"team": "a"}, owner=OURS)


def test_a_marked_resource_is_managed(cloud, kind):
    module, options, url, body, path = kind
    cloud.expect("GET", url, body=marked(body, path, OURS))
    result = cloud.run(module, True, owner=OURS, adopt=True, **options)
    assert result["changed"] and result["relation"] == "managed"
    assert {item["action"] for item in result["changes"]} == {"change"}


@pytest.mark.parametrize("state", ["present", "absent"])
@pytest.mark.parametrize("labels", [THEIRS, {}])
def test_a_resource_of_another_owner_is_refused(cloud, kind, state, labels):
    module, options, url, body, path = kind
    cloud.expect("GET", url, body=marked(body, path, labels) if labels else body)
    with pytest.raises(Failed) as failed:
        cloud.run(module, owner=OURS, state=state, **options)
    words = "belongs to the deployment other" if labels else "was not created by this deployment"
    assert words in failed.value.result["msg"] and "adopt" in failed.value.result["msg"]
    assert failed.value.result["resource"]
    assert [request.method for request in cloud.requests] == ["GET"]


def test_without_an_owner_nothing_is_checked(cloud, kind):
    module, options, url, body, path = kind
    cloud.expect("GET", url, body=marked(body, path, THEIRS))
    result = cloud.run(module, True, **options)
    assert result["changed"] and "relation" not in result


def test_an_adopted_resource_keeps_its_labels_and_texts(cloud, kind):
    module, options, url, body, path = kind
    cloud.expect("GET", url, body=marked(body, path, THEIRS) if path != "description" else body)
    result = cloud.run(module, True, owner=OURS, adopt=True, **options)
    assert result["relation"] == "adopted"
    for side in ("before", "after"):
        assert at(result["diff"][side], path) is None
        assert not {"description", "displayName"} & set(result["diff"][side])
    changed = module.__name__.rpartition(".")[2] not in ("artifact_repository", "service_account")
    assert result["changed"] is changed
    assert [item["action"] for item in result["changes"]] == (["adopt"] if changed else [])


def test_an_adopted_resource_is_not_deleted(cloud, kind):
    module, options, url, body, path = kind
    cloud.expect("GET", url, body=marked(body, path, THEIRS))
    result = cloud.run(module, owner=OURS, adopt=True, state="absent", **options)
    assert not result["changed"] and "is adopted, so it stays" in result["msg"]
    assert [request.method for request in cloud.requests] == ["GET"]


def test_a_resource_that_does_not_exist_is_absent(cloud, kind):
    module, options, url, _body, _path = kind
    cloud.expect_error("GET", url, 404, code="NOT_FOUND")
    assert not cloud.run(module, owner=OURS, state="absent", **options)["changed"]


def test_the_description_of_a_managed_account_stays_as_it_is(cloud):
    url = LABELLED["service_account"][1]
    cloud.expect("GET", url, body={"name": "n", "description": PAIRS, "displayName": "d"})
    result = cloud.run(load("service_account"), account_id="account", display_name="d", owner=OURS)
    assert not result["changed"]


# Databases and users belong to the owner of their instance


def instance(labels):
    return {"name": "db", "state": "RUNNABLE", "settings": {"userLabels": labels}}


DATABASE = {"instance": "db", "name": "mlflow", "charset": "utf8mb4"}


@pytest.mark.parametrize(("labels", "adopt", "relation"), [(OURS, False, "managed"), (THEIRS, True, "adopted")])
def test_a_database(cloud, labels, adopt, relation):
    charset = "utf8mb4" if relation == "managed" else "latin1"
    cloud.expect("GET", f"{INSTANCES}/db/databases/mlflow", body={"name": "mlflow", "charset": charset})
    cloud.expect("GET", f"{INSTANCES}/db", body=instance(labels))
    result = cloud.run(sql_database, owner=OURS, adopt=adopt, **DATABASE)
    assert not result["changed"] and result["relation"] == relation


def test_a_database_in_an_instance_that_is_only_used(cloud):
    url = f"{INSTANCES}/db/databases/mlflow"
    cloud.expect("GET", url, body={"name": "mlflow", "charset": "utf8mb4"})
    cloud.expect("GET", f"{INSTANCES}/db", body=instance(THEIRS))
    assert not cloud.run(sql_database, owner=OURS, **DATABASE)["changed"]
    cloud.expect("GET", url, body={"name": "mlflow"})
    for _again in range(2):
        cloud.expect("GET", f"{INSTANCES}/db", body=instance(THEIRS))
    with pytest.raises(Failed, match="belongs to the deployment other"):
        cloud.run(sql_database, owner=OURS, state="absent", instance="db", name="mlflow")


USER = f"{INSTANCES}/db/users/mlflow"
PASSWORD = {"instance": "db", "name": "mlflow", "password_secret": "projects/p/secrets/pw/versions/3"}


def a_user(cloud, labels, recorded):
    from ansible_collections.mlplatform.gcp.plugins.module_utils import _sql_users

    names = {"project": "p", "instance": "db", "name": "mlflow"}
    annotation = _sql_users.PasswordVersion(cloud.task({}), names).annotation
    cloud.expect("GET", USER, body={"name": "mlflow"})
    cloud.expect("GET", f"{SECRET}/pw", body={"annotations": {annotation: recorded} if recorded else {}})
    cloud.expect("GET", f"{INSTANCES}/db", body=instance(labels))


@pytest.mark.parametrize("labels", [OURS, THEIRS])
def test_a_user_whose_password_came_from_the_secret_is_ours(cloud, labels):
    a_user(cloud, labels, "3")
    result = cloud.run(sql_user, owner=OURS, **PASSWORD)
    assert not result["changed"] and result["relation"] == "managed"


def test_a_user_of_another_owner_keeps_its_password(cloud):
    a_user(cloud, THEIRS, None)
    cloud.expect("GET", f"{INSTANCES}/db", body=instance(THEIRS))
    with pytest.raises(Failed, match="belongs to the deployment other"):
        cloud.run(sql_user, owner=OURS, **PASSWORD)
    a_user(cloud, THEIRS, None)
    result = cloud.run(sql_user, owner=OURS, adopt=True, **PASSWORD)
    assert not result["changed"] and result["relation"] == "adopted"
    assert {request.method for request in cloud.requests} == {"GET"}


@pytest.mark.parametrize(("adopt", "words"), [(False, "belongs to the deployment"), (True, "is adopted")])
def test_a_user_of_another_owner_is_not_deleted(cloud, adopt, words):
    a_user(cloud, THEIRS, None)
    if adopt:
        assert words in cloud.run(sql_user, owner=OURS, adopt=True, state="absent", **PASSWORD)["msg"]
        return
    cloud.expect("GET", f"{INSTANCES}/db", body=instance(THEIRS))
    with pytest.raises(Failed, match=words):
        cloud.run(sql_user, owner=OURS, state="absent", **PASSWORD)


def test_a_user_in_an_own_instance_gets_the_password_though_others_are_adopted(cloud):
    a_user(cloud, OURS, None)
    result = cloud.run(sql_user, True, owner=OURS, adopt=True, **PASSWORD)
    assert result["changed"] and result["relation"] == "managed"


# Secrets


def test_an_adopted_secret_keeps_its_value(cloud):
    cloud.expect("GET", f"{SECRET}/s", body={"name": "projects/1/secrets/s", "etag": "e", "labels": THEIRS})
    name = "projects/1/secrets/s/versions/7"
    cloud.expect("GET", f"{SECRET}/s/versions/latest", body={"name": name, "state": "ENABLED"})
    cloud.expect("GET", f"{SECRET}/s/versions/7:access", body={"payload": {"data": "b3RoZXI="}})
    result = cloud.run(secret, name="s", payload="mine", owner=OURS, adopt=True)
    assert not result["changed"] and result["version"].endswith("/7")
    assert "is left as it is" in cloud.warnings[0]


def test_a_managed_secret_gets_its_value_though_others_are_adopted(cloud):
    cloud.expect("GET", f"{SECRET}/s", body={"name": "projects/1/secrets/s", "etag": "e", "labels": OURS})
    name = "projects/1/secrets/s/versions/7"
    cloud.expect("GET", f"{SECRET}/s/versions/latest", body={"name": name, "state": "ENABLED"})
    cloud.expect("GET", f"{SECRET}/s/versions/7:access", body={"payload": {"data": "b3RoZXI="}})
    assert cloud.run(secret, True, name="s", payload="mine", owner=OURS, adopt=True)["changed"]


# App Engine


def version(labels, **more):
    mark = {"MLFLOW_DEPLOYMENT": "-".join(list(labels.values())[1:])} if labels else {}
    return {"id": "v1", "envVariables": dict(mark, A="b"), "env": "flexible", "servingStatus": "STOPPED", **more}


def test_a_version_is_marked_by_a_variable(cloud):
    url = f"{APP}/default/versions"
    cloud.expect_error("GET", f"{url}/v1", 404, code="NOT_FOUND")
    result = cloud.run(app_engine_version, True, name="v1", image="i", env_variables={"A": "b"}, owner=OURS)
    assert result["diff"]["after"]["envVariables"] == {"A": "b", "MLFLOW_DEPLOYMENT": "demo-dev"}
    cloud.expect("GET", f"{url}/v1", body=version(OURS))
    result = cloud.run(app_engine_version, True, name="v1", env_variables={"A": "b"}, owner=OURS)
    assert not result["changed"] and result["relation"] == "managed"
    cloud.expect("GET", f"{url}/v1", body=version(THEIRS))
    with pytest.raises(Failed, match="belongs to the deployment other"):
        cloud.run(app_engine_version, name="v1", state="absent", owner=OURS)


@pytest.mark.parametrize(("name", "environment"), [("demo", "eu-west"), ("demo", "x-dev"), ("demo-two", "qa")])
def test_a_version_of_any_environment_is_found_again(cloud, name, environment):
    owner = OURS | {"mlflow-deployment": name, "mlflow-env": environment}
    other = owner | {"mlflow-deployment": f"{name}-more"}
    cloud.expect("GET", f"{APP}/default/versions/v1", body=version(owner))
    assert cloud.run(app_engine_version, True, name="v1", owner=owner)["relation"] == "managed"
    cloud.expect("GET", f"{APP}/default/versions/v1", body=version(other))
    with pytest.raises(Failed, match=f"belongs to the deployment {name}-more"):
        cloud.run(app_engine_version, name="v1", state="absent", owner=owner)
    idle = dict(version(other), id="v0")
    a_service(cloud, version(owner), idle)
    assert cloud.run(app_engine_service, True, name="mlflow", owner=owner)["relation"] == "managed"


def test_a_description_carries_labels_of_any_alphabet(cloud):
    owner = {"équipe": "機械学習"}
    cloud.expect(
        "GET", ".../serviceAccounts/abcdef@p.iam.gserviceaccount.com", body={"description": "A équipe=機械学習"}
    )
    assert cloud.run(service_account, True, account_id="abcdef", owner=owner)["relation"] == "managed"


def test_a_version_cannot_carry_any_label(cloud):
    cloud.expect_error("GET", f"{APP}/default/versions/v1", 404, code="NOT_FOUND")
    with pytest.raises(Failed, match="mlflow-deployment"):
        cloud.run(app_engine_version, name="v1", image="i", owner={"team": "a"})


def a_service(cloud, *versions):
    cloud.expect("GET", f"{APP}/mlflow", body={"id": "mlflow", "split": {"allocations": {"v1": 1}}})
    cloud.expect("GET", f"{APP}/mlflow/versions", body={"versions": list(versions)})


def test_a_service_belongs_to_the_owner_of_the_versions_that_serve(cloud):
    idle = dict(version(THEIRS), id="v0")
    a_service(cloud, version(OURS), idle)
    result = cloud.run(app_engine_service, True, name="mlflow", allocations={"v2": 1}, owner=OURS)
    assert result["changed"] and result["relation"] == "managed"
    a_service(cloud, version(OURS), idle)  # to delete it would delete the idle version of another owner
    with pytest.raises(Failed, match="was not created by this deployment"):
        cloud.run(app_engine_service, name="mlflow", state="absent", owner=OURS)


def test_the_traffic_of_another_owner_is_left_where_it_is(cloud):
    a_service(cloud, version(THEIRS))
    with pytest.raises(Failed, match="belongs to the deployment other"):
        cloud.run(app_engine_service, name="mlflow", allocations={"v2": 1}, owner=OURS)


def test_versions_are_read_again_with_their_service(cloud):
    a_service(cloud, version(OURS))
    cloud.expect("GET", f"{APP}/mlflow/versions/v2", body=version(OURS, servingStatus="SERVING"))
    cloud.expect_error("PATCH", f"{APP}/mlflow", 409, code="ABORTED")
    a_service(cloud, version(THEIRS))  # another deployment has adopted meanwhile
    with pytest.raises(Failed, match="belongs to the deployment other"):
        cloud.run(app_engine_service, name="mlflow", allocations={"v2": 1}, owner=OURS)


# Bindings

BINDINGS = [{"role": "roles/r", "members": ["user:me@x.org"]}]
POLICY = {"etag": "e", "bindings": [{"role": "roles/r", "members": ["user:other@x.org"]}]}
FULL = "//secretmanager.googleapis.com/projects/p/secrets/s"


def bind(cloud, labels, **options):
    cloud.expect("GET", f"{SECRET}/s", body={"name": "projects/1/secrets/s", "labels": labels})
    cloud.expect("GET", f"{SECRET}/s:getIamPolicy", body=POLICY)
    return cloud.run(iam_bindings, True, **{"resource": FULL, "bindings": BINDINGS, "owner": OURS, **options})


def test_bindings_of_a_managed_resource_are_authoritative(cloud):
    result = bind(cloud, OURS, authoritative=True)
    assert result["diff"]["after"] == {"roles/r": ["user:me@x.org"]} and result["relation"] == "managed"


def test_bindings_of_an_adopted_resource_are_only_added(cloud):
    result = bind(cloud, THEIRS, authoritative=True, adopt=True)
    assert result["diff"]["after"] == {"roles/r": ["user:me@x.org", "user:other@x.org"]}
    assert result["relation"] == "adopted"


@pytest.mark.parametrize(("members", "changed"), [([], False), (["user:other@x.org"], True)])
def test_of_an_adopted_resource_only_named_members_lose_a_role(cloud, members, changed):
    bindings = [{"role": "roles/r", "members": members}]
    assert bind(cloud, THEIRS, bindings=bindings, state="absent", adopt=True)["changed"] is changed


def test_bindings_of_another_owner_are_refused(cloud):
    cloud.expect("GET", f"{SECRET}/s", body={"name": "projects/1/secrets/s", "labels": THEIRS})
    with pytest.raises(Failed, match="belongs to the deployment other"):
        cloud.run(iam_bindings, resource=FULL, bindings=BINDINGS, owner=OURS)


def test_a_project_belongs_to_no_owner(cloud):
    url = "https://cloudresourcemanager.googleapis.com/v3/projects/p"
    cloud.expect("POST", f"{url}:getIamPolicy", body=POLICY)
    full = "//cloudresourcemanager.googleapis.com/projects/p"
    result = cloud.run(iam_bindings, True, resource=full, bindings=BINDINGS, owner=OURS)
    assert result["changed"] and "relation" not in result


def test_access_through_iap_to_an_adopted_service_is_only_added(cloud):
    cloud.expect("GET", "https://cloudresourcemanager.googleapis.com/v3/projects/p", body={"name": "projects/1"})
    cloud.expect("GET", f"{RUN}/services/s", body={"name": "s", "labels": THEIRS, "iapEnabled": True})
    policy = {"bindings": [{"role": "roles/iap.httpsResourceAccessor", "members": ["user:other@x.org"]}]}
    cloud.expect("POST", "...:getIamPolicy", body=policy)
    options = {"type": "cloud_run", "service": "s", "location": "l", "members": ["user:me@x.org"]}
    result = cloud.run(iap_access, True, owner=OURS, adopt=True, **options)
    assert result["relation"] == "adopted" and result["enabled"] is True
    assert next(iter(result["diff"]["after"].values())) == ["user:me@x.org", "user:other@x.org"]


def test_protection_is_lifted_from_a_managed_instance_only(cloud):
    body = dict(instance(THEIRS), settings={"userLabels": THEIRS, "deletionProtectionEnabled": True})
    cloud.expect("GET", f"{INSTANCES}/db", body=body)
    with pytest.raises(Failed, match="belongs to the deployment other"):
        cloud.run(sql_instance, name="db", state="absent", deletion_protection=False, owner=OURS)
