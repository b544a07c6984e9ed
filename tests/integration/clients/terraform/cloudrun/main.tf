# SPDX-License-Identifier: Apache-2.0
# The Terraform configuration of the Cloud Run guide, with its names and settings
# (../shared/guides/002_e6852742dc9ab9bb.txt). The password is a variable: the guide generates it with another provider.

terraform {
  required_providers {
    google = { source = "hashicorp/google" }
  }
}

variable "project_name" { type = string }
variable "env" { default = "prod" }
variable "region" { default = "europe-west2" }
variable "image" { type = string }
variable "vpn_to_access_db" { default = "203.0.113.0/24" }
variable "bucket_users_list" { default = ["user:alice@example.com"] }
variable "db_password" {
  type      = string
  sensitive = true
}

provider "google" {
  project = var.project_name
  region  = var.region
  # the caller's project may lack the APIs
  billing_project       = var.project_name
  user_project_override = true
}

data "google_project" "project" {
  project_id = var.project_name
}

resource "google_artifact_registry_repository" "ar_mlflow" {
  location      = var.region
  repository_id = "${var.project_name}-repo"
  description   = "Docker repository for MlFlow"
  format        = "DOCKER"
}

resource "google_sql_database_instance" "main" {
  name             = "${var.project_name}-${var.env}-db"
  database_version = "POSTGRES_14"
  project          = var.project_name
  settings {
    tier            = "db-custom-1-3840"
    disk_size       = "10"
    disk_type       = "PD_HDD"
    disk_autoresize = false
    ip_configuration {
      ipv4_enabled = true
      authorized_networks {
        name  = "Your VPN"
        value = var.vpn_to_access_db
      }
    }
  }
}

resource "google_sql_database" "ml_flow_db" {
  name     = "mlflow-${var.project_name}-${var.env}"
  instance = google_sql_database_instance.main.name
  project  = var.project_name
}

resource "google_sql_user" "ml_flow_user" {
  name     = "mlflow-${var.project_name}-${var.env}"
  instance = google_sql_database_instance.main.name
  password = var.db_password
  project  = var.project_name
}

locals {
  payloads = {
    mlflow_tracking_username   = google_sql_user.ml_flow_user.name
    mlflow_tracking_password   = var.db_password
    mlflow_database_url        = "postgresql+psycopg2://${google_sql_user.ml_flow_user.name}:${var.db_password}@/${google_sql_database.ml_flow_db.name}?host=/cloudsql/${google_sql_database_instance.main.connection_name}"
    mlflow_artifact_url        = google_storage_bucket.mlflow_artifacts_bucket.url
    mlflow_service_account_key = base64decode(google_service_account_key.key_to_bucket_object_creator.private_key)
  }
  # without the secret for users that run programs
  read_by_server = setsubtract(keys(google_secret_manager_secret.mlflow), ["mlflow_service_account_key"])
}

resource "google_secret_manager_secret" "mlflow" {
  for_each = toset([
    "mlflow_tracking_username", "mlflow_tracking_password", "mlflow_database_url", "mlflow_artifact_url",
    "mlflow_service_account_key",
  ])
  secret_id = each.key
  project   = var.project_name
  replication {
    auto {} # "automatic = true" before release 5
  }
}

resource "google_secret_manager_secret_version" "mlflow" {
  for_each    = google_secret_manager_secret.mlflow
  secret      = each.value.id
  secret_data = local.payloads[each.key]
}

resource "google_service_account" "cloudrun-mlflow" {
  account_id   = "cloudrun-mlflow-${var.env}"
  display_name = "Service Account for Cloud Run running ML Flow"
}

resource "google_service_account" "bucket_object_creator" {
  account_id   = "mlflow-connect-${var.env}"
  display_name = "Service Account for create objects in ML Flow bucket."
}

resource "google_service_account_key" "key_to_bucket_object_creator" {
  service_account_id = google_service_account.bucket_object_creator.name
}

resource "google_storage_bucket" "mlflow_artifacts_bucket" {
  name                        = "${var.project_name}-mlflow-${var.env}-${var.region}"
  project                     = var.project_name
  location                    = upper(var.region)
  storage_class               = "REGIONAL"
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false
}

resource "google_project_iam_member" "cloudsql_connect" {
  project = var.project_name
  role    = "roles/cloudsql.client"
  member  = "serviceAccount:${google_service_account.cloudrun-mlflow.email}"
}

resource "google_secret_manager_secret_iam_member" "accessor" {
  for_each  = local.read_by_server
  secret_id = google_secret_manager_secret.mlflow[each.key].id
  role      = "roles/secretmanager.secretAccessor"
  member    = "serviceAccount:${google_service_account.cloudrun-mlflow.email}"
}

data "google_iam_policy" "mlflow-bucket-policy" {
  binding {
    role    = "roles/storage.objectViewer"
    members = concat(var.bucket_users_list, ["serviceAccount:${google_service_account.cloudrun-mlflow.email}"])
  }
  binding {
    role    = "roles/storage.objectCreator"
    members = ["serviceAccount:${google_service_account.bucket_object_creator.email}"]
  }
}

resource "google_storage_bucket_iam_policy" "policy_bucket_object_create" {
  bucket      = google_storage_bucket.mlflow_artifacts_bucket.name
  policy_data = data.google_iam_policy.mlflow-bucket-policy.policy_data
}

resource "google_cloud_run_v2_service" "mlflow_on_cloudrun" {
  name     = "mlflow-${var.project_name}-${var.env}"
  location = var.region
  ingress  = "INGRESS_TRAFFIC_ALL"
  client   = "cloud-console"
  depends_on = [
    google_artifact_registry_repository.ar_mlflow,
    google_secret_manager_secret_iam_member.accessor,
    google_secret_manager_secret_version.mlflow,
  ]
  lifecycle {
    # Cloud Run returns the environment that it selected, which the provider reports as a change.
    ignore_changes = [template[0].execution_environment]
  }
  template {
    service_account = google_service_account.cloudrun-mlflow.email
    volumes {
      name = "cloudsql"
      cloud_sql_instance {
        instances = [google_sql_database_instance.main.connection_name]
      }
    }
    scaling {
      max_instance_count = 10
    }
    containers {
      image = var.image
      env {
        name  = "GCP_PROJECT"
        value = data.google_project.project.number
      }
      volume_mounts {
        mount_path = "/cloudsql"
        name       = "cloudsql"
      }
      resources {
        cpu_idle = true
        limits = {
          cpu    = "1000m"
          memory = "1024Mi"
        }
      }
    }
  }
}

resource "google_cloud_run_service_iam_binding" "access_to_mlflow" {
  location = google_cloud_run_v2_service.mlflow_on_cloudrun.location
  service  = google_cloud_run_v2_service.mlflow_on_cloudrun.name
  role     = "roles/run.invoker"
  members  = ["allUsers"]
}
