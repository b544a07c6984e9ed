# SPDX-License-Identifier: Apache-2.0
"""Test that values which Google's services reject are reported with the variable and fitting advice."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import googleapiclient
import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment import model, validation, values
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules import (
    cloudrun,
    cloudsql,
    flags,
    places,
    server,
)
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.variables import ROLES, all_variables
from ansible_collections.mlplatform.gcp.tests.unit.plugins.module_utils.deployment import _deployments as d
from ansible_collections.mlplatform.gcp.tests.unit.plugins.module_utils.deployment._values import (
    GOOD,
    judged,
    text,
)

DOCUMENTS = pathlib.Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
APP = {"mlflow_target": "appengine"}
# More than Python converts to a number.
DIGITS = "9" * 5000
NETWORKS = [{"name": "office", "value": "203.0.113.0/24"}]


def document(name):
    return json.loads((DOCUMENTS / f"{name}.json").read_text())


# --- variable, bad value, words of the message, further variables -----------------------------------------------------

BAD = [
    # Cloud Run
    ("mlflow_cpu", "0", ("number of CPUs",)),
    ("mlflow_cpu", "many", ('"many"', "number of CPUs")),
    ("mlflow_cpu", "-1", ("number of CPUs",)),
    ("mlflow_cpu", "3", ("1, 2, 4, 6 or 8", "Set it to 4")),
    ("mlflow_cpu", "64", ("1, 2, 4, 6 or 8", "Set it to 8")),
    ("mlflow_cpu", "0.5", ("less than one CPU", "cloudrun_mlflow_concurrency"), {"mlflow_memory": "1Gi"}),
    ("mlflow_cpu", "0.01", ("a fraction from 0.08",)),
    ("mlflow_memory", "lots", ("amount of memory", "2Gi")),
    ("mlflow_memory", "4GB", ("amount of memory", "for example 4Gi")),
    ("mlflow_memory", "4", ("mlflow_memory",)),
    ("mlflow_memory", "0Gi", ("amount of memory",)),
    ("mlflow_memory", "16Gi", ("128Mi to 4Gi", "or mlflow_cpu to 4")),
    ("mlflow_memory", "400Gi", ("128Mi to 4Gi",)),
    ("mlflow_memory", "256Mi", ("too little", "2Gi")),
    ("mlflow_min_instances", -1, ("-1", "less than the minimum of 0")),
    ("mlflow_max_instances", 0, ("less than the minimum of 1",)),
    ("mlflow_max_instances", 100000, ("more than the maximum of 1000",)),
    ("mlflow_min_instances", 9, ("more than the 3 of mlflow_max_instances",), {"mlflow_max_instances": 3}),
    ("cloudrun_mlflow_concurrency", 5000, ("5000", "more than the maximum of 1000")),
    ("cloudrun_mlflow_concurrency", 0, ("less than the minimum of 1",)),
    ("cloudrun_mlflow_timeout", 99999, ("99999", "3600")),
    ("cloudrun_mlflow_invoker_iam_disabled", True, ("mlflow_access is iap", "mlflow_access=password")),
    ("cloudrun_mlflow_invoker_iam_disabled", True, ("mlflow_access is iam",), {"mlflow_access": "iam"}),
    # VPC networks
    *(
        (name, value, ("which is not a VPC network", "projects/HOST_PROJECT/global/networks/NAME"))
        for name in ("cloudsql_private_network", "mlflow_network")
        for value in ("Default", "net_1", "global/networks/default", "projects/p/global/networks/default", "a" * 64,
                      "https://www.googleapis.com/compute/v1/projects/my-project/global/networks/default")
    ),
    *(
        ("mlflow_subnetwork", value, ("which is not a subnetwork", "regions/REGION/subnetworks/NAME"))
        for value in ("Sub", "10.0.0.0/24", "projects/my-project/subnetworks/a", "regions/europe-west1/subnetworks/a")
    ),
    ("mlflow_subnetwork", "a", ("no network is", "Set mlflow_network")),
    ("mlflow_subnetwork", "projects/other-project/regions/europe-west1/subnetworks/a",
     ("in the project other-project", "its network is in my-project"), {"mlflow_network": "default"}),
    ("mlflow_subnetwork", "projects/my-project/regions/europe-west4/subnetworks/a",
     ("in europe-west4", "run in europe-west1"), {"mlflow_network": "default"}),
    ("mlflow_network_egress", "ALL_TRAFFIC", ("no network is",)),
    ("mlflow_network_egress", "ALL", ("PRIVATE_RANGES_ONLY or ALL_TRAFFIC",), {"mlflow_network": "default"}),
    ("appengine_mlflow_instance_ip_mode", "PRIVATE", ("EXTERNAL or INTERNAL",), APP),
    ("cloudsql_allocated_ip_range", "range", ("gets no private address", "cloudsql_private_network")),
    ("cloudsql_allocated_ip_range", "10.0.0.0/16", ("allocated range",), {"cloudsql_private_network": "default"}),
    ("cloudsql_private_path", True, ("gets no private address",)),
    ("cloudsql_psc_projects", ["my-project"], ("gets no private address",)),
    ("cloudsql_psc_projects", ["12"], ("which is a project's number",), {"cloudsql_private_network": "default"}),
    ("cloudsql_ssl_mode", "REQUIRED", ("ENCRYPTED_ONLY",)),
    ("cloudsql_activation_policy", "NEVER", ("stops the database", "--activation-policy=NEVER")),
    ("cloudsql_activation_policy", "SOMETIMES", ("ALWAYS or NEVER",)),
    ("cloudrun_mlflow_ingress", "ALL", ("INGRESS_TRAFFIC_ALL",)),
    ("cloudrun_mlflow_cpu_idle", False, ("at least one CPU",), {
        "mlflow_cpu": "0.5", "mlflow_memory": "1Gi", "cloudrun_mlflow_concurrency": 1}),
    ("mlflow_migration_cpu", "3", ("1, 2, 4, 6 or 8",)),
    ("mlflow_migration_cpu", "none", ("number of CPUs",)),
    ("mlflow_migration_memory", "16Gi", ("128Mi to 4Gi", "or mlflow_migration_cpu to 4")),
    ("mlflow_migration_memory", "256Mi", ("at least 512Mi",)),
    ("mlflow_migration_memory", "2GiB", ("for example 2Gi",)),
    # Under the names of 0.2.0
    ("cloudrun_mlflow_cpu", "0", ("number of CPUs",)),
    ("cloudrun_mlflow_memory", "lots", ("amount of memory",)),
    ("cloudrun_mlflow_memory", "16Gi", ("Set cloudrun_mlflow_memory to 128Mi to 4Gi",)),
    ("cloudrun_mlflow_min_instances", -1, ("-1",)),
    ("cloudrun_mlflow_workers", 0, ("less than the minimum of 1",)),
    ("cloudrun_mlflow_pool_overflow", -5, ("-5",)),
    ("cloudrun_mlflow_env", {"PORT": "1"}, ("PORT",)),
    ("cloudrun_mlflow_command", ["gunicorn"], ("App Engine has neither a command", "ENTRYPOINT"), APP),
    ("cloudrun_mlflow_args", "-b", ("App Engine has neither a command", "mlflow_target=cloudrun"), APP),
    ("appengine_mlflow_memory_gb", 9, ("is 9, ", "0.5 to 6.1"), APP),
    ("appengine_mlflow_memory_gb", "lots", ('"lots"', "number"), APP),
    ("appengine_mlflow_min_instances", 0, ("at least 1 instance",), APP),
    # Cloud SQL
    ("mlflow_database_tier", "db-custom-3-1000", ("3 is not a number of CPUs", "db-custom-4-3840")),
    ("mlflow_database_tier", "db-custom-0-3840", ("0 is not", "db-custom-1-3840")),
    ("mlflow_database_tier", "db-custom-98-400000", ("98", "db-custom-96-")),
    ("mlflow_database_tier", "db-custom-2-1000", ("at least 3840 MiB", "db-custom-2-3840")),
    ("mlflow_database_tier", "db-custom-1-7680", ("0.9 to 6.5 GiB", "3840 to 6656 MiB", "db-custom-1-6656")),
    ("mlflow_database_tier", "db-custom-2-3900", ("multiple of 256", "db-custom-2-4096")),
    ("mlflow_database_tier", "db-f1-mikro", ("Did you mean db-f1-micro?",)),
    ("mlflow_database_tier", "n1-standard-1", ("machine type", "db-n1-standard-1")),
    ("mlflow_database_tier", "", ("machine type",)),
    ("mlflow_database_tier", "db-perf-optimized-N-2", ("ENTERPRISE_PLUS", "db-custom-2-7680")),
    ("mlflow_database_tier", "db-custom-2-7680", ("does not exist", "-N-2"), {"cloudsql_edition": "ENTERPRISE_PLUS"}),
    (
        "mlflow_database_tier",
        "db-n1-standard-1",
        ("MySQL only", "db-custom-2-7680"),
        {"mlflow_database_version": "POSTGRES_16"},
    ),
    ("cloudsql_tier", "db-custom-3-1000", ("3 is not a number of CPUs",)),
    ("mlflow_database_version", "POSTGRES_99", ('"POSTGRES_99"', "POSTGRES_16 or MYSQL_8_0")),
    ("mlflow_database_version", "postgres-16", ("Did you mean POSTGRES_16?",)),
    ("mlflow_database_version", "PostgreSQL 16", ("Did you mean POSTGRES_16?",)),
    ("mlflow_database_version", "16", ("PostgreSQL or MySQL",)),
    ("mlflow_database_version", "SQLSERVER_2022_WEB", ("PostgreSQL and MySQL",)),
    ("cloudsql_database_version", "MYSQL_3", ("MYSQL_8_0",)),
    ("cloudsql_edition", "BASIC", ('"BASIC"', "ENTERPRISE or ENTERPRISE_PLUS")),
    ("cloudsql_edition", "ENTERPRISE_PLUS", ("POSTGRES_11",), {
        "mlflow_database_version": "POSTGRES_11", "mlflow_database_tier": "db-perf-optimized-N-2"}),
    ("cloudsql_availability_type", "GLOBAL", ("ZONAL or REGIONAL",)),
    ("cloudsql_availability_type", "REGIONAL", ("binary log",), {
        "mlflow_database_version": "MYSQL_8_0", "cloudsql_point_in_time_recovery": False}),
    ("cloudsql_point_in_time_recovery", True, ("cloudsql_backup_enabled is false",), {
        "cloudsql_backup_enabled": False}),
    ("cloudsql_disk_type", "SSD", ("Did you mean PD_SSD?",)),
    ("cloudsql_disk_type", "HYPERDISK_BALANCED", ("db-c4a-highmem-2",)),
    ("cloudsql_disk_type", "PD_HDD", ("PD_SSD",), {
        "cloudsql_edition": "ENTERPRISE_PLUS", "mlflow_database_tier": "db-perf-optimized-N-2"}),
    ("cloudsql_disk_size_gb", 1, ("less than the minimum of 10",)),
    ("cloudsql_disk_size_gb", 100000, ("more than the maximum of 65536",)),
    ("cloudsql_disk_size_gb", 4000, ("3062",), {"mlflow_database_tier": "db-f1-micro"}),
    ("cloudsql_disk_autoresize_limit_gb", 20, ("less than the 50",), {"cloudsql_disk_size_gb": 50}),
    ("cloudsql_disk_autoresize_limit_gb", -1, ("-1",)),
    ("cloudsql_backup_retained", 0, ("less than the minimum of 1",)),
    ("cloudsql_backup_retained", 1000, ("365",)),
    ("cloudsql_backup_start_time", "25:00", ("time of day",)),
    ("cloudsql_backup_start_time", 750, ("in quotes",)),
    ("cloudsql_maintenance_window", {"day": 8}, ("cloudsql_maintenance_window.day", "7")),
    ("cloudsql_maintenance_window", {"hour": 24}, ("23",)),
    ("cloudsql_maintenance_window", {"update_track": "early"}, ("canary, stable or week5",)),
    ("cloudsql_maintenance_window", {"minute": 5}, ("minute", "day, hour, update_track")),
    ("cloudsql_flags", {"max-connections": 100}, ("max-connections", "without hyphens", "gcloud sql flags list")),
    ("cloudsql_flags", {"work_mem": 1}, ("MySQL", "work_mem"), {"mlflow_database_version": "MYSQL_8_0"}),
    ("cloudsql_flags", {"slow_query_log": "on"}, ("PostgreSQL",), {"mlflow_database_version": "POSTGRES_16"}),
    ("cloudsql_flags", {"max_connections": "many"}, ('"many"', "14 to 100000")),
    ("cloudsql_flags", {"max_connections": 5}, ('"5"', "14 to 262142"), {"mlflow_database_version": "POSTGRES_16"}),
    ("cloudsql_flags", {"max_connections": -1}, ('"-1"',)),
    ("mlflow_database_authorized_networks", [{"name": "x", "value": "300.1.2.3/8"}], ("300.1.2.3/8", "203.0.113.0/24")),
    ("mlflow_database_authorized_networks", [{"name": "x", "value": "2001:db8::/32"}], ("IPv4",)),
    ("mlflow_database_authorized_networks", [{"name": "x", "value": "0.0.0.0/0"}], ("whole internet", "VPN")),
    ("mlflow_database_authorized_networks", [{"name": "x", "value": "10.0.0.0/8"}], ("private",)),
    ("mlflow_database_authorized_networks", [{"value": "203.0.113.0/24"}], ("lacks the key name",)),
    ("mlflow_database_authorized_networks", ["203.0.113.0/24"], ("mapping",)),
    ("cloudsql_authorized_networks", [{"name": "x", "value": "1.2.3.4/33"}], ("1.2.3.4/33",)),
    ("cloudsql_users", [{"name": "u", "password_secret": "pw"}], ("projects/PROJECT/secrets/SECRET",)),
    ("cloudsql_clients", ["server@p.iam.gserviceaccount.com"], ("serviceAccount:server@",)),
    # Places
    ("gcp_region", "europe-west99", ("not a region", "Did you mean europe-west9?", "gcloud run regions list")),
    ("gcp_region", "europe-west1-b", ("is a zone", "Set it to europe-west1.")),
    ("gcp_region", "Europe-West1", ("lower-case", "europe-west1")),
    ("gcp_region", "", ("need a region", "Set it")),
    ("gcp_region", "mars", ("not a region",)),
    ("mlflow_bucket_location", "mars-west1", ("location of Cloud Storage", "EU")),
    ("mlflow_bucket_location", "europe-wst1", ("Did you mean europe-west1?",)),
    ("bucket_location", "EUR9", ("Did you mean EUR", "location")),
    ("secrets_replication_locations", ["mars"], ("secrets_replication_locations[0]", "not a region")),
    ("mlflow_image_location", "EU", ("not a region",)),
    ("mlflow_image_location", "europe", ("not a region",)),
    ("cloudsql_region", "europe", ("not a region",)),
    ("appengine_mlflow_location", "europe-west15", ("App Engine flexible is not in", "europe-west"), APP),
    ("appengine_mlflow_location", "moon", ("App Engine flexible is not in",), APP),
    # Cloud Storage
    ("bucket_storage_class", "COLD", ("Did you mean COLDLINE?",)),
    ("bucket_public_access_prevention", "off", ("enforced or inherited",)),
    ("bucket_soft_delete_seconds", 3600, ("7 to 90 days", "604800")),
    ("bucket_soft_delete_seconds", 10**9, ("7776000",)),
    ("bucket_soft_delete_seconds", -1, ("7 to 90 days",)),
    ("bucket_lifecycle_rules", [{"action": "Delete"}], ("action and a condition",)),
    ("bucket_lifecycle_rules", [{"action": {"type": "Remove"}, "condition": {"age": 1}}], ('"Remove"', "Delete")),
    ("bucket_lifecycle_rules", [{"action": {"type": "Delete"}, "condition": {}}], ("must not be empty",)),
    ("bucket_lifecycle_rules", [{"action": {"type": "Delete"}, "condition": {"agee": 1}}], ("Did you mean age?",)),
    ("bucket_lifecycle_rules", [{"action": {"type": "Delete"}, "condition": {"age": "x"}}], ("age", "0 or more")),
    ("bucket_lifecycle_rules", [{"action": {"type": "Delete"}, "condition": {"isLive": "x"}}], ("true or false",)),
    ("bucket_lifecycle_rules", [{"action": {"type": "Delete"}, "condition": {"createdBefore": 5}}], ("a date",)),
    ("bucket_lifecycle_rules", [{"action": {"type": "Delete"}, "condition": {"matchesPrefix": "x"}}], ("list of",)),
    ("bucket_lifecycle_rules", [{"action": {"type": "Delete", "when": 1}, "condition": {"age": 1}}], ('"when"',)),
    ("bucket_lifecycle_rules", [{"action": {"type": "SetStorageClass"}, "condition": {"age": 1}}], ("storageClass",)),
    ("bucket_lifecycle_rules", [{"action": {}, "condition": {}, "rule": 1}], ('"rule"',)),
    ("bucket_lifecycle_rules", ["Delete after 30 days"], ("mapping",)),
    ("bucket_cors", [{"origins": ["*"]}], ("Did you mean origin?",)),
    ("bucket_cors", [{"origin": "*"}], ("a list",)),
    ("bucket_cors", [{"maxAgeSeconds": "long"}], ("number of seconds",)),
    ("bucket_cors", [{"maxAgeSeconds": -1}], ("number of seconds",)),
    ("bucket_cors", [{}], ("must not be empty",)),
    # Image and server
    ("mlflow_version", "banana", ("not a version", "3.17.2")),
    ("mlflow_version", "", ("not a version",)),
    ("mlflow_version", "latest", ("not a version",)),
    ("mlflow_version", 3, ("Quote it",)),
    ("mlflow_version", 3.1, ("is 3.1, a number", "3.1 and 3.10 as the same number", "in quotes")),
    ("mlflow_version", 3.20, ("is 3.2, a number", "in quotes")),
    ("mlflow_version", "2.22.1", ("2.22.1", "the oldest MLflow that works", "Set it to 3.14.0 to 3.17.2")),
    ("mlflow_version", "3.13", ("3.13, and the oldest", "mlflow_image")),
    ("mlflow_image_build_args", {"MLFLOW_VERSION": "3.13.9"}, ("mlflow_image_build_args is 3.13.9, and the oldest",)),
    ("mlflow_image_build_args", {"PYTHON": 3.10}, ("mlflow_image_build_args.PYTHON is 3.1, a number",)),
    ("mlflow_image_tag", 1.10, ("is 1.1, a number", "in quotes")),
    ("mlflow_image", "europe-west1-docker.pkg.dev/p/r/i", ("neither a tag nor a digest",)),
    ("mlflow_image", "mlflow:1", ("lacks its registry",)),
    ("mlflow_image", "ghcr.io/MLflow/mlflow:1", ("lower-case",)),
    ("mlflow_image", "https://ghcr.io/mlflow:1", ("REGISTRY/NAME:TAG",)),
    ("mlflow_image", "ghcr.io/mlflow@sha256:abc", ("DIGEST",)),
    ("mlflow_image_engine", "kaniko", ("cloud_build, docker or podman",)),
    ("mlflow_image_tag", "my tag", ("tag of an image",)),
    ("mlflow_image_tag", "-x", ("tag of an image",)),
    ("mlflow_image_name", "MLflow", ("lower-case",)),
    ("mlflow_image_dockerfile", "../Dockerfile", ("inside the context",)),
    ("mlflow_image_dockerfile", "/Dockerfile", ("inside the context",)),
    ("mlflow_image_context", "a\0b", ("control character",)),
    ("mlflow_image_build_args", {"A B": "1"}, ('"A B"', "build argument")),
    ("mlflow_image_build_args", {"A": "1\n2"}, ("one line",)),
    ("mlflow_image_machine_type", "n1-standard-1", ("E2_HIGHCPU_8",)),
    ("mlflow_image_keep_versions", -1, ("less than the minimum of 1",)),
    ("mlflow_image_timeout", 0, ("less than the minimum of 1",)),
    ("mlflow_workers", 0, ("less than the minimum of 1",)),
    ("mlflow_workers", -3, ("less than the minimum of 1",)),
    ("mlflow_workers", 1000, ("mlflow_memory 2Gi", "room for 8", "Lower it")),
    ("mlflow_pool_size", -1, ("less than the minimum of 0",)),
    ("mlflow_pool_overflow", -1, ("less than the minimum of 0",)),
    ("mlflow_keep_versions", -1, ("less than the minimum of 0",), APP),
    ("mlflow_allowed_hosts", ["https://mlflow.example.com"], ("host name", "without https://")),
    ("mlflow_allowed_hosts", ["a..b"], ("host name",)),
    *(
        ("mlflow_server_env", {name: "1"}, (name, "platform", f"Remove {name}"))
        for name in ("PORT", "K_SERVICE", "GAE_VERSION", "X_GOOGLE_X", "CLOUD_RUN_JOB", "GOOGLE_CLOUD_PROJECT")
    ),
    ("mlflow_server_env", {"DB_PASSWORD": "x"}, ("DB_PASSWORD", "set mlflow_database_password_secret")),
    ("mlflow_server_env", {"DB_PASSWORD_SECRET_NAME": "x"}, ("DB_PASSWORD_SECRET_NAME",)),
    ("mlflow_server_env", {"MLFLOW_WORKERS": "2"}, ("set mlflow_workers",)),
    ("mlflow_server_env", {"MLFLOW_ALLOWED_HOSTS": "2"}, ("set mlflow_allowed_hosts",)),
    ("mlflow_server_env", {"MLFLOW_DEPLOYMENT": "2"}, ("MLFLOW_DEPLOYMENT",)),
    ("mlflow_server_env", {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "true"}, ("the deployment sets",)),
    ("mlflow_server_env", {"MLFLOW_PORT": "80"}, ("MLFLOW_PORT", "Remove")),
    ("mlflow_server_env", {"MLFLOW_DEFAULT_ARTIFACT_ROOT": "gs://b"}, ("set mlflow_bucket",)),
    ("mlflow_server_env", {"MLFLOW_AUTH_CONFIG_PATH": "/a.ini"}, ("set mlflow_access",)),
    ("mlflow_server_env", {"MLFLOW_ARTIFACTS_ONLY": "true"}, ("MLFLOW_ARTIFACTS_ONLY", "mlflow_artifacts to proxied")),
    ("mlflow_server_env", {"MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "true"}, ("mlflow_allowed_hosts",)),
    ("mlflow_server_env", {"MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool"}, ("mlflow_pool_size",)),
    ("mlflow_server_env", {"MLFLOW_WORKSPACE": "team"}, ("MLFLOW_WORKSPACE", "where clients run")),
    ("mlflow_server_env", {"GOOGLE_APPLICATION_CREDENTIALS": "/key.json"}, ("set mlflow_server_account",)),
    ("mlflow_server_env", {"GCE_METADATA_HOST": "127.0.0.1"}, ("set mlflow_server_account",)),
    ("mlflow_server_env", {"STORAGE_EMULATOR_HOST": "http://x"}, ("the bucket of the deployment",)),
    ("mlflow_server_env", {"_MLFLOW_STATIC_PREFIX": "/x"}, ("MLflow sets", "set MLFLOW_STATIC_PREFIX")),
    ("mlflow_server_env", {"_MLFLOW_SERVER_ARTIFACTS_ONLY": "true"}, ("MLflow sets",)),
    ("mlflow_server_secret_env", {"MLFLOW_AUTH_DATABASE_URI": "s"}, ("no other database",)),
    *(
        ("mlflow_server_env", {"MLFLOW_STATIC_PREFIX": value}, ("MLFLOW_STATIC_PREFIX has", "Begin it with /"))
        for value in ("mlflow", "/", "/mlflow/", "//mlflow", "/a b", "/<a>", "/{a}", "/a/../b", "/a?b", "/" + "a" * 200)
    ),
    ("mlflow_server_env", {"MLFLOW_STATIC_PREFIX": "/_ah"}, ("front end", "/mlflow")),
    ("mlflow_server_env", {"MLFLOW_STATIC_PREFIX": "/_ah/mlflow"}, ("front end",), APP),
    ("mlflow_server_secret_env", {"MLFLOW_STATIC_PREFIX": "s"}, ("read the value", "set it in mlflow_server_env")),
    ("mlflow_server_env", {"MLFLOW_AUTH_DEFAULT_PERMISSION": "WRITE"}, ("NO_PERMISSIONS",)),
    ("mlflow_server_env", {"DB_CONNECT_TIMEOUT": "30s"}, ("whole number",)),
    ("mlflow_server_env", {"MLFLOW_UVICORN_OPTS": "--port 80"}, ("Remove --port",)),
    ("mlflow_server_env", {"MLFLOW_UVICORN_OPTS": "--http h11 --ssl-keyfile=k"}, ("Remove --ssl-keyfile",)),
    ("mlflow_server_env", {"MLFLOW_UVICORN_OPTS": "--workers 2"}, ("set mlflow_workers",)),
    ("mlflow_server_env", {"MLFLOW_UVICORN_OPTS": "--log-level 'x"}, ("quotation mark",)),
    *(
        ("mlflow_server_env", {name: "1"}, (f"mlflow_server_env has {name}", words))
        for name, words in {
            "GUNICORN_CMD_ARGS": "MLFLOW_UVICORN_OPTS",
            "MLFLOW_GUNICORN_OPTS": "is uvicorn",
            "WEB_CONCURRENCY": "set mlflow_workers",
            "UVICORN_WORKERS": "set mlflow_workers",
            "UVICORN_PORT": "port of the platform",
            "UVICORN_UDS": "port of the platform",
            "UVICORN_SSL_CERTFILE": "without TLS",
            "UVICORN_FACTORY": "names its application",
            "UVICORN_RELOAD": "for development",
            "MLFLOW_EXPOSE_PROMETHEUS": "prometheus-flask-exporter",
            "prometheus_multiproc_dir": "prometheus-flask-exporter",
            "MLFLOW_TRACE_ARCHIVAL_CONFIG": "mlflow_image_context",
            "MLFLOW_MYSQL_SSL_CA": "mlflow_image_context",
        }.items()
    ),
    ("mlflow_server_secret_env", {"MLFLOW_MYSQL_SSL_KEY": "s"}, ("mlflow_server_secret_env has MLFLOW_MYSQL_SSL_KEY",)),
    ("cloudrun_mlflow_args", ["server", "--static-prefix=/x"], ("MLFLOW_STATIC_PREFIX in mlflow_server_env",)),
    ("cloudrun_mlflow_command", ["mlflow", "server", "--static-prefix", "/x"], ("MLFLOW_STATIC_PREFIX",)),
    ("mlflow_server_env", {"A-B": "1"}, ('"A-B"', "environment variable")),
    ("mlflow_server_env", {"1A": "1"}, ('"1A"',)),
    ("mlflow_server_env", {"A": "x" * 40000}, ("32768",)),
    ("mlflow_server_env", {"A": "x\0"}, ("NUL",)),
    ("mlflow_server_secret_env", {"TOKEN": "a secret"}, ('"a secret"', "projects/PROJECT/secrets/SECRET")),
    ("mlflow_server_secret_env", {"PORT": "s"}, ("PORT",)),
    ("mlflow_server_secret_env", {"TOKEN": "s"}, ("both set TOKEN",), {"mlflow_server_env": {"TOKEN": "1"}}),
    # App Engine
    ("mlflow_cpu", "3", ("even number", "App Engine"), APP),
    ("mlflow_cpu", "0.5", ("App Engine",), APP),
    ("mlflow_memory", "16Gi", ("0.5Gi to 6.1Gi",), APP),
    ("appengine_mlflow_disk_gb", 5, ("less than the minimum of 10",), APP),
    ("appengine_mlflow_disk_gb", 20000, ("10240",), APP),
    ("appengine_mlflow_target_cpu_utilization", 0, ("share of the CPU",), APP),
    ("appengine_mlflow_target_cpu_utilization", 75, ("at most 1",), APP),
    ("appengine_mlflow_readiness_check", {"timeout": 0}, ("timeout", "less than the minimum of 1"), APP),
    ("appengine_mlflow_readiness_check", {"path": "health"}, ("path",), APP),
    ("appengine_mlflow_readiness_check", {"app_start_timeout": 9999}, ("1800",), APP),
    ("appengine_mlflow_readiness_check", {"interval": 5}, ("interval", "check_interval"), APP),
    ("appengine_mlflow_liveness_check", {"failure_threshold": 11}, ("10",), APP),
    ("appengine_mlflow_liveness_check", {"initial_delay": -1}, ("initial_delay",), APP),
    ("appengine_mlflow_liveness_check", {"timeout": 9, "check_interval": 5}, ("longer than its check_interval",), APP),
    ("appengine_mlflow_service", "My_Service", ('"M"', "App Engine service"), APP),
    ("appengine_mlflow_version", "latest", ("reserves",), APP),
    ("appengine_mlflow_version", "1-2", ("version",), APP),
    ("appengine_mlflow_location", "", ("europe-north1", "App Engine flexible is not in"), {
        "mlflow_target": "appengine", "gcp_region": "europe-north1"}),
    # Names
    ("gcp_project", "", ("need a project", "GCP_PROJECT")),
    ("gcp_project", 123456789012, ("number", "gcloud projects list")),
    ("gcp_project", "My Project", ("not the id of a project",)),
    ("gcp_quota_project", "X", ("not the id of a project",)),
    ("mlflow_name", "", ("deployment",)),
    ("mlflow_name", "my_name", ('"_"', "letters, digits and hyphens")),
    ("mlflow_name", "9lives", ("beginning with a letter",)),
    ("mlflow_name", "long" * 20, ("80 characters", "at most 63")),
    ("mlflow_env", "Prod", ('"P"', "an environment")),
    ("mlflow_env", "eu_west", ('"_"', "an environment")),
    ("mlflow_env", "-eu", ("an environment",)),
    ("mlflow_production", "perhaps", ("true or false",)),
    ("mlflow_bucket", "My-Bucket", ("name of a bucket",)),
    ("mlflow_bucket", "ab", ("3 to 63",)),
    ("mlflow_bucket", "a" * 64, ("64 characters", "at most 63")),
    ("mlflow_bucket", "my-g00gle", ('"google"',)),
    ("mlflow_bucket", "example..com", ("name of a bucket",)),
    ("mlflow_bucket", "192.168.1.1", ("IP address",)),
    ("mlflow_bucket", ".".join(["a" * 60] * 4), ("243 characters", "222")),
    ("mlflow_bucket", "example.com.-x", ("name of a bucket",)),
    ("mlflow_bucket_folder", "/abs", ("folder",)),
    ("mlflow_bucket_folder", "a/../b", ("folder",)),
    ("mlflow_server_account", "a", ("too short", "6 to 30")),
    ("mlflow_server_account", "a" * 31, ("31 characters", "at most 30")),
    ("mlflow_server_account", "my_server", ('"_"',)),
    ("mlflow_client_account", "Client-x", ('"C"',)),
    ("mlflow_client_account", "same-account", ("mlflow_server_account as well",), {
        "mlflow_server_account": "same-account"}),
    ("mlflow_image_builder_account", "b@p", ('"@"',)),
    ("mlflow_image_source_bucket", "X", ("name of a bucket",)),
    ("mlflow_image_repository", "My_Repo", ('"M"',)),
    ("mlflow_migration_job", "j" * 50, ("50 characters", "at most 49")),
    ("cloudrun_mlflow_service", "s" * 50, ("at most 49",)),
    ("cloudrun_mlflow_service", "-s", ("Cloud Run service",)),
    ("mlflow_database_instance", "My-Instance", ('"M"',)),
    ("mlflow_database_instance", "i" * 95, ("98",)),
    ("mlflow_database_name", "a b", ("name of a database",)),
    ("mlflow_database_user", "u" * 33, ("at most 32",)),
    ("mlflow_database_password_secret", "projects/p/secrets/s", ("name of a secret", "without the project")),
    ("mlflow_database_username_secret", "a.b", ("name of a secret",)),
    ("mlflow_artifact_url_secret", "a b", ("name of a secret",)),
    ("mlflow_login_key_secret", "ä", ("name of a secret",)),
    ("mlflow_labels", {"Team": "ml"}, ('"Team"', "lower-case")),
    ("mlflow_labels", {"team": "ML"}, ('"ML"', "lower-case")),
    ("mlflow_labels", {"équipe": "Été"}, ("value of a label", "any alphabet")),
    ("mlflow_labels", {"Ω": "x"}, ("key of a label",)),
    ("mlflow_labels", {"1": "x"}, ("key of a label",)),
    ("mlflow_labels", {"team": "日" * 43}, ("value of a label",)),
    ("mlflow_labels", {"managed-by": "me"}, ("managed-by", "Remove")),
    ("mlflow_labels", {f"l{number}": "" for number in range(61)}, ("64",)),
    ("bucket_labels", {"mlflow-env": "x"}, ("mlflow-env",)),
    ("bucket_owner", {"A": "x"}, ('"A"',)),
    # Access
    ("mlflow_access", "everyone", ("iap, iam or password",)),
    ("mlflow_access", "iam", ("no invoker", "iap"), APP),
    ("mlflow_access", "password", ("mlflow_access_password_accepted=true",)),
    ("mlflow_access_members", ["alice@example.com"], ("lacks the kind", "user:alice@example.com")),
    ("mlflow_access_members", ["bot@p.iam.gserviceaccount.com"], ("serviceAccount:bot@",)),
    ("mlflow_access_members", ["allUsers"], ("every user", "mlflow_access=password")),
    ("mlflow_access_members", ["user:a@b.c", "user:"], ("mlflow_access_members[1]", "user:EMAIL")),
    ("mlflow_access_members", ["domain:"], ("domain:DOMAIN",)),
    ("mlflow_access_members", ["principal://x"], ("principal://",)),
    ("mlflow_access_members", "user:alice@example.com group:ml@example.com", ("user:EMAIL",)),
    ("mlflow_access_members", ["user:a@example.com"] * 1501, ("a list of 1501", "group")),
    ("mlflow_access_members", ["user:a@example.com"], ("login page",), {
        "mlflow_access": "password", "mlflow_access_password_accepted": True}),
    ("mlflow_version", "3.15.2", ("CVE-2026-2635", "3.16.1"), {
        "mlflow_access": "password", "mlflow_access_password_accepted": True}),
    ("mlflow_access", "password", ("MySQL", "POSTGRES_16"), {
        "mlflow_access_password_accepted": True, "mlflow_database_version": "MYSQL_8_0"}),
    ("mlflow_bucket_readers", ["allAuthenticatedUsers"], ("never public",)),
    ("mlflow_impersonators", ["deployers"], ("Or write deployer",)),
    ("mlflow_bucket_writer_role", "objectAdmin", ("roles/storage.objectViewer",)),
    ("mlflow_oauth_client_id_secret", "my-secret", ("projects/PROJECT/secrets/SECRET",), {
        "mlflow_oauth_client_secret_secret": "projects/p/secrets/s"}),
    ("mlflow_oauth_client_secret_secret", "", ("Only one of", "Set both"), {
        "mlflow_oauth_client_id_secret": "projects/p/secrets/s"}),
    ("mlflow_oauth_client_id_secret", "", ("Only one of",), {
        "mlflow_oauth_client_secret_secret": "projects/p/secrets/s"}),
    ("gcp_impersonate_service_account", "me", ("address of a service account",)),
    ("gcp_auth_kind", "key", ("serviceaccount",)),
    ("bucket_bindings", [{"role": "viewer", "members": []}], ("bucket_bindings[0].role",)),
    ("bucket_bindings", [{"role": "roles/viewer", "members": ["me"]}], ("bucket_bindings[0].members[0]",)),
    ("service_accounts_list", [{"account_id": "a"}], ("service_accounts_list[0].account_id",)),
    ("secrets_list", [{"name": "s"}], ("payload, payload_file, generate, template",)),
    ("secrets_list", [{"name": "s", "payload": "hunter2", "template": "b"}], ("a hidden value", "but one")),
    ("secrets_list", [{"name": "s", "generate": {"length": 1}}], ("less than the minimum of 8",)),
    ("secrets_list", [{"name": "s", "template": "{p}", "template_secrets": {"p": "x"}}], ("template_secrets.p",)),
    ("secrets_list", [{"name": "s", "payload": "x" * 70000}], ("a hidden value", "65536")),
    ("gcp_apis_services", ["run"], ("run.googleapis.com",)),
    ("preflight_permissions", ["run"], ("SERVICE.RESOURCE.VERB",)),
    ("mlflow_verify_url", "mlflow", ("https://HOST",)),
    ("mlflow_verify_experiment", "", ("required form",)),
    ("iap_brand_resource", "x", ("iap_web",)),
    # Choices that do not work yet, and resources of others
    ("mlflow_database", "in_cluster", ("in_cluster", "does not work yet", "cloudsql")),
    ("mlflow_database", "external", ("external", "does not work yet")),
    ("mlflow_database", "cloudspanner", ("cloudsql, in_cluster or external",)),
    ("mlflow_migration", "kubernetes_job", ("does not work yet",)),
    ("mlflow_secrets", "external_secrets", ("does not work yet",)),
    ("mlflow_secrets", "kubernetes", ("does not work yet",)),
    ("mlflow_artifact_store", "s3", ("s3", "does not work yet")),
    ("mlflow_ownership", {"database": "borrowed"}, ("mlflow_ownership.database", "managed, adopted or used")),
    ("mlflow_image_source_bucket", "one-bucket", ("mlflow_bucket as well",), {"mlflow_bucket": "one-bucket"}),
]  # fmt: skip


@pytest.mark.inputs
@pytest.mark.parametrize(("name", "value", "words", "more"), [(*case, {})[:4] for case in BAD])
def test_what_a_service_refuses_is_found(name, value, words, more):
    found = judged(more | {name: value})
    named = [problem for problem in found if problem.variable == name]
    assert named, text(found)
    message = text(named)
    assert name in message and "hunter2" not in message
    assert not [word for word in words if word not in message], message
    assert all(problem.next.endswith((".", "..")) for problem in named)


@pytest.mark.parametrize(
    ("name", "value", "words", "more"), [(*case, {})[:4] for case in BAD if case[0] != "gcp_region"]
)
def test_one_mistake_is_one_problem(name, value, words, more):
    # The acknowledgement, the MySQL login and the members are separate problems of mlflow_access=password.
    allowed = 2 if name.startswith("mlflow_access") and "password" in (value, more.get("mlflow_access")) else 1
    found = judged(more | {name: value})
    assert len(found) <= allowed, text(found)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        APP,
        {"gcp_project": "example.com:my-project"},
        {"mlflow_cpu": "0.5", "mlflow_memory": "512Mi", "cloudrun_mlflow_concurrency": 1},
        {"mlflow_cpu": "2000m", "mlflow_memory": "4G"},
        {"mlflow_cpu": "8", "mlflow_memory": "32Gi", "mlflow_workers": 8},
        APP | {"mlflow_cpu": "2", "mlflow_memory": "12.6Gi"},
        APP | {"appengine_mlflow_cpu": 1, "appengine_mlflow_memory_gb": 0.5},
        APP | {"appengine_mlflow_location": "us-central", "appengine_mlflow_service": "mlflow"},
        APP | {"mlflow_min_instances": 1, "mlflow_max_instances": 1, "appengine_mlflow_version": "v1"},
        APP | {"appengine_mlflow_readiness_check": {"path": "/health", "check_interval": 5, "timeout": 4}},
        {"mlflow_database_tier": "db-f1-micro", "cloudsql_disk_autoresize_limit_gb": 100},
        {"mlflow_database_tier": "db-custom-96-638976", "cloudsql_availability_type": "REGIONAL"},
        {"mlflow_database_tier": "db-perf-optimized-N-2", "cloudsql_edition": "ENTERPRISE_PLUS"},
        {
            "mlflow_database_tier": "db-c4a-highmem-2",
            "cloudsql_edition": "ENTERPRISE_PLUS",
            "cloudsql_disk_type": "HYPERDISK_BALANCED",
        },
        {"mlflow_database_version": "MYSQL_8_0_36", "mlflow_database_tier": "db-n1-standard-1"},
        {"mlflow_database_version": "POSTGRES_16", "cloudsql_flags": {"max_connections": 200, "pgaudit.log": "all"}},
        {"mlflow_database_version": "MYSQL_8_4", "cloudsql_flags": "max_connections=200\nslow_query_log=on"},
        {"mlflow_database_authorized_networks": NETWORKS, "cloudsql_backup_start_time": ""},
        {"mlflow_database_authorized_networks": [{"name": "host", "value": "203.0.113.7"}]},
        {"mlflow_bucket_location": "eu", "bucket_storage_class": "NEARLINE", "bucket_soft_delete_seconds": 0},
        {"mlflow_bucket_location": "EUROPE-WEST1", "mlflow_bucket_folder": "teams/a"},
        {
            "bucket_lifecycle_rules": [
                {"action": {"type": "Delete"}, "condition": {"age": 30, "isLive": False, "matchesPrefix": ["tmp/"]}},
                {
                    "action": {"type": "SetStorageClass", "storageClass": "COLDLINE"},
                    "condition": {"createdBefore": "2026-01-01", "sizeAboveBytes": "1000", "matchesPattern": "a.*"},
                },
            ],
            "bucket_cors": [{"origin": ["*"], "method": ["GET"], "maxAgeSeconds": 60}],
        },
        {"mlflow_image": "europe-west1-docker.pkg.dev/my-project/mlflow/server:3.17.2"},
        {"mlflow_version": "3.14"},
        {"mlflow_bucket": "artifacts.ml.example.com", "mlflow_image_source_bucket": "build.example.com"},
        {"mlflow_labels": {"équipe": "données-2", "部門": "機械学習", "команда": "", "ß": "ª"}},
        {"mlflow_env": "eu-2", "mlflow_production": "yes"},
        {"mlflow_version": "2.22.1", "mlflow_image": "ghcr.io/a/b:2"},
        {"mlflow_version": "2.22.1", "mlflow_image_context": "image"},
        {"mlflow_image": "localhost.test:5000/a/b@sha256:" + "a" * 64},
        {"mlflow_image_tag": "v1.2", "mlflow_image_build_args": {"PYTHON_IMAGE": "python:3.11"}},
        {"mlflow_version": "3.18.0rc1", "mlflow_image_engine": "podman", "mlflow_image_machine_type": "E2_HIGHCPU_8"},
        {"mlflow_server_env": {"MLFLOW_AUTH_DEFAULT_PERMISSION": "EDIT", "WORDS": "two\nlines"}},
        {"mlflow_server_env": {"MLFLOW_STATIC_PREFIX": "/ml/flow_3.17-a~b", "DB_CONNECT_TIMEOUT": "60"}},
        {"mlflow_server_env": {"MLFLOW_STATIC_PREFIX": "", "MLFLOW_AUTH_DEFAULT_PERMISSION": "no_permissions"}},
        {"mlflow_server_env": {"MLFLOW_UVICORN_OPTS": "--timeout-keep-alive 60", "UVICORN_LOG_LEVEL": "debug"}},
        {"mlflow_server_env": {"MLFLOW_ENABLE_WORKSPACES": "true", "MLFLOW_TRACKING_URI": "https://example.com"}},
        {"mlflow_server_env": {"GUNICORN_CMD_ARGS": "--timeout 60"}, "mlflow_image": "ghcr.io/a/b:2"},
        {"mlflow_server_env": {"MLFLOW_EXPOSE_PROMETHEUS": "/tmp/m"}, "mlflow_image_context": "image"},
        {"mlflow_server_secret_env": {"A": "s", "B": "projects/p/secrets/s", "C": "projects/p/secrets/s/versions/3"}},
        {"mlflow_allowed_hosts": ["mlflow.example.com", "mlflow.example.com:443", "*.example.com", "localhost:*"]},
        {
            "mlflow_access_members": "user:a@example.com\ngroup:g@example.com\ndomain:example.com\n"
            "serviceAccount:s@p.iam.gserviceaccount.com\n"
            "principalSet://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/*",
            "mlflow_impersonators": ["deployer", "user:a@example.com"],
        },
        {"mlflow_access": "password", "mlflow_access_password_accepted": "yes"},
        {"mlflow_access": "password", "mlflow_access_password_accepted": True, "mlflow_image": "ghcr.io/a/b:1"},
        {f"mlflow_oauth_client_{part}_secret": f"projects/p/secrets/{part}" for part in ("id", "secret")},
        {"mlflow_ownership": {"database": "used", "bucket": "adopted"}, "mlflow_labels": {"team": "ml", "empty": ""}},
        {"secrets_list": [{"name": "a", "generate": {"length": 32}}, {"name": "b", "payload": "x\ny"}]},
        {"bucket_bindings": [{"role": "roles/storage.objectViewer", "members": ["allUsers", "projectViewer:p"]}]},
        {"secrets_replication_locations": "europe-west1, europe-west4"},
        {"cloudsql_private_network": "default", "cloudsql_ipv4_enabled": False, "cloudsql_private_path": "yes"},
        {"mlflow_network": "projects/host-project/global/networks/shared", "mlflow_network_egress": "ALL_TRAFFIC",
         "mlflow_subnetwork": "projects/host-project/regions/europe-west1/subnetworks/ml"},
        {"mlflow_network": "projects/host-project/global/networks/shared", "mlflow_subnetwork": "ml"},
        {"cloudsql_ssl_mode": "ENCRYPTED_ONLY", "cloudsql_activation_policy": "ALWAYS"},
        APP | {"appengine_mlflow_instance_ip_mode": "INTERNAL", "mlflow_network": "ml"},
    ],
)  # fmt: skip
def test_what_works_is_let_through(variables):
    assert text(judged(variables)) == ""


@pytest.mark.parametrize("given", [{"mlflow_version": DIGITS}, {"mlflow_image_build_args": {"MLFLOW_VERSION": DIGITS}}])
def test_a_version_of_many_digits_is_no_exception(given):
    assert [problem.variable for problem in judged(given)] in ([], list(given))
    (warning,) = d.computed(**given, action="deploy").warnings
    assert "The newest MLflow" in warning and len(warning) < 1000


def test_the_newest_release_that_was_tried_is_the_default_and_that_of_the_image():
    dockerfile = (pathlib.Path(server.__file__).parents[4] / "roles/mlflow_image/files/Dockerfile").read_text()
    assert all_variables()["mlflow_version"].default == server.NEWEST
    assert f"ARG MLFLOW_VERSION={server.NEWEST}\n" in dockerfile


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, ""),
        ({"mlflow_version": "3.17.2.post1"}, ""),
        ({"mlflow_env": "production"}, "mlflow_env is production, and only prod"),
        ({"mlflow_env": "production", "mlflow_production": False}, ""),
        ({"mlflow_version": "3.18.0"}, "mlflow_version is 3.18.0. The newest"),
        ({"mlflow_version": "4.0"}, "mlflow_version is 4.0. The newest"),
        ({"mlflow_image_build_args": {"MLFLOW_VERSION": "4.1.0"}}, "mlflow_image_build_args is 4.1.0."),
        ({"mlflow_version": "4.0", "mlflow_image": "ghcr.io/a/b:4"}, ""),
        ({"mlflow_server_secret_env": {"MLFLOW_REGISTRY_STORE_URI": "s"}}, "mlflow_server_secret_env has MLFLOW_REG"),
    ],
)
def test_what_may_be_a_mistake_is_a_warning(variables, words):
    outcome = d.computed(**variables)
    assert outcome.problems == []
    assert outcome.warnings == [] if not words else outcome.warnings[0].startswith(words)


def test_advice_is_about_the_cause():
    wrong_character = text(judged({"mlflow_server_account": "my_server_account"}))
    assert '"_" cannot be part of' in wrong_character
    assert "short" not in wrong_character and "long" not in wrong_character
    too_many_workers = text(judged({"mlflow_workers": 1000}))
    assert "tier" not in too_many_workers and "max_connections" not in too_many_workers


def test_derived_names_are_checked_and_lead_to_the_name():
    found = judged(
        {"mlflow_name": "a-rather-long-name-for-it"}, {"mlflow_server_account": "a-rather-long-name-for-it-dev-server"}
    )
    assert [problem.variable for problem in found] == ["mlflow_server_account"]
    message = text(found)
    assert "36 characters" in message and "derived from mlflow_name" in message
    assert "Choose another mlflow_name, or set mlflow_server_account" in message


@pytest.mark.parametrize("action", model.ACTIONS)
@pytest.mark.parametrize("target", ["cloudrun", "appengine"])
@pytest.mark.parametrize("name", ["mlflow_cpu", "mlflow_memory"])
def test_an_empty_value_is_no_exception_where_the_project_is_wrong(name, target, action):
    outcome = d.computed({name: "", "gcp_project": "My Project"}, mlflow_target=target, action=action)
    assert "gcp_project" in d.variables_of(outcome)
    assert name in d.variables_of(outcome) or action == "destroy"


DERIVED = {
    "mlflow_bucket": "B",
    "mlflow_database_instance": "I_",
    "mlflow_migration_job": "j" * 50,
    "mlflow_client_account": "c",
    "mlflow_image_repository": "R",
    "mlflow_image_builder_account": "b" * 31,
    "mlflow_image_source_bucket": "b" * 64,
    "mlflow_database_username_secret": "a b",
    "mlflow_database_password_secret": "a/b",
    "mlflow_login_key_secret": "s" * 256,
    "cloudrun_mlflow_service": "s" * 50,
}


@pytest.mark.parametrize("name", DERIVED)
def test_every_derived_name_is_checked(name):
    assert [problem.variable for problem in judged({}, {name: DERIVED[name]})] == [name]


def test_defaults_satisfy_their_own_rules():
    for variable in all_variables().values():
        if variable.default not in (None, "") and not variable.templated:
            unmarked = dataclasses.replace(variable, default=None, targets=())
            assert list(validation._alone(unmarked, {variable.name: variable.default}, {}, "")) == []


def test_variables_of_another_target_are_not_read():
    assert judged({"appengine_mlflow_disk_gb": 1}) == []
    assert judged(APP | {"cloudrun_mlflow_concurrency": 0}) == []


def test_a_required_variable_of_a_building_block_may_be_empty_in_a_deployment():
    found, _problems, _deprecated = values.read(GOOD)
    assert found["cloudsql_instance"] is None
    assert validation.check(found, {}, "cloudrun") == []


# --- facts of the services, as their discovery documents have them ----------------------------------------------------


def test_regions_are_those_of_cloud_run():
    assert set(places.REGIONS) == {endpoint["location"] for endpoint in document("run.v2")["endpoints"]}


def test_versions_are_those_of_cloud_sql():
    enum = document("sqladmin.v1")["schemas"]["DatabaseInstance"]["properties"]["databaseVersion"]["enum"]
    retired = {"MYSQL_5_1", "MYSQL_5_5"}
    assert set(cloudsql.VERSIONS) == {name for name in enum if name.startswith(("MYSQL_", "POSTGRES_"))} - retired


def test_choices_are_among_those_of_the_apis():
    settings = document("sqladmin.v1")["schemas"]["Settings"]["properties"]
    for name, field in (
        ("cloudsql_edition", "edition"),
        ("cloudsql_activation_policy", "activationPolicy"),
        ("cloudsql_disk_type", "dataDiskType"),
        ("cloudsql_availability_type", "availabilityType"),
    ):
        assert set(all_variables()[name].choices) <= set(settings[field]["enum"])
    address = document("sqladmin.v1")["schemas"]["IpConfiguration"]["properties"]
    assert set(all_variables()["cloudsql_ssl_mode"].choices) <= set(address["sslMode"]["enum"])
    network = document("appengine.v1")["schemas"]["Network"]["properties"]
    assert set(all_variables()["appengine_mlflow_instance_ip_mode"].choices) <= set(network["instanceIpMode"]["enum"])
    egress = document("run.v2")["schemas"]["GoogleCloudRunV2VpcAccess"]["properties"]["egress"]["enum"]
    assert set(all_variables()["mlflow_network_egress"].choices) <= set(egress)
    ingress = document("run.v2")["schemas"]["GoogleCloudRunV2Service"]["properties"]["ingress"]["enum"]
    assert set(all_variables()["cloudrun_mlflow_ingress"].choices) <= set(ingress)
    build = document("cloudbuild.v1")["schemas"]["BuildOptions"]["properties"]["machineType"]["enum"]
    for machine in set(build) - {"UNSPECIFIED"}:
        assert validation.RULES["build_machine"](machine) is None


def test_conditions_of_lifecycles_are_those_of_the_api():
    rule = document("storage.v1")["schemas"]["Bucket"]["properties"]["lifecycle"]["properties"]["rule"]["items"]
    samples = {"boolean": True, "integer": 1, "array": ["x"], "string": "1"}
    for name, field in rule["properties"]["condition"]["properties"].items():
        given = {"action": {"type": "Delete"}, "condition": {name: samples[field["type"]]}}
        assert validation.MAPPINGS["lifecycle"](given) is None, name


def test_tiers_fit_their_own_advice():
    for cpus in range(1, 99):
        for memory in (0, 256, 3840, 10000, 10**6):
            fault = cloudsql.tier(f"db-custom-{cpus}-{memory}")
            if fault:
                advised = fault[1].split("for example ")[1].rstrip(".")
                assert cloudsql.tier(advised) is None, (cpus, memory, fault)


def test_amounts():
    assert cloudrun.mebibytes("1G") == pytest.approx(953.67, 0.001)
    assert (cloudrun.mebibytes("1Ki"), cloudrun.mebibytes("x"), cloudrun.mebibytes(None)) == (1 / 1024, None, None)
    assert (cloudrun.cpus("500m"), cloudrun.cpus(2), cloudrun.cpus("x")) == (0.5, 2.0, None)


LISTED = {
    "max_connections": {"type": "INTEGER", "minValue": "14", "maxValue": "262143"},
    "io_threads": {"type": "INTEGER", "allowedIntValues": ["4", "8"]},
    "wal_compression": {"type": "STRING", "allowedStringValues": ["lz4", "zstd"]},
    "jit": {"type": "BOOLEAN"},
    "cost": {"type": "FLOAT"},
}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"max_conections": "9"}, ("max_conections", "POSTGRES_16", "Did you mean max_connections?", "flags list")),
        ({"work_mem": "9"}, ("work_mem", "not a known database flag of POSTGRES_16")),
        ({"max_connections": "9"}, ('"9"', "14 to 262143")),
        ({"max_connections": "64MB"}, ("64MB", "without a unit")),
        ({"io_threads": "5"}, ("4 or 8",)),
        ({"wal_compression": "gzip"}, ("gzip", "lz4, zstd")),
    ],
)
def test_flags_are_checked_with_the_list_of_the_service(given, words):
    (problem,), warnings = cloudsql.check_listed(given, LISTED, "POSTGRES_16")
    assert problem.variable == "cloudsql_flags" and warnings == []
    assert not [word for word in words if word not in f"{problem.what} {problem.next}"], problem


def test_flags_that_the_service_takes():
    given = {"max_connections": "14", "io_threads": "8", "wal_compression": "LZ4", "jit": "on", "cost": "0.5"}
    assert cloudsql.check_listed(given, LISTED, "POSTGRES_16") == ([], [])
    problems, (warning,) = cloudsql.check_listed({"jit": "true"}, LISTED, "POSTGRES_16")
    assert problems == [] and "on or off" in warning


@pytest.mark.parametrize(
    ("version", "name", "like"), [("MYSQL_8_0", "innodb_new_flag_2027", ""), ("POSTGRES_16", "work_men", "work_mem?")]
)
def test_an_unknown_flag_is_a_warning_without_the_list_of_the_service(version, name, like):
    problems, (warning,) = cloudsql.check_listed({name: "1"}, {}, version)
    assert problems == []
    assert name in warning and version in warning and like in warning


def test_flags_of_the_product_are_known():
    assert {"log_bin_trust_function_creators", "cloudsql_iam_authentication", "max_connections"} <= flags.MYSQL
    assert {"cloudsql.iam_authentication", "max_connections"} <= flags.POSTGRES


# --- every variable of every role -------------------------------------------------------------------------------------


class Junk:
    def __repr__(self):
        raise RuntimeError("not to be shown")


def anything():
    """Return values of every kind that may be in an inventory, by name."""
    loop: dict = {}
    loop["again"] = loop
    return {
        "none": None,
        "empty": "",
        "blank": "  \n",
        "text": "nonsense value!",
        "control": "a\x00b\x1b[0m",
        "surrogate": "\ud800",
        "long": "x" * 100_000,
        "unicode": "ümläut",
        "braces": "{[",
        "yaml": "a: [1, {b: 2}]\nc: !!python/object:os.system x",
        "pairs": "a=b\nc",
        "number": 7,
        "zero": 0,
        "negative": -1,
        "huge": 10**30,
        "enormous": 10**5000,
        "digits": DIGITS,
        "float": 1.5,
        "nan": float("nan"),
        "infinity": float("-inf"),
        "true": True,
        "bytes": b"\xff",
        "list": ["nonsense value!"],
        "numbers": [1, 2.5, None],
        "nested": [[["x"]]],
        "mapping": {"nonsense key!": "x"},
        "keys": {1: 2, None: 3, (1, 2): 4},
        "deep": {"a": {"b": [{"c": {"d": [1]}}]}},
        "mappings": [{"nonsense key!": 1}],
        "loop": loop,
        "junk": Junk(),
        "function": anything,
    }


# What each type cannot be whatever the variable, by the names above.
NEVER = {
    "str": ("control", "long", "enormous", "list", "nested", "mapping", "keys", "deep", "loop", "junk", "function"),
    "path": ("control", "long", "enormous", "list", "nested", "mapping", "keys", "deep", "loop", "junk", "function"),
    "int": ("text", "control", "huge", "enormous", "digits", "float", "nan", "true", "list", "mapping", "loop", "junk"),
    "float": ("text", "control", "huge", "enormous", "nan", "infinity", "true", "list", "mapping", "loop", "junk"),
    "bool": ("text", "control", "number", "negative", "huge", "enormous", "list", "mapping", "loop", "junk"),
    "list": ("number", "negative", "enormous", "true", "nested", "mapping", "keys", "deep", "loop", "junk"),
    "dict": ("text", "number", "negative", "enormous", "true", "list", "nested", "keys", "loop", "junk"),
}
# Text that may be anything on one line, and mappings that take any keys.
FREE = {"gcp_service_account_contents", "gcp_access_token"}
# With an unknown target no variable of a target is read: it has a case of its own above.
SET = set(all_variables()) - {"mlflow_target"}


@pytest.mark.parametrize("kind", anything())
@pytest.mark.parametrize("role", ROLES.values(), ids=ROLES)
def test_what_a_variable_cannot_be_is_named(role, kind):
    target = {"mlflow_target": role.target} if role.target else {}
    given = {variable.name: anything()[kind] for variable in role.variables if variable.name in SET} | target
    found = judged(given)
    named = {problem.variable for problem in found}
    assert named <= {problem.variable for problem in model.compute(GOOD | given, model.Observed()).problems}
    for variable in role.variables:
        free = variable.name in FREE and kind == "control"
        if variable.name in SET and kind in NEVER[variable.type] and not free:
            assert variable.name in named
    for problem in found:
        assert problem.variable in problem.what
        assert len(problem.what) + len(problem.next) < 2000
        assert problem.what.isprintable() and problem.next.isprintable()


@pytest.mark.parametrize("name", [name for name in all_variables() if "mlflow" in name or name.startswith("cloudsql")])
def test_one_value_that_reaches_the_rules_does_not_raise(name):
    for kind in ("empty", "text", "unicode", "zero", "negative", "number", "float", "true", "list", "pairs"):
        for target in ("cloudrun", "appengine"):
            judged({"mlflow_target": target} | {name: anything()[kind]})


def constrained():
    for variable in all_variables().values():
        if variable.minimum is not None:
            yield variable, variable.minimum - 1
        if variable.maximum is not None:
            yield variable, variable.maximum + 1
        if variable.choices:
            yield variable, "no-such-choice"
        if variable.rule not in ("", "relative_path") and variable.type in ("str", "list") and not variable.options:
            bad = "no such value!" if variable.type == "str" else ["no such value!"]
            yield variable, bad
        if variable.rule == "labels":
            yield variable, {"Bad": "x"}


@pytest.mark.inputs
@pytest.mark.parametrize(
    ("variable", "value"), [pytest.param(*case, id=f"{case[0].name}-{case[1]}") for case in constrained()]
)
def test_limits_and_choices_of_every_variable_are_held(variable, value):
    target = {"mlflow_target": variable.targets[0]} if variable.targets else {}
    found = judged(target | {variable.name: value})
    assert variable.name in {problem.variable for problem in found}
