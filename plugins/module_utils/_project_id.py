# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Values that follow from the id of a project, which can have a domain before a colon: ``example.com:my-project``.

Such projects are legacy, and Google writes their ids in several ways. This is the one place that knows them. The id
is left as it is in names of resources (``projects/example.com:my-project/secrets/s``), in
``apps/example.com:my-project`` and what Identity-Aware Proxy derives from it, in filters, and in the connection name
of a Cloud SQL instance.
"""

from __future__ import annotations

import re

# Collections of which the ids are those of projects.
_PROJECTS = ("projects", "apps")
_REGISTRY = re.compile(r"([a-z0-9-]+-docker\.pkg\.dev)/([^/:]+):([^/:@]+)/(.+)")


def dotted(project: str) -> str:
    """Return the id as a part of host names and addresses: ``my-project.example.com``.

    https://cloud.google.com/compute/docs/internal-dns#instance-fully-qualified-domain-names
    """
    domain, _colon, name = project.rpartition(":")
    return f"{name}.{domain}" if domain else name


def account_email(account_id: str, project: str) -> str:
    """Return the address of a service account: ``NAME@my-project.example.com.iam.gserviceaccount.com``.

    https://cloud.google.com/iam/docs/service-account-types#user-managed has the form without a domain. With one it is
    the form of, for example, the account in Google's own core/credentials/gce.py of the Google Cloud CLI.
    """
    return f"{account_id}@{dotted(project)}.iam.gserviceaccount.com"


def app_engine_account(project: str) -> str:
    """Return the address of App Engine's default account: ``my-project.example.com@appspot.gserviceaccount.com``.

    https://cloud.google.com/appengine/docs/flexible/service-account, and for a domain ServiceAccountUtil.java of
    https://github.com/GoogleCloudPlatform/google-cloud-eclipse.
    """
    return f"{dotted(project)}@appspot.gserviceaccount.com"


def app_engine_host(project: str) -> str:
    """Return the host of an application that does not exist yet. Later its ``defaultHostname`` counts.

    https://cloud.google.com/appengine/docs/flexible/how-requests-are-routed
    """
    return f"{dotted(project)}.appspot.com"


def bucket_prefix(project: str) -> str:
    """Return the id as the beginning of a bucket's name: ``example_com_my-project``.

    A name takes no colon, one with dots needs a verified domain, and none contains "google"
    (https://cloud.google.com/storage/docs/buckets#naming). The form is that of the Google Cloud CLI for its own buckets
    (command_lib/builds/staging_bucket_util.py). Ids without a domain have no underscore, so they never look like this.
    """
    domain, _colon, name = project.rpartition(":")
    if not domain:
        return name
    return f"{domain}_{name}".replace(".", "_").replace("google", "elgoog")


def in_image(project: str) -> str:
    """Return the id as a part of an image: ``example.com/my-project``.

    https://cloud.google.com/artifact-registry/docs/docker/names#domain
    """
    return project.replace(":", "/", 1)


def of_image(part: str) -> str:
    """Return the id from its part of an image: the reverse of :func:`in_image`."""
    return part.replace("/", ":", 1)


def image(text: str) -> str:
    """Return an image with the project as :func:`in_image` writes it, where it is written with a colon."""
    found = _REGISTRY.fullmatch(text)
    return f"{found[1]}/{found[2]}/{found[3]}/{found[4]}" if found else text


def connection_name(project: str, region: str, instance: str) -> str:
    """Return the connection name of a Cloud SQL instance, which is the name of its socket as well.

    https://cloud.google.com/sql/docs/postgres/connect-run. With a domain it has three colons, which Google's connectors
    accept (https://github.com/GoogleCloudPlatform/cloud-sql-python-connector/pull/937).
    """
    return f"{project}:{region}:{instance}"


def without_method(path: str) -> str:
    """Return the path of a request without its custom method (``:setIamPolicy``), which is no part of the resource."""
    head, slash, last = path.rpartition("/")
    domain = ""
    if head.rpartition("/")[2] in _PROJECTS and "." in last.partition(":")[0]:
        domain, colon, last = last.partition(":")
        domain += colon
    return head + slash + domain + (last.partition(":")[0] or last)
