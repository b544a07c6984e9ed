# SPDX-License-Identifier: Apache-2.0
"""The variables with which an unmodified program talks to the sandbox instead of Google."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gcp_sandbox.config import Settings, write_private

_LOCAL = "localhost,127.0.0.1,::1"


def variables(settings: Settings, credentials: Path, *, key_file: bool = True) -> dict[str, str]:
    """Environment for programs outside the sandbox.

    :param credentials: application default credentials: the deployer's key file, or those of another principal.
    :param key_file: whether `credentials` is a service account's key, which the google.cloud collection can read.
    """
    bundle, adc = str(settings.ca_bundle), str(credentials)
    values = {
        **network(settings),
        "GOOGLE_APPLICATION_CREDENTIALS": adc,
        "GOOGLE_CLOUD_PROJECT": settings.project,
        "CLOUDSDK_CONFIG": str(settings.state / "gcloud"),
        "CLOUDSDK_CORE_PROJECT": settings.project,
        "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE": bundle,
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
        "CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE": adc,
        "GCP_PROJECT": settings.project,
        "GCP_SANDBOX_STATE": str(settings.state),
    }
    if key_file:
        values |= {"GCP_AUTH_KIND": "serviceaccount", "GCP_SERVICE_ACCOUNT_FILE": adc}
    else:
        values |= {"GCP_AUTH_KIND": "application"}
    return values


def network(settings: Settings) -> dict[str, str]:
    """Return the variables that lead requests here and make certificates trusted; instances need only these."""
    bundle = str(settings.ca_bundle)
    proxy = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), settings.proxy_url)
    direct = dict.fromkeys(("NO_PROXY", "no_proxy"), _LOCAL)
    trust = (
        "REQUESTS_CA_BUNDLE",
        "SSL_CERT_FILE",
        "CURL_CA_BUNDLE",
        "HTTPLIB2_CA_CERTS",
        "NODE_EXTRA_CA_CERTS",
        "GIT_SSL_CAINFO",
        "PIP_CERT",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    )
    return {**proxy, **direct, **dict.fromkeys(trust, bundle)}


def write_credentials(settings: Settings, email: str, document: dict[str, Any]) -> Path:
    """Write a principal's application default credentials to a file of the state folder and return its path."""
    file = settings.credentials / f"{email.replace('/', '_')}.json"
    write_private(file, json.dumps(document, indent=2) + "\n")
    return file
