# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Build and push an image with a container engine (Docker or Podman) of the machine that the module runs on."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time

from ansible_collections.mlplatform.gcp.plugins.module_utils import _redaction
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import OperationFailed, OperationTimeout, UserError

_LINES = 30
_KEEP_SECONDS = 15


class ContainerEngine:
    """``docker`` or ``podman``: both accept the same commands.

    The login is kept in a private folder until the ``with`` block ends: the user's own logins do not change, and the
    token never appears on a command line. ``keep`` is called again and again while a command runs.
    """

    def __init__(self, name, timeout, keep=lambda: None):
        self.name = name
        self._keep = keep
        self.path = shutil.which(name)
        self.timeout = timeout
        if not self.path:
            raise UserError(
                f"The container engine {name} is not installed on this machine.",
                "Install it, or use Cloud Build (engine: cloud_build).",
            )

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="image-build-")  # mode 0700
        self._environment = dict(
            os.environ,
            DOCKER_CONFIG=self._folder.name,
            REGISTRY_AUTH_FILE=os.path.join(self._folder.name, "auth.json"),
        )
        return self

    def __exit__(self, *_exception):
        self._folder.cleanup()

    def build(self, image, context, dockerfile, build_args):
        if any(os.path.islink(os.path.join(context, name)) for name in os.listdir(context)):
            # Engines do not follow links that lead out of the context.
            copy = os.path.join(self._folder.name, "context")
            context = shutil.copytree(context, copy, ignore_dangling_symlinks=True)
        arguments = ["build", "--tag", image, "--file", os.path.join(context, dockerfile)]
        for name, value in sorted(build_args.items()):
            arguments += ["--build-arg", f"{name}={value}"]
        self._run([*arguments, context], f"building {image}")

    def push(self, image, token):
        """``token`` is an OAuth 2.0 access token, see
        https://cloud.google.com/artifact-registry/docs/docker/authentication#token
        """
        registry = image.split("/", 1)[0]
        login = ["login", "--username", "oauth2accesstoken", "--password-stdin", f"https://{registry}"]
        self._run(login, f"logging in to {registry}", stdin=token)
        self._run(["push", image], f"pushing {image}")

    def _run(self, arguments, what, stdin=""):
        """Run the engine. Errors: :class:`OperationFailed` with the last lines of its output."""
        with subprocess.Popen(
            [self.path, *arguments],
            stdin=subprocess.PIPE,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            output = self._output(process, stdin, what)
        if process.returncode:
            lines = _redaction.text(output.rstrip()).splitlines()[-_LINES:]
            raise OperationFailed(
                f"{what} with {self.name} failed (exit status {process.returncode})",
                "\n".join(["The end of its output:", *lines]),
            )

    def _output(self, process, stdin, what):
        """Return the output of a process when it ends. Errors: :class:`OperationTimeout`."""
        deadline = time.monotonic() + self.timeout
        try:
            while (left := deadline - time.monotonic()) > 0:
                try:
                    return process.communicate(stdin, timeout=min(left, _KEEP_SECONDS))[0]
                except subprocess.TimeoutExpired:
                    stdin = None  # is sent once
                    self._keep()
            raise OperationTimeout(
                f"{what} with {self.name}: not finished after {self.timeout} s",
                "Set a longer timeout, or run the build by hand to see which step is slow.",
            )
        except BaseException:
            process.kill()
            raise
