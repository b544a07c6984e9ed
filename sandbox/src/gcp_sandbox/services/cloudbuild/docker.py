# SPDX-License-Identifier: Apache-2.0
"""The command line of the builder gcr.io/cloud-builders/docker, as far as image builds use it."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gcp_sandbox.backends.images import BuildError, Image, ImageStore, Reference

#: Names that a build step may give this builder, without a tag or digest.
BUILDERS = {"gcr.io/cloud-builders/docker", "docker", "docker.io/library/docker", "docker.io/docker"}

# Options of `docker build`, and whether a value follows. Those that are not needed here are accepted without effect.
_TAKES_VALUE = {
    "--tag": True, "--file": True, "--build-arg": True, "--target": True, "--label": True, "--cache-from": True,
    "--cache-to": True, "--network": True, "--platform": True, "--progress": True, "--output": True, "--memory": True,
    "--shm-size": True, "--ulimit": True, "--add-host": True, "--iidfile": True, "--isolation": True,
    "--no-cache": False, "--pull": False, "--quiet": False, "--squash": False, "--rm": False, "--force-rm": False,
    "--compress": False, "--load": False, "--push": False, "--provenance": True, "--sbom": True,
}  # fmt: skip
_SHORT = {"-t": "--tag", "-f": "--file", "-q": "--quiet", "-m": "--memory", "-o": "--output"}


@dataclass
class BuildCommand:
    """`docker build`: `context` is relative to the step's folder, `tags` are references as written."""

    context: str
    tags: list[str] = field(default_factory=list)
    file: str = ""
    args: dict[str, str] = field(default_factory=dict)
    target: str = ""
    push: bool = False

    @classmethod
    def parse(cls, words: list[str], environment: Mapping[str, str]) -> BuildCommand:
        """From the arguments after `build`. `--build-arg NAME` without a value takes it from the environment."""
        found, rest = cls(""), list(words)
        contexts: list[str] = []
        while rest:
            word = rest.pop(0)
            if not word.startswith("-") or word == "-":
                contexts.append(word)
                continue
            option, equals, value = word.partition("=")
            if not word.startswith("--") and len(option) > 2:  # -tNAME
                option, equals, value = word[:2], "=", word[2:].removeprefix("=")
            option = _SHORT.get(option, option)
            if option not in _TAKES_VALUE:
                raise BuildError(f"unknown flag: {option}\nSee 'docker build --help'.")
            if _TAKES_VALUE[option] and not equals:
                if not rest:
                    raise BuildError(f"flag needs an argument: {option}\nSee 'docker build --help'.")
                value = rest.pop(0)
            found._set(option, value, environment)
        if len(contexts) != 1:
            raise BuildError("\"docker build\" requires exactly 1 argument.\nSee 'docker build --help'.")
        found.context = contexts[0]
        if "://" in found.context or found.context == "-":
            raise BuildError(f"the sandbox builds from folders of the source, not from {found.context}")
        return found

    def _set(self, option: str, value: str, environment: Mapping[str, str]) -> None:
        if option == "--tag":
            self.tags.append(value)
        elif option == "--file":
            self.file = value
        elif option == "--target":
            self.target = value
        elif option == "--push":
            self.push = value != "false"
        elif option == "--build-arg":
            name, equals, text = value.partition("=")
            if equals or name in environment:
                self.args[name] = text if equals else environment[name]


class Docker:
    """The Docker daemon of one build: images by the references that the build gave them.

    :param workspace: nothing outside of this folder is read.
    :param pull: the image of a reference, None when there is none; raises BuildError when it may not be read.
    :param push: called with (reference, digest) for an image that is pushed; raises ApiError.
    """

    def __init__(
        self,
        images: ImageStore,
        workspace: Path,
        log: Callable[[str], None],
        cancelled: Callable[[], bool],
        pull: Callable[[str], Image | None],
        push: Callable[[Reference, str], None],
    ) -> None:
        self.images, self.workspace, self.log, self.cancelled = images, workspace, log, cancelled
        self._pull, self._push = pull, push
        self.local: dict[str, str] = {}

    def run(self, words: list[str], folder: Path, environment: Mapping[str, str]) -> None:
        """Run `docker WORDS` in `folder`. BuildError when it fails or when the sandbox does not know the command."""
        match words:
            case ["build", *rest] | ["image", "build", *rest] | ["buildx", "build", *rest]:
                self._build(BuildCommand.parse(rest, environment), folder)
            case ["tag", source, target]:
                self.local[full(target)] = self._find(source)
            case ["push", *options, reference] if all(option.startswith("-") for option in options):
                self.push(reference)
            case ["pull", *options, reference] if all(option.startswith("-") for option in options):
                image = self._pull(reference)
                if image is None:
                    raise BuildError(f"Error response from daemon: manifest for {reference} not found")
                self.local[full(reference)] = image.digest
            case _:
                raise BuildError(f"the sandbox does not implement `docker {' '.join(words)}`")

    def push(self, reference: str) -> tuple[Reference, str]:
        """Push an image and return (reference, digest).

        LookupError when the build has no such image, BuildError for a registry that is not Artifact Registry, ApiError
        when that refuses.
        """
        name = full(reference)
        digest = self.local.get(name)
        if digest is None:
            raise LookupError(reference)
        parsed = Reference.parse(name)
        if parsed is None:
            raise BuildError(
                f"{reference} is not in Artifact Registry: LOCATION-docker.pkg.dev/PROJECT/REPOSITORY/IMAGE"
            )
        self.log(f"Pushing {reference}")
        self.log(f"The push refers to repository [{parsed.name}]")
        self._push(parsed, digest)
        self.log(f"{parsed.tag}: digest: {digest}")
        return parsed, digest

    def _build(self, command: BuildCommand, folder: Path) -> None:
        context = (folder / command.context).resolve()
        if not context.is_dir() or not context.is_relative_to(self.workspace.resolve()):
            raise BuildError(f"unable to prepare context: path {command.context!r} not found")
        # -f is relative to the folder that docker runs in, not to the context.
        file = posixpath.relpath((folder / (command.file or context / "Dockerfile")).resolve(), context)
        if file.startswith("../"):
            raise BuildError(
                f"unable to prepare context: the Dockerfile ({command.file}) must be within the build context"
            )
        image = self.images.build(
            context, file, command.args, self.log,
            target=command.target, cancelled=self.cancelled, resolve=self._base,
        )  # fmt: skip
        for tag in command.tags:
            self.local[full(tag)] = image.digest
            self.log(f"Successfully tagged {full(tag)}")
        if command.push:
            for tag in command.tags:
                self.push(tag)

    def _base(self, reference: str) -> Image | None:
        """What FROM means: an image that an earlier step built, or one to pull."""
        digest = self.local.get(full(reference))
        return self.images.get(digest) if digest else self._pull(reference)

    def _find(self, reference: str) -> str:
        digest = self.local.get(full(reference))
        if digest is None:
            raise BuildError(f"Error response from daemon: No such image: {full(reference)}")
        return digest


def full(reference: str) -> str:
    """Return a reference with the tag that Docker takes when there is none."""
    last = reference.rpartition("/")[2]
    return reference if ":" in last or "@" in last else f"{reference}:latest"
