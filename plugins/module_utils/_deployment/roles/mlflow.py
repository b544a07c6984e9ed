# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role mlflow: what every target reads."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.roles import _shared
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.spec import EntryPoint, RoleSpec, Variable

RELATIONS = ("managed", "adopted", "used")
OWNED = ("database", "bucket", "secrets", "server_account", "client_account", "image_repository")

# Choices of which only the first works yet: rules.deployment refuses the others by name.
DATABASES = ("cloudsql", "in_cluster", "external")
MIGRATIONS = ("cloud_run_job", "kubernetes_job")
SECRETS = ("secret_manager", "kubernetes", "external_secrets")
ARTIFACT_STORES = ("gcs", "s3")


def _secret(name: str, suffix: str, holds: str) -> Variable:
    return Variable(name, "str", (f"Secret that holds {holds}. Empty is C(NAME-ENV-{suffix}).",), default="",
                    no_log=False, rule="secret_id")  # fmt: skip


_TARGET = (
    Variable(
        "mlflow_target",
        "str",
        (
            "Where MLflow runs, V(cloudrun) or V(appengine). A deployment can change it and keeps its database and its"
            " bucket.",
        ),
        default="cloudrun",
    ),
    Variable(
        "mlflow_name",
        "str",
        (
            "Name of the deployment. Lower-case letters, digits and hyphens, beginning with a letter. The default"
            " is the host's name in the inventory.",
            "It becomes part of every name, and the value of the label C(mlflow-deployment).",
        ),
        default="{{ inventory_hostname }}",
        rule="name",
    ),
    Variable(
        "mlflow_env",
        "str",
        (
            "The environment, for example V(dev), V(staging) or V(prod). Lower-case letters, digits and hyphens. It"
            " becomes part of every name, and the value of the label C(mlflow-env).",
        ),
        default="dev",
        rule="environment",
    ),
    Variable(
        "mlflow_production",
        "bool",
        (
            "Whether the database has point-in-time recovery, deletion protection and a final backup where no variable"
            " of C(cloudsql) says otherwise. The default is true for O(mlflow_env=prod).",
        ),
    ),
    Variable(
        "mlflow_kms_key",
        "str",
        (
            "Key of Cloud KMS that encrypts the database, the bucket, the secrets, the images, the migration and the"
            " service. Empty leaves the keys to Google.",
            "It has the form C(projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY).",
            "A part in another location than the key needs a key of its own: C(cloudsql_kms_key), C(bucket_kms_key),"
            " C(secrets_kms_keys), C(mlflow_image_kms_key), C(mlflow_migration_kms_key), C(cloudrun_mlflow_kms_key).",
            "Service agents of the project are granted the use of the keys. App Engine has no such keys.",
        ),
        default="",
        rule="kms_key",
    ),
    Variable(
        "mlflow_labels",
        "dict",
        (
            "Further labels of everything that carries labels. Keys and values have lower-case letters of any alphabet,"
            " digits, - and _.",
        ),
        default={},
        elements="str",
        rule="labels",
    ),
    Variable(
        "mlflow_strict_variables",
        "bool",
        (
            "Whether a variable that begins with the name of a role of this collection, and that no role knows, is an"
            " error. Otherwise it is a warning.",
        ),
        default=False,
    ),
    Variable(
        "mlflow_adopt",
        "bool",
        (
            "Whether to adopt resources that exist under the names of this deployment and do not carry its labels."
            " Without it they are an error.",
            "They keep their labels, descriptions, secret values and the rights of others, and C(destroy.yml) keeps"
            " them. Their settings become what the variables say.",
        ),
        default=False,
    ),
    Variable(
        "mlflow_ownership",
        "dict",
        (
            "The relation of the deployment to single resources, where it differs from O(mlflow_adopt).",
            "V(managed) is created and deleted by the deployment. V(adopted) exists and is changed. V(used) exists and"
            " is only read.",
        ),
        default={},
        options=tuple(
            Variable(name, "str", (f"The relation to the {name.replace('_', ' ')}.",), choices=RELATIONS)
            for name in OWNED
        ),
    ),
    Variable(
        "mlflow_retire_other_targets",
        "bool",
        (
            "Whether the playbook C(deploy) removes the server that this deployment had on another target, once the new"
            " one runs. Both use the same database and bucket.",
        ),
        default=True,
    ),
    Variable(
        "mlflow_keep_versions",
        "int",
        (
            "How many older versions of the server to keep, stopped, for a roll-back. Cloud Run keeps revisions by"
            " itself.",
        ),
        default=1,
        minimum=0,
        maximum=100,
        targets=("appengine",),
    ),
)

_ACCESS = (
    Variable(
        "mlflow_access",
        "str",
        (
            "How access is controlled. V(iap) is Identity-Aware Proxy, which signs browsers in with Google.",
            "V(iam) accepts requests with an identity token and the invoker role, and no browsers.",
            "V(password) is open to the internet behind MLflow's own login.",
        ),
        default="iap",
        choices=("iap", "iam", "password"),
    ),
    Variable(
        "mlflow_access_members",
        "list",
        (
            "The members that have access with V(iap) and V(iam), for example V(user:ada@example.com),"
            " V(group:ml@example.com) or V(domain:example.com).",
            "The next run revokes the access of a member that is removed from the list.",
        ),
        default=[],
        elements="str",
        rule="member",
    ),
    Variable(
        "mlflow_access_password_accepted",
        "bool",
        ("Must be true for O(mlflow_access=password), where a password alone protects the data.",),
        default=False,
    ),
    Variable(
        "mlflow_check_server",
        "bool",
        (
            "Whether a deployment ends by asking the server at its address. Set it to false where the machine that runs"
            " the playbook cannot reach it.",
        ),
        default=True,
    ),
    Variable(
        "mlflow_impersonators",
        "list",
        (
            "The members that can impersonate the client service account, which writes artifacts and has access to the"
            " server.",
            "V(deployer) stands for the account that runs the playbook, which the verification needs. Where several"
            " accounts deploy in turn, list them or their group instead; otherwise each run revokes the right of the"
            " last.",
        ),
        default=["deployer"],
        elements="str",
        rule="impersonator",
        replaces=("service_accounts_impersonators",),
    ),
    Variable(
        "mlflow_oauth_client_id_secret",
        "str",
        (
            "Secret with the id of a custom OAuth client for O(mlflow_access=iap), C(projects/P/secrets/S).",
            "It is required where the project is in no organization, and for users outside of it.",
        ),
        default="",
        no_log=False,
        rule="secret",
    ),
    Variable(
        "mlflow_oauth_client_secret_secret",
        "str",
        ("Secret with the secret of that client.",),
        default="",
        no_log=False,
        rule="secret",
    ),
)

_SERVER = (
    Variable(
        "mlflow_version",
        "str",
        (
            "Version of MLflow in the image that is built, V(3.14.0) or newer. The newest that was tried is V(3.17.2);"
            " newer ones are a warning.",
            "Write it in quotes: V(3.20) without quotes is V(3.2) in YAML.",
        ),
        default="3.17.2",
        rule="version",
    ),
    Variable(
        "mlflow_image",
        "str",
        (
            "A custom image, with its tag or digest. No image is built then.",
            "It must read the environment variables that the entrypoint of the role C(mlflow_image) documents.",
            "Preflight checks that it exists if it is in Artifact Registry (C(REGION-docker.pkg.dev)). Images of other"
            " registries, and those of remote and virtual repositories that were not pulled before, cannot be checked.",
            "A tag of Artifact Registry is used by the digest that it stands for: a tag that moved is migrated and"
            " deployed, and the plan shows both digests. A tag of another registry is used as it is.",
            "Cloud Run takes images of Artifact Registry and Docker Hub.",
            "C(service-NUMBER@serverless-robot-prod.iam.gserviceaccount.com), the service agent of Cloud Run, gets"
            " C(roles/artifactregistry.reader) on the repository of an image in another project. On C(appengine) the"
            " server's account gets it, in any project.",
        ),
        default="",
        rule="image",
    ),
    Variable(
        "mlflow_cpu",
        "str",
        ("CPUs of an instance of the server.",),
        default="1",
        rule="cpu",
        replaces=("cloudrun_mlflow_cpu", "appengine_mlflow_cpu"),
    ),
    Variable(
        "mlflow_memory",
        "str",
        (
            "Memory of an instance of the server, for example V(2Gi). A server that passes artifacts on needs at"
            " least 2 GiB.",
            "On C(appengine) it is 0.9 to 6.5 GiB a CPU, less 0.4 GiB that App Engine needs.",
        ),
        default="2Gi",
        rule="memory",
        replaces=("cloudrun_mlflow_memory", "appengine_mlflow_memory_gb"),
    ),
    Variable(
        "mlflow_workers",
        "int",
        ("Worker processes of an instance. One a CPU is enough; each opens its own connections to the database.",),
        default=1,
        minimum=1,
        maximum=1000,
        replaces=("cloudrun_mlflow_workers", "appengine_mlflow_workers"),
    ),
    Variable(
        "mlflow_min_instances",
        "int",
        (
            "How many instances always run. The default is 0 on C(cloudrun), where the first request then waits for one"
            " to start, and 1 on C(appengine), which is the least there.",
        ),
        minimum=0,
        maximum=1000,
        replaces=("cloudrun_mlflow_min_instances", "appengine_mlflow_min_instances"),
    ),
    Variable(
        "mlflow_max_instances",
        "int",
        (
            "How many instances run at most. The database must accept the connections of all of them. The default is 10"
            " on C(cloudrun) and 4 on C(appengine).",
        ),
        minimum=1,
        maximum=1000,
        replaces=("cloudrun_mlflow_max_instances", "appengine_mlflow_max_instances"),
    ),
    Variable(
        "mlflow_pool_size",
        "int",
        ("Connections that each pool keeps. With V(0) as many as the database accepts from all instances, at most 5.",),
        default=0,
        minimum=0,
        maximum=10000,
        replaces=("cloudrun_mlflow_pool_size", "appengine_mlflow_pool_size"),
    ),
    Variable(
        "mlflow_pool_overflow",
        "int",
        ("Connections that each pool opens beyond these when all are in use.",),
        default=0,
        minimum=0,
        maximum=10000,
        replaces=("cloudrun_mlflow_pool_overflow", "appengine_mlflow_pool_overflow"),
    ),
    Variable(
        "mlflow_allowed_hosts",
        "list",
        ("Further host names of the server, such as that of a domain mapping.",),
        default=[],
        elements="str",
        rule="host",
        replaces=("cloudrun_mlflow_allowed_hosts", "appengine_mlflow_allowed_hosts"),
    ),
    Variable(
        "mlflow_server_env",
        "dict",
        (
            "Further environment variables of the server. They are shown to every principal that can view the service,"
            " so they must not hold secrets.",
            "With C(MLFLOW_STATIC_PREFIX), such as V(/mlflow), everything is below that path: probes, verification and"
            " addresses follow it. Variables that a deployment cannot work with are an error.",
        ),
        default={},
        elements="str",
        rule="server_env",
        replaces=("cloudrun_mlflow_env", "appengine_mlflow_env"),
    ),
    Variable(
        "mlflow_server_secret_env",
        "dict",
        (
            "Further environment variables of the server with values in Secret Manager: the secret of each, as"
            " C(projects/P/secrets/S), with or without C(/versions/V), or C(S) alone for one of this project.",
            "Each must exist, and the version must be enabled. The deployment grants the server's account access to"
            " secrets of its own project. You grant it access to secrets of other projects.",
            "App Engine mounts no secrets: on C(appengine) the server gets C(NAME_SECRET_NAME) with the name of the"
            " version. The image that is built reads it when the server starts; a custom image has to do so itself.",
        ),
        default={},
        elements="str",
        no_log=False,
        rule="server_secret_env",
    ),
)

_NETWORK = (
    Variable(
        "mlflow_network",
        "str",
        (
            "VPC network of the server and of the migration: the name of a network of the project, or"
            " C(projects/HOST_PROJECT/global/networks/NAME) of a Shared VPC.",
            "On Cloud Run it is Direct VPC egress. On C(appengine) it is also the network of the instances, which is"
            " otherwise the network C(default).",
            "Empty is C(cloudsql_private_network) for a database without a public address, and otherwise leaves it as"
            " it is.",
        ),
        default="",
        rule="vpc_network",
    ),
    Variable(
        "mlflow_subnetwork",
        "str",
        (
            "Subnetwork in C(gcp_region): its name, or C(projects/HOST_PROJECT/regions/REGION/subnetworks/NAME). Empty"
            " is the one with the name of the network, which a network in auto mode has.",
        ),
        default="",
        rule="vpc_subnetwork",
    ),
    Variable(
        "mlflow_network_egress",
        "str",
        (
            "What Cloud Run sends through the network. V(ALL_TRAFFIC) needs Private Google Access on the subnetwork."
            " Unset leaves it as it is, and is V(PRIVATE_RANGES_ONLY) for a new service.",
        ),
        choices=("PRIVATE_RANGES_ONLY", "ALL_TRAFFIC"),
    ),
)

_ARTIFACTS = (
    Variable(
        "mlflow_artifact_store",
        "str",
        ("Where artifacts are stored. Only V(gcs) works yet.",),
        default="gcs",
        choices=ARTIFACT_STORES,
    ),
    Variable(
        "mlflow_artifacts",
        "str",
        (
            "With V(direct) clients write artifacts to the bucket themselves, without a limit of size.",
            "With V(proxied) artifacts pass through the server. Cloud Run and App Engine refuse requests of more than"
            " 32 MiB, so larger files cannot be logged.",
        ),
        default="direct",
        choices=("direct", "proxied"),
    ),
    Variable(
        "mlflow_bucket",
        "str",
        ("Name of the bucket for artifacts, unique in all of Google Cloud. Empty is C(PROJECT-NAME-ENV-artifacts).",),
        default="",
        rule="bucket",
    ),
    Variable(
        "mlflow_bucket_folder",
        "str",
        (
            "Folder of the artifacts in the bucket, for example V(mlflow/demo). Empty is the whole bucket.",
            "In a bucket that is only used, for example by several deployments, the roles of the deployment are limited"
            " to the folder.",
            "Runs that exist keep the folder that they were made with.",
        ),
        default="",
        rule="folder",
    ),
    Variable(
        "mlflow_bucket_location",
        "str",
        (
            "A region, a dual-region or a multi-region. It cannot be changed later.",
            "Empty is where the bucket is. A new one is in C(gcp_region) for O(mlflow_target=cloudrun). For"
            " O(mlflow_target=appengine) it is in the multi-region around it, V(EU), V(US) or V(ASIA), or in"
            " C(gcp_region) where there is none.",
        ),
        default="",
        rule="bucket_location",
    ),
    Variable(
        "mlflow_bucket_readers",
        "list",
        ("The members that can read the artifacts in the bucket, for example V(user:ada@example.com).",),
        default=[],
        elements="str",
        rule="member",
    ),
    Variable(
        "mlflow_bucket_writer_role",
        "str",
        (
            "The role on the bucket of the account that writes artifacts, which is the clients', or with V(proxied) the"
            " server's.",
            "With V(roles/storage.objectCreator) it can neither overwrite nor delete, nor read unless it is among the"
            " readers.",
        ),
        default="roles/storage.objectUser",
        rule="role",
    ),
)

_DATABASE = (
    Variable(
        "mlflow_database",
        "str",
        ("Where the database runs. Only V(cloudsql) works yet.",),
        default="cloudsql",
        choices=DATABASES,
    ),
    Variable(
        "mlflow_database_version",
        "str",
        (
            "Version of the database in Cloud SQL's format, for example V(POSTGRES_16) or V(MYSQL_8_0).",
            "Empty is that of the existing instance. A new one is PostgreSQL 16 for O(mlflow_target=cloudrun) and MySQL"
            " 8.0 for O(mlflow_target=appengine).",
        ),
        default="",
        rule="database_version",
    ),
    Variable(
        "mlflow_database_tier", "str", ("Machine type of the database.",), default="db-custom-1-3840", rule="tier"
    ),
    Variable(
        "mlflow_database_authorized_networks",
        "list",
        ("Networks that can reach the database's public address, such as a VPN. MLflow itself needs none.",),
        default=[],
        elements="dict",
        options=_shared.NETWORK,
    ),
    Variable(
        "mlflow_database_instance",
        "str",
        ("Name of the Cloud SQL instance. Empty is C(NAME-ENV).",),
        default="",
        rule="instance",
    ),
    Variable(
        "mlflow_database_name",
        "str",
        (
            "Name of the database in the instance. Empty is C(mlflow), and C(mlflow_NAME_ENV) in an instance that is"
            " only used.",
        ),
        default="",
        rule="database_name",
    ),
    Variable(
        "mlflow_database_user",
        "str",
        (
            "The database user of the server. Empty is C(mlflow), and C(mlflow_NAME_ENV) in an instance that is only"
            " used.",
        ),
        default="",
        rule="database_user",
    ),
    Variable(
        "mlflow_migration",
        "str",
        ("What runs the migration of the database's schema. Only V(cloud_run_job) works yet.",),
        default="cloud_run_job",
        choices=MIGRATIONS,
    ),
    Variable(
        "mlflow_migration_job",
        "str",
        (
            "Name of the Cloud Run job that migrates the database's schema, on every target. Empty is"
            " C(NAME-ENV-migrate).",
        ),
        default="",
        rule="run_job",
    ),
    Variable(
        "mlflow_migration_kms_key",
        "str",
        ("Key of Cloud KMS for that job instead of C(mlflow_kms_key), in C(gcp_region).",),
        default="",
        rule="kms_key",
    ),
    Variable("mlflow_migration_cpu", "str", ("CPUs of that job.",), default="1", rule="run_cpu"),
    Variable("mlflow_migration_memory", "str", ("Memory of that job.",), default="2Gi", rule="memory"),
)

_ACCOUNTS = (
    Variable(
        "mlflow_server_account",
        "str",
        ("Id of the service account that the server runs as. Empty is C(NAME-ENV-server).",),
        default="",
        rule="account",
    ),
    Variable(
        "mlflow_client_account",
        "str",
        ("Id of the service account for programs that log runs and write artifacts. Empty is C(NAME-ENV-client).",),
        default="",
        rule="account",
    ),
)

_SECRETS = (
    Variable(
        "mlflow_secrets",
        "str",
        ("Where passwords are stored. Only V(secret_manager) works yet.",),
        default="secret_manager",
        choices=SECRETS,
    ),
    _secret("mlflow_database_username_secret", "db-username", "the database user's name"),
    _secret("mlflow_database_password_secret", "db-password", "the database user's generated password"),
    _secret(
        "mlflow_database_url_secret",
        "database-url",
        "the address of the database with name and password, for jobs of your own",
    ),
    _secret("mlflow_artifact_url_secret", "artifact-url", "the address of the bucket"),
    _secret(
        "mlflow_login_username_secret",
        "tracking-username",
        "the name of MLflow's administrator, with O(mlflow_access=password)",
    ),
    _secret(
        "mlflow_login_password_secret",
        "tracking-password",
        "the administrator's generated password, with O(mlflow_access=password)",
    ),
    _secret("mlflow_login_key_secret", "session-key", "the key that signs forms, with O(mlflow_access=password)"),
    Variable(
        "mlflow_encryption_keys",
        "bool",
        (
            "Whether MLflow encrypts the API keys of its gateway and the secrets of webhooks with generated keys."
            " Otherwise it uses a passphrase that is the same in all installations, and keys that a restart loses.",
            "The default is true for a new deployment, and for one that has the keys. A deployment of an older release"
            " changes only when this is set to true; docs/server.md describes how.",
        ),
    ),
    _secret(
        "mlflow_gateway_key_secret",
        "gateway-key",
        "the passphrase that protects the API keys of MLflow's gateway, with O(mlflow_encryption_keys=true)",
    ),
    Variable(
        "mlflow_gateway_key_version",
        "int",
        ("Number of that passphrase in the database. C(mlflow crypto rotate-kek) raises it by 1.",),
        default=1,
        minimum=1,
        maximum=1000000,
    ),
    _secret(
        "mlflow_webhook_key_secret",
        "webhook-key",
        "the key that encrypts the secrets of webhooks, with O(mlflow_encryption_keys=true)",
    ),
)

_DESTROY = (
    Variable(
        "mlflow_destroy_data",
        "bool",
        ("Whether C(destroy.yml) removes the database, the artifacts and their secrets as well.",),
        default=False,
    ),
    Variable(
        "mlflow_destroy_confirm",
        "str",
        ("Must be the deployment's name for O(mlflow_destroy_data=true).",),
        default="",
    ),
)

_LOCK = (
    Variable(
        "mlflow_lock",
        "bool",
        (
            "Whether one run at a time changes the deployment. The lock is an object in its bucket; it needs"
            " C(storage.objects.create), C(storage.objects.get) and C(storage.objects.update) there.",
        ),
        default=True,
    ),
    Variable(
        "mlflow_lock_timeout",
        "int",
        ("How many seconds a run waits while another one changes the deployment. With V(0) it fails at once.",),
        default=600,
        minimum=0,
        maximum=86400,
    ),
    Variable(
        "mlflow_lock_break",
        "bool",
        (
            "Whether to take the lock from a run that has it. Set it on the command line, and only if that run has"
            " ended.",
        ),
        default=False,
    ),
)

ROLE = RoleSpec(
    name="mlflow",
    short_description="The variables of a deployment",
    description=(
        "The variables that mean the same on every target. The role has no tasks of its own; its entry points are what"
        " all targets share.",
    ),
    registers=("mlflow_hostname", "mlflow_status"),
    text=True,
    variables=(
        _TARGET + _ACCESS + _SERVER + _NETWORK + _ARTIFACTS + _DATABASE + _ACCOUNTS + _SECRETS + _DESTROY + _LOCK
    ),
    main=False,
    entry_points=(
        EntryPoint(
            "prepare",
            "Compute the deployment and enable its APIs",
            (
                "Registers C(deployment), everything that follows from the variables and from what exists. Fails with a"
                " list of all problems before anything is changed.",
            ),
        ),
        EntryPoint(
            "resolve",
            "Compute the server",
            ("For targets. Registers C(deployment) again, once the image and the versions of the secrets are known.",),
        ),
        EntryPoint("read", "Compute a deployment that is only read", ("Registers C(deployment).",)),
        EntryPoint(
            "removal",
            "Compute what a removal does",
            ("Registers C(deployment). Fails if data are to be removed without a confirmation.",),
        ),
        EntryPoint("verify", "Verify the server", ("For targets. Runs the role C(mlflow_verify) on the deployment.",)),
        EntryPoint(
            "report",
            "Print the address of the server and the principals with access",
            ("Prints C(deployment.report).",),
        ),
    ),
)
