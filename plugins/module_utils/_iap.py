# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names of the resources that Identity-Aware Proxy protects, and the permissions on them.

https://cloud.google.com/iap/docs/managing-access and the reference of its API.
"""

from __future__ import annotations

import re

KIND = "Identity-Aware Proxy"
ACCESSOR = "roles/iap.httpsResourceAccessor"
# The part of a name after projects/PROJECT/ -> the middle part of the permissions on the resource.
_KINDS = (
    (re.compile(r"iap_web"), "web"),
    (re.compile(r"iap_web/[^/]+"), "webTypes"),
    (re.compile(r"iap_web/[^/]+/services/[^/]+"), "webServices"),
    (re.compile(r"iap_web/[^/]+/services/[^/]+/versions/[^/]+"), "webServiceVersions"),
    (re.compile(r"iap_tunnel(/.+)?"), "tunnel"),
)


def permissions(resource):
    """Return the prefix of the permissions on a resource, such as ``iap.webServices``."""
    _projects, _project, rest = resource.split("/", 2) if resource.count("/") > 1 else ("", "", "")
    kind = next((kind for pattern, kind in _KINDS if pattern.fullmatch(rest)), "projects")
    return f"iap.{kind}"


def app_engine(number, project, service=None, version=None):
    """Return the name of an application, of one of its services, or of a version."""
    name = f"projects/{number}/iap_web/appengine-{project}"
    return name + (f"/services/{service}" if service else "") + (f"/versions/{version}" if version else "")


def cloud_run(number, location, service):
    """Return the name of a Cloud Run service."""
    return f"projects/{number}/iap_web/cloud_run-{location}/services/{service}"
