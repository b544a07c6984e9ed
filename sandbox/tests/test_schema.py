# SPDX-License-Identifier: Apache-2.0
"""Bodies and query parameters against the documents' schemas, in the words of Google's parser."""

import pytest
from gcp_sandbox.gateway.discovery import Document
from gcp_sandbox.gateway.enums import enum_number, enum_value
from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.gateway.masks import BadMask, mask_paths, merge_mask, parse_fields, select
from gcp_sandbox.gateway.schema import Checker, body_field, encode_enums, parse_body, unexpected


@pytest.fixture(scope="module")
def secrets():
    return Document("secretmanager", "v1")


@pytest.fixture(scope="module")
def run():
    return Document("run", "v2")


def check(document, ref, value, path="", **options):
    checker = Checker(document, **options)
    return checker.message(ref, value, path), [text for _, text in checker.violations]


def test_snake_case_is_taken_and_answered_in_camel_case(secrets):
    body = {"version_aliases": {"my_alias": "3"}, "replication": {"user_managed": {"replicas": [{"location": "l"}]}}}
    checked, problems = check(secrets, "Secret", body)
    assert problems == []
    assert checked == {
        "versionAliases": {"my_alias": "3"},
        "replication": {"userManaged": {"replicas": [{"location": "l"}]}},
    }


def test_unknown_names_are_all_reported_with_their_place(secrets):
    body = {"foo": 1, "replication": {"userManaged": {"replicas": [{"location": "l"}, {"place": "m"}]}}}
    _, problems = check(secrets, "Secret", body, "secret")
    assert problems == [
        "Invalid JSON payload received. Unknown name \"foo\" at 'secret': Cannot find field.",
        "Invalid JSON payload received. Unknown name \"place\" at 'secret.replication.user_managed.replicas[1]': "
        "Cannot find field.",
    ]


def test_unknown_name_at_the_top_has_no_place(secrets):
    _, problems = check(secrets, "AddSecretVersionRequest", {"foo": 1})
    assert problems == ['Invalid JSON payload received. Unknown name "foo": Cannot find field.']


def test_unknown_names_may_be_ignored(secrets):
    assert check(secrets, "Secret", {"foo": 1, "ttl": "3s"}, unknown="ignore") == ({"ttl": "3s"}, [])


@pytest.mark.parametrize(
    "body,problem",
    [
        ({"labels": {"a": 5}}, "Invalid value at 'labels[0].value' (TYPE_STRING), 5"),
        (
            {"labels": "x"},
            "Invalid value at 'labels' (type.googleapis.com/google.cloud.secretmanager.v1.Secret.Labels), \"x\"",
        ),
        (
            {"ttl": "5 minutes"},
            "Invalid value at 'ttl' (type.googleapis.com/google.protobuf.Duration), Field 'ttl', "
            "Illegal duration format; duration must end with 's'",
        ),
        (
            {"expireTime": "tomorrow"},
            "Invalid value at 'expire_time' (type.googleapis.com/google.protobuf.Timestamp), Field 'expireTime', "
            'Invalid time format: Failed to parse input: "tomorrow"',
        ),
        (
            {"ttl": ["1s"]},
            'Invalid JSON payload received. Unknown name "ttl": Proto field is not repeating, cannot start list.',
        ),
    ],
)
def test_wrong_types(secrets, body, problem):
    assert check(secrets, "Secret", body)[1] == [problem]


def test_scalars_take_what_googles_parser_takes(run):
    body = {
        "maxInstanceRequestConcurrency": "80",
        "sessionAffinity": "true",
        "timeout": "3.5s",
        "containers": {"image": "i"},
    }
    checked, problems = check(run, "GoogleCloudRunV2RevisionTemplate", body)
    assert problems == []
    assert checked == {
        "maxInstanceRequestConcurrency": 80,
        "sessionAffinity": True,
        "timeout": "3.5s",
        "containers": [{"image": "i"}],
    }


def test_integers_out_of_range_and_fractions_are_refused(run):
    for value in (2**31, 1.5, "x", True):
        _, problems = check(run, "GoogleCloudRunV2RevisionTemplate", {"maxInstanceRequestConcurrency": value})
        assert problems and "(TYPE_INT32)" in problems[0]


def test_int64_is_a_string_in_json():
    storage = Document("storage", "v1")
    assert check(storage, "Bucket", {"metageneration": 5})[0] == {"metageneration": "5"}


def test_enums_by_name_and_number(run):
    ref = "GoogleCloudRunV2Service"
    assert check(run, ref, {"ingress": "INGRESS_TRAFFIC_ALL"})[0] == {"ingress": "INGRESS_TRAFFIC_ALL"}
    assert check(run, ref, {"ingress": 1})[0] == {"ingress": "INGRESS_TRAFFIC_ALL"}
    assert "INGRESS_TRAFFIC_MOON" in check(run, ref, {"ingress": "INGRESS_TRAFFIC_MOON"})[1][0]
    assert check(run, ref, {"ingress": 77})[1] != []
    assert encode_enums(run, ref, {"ingress": "INGRESS_TRAFFIC_ALL", "name": "n"}) == {"ingress": 1, "name": "n"}


def test_bytes_are_normalised_and_checked(secrets):
    ref = "SecretPayload"
    assert check(secrets, ref, {"data": "_-8"})[0] == {"data": "/+8="}
    assert check(secrets, ref, {"data": "%%%"})[1] == [
        "Invalid value at 'data' (TYPE_BYTES), Base64 decoding failed for \"%%%\""
    ]


def test_read_only_fields_are_dropped_but_not_names_and_etags(secrets):
    body = {"name": "n", "createTime": "2026-01-01T00:00:00Z", "etag": '"e"'}
    assert check(secrets, "Secret", body)[0] == {"name": "n", "etag": '"e"'}


def test_nulls_are_dropped_or_kept(secrets):
    assert check(secrets, "Secret", {"labels": None})[0] == {}
    assert check(secrets, "Secret", {"labels": None}, keep_nulls=True)[0] == {"labels": None}


def test_the_root_must_be_an_object(secrets):
    assert check(secrets, "Secret", [1])[1] == [
        'Invalid JSON payload received. Unknown name "": Root element must be a message.'
    ]


def test_body_field_names():
    def field(name, version, method):
        return body_field(Document(name, version).methods[method])

    assert field("secretmanager", "v1", "projects.secrets.create") == "secret"
    assert field("secretmanager", "v1", "projects.secrets.addVersion") == ""
    assert field("run", "v2", "projects.locations.services.create") == "service"
    assert field("artifactregistry", "v1", "projects.locations.repositories.create") == "repository"


def test_query_parameters_are_typed(secrets):
    method = secrets.methods["projects.secrets.list"]
    checker = Checker(secrets)
    query = checker.query(method, [("page_size", "5"), ("$alt", "json;enum-encoding=int"), ("key", "k")])
    assert query == {"pageSize": 5, "alt": "json;enum-encoding=int", "key": "k"}
    checker.query(method, [("pageSize", "x"), ("color", "red")])
    assert [text for _, text in checker.violations] == [
        "Invalid value at 'page_size' (TYPE_INT32), \"x\"",
        'Invalid JSON payload received. Unknown name "color": Cannot bind query parameter. '
        "Field 'color' could not be found in request message.",
    ]
    with pytest.raises(ApiError) as failure:
        checker.raise_violations()
    error = failure.value.render()["error"]
    assert error["status"] == "INVALID_ARGUMENT"
    assert error["details"][0]["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert error["details"][0]["fieldViolations"][0]["field"] == "page_size"


def test_query_parameters_repeat():
    method = Document("cloudresourcemanager", "v3").methods["projects.search"]
    iam = Document("serviceusage", "v1").methods["services.batchGet"]
    checker = Checker(iam.document)
    assert checker.query(iam, [("names", "a"), ("names", "b")]) == {"names": ["a", "b"]}
    assert Checker(method.document).query(method, [("pageSize", "5")]) == {"pageSize": 5}


@pytest.mark.parametrize("text", [b"{", b'{"a": }', b"nonsense", b'{"a": "\xff"}'])
def test_malformed_json_is_a_readable_400(text):
    with pytest.raises(ApiError) as failure:
        parse_body(text)
    assert failure.value.code == 400
    assert failure.value.message.startswith("Invalid JSON payload received.")


def test_answers_that_do_not_fit_are_found(secrets):
    answer = {"name": 5, "nonsense": 1, "labels": {"a": "b"}, "replication": {"automatic": {}}}
    assert unexpected(secrets, "Secret", answer) == [
        "name is int and should be string",
        "nonsense is not in the schema",
    ]


def test_fields_selectors():
    value = {"items": [{"id": 1, "owner": {"name": "a", "mail": "b"}, "x": 0}], "nextPageToken": "t", "kind": "k"}
    tree = parse_fields("items(id,owner/name),nextPageToken")
    assert select(value, tree) == {"items": [{"id": 1, "owner": {"name": "a"}}], "nextPageToken": "t"}
    assert select(value, parse_fields("items/owner(mail)")) == {"items": [{"owner": {"mail": "b"}}]}
    assert select(value, parse_fields("*/id")) == {"items": [{"id": 1}], "nextPageToken": "t", "kind": "k"}
    for bad in ("items(id", "a,,b", "a)"):
        with pytest.raises(BadMask):
            parse_fields(bad)


def test_update_masks():
    old = {"labels": {"a": "1"}, "template": {"retries": 3, "timeout": "5s"}, "keep": 1}
    new = {"labels": {"b": "2"}, "template": {"timeout": "9s"}}
    assert mask_paths("labels, template.max_retries") == [["labels"], ["template", "maxRetries"]]
    assert merge_mask(old, new, "labels,template.retries") == {
        "labels": {"b": "2"},
        "template": {"timeout": "5s"},
        "keep": 1,
    }
    assert merge_mask(old, new, None) == {"labels": {"b": "2"}, "template": {"timeout": "9s"}, "keep": 1}
    assert merge_mask(old, new, "*") == new
    assert old["labels"] == {"a": "1"}


def _proto_enums(module):
    proto = pytest.importorskip("proto")

    def walk(cls):
        for value in vars(cls).values():
            if isinstance(value, type) and issubclass(value, proto.Enum):
                yield {item.name: item.value for item in value}
            elif isinstance(value, type) and issubclass(value, proto.Message):
                yield from walk(value)

    return list(walk(module))


def _document_enums(node):
    if isinstance(node, dict):
        if isinstance(node.get("enum"), list):
            yield node["enum"]
        for value in node.values():
            yield from _document_enums(value)


@pytest.mark.parametrize(
    "name,version,library",
    [
        ("run", "v2", "google.cloud.run_v2.types"),
        ("secretmanager", "v1", "google.cloud.secretmanager_v1.types"),
        ("artifactregistry", "v1", "google.cloud.artifactregistry_v1.types"),
        ("iam", "v1", "google.cloud.iam_admin_v1.types"),
    ],
)
def test_enum_numbers_are_those_of_the_protos(name, version, library):
    protos = _proto_enums(pytest.importorskip(library))
    compared = 0
    for values in _document_enums(Document(name, version).schemas):
        for numbers in protos:
            if set(values) <= set(numbers):
                compared += 1
                assert {value: enum_number(values, value) for value in values} == {v: numbers[v] for v in values}
                assert all(enum_value(values, numbers[value]) == value for value in values)
                break
    assert compared > 0
