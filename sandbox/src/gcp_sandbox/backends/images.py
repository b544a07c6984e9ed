# SPDX-License-Identifier: Apache-2.0
"""Container images without containers: what an image's build context says, as a folder and a virtual environment.

A Dockerfile based on a Python image is interpreted: COPY fills a folder that stands for the container's root, `pip
install` fills a virtual environment (made by uv, shared by all images that install the same), the rest becomes the
image's configuration. RUN lines that do anything else are not executed and the build's log says so. An image's process
then runs with that environment's Python, and paths in its command that exist in the image's folder are read there.

Images are addressed by the digest of all they consist of; references (REGION-docker.pkg.dev/P/R/IMAGE:TAG) point at
digests. Both are rows in the store, written after the files they name are complete. Environments are built where they
stay (their scripts hold their path) under a lock, and count once a marker is written, so that a crash or a second
process leaves nothing half made in use.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import posixpath
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from uv import find_uv_bin

from gcp_sandbox.backends import dockerfile
from gcp_sandbox.backends.cache import cache, locked
from gcp_sandbox.backends.dockerfile import BuildError, Ignore, Instruction
from gcp_sandbox.config import remove_folder
from gcp_sandbox.gateway.times import timestamp

if TYPE_CHECKING:
    from gcp_sandbox.config import Settings
    from gcp_sandbox.gateway.identity import Principal
    from gcp_sandbox.store import Store

__all__ = ["BuildError", "Image", "ImageStore", "Reference", "Version"]

log = logging.getLogger(__name__)

IMAGE = "image"  # digest -> configuration and what the image is made of
VERSION = "image.version"  # REPOSITORY/NAME@sha256:... -> when it was pushed; parent: REPOSITORY/NAME
TAG = "image.tag"  # REPOSITORY/NAME:TAG -> digest; parent: REPOSITORY/NAME

#: What a base image sets (docker-library/python, the Dockerfiles of its releases).
BASE_ENVIRONMENT = {"LANG": "C.UTF-8"}
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Base images that are Python on something: python:3.11-slim, docker.io/library/python:3, mirror.gcr.io/library/python
_PYTHON_BASE = re.compile(r"(?:[\w.-]+/)*python(?::(?P<tag>[\w.-]+))?(?:@sha256:[0-9a-f]{64})?")

# pip's options that have no meaning for uv or say what it does anyway: name -> whether a value follows.
_PIP_DROPPED = {
    "--no-cache-dir": False, "--no-cache": False, "--disable-pip-version-check": False, "--root-user-action": True,
    "--no-input": False, "-q": False, "--quiet": False, "-v": False, "--verbose": False, "--progress-bar": True,
    "--user": False, "--ignore-installed": False, "-I": False, "--break-system-packages": False, "--compile": False,
    "--prefer-binary": False, "--default-timeout": True, "--timeout": True, "--retries": True, "--no-compile": False,
    "--no-warn-script-location": False, "--system": False, "--use-pep517": False,
}  # fmt: skip
_PIP_FILES = {
    "-r": "--requirement",
    "--requirement": "--requirement",
    "-c": "--constraint",
    "--constraint": "--constraint",
}
_PIP_VALUES = {
    "-i": "--index-url", "--index-url": "--index-url", "--extra-index-url": "--extra-index-url",
    "-f": "--find-links", "--find-links": "--find-links", "--no-binary": "--no-binary",
    "--only-binary": "--only-binary", "--trusted-host": "--allow-insecure-host",
}  # fmt: skip
_PIP_FLAGS = {
    "-U": "--upgrade", "--upgrade": "--upgrade", "--no-deps": "--no-deps", "--pre": "--prerelease=allow",
    "--require-hashes": "--require-hashes", "--no-index": "--no-index", "--force-reinstall": "--reinstall",
    "--no-build-isolation": "--no-build-isolation",
}  # fmt: skip

#: Called with each line of a build's log.
Log = Callable[[str], None]


@dataclass(frozen=True)
class Reference:
    """A name for an image: `repository` ("europe-west1-docker.pkg.dev/p/r"), `image` ("mlflow", may have slashes), and
    a tag or a digest."""

    repository: str
    image: str
    tag: str = ""
    digest: str = ""

    _PATTERN = re.compile(
        r"(?P<repository>[a-z0-9-]+-docker\.pkg\.dev/(?:[a-z0-9-]+(?:\.[a-z0-9-]+)+/)?[a-z0-9-]+/[a-z0-9-]+)"
        r"/(?P<image>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
        r"(?::(?P<tag>[\w][\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
    )

    @classmethod
    def parse(cls, text: str) -> Reference | None:
        """Return the parts of an Artifact Registry reference, None for others. Without tag and digest: latest."""
        found = cls._PATTERN.fullmatch(text)
        if not found:
            return None
        digest = found["digest"] or ""
        return cls(found["repository"], found["image"], found["tag"] or ("" if digest else "latest"), digest)

    @property
    def name(self) -> str:
        return f"{self.repository}/{self.image}"

    @property
    def location(self) -> str:
        return self.repository.split("-docker.pkg.dev/")[0]

    @property
    def project(self) -> str:
        """Id of the project. One of a domain is example.com:p, and example.com/p in a reference."""
        return ":".join(self.repository.split("/")[1:-1])

    @property
    def resource(self) -> str:
        """The repository as Artifact Registry names it: projects/P/locations/L/repositories/R."""
        return f"projects/{self.project}/locations/{self.location}/repositories/{self.repository.split('/')[-1]}"

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


@dataclass(frozen=True)
class Version:
    """A pushed image: its digest, its tags (sorted), size in bytes, and times in RFC 3339."""

    digest: str
    tags: list[str]
    uploaded: str
    updated: str
    built: str
    size: int


@dataclass(frozen=True)
class Image:
    """A built image.

    `root` stands for the container's file system as far as the build filled it; `venv` is its Python. `config` has
    Docker's fields (Entrypoint, Cmd, Env as a dict, WorkingDir, ExposedPorts as ["8080/tcp"], User, Labels).
    """

    digest: str
    root: Path
    venv: Path
    config: Mapping[str, Any]
    size: int = 0

    def argv(self, command: Sequence[str] | None = None, args: Sequence[str] | None = None) -> list[str]:
        """What to execute: `command` replaces the entrypoint (and, alone, drops the default arguments), `args` the
        default arguments, as in Cloud Run and Kubernetes. ValueError when nothing is left to execute."""
        head = list(command) if command else list(self.config.get("Entrypoint") or [])
        tail = list(args) if args else [] if command else list(self.config.get("Cmd") or [])
        if not head + tail:
            raise ValueError("the image has no entrypoint and no command was given")
        program, *rest = [self.localize(word) for word in head + tail]
        if "/" not in program:
            program = shutil.which(program, path=self.env["PATH"]) or program
        elif not os.path.isabs(program):
            program = str(self.workdir / program)
        return [program, *rest]

    @property
    def env(self) -> dict[str, str]:
        """The variables that the image sets, PATH with its own programs first."""
        declared = {name: self.localize(value) for name, value in self.config.get("Env", {}).items()}
        path = declared.pop("PATH", SYSTEM_PATH)
        return {**declared, "PATH": f"{self.venv / 'bin'}:{path}", "VIRTUAL_ENV": str(self.venv)}

    @property
    def workdir(self) -> Path:
        """Where its process starts."""
        return _inside(self.root, self.config.get("WorkingDir") or "/")

    @property
    def exposed_port(self) -> int | None:
        """The first port that EXPOSE names."""
        ports = self.config.get("ExposedPorts") or []
        return int(ports[0].partition("/")[0]) if ports else None

    def localize(self, text: str) -> str:
        """`text` with absolute paths that exist in the image replaced by where they are here."""

        def here(found: re.Match[str]) -> str:
            path = _inside(self.root, found[0])
            return str(path) if path.exists() and path != self.root else found[0]

        return re.sub(r"(?<![\w./-])/(?!/)[\w.@+/-]+", here, text)


class ImagePusher(Protocol):
    """A port (`gateway.ports`): pushes images to a registry."""

    def push(self, caller: Principal, reference: Reference, digest: str) -> None:
        """Point a reference at an image; ApiError where the caller may not upload to the repository."""


class Host(Protocol):
    """The parts of the sandbox that `ImageStore` uses."""

    settings: Settings
    store: Store


class ImageStore:
    """All images of a sandbox, and the references that point at them."""

    def __init__(self, sandbox: Host) -> None:
        self._store = sandbox.store
        self._folder = sandbox.settings.state / "images"
        #: Environments outlive a sandbox: making MLflow's takes 20 s, and all sandboxes of a user may share it.
        self.environments = cache() / "environments"
        self._builtin = Builtin(self._folder / "builtin")

    def start(self) -> None:
        """Sweep what a crash left behind."""
        for folder in (self._folder, self._folder / "roots"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for scratch in (self._folder / "roots").glob(".*"):
            shutil.rmtree(scratch, ignore_errors=True)  # a leftover only takes space

    def stop(self) -> None:
        """Nothing runs here beyond a build, which is its operation's."""

    # --- building

    def build(
        self,
        context: Path,
        dockerfile_path: str = "Dockerfile",
        build_args: Mapping[str, str] | None = None,
        log: Log = lambda line: None,
        *,
        target: str = "",
        cancelled: Callable[[], bool] = lambda: False,
        resolve: Callable[[str], Image | None] | None = None,
    ) -> Image:
        """Build the image of a context: a folder, or a tar file of one.

        :param dockerfile_path: relative to the context.
        :param target: the stage to end with, by its name; the last one when empty.
        :param cancelled: asked while something is installed; the build then ends with BuildError.
        :param resolve: finds the image that FROM names; `self.resolve` by default.
        :raises BuildError: after its message was logged.
        """
        roots = self._folder / "roots"
        roots.mkdir(mode=0o700, parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".build-", dir=roots))
        try:
            if context.is_file():
                context = extract(context, scratch / "context")
            build = _Build(self, context, scratch, dict(build_args or {}), log, cancelled, resolve or self.resolve)
            return self._add(build.run(dockerfile_path, target), log)
        except BuildError as error:
            log(f"ERROR: {error}")
            raise
        finally:
            # The build's own result counts; the next start removes leftovers.
            shutil.rmtree(scratch, ignore_errors=True)

    def _add(self, stage: _Stage, log: Log) -> Image:
        """Keep a finished stage as an image, under the digest of its content."""
        files = manifest(stage.root)
        recipe = {"config": stage.config(), "environment": stage.environment.document(), "files": files}
        digest = "sha256:" + hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
        target = self._folder / "roots" / digest.removeprefix("sha256:")
        # Two builds of one context end in the same folder with the same content: the first one to arrive stays.
        try:
            stage.root.rename(target)
        except OSError:
            if not target.is_dir():
                raise
        size = sum(item["size"] for item in files.values()) + stage.environment.size
        document = {
            "config": recipe["config"],
            "environment": recipe["environment"],
            "size": size,
            "created": timestamp(),
        }
        with self._store.transaction():
            if self._store.get(IMAGE, digest) is None:
                self._store.put(IMAGE, digest, document)
        log(f"Successfully built {digest.removeprefix('sha256:')[:12]}")
        return self._load(digest, document)

    def _load(self, digest: str, document: Mapping[str, Any]) -> Image:
        environment = Environment(**document["environment"])
        if not environment.exists(self.environments):  # the cache was emptied
            environment.ensure(self.environments, log.info, lambda: False, {})
        return Image(
            digest=digest,
            root=self._folder / "roots" / digest.removeprefix("sha256:"),
            venv=self.environments / environment.key,
            config=document["config"],
            size=document["size"],
        )

    # --- references

    def get(self, digest: str) -> Image | None:
        """Return the image with this digest ("sha256:...")."""
        document = self._store.get(IMAGE, digest)
        return self._load(digest, document) if document else None

    def recipe(self, digest: str) -> dict[str, Any] | None:
        """Return the parts of an image's environment, for an image that is built on it."""
        document = self._store.get(IMAGE, digest)
        return document["environment"] if document else None

    def resolve(self, text: str) -> Image | None:
        """Return the image that a reference points at now, None when there is none."""
        if builtin := self._builtin.get(text):
            return builtin
        reference = Reference.parse(text)
        if reference is None:
            return None
        if reference.digest:
            pushed = self._store.get(VERSION, f"{reference.name}@{reference.digest}")
            return self.get(reference.digest) if pushed else None
        tag = self._store.get(TAG, f"{reference.name}:{reference.tag}")
        return self.get(tag["digest"]) if tag else None

    def tag(self, text: str, digest: str) -> None:
        """Push: make the reference point at an image. ValueError for a bad reference, LookupError for no such image."""
        reference = Reference.parse(text)
        if reference is None or (reference.digest and reference.digest != digest):
            raise ValueError(f"invalid reference: {text}")
        if self._store.get(IMAGE, digest) is None:
            raise LookupError(digest)
        now = timestamp()
        with self._store.transaction():
            key = f"{reference.name}@{digest}"
            version = self._store.get(VERSION, key) or {"uploaded": now}
            self._store.put(VERSION, key, {**version, "updated": now}, parent=reference.name)
            if reference.tag:
                self._store.put(
                    TAG, f"{reference.name}:{reference.tag}", {"digest": digest, "updated": now}, parent=reference.name
                )

    def untag(self, reference: Reference) -> bool:
        """Remove a tag; False when there was none."""
        return self._store.delete(TAG, f"{reference.name}:{reference.tag}")

    def names(self, repository: str) -> list[str]:
        """Return the names of the images in "LOCATION-docker.pkg.dev/P/R", sorted."""
        rows = self._store.list(VERSION, prefix=f"{repository}/")
        return sorted({name.removeprefix(f"{repository}/").partition("@")[0] for name, _ in rows})

    def versions(self, name: str) -> list[Version]:
        """Return the versions of "LOCATION-docker.pkg.dev/P/R/IMAGE", by digest."""
        tags: dict[str, list[str]] = {}
        for tag, digest in self.tags(name):
            tags.setdefault(digest, []).append(tag)
        found = []
        for key, row in self._store.list(VERSION, parent=name):
            digest = key.partition("@")[2]
            document = self._store.get(IMAGE, digest) or {}
            found.append(
                Version(
                    digest=digest,
                    tags=tags.get(digest, []),
                    uploaded=row["uploaded"],
                    updated=row["updated"],
                    built=document.get("created", row["uploaded"]),
                    size=document.get("size", 0),
                )
            )
        return found

    def tags(self, name: str) -> list[tuple[str, str]]:
        """Return (tag, digest) of an image, by tag."""
        return [(key.removeprefix(f"{name}:"), row["digest"]) for key, row in self._store.list(TAG, parent=name)]

    def delete(self, name: str, digest: str) -> bool:
        """Remove a version and the tags that point at it. A revision that runs it keeps running: files stay."""
        with self._store.transaction():
            for tag, target in self.tags(name):
                if target == digest:
                    self._store.delete(TAG, f"{name}:{tag}")
            return self._store.delete(VERSION, f"{name}@{digest}")


# --- the environment --------------------------------------------------------------------------------------------------


@dataclass
class Environment:
    """A virtual environment by what is installed into it.

    `python` is "3.11"; each step has the arguments for `uv pip install`, the contents of the files that they name as
    {placeholder: text}, and a digest of a local project that they install.
    """

    python: str
    steps: list[dict[str, Any]] = field(default_factory=list)
    size: int = 0

    @property
    def key(self) -> str:
        return hashlib.sha256(json.dumps(self.document(), sort_keys=True).encode()).hexdigest()[:32]

    def document(self) -> dict[str, Any]:
        return {"python": self.python, "steps": self.steps}

    def exists(self, folder: Path) -> bool:
        return (folder / self.key / ".complete").exists()

    def ensure(self, folder: Path, log: Log, cancelled: Callable[[], bool], projects: Mapping[str, Path]) -> None:
        """Make it at folder/<key> unless it exists. One process at a time; the others wait and then use it."""
        target = folder / self.key
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(folder / f"{self.key}.lock"):
            marker = target / ".complete"
            if marker.exists():
                log(f" ---> Using cached environment {self.key[:12]}")
            else:
                remove_folder(target)
                self._make(target, log, cancelled, projects)
                size = sum(f.stat().st_size for f in target.rglob("*") if f.is_file() and not f.is_symlink())
                marker.write_text(str(size))
            self.size = int(marker.read_text())

    def _make(self, target: Path, log: Log, cancelled: Callable[[], bool], projects: Mapping[str, Path]) -> None:
        # With the machine's own certificates: a company's proxy may have an authority of its own.
        uv = [find_uv_bin(), "--no-progress", "--color=never", "--system-certs"]
        run([*uv, "venv", "--quiet", "--python", interpreter(self.python)[0], str(target)], log, cancelled)
        for step in self.steps:
            log(f"Running: pip install {step['shown']}")
            with tempfile.TemporaryDirectory(prefix="requirements-") as scratch:
                places = {**projects}
                for number, (placeholder, text) in enumerate(step["files"].items()):
                    file = Path(scratch, f"{number}.txt")
                    file.write_text(text)
                    places[placeholder] = file
                args = [str(places.get(arg, arg)) for arg in step["args"]]
                python = str(target / "bin" / "python")
                status = run([*uv, "pip", "install", "--compile-bytecode", "--python", python, *args], log, cancelled)
            if status:
                raise BuildError(
                    f"The command '/bin/sh -c pip install {step['shown']}' returned a non-zero code: {status}"
                )


def interpreter(version: str) -> tuple[str, bool]:
    """Return (path of a Python for "3.11", whether it is that version); this one where the machine has none."""
    own = getattr(sys, "_base_executable", sys.executable)
    if not version or version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return own, True
    found = subprocess.run(
        [find_uv_bin(), "python", "find", "--system", "--no-python-downloads", version],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    path = found.stdout.strip()
    return (path, True) if found.returncode == 0 and path else (own, False)


def run(argv: Sequence[str], log: Log, cancelled: Callable[[], bool]) -> int:
    """Run a program of the build, its output line by line in the log; its exit status."""
    # The environment of the sandbox must not steer the build: another environment, or no bytecode.
    unwanted = {"VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONHOME", "CONDA_PREFIX"}
    environ = {name: value for name, value in os.environ.items() if name not in unwanted}
    process = subprocess.Popen(
        argv, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", start_new_session=True,
    )  # fmt: skip
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            if cancelled():
                with contextlib.suppress(ProcessLookupError):  # it has just ended
                    os.killpg(process.pid, signal.SIGKILL)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    assert process.stdout
    for line in process.stdout:
        log(line.rstrip("\n"))
    status = process.wait()
    over.set()
    watcher.join()
    if cancelled():
        raise BuildError("the build was cancelled")
    return status


# --- one build --------------------------------------------------------------------------------------------------------


@dataclass
class _Stage:
    """The image as it is after some of the instructions of a FROM."""

    root: Path
    environment: Environment
    env: dict[str, str] = field(default_factory=dict)
    args: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    entrypoint: list[str] = field(default_factory=list)
    cmd: list[str] = field(default_factory=list)
    ports: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    user: str = ""
    #: Placeholder of a local project that is installed -> its folder.
    projects: dict[str, Path] = field(default_factory=dict)

    def variables(self) -> dict[str, str]:
        """What $NAME means: ENV wins over ARG."""
        return {"PATH": SYSTEM_PATH, **self.args, **self.env}

    def path(self, path: str) -> Path:
        """Return where a path in the container, relative to the working directory, is on this machine."""
        return _inside(self.root, posixpath.join(self.workdir, path))

    def config(self) -> dict[str, Any]:
        return {
            "Entrypoint": self.entrypoint,
            "Cmd": self.cmd,
            "Env": self.env,
            "WorkingDir": self.workdir,
            "ExposedPorts": self.ports,
            "Labels": self.labels,
            "User": self.user,
        }


class _Build:
    """Interprets a Dockerfile. Installing comes last: what is cheap to find wrong is found first."""

    def __init__(
        self,
        images: ImageStore,
        context: Path,
        scratch: Path,
        build_args: dict[str, str],
        log: Log,
        cancelled: Callable[[], bool],
        resolve: Callable[[str], Image | None],
    ) -> None:
        self.images, self.context, self.scratch = images, context, scratch
        self.build_args, self.log, self.cancelled, self.resolve = build_args, log, cancelled, resolve
        self.global_args: dict[str, str] = {}
        self.stages: dict[str, _Stage] = {}
        self.stage: _Stage | None = None
        self.used_args: set[str] = set()
        self.ignore = Ignore()

    def run(self, path: str, target: str = "") -> _Stage:
        file = _inside(self.context, path)
        if not file.is_file():
            raise BuildError(
                f"unable to prepare context: unable to evaluate symlinks in Dockerfile path: lstat {path}: "
                "no such file or directory"
            )
        for candidate in (file.with_name(f"{file.name}.dockerignore"), self.context / ".dockerignore"):
            if candidate.is_file():
                self.ignore = Ignore(candidate.read_text())
                break
        instructions = dockerfile.parse(file.read_text())
        for number, instruction in enumerate(instructions, 1):
            if instruction.name == "FROM" and target and self.stages.get(target.lower()) is not None:
                break
            self.log(f"Step {number}/{len(instructions)} : {instruction.source}")
            if instruction.name not in ("FROM", "ARG") and self.stage is None:
                raise BuildError(f"line {instruction.line}: no build stage in current context")
            handler = getattr(self, f"_{instruction.name.lower()}", self._no_effect)
            handler(instruction)
        if self.stage is None:
            raise BuildError("the Dockerfile has no FROM")
        if target and self.stages.get(target.lower()) is not self.stage:
            raise BuildError(f"failed to reach build target {target} in Dockerfile")
        if unused := sorted(self.build_args.keys() - self.used_args):
            self.log(f"[Warning] One or more build-args {unused} were not consumed")
        stage = self.stage
        stage.environment.ensure(self.images.environments, self.log, self.cancelled, stage.projects)
        return stage

    def expand(self, text: str) -> str:
        return dockerfile.expand(text, self.stage.variables() if self.stage else self.global_args)

    @property
    def now(self) -> _Stage:
        assert self.stage
        return self.stage

    # --- instructions, each by its name

    def _from(self, instruction: Instruction) -> None:
        words = dockerfile.expand(instruction.text, self.global_args).split()
        if len(words) not in (1, 3) or (len(words) == 3 and words[1].lower() != "as"):
            raise BuildError(f"line {instruction.line}: FROM requires either one or three arguments")
        root = self.scratch / f"stage-{len(self.stages)}"
        root.mkdir()
        self.stage = self._base(words[0], root)
        self.stages[str(len(self.stages))] = self.stage
        if len(words) == 3:
            self.stages[words[2].lower()] = self.stage

    def _base(self, name: str, root: Path) -> _Stage:
        if earlier := self.stages.get(name.lower()):
            shutil.copytree(earlier.root, root, symlinks=True, dirs_exist_ok=True)
            return _copy(earlier, root)
        if image := self.resolve(name):
            recipe = self.images.recipe(image.digest)
            if recipe is None:
                raise BuildError(f"{name} comes with the sandbox and cannot be built on")
            shutil.copytree(image.root, root, symlinks=True, dirs_exist_ok=True)
            config = image.config
            return _Stage(
                root=root, environment=Environment(recipe["python"], list(recipe["steps"])), env=dict(config["Env"]),
                workdir=config["WorkingDir"], entrypoint=config["Entrypoint"], cmd=config["Cmd"],
                ports=list(config["ExposedPorts"]), labels=dict(config["Labels"]), user=config["User"],
            )  # fmt: skip
        found = _PYTHON_BASE.fullmatch(name)
        if not found:
            raise BuildError(
                f"pull access denied for {name}: the sandbox has no registry to pull from. It builds on official "
                "Python images (python:3.11-slim) and on images of its own Artifact Registry."
            )
        release = re.match(r"\d+\.\d+", found["tag"] or "")
        wanted = release[0] if release else ""
        path, same = interpreter(wanted)
        version = wanted if same and wanted else f"{sys.version_info.major}.{sys.version_info.minor}"
        self.log(
            f" ---> Python {version} of this machine ({path}) stands in for {name}"
            + ("" if same else f"; there is no Python {wanted} here")
        )
        return _Stage(root, Environment(version), env=dict(BASE_ENVIRONMENT), cmd=["python3"])

    def _arg(self, instruction: Instruction) -> None:
        for word in dockerfile.split(instruction.text, instruction):
            name, equals, default = word.partition("=")
            self.used_args.add(name)
            value = self.build_args.get(name)
            if value is None and equals:
                value = self.expand(default)
            if self.stage is None:
                self.global_args[name] = value or ""
            else:
                # An ARG of before FROM keeps its value where it is declared again without one.
                self.stage.args[name] = value if value is not None else self.global_args.get(name, "")

    def _env(self, instruction: Instruction) -> None:
        self.now.env.update(dockerfile.assignments(instruction, self.expand))

    def _label(self, instruction: Instruction) -> None:
        self.now.labels.update(dockerfile.assignments(instruction, self.expand))

    def _workdir(self, instruction: Instruction) -> None:
        self.now.workdir = posixpath.normpath(posixpath.join(self.now.workdir, self.expand(instruction.text)))
        _inside(self.now.root, self.now.workdir).mkdir(parents=True, exist_ok=True)

    def _user(self, instruction: Instruction) -> None:
        self.now.user = self.expand(instruction.text)
        self.log(" ---> Processes run as the sandbox's own user here")

    def _expose(self, instruction: Instruction) -> None:
        for word in self.expand(instruction.text).split():
            if not re.fullmatch(r"\d+(/(tcp|udp))?", word):
                raise BuildError(f"line {instruction.line}: invalid containerPort: {word}")
            self.now.ports.append(word if "/" in word else f"{word}/tcp")

    def _entrypoint(self, instruction: Instruction) -> None:
        self.now.entrypoint, self.now.cmd = self._command(instruction), []

    def _cmd(self, instruction: Instruction) -> None:
        self.now.cmd = self._command(instruction)

    def _command(self, instruction: Instruction) -> list[str]:
        listed = instruction.exec_form()
        return listed if listed is not None else ["/bin/sh", "-c", instruction.text]

    def _no_effect(self, instruction: Instruction) -> None:
        self.log(f" ---> {instruction.name} has no effect in the sandbox")

    def _add(self, instruction: Instruction) -> None:
        sources = instruction.words(self.expand)[:-1]
        for source in sources:
            if re.match(r"(https?|git)://|git@", source) or source.endswith((".tar", ".tar.gz", ".tgz", ".tar.xz")):
                raise BuildError(
                    f"line {instruction.line}: ADD {source}: the sandbox adds files of the build context only; it "
                    "neither downloads nor unpacks"
                )
        self._copy(instruction)

    def _copy(self, instruction: Instruction) -> None:
        words = instruction.words(self.expand)
        if len(words) < 2:
            raise BuildError(
                f"line {instruction.line}: {instruction.name} requires at least two arguments, but only one was "
                "provided."
            )
        *sources, target = words
        base, ignore = self.context, self.ignore
        if name := instruction.flags.get("from"):
            stage = self.stages.get(self.expand(name).lower())
            if stage is None:
                raise BuildError(f"line {instruction.line}: invalid from flag value {name}: no such build stage")
            base, ignore = stage.root, Ignore()
        found = [path for source in sources for path in self._matches(base, source, ignore, instruction)]
        into = target.endswith("/") or target == "." or len(found) > 1
        if len(found) > 1 and not target.endswith(("/", ".")):
            raise BuildError(
                f"line {instruction.line}: When using {instruction.name} with more than one source file, the "
                "destination must be a directory and end with a /"
            )
        destination = self.now.path(target)
        for path in found:
            if path.is_dir():
                self._copy_folder(path, destination, base, ignore)
            else:
                self._copy_file(path, destination / path.name if into or destination.is_dir() else destination)
        if mode := instruction.flags.get("chmod"):
            copied = [destination / p.name if destination.is_dir() and not p.is_dir() else destination for p in found]
            for path in copied:
                for each in [path, *(path.rglob("*") if path.is_dir() else ())]:
                    each.chmod(int(mode, 8))

    def _matches(self, base: Path, source: str, ignore: Ignore, instruction: Instruction) -> list[Path]:
        pattern = posixpath.normpath(source).lstrip("/")
        if pattern.startswith(".."):
            raise BuildError(
                f"{instruction.name} failed: forbidden path outside the build context: {source} "
                f"(line {instruction.line})"
            )
        if pattern == ".":
            return [base]
        if re.search(r"[*?\[]", pattern):
            wanted = re.compile(dockerfile.glob(pattern))
            paths = (path for path in sorted(base.rglob("*")) if wanted.fullmatch(path.relative_to(base).as_posix()))
        else:
            paths = (path for path in [base / pattern] if path.exists() or path.is_symlink())
        found = [
            path
            for path in paths
            if not ignore(path.relative_to(base).as_posix()) or (path.is_dir() and any(_seen(path, base, ignore)))
        ]
        if not found:
            raise BuildError(
                f"{instruction.name} failed: file not found in build context or excluded by .dockerignore: "
                f"stat {source}: file does not exist (line {instruction.line})"
            )
        return found

    def _copy_folder(self, folder: Path, destination: Path, base: Path, ignore: Ignore) -> None:
        destination.mkdir(parents=True, exist_ok=True)
        for path in _seen(folder, base, ignore):
            self._copy_file(path, destination / path.relative_to(folder))

    def _copy_file(self, path: Path, destination: Path) -> None:
        destination.parent.mkdir(parents=True, exist_ok=True)
        destination.unlink(missing_ok=True)
        shutil.copy2(path, destination, follow_symlinks=False)

    # --- RUN

    def _run(self, instruction: Instruction) -> None:
        listed = instruction.exec_form()
        lines = [listed] if listed else dockerfile.commands(self.expand(instruction.text), instruction)
        for words in lines:
            while words and re.match(r"\w+=", words[0]):  # A=1 command
                words = words[1:]
            arguments = _pip_install(words)
            if arguments is not None:
                self._install(arguments, instruction)
            elif words[:1] == ["mkdir"]:
                for path in words[1:]:
                    if not path.startswith("-"):
                        self.now.path(path).mkdir(parents=True, exist_ok=True)
            elif words[:1] == ["chmod"] and words[2:] and all(self.now.path(path).exists() for path in words[2:]):
                subprocess.run(["chmod", words[1], *map(self.now.path, words[2:])], check=True)
            elif words:
                self.log(f" ---> Not executed in the sandbox: {' '.join(words)}")

    def _install(self, arguments: list[str], instruction: Instruction) -> None:
        """Note an installation; it happens once the Dockerfile has been read to its end."""
        args: list[str] = []
        files: dict[str, str] = {}
        digests: list[str] = []
        rest = list(arguments)
        while rest:
            word = rest.pop(0)
            option, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")

            def argument(option: str = option, equals: str = equals, value: str = value) -> str:
                if equals:
                    return value
                if not rest:
                    raise BuildError(f"line {instruction.line}: pip install: {option} option requires 1 argument")
                return rest.pop(0)

            if option in _PIP_DROPPED:
                if _PIP_DROPPED[option]:
                    argument()
            elif option in _PIP_FILES:
                args += [_PIP_FILES[option], self._requirements(argument(), files, instruction)]
            elif option in _PIP_VALUES:
                args += [_PIP_VALUES[option], argument()]
            elif option in _PIP_FLAGS:
                args.append(_PIP_FLAGS[option])
            elif option in ("-e", "--editable"):
                args.append(self._project(argument(), digests, instruction))
            elif word.startswith("-"):
                raise BuildError(f"line {instruction.line}: pip install: the sandbox does not know the option {word}")
            elif "/" in word or word.startswith("."):
                args.append(self._project(word, digests, instruction) if "://" not in word else word)
            else:
                args.append(word)
        step = {"args": args, "files": files, "projects": digests, "shown": " ".join(arguments)}
        self.now.environment.steps.append(step)

    def _requirements(self, name: str, files: dict[str, str], instruction: Instruction) -> str:
        """Return a placeholder for a requirements file; its text becomes part of the environment's identity."""
        path = self.now.path(name)
        if not path.is_file():
            raise BuildError(
                f"ERROR: Could not open requirements file: [Errno 2] No such file or directory: '{name}' "
                f"(line {instruction.line})"
            )
        lines = []
        for line in path.read_text().splitlines():
            nested = re.match(r"(-r|-c|--requirement|--constraint)[ =]\s*(\S+)", line)
            if nested:  # beside the file that names it
                inner = self._requirements(posixpath.join(posixpath.dirname(name), nested[2]), files, instruction)
                if nested[1] in ("-r", "--requirement"):
                    lines.append(files.pop(inner))
                    continue
                raise BuildError(
                    f"line {instruction.line}: {name}: constraints inside a requirements file: use pip's -c"
                )
            lines.append(line)
        placeholder = f"file:{posixpath.join(self.now.workdir, name)}"
        files[placeholder] = "\n".join(lines) + "\n"
        return placeholder

    def _project(self, name: str, digests: list[str], instruction: Instruction) -> str:
        """Return a placeholder for a local project; all its files become part of the environment's identity."""
        bare, bracket, extras = name.partition("[")
        path = self.now.path(bare)
        if not path.exists():
            raise BuildError(f"line {instruction.line}: pip install: no such file or directory: {name}")
        if bracket:
            raise BuildError(f"line {instruction.line}: pip install {name}: extras of a local project: [{extras}")
        content = manifest(path) if path.is_dir() else {path.name: _file(path)}
        digests.append(hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest())
        placeholder = f"project:{digests[-1]}"
        self.now.projects[placeholder] = path
        return placeholder


def _copy(stage: _Stage, root: Path) -> _Stage:
    environment = Environment(stage.environment.python, list(stage.environment.steps))
    return _Stage(
        root=root, environment=environment, env=dict(stage.env), workdir=stage.workdir, entrypoint=stage.entrypoint,
        cmd=stage.cmd, ports=list(stage.ports), labels=dict(stage.labels), user=stage.user,
        projects=dict(stage.projects),
    )  # fmt: skip


def _pip_install(words: list[str]) -> list[str] | None:
    """Return the arguments of a command that is `pip install` in one of its spellings, None for any other."""
    for prefix in (["pip"], ["pip3"], ["python", "-m", "pip"], ["python3", "-m", "pip"], ["uv", "pip"]):
        if words[: len(prefix)] == prefix and words[len(prefix) :][:1] == ["install"]:
            return words[len(prefix) + 1 :]
    return None


# --- files ------------------------------------------------------------------------------------------------------------


def _inside(root: Path, path: str) -> Path:
    """`path` below `root`; it cannot lead out of it."""
    return root / posixpath.normpath(posixpath.join("/", path)).lstrip("/")


def _seen(folder: Path, base: Path, ignore: Ignore) -> Iterator[Path]:
    """Files and links below `folder` that a build on `base` sees."""
    for path in sorted(folder.rglob("*")):
        if (path.is_symlink() or not path.is_dir()) and not ignore(path.relative_to(base).as_posix()):
            yield path


def _file(path: Path) -> dict[str, Any]:
    if path.is_symlink():
        return {"link": os.readlink(path), "size": 0}
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    status = path.stat()
    return {"sha256": digest, "mode": status.st_mode & 0o777, "size": status.st_size}


def manifest(root: Path) -> dict[str, dict[str, Any]]:
    """{path: what identifies its content} of all files below `root`; sizes in bytes."""
    paths = (path for path in sorted(root.rglob("*")) if path.is_symlink() or path.is_file())
    return {path.relative_to(root).as_posix(): _file(path) for path in paths}


def extract(archive: Path, target: Path) -> Path:
    """Unpack a build context; nothing in it can be written outside `target`. BuildError when it is no archive."""
    target.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(archive) as tar:
            if hasattr(tarfile, "data_filter"):
                tar.extractall(target, filter="data")
            else:  # Python before 3.11.4, which Debian 12 has
                tar.extractall(target, members=_safe_members(tar, target.resolve()))
    except (tarfile.TarError, EOFError, OSError) as error:
        raise BuildError(f"the source is not a readable tar archive: {error}") from error
    return target


def _safe_members(tar: tarfile.TarFile, target: Path) -> Iterator[tarfile.TarInfo]:
    """Return the members of an archive, checked as tarfile's "data" filter does. Errors: BuildError."""
    for member in tar:
        names = [member.name]
        if member.issym():
            names.append(os.path.join(os.path.dirname(member.name), member.linkname))
        elif member.islnk():
            names.append(member.linkname)
        elif not (member.isreg() or member.isdir()):
            raise BuildError(f"the source has {member.name}, which is neither a file nor a folder nor a link")
        if any(not (target / name).resolve().is_relative_to(target) for name in names):
            raise BuildError(f"the source has {member.name}, which lies or leads outside the build context")
        member.mode = (member.mode & 0o755) | 0o600 if member.isreg() else 0o755
        yield member


# --- images that come with the sandbox --------------------------------------------------------------------------------


class Builtin:
    """Google's sample images, as programs of the sandbox's own Python."""

    NAMES = {
        "gcr.io/cloudrun/hello": "serve",
        "us-docker.pkg.dev/cloudrun/container/hello": "serve",
        "gcr.io/cloudrun/job": "job",
        "us-docker.pkg.dev/cloudrun/container/job": "job",
    }

    def __init__(self, root: Path) -> None:
        self._root = root
        self._program = Path(__file__).with_name("hello.py")

    def get(self, text: str) -> Image | None:
        """Return the image for a reference with any tag or digest, or with none."""
        command = self.NAMES.get(re.sub(r"(:[\w.-]+)?(@sha256:[0-9a-f]{64})?$", "", text))
        if command is None:
            return None
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        digest = hashlib.sha256(self._program.read_bytes() + command.encode()).hexdigest()
        config = {
            "Entrypoint": [sys.executable, str(self._program), command],
            "Cmd": [],
            "Env": dict(BASE_ENVIRONMENT),
            "WorkingDir": "/",
            "ExposedPorts": ["8080/tcp"] if command == "serve" else [],
            "Labels": {},
            "User": "",
        }
        return Image(f"sha256:{digest}", self._root, Path(sys.prefix), config, self._program.stat().st_size)
