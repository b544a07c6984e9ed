# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Google's data plane: database, bucket, secrets, image and migration, as the building blocks take them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils import _project_id
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment import keys, network, references, server
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.context import Context

IMAGE_READER = "roles/artifactregistry.reader"
SECRET_READER = "roles/secretmanager.secretAccessor"
_VIEWER = "roles/storage.objectViewer"
_MIGRATION_SECONDS = 1200
_PASSWORD_LENGTH, _LOGIN_PASSWORD_LENGTH, _KEY_LENGTH = 32, 24, 48
_IMAGE_AGE = "2592000s"
Binding = dict[str, Any]


@dataclass(frozen=True)
class Bucket:
    """The bucket of artifacts.

    uri            where MLflow keeps artifacts, with the folder
    bindings       roles on the bucket while the deployment exists
    kept_bindings  roles on the bucket after the deployment was removed and the bucket kept
    own_bindings   roles that only the deployment's accounts have, to be removed from a bucket that others created
    """

    name: str
    uri: str
    location: str
    storage_class: str
    public_access_prevention: str
    versioning: bool
    soft_delete_seconds: int
    lifecycle_rules: list[Any]
    cors: list[Any]
    kms_key: str
    adopt: bool
    managed: bool
    bindings: list[Binding]
    kept_bindings: list[Binding]
    own_bindings: list[Binding]


@dataclass(frozen=True)
class Database:
    """The Cloud SQL instance, MLflow's database and its user in it."""

    engine: str
    version: str
    region: str
    instance: str
    connection: str
    name: str
    user: str
    edition: str
    tier: str
    availability_type: str
    disk_type: str
    disk_size_gb: int
    disk_autoresize: bool
    disk_autoresize_limit_gb: int
    activation_policy: str
    flags: dict[str, Any]
    backup_enabled: bool
    backup_start_time: str
    backup_location: str
    backup_retained: int
    point_in_time_recovery: bool
    maintenance_window: dict[str, Any]
    ipv4_enabled: bool
    authorized_networks: list[Any]
    private_network: str
    allocated_ip_range: str
    private_path: bool | None
    psc_projects: list[str]
    ssl_mode: str
    kms_key: str
    deletion_protection: bool
    final_backup: bool
    adopt: bool
    managed: bool
    keep_passwords: bool
    databases: list[dict[str, Any]]
    users: list[dict[str, Any]]
    clients: list[str]
    clients_condition: bool


@dataclass(frozen=True)
class Secrets:
    """The secrets of a deployment.

    entries  as the role ``secrets`` takes them
    readers  bindings of a secret that the server reads
    referenced  full resource names of the project's secrets that variables refer to and that the server reads
    """

    entries: list[dict[str, Any]]
    readers: list[Binding]
    referenced: list[str]
    locations: list[str]
    kms_keys: list[str]
    adopt: bool
    managed: bool


@dataclass(frozen=True)
class Image:
    """The image of the server, and what builds it.

    reference             the image with the tag that is built, or the user's own image
    writers               bindings of the repository that let the build push
    read_by               roles that let the platform pull, as (resource, bindings): where the image is
    own_bindings          roles of the deployment's accounts on its repository and on that of a custom image in the
                          project, as (resource, bindings), to be removed with the accounts
    build_bucket_managed  whether the bucket of sources may be changed; objects of others must not expire
    """

    builds: bool
    reference: str
    name: str
    tag: str
    location: str
    repository: str
    repository_resource: str
    description: str
    cleanup_policies: list[dict[str, Any]]
    build_account: str
    build_account_title: str
    build_bucket: str
    build_bucket_managed: bool
    writers: list[Binding]
    read_by: list[dict[str, Any]]
    own_bindings: list[dict[str, Any]]
    engine: str
    context: str
    dockerfile: str
    build_args: dict[str, Any]
    machine_type: str
    timeout: int
    kms_key: str
    adopt: bool
    managed: bool


@dataclass(frozen=True)
class Migration:
    """The job that brings the schema of the database up to date."""

    job: str
    env: dict[str, str]
    secret_env: dict[str, str]
    cpu: str
    memory: str
    timeout: int
    kms_key: str
    adopt: bool
    vpc_access: dict[str, Any] | None


def folder_condition(bucket: str, folder: str) -> dict[str, str]:
    """Return the IAM condition that narrows a role on a bucket to one folder.

    Listing is a permission of the bucket, so it is narrowed by the prefix that a request lists
    (https://cloud.google.com/storage/docs/access-control/iam#conditions).
    """
    return {
        "title": f"folder {folder}",
        "expression": (
            f"resource.name.startsWith('projects/_/buckets/{bucket}/objects/{folder}/')"
            f" || api.getAttribute('storage.googleapis.com/objectListPrefix', '').startsWith('{folder}/')"
        ),
    }


def bucket(context: Context, more_bindings: list[Binding] | None = None) -> Bucket:
    """Return the bucket of artifacts; ``more_bindings`` are what a target adds."""
    names, direct = context.names, context["mlflow_artifacts"] != "proxied"
    by_server, client = names.member(names.server_account), names.member(names.client_account)
    readers, writer = list(context["mlflow_bucket_readers"]), context["mlflow_bucket_writer_role"]
    folder = str(context["mlflow_bucket_folder"]).strip("/")
    # With artifacts proxied the server writes for its clients, otherwise it only shows them.
    bindings = [
        {"role": _VIEWER, "members": readers + ([by_server] if direct else [])},
        {"role": writer, "members": [client if direct else by_server]},
        *(more_bindings or []),
    ]
    own = [{"role": _VIEWER, "members": [by_server, client]}, {"role": writer, "members": [by_server, client]}]
    if folder and context.uses("bucket"):
        condition = folder_condition(names.bucket, folder)
        bindings, own = ([dict(item, condition=condition) for item in items] for items in (bindings, own))
    return Bucket(
        name=names.bucket,
        uri=f"gs://{names.bucket}" + (f"/{folder}" if folder else ""),
        location=context.bucket_location,
        storage_class=context["bucket_storage_class"],
        public_access_prevention=context["bucket_public_access_prevention"],
        versioning=context["bucket_versioning"],
        soft_delete_seconds=context["bucket_soft_delete_seconds"],
        lifecycle_rules=context["bucket_lifecycle_rules"],
        cors=context["bucket_cors"],
        kms_key=keys.key_of(context, "bucket_kms_key"),
        adopt=context.adopts("bucket") or context.uses("bucket"),
        managed=not context.uses("bucket"),
        bindings=bindings,
        kept_bindings=[{"role": _VIEWER, "members": readers}, {"role": writer, "members": []}],
        own_bindings=own,
    )


def _or(value: Any, default: Any) -> Any:
    """Return a value, or a default where a variable is not set."""
    return default if value is None or value in ("", {}, []) else value


def database(context: Context, more_clients: list[str] | None = None) -> Database:
    """Return the Cloud SQL instance and what is in it; ``more_clients`` are members that a target adds."""
    names, mysql = context.names, context.mysql
    adopted = context.adopted("database", "sql_instance", names.instance)
    recovery = _or(context["cloudsql_point_in_time_recovery"], context.production or mysql)
    # MLflow's schema has triggers. With binary logs MySQL only accepts them from administrators, which Cloud SQL has
    # none of, unless this flag is on (error 1419; https://cloud.google.com/sql/docs/mysql/flags).
    triggers = {"log_bin_trust_function_creators": "on"} if mysql and recovery and not adopted else {}
    # MLflow keeps any text, and the default of MySQL 5.7 has characters of three bytes at most. A database that others
    # created stays as it is.
    new = context.existing.resource("sql_database", f"{names.instance}/{names.database}") is None
    charset = {"charset": "utf8mb4"} if mysql and (new or not adopted) else {}
    # A user of MySQL belongs to a host, and the connections of Google come from no known host.
    host = {"host": "%"} if mysql else {}
    window = {"day": 7, "hour": 3, "update_track": "stable"} if mysql else {}
    password_secret = names.secret(names.password_secret)
    return Database(
        engine=context.engine,
        version=context.database_version,
        region=context.database_region,
        instance=names.instance,
        connection=names.connection,
        name=names.database,
        user=names.user,
        edition=context["cloudsql_edition"],
        tier=_or(context["cloudsql_tier"], context["mlflow_database_tier"]),
        availability_type=context["cloudsql_availability_type"],
        disk_type=context["cloudsql_disk_type"],
        disk_size_gb=context["cloudsql_disk_size_gb"],
        disk_autoresize=context["cloudsql_disk_autoresize"],
        disk_autoresize_limit_gb=context["cloudsql_disk_autoresize_limit_gb"],
        activation_policy=context["cloudsql_activation_policy"] or "",
        flags=triggers | dict(context["cloudsql_flags"]),
        backup_enabled=context["cloudsql_backup_enabled"],
        backup_start_time=context["cloudsql_backup_start_time"],
        backup_location=context.backup_location,
        backup_retained=context["cloudsql_backup_retained"],
        point_in_time_recovery=recovery,
        maintenance_window=_or(context["cloudsql_maintenance_window"], window),
        ipv4_enabled=context["cloudsql_ipv4_enabled"],
        authorized_networks=[*context["mlflow_database_authorized_networks"], *context["cloudsql_authorized_networks"]],
        private_network=network.private_network(context),
        allocated_ip_range=context["cloudsql_allocated_ip_range"],
        private_path=context["cloudsql_private_path"],
        psc_projects=context["cloudsql_psc_projects"],
        ssl_mode=context["cloudsql_ssl_mode"] or "",
        kms_key=keys.key_of(context, "cloudsql_kms_key"),
        deletion_protection=_or(context["cloudsql_deletion_protection"], context.production),
        final_backup=_or(context["cloudsql_final_backup"], context.production),
        adopt=context.adopts("database"),
        managed=not context.uses("database"),
        keep_passwords=_or(context["cloudsql_keep_passwords"], adopted and not context.uses("database")),
        databases=_or(context["cloudsql_databases"], [{"name": names.database, **charset}]),
        users=_or(context["cloudsql_users"], [{"name": names.user, **host, "password_secret": password_secret}]),
        clients=[names.member(names.server_account), *(more_clients or [])],
        clients_condition=context["cloudsql_clients_condition"],
    )


def _database_uri(context: Context) -> str:
    names = context.names
    driver, socket = ("mysql+pymysql", "unix_socket") if context.mysql else ("postgresql+psycopg2", "host")
    return f"{driver}://{names.user}:{{password:url}}@/{names.database}?{socket}=/cloudsql/{names.connection}"


def secrets(context: Context, artifact_uri: str) -> Secrets:
    """Return the secrets. Payloads are generated or filled in by the module; none is in here."""
    names = context.names
    by_server = [{"role": SECRET_READER, "members": [names.member(names.server_account)]}]
    of_database = [
        {"name": names.username_secret, "template": names.user},
        {"name": names.password_secret, "generate": {"length": _PASSWORD_LENGTH}, "bindings": by_server},
        {
            "name": names.url_secret,
            "template": _database_uri(context),
            "template_secrets": {"password": names.secret(names.password_secret)},
        },
        {"name": names.artifact_url_secret, "template": artifact_uri},
    ]
    # One secret may serve both logins, as in deployments that were made by hand.
    same = names.login_username_secret == names.username_secret
    of_login = [
        {
            "name": names.login_username_secret,
            "template": names.user if same else "admin",
            "bindings": by_server,
        },
        {"name": names.login_password_secret, "generate": {"length": _LOGIN_PASSWORD_LENGTH}, "bindings": by_server},
        {"name": names.login_key_secret, "generate": {"length": _KEY_LENGTH}, "bindings": by_server},
    ]
    made: dict[str, Any] = {
        server.GATEWAY_KEY: {"length": _KEY_LENGTH},
        # A key of Fernet: 32 bytes in URL-safe Base64.
        server.WEBHOOK_KEY: {"length": 32, "encoding": "base64url"},
    }
    of_encryption = [
        {"name": secret_id, "generate": made[variable], "bindings": by_server}
        for variable, secret_id in server.encryption_keys(context).items()
    ]
    entries = of_database + (of_login if context.login else []) + of_encryption
    return Secrets(
        entries=entries,
        readers=by_server,
        referenced=[
            f"//secretmanager.googleapis.com/{names.secret(secret_id)}"
            for secret_id in references.read_secrets(context)
        ],
        locations=context.secret_locations(entry["name"] for entry in entries),
        kms_keys=keys.secret_keys(context),
        adopt=context.adopts("secrets"),
        managed=not context.uses("secrets"),
    )


def _readers(context: Context, own: str, pullers: list[str]) -> list[dict[str, Any]]:
    """Return the roles that let the platform pull the image, by the repository that the image is in.

    In the repository of a custom image only those get a role that have none yet.
    """
    resource = own if context.builds else references.repository(context)
    if not context.builds:
        found = [context.existing.resource(kind, context["mlflow_image"]) for kind in ("image_tag", "docker_image")]
        pullers = [member for item in found if item for member in item.get("unread") or []]
    return [{"resource": resource, "bindings": [{"role": IMAGE_READER, "members": pullers}]}] if pullers else []


def image(context: Context, content_tag: str, default_context: str, pullers: list[str]) -> Image:
    """Return the image of the server.

    :param pullers: members besides Cloud Run's service agent that pull it.
    :param content_tag: hash of what the image is built from.
    :param default_context: folder of the build context that comes with the collection.
    """
    names = context.names
    location = context.image_location
    tag = context["mlflow_image_tag"] or f"{context['mlflow_version']}-{content_tag}"
    registry = f"{location}-docker.pkg.dev/{_project_id.in_image(names.project)}/{names.repository}"
    resource = (
        f"//artifactregistry.googleapis.com/projects/{names.project}/locations/{location}"
        f"/repositories/{names.repository}"
    )
    readers: list[Binding] = [{"role": IMAGE_READER, "members": pullers}] if pullers else []
    custom, project = references.repository(context), resource.partition("/locations/")[0]
    writers: list[Binding] = [{"role": "roles/artifactregistry.writer", "members": [names.member(names.build_account)]}]
    title = f"{context['mlflow_name']} ({context['mlflow_env']})"
    adopted = context.adopted("image_repository", "artifact_repository", names.repository)
    return Image(
        builds=context.builds,
        name=context["mlflow_image_name"],
        tag=tag,
        reference=context.custom_image or f"{registry}/{context['mlflow_image_name']}:{tag}",
        location=location,
        repository=names.repository,
        repository_resource=resource,
        description=f"Images of the MLflow deployment {title}",
        # A repository of another owner may have other images with their own cleanup policies.
        cleanup_policies=[]
        if adopted
        else [
            {
                "id": "keep-recent",
                "action": "KEEP",
                "most_recent_versions": {"keep_count": context["mlflow_image_keep_versions"]},
            },
            {"id": "delete-old", "action": "DELETE", "condition": {"older_than": _IMAGE_AGE}},
        ],
        build_account=names.build_account,
        build_account_title=f"Builds the MLflow image of {title}",
        build_bucket=names.build_bucket,
        build_bucket_managed=not context.existing.foreign("storage_bucket", names.build_bucket),
        writers=writers,
        read_by=_readers(context, resource, pullers),
        own_bindings=[{"resource": resource, "bindings": [*writers, *readers]}]
        + ([{"resource": custom, "bindings": readers}] if readers and custom.startswith(project) else []),
        engine=context["mlflow_image_engine"],
        context=context["mlflow_image_context"] or default_context,
        dockerfile=context["mlflow_image_dockerfile"],
        build_args=build_args(context.values),
        machine_type=context["mlflow_image_machine_type"],
        timeout=context["mlflow_image_timeout"],
        kms_key=keys.key_of(context, "mlflow_image_kms_key"),
        adopt=context.adopts("image_repository"),
        managed=not context.uses("image_repository"),
    )


def build_args(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the build arguments of the image."""
    return dict(_or(values["mlflow_image_build_args"], {"MLFLOW_VERSION": values["mlflow_version"]}))


def migration(context: Context) -> Migration:
    """Return the migration job."""
    return Migration(
        job=context.names.migration_job,
        env=server.database_env(context),
        secret_env=server.secret_env(context, own=False),
        cpu=context["mlflow_migration_cpu"],
        memory=context["mlflow_migration_memory"],
        timeout=_MIGRATION_SECONDS,
        kms_key=keys.key_of(context, "mlflow_migration_kms_key"),
        adopt=context["mlflow_adopt"],
        vpc_access=network.vpc_access(context),
    )
