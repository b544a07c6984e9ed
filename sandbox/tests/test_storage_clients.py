# SPDX-License-Identifier: Apache-2.0
"""Unmodified google-cloud-storage against a running sandbox: through the proxy, with TLS and real tokens."""

import hashlib
import io
import os
import re
from pathlib import Path

import google.auth
import pytest
import requests
from google.api_core import exceptions
from google.auth.transport.requests import AuthorizedSession
from google.cloud import storage
from google.oauth2.credentials import Credentials
from google.resumable_media.requests import ResumableUpload

MIB = 1 << 20


@pytest.fixture(scope="module")
def client(cloud):
    return storage.Client()


@pytest.fixture
def bucket(client, request):
    bucket = client.bucket(re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:40].strip("-") + "-bucket")
    bucket.iam_configuration.uniform_bucket_level_access_enabled = True
    return client.create_bucket(bucket, location="europe-west1")


def acting_as(cloud, email):
    credentials = Credentials.from_authorized_user_file(cloud.env(email)["GOOGLE_APPLICATION_CREDENTIALS"])
    return storage.Client(project="mlflow-sandbox", credentials=credentials)


class Pattern(io.RawIOBase):
    """A file of any size that takes no memory, and the checksum of what was read of it."""

    def __init__(self, size):
        self.size, self.at, self.block = size, 0, os.urandom(MIB)
        self.digest = hashlib.sha256()

    def readable(self):
        return True

    def seekable(self):
        return True

    def tell(self):
        return self.at

    def seek(self, offset, whence=0):
        self.at = offset + (0, self.at, self.size)[whence]
        return self.at

    def read(self, count=-1):
        count = self.size - self.at if count is None or count < 0 else min(count, self.size - self.at)
        out = bytearray()
        while len(out) < count:
            inside = self.at % MIB
            piece = self.block[inside : inside + count - len(out)]
            out += piece
            self.at += len(piece)
        self.digest.update(out)
        return bytes(out)


class Checked(io.RawIOBase):
    """Swallows bytes and remembers their checksum."""

    def __init__(self):
        self.digest, self.size = hashlib.sha256(), 0

    def writable(self):
        return True

    def write(self, data):
        self.digest.update(data)
        self.size += len(data)
        return len(data)


def memory(pid, what):
    """Kilobytes of a process: VmRSS now, VmHWM at most so far."""
    return int(re.search(rf"{what}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])


def test_300_mb_pass_through_without_staying_in_memory(cloud, bucket):
    pid, source = cloud.status["pid"], Pattern(300 * MIB)
    blob = bucket.blob("model.bin", chunk_size=100 * MIB)
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak starts again from here
    before = memory(pid, "VmRSS")
    blob.upload_from_file(source, size=source.size, checksum=None)
    sink = Checked()
    blob.download_to_file(sink)
    assert memory(pid, "VmHWM") - before < 48 * 1024
    assert blob.size == sink.size == source.size
    assert sink.digest.hexdigest() == source.digest.hexdigest()
    blob.delete()


def test_bucket_settings_round_trip(client, bucket):
    bucket.labels = {"a": "1", "b": "2"}
    bucket.versioning_enabled = True
    bucket.add_lifecycle_delete_rule(age=7)
    bucket.cors = [{"origin": ["*"], "method": ["GET"]}]
    bucket.patch()
    bucket.labels = {"a": "1"}
    bucket.patch()
    again = client.get_bucket(bucket.name)
    assert again.labels == {"a": "1"} and again.versioning_enabled and again.location == "EUROPE-WEST1"
    assert [dict(rule) for rule in again.lifecycle_rules] == [{"action": {"type": "Delete"}, "condition": {"age": 7}}]
    again.clear_lifecycle_rules()
    again.update()
    assert list(client.get_bucket(bucket.name).lifecycle_rules) == []
    with pytest.raises(exceptions.Conflict, match="you already own it"):
        client.create_bucket(bucket.name)
    assert client.get_service_account_email().startswith("service-")


def test_an_upload_outlives_kill_9(cloud, client, bucket):
    chunk, data = 256 * 1024, os.urandom(700 * 1024)
    session = AuthorizedSession(
        google.auth.default(scopes=["https://www.googleapis.com/auth/devstorage.read_write"])[0]
    )
    url = f"https://storage.googleapis.com/upload/storage/v1/b/{bucket.name}/o?uploadType=resumable"
    upload = ResumableUpload(url, chunk)
    upload.initiate(session, io.BytesIO(data), {"name": "x"}, "application/octet-stream")
    upload.transmit_next_chunk(session)
    cloud.kill()
    cloud.up()
    upload._invalid = True  # what a broken connection in the middle of a chunk leaves
    upload.recover(session)
    assert upload.bytes_uploaded == chunk
    while not upload.finished:
        upload.transmit_next_chunk(session)
    assert bucket.blob("x").download_as_bytes() == data


def test_bytes_ranges_and_metadata(bucket):
    blob = bucket.blob("a/ü %?#&.txt")
    blob.metadata = {"k": "v"}
    blob.cache_control = "no-store"
    blob.upload_from_string("0123456789", content_type="text/plain", checksum="md5")
    assert blob.download_as_bytes(start=2, end=4) == b"234"
    assert blob.download_as_text() == "0123456789"
    with blob.open("rb") as file:
        file.seek(8)
        assert file.read() == b"89"
    with bucket.blob("written").open("w") as file:
        file.write("line\n" * 100_000)
    assert bucket.get_blob("written").size == 500_000
    found = bucket.get_blob(blob.name)
    assert (found.metadata, found.cache_control, found.content_type) == ({"k": "v"}, "no-store", "text/plain")
    with pytest.raises(exceptions.RequestRangeNotSatisfiable):
        blob.download_as_bytes(start=10)
    with pytest.raises(exceptions.NotFound):
        bucket.blob("nothing").download_as_bytes()


def test_preconditions_and_generations(bucket):
    blob = bucket.blob("x")
    blob.upload_from_string("1", if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("x").upload_from_string("2", if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed):
        blob.delete(if_generation_match=1)
    blob.delete(if_generation_match=blob.generation)
    assert not bucket.blob("x").exists()


def test_listing(client, bucket):
    for name in ("a", "d/1", "d/2", "d/e/3", "z"):
        bucket.blob(name).upload_from_string(name)
    assert [b.name for b in client.list_blobs(bucket, page_size=2)] == ["a", "d/1", "d/2", "d/e/3", "z"]
    iterator = client.list_blobs(bucket, delimiter="/", prefix="d/")
    assert [b.name for b in iterator] == ["d/1", "d/2"] and iterator.prefixes == {"d/e/"}
    assert [b.name for b in client.list_blobs(bucket, match_glob="d/*")] == ["d/1", "d/2"]
    assert [b.name for b in client.list_blobs(bucket, start_offset="d/2", end_offset="z")] == ["d/2", "d/e/3"]
    assert bucket.name in [b.name for b in client.list_buckets(page_size=1)]


def test_compose_rewrite_rename_and_batch(client, bucket):
    parts = [bucket.blob(name) for name in ("1", "2")]
    for part in parts:
        part.upload_from_string(part.name)
    whole = bucket.blob("12")
    whole.compose(parts)
    assert whole.download_as_bytes() == b"12" and whole.component_count == 2
    copy = bucket.blob("copy")
    assert copy.rewrite(whole) == (None, 2, 2)
    assert bucket.rename_blob(copy, "moved").download_as_bytes() == b"12"
    with client.batch():
        for part in parts:
            part.metadata = {"done": "yes"}
            part.patch()
    assert bucket.get_blob("2").metadata == {"done": "yes"}
    with pytest.raises(exceptions.NotFound), client.batch():
        bucket.delete_blob("1")
        bucket.delete_blob("nothing")
    assert [b.name for b in client.list_blobs(bucket)] == ["12", "2", "moved"]
    with pytest.raises(exceptions.Conflict, match="not empty"):
        bucket.delete()
    bucket.delete(force=True)
    assert client.lookup_bucket(bucket.name) is None


def test_policies_decide_who_reads(cloud, bucket):
    bucket.blob("open/x").upload_from_string("open")
    bucket.blob("shut/x").upload_from_string("shut")
    bob = acting_as(cloud, "bob@example.com").bucket(bucket.name)
    with pytest.raises(exceptions.Forbidden, match=r"bob@example.com does not have storage.objects.get access"):
        bob.blob("open/x").download_as_bytes()
    policy = bucket.get_iam_policy(requested_policy_version=3)
    policy.version = 3
    names = f"resource.name.startsWith('projects/_/buckets/{bucket.name}/objects/open/')"
    condition = {"title": "open", "expression": names}
    binding = {"role": "roles/storage.objectViewer", "members": {"user:bob@example.com"}, "condition": condition}
    policy.bindings.append(binding)
    bucket.set_iam_policy(policy)
    assert bob.blob("open/x").download_as_bytes() == b"open"
    with pytest.raises(exceptions.Forbidden):
        bob.blob("shut/x").download_as_bytes()
    with pytest.raises(exceptions.Forbidden):
        bob.blob("open/y").upload_from_string("no")
    assert bucket.test_iam_permissions(["storage.objects.create"]) == ["storage.objects.create"]
    assert requests.get(bucket.blob("open/x").public_url, timeout=10).status_code == 401


def test_lists_of_a_fine_grained_bucket(client, cloud):
    bucket = client.create_bucket("fine-grained-bucket")
    blob = bucket.blob("x")
    blob.upload_from_string("x")
    bob = acting_as(cloud, "bob@example.com").bucket(bucket.name)
    with pytest.raises(exceptions.Forbidden):
        bob.blob("x").download_as_bytes()
    blob.acl.user("bob@example.com").grant_read()
    blob.acl.save()
    assert bob.blob("x").download_as_bytes() == b"x"
    blob.make_public()
    assert storage.Client.create_anonymous_client().bucket(bucket.name).blob("x").download_as_bytes() == b"x"
