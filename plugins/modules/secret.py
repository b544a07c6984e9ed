#!/usr/bin/python
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: secret
short_description: Manage secrets and their values
version_added: 0.1.0
description:
  - Creates, changes and deletes secrets of Secret Manager, and gives them values.
  - A value can be given, read from a file on the machine that the module runs on, generated, or composed of other
    secrets. A generated or composed value exists only inside the module and in Secret Manager. No value is returned.
  - The module remembers in annotations of the secret which version it made of what, as a salted slow hash. To see that
    nothing has changed it reads neither a value nor a version.
author:
  - the mlplatform.gcp authors (@mlplatform)
options:
  name:
    description: The secret's name.
    type: str
    required: true
  replication_locations:
    description:
      - Regions that hold the secret. By default Google chooses. They cannot be changed.
    type: list
    elements: str
  annotations:
    description: Annotations that the secret shall have. Others are left alone.
    type: dict
  payload:
    description: The value. A new version is made when it differs from the last.
    type: str
  payload_file:
    description: Path of a file with the value, byte for byte.
    type: path
  generate:
    description:
      - Generate a random value once. Changing these suboptions does not generate it again; delete the secret for that.
      - A version that is there already, whoever made it, is kept.
    type: dict
    suboptions:
      length:
        description: How many characters.
        type: int
        default: 32
      alphabet:
        description: The characters to choose from, by default letters and digits.
        type: str
  template:
    description:
      - Text with placeholders for other secrets. C({name}) becomes the value of the secret named in
        O(template_secrets), C({name:url}) the value quoted for a URL.
      - A new version is made when the text or a version of one of the secrets changes.
    type: str
  template_secrets:
    description:
      - The secret for each placeholder, as C(projects/PROJECT/secrets/SECRET/versions/VERSION).
      - Without a version the newest is used, which costs a request to look it up; without a project, a secret in
        O(project).
    type: dict
  old_versions:
    description: What happens to old versions when a new one is made.
    type: str
    choices: [keep, disable, destroy]
    default: keep
  keep_versions:
    description: How many of the newest versions O(old_versions) leaves alone, the new one included.
    type: int
    default: 2
  verify:
    description:
      - Whether to look up the version that was made, which costs a request, and to make another if it was disabled or
        destroyed since.
    type: bool
    default: false
  adopt:
    description:
      - Whether a secret that has a value which this module has not made keeps that. Otherwise it gets the wanted one,
        unless it is the same; one that is only generated is kept in any case.
      - Nothing is written to such a secret, and a warning says when its value is not the wanted one. A value that
        differs from O(template) only in that it is not quoted for a URL is.
    type: bool
    default: false
extends_documentation_fragment:
  - mlplatform.gcp.bindings
  - mlplatform.gcp.gcp
  - mlplatform.gcp.labels
  - mlplatform.gcp.state
  - mlplatform.gcp.attributes
notes:
  - Needs C(secretmanager.secrets.get), C(secretmanager.secrets.create), C(secretmanager.secrets.update) and
    C(secretmanager.secrets.delete); to make versions C(secretmanager.versions.add), C(secretmanager.versions.get),
    C(secretmanager.versions.list), C(secretmanager.versions.disable) and C(secretmanager.versions.destroy); to compose
    them C(secretmanager.versions.access); for O(bindings) C(secretmanager.secrets.getIamPolicy) and
    C(secretmanager.secrets.setIamPolicy). All are in C(roles/secretmanager.admin).
  - O(bindings) are added to the secret's policy; use M(mlplatform.gcp.iam_bindings) for more.
"""

EXAMPLES = r"""
- name: The database has a password that nobody knows
  mlplatform.gcp.secret:
    project: my-project
    name: mlflow-db-password
    generate: {length: 40}
    bindings:
      - role: roles/secretmanager.secretAccessor
        members: ["serviceAccount:mlflow-server@my-project.iam.gserviceaccount.com"]
  register: password

- name: The database's address holds the password
  mlplatform.gcp.secret:
    project: my-project
    name: mlflow-database-url
    template: postgresql+psycopg2://mlflow:{password:url}@/mlflow?host=/cloudsql/my-project:europe-west1:mlflow-prod
    template_secrets:
      password: "{{ password.version }}"

- name: A given value
  mlplatform.gcp.secret:
    project: my-project
    name: mlflow-login
    payload: admin
"""

RETURN = r"""
resource:
  description: The secret as Google describes it, without a value.
  returned: when O(state=present)
  type: dict
secret:
  description: The secret's name in full.
  returned: success
  type: str
  sample: projects/my-project/secrets/mlflow-db-password
version:
  description:
    - The name in full of the version that the module made or keeps.
    - In check mode a version that is still to be made is called V(latest).
  returned: when O(state=present) and a value was asked for
  type: str
  sample: projects/my-project/secrets/mlflow-db-password/versions/1
"""

import base64
import functools
import hashlib
import hmac
import re
import secrets
import string
from urllib.parse import quote

from ansible_collections.mlplatform.gcp.plugins.module_utils import _policy, _secrets
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import (
    ApiDisabled,
    NotFound,
    PermissionDenied,
    UserError,
)
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import BINDINGS, GCP, LABELS, STATE, Options
from ansible_collections.mlplatform.gcp.plugins.module_utils._plan import HIDDEN, Rules
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import Resource, Result

# Annotations in which the module remembers what it made: the version's number, and a fingerprint of its origin.
MADE_VERSION = "mlplatform-gcp-version"
MADE_OF = "mlplatform-gcp-made-of"
SECRET = Resource(
    kind="secret",
    base=_secrets.BASE,
    path="projects/{project}/secrets/{name}",
    permission="secretmanager.secrets",
    create_id="secretId",
    create_body=lambda names, body: dict({"replication": {"automatic": {}}}, **body),
    version="etag",
    delete_guard="etag",
    rules=Rules(
        immutable={"replication": "Delete the secret (state: absent) and make it again, or use another name."},
        unordered=("replication.userManaged.replicas",),
        hidden=(f"annotations.{MADE_OF}",),
    ),
)
# Seconds within which a run that made a secret has given it its value.
A_MOMENT = 3
NEW = "(new)"
NOT_MADE = "latest"
# https://cloud.google.com/secret-manager/quotas
LARGEST = 65536
PLACEHOLDER = re.compile(r"\{(\w+)(:url)?\}")
SOURCES = ("payload", "payload_file", "generate", "template")

OPTIONS = (
    GCP
    + LABELS
    + STATE
    + Options(
        {
            "name": {"type": "str", "required": True},
            "replication_locations": {"type": "list", "elements": "str"},
            "annotations": {"type": "dict"},
            "payload": {"type": "str", "no_log": True},
            "payload_file": {"type": "path"},
            "generate": {
                "type": "dict",
                "options": {"length": {"type": "int", "default": 32}, "alphabet": {"type": "str"}},
            },
            "template": {"type": "str"},
            "template_secrets": {"type": "dict", "no_log": False},
            "old_versions": {"type": "str", "choices": ["keep", "disable", "destroy"], "default": "keep"},
            "keep_versions": {"type": "int", "default": 2},
            "verify": {"type": "bool", "default": False},
            "adopt": {"type": "bool", "default": False},
            "bindings": {"type": "list", "elements": "dict", "options": BINDINGS},
        },
        mutually_exclusive=(SOURCES,),
        required_together=(("template", "template_secrets"),),
    )
)


def desired(params):
    locations = params["replication_locations"]
    replicas = [{"location": location} for location in locations or []]
    return {
        "replication": {"userManaged": {"replicas": replicas}} if replicas else None,
        "labels": params["labels"],
        "annotations": params["annotations"],
    }


# Where a value comes from. Each kind has a fingerprint that tells, from the annotation alone, whether the value that
# was made is still the one that is wanted (``matches``), makes the value when it is needed (``value``), says whether a
# version that the module has no record of may be kept (``adopts``), whether such a version means the same even if it is
# spelled otherwise (``resembles``), and whether two runs at the same time would make different values (``only_once``).


class Given:
    """A value given as it is."""

    only_once = False

    def __init__(self, value):
        self._value = value

    def value(self):
        return self._value

    def fingerprint(self, salt=None):
        # Slow and salted: whoever may read the secret's annotations shall not be able to try passwords.
        salt = salt or secrets.token_bytes(16)
        digest = hashlib.scrypt(self._value, salt=salt, n=2**14, r=8, p=1, dklen=24)
        return f"value:{base64.b64encode(salt).decode()}:{base64.b64encode(digest).decode()}"

    def matches(self, known):
        kind, _colon, rest = known.partition(":")
        if kind != "value":
            return False
        return hmac.compare_digest(self.fingerprint(base64.b64decode(rest.split(":")[0])), known)

    def adopts(self, task, version):
        """A run that was interrupted may have left the very value; not being allowed to look is no reason to fail."""
        try:
            return _secrets.read_bytes(task, version) == self._value
        except PermissionDenied:
            return False

    resembles = adopts


class Generated:
    """A value made of random characters, once."""

    only_once = True

    def __init__(self, length, alphabet):
        self._length = length
        self._alphabet = alphabet or string.ascii_letters + string.digits

    def value(self):
        return "".join(secrets.choice(self._alphabet) for _character in range(self._length)).encode()

    def fingerprint(self):
        return "generated"

    def matches(self, known):
        return bool(known)

    def adopts(self, task, version):
        return True

    resembles = adopts


class Composed:
    """A template filled with other secrets."""

    only_once = False

    def __init__(self, task, template, sources):
        self._task = task
        self._template = template
        unknown = {name for name, _url in PLACEHOLDER.findall(template)} - set(sources)
        if unknown:
            raise UserError(
                f"The template has placeholders without a secret: {', '.join(sorted(unknown))}.",
                "Name a secret for each in template_secrets.",
            )
        self._versions = {name: self._resolve(source) for name, source in sorted(sources.items())}

    def _resolve(self, source):
        """The exact version, so that its number is part of the fingerprint."""
        version = _secrets.version_name(str(source), lambda: self._task.project)
        if not version.endswith("/latest"):
            return version
        try:
            number = _secrets.read_version(self._task, version)["name"].rsplit("/", 1)[-1]
        except (NotFound, ApiDisabled):
            if not self._task.check_mode:
                raise
            number = NEW  # an earlier task would have made it
        return version[: -len("latest")] + number

    def value(self):
        return self._filled(lambda value: quote(value, safe=""))

    def _filled(self, quoted):
        def fill(match):
            value = self._values[match.group(1)]
            return quoted(value) if match.group(2) else value

        return PLACEHOLDER.sub(fill, self._template).encode()

    @functools.cached_property
    def _values(self):
        return {name: _secrets.read_secret(self._task, version) for name, version in self._versions.items()}

    def fingerprint(self):
        # Versions never change, so their names stand for their values.
        parts = [self._template] + [f"{name}={version}" for name, version in self._versions.items()]
        return "composed:" + hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def matches(self, known):
        return known == self.fingerprint()

    def adopts(self, task, version):
        return Given(self.value()).adopts(task, version)

    def resembles(self, task, version):
        """Whoever wrote an address by hand may not have quoted the password."""
        if any(name.endswith(NEW) for name in self._versions.values()):
            return False
        return self.adopts(task, version) or Given(self._filled(str)).adopts(task, version)


def source_of(task):
    """Where the value comes from, or None when the task only manages the secret itself."""
    params = task.params
    if params["payload"] is not None:
        return Given(params["payload"].encode())
    if params["payload_file"]:
        try:
            with open(params["payload_file"], "rb") as stream:
                return Given(stream.read())
        except OSError as error:
            raise UserError(f"Cannot read payload_file {params['payload_file']}: {error.strerror}.") from error
    if params["generate"] is not None:
        return Generated(params["generate"]["length"], params["generate"]["alphabet"])
    if params["template"] is not None:
        return Composed(task, params["template"], params["template_secrets"])
    return None


class Versions:
    """The versions of one secret."""

    def __init__(self, task, remote):
        self._task = task
        self._remote = remote

    def name(self, number):
        return f"{self._remote.path}/versions/{number}"

    def latest(self):
        """The number of the newest version if it can be used, or None."""
        return self._usable("latest")

    def _usable(self, number):
        try:
            version = _secrets.read_version(self._task, self.name(number))
        except NotFound:
            return None
        return version["name"].rsplit("/", 1)[-1] if version.get("state") == "ENABLED" else None

    def wanted(self, source, annotations, fresh):
        """``(number, recorded)`` of the version to keep, number None when a new one has to be made."""
        number, known = annotations.get(MADE_VERSION), annotations.get(MADE_OF)
        if number and known and source.matches(known):
            if not self._task.params["verify"] or self._usable(number):
                return number, True
            return None, False
        if fresh or (known and not number):
            return None, False
        latest = self.latest()
        if latest is None and source.only_once and not self._task.check_mode:
            # Another run may have made the secret just now, and adds the first version next.
            self._task.client.clock.sleep(A_MOMENT)
            latest = self.latest()
        if latest and self._task.params["adopt"] and not number:
            if not source.resembles(self._task, self.name(latest)):
                self._task.warn(f"{self._remote.title} holds another value than the wanted one, and is left as it is.")
            return latest, True
        if latest and source.adopts(self._task, self.name(latest)):
            return latest, False
        return None, False

    def add(self, value):
        """Make a version and return its number."""
        if not value:
            raise UserError(f"The value for {self._remote.title} is empty.")
        if len(value) > LARGEST:
            raise UserError(f"The value for {self._remote.title} has {len(value)} bytes; {LARGEST} are allowed.")
        body = {"payload": {"data": base64.b64encode(value).decode()}}
        version = self._task.client.post(
            f"{self._remote.url}:addVersion", body, permission="secretmanager.versions.add"
        )
        return version["name"].rsplit("/", 1)[-1]

    def retire(self):
        """Disable or destroy the versions that are too old."""
        verb, keep = self._task.params["old_versions"], max(1, self._task.params["keep_versions"])
        if verb == "keep":
            return
        states = {"disable": ("ENABLED",), "destroy": ("ENABLED", "DISABLED")}[verb]
        query = {"pageSize": 1000, "filter": " OR ".join(f"state:{state}" for state in states)}
        page = self._task.client.get(f"{self._remote.url}/versions", query, permission="secretmanager.versions.list")
        numbers = [
            int(item["name"].rsplit("/", 1)[-1]) for item in page.get("versions") or [] if item["state"] in states
        ]
        for number in sorted(numbers, reverse=True)[keep:]:
            self._task.client.post(
                f"{self._remote.url}/versions/{number}:{verb}", safe=True, permission=f"secretmanager.versions.{verb}"
            )


def give_value(task, remote, resource, source, fresh):
    """Make sure that the secret has the value; return a Result with the version's name."""
    versions = Versions(task, remote)
    annotations = resource.get("annotations") or {}
    number, recorded = versions.wanted(source, annotations, fresh)
    result = Result(extra={"version": versions.name(number or NOT_MADE)})
    if recorded:
        return result
    known = annotations.get(MADE_VERSION)
    result.changed = True
    result.diff = {
        "before": {"version": known, "value": HIDDEN} if known else {},
        "after": {"version": number or NEW, "value": HIDDEN},
        "before_header": f"value of {remote.title}",
        "after_header": f"value of {remote.title}",
    }
    if task.check_mode:
        return result
    made = number is None
    if made:
        number = versions.add(source.value())
        result.extra["version"] = versions.name(number)
    record = {"annotations": {MADE_VERSION: number, MADE_OF: source.fingerprint()}}
    result.resource = remote.ensure(record).resource
    if made:
        versions.retire()
    return result


def run(task):
    params = task.params
    remote = task.remote(SECRET, name=params["name"])
    if params["state"] == "absent":
        result = remote.ensure_absent()
        result.extra["secret"] = remote.path
        return result
    source = source_of(task)
    result = remote.ensure(desired(params))
    result.extra["secret"] = remote.path
    if source:
        created = result.changed and result.diff["before"] == {}
        value = give_value(task, remote, result.resource, source, fresh=created)
        result.resource = value.resource or result.resource
        result.add(value)
    if params["bindings"]:
        full = f"//secretmanager.googleapis.com/{remote.path}"
        result.add(_policy.ensure(task, full, params["bindings"]))
    # Results end up in logs, where even a slow hash of a weak password has no business.
    annotations = result.resource.get("annotations") or {}
    kept = {name: value for name, value in annotations.items() if name != MADE_OF}
    result.resource = dict(result.resource, annotations=kept) if annotations else result.resource
    return result


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
