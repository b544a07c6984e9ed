# SPDX-License-Identifier: Apache-2.0
"""The object store below the Cloud Storage API: generations, listings, uploads, and what a crash leaves."""

from types import SimpleNamespace

import pytest
from gcp_sandbox.backends import objects
from gcp_sandbox.backends.objects import ObjectStore, compile_glob, etag
from gcp_sandbox.store import Store


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "state.db")
    store.put(objects.BUCKET, "b", {"name": "b", "generation": "100"})
    yield store
    store.close()


@pytest.fixture
def backend(tmp_path, store):
    return started(tmp_path, store)


def started(tmp_path, store):
    backend = ObjectStore(SimpleNamespace(store=store, settings=SimpleNamespace(state=tmp_path)))
    backend.start()
    return backend


def change_bucket(store, **fields):
    bucket = {**store.get(objects.BUCKET, "b"), **fields}
    store.put(objects.BUCKET, "b", bucket)
    return bucket


def names(listing):
    return [row["object"]["name"] for row in listing.items]


def files(backend):
    return sorted(path.name for path in backend.blobs.glob("*/*"))


def test_what_is_written_is_read_with_the_documented_checksums(backend):
    resource = backend.write("b", "a/b.txt", b"hello world", "text/plain")
    # Of "hello world": gsutil hash.
    assert resource["md5Hash"] == "XrY7u+Ae7tCTyyK7j1rNww=="
    assert resource["crc32c"] == "yZRlqg=="
    assert resource["size"] == "11"
    assert backend.read("b", "a/b.txt").read_bytes() == b"hello world"
    assert backend.read("b", "nothing") is None
    assert backend.read("nowhere", "a/b.txt") is None
    with pytest.raises(KeyError):
        backend.write("nowhere", "x", b"")


def test_etags_are_the_services():
    assert etag(1) == "CAE="
    assert etag(1660122857011260, 1) == "CLzws8n3u/kCEAE="  # from published metadata of an object


def test_overwriting_without_versioning_keeps_one_generation(backend, store):
    first = backend.write("b", "x", b"1")
    second = backend.write("b", "x", b"2")
    bucket = backend.bucket("b")
    assert int(second["generation"]) > int(first["generation"])
    assert backend.get(bucket, "x", first["generation"]) is None
    assert [row["object"]["generation"] for row in backend.list(bucket, versions=True).items] == [second["generation"]]


def test_versioning_keeps_what_was_overwritten_and_deleted(backend, store):
    bucket = change_bucket(store, versioning={"enabled": True})
    generations = [backend.write("b", "x", b"%d" % i)["generation"] for i in range(3)]
    assert [r["object"]["generation"] for r in backend.list(bucket, versions=True).items] == generations
    backend.remove(bucket, backend.get(bucket, "x"), permanently=False)
    assert backend.get(bucket, "x") is None
    old = backend.get(bucket, "x", generations[0])
    assert backend.path(old).read_bytes() == b"0"
    assert old["object"]["timeDeleted"]
    assert not backend.is_empty(bucket)
    for generation in generations:
        backend.remove(bucket, backend.get(bucket, "x", generation), permanently=True)
    assert backend.is_empty(bucket)


def test_soft_deleted_objects_can_be_restored(backend, store):
    bucket = change_bucket(store, softDeletePolicy={"retentionDurationSeconds": "604800"})
    generation = backend.write("b", "x", b"precious")["generation"]
    backend.remove(bucket, backend.get(bucket, "x"), permanently=False)
    assert backend.is_empty(bucket)
    row = backend.get_soft_deleted(bucket, "x", generation)
    restored = backend.restore(bucket, row)
    assert backend.path(restored).read_bytes() == b"precious"
    assert "hardDeleteTime" not in restored["object"]


def test_soft_deleted_objects_go_when_their_time_is_up(backend, store, tmp_path):
    bucket = change_bucket(store, softDeletePolicy={"retentionDurationSeconds": "604800"})
    generation = backend.write("b", "x", b"x")["generation"]
    backend.remove(bucket, backend.get(bucket, "x"), permanently=False)
    (key, row), *_ = store.list(objects.SOFT_DELETED)
    row["object"]["hardDeleteTime"] = "2020-01-01T00:00:00.000Z"
    store.put(objects.SOFT_DELETED, key, row, parent=bucket["generation"])
    assert backend.get_soft_deleted(bucket, "x", generation) is None
    backend.stop()
    assert files(started(tmp_path, store)) == []


@pytest.fixture
def tree(backend):
    for name in ("a", "d/", "d/1", "d/2", "d/e/3", "e.txt", "f/g/h", "z"):
        backend.write("b", name, b"x")
    return backend, backend.bucket("b")


@pytest.mark.parametrize(
    ("options", "items", "prefixes"),
    [
        ({}, ["a", "d/", "d/1", "d/2", "d/e/3", "e.txt", "f/g/h", "z"], []),
        ({"delimiter": "/"}, ["a", "e.txt", "z"], ["d/", "f/"]),
        ({"delimiter": "/", "prefix": "d/"}, ["d/", "d/1", "d/2"], ["d/e/"]),
        ({"delimiter": "/", "trailing": True}, ["a", "d/", "e.txt", "z"], ["d/", "f/"]),
        ({"prefix": "d/e"}, ["d/e/3"], []),
        ({"prefix": "nothing"}, [], []),
        ({"start": "d/2", "end": "f"}, ["d/2", "d/e/3", "e.txt"], []),
        ({"start": "b", "delimiter": "/"}, ["e.txt", "z"], ["d/", "f/"]),
        ({"start": "a", "prefix": "d/"}, ["d/", "d/1", "d/2", "d/e/3"], []),
        ({"start": "zz", "prefix": "d/"}, [], []),
        ({"glob": "*"}, ["a", "e.txt", "z"], []),
        ({"glob": "d/**"}, ["d/", "d/1", "d/2", "d/e/3"], []),
        ({"glob": "{a,z}"}, ["a", "z"], []),
    ],
)
def test_listing_whole_and_page_by_page(tree, options, items, prefixes):
    backend, bucket = tree
    whole = backend.list(bucket, **options)
    assert (names(whole), whole.prefixes, whole.next) == (items, prefixes, "")
    for limit in (1, 2, 3):
        got, folders, after = [], [], ""
        for _ in range(20):
            page = backend.list(bucket, limit=limit, after=after, **options)
            got += names(page)
            folders += page.prefixes
            after = page.next
            if not after:
                break
        assert (got, folders) == (items, prefixes)


def test_a_folder_with_many_objects_is_not_read_through(backend, store, monkeypatch):
    for i in range(1200):
        backend.insert(backend.bucket("b"), f"d/{i:05}", objects.Blob("0" * 32, 0, "AAAAAA=="), {})
    backend.write("b", "e", b"x")
    read = []
    original = store.list
    monkeypatch.setattr(store, "list", lambda *a, **k: read.append(rows := original(*a, **k)) or rows)
    page = backend.list(backend.bucket("b"), delimiter="/")
    assert (page.prefixes, names(page)) == (["d/"], ["e"])
    assert sum(map(len, read)) <= 501


@pytest.mark.parametrize(
    ("glob", "name", "expected"),
    [
        ("a*", "abc", True),
        ("a*", "a/b", False),
        ("**/c", "a/b/c", True),
        ("a?", "a/", False),
        ("[a-c]x", "bx", True),
        ("[!a-c]x", "bx", False),
        ("f.{py,txt}", "f.txt", True),
        ("f.txt", "fatxt", False),
        (r"\*", "*", True),
    ],
)
def test_globs(glob, name, expected):
    assert bool(compile_glob(glob).fullmatch(name)) is expected


def chunk(backend, data):
    path = backend.temporary()
    path.write_bytes(data)
    return path


def test_an_upload_continues_after_a_restart(backend, store, tmp_path):
    granule = objects.UPLOAD_GRANULARITY
    upload = backend.begin_upload({"name": "x"})
    assert backend.append(upload, chunk(backend, b"a" * (granule + 5)), whole=False) == granule
    again = started(tmp_path, store)
    assert again.get_upload(upload)["name"] == "x"
    assert again.uploaded(upload) == granule
    assert again.append(upload, chunk(again, b"ab"), skip=1, whole=True) == granule + 1
    blob = again.take_upload(upload)
    assert blob.size == granule + 1
    with store.transaction():
        again.insert(again.bucket("b"), "x", blob, {})
        again.finish_upload(upload, {"name": "x"})
    assert again.get_upload(upload)["result"] == {"name": "x"}
    assert list(again.uploads.iterdir()) == []
    assert again.read("b", "x").read_bytes() == b"a" * granule + b"b"


def test_sessions_of_last_week_are_gone(backend, store, tmp_path):
    upload = backend.begin_upload({"started": "2020-01-01T00:00:00.000Z"})
    assert started(tmp_path, store).get_upload(upload) is None
    assert list(backend.uploads.iterdir()) == []


def test_a_crash_leaves_no_half_object_and_no_bytes(backend, store, tmp_path):
    backend.write("b", "kept", b"kept")
    kept = files(backend)
    chunk(backend, b"being written when the process died")
    backend.adopt(chunk(backend, b"on disk, but its row was never committed"))
    with pytest.raises(RuntimeError), store.transaction():
        backend.write("b", "kept", b"refused after all")
        raise RuntimeError
    again = started(tmp_path, store)
    assert files(again) == kept
    assert list(again.spool.iterdir()) == []
    assert again.read("b", "kept").read_bytes() == b"kept"


def test_copies_outlive_their_source(backend, store):
    bucket = backend.bucket("b")
    backend.write("b", "x", b"bytes")
    source = backend.get(bucket, "x")
    backend.insert(bucket, "y", backend.duplicate(source), {})
    both = backend.insert(bucket, "z", backend.concatenate([source, source]), {})
    backend.remove(bucket, source, permanently=False)
    backend.stop()
    assert backend.read("b", "y").read_bytes() == b"bytes"
    assert backend.read("b", "z").read_bytes() == b"bytesbytes"
    assert "md5Hash" not in both["object"]
    assert len(files(backend)) == 2


def test_bytes_are_private(backend):
    backend.write("b", "x", b"secret")
    assert backend.read("b", "x").stat().st_mode & 0o777 == 0o600
    assert backend.blobs.stat().st_mode & 0o777 == 0o700
