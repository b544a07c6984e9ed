# SPDX-License-Identifier: Apache-2.0
"""The Cloud Storage JSON API, asked without a network."""

import gzip
import json

import pytest
from gcp_sandbox.backends import objects
from gcp_sandbox.gateway.times import timestamp
from gcp_sandbox.sandbox import Sandbox
from gcp_sandbox.services.storage.buckets import DELETED

HOST = "https://storage.googleapis.com"
B = f"{HOST}/storage/v1/b"
UPLOAD = f"{HOST}/upload/storage/v1/b"
BOB = "bob@example.com"
UNIFORM = {"iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}}}
CHUNK = 256 * 1024


@pytest.fixture(scope="module")
def running(tmp_path_factory, new_settings):
    """One sandbox for all tests of this file."""
    with new_settings(tmp_path_factory.mktemp("sandbox")) as settings:
        sandbox = Sandbox(settings)
        sandbox.start()
        yield sandbox
        sandbox.stop()


@pytest.fixture
def sandbox(running):
    """That sandbox, without the buckets of the tests before."""
    yield running
    for kind in (objects.BUCKET, DELETED):
        for key, bucket in running.store.list(kind):
            running.objects.purge(bucket)
            running.store.delete(kind, key)
            running.iam.delete_policy(f"//storage.googleapis.com/projects/_/buckets/{bucket['name']}")
    for upload, _ in running.store.list(objects.UPLOAD):
        running.objects.end_upload(upload)
    running.objects.stop()


@pytest.fixture
def project(sandbox):
    return sandbox.projects.get(sandbox.settings.project)


@pytest.fixture
def make(client, project):
    """Create a bucket and return its resource."""

    def make(name="things", query="", **body):
        return client.ok("POST", f"{B}?project={project.id}{query}", {"name": name, **body})

    return make


@pytest.fixture
def put(client):
    """Upload an object and return its resource."""

    def put(name, data=b"data", bucket="things", query="", **headers):
        sent = {"content-type": "text/plain", **headers}
        url = f"{UPLOAD}/{bucket}/o?uploadType=media&name={name}{query}"
        return client.ok("POST", url, data, headers=sent)

    return put


@pytest.fixture
def account(sandbox, project):
    """A service account without any grant."""
    email = f"reader@{project.id}.iam.gserviceaccount.com"
    if not sandbox.identities.account(email):
        sandbox.identities.create_account(project, email)
    return email


def refused(answer, status, reason, message=None):
    error = answer.json["error"]
    assert (answer.status, answer.reason) == (status, reason), error
    assert error["code"] == status and error["errors"][0]["message"] == error["message"]
    if message:
        assert error["message"] == message
    return True


def grant(client, bucket, role, member, condition=None):
    policy = client.ok("GET", f"{B}/{bucket}/iam?optionsRequestedPolicyVersion=3")
    binding = {"role": role, "members": [member]}
    if condition:
        binding["condition"] = {"title": "some", "expression": condition}
        policy["version"] = 3
    policy["bindings"].append(binding)
    return client.ok("PUT", f"{B}/{bucket}/iam", policy)


# --- buckets


def test_a_bucket_keeps_everything_it_is_created_with(client, make):
    body = {
        "location": "europe-west1",
        "storageClass": "NEARLINE",
        "labels": {"team": "ml"},
        "versioning": {"enabled": True},
        "lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {"age": 30, "isLive": False}}]},
        "softDeletePolicy": {"retentionDurationSeconds": "1209600"},
        "cors": [{"origin": ["*"], "method": ["GET"], "responseHeader": ["x"], "maxAgeSeconds": 60}],
        "website": {"mainPageSuffix": "index.html"},
        "logging": {"logBucket": "logs", "logObjectPrefix": "p"},
        "billing": {"requesterPays": True},
        "retentionPolicy": {"retentionPeriod": "60"},
        "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}, "publicAccessPrevention": "enforced"},
        "hierarchicalNamespace": {"enabled": True},
    }
    created = make("things", **body)
    assert created == client.ok("GET", f"{B}/things")
    assert created["location"] == "EUROPE-WEST1" and created["locationType"] == "region"
    assert created["iamConfiguration"]["publicAccessPrevention"] == "enforced"
    assert created["iamConfiguration"]["bucketPolicyOnly"] == created["iamConfiguration"]["uniformBucketLevelAccess"]
    assert created["iamConfiguration"]["uniformBucketLevelAccess"]["lockedTime"] > created["timeCreated"]
    assert created["retentionPolicy"]["effectiveTime"] == created["timeCreated"]
    assert created["softDeletePolicy"]["effectiveTime"] == created["timeCreated"]
    for key in (
        "storageClass",
        "labels",
        "versioning",
        "lifecycle",
        "cors",
        "website",
        "logging",
        "billing",
    ):
        assert created[key] == body[key]


@pytest.mark.parametrize(
    ("location", "kind", "rpo"),
    [("us", "multi-region", "DEFAULT"), ("nam4", "dual-region", "DEFAULT"), ("us-east1", "region", None)],
)
def test_locations(make, location, kind, rpo):
    bucket = make(location=location)
    assert (bucket["location"], bucket["locationType"], bucket.get("rpo")) == (location.upper(), kind, rpo)


def test_a_configurable_dual_region(make):
    bucket = make(location="us", customPlacementConfig={"dataLocations": ["us-east1", "us-west1"]}, rpo="ASYNC_TURBO")
    assert bucket["locationType"] == "dual-region" and bucket["rpo"] == "ASYNC_TURBO"
    assert bucket["customPlacementConfig"] == {"dataLocations": ["US-EAST1", "US-WEST1"]}


@pytest.mark.parametrize(
    "name",
    [
        "ab",
        "Big",
        "-a-",
        "a" * 64,
        "goog-things",
        "my-google",
        "g00gle",
        "192.168.5.4",
        "under..dots",
        "a b",
        "ends-",
        "ü-x",
    ],
)
def test_bad_names(client, project, name):
    refused(client.post(f"{B}?project={project.id}", {"name": name}), 400, "invalid", f"Invalid bucket name: '{name}'")


def test_names_of_domains_need_their_owner(client, project):
    refused(client.post(f"{B}?project={project.id}", {"name": "data.example.com"}), 403, "forbidden")


@pytest.mark.parametrize(
    "body",
    [
        {"location": "mars-north1"},
        {"storageClass": "COLD"},
        {"softDeletePolicy": {"retentionDurationSeconds": "3600"}},
        {"labels": {"Team": "x"}},
        {"lifecycle": {"rule": [{"action": {"type": "Explode"}, "condition": {"age": 1}}]}},
        {"lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {}}]}},
        {"rpo": "ASYNC_TURBO"},
        {"hierarchicalNamespace": {"enabled": True}},
        {"iamConfiguration": {"publicAccessPrevention": "maybe"}},
        {**UNIFORM, "acl": [{"entity": "allUsers", "role": "READER"}]},
    ],
)
def test_bad_buckets(client, project, body):
    refused(client.post(f"{B}?project={project.id}", {"name": "things", **body}), 400, "invalid")
    assert client.get(f"{B}/things").status == 404


def test_names_are_taken_for_everybody(client, sandbox, make):
    make("things")
    other = sandbox.projects.create("other-project", now=timestamp())
    sandbox.iam.add_binding(other.name, "roles/storage.admin", f"serviceAccount:{client.email}")
    sandbox.enablement.enable(other, ["storage.googleapis.com"], at_once=True)
    mine = "Your previous request to create the named bucket succeeded and you already own it."
    theirs = (
        "The requested bucket name is not available. The bucket namespace is shared by all users of the system. "
        "Please select a different name and try again."
    )
    refused(client.post(f"{B}?project={sandbox.settings.project}", {"name": "things"}), 409, "conflict", mine)
    refused(client.post(f"{B}?project={other.id}", {"name": "things"}), 409, "conflict", theirs)
    # That project has no billing account, so it can have no bucket at all.
    refused(client.post(f"{B}?project={other.id}", {"name": "free-things"}), 403, "accountDisabled")


def test_patch_merges_and_null_clears(client, make):
    make(labels={"a": "1", "b": "2"}, versioning={"enabled": True})
    patched = client.ok("PATCH", f"{B}/things", {"labels": {"a": None, "c": "3"}, "versioning": None})
    assert patched["labels"] == {"b": "2", "c": "3"}
    assert "versioning" not in patched
    assert patched["metageneration"] == "2"
    assert [entry["role"] for entry in patched["acl"]] == ["OWNER", "OWNER", "READER"]
    assert "acl" not in client.ok("PATCH", f"{B}/things?projection=noAcl", {"labels": None})


def test_an_empty_patch_changes_nothing(client, make):
    made = make(labels={"a": "1"})
    assert client.ok("PATCH", f"{B}/things?projection=noAcl", {}) == made
    assert client.ok("PATCH", f"{B}/things", {"labels": {"a": "2"}})["metageneration"] == "2"


def test_lists_of_what_cannot_be_made_are_empty(client, make):
    make()
    for collection in ("managedFolders", "anywhereCaches"):
        assert client.ok("GET", f"{B}/things/{collection}") == {"kind": f"storage#{collection}"}
        assert client.get(f"{B}/things/{collection}", as_=BOB).status == 403
        assert client.get(f"{B}/nothing/{collection}").status == 404
        assert client.post(f"{B}/things/{collection}", {}).status == 501


def test_update_replaces(client, make):
    make(labels={"a": "1"}, versioning={"enabled": True}, storageClass="NEARLINE", **UNIFORM)
    replaced = client.ok("PUT", f"{B}/things", {"name": "things", "labels": {"b": "2"}})
    assert replaced["labels"] == {"b": "2"}
    assert "versioning" not in replaced
    assert replaced["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"]


def test_what_cannot_change(client, make):
    make(location="US")
    refused(client.patch(f"{B}/things", {"location": "EU"}), 400, "invalid")
    assert client.patch(f"{B}/things", {"location": "us"}).status == 200


def test_soft_delete_and_autoclass_remember_when(client, make):
    first = make(autoclass={"enabled": True}, **UNIFORM)
    assert first["autoclass"]["terminalStorageClass"] == "NEARLINE"
    again = client.ok("PATCH", f"{B}/things", {"autoclass": {"enabled": True, "terminalStorageClass": "ARCHIVE"}})
    assert again["autoclass"]["toggleTime"] == first["autoclass"]["toggleTime"]
    assert again["softDeletePolicy"] == first["softDeletePolicy"]
    off = client.ok("PATCH", f"{B}/things", {"softDeletePolicy": {"retentionDurationSeconds": "0"}})
    assert off["softDeletePolicy"] == {"retentionDurationSeconds": "0"}


def test_metageneration_conditions(client, make):
    make()
    met = "At least one of the pre-conditions you specified did not hold."
    refused(client.patch(f"{B}/things?ifMetagenerationMatch=7", {}), 412, "conditionNotMet", met)
    assert client.patch(f"{B}/things?ifMetagenerationMatch=1", {"labels": {"a": "1"}}).status == 200
    refused(client.delete(f"{B}/things?ifMetagenerationMatch=1"), 412, "conditionNotMet")
    assert client.get(f"{B}/things?ifMetagenerationNotMatch=2").status == 304


def test_delete_wants_an_empty_bucket(client, make, put):
    make(versioning={"enabled": True})
    generation = put("x")["generation"]
    client.delete(f"{B}/things/o/x")
    message = "The bucket you tried to delete is not empty."
    refused(client.delete(f"{B}/things"), 409, "conflict", message)
    assert client.delete(f"{B}/things/o/x?generation={generation}").status == 204
    assert client.delete(f"{B}/things").status == 204
    refused(client.get(f"{B}/things"), 404, "notFound", "The specified bucket does not exist.")


def test_a_new_bucket_knows_nothing_of_the_one_before(client, make, put, sandbox):
    make(**UNIFORM)
    grant(client, "things", "roles/storage.objectViewer", f"user:{BOB}")
    put("x")
    client.delete(f"{B}/things/o/x")
    client.delete(f"{B}/things")
    make(**UNIFORM)
    assert "items" not in client.ok("GET", f"{B}/things/o?softDeleted=true")
    assert client.get(f"{B}/things/o", as_=BOB).status == 403


def test_a_deleted_bucket_can_be_restored(client, make, put, project):
    generation = make(**UNIFORM)["generation"]
    grant(client, "things", "roles/storage.objectViewer", f"user:{BOB}")
    stored = put("x")
    client.delete(f"{B}/things/o/x")
    client.delete(f"{B}/things")
    listed = client.ok("GET", f"{B}?project={project.id}&softDeleted=true")["items"]
    assert [(b["name"], b["generation"]) for b in listed] == [("things", generation)]
    client.ok("POST", f"{B}/things/restore?generation={generation}", {})
    client.ok("POST", f"{B}/things/o/x/restore?generation={stored['generation']}", {})
    assert client.get(f"{B}/things/o/x?alt=media", as_=BOB).content == b"data"


def test_buckets_are_listed_in_pages(client, make, project):
    for name in ("b-one", "a-two", "b-three"):
        make(name)
    url = f"{B}?project={project.number}"
    first = client.ok("GET", f"{url}&maxResults=2")
    second = client.ok("GET", f"{url}&maxResults=2&pageToken={first['nextPageToken']}")
    assert [b["name"] for b in first["items"] + second["items"]] == ["a-two", "b-one", "b-three"]
    assert "nextPageToken" not in second
    assert [b["name"] for b in client.ok("GET", f"{url}&prefix=b-")["items"]] == ["b-one", "b-three"]
    assert client.ok("GET", f"{url}&prefix=c") == {"kind": "storage#buckets"}


def test_retention(client, make, put):
    make(retentionPolicy={"retentionPeriod": "3600"})
    put("x")
    refused(client.delete(f"{B}/things/o/x"), 403, "retentionPolicyNotMet")
    assert client.ok("GET", f"{B}/things/o/x")["retentionExpirationTime"]
    client.ok("POST", f"{B}/things/lockRetentionPolicy?ifMetagenerationMatch=1", {})
    refused(client.patch(f"{B}/things", {"retentionPolicy": None}), 403, "forbidden")
    refused(client.put(f"{B}/things", {"name": "things"}), 403, "forbidden")
    assert client.patch(f"{B}/things", {"retentionPolicy": {"retentionPeriod": "7200"}}).status == 200


def test_the_projects_service_account(client, project):
    account = client.ok("GET", f"{HOST}/storage/v1/projects/{project.id}/serviceAccount")
    assert account["email_address"] == f"service-{project.number}@gs-project-accounts.iam.gserviceaccount.com"


# --- permissions


def test_a_refusal_has_the_words_of_the_service(client, make, put, account, project):
    make(**UNIFORM)
    put("x")
    for answer, permission, what in (
        (client.get(f"{B}/things", as_=account), "storage.buckets.get", "Google Cloud Storage bucket"),
        (client.get(f"{B}/things/o", as_=account), "storage.objects.list", "Google Cloud Storage bucket"),
        (client.get(f"{B}/things/o/x", as_=account), "storage.objects.get", "Google Cloud Storage object"),
        (client.get(f"{B}/things/o/x?alt=media", as_=account), "storage.objects.get", "Google Cloud Storage object"),
        (client.delete(f"{B}/things/o/x", as_=account), "storage.objects.delete", "Google Cloud Storage object"),
        (
            client.post(f"{B}?project={project.id}", {"name": "y-y"}, as_=account),
            "storage.buckets.create",
            "Google Cloud project",
        ),
    ):
        denied = f"Permission '{permission}' denied on resource (or it may not exist)."
        refused(answer, 403, "forbidden", f"{account} does not have {permission} access to the {what}. {denied}")
    anonymous = client.get(f"{B}/things/o/x", as_=None)
    refused(anonymous, 401, "required")
    assert anonymous.json["error"]["message"].startswith("Anonymous caller does not have storage.objects.get access")


def test_roles_on_the_bucket(client, make, put, account):
    make(**UNIFORM)
    put("x")
    member = f"serviceAccount:{account}"
    url = f"{UPLOAD}/things/o?uploadType=media&name="
    grant(client, "things", "roles/storage.objectCreator", member)
    assert client.post(f"{url}new", b"1", as_=account).status == 200
    # Overwriting is deleting: a creator may not.
    refused(client.post(f"{url}new", b"2", as_=account), 403, "forbidden")
    refused(client.get(f"{B}/things/o/new", as_=account), 403, "forbidden")
    grant(client, "things", "roles/storage.objectViewer", member)
    assert client.get(f"{B}/things/o/new?alt=media", as_=account).content == b"1"
    assert client.get(f"{B}/things/o", as_=account).status == 200
    grant(client, "things", "roles/storage.objectUser", member)
    assert client.post(f"{url}new", b"2", as_=account).status == 200
    assert client.delete(f"{B}/things/o/new", as_=account).status == 204


def test_a_caller_that_may_not_list_does_not_learn_what_is_missing(client, make, account):
    make(**UNIFORM)
    grant(client, "things", "roles/storage.legacyObjectReader", f"serviceAccount:{account}")
    refused(client.get(f"{B}/things/o/nothing", as_=account), 403, "forbidden")
    refused(client.get(f"{B}/things/o/nothing"), 404, "notFound", "No such object: things/nothing")


def test_conditions_on_object_names(client, make, put, account):
    make(**UNIFORM)
    put("open%2Fx")
    put("shut%2Fx")
    only = "resource.name.startsWith('projects/_/buckets/things/objects/open/')"
    saved = grant(client, "things", "roles/storage.objectViewer", f"serviceAccount:{account}", only)
    assert saved["version"] == 3
    assert client.get(f"{B}/things/o/open%2Fx", as_=account).status == 200
    assert client.get(f"{B}/things/o/shut%2Fx", as_=account).status == 403
    plain = client.ok("GET", f"{B}/things/iam")
    assert plain["version"] == 1 and not any("condition" in binding for binding in plain["bindings"])


def test_conditions_want_uniform_access(client, make):
    make()
    binding = {"role": "roles/storage.objectViewer", "members": [f"user:{BOB}"]}
    binding["condition"] = {"title": "t", "expression": "true"}
    refused(client.put(f"{B}/things/iam", {"version": 3, "bindings": [binding]}), 400, "invalid")


def test_the_first_policy_is_that_of_the_project(client, make, project):
    make(**UNIFORM)
    policy = client.ok("GET", f"{B}/things/iam")
    assert policy["kind"] == "storage#policy" and policy["resourceId"] == "projects/_/buckets/things"
    assert {b["role"]: b["members"] for b in policy["bindings"]} == {
        "roles/storage.legacyBucketOwner": [f"projectEditor:{project.id}", f"projectOwner:{project.id}"],
        "roles/storage.legacyBucketReader": [f"projectViewer:{project.id}"],
        "roles/storage.legacyObjectOwner": [f"projectEditor:{project.id}", f"projectOwner:{project.id}"],
        "roles/storage.legacyObjectReader": [f"projectViewer:{project.id}"],
    }


def test_a_role_that_does_not_exist_is_refused(client, make):
    make()
    for role in ("roles/nonexistent.role", "roles/storage.objectViewr"):
        policy = {"bindings": [{"role": role, "members": [f"user:{BOB}"]}]}
        text = f"Role {role} is not supported for this resource."
        refused(client.put(f"{B}/things/iam", policy), 400, "invalid", text)


def test_a_stale_policy_is_refused(client, make):
    make(**UNIFORM)
    stale = client.ok("GET", f"{B}/things/iam")
    grant(client, "things", "roles/storage.objectViewer", f"user:{BOB}")
    assert client.put(f"{B}/things/iam", stale).status in (409, 412)


def test_permissions_can_be_asked_for(client, make):
    make(**UNIFORM)
    url = f"{B}/things/iam/testPermissions?permissions=storage.buckets.get&permissions=storage.objects.create"
    assert client.ok("GET", url)["permissions"] == ["storage.buckets.get", "storage.objects.create"]
    assert client.ok("GET", url, as_=BOB) == {"kind": "storage#testIamPermissionsResponse"}


def test_public_objects_and_their_prevention(client, make, put):
    make(**UNIFORM)
    put("x")
    grant(client, "things", "roles/storage.objectViewer", "allUsers")
    assert client.get(f"{B}/things/o/x?alt=media", as_=None).content == b"data"
    assert client.get(f"{HOST}/things/x", as_=None).content == b"data"
    assert client.get("https://things.storage.googleapis.com/x", as_=None).content == b"data"
    client.ok("PATCH", f"{B}/things", {"iamConfiguration": {"publicAccessPrevention": "enforced"}})
    assert client.get(f"{B}/things/o/x?alt=media", as_=None).status == 401
    policy = client.ok("GET", f"{B}/things/iam")
    refused(client.put(f"{B}/things/iam", policy), 412, "conditionNotMet")


# --- access control lists


def test_lists_of_a_bucket_are_its_policy(client, make, project):
    make()
    entry = client.ok("POST", f"{B}/things/acl", {"entity": f"user-{BOB}", "role": "READER"})
    assert entry["email"] == BOB and entry["id"] == f"things/user-{BOB}"
    policy = client.ok("GET", f"{B}/things/iam")
    readers = next(b for b in policy["bindings"] if b["role"] == "roles/storage.legacyBucketReader")
    assert readers["members"] == [f"projectViewer:{project.id}", f"user:{BOB}"]
    assert client.get(f"{B}/things/o", as_=BOB).status == 200
    client.ok("PATCH", f"{B}/things/acl/user-{BOB}", {"role": "WRITER"})
    assert client.ok("GET", f"{B}/things/acl/user-{BOB}")["role"] == "WRITER"
    assert client.delete(f"{B}/things/acl/user-{BOB}").status == 204
    refused(client.get(f"{B}/things/acl/user-{BOB}"), 404, "notFound", "Not Found")
    for entry in ({"entity": BOB, "role": "READER"}, {"entity": f"user-{BOB}", "role": "BOSS"}):
        refused(client.post(f"{B}/things/acl", entry), 400, "invalid", "Invalid Value")
    assert len(client.ok("GET", f"{B}/things/acl")["items"]) == 3


def test_lists_of_objects_grant(client, make, put):
    make()
    put("x")
    assert client.get(f"{B}/things/o/x", as_=BOB).status == 403
    client.ok("POST", f"{B}/things/o/x/acl", {"entity": f"user-{BOB}", "role": "READER"})
    assert client.get(f"{B}/things/o/x?alt=media", as_=BOB).content == b"data"
    put("y", query="&predefinedAcl=publicRead")
    assert client.get(f"{B}/things/o/y?alt=media", as_=None).content == b"data"
    client.ok("POST", f"{B}/things/defaultObjectAcl", {"entity": "allAuthenticatedUsers", "role": "READER"})
    put("z")
    assert client.get(f"{B}/things/o/z", as_=BOB).status == 200
    assert client.get(f"{B}/things/o/z", as_=None).status == 401


@pytest.mark.parametrize("body", [{}, {"defaultObjectAcl": []}, UNIFORM])
def test_owners_of_the_project_read_what_another_user_uploads(client, make, put, project, body):
    owner = "user@example.com"
    writer = {"role": "roles/storage.objectCreator", "members": [f"user:{BOB}"]}
    make(**body)
    policy = client.ok("GET", f"{B}/things/iam")
    client.ok("PUT", f"{B}/things/iam", {**policy, "bindings": [*policy["bindings"], writer]})
    client.ok("POST", f"{UPLOAD}/things/o?uploadType=media&name=x", b"data", as_=BOB)
    client.ok("PATCH", f"{B}/things", {"iamConfiguration": {"uniformBucketLevelAccess": {"enabled": False}}})
    client.ok("PUT", f"{B}/things/iam", {"bindings": []})
    assert client.get(f"{B}/things/o/x?alt=media", as_=owner).content == b"data"
    entities = [entry["entity"] for entry in client.ok("GET", f"{B}/things/o/x/acl", as_=owner)["items"]]
    teams = [f"project-{team}-{project.number}" for team in ("owners", "editors", "viewers")]
    assert entities == [*teams, f"user-{BOB}"]


def test_uniform_access_has_no_lists(client, make, put, project):
    make(**UNIFORM)
    put("x")
    more = "Read more at https://cloud.google.com/storage/docs/uniform-bucket-level-access"
    text = f"Cannot get legacy ACL for an object when uniform bucket-level access is enabled. {more}"
    refused(client.get(f"{B}/things/o/x/acl"), 400, "invalid", text)
    for path in ("acl", "defaultObjectAcl"):
        refused(client.get(f"{B}/things/{path}"), 400, "invalid")
        refused(client.post(f"{B}/things/{path}", {"entity": "allUsers", "role": "READER"}), 400, "invalid")
    refused(client.post(f"{UPLOAD}/things/o?name=y&predefinedAcl=publicRead", b""), 400, "invalid")
    assert "acl" not in client.ok("GET", f"{B}/things?projection=full")


def test_predefined_lists_of_a_bucket(client, make):
    made = make(query="&predefinedAcl=publicRead&predefinedDefaultObjectAcl=publicRead&projection=full")
    assert {"allUsers": "READER"}.items() <= {e["entity"]: e["role"] for e in made["acl"]}.items()
    assert [e["entity"] for e in made["defaultObjectAcl"]] == ["allUsers"]
    assert client.get(f"{B}/things/o", as_=None).status == 200


# --- objects


def test_simple_and_multipart_uploads(client, make):
    make()
    simple = client.ok("POST", f"{UPLOAD}/things/o?name=a%2Fb", b"hello", headers={"content-type": "text/plain"})
    assert simple["id"] == f"things/a/b/{simple['generation']}"
    assert simple["selfLink"] == "https://www.googleapis.com/storage/v1/b/things/o/a%2Fb"
    metadata = {"name": "c", "metadata": {"k": "v"}, "cacheControl": "no-store", "crc32c": "mnG7TA=="}
    body = (
        b"--'=x='\r\nContent-Type: application/json\r\n\r\n" + json.dumps(metadata).encode() + b"\r\n--'=x='\r\n"
        b"Content-Type: text/x-y\r\n\r\nhello\r\n--'=x='--\r\n"
    )
    sent = {"content-type": "multipart/related; boundary='=x='"}
    multi = client.ok("POST", f"{UPLOAD}/things/o?uploadType=multipart", body, headers=sent)
    assert (multi["contentType"], multi["size"], multi["metadata"]) == ("text/x-y", "5", {"k": "v"})
    answer = client.get(f"{B}/things/o/c?alt=media")
    assert answer.content == b"hello" and answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-goog-hash"] == "crc32c=mnG7TA==,md5=XUFAKrxLKna5cZ2REBfFkg=="


def test_bytes_that_are_not_what_was_said_are_refused(client, make, sandbox):
    make()
    wrong = {"x-goog-hash": "crc32c=AAAAAA=="}
    answer = client.post(f"{UPLOAD}/things/o?name=x", b"hello", headers=wrong)
    refused(answer, 400, "invalid", 'Provided CRC32C "AAAAAA==" doesn\'t match calculated CRC32C "mnG7TA==".')
    assert client.post(f"{UPLOAD}/things/o?name=x", b"hello", headers={"content-md5": "AA=="}).status == 400
    assert client.get(f"{B}/things/o/x").status == 404
    assert not list(sandbox.objects.blobs.glob("*/*"))


@pytest.mark.parametrize("name", ["", "a%0Ab", ".", "..", "x" * 1025, ".well-known%2Facme-challenge%2Fx"])
def test_bad_object_names(client, make, name):
    make()
    assert client.post(f"{UPLOAD}/things/o?name={name}", b"").status == 400


def test_ranges(client, make, put):
    make()
    put("x", b"0123456789")

    def get(value):
        return client.get(f"{B}/things/o/x?alt=media", headers={"range": value})

    for value, content, described in (
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-2", b"89", "bytes 8-9/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
    ):
        answer = get(value)
        assert (answer.status, answer.content, answer.headers["content-range"]) == (206, content, described)
    assert get("bytes=1-2,4-5").content == b"0123456789"
    beyond = get("bytes=10-")
    refused(beyond, 416, "requestedRangeNotSatisfiable", "Request range not satisfiable")
    assert beyond.headers["content-range"] == "bytes */10"


def test_gzip_is_unpacked_for_who_cannot(client, make, put):
    make()
    put("x", gzip.compress(b"text" * 1000), query="&contentEncoding=gzip")
    packed = client.get(f"{B}/things/o/x?alt=media", headers={"accept-encoding": "gzip"})
    assert gzip.decompress(packed.content) == b"text" * 1000 and packed.headers["content-encoding"] == "gzip"
    plain = client.get(f"{B}/things/o/x?alt=media")
    assert plain.content == b"text" * 1000 and "content-encoding" not in plain.headers


def test_conditions(client, make, put):
    make()
    first = put("x", b"1", query="&ifGenerationMatch=0")
    url = f"{UPLOAD}/things/o?name=x"
    refused(client.post(f"{url}&ifGenerationMatch=0", b"2"), 412, "conditionNotMet")
    refused(client.post(f"{url}&ifMetagenerationNotMatch=1", b"2"), 412, "conditionNotMet")
    assert client.post(f"{url}&ifGenerationMatch={first['generation']}", b"2").status == 200
    refused(client.get(f"{B}/things/o/x?ifGenerationMatch={first['generation']}"), 412, "conditionNotMet")
    refused(client.delete(f"{B}/things/o/x?ifGenerationMatch={first['generation']}"), 412, "conditionNotMet")
    current = client.ok("GET", f"{B}/things/o/x")["generation"]
    assert client.get(f"{B}/things/o/x?ifGenerationNotMatch={current}").status == 304


def test_versions(client, make, put):
    make(versioning={"enabled": True})
    first, second = put("x", b"1"), put("x", b"2")
    listed = client.ok("GET", f"{B}/things/o?versions=true")["items"]
    assert [item["generation"] for item in listed] == [first["generation"], second["generation"]]
    assert "timeDeleted" in listed[0] and "timeDeleted" not in listed[1]
    old = client.get(f"{B}/things/o/x?alt=media&generation={first['generation']}")
    assert old.content == b"1"
    client.delete(f"{B}/things/o/x")
    assert client.get(f"{B}/things/o/x").status == 404
    assert len(client.ok("GET", f"{B}/things/o?versions=true")["items"]) == 2
    client.ok("POST", f"{B}/things/o/x/rewriteTo/b/things/o/x?sourceGeneration={first['generation']}", {})
    assert client.get(f"{B}/things/o/x?alt=media").content == b"1"


def test_soft_deleted_objects(client, make, put):
    make()
    generation = put("x", b"precious")["generation"]
    client.delete(f"{B}/things/o/x")
    gone = client.ok("GET", f"{B}/things/o?softDeleted=true")["items"]
    assert [(item["name"], item["generation"]) for item in gone] == [("x", generation)]
    assert gone[0]["hardDeleteTime"] > gone[0]["softDeleteTime"]
    client.ok("POST", f"{B}/things/o/x/restore?generation={generation}", {})
    assert client.get(f"{B}/things/o/x?alt=media").content == b"precious"


def test_listing_in_pages(client, make, put):
    make()
    for name in ("a", "d%2F1", "d%2F2", "e", "f%2F1"):
        put(name)
    seen, token = [], ""
    for _ in range(10):
        page = client.ok("GET", f"{B}/things/o?delimiter=/&maxResults=1&pageToken={token}")
        seen += [item["name"] for item in page.get("items", ())] + page.get("prefixes", [])
        token = page.get("nextPageToken")
        if not token:
            break
    assert seen == ["a", "d/", "e", "f/"]
    assert client.get(f"{B}/things/o?pageToken=%25").status == 400
    assert client.ok("GET", f"{B}/things/o?prefix=zzz") == {"kind": "storage#objects"}
    page = client.ok("GET", f"{B}/things/o?fields=items(name)&matchGlob=**1")
    assert page == {"items": [{"name": "d/1"}, {"name": "f/1"}]}
    refused(client.get(f"{B}/things/o?matchGlob=%7Ba"), 400, "invalid")


def test_metadata_changes(client, make, put):
    make()
    put("x", b"1")
    patched = client.ok("PATCH", f"{B}/things/o/x", {"metadata": {"a": "1", "b": "2"}, "contentType": "text/csv"})
    assert patched["metageneration"] == "2" and patched["metadata"] == {"a": "1", "b": "2"}
    patched = client.ok("PATCH", f"{B}/things/o/x", {"metadata": {"a": None}})
    assert patched["metadata"] == {"b": "2"} and patched["contentType"] == "text/csv"
    replaced = client.ok("PUT", f"{B}/things/o/x", {"contentType": "text/html"})
    assert "metadata" not in replaced and replaced["generation"] == patched["generation"]
    client.ok("PATCH", f"{B}/things/o/x", {"temporaryHold": True})
    refused(client.delete(f"{B}/things/o/x"), 403, "forbidden")


def test_compose(client, make, put):
    make()
    put("1", b"one")
    second = put("2", b"two")
    sources = [{"name": "1"}, {"name": "2", "objectPreconditions": {"ifGenerationMatch": second["generation"]}}]
    made = client.ok(
        "POST", f"{B}/things/o/12/compose", {"sourceObjects": sources, "destination": {"contentType": "a/b"}}
    )
    assert (made["componentCount"], made["contentType"], "md5Hash" in made) == (2, "a/b", False)
    assert client.get(f"{B}/things/o/12?alt=media").content == b"onetwo"
    more = client.ok("POST", f"{B}/things/o/121/compose", {"sourceObjects": [{"name": "12"}, {"name": "1"}]})
    assert more["componentCount"] == 3
    refused(client.post(f"{B}/things/o/x/compose", {"sourceObjects": [{"name": "no"}]}), 404, "notFound")
    many = {"sourceObjects": [{"name": "1"}] * 33}
    text = "The number of source components provided (33) exceeds the maximum (32)"
    refused(client.post(f"{B}/things/o/x/compose", many), 400, "invalid", text)
    stale = [{"name": "1", "objectPreconditions": {"ifGenerationMatch": "1"}}]
    refused(client.post(f"{B}/things/o/x/compose", {"sourceObjects": stale}), 412, "conditionNotMet")


def test_copy_and_rewrite_carry_metadata(client, make, put):
    make()
    make("elsewhere", location="EU")
    put("x", b"bytes")
    client.ok("PATCH", f"{B}/things/o/x", {"metadata": {"a": "1"}})
    copied = client.ok("POST", f"{B}/things/o/x/copyTo/b/elsewhere/o/y", {})
    assert copied["metadata"] == {"a": "1"} and copied["contentType"] == "text/plain"
    rewritten = client.ok("POST", f"{B}/things/o/x/rewriteTo/b/elsewhere/o/z", {"contentType": "a/b"})
    assert rewritten["done"] and rewritten["objectSize"] == rewritten["totalBytesRewritten"] == "5"
    assert rewritten["resource"]["contentType"] == "a/b" and "metadata" not in rewritten["resource"]
    moved = client.ok("POST", f"{B}/things/o/x/moveTo/o/w", {})
    assert moved["metadata"] == {"a": "1"} and client.get(f"{B}/things/o/x").status == 404


def test_a_long_rewrite_takes_several_calls(client, make, put):
    make()
    make("elsewhere", location="EU")
    put("x", b"x" * (5 << 19))
    url = f"{B}/things/o/x/rewriteTo/b/elsewhere/o/y?maxBytesRewrittenPerCall={1 << 20}"
    first = client.ok("POST", url, {})
    assert (first["done"], first["totalBytesRewritten"]) == (False, str(1 << 20))
    assert client.get(f"{B}/elsewhere/o/y").status == 404
    second = client.ok("POST", f"{url}&rewriteToken={first['rewriteToken']}", {})
    third = client.ok("POST", f"{url}&rewriteToken={second['rewriteToken']}", {})
    assert third["done"] and third["resource"]["size"] == str(5 << 19)


# --- resumable uploads


def begin(client, query="", metadata=None, **headers):
    answer = client.post(f"{UPLOAD}/things/o?uploadType=resumable&name=x{query}", metadata or {}, headers=headers)
    assert answer.status == 200, answer.content
    return answer.headers["location"]


def test_a_resumable_upload_in_chunks(client, make):
    make()
    url = begin(client, metadata={"metadata": {"k": "v"}}, **{"x-upload-content-type": "text/csv"})
    chunk = b"a" * CHUNK

    def put(described, data=b""):
        return client.put(url, data, headers={"content-range": described}, as_=None)

    assert "range" not in put("bytes */*").headers
    answer = put(f"bytes 0-{CHUNK - 1}/*", chunk)
    assert (answer.status, answer.headers["range"]) == (308, f"bytes=0-{CHUNK - 1}")
    # Sent again from the start, as after a lost answer: received bytes are skipped.
    answer = put(f"bytes 0-{2 * CHUNK - 1}/*", chunk * 2)
    assert put("bytes */*").headers["range"] == answer.headers["range"] == f"bytes=0-{2 * CHUNK - 1}"
    assert client.get(f"{B}/things/o/x").status == 404
    done = put(f"bytes {2 * CHUNK}-{2 * CHUNK + 2}/{2 * CHUNK + 3}", b"end")
    assert done.status == 200
    assert (done.json["size"], done.json["contentType"], done.json["metadata"]) == (
        str(2 * CHUNK + 3),
        "text/csv",
        {"k": "v"},
    )
    # The last answer can be requested again.
    assert put(f"bytes */{2 * CHUNK + 3}").json == done.json
    assert client.get(f"{B}/things/o/x?alt=media").content == chunk * 2 + b"end"


def test_rules_for_chunks(client, make):
    make()
    url = begin(client)

    def put(described, data):
        return client.put(url, data, headers={"content-range": described})

    assert put("bytes 0-9/*", b"a" * 10).status == 400
    assert put("bytes 0-19/20", b"a" * 10).status == 400
    assert put("bytes 10-19/20", b"a" * 10).status == 503
    assert put("chunk 1", b"a").status == 400
    uneven = put(f"bytes 0-{CHUNK + 9}/*", b"a" * (CHUNK + 10))
    assert uneven.headers["range"] == f"bytes=0-{CHUNK - 1}"


def test_an_upload_at_once_and_an_empty_one(client, make):
    make()
    assert client.put(begin(client), b"all of it").json["size"] == "9"
    empty = client.put(begin(client), b"", headers={"content-range": "bytes */0"})
    assert empty.status == 200 and empty.json["size"] == "0"


def test_an_upload_can_be_cancelled(client, make, sandbox):
    make()
    url = begin(client)
    assert client.delete(url).status == 499
    assert client.put(url, b"x").status == 404
    assert not list(sandbox.objects.uploads.iterdir())


def test_conditions_and_checksums_hold_at_the_end_of_an_upload(client, make, put):
    make()
    url = begin(client, query="&ifGenerationMatch=0")
    put("x", b"another upload was faster")
    refused(client.put(url, b"late"), 412, "conditionNotMet")
    refused(client.put(begin(client), b"late", headers={"x-goog-hash": "crc32c=AAAAAA=="}), 400, "invalid")
    refused(
        client.post(f"{UPLOAD}/things/o?uploadType=resumable&name=x&ifGenerationMatch=0", {}), 412, "conditionNotMet"
    )
    assert client.get(f"{B}/things/o/x?alt=media").content == b"another upload was faster"


def test_beginning_an_upload_needs_permission(client, make, account):
    make(**UNIFORM)
    refused(client.post(f"{UPLOAD}/things/o?uploadType=resumable&name=x", {}, as_=account), 403, "forbidden")


# --- batches and the XML API


def test_a_batch(client, make, put):
    make()
    put("x")
    body = "".join(
        f"--b\r\nContent-Type: application/http\r\nContent-ID: <id+{i}>\r\n\r\n{call}\r\n"
        for i, call in enumerate(
            (
                "DELETE /storage/v1/b/things/o/x HTTP/1.1\r\n\r\n",
                "GET /storage/v1/b/things/o/x HTTP/1.1\r\n\r\n",
                "PATCH /storage/v1/b/things HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 22\r\n\r\n"
                '{"labels": {"a": "b"}}',
                "GET /storage/v1/b/things/o/x?alt=media HTTP/1.1\r\n\r\n",
            )
        )
    )
    sent = {"content-type": 'multipart/mixed; boundary="b"'}
    answer = client.post(f"{HOST}/batch/storage/v1", f"{body}--b--\r\n".encode(), headers=sent)
    assert answer.status == 200 and answer.headers["content-type"].startswith("multipart/mixed; boundary=")
    text = answer.content.decode()
    statuses = [line.split()[1] for line in text.splitlines() if line.startswith("HTTP/1.1")]
    assert statuses == ["204", "404", "200", "400"]
    assert "<response-id+0>" in text
    assert client.ok("GET", f"{B}/things")["labels"] == {"a": "b"}
    assert client.post(f"{HOST}/batch/storage/v1", b"", headers={"content-type": "text/plain"}).status == 400


def test_links(client, make, put):
    make(**UNIFORM)
    put("a%2Fb%20c")
    assert client.get(f"{HOST}/things/a/b%20c").content == b"data"
    missing = client.get(f"{HOST}/things/nothing")
    assert missing.status == 404 and b"<Code>NoSuchKey</Code>" in missing.content
    assert b"<Code>NoSuchBucket</Code>" in client.get(f"{HOST}/nowhere/x").content
    assert b"<Code>AccessDenied</Code>" in client.get(f"{HOST}/things/a/b%20c", as_=BOB).content
    signed = client.get(f"{HOST}/things/x?X-Goog-Signature=00", as_=None)
    assert signed.status == 501 and b"signed URLs" in signed.content


def test_what_is_missing_names_itself(client, make):
    make()
    answer = client.post(f"{B}/things/notificationConfigs", {})
    assert answer.status == 501 and "storage.notifications.insert" in answer.json["error"]["message"]
    answer = client.post(f"{UPLOAD}/things/o?name=x", b"", headers={"x-goog-encryption-key": "k"})
    assert answer.status == 501 and "encryption keys" in answer.json["error"]["message"]
    answer = client.put(f"{HOST}/things/x", b"")
    assert answer.status == 501 and b"XML API" in answer.content
    assert client.get(f"{HOST}/things").status == 501
    for method in ("GET", "POST"):
        assert client.request(method, f"{HOST}/storage/v1/nothing").status == 404
