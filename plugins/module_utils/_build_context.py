# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The build context of an image: a folder with a Dockerfile, packed for an upload."""

from __future__ import annotations

import fnmatch
import gzip
import hashlib
import io
import json
import os
import tarfile

from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import UserError


def refuse_missing(folder, dockerfile):
    """Raise :class:`UserError` when the folder or its Dockerfile does not exist."""
    if not os.path.isdir(folder):
        raise UserError(f"The build context {folder} is not a folder.", "Set context to the folder of the Dockerfile.")
    if not os.path.isfile(os.path.join(folder, dockerfile)):
        raise UserError(
            f"The build context {folder} has no {dockerfile}.", "Set dockerfile to its path inside context."
        )


def pack(folder, dockerfile):
    """Return the folder as a gzipped tar with bytes that depend on names, modes and contents only.

    Errors: those of :func:`refuse_missing`.
    """
    refuse_missing(folder, dockerfile)
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name in sorted(_files(folder, _ignored(folder))):
            path = os.path.join(folder, name)
            info = tarfile.TarInfo(name)
            info.size = os.path.getsize(path)
            info.mode = 0o755 if os.access(path, os.X_OK) else 0o644
            with open(path, "rb") as file:
                tar.addfile(info, file)
    return buffer.getvalue()


def content_tag(folder, dockerfile, build_args):
    """Return 12 hexadecimal digits that name what an image is built from; empty where the folder does not exist.

    Other files directly in the folder, or other arguments, give another value. Folders inside it are not read.
    """
    if not os.path.isdir(folder):
        return ""
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    names = [name for name in names if os.path.isfile(os.path.join(folder, name))]
    parts = [dockerfile, json.dumps(build_args, sort_keys=True), *names]
    for name in names:
        with open(os.path.join(folder, name), encoding="utf-8", errors="surrogateescape") as file:
            parts.append(file.read().rstrip())
    digests = [_sha256(part) for part in parts]
    return _sha256("".join(digests))[:12]


def _sha256(text):
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _ignored(folder):
    """Return the patterns of ``.dockerignore``. Docker applies them as well; here they keep the upload small."""
    path = os.path.join(folder, ".dockerignore")
    if not os.path.isfile(path):
        return []
    with open(path, encoding="utf-8") as file:
        lines = [line.strip().strip("/") for line in file]
    # Exceptions (``!pattern``) are left to Docker: then everything is sent.
    patterns = [line for line in lines if line and not line.startswith("#")]
    return [] if any(line.startswith("!") for line in patterns) else patterns


def _files(folder, patterns):
    """Yield the paths of the regular files below a folder, relative to it, without those that match a pattern."""
    for place, folders, names in os.walk(folder):
        inside = os.path.relpath(place, folder)
        folders[:] = [name for name in folders if not _matches(os.path.normpath(os.path.join(inside, name)), patterns)]
        for name in names:
            path = os.path.normpath(os.path.join(inside, name))
            if not _matches(path, patterns) and os.path.isfile(os.path.join(folder, path)):
                yield path


def _matches(path, patterns):
    """Return whether a path matches one of the patterns."""
    return any(fnmatch.fnmatchcase(path, pattern.removeprefix("**/")) for pattern in patterns)
