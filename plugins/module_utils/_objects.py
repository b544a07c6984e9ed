# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Create objects in Cloud Storage. An upload has another address than its API, and its body is not JSON."""

from __future__ import annotations

STORAGE = "https://storage.googleapis.com"


def create_object(send, bucket, name, data, content_type):
    """Upload an object that does not exist yet, and return what ``send`` returns, a method of the client.

    Errors: :class:`Conflict` if an object of the name exists.
    """
    return send(
        "POST",
        f"{STORAGE}/upload/storage/v1/b/{bucket}/o",
        query={"uploadType": "media", "name": name, "ifGenerationMatch": "0"},
        data=data,
        headers={"Content-Type": content_type},
        safe=True,
        permission="storage.objects.create",
    )
