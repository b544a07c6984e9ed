# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Judge resources that a variable refers to and that the deployment does not create: secrets and images."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils import _errors


@dataclass(frozen=True)
class Judgement:
    """A problem or a warning about a reference.

    certain  whether the deployment would fail; otherwise it is a warning
    what     the variable, what it refers to, and why that does not work
    next     what to do
    """

    certain: bool
    what: str
    next: str


@dataclass(frozen=True)
class _Advice:
    """What to do about a kind of resource. In the commands ``{name}`` stands for one of the resource's names.

    create     when it does not exist
    states     its state -> what to do then
    grant      the command that lets ``{member}`` read it with ``{role}``
    role       role that reads it
    use        what a member needs the role for, in words
    role_info  role that reads what preflight needs
    effect     what fails where a member lacks the role
    """

    create: str
    grant: str
    role: str
    role_info: str
    states: Any = None
    use: str = "read"
    effect: str = "the server will not start"


_ADD = "gcloud secrets versions add {secret} --project={project} --data-file=FILE"
_FIT = f"Add a version with another value ({_ADD}), or {{choose}}."
_SECRET = _Advice(
    create=f"create it (gcloud secrets create {{secret}} --project={{project}}), and add a version ({_ADD}).",
    states={
        "DISABLED": "Enable it (gcloud secrets versions enable {number} --secret={secret} --project={project}), or add"
        f" a version ({_ADD}).",
        "DESTROYED": f"Add a version ({_ADD}).",
    },
    grant="gcloud secrets add-iam-policy-binding {secret} --project={project} --member={member} --role={role}",
    role="roles/secretmanager.secretAccessor",
    role_info="roles/secretmanager.viewer",
)
_IMAGE = _Advice(
    create="push it. List the existing images with: gcloud artifacts docker images list"
    " {location}-docker.pkg.dev/{project}/{repository} --include-tags",
    grant="gcloud artifacts repositories add-iam-policy-binding {repository} --location={location}"
    " --project={project} --member={member} --role={role}",
    role="roles/artifactregistry.reader",
    role_info="roles/artifactregistry.reader",
)
_NEW_PRIMARY = (
    "Create a primary version: gcloud kms keys versions create --primary --key={key} --keyring={ring}"
    " --location={location} --project={project}"
)
_KEY = _Advice(
    create="create it: gcloud kms keys create {key} --keyring={ring} --location={location} --project={project}"
    " --purpose=encryption",
    states={
        "DISABLED": "Enable its primary version: gcloud kms keys versions enable {number} --key={key} --keyring={ring}"
        " --location={location} --project={project}",
        "DESTROY_SCHEDULED": "Restore its primary version and enable it: gcloud kms keys versions restore {number}"
        " --key={key} --keyring={ring} --location={location} --project={project}",
        "DESTROYED": f"Data that it has encrypted are lost. {_NEW_PRIMARY}",
        "without a primary version": _NEW_PRIMARY,
    },
    grant="gcloud kms keys add-iam-policy-binding {key} --keyring={ring} --location={location} --project={project}"
    " --member={member} --role={role}",
    role="roles/cloudkms.cryptoKeyEncrypterDecrypter",
    role_info="roles/cloudkms.viewer",
    use="use",
    effect="resources with this key cannot be created",
)
_NETWORK = _Advice(
    create="create it (gcloud compute networks create {name} --project={project} --subnet-mode=auto).",
    grant="gcloud projects add-iam-policy-binding {project} --member={member} --role={role}",
    role="roles/compute.networkUser",
    role_info="roles/compute.networkViewer",
)
_SUBNETWORK = _Advice(
    create="create it (gcloud compute networks subnets create {name} --project={project} --region={location}"
    " --network=NETWORK --range=10.8.0.0/26).",
    grant="gcloud compute networks subnets add-iam-policy-binding {name} --project={project} --region={location}"
    " --member={member} --role={role}",
    role="roles/compute.networkUser",
    role_info="roles/compute.networkUser",
    use="use",
)
_ADVICE = {
    "crypto_key": _KEY,
    "network": _NETWORK,
    "subnetwork": _SUBNETWORK,
    "secret_version": _SECRET,
    "image_tag": _IMAGE,
    "docker_image": _IMAGE,
}


def new_value(found):
    """Return what to do about the value of a secret or of its version."""
    names, variable = found.remote.names, found.asked.get("referenced_by") or found.asked.get("named_by")
    choose = f"set {variable} to another secret" if variable else "use another secret"
    return _FIT.format(**{"secret": names.get("name"), "choose": choose, **names})


def _version(found):
    """Return what the state of a resource is the state of."""
    if found.asked["type"] != "crypto_key":
        return "this version"
    return "its primary version" if found.body.get("primary") else "it"


def judge(found, caller):
    """Return the judgements of one :class:`Found` of an enabled API.

    :param caller: the deployer as IAM policies name it.
    """
    variable, name = found.asked["referenced_by"], found.asked["name"]
    advice, subject = _ADVICE.get(found.asked["type"]), f"{variable} refers to {name}"
    if advice is None:
        return []

    def text(template, **more):
        return template.format(**found.remote.names, **more)

    def grant(member, role):
        return text(advice.grant, member=shlex.quote(member), role=role)

    if found.exists:
        state, bad = found.kind.state(found.body)
        if bad and found.usable:
            newest = f"the newest version is {state}: {found.usable} is used"
            return [
                Judgement(
                    False,
                    f"{subject}, and {newest}.",
                    "To use the newest value, enable this version or add another one.",
                )
            ]
        if bad:
            newest = found.body.get("primary") or found.body
            number = str(newest.get("name")).rsplit("/", 1)[-1]
            way = (advice.states or {}).get(state) or "Wait until it is enabled, or refer to another one."
            return [Judgement(True, f"{subject}, and {_version(found)} is {state}.", text(way, number=number))]
        if found.unfit:
            return [Judgement(True, f"{subject}, and its value {found.unfit}.", new_value(found))]
        return [*_unread(found, subject, grant, advice), *_unknown(found, subject, grant, advice)]
    error = found.error or found.absent
    if isinstance(error, _errors.PermissionDenied):
        check = f"Check that it exists, or let preflight check it: {grant(caller, advice.role_info)}"
        return [Judgement(False, f"{subject}, which is not readable: {error.text}", check)]
    if isinstance(error, _errors.ApiDisabled):
        check = f"Check that it exists. Preflight needs the API: gcloud services enable {error.service}"
        return [Judgement(False, f"{subject}, which is not readable: {error.text}", check)]
    if found.unlisted:
        return [Judgement(False, f"{subject}, which was not found, and {found.unlisted}.", "Check that it exists.")]
    if isinstance(error, _errors.NotFound):
        return [
            Judgement(
                True, f"{subject}, which does not exist: {error.text}", f"Correct {variable}, or {text(advice.create)}"
            )
        ]
    return [Judgement(True, f"{subject}, which could not be read: {error.message}", error.hint)]


def _unread(found, subject, grant, advice):
    """Return the judgements of members without a role. The deployment grants it where it may."""
    if found.kind.granted and found.grantable:
        return []
    lacks = f", and the deployer may not grant one ({found.kind.granted})" if found.kind.granted else ""
    certain = bool(lacks) and not found.indirect
    way = "" if certain else f"Unless a group or an organization grants one, {advice.effect}. "
    return [
        Judgement(
            certain,
            f"{subject}, and no role lets {member} {advice.use} it{lacks}.",
            f"{way}Once the account exists, grant it: {grant(member, advice.role)}",
        )
        for member in found.unread
    ]


def _unknown(found, subject, grant, advice):
    """Return the warnings about members of which it is not known whether they have a role."""
    if not found.kind.granted:
        return []
    return [
        Judgement(
            False,
            f"{subject}, and it is not known whether {member} may {advice.use} it, because the policy is not readable.",
            f"If it may not, grant it: {grant(member, advice.role)}",
        )
        for member in found.unknown
    ]
