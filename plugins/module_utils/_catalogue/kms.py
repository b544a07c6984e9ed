# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cloud KMS: keys that resources of other services are encrypted with."""

from __future__ import annotations

import re

from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.kind import Kind
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import UserError
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import Resource

_RING = "projects/{project}/locations/{location}/keyRings/{ring}"
_PATH = _RING + "/cryptoKeys/{key}"
#: Refusals of a service with an agent that was granted a role on the key a moment ago.
TRANSIENT = (
    r"(?i)(permission|authorized).*(\bKMS\b|cryptoKey|encryption key)",
    r"(?i)(\bKMS\b|cryptoKey|encryption key).*(permission|authorized)",
)

KEY = Resource(
    kind="key",
    base="https://cloudkms.googleapis.com/v1",
    path=_PATH,
    permission="cloudkms.cryptoKeys",
    update=None,
)


def location(name):
    """Return the location of a key by its full name. Errors: :class:`UserError` for what is not one."""
    return _names("", name, "")["location"]


def _names(project, name, location):
    match = re.fullmatch(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", _PATH), name)
    if not match:
        raise UserError(
            f"{name!r} is not the full name of a key.",
            "Write it as projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY.",
        )
    return match.groupdict()


def _state(body):
    """Return the state of the version that encrypts; the others only decrypt."""
    state = (body.get("primary") or {}).get("state") or "without a primary version"
    return state, state != "ENABLED"


KINDS = {
    "crypto_key": Kind(
        KEY,
        names=_names,
        state=_state,
        shared=True,
        policy=f"//cloudkms.googleapis.com/{_PATH}",
        governed=f"//cloudkms.googleapis.com/{_PATH}",
        readers=("roles/cloudkms.cryptoKeyEncrypterDecrypter", "roles/cloudkms.cryptoOperator", "roles/owner"),
        above=(f"//cloudkms.googleapis.com/{_RING}",),
        granted="cloudkms.cryptoKeys.setIamPolicy",
    ),
}
