# SPDX-License-Identifier: Apache-2.0
# The Terraform configuration of the App Engine guide, with its names and settings
# (../shared/guides/000_546d546517325e38.txt). Suffix and password are variables: the guide generates them with another provider.

terraform {
  required_providers {
    google = { source = "hashicorp/google" }
  }
}

variable "project" { type = string }
variable "env" { default = "dev" }
variable "prefix" { default = "abc" }
variable "region" { default = "europe-west1" }
variable "app_engine_region" { default = "europe-west" }
variable "docker_image" { type = string }
variable "machine_type" { default = "db-n1-standard-1" }
variable "availability_type" { default = "ZONAL" }
variable "secret_for_oauth_client_id" { type = string }
variable "secret_for_oauth_client_secret" { type = string }
variable "db_name_suffix" { default = "5a7b9c" }
variable "db_password" {
  type      = string
  sensitive = true
}

provider "google" {
  project = var.project
  # the caller's project may lack the APIs
  billing_project       = var.project
  user_project_override = true
}

data "google_project" "project" {
  project_id = var.project
}

data "google_secret_manager_secret_version" "oauth_client_id" {
  secret = var.secret_for_oauth_client_id
}

data "google_secret_manager_secret_version" "oauth_client_secret" {
  secret = var.secret_for_oauth_client_secret
}

locals {
  accounts = [
    "serviceAccount:${var.project}@appspot.gserviceaccount.com",
    "serviceAccount:service-${data.google_project.project.number}@gae-api-prod.google.com.iam.gserviceaccount.com",
  ]
}

resource "google_app_engine_application" "mlflow_app" {
  project     = var.project
  location_id = var.app_engine_region
  iap {
    enabled              = true
    oauth2_client_id     = data.google_secret_manager_secret_version.oauth_client_id.secret_data
    oauth2_client_secret = data.google_secret_manager_secret_version.oauth_client_secret.secret_data
  }
}

resource "google_sql_database_instance" "mlflow_cloudsql_instance" {
  project          = var.project
  name             = "${var.prefix}-mlflow-${var.env}-${var.region}-${var.db_name_suffix}"
  database_version = "MYSQL_8_0"
  region           = var.region
  settings {
    tier              = var.machine_type
    availability_type = var.availability_type
    disk_size         = 10
    disk_autoresize   = true
    ip_configuration {
      ipv4_enabled = true
    }
    maintenance_window {
      day          = 7
      hour         = 3
      update_track = "stable"
    }
    backup_configuration {
      enabled            = true
      binary_log_enabled = true
    }
  }
  deletion_protection = false
}

resource "google_sql_database" "mlflow_cloudsql_database" {
  project  = var.project
  name     = "mlflow"
  instance = google_sql_database_instance.mlflow_cloudsql_instance.name
}

resource "google_sql_user" "mlflow_db_user" {
  project    = var.project
  name       = "mlflow"
  instance   = google_sql_database_instance.mlflow_cloudsql_instance.name
  password   = var.db_password
  depends_on = [google_sql_database.mlflow_cloudsql_database]
}

resource "google_secret_manager_secret" "mlflow_db_password_secret" {
  project   = var.project
  secret_id = "${var.prefix}-mlflow-db-password-${var.env}-${var.region}"
  replication {
    user_managed {
      replicas {
        location = var.region
      }
    }
  }
}

resource "google_secret_manager_secret_version" "mlflow_db_password_secret" {
  secret      = google_secret_manager_secret.mlflow_db_password_secret.id
  secret_data = var.db_password
}

resource "google_secret_manager_secret_iam_member" "mlflow_db_password_secret_iam" {
  for_each   = toset(local.accounts)
  project    = var.project
  secret_id  = google_secret_manager_secret.mlflow_db_password_secret.id
  role       = "roles/secretmanager.secretAccessor"
  member     = each.key
  depends_on = [google_app_engine_application.mlflow_app]
}

resource "google_project_iam_member" "mlflow_gae_iam" {
  for_each   = toset(local.accounts)
  project    = var.project
  role       = "roles/cloudsql.client"
  member     = each.key
  depends_on = [google_app_engine_application.mlflow_app]
}

resource "google_storage_bucket" "mlflow_artifacts_bucket" {
  name                        = "${var.prefix}-mlflow-${var.env}-${var.region}"
  location                    = substr(var.region, 0, 2) == "eu" ? "EU" : "US"
  storage_class               = "MULTI_REGIONAL"
  uniform_bucket_level_access = true
}

resource "google_storage_bucket_iam_member" "mlflow_artifacts_bucket_iam" {
  for_each   = toset(local.accounts)
  bucket     = google_storage_bucket.mlflow_artifacts_bucket.name
  role       = "roles/storage.objectAdmin"
  member     = each.key
  depends_on = [google_app_engine_application.mlflow_app]
}

resource "google_app_engine_flexible_app_version" "mlflow_default_app" {
  project    = var.project
  service    = "default"
  version_id = "v1"
  runtime    = "custom"
  deployment {
    container {
      image = var.docker_image
    }
  }
  liveness_check {
    path = "/"
  }
  readiness_check {
    path = "/"
  }
  beta_settings = {
    cloud_sql_instances = google_sql_database_instance.mlflow_cloudsql_instance.connection_name
  }
  env_variables = {
    GCP_PROJECT                 = var.project
    DB_PASSWORD_SECRET_NAME     = google_secret_manager_secret.mlflow_db_password_secret.secret_id
    DB_USERNAME                 = google_sql_user.mlflow_db_user.name
    DB_NAME                     = google_sql_database.mlflow_cloudsql_database.name
    DB_INSTANCE_CONNECTION_NAME = google_sql_database_instance.mlflow_cloudsql_instance.connection_name
    GCS_BACKEND                 = google_storage_bucket.mlflow_artifacts_bucket.url
  }
  automatic_scaling {
    cpu_utilization {
      target_utilization = 0.75
    }
    min_total_instances = 1
    max_total_instances = 4
  }
  resources {
    cpu       = 1
    memory_gb = 2
  }
  delete_service_on_destroy = true
  noop_on_destroy           = false
  inbound_services          = []
  timeouts {
    create = "20m"
  }
  depends_on = [
    google_secret_manager_secret_iam_member.mlflow_db_password_secret_iam,
    google_secret_manager_secret_version.mlflow_db_password_secret,
    google_project_iam_member.mlflow_gae_iam,
  ]
}
