# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.modules import iam_bindings

RESOURCE = "//storage.googleapis.com/projects/_/buckets/b"
URL = "https://storage.googleapis.com/storage/v1/b/b/iam"
BINDINGS = [{"role": "roles/storage.objectViewer", "members": ["user:a@x.com"]}]


def test_add_then_nothing_to_do(cloud):
    cloud.expect("GET", URL, body={"etag": "1", "kind": "storage#policy"})
    after = {"etag": "1", "version": 1, "bindings": BINDINGS}
    cloud.expect("PUT", URL, sent=after, body=after)
    result = cloud.run(iam_bindings, resource=RESOURCE, bindings=BINDINGS)
    assert result["changed"] and result["resource"]["bindings"] == BINDINGS
    cloud.expect("GET", URL, body=after)
    assert not cloud.run(iam_bindings, resource=RESOURCE, bindings=BINDINGS)["changed"]


def test_check_mode(cloud):
    cloud.expect("GET", URL, body={"etag": "1"})
    result = cloud.run(iam_bindings, True, resource=RESOURCE, bindings=BINDINGS)
    assert result["diff"]["after"] == {"roles/storage.objectViewer": ["user:a@x.com"]}


def test_authoritative_and_absent(cloud):
    both = [{"role": "roles/storage.objectViewer", "members": ["user:a@x.com", "user:b@x.com"]}]
    cloud.expect("GET", URL, body={"etag": "1", "bindings": both})
    cloud.expect("PUT", URL, sent={"etag": "1", "version": 1, "bindings": BINDINGS})
    assert cloud.run(iam_bindings, resource=RESOURCE, bindings=BINDINGS, authoritative=True)["changed"]
    cloud.expect("GET", URL, body={"etag": "1", "bindings": both})
    cloud.expect("PUT", URL, sent={"etag": "1", "version": 1, "bindings": []})
    gone = [{"role": "roles/storage.objectViewer"}]
    assert cloud.run(iam_bindings, resource=RESOURCE, bindings=gone, state="absent")["changed"]
