# SPDX-License-Identifier: Apache-2.0
"""Steps for artifact_repository, artifact_repository_info and image_build."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.tests.integration.modules._cloud import BUILD, REGION, REGISTRY, STORAGE
from ansible_collections.mlplatform.gcp.tests.integration.modules._steps import Step, both, information, same

NAME, BUILDER = "images", "image-builder"
PLACE = {"name": NAME, "location": REGION}
IMAGE = f"{REGION}-docker.pkg.dev/{{{{ project }}}}/{NAME}/hello"


# Repositories


def repository(cloud):
    return cloud.get(f"{REGISTRY}/{cloud.region}/repositories/{NAME}")


def _repository(title, expect=None, *, fails="", **options):
    return Step(title, "artifact_repository", {**PLACE, **options}, repository, expect, fails=fails)


def created(seen, result, cloud):
    assert (seen["format"], seen["description"]) == ("DOCKER", "for a test")
    assert seen["labels"] == {"managed-by": "mlplatform-gcp", "team": "ml"}
    assert result["resource"]["name"] == seen["name"]


def changed(seen, result, cloud):
    assert seen["description"] == "changed"
    assert seen["labels"] == {"managed-by": "mlplatform-gcp", "team": "platform"}
    assert seen["cleanupPolicies"]["keep"]["mostRecentVersions"]["keepCount"] == 10
    assert seen["cleanupPolicies"]["old"]["condition"] == {"tagState": "ANY", "olderThan": "2592000s"}


def one_policy(seen, result, cloud):
    assert list(seen["cleanupPolicies"]) == ["keep"]
    assert seen["description"] == "changed"


KEEP = {"id": "keep", "action": "KEEP", "most_recent_versions": {"keep_count": 10}}
OLD = {"id": "old", "action": "DELETE", "condition": {"tag_state": "ANY", "older_than": "2592000s"}}


# Images


def context(cloud, name, dockerfile):
    folder = cloud.folder / name
    folder.mkdir()
    (folder / "Dockerfile").write_text(dockerfile)
    (folder / "app.py").write_text("print('hello')\n")
    (folder / ".dockerignore").write_text("*.log\n")
    (folder / "large.log").write_text("x" * 100_000)


def prepare(cloud):
    """Create contexts, a bucket, and a service account with access to the bucket and the repository."""
    context(
        cloud,
        "good",
        'FROM python:3-slim\nARG VARIANT\nENV VARIANT=$VARIANT\nCOPY app.py /app/\nCMD ["python", "/app/app.py"]\n',
    )
    context(cloud, "bad", "FROM python:3-slim\nCOPY nothing.txt /\n")
    bucket = f"{cloud.project}-build"
    cloud.make_bucket(bucket)
    member = f"serviceAccount:{cloud.make_account(BUILDER)}"
    cloud.grant(f"{STORAGE}/b/{bucket}", "roles/storage.admin", member)
    cloud.grant(f"{REGISTRY}/{cloud.region}/repositories/{NAME}", "roles/artifactregistry.writer", member)


def images(cloud):
    """Return the tags of the images in the repository, and the status of each build."""
    found = cloud.get(f"{REGISTRY}/{cloud.region}/repositories/{NAME}/dockerImages").get("dockerImages", [])
    builds = cloud.get(f"{BUILD}/{cloud.region}/builds").get("builds", [])
    return {
        "images": {tag: item["uri"] for item in found for tag in item.get("tags", [])},
        "builds": {item["id"]: item["status"] for item in builds},
    }


def _image(title, expect=None, *, tag, prepare=None, fails="", context="good", read=images, **options):
    options = {
        "image": f"{IMAGE}:{tag}",
        "context": f"{{{{ files }}}}/{context}",
        "location": REGION,
        "source_bucket": "{{ project }}-build",
        "service_account": f"{BUILDER}@{{{{ project }}}}.iam.gserviceaccount.com",
        **options,
    }
    return Step(title, "image_build", options, read, expect, prepare=prepare, fails=fails)


def built(tag):
    def expect(seen, result, cloud):
        assert result["image"] == seen["images"][tag]
        assert "@sha256:" in result["image"]
        assert seen["builds"][result["build"]] == "SUCCESS"
        build = cloud.get(f"{BUILD}/{cloud.region}/builds/{result['build']}")
        assert build["serviceAccount"].endswith(f"/{cloud.email(BUILDER)}")

    return expect


def small_context(seen, result, cloud):
    built("v1")(seen, result, cloud)
    uploaded = cloud.get(f"{STORAGE}/b/{cloud.project}-build/o", prefix="source/")["items"]
    # files that match .dockerignore are not uploaded
    assert [int(item["size"]) < 2000 for item in uploaded] == [True]


STEPS = [
    both(
        _repository(
            "A repository is created",
            created,
            format="DOCKER",
            description="for a test",
            labels={"managed-by": "mlplatform-gcp", "team": "ml"},
        )
    ),
    both(
        _repository(
            "A repository is changed",
            changed,
            description="changed",
            labels={"team": "platform"},
            cleanup_policies=[KEEP, OLD],
        )
    ),
    _repository("A cleanup policy is removed", one_policy, cleanup_policies=[KEEP]),
    _repository("A format is not changed", fails="format cannot be changed", format="PYTHON"),
    both(information("A repository is found", "artifact_repository_info", PLACE, lambda cloud: [repository(cloud)])),
    information(
        "All repositories are found",
        "artifact_repository_info",
        {"location": REGION},
        lambda cloud: cloud.get(f"{REGISTRY}/{cloud.region}/repositories")["repositories"],
    ),
    both(_image("An image is built", small_context, tag="v1", prepare=prepare, build_args={"VARIANT": "one"})),
    _image("Another tag is built", built("v2"), tag="v2", build_args={"VARIANT": "two"}, timeout=300),
    _image(
        "A build that fails shows the end of its log",
        tag="v3",
        context="bad",
        # the failed build exists, as on Google Cloud
        read=lambda cloud: images(cloud)["images"],
        fails=r"(?s)ended with FAILURE.*COPY nothing.txt",
    ),
    _image("A context that does not exist is rejected", tag="v4", context="none", fails="is not a folder"),
    both(_repository("A repository is deleted", lambda seen, result, cloud: same(seen, None), state="absent")),
    information("No repository is found", "artifact_repository_info", PLACE, lambda cloud: []),
]
