# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role mlflow_image."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.roles import _shared
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.spec import EntryPoint, RoleSpec, Variable

ROLE = RoleSpec(
    name="mlflow_image",
    short_description="Build the MLflow image with Cloud Build",
    description=(
        "Creates a repository in Artifact Registry, and builds the image into it unless an image of the same content"
        " exists.",
        "The build runs as its own service account, which can push to this repository and use the bucket of its source,"
        " and has no other right.",
        "Registers C(mlflow_image_managed). Its C(image) is the image with its digest.",
    ),
    registers=("mlflow_image_managed",),
    variables=(
        _shared.state(
            "V(absent) removes the repository with all its images, the source bucket and the build's account.",
            "mlflow_image",
        ),
        Variable(
            "mlflow_image_context",
            "path",
            ("Folder with the Dockerfile and the files that it copies. Empty is the role's own.",),
            default="",
        ),
        Variable(
            "mlflow_image_dockerfile",
            "str",
            ("The Dockerfile, relative to the context.",),
            default="Dockerfile",
            rule="relative_path",
        ),
        Variable(
            "mlflow_image_build_args",
            "dict",
            (
                "Build arguments. The image shows them, so they must not hold secrets.",
                "In a deployment C(MLFLOW_VERSION) is C(mlflow_version) unless it is set here.",
            ),
            default={},
            elements="str",
            rule="build_args",
        ),
        Variable(
            "mlflow_image_engine",
            "str",
            (
                "Cloud Build, or a container engine of the controller. With an engine of the controller the deployer"
                " pushes the image, and needs V(roles/artifactregistry.writer).",
            ),
            default="cloud_build",
            choices=("cloud_build", "docker", "podman"),
        ),
        Variable(
            "mlflow_image_location",
            "str",
            ("Region of the repository, of the bucket and of the build.",),
            default="{{ gcp_region }}",
            rule="region",
        ),
        Variable(
            "mlflow_image_repository",
            "str",
            ("Name of the repository. In a deployment the default is C(NAME-ENV).",),
            required=True,
            rule="repository",
        ),
        Variable("mlflow_image_name", "str", ("Name of the image.",), default="mlflow", rule="image_name"),
        Variable(
            "mlflow_image_tag",
            "str",
            (
                "Tag of the image. Empty is a fingerprint of the files and arguments that the image is built from, in a"
                " deployment after its version.",
            ),
            default="",
            rule="tag",
        ),
        Variable(
            "mlflow_image_keep_versions",
            "int",
            ("How many images to keep even when they are older than 30 days.",),
            default=10,
            minimum=1,
            maximum=1000,
        ),
        Variable(
            "mlflow_image_repository_managed",
            "bool",
            ("Whether to create and change the repository. Otherwise it must exist.",),
            default=True,
        ),
        Variable("mlflow_image_description", "str", ("Description of the repository.",), default=""),
        Variable(
            "mlflow_image_cleanup_policies",
            "list",
            ("Clean-up policies of the repository, as M(mlplatform.gcp.artifact_repository) has them.",),
            default=[],
            elements="dict",
        ),
        Variable("mlflow_image_builder_display_name", "str", ("Display name of the build's account.",), default=""),
        Variable(
            "mlflow_image_source_bucket_managed",
            "bool",
            ("Whether to create and change the bucket of the sources. Otherwise it must exist.",),
            default=True,
        ),
        Variable(
            "mlflow_image_builder_account",
            "str",
            (
                "Id of the service account that the build runs as. Required for C(cloud_build). In a deployment the"
                " default is C(NAME-ENV-build).",
            ),
            default="",
            rule="account",
        ),
        Variable(
            "mlflow_image_source_bucket",
            "str",
            (
                "Bucket for the build's source and log. Its objects are deleted after 30 days. Required for"
                " C(cloud_build). In a deployment the default is C(PROJECT-NAME-ENV-build).",
            ),
            default="",
            rule="bucket",
        ),
        Variable(
            "mlflow_image_machine_type",
            "str",
            ("Machine type of the build, Google's default if empty.",),
            default="",
            rule="build_machine",
        ),
        Variable(
            "mlflow_image_timeout",
            "int",
            ("Seconds after which the build fails.",),
            default=1200,
            minimum=1,
            maximum=86400,
        ),
        Variable(
            "mlflow_image_kms_key",
            "str",
            (
                "Key of Cloud KMS, in C(mlflow_image_location), that encrypts the repository, and the bucket of builds."
                " That of the repository cannot be changed later.",
                "In a deployment the default is C(mlflow_kms_key).",
            ),
            default="",
            rule="kms_key",
        ),
        Variable(
            "mlflow_image_labels",
            "dict",
            ("Labels of the repository and of the bucket, besides those of their owner.",),
            default={},
            elements="str",
            rule="labels",
        ),
        *_shared.ownership("mlflow_image", "the repository, the bucket and the account"),
    ),
    entry_points=(
        EntryPoint(
            "start",
            "Start to build the image and continue",
            (
                "Starts the build without waiting. If C(mlflow_image_managed.operation) is defined, the entry point"
                " C(finish) must follow in the same play.",
            ),
        ),
        EntryPoint("finish", "Wait for the build", ("Waits until the image can be used.",)),
        EntryPoint(
            "absent",
            "Remove the images and what built them",
            ("Removes the repository with all its images, the source bucket and the build's account.",),
        ),
    ),
)
