# SPDX-License-Identifier: Apache-2.0
"""One module or package for each Google service, and the table of them.

A module that is not in the table is not served.
"""

from __future__ import annotations

#: Name of the service -> module and class that serve it. They are loaded and started in this order.
SERVICES = {
    "appengine": "gcp_sandbox.services.appengine:AppEngine",
    "artifactregistry": "gcp_sandbox.services.artifactregistry:ArtifactRegistry",
    "publickeys": "gcp_sandbox.services.public_keys:PublicKeys",
    "cloudbilling": "gcp_sandbox.services.cloudbilling:CloudBilling",
    "cloudbuild": "gcp_sandbox.services.cloudbuild:CloudBuild",
    "cloudkms": "gcp_sandbox.services.cloudkms:CloudKms",
    "cloudresourcemanager": "gcp_sandbox.services.cloudresourcemanager:ResourceManager",
    "compute": "gcp_sandbox.services.compute:Compute",
    "iam": "gcp_sandbox.services.iam:IamApi",
    "iamcredentials": "gcp_sandbox.services.iamcredentials:IamCredentials",
    "iap": "gcp_sandbox.services.iap:Iap",
    "logging": "gcp_sandbox.services.cloudlogging:CloudLogging",
    "oauth2": "gcp_sandbox.services.oauth2:OAuth2",
    "run": "gcp_sandbox.services.run:Run",
    "secretmanager": "gcp_sandbox.services.secretmanager:SecretManager",
    "servicenetworking": "gcp_sandbox.services.servicenetworking:ServiceNetworking",
    "serviceusage": "gcp_sandbox.services.serviceusage:ServiceUsage",
    "sqladmin": "gcp_sandbox.services.sqladmin:SqlAdmin",
    "storage": "gcp_sandbox.services.storage:Storage",
    "storage_xml": "gcp_sandbox.services.storage:StorageXml",
}
