# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sources of a secret's value: a given value, a generated value, and a template of other secrets.

Each source has a fingerprint that is kept in an annotation of the secret. With it the module decides without reading a
value whether the version that it made is still the wanted one. A source has these methods:

value()                   the value as bytes
fingerprint()             what identifies the value, without revealing it
matches(known)            whether a kept fingerprint is the one of this source
adopts(task, version)     whether a version that the module has no record of can be kept
resembles(task, version)  whether such a version means the same, although it may be encoded differently
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import re
import secrets
import string
from urllib.parse import quote

from ansible_collections.mlplatform.gcp.plugins.module_utils import _secrets
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import (
    ApiDisabled,
    NotFound,
    PermissionDenied,
    UserError,
)

# Stands for the number of a version that does not exist yet.
NEW = "(new)"
_PLACEHOLDER = re.compile(r"\{(\w+)(:url)?\}")


class Given:
    """A value that the task sets."""

    def __init__(self, value):
        self._value = value

    def value(self):
        return self._value

    def fingerprint(self, salt=None):
        # Slow and salted: a reader of the secret's annotations must not be able to guess the value by brute force.
        salt = salt or secrets.token_bytes(16)
        digest = hashlib.scrypt(self._value, salt=salt, n=2**14, r=8, p=1, dklen=24)
        return f"value:{base64.b64encode(salt).decode()}:{base64.b64encode(digest).decode()}"

    def matches(self, known):
        kind, _colon, rest = known.partition(":")
        if kind != "value":
            return False
        return hmac.compare_digest(self.fingerprint(base64.b64decode(rest.split(":")[0])), known)

    def adopts(self, task, version):
        """Return whether the version has the value, as an interrupted run leaves it.

        Without the permission to read the version, it does not count as equal.
        """
        try:
            return _secrets.read_bytes(task, version) == self._value
        except PermissionDenied:
            return False

    resembles = adopts


class Generated:
    """A value of random characters, or of random bytes in Base64, generated once."""

    def __init__(self, length, alphabet, encoding=None):
        self._length, self._encoding = length, encoding
        self._alphabet = alphabet or string.ascii_letters + string.digits

    def value(self):
        if self._encoding == "base64url":
            return base64.urlsafe_b64encode(secrets.token_bytes(self._length))
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

    def __init__(self, task, template, sources):
        self._task = task
        self._template = template
        unknown = {name for name, _url in _PLACEHOLDER.findall(template)} - set(sources)
        if unknown:
            raise UserError(
                f"The template has placeholders without a secret: {', '.join(sorted(unknown))}.",
                "Name a secret for each in template_secrets.",
            )
        self._versions = {name: self._resolve(source) for name, source in sorted(sources.items())}

    def _resolve(self, source):
        """Return the name of the exact version, so that its number is part of the fingerprint."""
        version = _secrets.version_name(str(source), lambda: self._task.project)
        if not version.endswith("/latest"):
            return version
        try:
            number = _secrets.read_version(self._task, version)["name"].rsplit("/", 1)[-1]
        except (NotFound, ApiDisabled):
            if not self._task.check_mode:
                raise
            number = NEW  # an earlier task would have created it
        return version[: -len("latest")] + number

    def value(self):
        return self._filled(lambda value: quote(value, safe=""))

    def _filled(self, quoted):
        def fill(match):
            value = self._values[match.group(1)]
            return quoted(value) if match.group(2) else value

        return _PLACEHOLDER.sub(fill, self._template).encode()

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
        """Return whether the version has the value, or the value without its URL quoting, as written by hand."""
        if any(name.endswith(NEW) for name in self._versions.values()):
            return False
        return self.adopts(task, version) or Given(self._filled(str)).adopts(task, version)


def source_of(task):
    """Return the source of the value, or None when the task manages the secret only.

    Errors: :class:`UserError` for a file that cannot be read, and for a placeholder without a secret.
    """
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
        return Generated(**params["generate"])
    if params["template"] is not None:
        return Composed(task, params["template"], params["template_secrets"] or {})
    return None
