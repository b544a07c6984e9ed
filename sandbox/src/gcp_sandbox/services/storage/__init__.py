# SPDX-License-Identifier: Apache-2.0
"""Cloud Storage: the JSON API v1 with its uploads, downloads and batches, and links of the XML API.

    buckets.py  acl.py  objects.py      the resources
    uploads.py  media.py                bytes in and out
    batch.py  xml.py                    other ways to send the same requests
    common.py  locations.py             what they share

Bytes and generations are kept by backends/objects.py.
"""

from __future__ import annotations

from gcp_sandbox.backends.platform import Platform
from gcp_sandbox.gateway.denials import IamFacts
from gcp_sandbox.gateway.ports import BucketProvider
from gcp_sandbox.gateway.service import Service
from gcp_sandbox.services.storage.batch import Batch
from gcp_sandbox.services.storage.buckets import Buckets
from gcp_sandbox.services.storage.common import denied
from gcp_sandbox.services.storage.uploads import Uploads
from gcp_sandbox.services.storage.xml import StorageXml

__all__ = ["Storage", "StorageXml"]


class Storage(Buckets, Uploads, Batch, Service):
    """storage.googleapis.com, and www.googleapis.com as older clients call it."""

    name = "storage"
    iam = IamFacts(denial=denied, types={"buckets": "Bucket", "objects": "Object", "managedFolders": "ManagedFolder"})
    versions = ("v1",)
    hosts = ("www.googleapis.com",)
    error_style = "legacy"
    unknown_fields = "ignore"
    keep_nulls = True

    def __init__(self, sandbox: Platform) -> None:
        super().__init__(sandbox)
        sandbox.ports.offer(BucketProvider, self)

    def start(self) -> None:
        self.sandbox.iam.register_parent("//storage.googleapis.com/projects/_/buckets/", self._project_of)
        self.purge_deleted_buckets()

    def _project_of(self, resource: str) -> str | None:
        name = resource.split("/buckets/", 1)[1].partition("/")[0]
        bucket = self.objects.bucket(name)
        return bucket["project"] if bucket else None
