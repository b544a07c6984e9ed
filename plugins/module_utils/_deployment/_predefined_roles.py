# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Predefined roles that a deployer can be granted. Written by ``scripts/permissions.py --update``.

The roles are those of https://github.com/iann0036/iam-dataset (MIT licence) as of August 2026.
"""

from __future__ import annotations

# Role -> (number of its permissions in the services of this collection, those that a deployer can need). A role is left
# out where another one holds the same of these permissions, and no more in all.
ROLES = {
    "roles/appengine.admin": (
        30,
        "appengine.applications.create appengine.applications.get appengine.applications.update "
        "appengine.instances.list appengine.operations.get appengine.operations.list appengine.services.delete "
        "appengine.services.get appengine.services.list appengine.services.update appengine.versions.create "
        "appengine.versions.delete appengine.versions.get appengine.versions.list appengine.versions.update "
        "resourcemanager.projects.get",
    ),
    "roles/appengine.appAdmin": (
        30,
        "appengine.applications.get appengine.applications.update appengine.instances.list appengine.operations.get "
        "appengine.operations.list appengine.services.delete appengine.services.get appengine.services.list "
        "appengine.services.update appengine.versions.create appengine.versions.delete appengine.versions.get "
        "appengine.versions.list appengine.versions.update artifactregistry.repositories.downloadArtifacts "
        "artifactregistry.repositories.uploadArtifacts resourcemanager.projects.get",
    ),
    "roles/appengine.appCreator": (3, "appengine.applications.create resourcemanager.projects.get"),
    "roles/appengine.appViewer": (
        13,
        "appengine.applications.get appengine.instances.list appengine.operations.get appengine.operations.list "
        "appengine.services.get appengine.services.list appengine.versions.get appengine.versions.list "
        "resourcemanager.projects.get",
    ),
    "roles/appengine.deployer": (
        19,
        "appengine.applications.get appengine.instances.list appengine.operations.get appengine.operations.list "
        "appengine.services.get appengine.services.list appengine.versions.create appengine.versions.delete "
        "appengine.versions.get appengine.versions.list artifactregistry.repositories.downloadArtifacts "
        "artifactregistry.repositories.uploadArtifacts resourcemanager.projects.get",
    ),
    "roles/appengine.editor": (
        28,
        "appengine.applications.get appengine.applications.update appengine.instances.list appengine.operations.get "
        "appengine.operations.list appengine.services.delete appengine.services.get appengine.services.list "
        "appengine.services.update appengine.versions.create appengine.versions.delete appengine.versions.get "
        "appengine.versions.list appengine.versions.update resourcemanager.projects.get",
    ),
    "roles/appengine.serviceAdmin": (
        18,
        "appengine.applications.get appengine.instances.list appengine.operations.get appengine.operations.list "
        "appengine.services.delete appengine.services.get appengine.services.list appengine.services.update "
        "appengine.versions.delete appengine.versions.get appengine.versions.list appengine.versions.update "
        "resourcemanager.projects.get",
    ),
    "roles/artifactregistry.admin": (
        67,
        "artifactregistry.repositories.create artifactregistry.repositories.delete "
        "artifactregistry.repositories.downloadArtifacts artifactregistry.repositories.get "
        "artifactregistry.repositories.getIamPolicy artifactregistry.repositories.setIamPolicy "
        "artifactregistry.repositories.update artifactregistry.repositories.uploadArtifacts "
        "artifactregistry.tags.get artifactregistry.versions.get resourcemanager.projects.get",
    ),
    "roles/artifactregistry.editor": (
        61,
        "artifactregistry.repositories.create artifactregistry.repositories.delete "
        "artifactregistry.repositories.downloadArtifacts artifactregistry.repositories.get "
        "artifactregistry.repositories.getIamPolicy artifactregistry.repositories.update "
        "artifactregistry.repositories.uploadArtifacts artifactregistry.tags.get artifactregistry.versions.get "
        "resourcemanager.projects.get",
    ),
    "roles/artifactregistry.reader": (
        33,
        "artifactregistry.repositories.downloadArtifacts artifactregistry.repositories.get "
        "artifactregistry.tags.get artifactregistry.versions.get resourcemanager.projects.get",
    ),
    "roles/artifactregistry.viewer": (
        35,
        "artifactregistry.repositories.downloadArtifacts artifactregistry.repositories.get "
        "artifactregistry.repositories.getIamPolicy artifactregistry.tags.get artifactregistry.versions.get "
        "resourcemanager.projects.get",
    ),
    "roles/artifactregistry.writer": (
        44,
        "artifactregistry.repositories.downloadArtifacts artifactregistry.repositories.get "
        "artifactregistry.repositories.uploadArtifacts artifactregistry.tags.get artifactregistry.versions.get "
        "resourcemanager.projects.get",
    ),
    "roles/cloudbuild.builds.editor": (
        10,
        "cloudbuild.builds.create cloudbuild.builds.get cloudbuild.builds.list resourcemanager.projects.get",
    ),
    "roles/cloudbuild.builds.viewer": (8, "cloudbuild.builds.get cloudbuild.builds.list resourcemanager.projects.get"),
    "roles/cloudkms.admin": (
        71,
        "cloudkms.cryptoKeys.get cloudkms.cryptoKeys.getIamPolicy cloudkms.cryptoKeys.setIamPolicy "
        "resourcemanager.projects.get",
    ),
    "roles/cloudkms.viewer": (28, "cloudkms.cryptoKeys.get resourcemanager.projects.get"),
    "roles/cloudsql.admin": (
        90,
        "cloudsql.databases.create cloudsql.databases.get cloudsql.instances.create cloudsql.instances.delete "
        "cloudsql.instances.get cloudsql.instances.update cloudsql.users.create cloudsql.users.get "
        "cloudsql.users.update resourcemanager.projects.get serviceusage.services.get serviceusage.services.list",
    ),
    "roles/cloudsql.editor": (
        58,
        "cloudsql.databases.create cloudsql.databases.get cloudsql.instances.get cloudsql.instances.update "
        "cloudsql.users.get resourcemanager.projects.get serviceusage.services.get serviceusage.services.list",
    ),
    "roles/cloudsql.viewer": (
        36,
        "cloudsql.databases.get cloudsql.instances.get cloudsql.users.get resourcemanager.projects.get "
        "serviceusage.services.get serviceusage.services.list",
    ),
    "roles/compute.networkUser": (
        212,
        "compute.networks.get compute.subnetworks.get resourcemanager.projects.get serviceusage.services.get "
        "serviceusage.services.list",
    ),
    "roles/iam.securityReviewer": (
        469,
        "appengine.instances.list appengine.operations.list appengine.services.list appengine.versions.list "
        "artifactregistry.repositories.getIamPolicy cloudbuild.builds.list cloudkms.cryptoKeys.getIamPolicy "
        "iam.serviceAccounts.get iam.serviceAccounts.getIamPolicy iap.webServices.getIamPolicy "
        "resourcemanager.projects.getIamPolicy run.services.getIamPolicy secretmanager.secrets.getIamPolicy "
        "serviceusage.services.list storage.buckets.getIamPolicy storage.objects.list",
    ),
    "roles/iam.serviceAccountAdmin": (
        19,
        "iam.serviceAccounts.create iam.serviceAccounts.delete iam.serviceAccounts.get "
        "iam.serviceAccounts.getIamPolicy iam.serviceAccounts.setIamPolicy iam.serviceAccounts.update "
        "resourcemanager.projects.get",
    ),
    "roles/iam.serviceAccountCreator": (
        5,
        "iam.serviceAccounts.create iam.serviceAccounts.get resourcemanager.projects.get",
    ),
    "roles/iam.serviceAccountDeleter": (
        5,
        "iam.serviceAccounts.delete iam.serviceAccounts.get resourcemanager.projects.get",
    ),
    "roles/iam.serviceAccountUser": (
        5,
        "iam.serviceAccounts.actAs iam.serviceAccounts.get resourcemanager.projects.get",
    ),
    "roles/iam.serviceAccountViewer": (
        9,
        "iam.serviceAccounts.get iam.serviceAccounts.getIamPolicy resourcemanager.projects.get",
    ),
    "roles/iap.admin": (18, "iap.webServices.getIamPolicy iap.webServices.setIamPolicy"),
    "roles/iap.editor": (18, "iap.webServices.getSettings iap.webServices.updateSettings resourcemanager.projects.get"),
    "roles/iap.settingsAdmin": (10, "iap.webServices.getSettings iap.webServices.updateSettings"),
    "roles/iap.viewer": (10, "iap.webServices.getSettings resourcemanager.projects.get"),
    "roles/resourcemanager.projectIamAdmin": (
        9,
        "resourcemanager.projects.get resourcemanager.projects.getIamPolicy resourcemanager.projects.setIamPolicy",
    ),
    "roles/run.admin": (
        71,
        "resourcemanager.projects.get run.executions.get run.jobs.create run.jobs.delete run.jobs.get run.jobs.run "
        "run.jobs.update run.operations.get run.services.create run.services.delete run.services.get "
        "run.services.getIamPolicy run.services.setIamPolicy run.services.update",
    ),
    "roles/run.developer": (
        63,
        "resourcemanager.projects.get run.executions.get run.jobs.create run.jobs.delete run.jobs.get run.jobs.run "
        "run.jobs.update run.operations.get run.services.create run.services.delete run.services.get "
        "run.services.getIamPolicy run.services.update",
    ),
    "roles/run.jobsExecutor": (2, "run.jobs.run"),
    "roles/run.viewer": (
        32,
        "resourcemanager.projects.get run.executions.get run.jobs.get run.operations.get run.services.get "
        "run.services.getIamPolicy",
    ),
    "roles/secretmanager.admin": (
        29,
        "resourcemanager.projects.get secretmanager.secrets.create secretmanager.secrets.delete "
        "secretmanager.secrets.get secretmanager.secrets.getIamPolicy secretmanager.secrets.setIamPolicy "
        "secretmanager.secrets.update secretmanager.versions.access secretmanager.versions.add "
        "secretmanager.versions.get",
    ),
    "roles/secretmanager.editor": (
        20,
        "resourcemanager.projects.get secretmanager.secrets.create secretmanager.secrets.delete "
        "secretmanager.secrets.get secretmanager.secrets.getIamPolicy secretmanager.secrets.update "
        "secretmanager.versions.add secretmanager.versions.get",
    ),
    "roles/secretmanager.secretAccessor": (3, "resourcemanager.projects.get secretmanager.versions.access"),
    "roles/secretmanager.secretVersionAdder": (4, "resourcemanager.projects.get secretmanager.versions.add"),
    "roles/secretmanager.secretVersionManager": (
        9,
        "resourcemanager.projects.get secretmanager.versions.add secretmanager.versions.get",
    ),
    "roles/secretmanager.viewer": (
        11,
        "resourcemanager.projects.get secretmanager.secrets.get secretmanager.secrets.getIamPolicy "
        "secretmanager.versions.get",
    ),
    "roles/serviceusage.serviceUsageAdmin": (
        22,
        "serviceusage.operations.get serviceusage.services.enable serviceusage.services.get "
        "serviceusage.services.list serviceusage.services.use",
    ),
    "roles/serviceusage.serviceUsageConsumer": (
        16,
        "serviceusage.operations.get serviceusage.services.get serviceusage.services.list serviceusage.services.use",
    ),
    "roles/serviceusage.serviceUsageViewer": (
        15,
        "serviceusage.operations.get serviceusage.services.get serviceusage.services.list",
    ),
    "roles/storage.admin": (
        77,
        "resourcemanager.projects.get storage.buckets.create storage.buckets.delete storage.buckets.get "
        "storage.buckets.getIamPolicy storage.buckets.setIamPolicy storage.buckets.update storage.objects.create "
        "storage.objects.delete storage.objects.get storage.objects.list",
    ),
    "roles/storage.editor": (24, "resourcemanager.projects.get storage.buckets.create storage.buckets.delete"),
    "roles/storage.objectCreator": (10, "resourcemanager.projects.get storage.objects.create"),
    "roles/storage.objectUser": (
        27,
        "resourcemanager.projects.get storage.objects.create storage.objects.delete storage.objects.get "
        "storage.objects.list",
    ),
    "roles/storage.objectViewer": (8, "resourcemanager.projects.get storage.objects.get storage.objects.list"),
}
