# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where resources can be.

Regions are those that Google's discovery documents list in November 2026 (run.v2, endpoints).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules.kinds import Fault, Rule, nearest

_AREAS = {
    "africa-south": (1,),
    "asia-east": (1, 2),
    "asia-northeast": (1, 2, 3),
    "asia-south": (1, 2),
    "asia-southeast": (1, 2, 3, 4),
    "australia-southeast": (1, 2),
    "europe-central": (2,),
    "europe-north": (1, 2),
    "europe-southwest": (1,),
    "europe-west": (1, 2, 3, 4, 6, 8, 9, 10, 12, 15),
    "me-central": (1, 2),
    "me-west": (1,),
    "northamerica-northeast": (1, 2),
    "northamerica-south": (1,),
    "southamerica-east": (1,),
    "southamerica-west": (1,),
    "us-central": (1, 2),
    "us-east": (1, 4, 5, 7),
    "us-south": (1,),
    "us-west": (1, 2, 3, 4, 8),
}
REGIONS = tuple(f"{area}{number}" for area, numbers in _AREAS.items() for number in numbers)

# https://cloud.google.com/storage/docs/locations
MULTI_REGIONS = ("ASIA", "EU", "US")
_AROUND = {"asia-": "ASIA", "europe-": "EU", "us-": "US"}
DUAL_REGIONS = ("ASIA1", "EUR4", "EUR5", "EUR7", "EUR8", "NAM4")

# https://cloud.google.com/appengine/docs/flexible/regions. Two have a name of their own, older than the regions'.
APP_ENGINE_OLD = {"europe-west1": "europe-west", "us-central1": "us-central"}
APP_ENGINE = (
    "asia-east1",
    "asia-east2",
    "asia-northeast1",
    "asia-northeast2",
    "asia-northeast3",
    "asia-south1",
    "asia-southeast1",
    "asia-southeast2",
    "australia-southeast1",
    "europe-central2",
    "europe-west",
    "europe-west2",
    "europe-west3",
    "europe-west6",
    "northamerica-northeast1",
    "southamerica-east1",
    "us-central",
    "us-east1",
    "us-east4",
    "us-west1",
    "us-west2",
    "us-west3",
    "us-west4",
)


def multi_region(region: str) -> str:
    """Return the multi-region around a region; "" for a region with none, such as those of Australia and Canada."""
    return next((name for area, name in _AROUND.items() if region.startswith(area)), "")


def region(value: Any) -> Fault | None:
    """Regions have lower-case names, and no zone."""
    if value in REGIONS:
        return None
    like = nearest(value, REGIONS)
    if not value:
        return "and resources need a region", "Set it, for example to europe-west1."
    if value.lower() in REGIONS:
        return "and names of regions are lower-case", f"Set it to {value.lower()}."
    if value[:-2] in REGIONS and value[-2] == "-":
        return "which is a zone and not a region", f"Set it to {value[:-2]}."
    hint = f"Did you mean {like}? " if like else ""
    return "which is not a region of Google Cloud", f"{hint}Set it to one of `gcloud run regions list`."


def bucket_location(value: Any) -> Fault | None:
    """Buckets are in a region, a dual-region or a multi-region, in any case of letters."""
    known = (*(name.upper() for name in REGIONS), *DUAL_REGIONS, *MULTI_REGIONS)
    if value.upper() in known:
        return None
    like = nearest(value, known)
    hint = f"Did you mean {like.lower() if like.lower() in REGIONS else like}? " if like else ""
    return (
        "which is not a location of Cloud Storage",
        f"{hint}Set it to a region such as europe-west1, to {', '.join(MULTI_REGIONS)}, or to a dual-region: "
        f"{', '.join(DUAL_REGIONS)}.",
    )


def backup_location(value: Any) -> Fault | None:
    """A region or a multi-region: https://cloud.google.com/sql/docs/postgres/backup-recovery/backups."""
    known = (*REGIONS, *map(str.lower, MULTI_REGIONS))
    if value in known:
        return None
    like = nearest(value, known)
    hint = f"Did you mean {like}? " if like else ""
    return "which is not a location of backups", f"{hint}Set it to a region such as europe-west1, or to asia, eu or us."


def appengine_location(value: Any) -> Fault | None:
    """App Engine is in fewer regions than others, and has its own names for two."""
    if value in APP_ENGINE or value in APP_ENGINE_OLD:
        return None
    like = nearest(value, (*APP_ENGINE, *APP_ENGINE_OLD))
    hint = f"Did you mean {like}? " if like else ""
    return (
        "and App Engine flexible is not in that location",
        f"{hint}Set appengine_mlflow_location to one of {', '.join(APP_ENGINE)}.",
    )


def kms_key(value: Any) -> Fault | None:
    """The full name of a key, not of one of its versions."""
    if re.fullmatch(_KEY, value):
        return None
    if re.fullmatch(_KEY + r"/cryptoKeyVersions/\d+", value):
        return "which is a version of a key", "Remove /cryptoKeyVersions and the number after it."
    return (
        "which is not the full name of a key",
        "Write it as projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY (gcloud kms keys list).",
    )


_KEY = r"projects/[^/]+/locations/[a-z0-9-]+/keyRings/[\w-]{1,63}/cryptoKeys/[\w-]{1,63}"
RULES: Mapping[str, Rule] = {
    "region": region,
    "bucket_location": bucket_location,
    "appengine_location": appengine_location,
    "backup_location": backup_location,
    "kms_key": kms_key,
}
