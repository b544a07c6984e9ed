# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Service accounts."""

from __future__ import annotations

import re

from ansible_collections.mlplatform.gcp.plugins.module_utils import _project_id
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.kind import Kind
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import UserError
from ansible_collections.mlplatform.gcp.plugins.module_utils._ownership import Description
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import Resource, Update

ACCOUNT = Resource(
    kind="service account",
    base="https://iam.googleapis.com/v1",
    path="projects/{project}/serviceAccounts/{email}",
    permission="iam.serviceAccounts",
    create_body=lambda names, body: {"accountId": names["email"].split("@")[0], "serviceAccount": body},
    update=Update(wrap=lambda body, mask: {"serviceAccount": body, "updateMask": ",".join(mask)}),
    mark=Description(),
    kept=("displayName",),
)


def address(account_id, project):
    """Return the account's e-mail address. Errors: :class:`UserError` for a name that no account can have."""
    if not re.fullmatch(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", account_id):
        raise UserError(
            f"{account_id!r} cannot be the name of a service account.",
            "It takes 6 to 30 lower-case letters, digits and dashes, and starts with a letter.",
        )
    return _project_id.account_email(account_id, project)


def _names(project, name, location):
    return {"project": project, "email": name if "@" in name else _project_id.account_email(name, project)}


KINDS = {
    "service_account": Kind(
        ACCOUNT,
        items="accounts",
        names=_names,
        state=lambda body: ("DISABLED" if body.get("disabled") else "ENABLED", bool(body.get("disabled"))),
        policy="//iam.googleapis.com/projects/{project}/serviceAccounts/{email}",
    ),
}
