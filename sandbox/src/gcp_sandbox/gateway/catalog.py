# SPDX-License-Identifier: Apache-2.0
"""What Google knows about its APIs: their titles, what they need, and the accounts that come with them.

Sources on cloud.google.com: service-usage/docs/enabled-service (enabled by default), iam/docs/service-agents (agents
and their roles), iam/docs/service-account-types (default accounts).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from googleapiclient import discovery_cache

if TYPE_CHECKING:
    from gcp_sandbox.gateway.projects import Project

DOCUMENTS = Path(discovery_cache.__file__).parent / "documents"

# The last bytes of a discovery document, which hold its title.
TITLE_WITHIN = 1000

# Enabled in every new project.
_DEFAULT = """
analyticshub bigquery bigqueryconnection bigquerydatapolicy bigquerydatatransfer bigquerymigration bigqueryreservation
bigquerystorage cloudapis cloudtrace dataform dataplex datastore logging monitoring servicemanagement serviceusage
sql-component storage storage-api storage-component telemetry
"""
DEFAULT_SERVICES = tuple(f"{name}.googleapis.com" for name in _DEFAULT.split())

# Services without a discovery document of their own, and titles that are not the document's.
TITLES = {
    "appengineflex.googleapis.com": "App Engine Flexible Environment",
    "bigquerymigration.googleapis.com": "BigQuery Migration API",
    "bigquerystorage.googleapis.com": "BigQuery Storage API",
    "cloudapis.googleapis.com": "Google Cloud APIs",
    "containerregistry.googleapis.com": "Container Registry API",
    "containerscanning.googleapis.com": "Container Scanning API",
    "ondemandscanning.googleapis.com": "On-Demand Scanning API",
    "runtimeconfig.googleapis.com": "Cloud Runtime Configuration API",
    "source.googleapis.com": "Legacy Cloud Source Repositories API",
    "sql-component.googleapis.com": "Cloud SQL",
    "storage-api.googleapis.com": "Google Cloud Storage JSON API",
    "storage-component.googleapis.com": "Cloud Storage",
    "storage.googleapis.com": "Cloud Storage API",
    "telemetry.googleapis.com": "Telemetry (OTLP) API",
}

# Enabling the one enables the others.
DEPENDENCIES = {
    "appengine": ("storage",),
    "appengineflex": ("appengine", "artifactregistry", "cloudbuild", "compute"),
    "cloudbuild": ("artifactregistry", "logging", "pubsub", "storage"),
    "cloudfunctions": ("cloudbuild", "storage"),
    "compute": ("oslogin",),
    "container": ("artifactregistry", "compute", "containerregistry", "pubsub"),
    "containerregistry": ("pubsub", "storage"),
    "iam": ("iamcredentials",),
    "run": ("artifactregistry", "containerregistry", "pubsub", "storage"),
    "servicenetworking": ("compute",),
}

# Cannot be enabled in a project without billing.
BILLED = frozenset(
    f"{name}.googleapis.com"
    for name in (
        *("appengineflex", "artifactregistry", "cloudbuild", "cloudfunctions", "cloudkms", "compute", "container"),
        *("containerregistry", "dns", "run", "secretmanager", "servicenetworking"),
    )
)

# API -> (domain of its service agent below .iam.gserviceaccount.com, role that Google grants it on the project or "",
# whether enabling the API makes it; the others are made by generateServiceIdentity or at first use).
AGENTS = {
    "appengine": ("gcp-gae-service", "roles/appengine.serviceAgent", True),
    "appengineflex": ("gae-api-prod.google.com", "roles/appengineflex.serviceAgent", True),
    "artifactregistry": ("gcp-sa-artifactregistry", "roles/artifactregistry.serviceAgent", True),
    "cloudbuild": ("gcp-sa-cloudbuild", "roles/cloudbuild.serviceAgent", True),
    "cloudscheduler": ("gcp-sa-cloudscheduler", "roles/cloudscheduler.serviceAgent", True),
    "compute": ("compute-system", "roles/compute.serviceAgent", True),
    "container": ("container-engine-robot", "roles/container.serviceAgent", True),
    "containerregistry": ("containerregistry", "roles/containerregistry.ServiceAgent", True),
    "iap": ("gcp-sa-iap", "", False),
    "pubsub": ("gcp-sa-pubsub", "roles/pubsub.serviceAgent", True),
    "run": ("serverless-robot-prod", "roles/run.serviceAgent", True),
    "secretmanager": ("gcp-sa-secretmanager", "", False),
    "servicenetworking": ("service-networking", "roles/servicenetworking.serviceAgent", False),
    "sqladmin": ("gcp-sa-cloud-sql", "roles/cloudsql.serviceAgent", False),
    "storage": ("gs-project-accounts", "", True),
}
AGENT_DOMAINS = frozenset(domain for domain, _, _ in AGENTS.values())


@dataclass(frozen=True)
class Agent:
    """A service agent: its address and the role that Google grants it on the project, "" for none."""

    email: str
    role: str


def host_of(service: str) -> str:
    """`run` and `run.googleapis.com` -> `run.googleapis.com`."""
    return service if "." in service else f"{service}.googleapis.com"


def known(service: str) -> bool:
    """Return whether there is a service of this host name."""
    return service in TITLES or service in DEFAULT_SERVICES or service in _directory()


def title(service: str) -> str:
    """Return the name that Google shows for an API: "Cloud Run Admin API"."""
    return TITLES.get(service) or _directory().get(service) or _document_title(service) or service


def with_dependencies(services: Iterable[str]) -> set[str]:
    """Return the services and all that they need, by host name."""
    todo, found = [host_of(service) for service in services], set()
    while todo:
        service = todo.pop()
        if service not in found:
            found.add(service)
            todo += map(host_of, DEPENDENCIES.get(service.removesuffix(".googleapis.com"), ()))
    return found


def names() -> list[str]:
    """Host names of all services that there are, sorted."""
    return sorted({*_directory(), *TITLES, *DEFAULT_SERVICES})


def dependents(service: str) -> set[str]:
    """Return the services that need this one, by host name."""
    return {other for other in map(host_of, DEPENDENCIES) if service in with_dependencies([other]) - {other}}


def service_agent(service: str, project: Project) -> Agent | None:
    """Return the service agent of an API in a project; None where it has none."""
    found = AGENTS.get(service.removesuffix(".googleapis.com"))
    return Agent(f"service-{project.number}@{found[0]}.iam.gserviceaccount.com", found[1]) if found else None


def has_agent_on_enable(service: str) -> bool:
    """Return whether enabling the API is enough for its service agent to exist."""
    return AGENTS.get(service.removesuffix(".googleapis.com"), ("", "", False))[2]


def is_service_agent(email: str) -> bool:
    """Return whether the address is one of Google's own accounts in a project and not one that a user made."""
    domain = email.rpartition("@")[2].removesuffix(".iam.gserviceaccount.com")
    return (
        domain.startswith("gcp-sa-")
        or domain in AGENT_DOMAINS
        or re.fullmatch(r"\w+\.gserviceaccount\.com", domain) is not None
    )


def default_account(service: str, project: Project) -> tuple[str, str] | None:
    """Return (address, display name) of the default service account that enabling an API makes."""
    if service in ("compute.googleapis.com", "run.googleapis.com"):
        return f"{project.number}-compute@developer.gserviceaccount.com", "Compute Engine default service account"
    return None


@lru_cache
def _directory() -> dict[str, str]:
    """Host name -> title of every API in the directory of discovery documents."""
    index = json.loads((DOCUMENTS / "index.json").read_text())
    titles = {f"{item['name']}.googleapis.com": item["title"] for item in index["items"]}
    # Documents that are bundled without an entry in the directory have a host; `_document_title` reads their titles.
    hosts = {f"{file.name.split('.')[0]}.googleapis.com" for file in DOCUMENTS.glob("*.*.json")}
    return dict.fromkeys(hosts, "") | titles


@lru_cache
def _document_title(service: str) -> str:
    """Return the title in a service's newest discovery document, "" where there is none.

    The title is at the end of a document, which may be megabytes long.
    """
    files = sorted(DOCUMENTS.glob(f"{service.removesuffix('.googleapis.com')}.*.json"))
    if not files:
        return ""
    with files[-1].open("rb") as file:
        file.seek(max(0, files[-1].stat().st_size - TITLE_WITHIN))
        found = re.search(rb'"title":\s*("(?:[^"\\]|\\.)*"),\s*"version"', file.read())
    return json.loads(found[1]) if found else ""
