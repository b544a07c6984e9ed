# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Input of every part of the model: variables, names, existing resources, and the decisions that follow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment import names as _names
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.existing import (
    ADOPTED,
    MANAGED,
    USED,
    Existing,
    Made,
)
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.names import Names
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules.places import multi_region


@dataclass(frozen=True)
class NewResources:
    """What a target creates where no variable says otherwise. Existing resources do not change.

    database_version   of a new Cloud SQL instance
    bucket_location    of a new bucket
    """

    database_version: str
    bucket_location: str


@dataclass(frozen=True)
class Context:
    """The input of the model.

    values  every variable of the collection, normalized (see ``values.read``)
    deploys whether the run creates what does not exist
    """

    values: Mapping[str, Any]
    names: Names
    existing: Existing
    made: Made
    new: NewResources
    deploys: bool = True

    def __getitem__(self, variable: str) -> Any:
        return self.values[variable]

    # Decisions that follow from one or two variables

    @property
    def project(self) -> str:
        return self.names.project

    @property
    def region(self) -> str:
        return self.names.region

    @property
    def database_region(self) -> str:
        return self["cloudsql_region"] or self.region

    @property
    def image_location(self) -> str:
        return self["mlflow_image_location"] or self.region

    @property
    def number(self) -> str:
        return self.existing.number

    @property
    def production(self) -> bool:
        given = self["mlflow_production"]
        return self["mlflow_env"] == "prod" if given is None else bool(given)

    @property
    def iap(self) -> bool:
        return self["mlflow_access"] == "iap"

    @property
    def login(self) -> bool:
        return self["mlflow_access"] == "password"

    @cached_property
    def encryption_keys(self) -> bool:
        """Whether MLflow encrypts with keys of the deployment.

        What an older release has encrypted with MLflow's default passphrase stays readable: a deployment with a
        database, and without the key, gets none by itself.
        """
        given = self["mlflow_encryption_keys"]
        if given is not None:
            return bool(given)
        if self.existing.resource("secret", self.names.gateway_key_secret):
            return True
        return self.deploys and not self.uses("secrets") and not self.has_database

    @property
    def has_database(self) -> bool:
        """Whether MLflow's database exists, or may exist in an instance that does not answer."""
        if self.existing.resource("sql_database", f"{self.names.instance}/{self.names.database}"):
            return True
        state = self.found_instance.get("state") or "RUNNABLE"
        stopped = self.found_instance.get("activation_policy") == "NEVER"
        return stopped or state not in ("RUNNABLE", "PENDING_CREATE")

    @property
    def builds(self) -> bool:
        """Whether the image is built, and not one of the user's own."""
        return not self["mlflow_image"]

    @cached_property
    def custom_image(self) -> str:
        """Return the user's own image, with the digest that its tag stands for now where it is known."""
        given = str(self["mlflow_image"])
        digest = (self.existing.resource("image_tag", given) or {}).get("digest")
        return f"{given.rpartition(':')[0]}@{digest}" if digest else given

    @property
    def custom_client(self) -> bool:
        """Whether Identity-Aware Proxy uses an OAuth client of the user's own."""
        return bool(self["mlflow_oauth_client_id_secret"])

    @cached_property
    def owner(self) -> dict[str, str]:
        return _names.owner(self.values)

    @cached_property
    def labels(self) -> dict[str, str]:
        return self["mlflow_labels"] | self.owner

    # Ownership

    def relation(self, part: str) -> str:
        """Return how a part of the deployment relates to a resource that exists: managed, adopted or used."""
        default = ADOPTED if self["mlflow_adopt"] else MANAGED
        return self["mlflow_ownership"].get(part) or default

    def adopts(self, part: str) -> bool:
        return self.relation(part) == ADOPTED

    def uses(self, part: str) -> bool:
        return self.relation(part) == USED

    def adopted(self, part: str, kind: str, name: str) -> bool:
        """Whether a resource exists and stays what it is: it has another owner, or is only used."""
        foreign = self.existing.foreign(kind, name)
        return foreign if self.adopts(part) else self.uses(part) and self.existing.resource(kind, name) is not None

    # The database and the bucket keep what they are when a deployment changes its target.

    @cached_property
    def found_instance(self) -> Mapping[str, Any]:
        return self.existing.resource("sql_instance", self.names.instance) or {}

    @cached_property
    def database_version(self) -> str:
        return self["mlflow_database_version"] or self.found_instance.get("version") or self.new.database_version

    @cached_property
    def bucket_location(self) -> str:
        found = self.existing.resource("storage_bucket", self.names.bucket) or {}
        return (
            self["bucket_location"]
            or self["mlflow_bucket_location"]
            or found.get("location")
            or self.new.bucket_location
        )

    @property
    def mysql(self) -> bool:
        return self.database_version.startswith("MYSQL_")

    @property
    def engine(self) -> str:
        return "mysql" if self.mysql else "postgresql"

    @property
    def backup_location(self) -> str:
        """Where a new instance keeps its backups; "" leaves it to Google, which takes the nearest multi-region."""
        given = self["cloudsql_backup_location"]
        return given or ("" if self.found_instance or multi_region(self.database_region) else self.database_region)

    def secret_locations(self, secret_ids: Iterable[str]) -> list[str]:
        """Return where the payloads of new secrets are kept: where those of the existing ones are, or in the region.

        Empty stands for automatic replication, which keeps them in any country, and for secrets of several kinds.
        """
        if given := self["secrets_replication_locations"]:
            return list(given)
        found = [self.existing.resource("secret", secret_id) for secret_id in secret_ids]
        places = [list(secret.get("locations") or ()) for secret in found if secret]
        return places[0] if len({*map(tuple, places)}) == 1 else [] if places else [self.region]
