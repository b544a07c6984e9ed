# SPDX-License-Identifier: Apache-2.0
"""Settings of a sandbox: its state folder, its latency, its ports. Kept in `<state>/config.json`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_PROJECT = "mlflow-sandbox"
HOST = "127.0.0.1"
# Google's tokens live for an hour.
MAX_TOKEN_LIFETIME = 3600.0


class ConfigError(ValueError):
    """A setting that cannot be used; the message is for the user."""


@dataclass(frozen=True)
class Ports:
    """TCP ports on 127.0.0.1: the CONNECT proxy, the TLS server, and the reverse proxy for browsers."""

    proxy: int = 0
    tls: int = 0
    browser: int = 0


@dataclass(frozen=True)
class Settings:
    """The sandbox's settings; `rtt` is in seconds, `latency` a profile (see gateway/latency.py).

    :param token_lifetime: the longest that an access token or an ID token lives, seconds.
    """

    state: Path
    latency: str = "instant"
    rtt: float = 0.0
    token_lifetime: float = MAX_TOKEN_LIFETIME
    project: str = DEFAULT_PROJECT
    # Whether the default project is made inside the organization; matters at the first start only.
    organization: bool = True
    # Whether projects get a network `default` with Compute Engine (constraints/compute.skipDefaultNetworkCreation).
    default_network: bool = True
    ports: Ports = field(default_factory=Ports)

    @property
    def project_number(self) -> str:
        """Number of the default project: twelve digits, the same for the same id."""
        return project_number(self.project)

    @property
    def runtime(self) -> Path:
        """Short private folder for unix sockets; their paths hold at most 107 bytes."""
        digest = hashlib.sha256(str(self.state).encode()).hexdigest()[:8]
        return Path(f"/tmp/gcp-sandbox-{os.getuid()}-{digest}")

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def spool(self) -> Path:
        """Unfinished uploads, on the same file system as the objects so that they can be renamed into place."""
        return self.state / "spool"

    @property
    def credentials(self) -> Path:
        return self.state / "credentials"

    @property
    def ca_certificate(self) -> Path:
        """The sandbox's own CA, PEM."""
        return self.state / "ca" / "ca.pem"

    @property
    def ca_bundle(self) -> Path:
        """Public CAs and the sandbox's, PEM: what REQUESTS_CA_BUNDLE and SSL_CERT_FILE name."""
        return self.state / "ca" / "bundle.pem"

    @property
    def proxy_url(self) -> str:
        return f"http://{HOST}:{self.ports.proxy}"

    @property
    def browser_url(self) -> str:
        return f"http://localhost:{self.ports.browser}/"

    def folders(self) -> None:
        """Make the state and runtime folders, private to the user."""
        private_folder(self.runtime)
        for folder in (self.state, self.logs, self.spool, self.credentials, self.state / "ca"):
            private_folder(folder)

    def save(self) -> None:
        """Write what a later `up` must find again."""
        document = {
            "latency": self.latency,
            "rtt": self.rtt,
            "tokenLifetime": self.token_lifetime,
            "project": self.project,
            "defaultNetwork": self.default_network,
            "ports": dataclasses.asdict(self.ports),
        }
        write_private(self.state / "config.json", json.dumps(document, indent=2) + "\n")

    @classmethod
    def load(cls, state: Path | str | None = None) -> Settings:
        """Settings of the sandbox at `state` (default: $GCP_SANDBOX_STATE, else ./.sandbox), or of a new one."""
        folder = Path(state or os.environ.get("GCP_SANDBOX_STATE") or ".sandbox").absolute()
        file = folder / "config.json"
        if not file.exists():
            return cls(state=folder)
        try:
            document = json.loads(file.read_text())
            return cls(
                state=folder,
                latency=document["latency"],
                rtt=float(document["rtt"]),
                token_lifetime=float(document.get("tokenLifetime", MAX_TOKEN_LIFETIME)),
                project=document["project"],
                default_network=document.get("defaultNetwork", True),
                # Release 0.2.0 has another name for the last port.
                ports=Ports(*document["ports"].values()),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{file} is damaged ({error}); `gcp-sandbox reset` starts afresh") from error

    def changed(self, **values: object) -> Settings:
        """These settings with the given ones that are not None."""
        given = {key: value for key, value in values.items() if value is not None}
        return dataclasses.replace(self, **given)  # type: ignore[arg-type]  # fields by name, of several types


def parse_project(text: str) -> str:
    """Return the id of a project; ConfigError for one that no project can have."""
    if not re.fullmatch(r"(([a-z0-9-]+\.)+[a-z]+:)?[a-z][-a-z0-9]{4,28}[a-z0-9]", text):
        raise ConfigError(f"{text!r} is not the id of a project; write my-project, or example.com:my-project")
    return text


def project_number(project: str) -> str:
    """Return a stable twelve-digit number for a project id."""
    return _number(project)


def organization_number(project: str) -> str:
    """Return a stable twelve-digit number for the organization of a sandbox with this default project."""
    return _number(f"organization of {project}")


def _number(text: str) -> str:
    value = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return str(100_000_000_000 + value % 900_000_000_000)


def parse_duration(text: str) -> float:
    """Seconds from "50ms", "1.5s", "2m", "1h" or a bare number of seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?", text.strip())
    if not found:
        raise ConfigError(f"{text!r} is not a duration; write 50ms, 1.5s, 2m or 1h")
    return float(found[1]) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, None: 1}[found[2]]


def parse_token_lifetime(text: str) -> float:
    """Return the lifetime of tokens in seconds; ConfigError for less than a request takes or more than an hour."""
    seconds = parse_duration(text)
    if not 5 <= seconds <= MAX_TOKEN_LIFETIME:
        raise ConfigError(f"tokens cannot live for {text}; choose from 5s to 1h")
    return seconds


def private_folder(path: Path) -> None:
    """Make `path` with mode 0700; refuse a folder of another user."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_uid != os.getuid():
        raise ConfigError(f"{path} belongs to another user")
    path.chmod(0o700)


def remove_folder(path: Path) -> None:
    """Remove a folder with all that it holds; one that does not exist is no error."""
    for last in (False, False, True):
        try:
            shutil.rmtree(path)
        except OSError:
            # A process that is about to end may add or remove files meanwhile.
            if not path.exists():
                return
            if last:
                raise
            time.sleep(0.1)
        else:
            return


def write_private(path: Path, text: str | bytes) -> None:
    """Replace `path` atomically with mode 0600."""
    data = text.encode() if isinstance(text, str) else text
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    temporary.replace(path)
