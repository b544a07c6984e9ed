# SPDX-License-Identifier: Apache-2.0
"""The command `gcp-sandbox`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import importlib
import json
import os
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import Any

from gcp_sandbox import __version__
from gcp_sandbox.backends.home import purge
from gcp_sandbox.config import (
    MAX_TOKEN_LIFETIME,
    ConfigError,
    Settings,
    parse_duration,
    parse_project,
    parse_token_lifetime,
    private_folder,
    remove_folder,
)
from gcp_sandbox.daemon import running_pid
from gcp_sandbox.environment import variables, write_credentials
from gcp_sandbox.gateway import faults
from gcp_sandbox.gateway.latency import Latency
from gcp_sandbox.gateway.requestlog import Entry, RequestReader
from gcp_sandbox.services import SERVICES

# Exit codes beyond 0 and 1. 3 is what service managers use for "not running".
USAGE, NOT_RUNNING = 2, 3
_START_TIMEOUT = 120.0
_STOP_TIMEOUT = 30.0


class Failure(Exception):
    """Ends a command; the message is for the user."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options, Settings.load(options.state))
    except Failure as failure:
        print(f"gcp-sandbox: {failure}", file=sys.stderr)
        return failure.code
    except ConfigError as error:
        print(f"gcp-sandbox: {error}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:
        # The reader of our output has seen enough (`gcp-sandbox requests | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gcp-sandbox",
        description="A local Google Cloud: unmodified clients reach it at Google's own host names.",
    )
    parser.add_argument("--version", action="version", version=f"gcp-sandbox {__version__}")
    parser.add_argument(
        "--state", type=Path, help="folder with all state (default: $GCP_SANDBOX_STATE, else ./.sandbox)"
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[Any, Settings], int], help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(run=run)
        return sub

    up = command("up", _up, "Start the sandbox in the background and wait until it answers.")
    up.add_argument("--latency", help="how long operations take: instant, real, or scaled:N (real durations / N)")
    up.add_argument("--rtt", help="time added to every request, e.g. 50ms")
    up.add_argument(
        "--token-lifetime", metavar="DURATION", help="how long access and ID tokens live, e.g. 30s (default: 1h)"
    )
    up.add_argument(
        "--project",
        help="id of the default project, such as my-project or example.com:my-project (only for a new sandbox)",
    )
    up.add_argument(
        "--no-organization",
        action="store_true",
        help="make the default project in no organization (only for a new sandbox)",
    )
    up.add_argument(
        "--faults", metavar="RULES", help="answer some requests with errors, late or not at all (see `faults set`)"
    )
    up.add_argument(
        "--no-default-network",
        action="store_true",
        help="give no project a network `default` (only for a new sandbox)",
    )
    up.add_argument("--port", type=int, help="port of the proxy (default: any free one, then always the same)")

    command("down", _down, "Stop the sandbox; its state stays.")
    status = command("status", _status, "Say whether the sandbox runs and where. Exit code 3 when it does not.")
    status.add_argument("--json", action="store_true", help="for programs")
    command("reset", _reset, "Stop the sandbox and forget everything in it.")

    exec_ = command("exec", _exec, "Run a command that reaches the sandbox instead of Google.")
    exec_.add_argument("--as", dest="email", metavar="EMAIL", help="act as this user or service account")
    exec_.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    env = command("env", _env, 'Print what `exec` sets, for `eval "$(gcp-sandbox env)"`.')
    env.add_argument("--as", dest="email", metavar="EMAIL", help="act as this user or service account")
    env.add_argument("--json", action="store_true", help="for programs")

    fault = command("faults", _faults, "Answer some requests with errors, late or not at all, until the sandbox stops.")
    actions = fault.add_subparsers(dest="action", required=True, metavar="ACTION")
    put = actions.add_parser("set", help="replace the rules")
    put.add_argument("rules", metavar="RULES", help="a JSON or YAML file, or the rules in JSON; see docs/sandbox.md")
    actions.add_parser("clear", help="remove all rules")
    show = actions.add_parser("show", help="print the rules, and how many requests each has been applied to")
    show.add_argument("--json", action="store_true", help="for programs")

    logs = command("logs", _logs, "Print the log of a deployed service, or of the sandbox itself.")
    logs.add_argument("service", nargs="?", help="name of the service (default: the sandbox)")
    logs.add_argument("-f", "--follow", action="store_true", help="keep printing")
    logs.add_argument("-n", "--lines", type=int, default=200, help="how many of the last lines (default: 200)")

    requests = command("requests", _requests, "List the requests that the sandbox has answered.")
    requests.add_argument("--service", help='name of an API ("storage"), or "ingress" for deployed services')
    requests.add_argument("--method", help="part of a method's id, e.g. buckets.insert")
    requests.add_argument("--since", help="a time (RFC 3339 or seconds since the epoch) or how long ago: 30s, 5m, 2h")
    shape = requests.add_mutually_exclusive_group()
    shape.add_argument("--count", action="store_true", help="only how many")
    shape.add_argument("--table", action="store_true", help="numbers by service")
    shape.add_argument("--json", action="store_true", help="one JSON object a line")
    shape.add_argument("--clear", action="store_true", help="forget all of them")
    return parser


# -- up and down ------------------------------------------------------------------------------------------------------


def _up(options: Any, settings: Settings) -> int:
    rtt = None if options.rtt is None else parse_duration(options.rtt)
    lifetime = None if options.token_lifetime is None else parse_token_lifetime(options.token_lifetime)
    rules = None if options.faults is None else _read_faults(options.faults)
    if options.latency:
        Latency(options.latency)
    wanted = settings.changed(latency=options.latency, rtt=rtt, token_lifetime=lifetime)
    if options.project:
        parse_project(options.project)
    if options.project and options.project != settings.project and (settings.state / "config.json").exists():
        raise Failure(f"{settings.state} belongs to project {settings.project}; `reset` it or choose another --state")
    if (options.no_organization or options.no_default_network) and (settings.state / "config.json").exists():
        raise Failure(f"the project of {settings.state} exists already; `reset` it or choose another --state")
    if (pid := running_pid(settings.state)) is not None:
        health = _wait_ready(settings, pid)
        if wanted == settings and options.port in (None, settings.ports.proxy):
            print(f"The sandbox is up already (process {health['pid']}).")
            return _arrived(settings, health, rules)
        print("The sandbox is up with other settings; starting it again.")
        _stop(settings)
    _start(settings.state, options, rtt, lifetime)
    settings = Settings.load(settings.state)
    return _arrived(settings, _wait_ready(settings, running_pid(settings.state)), rules)


def _arrived(settings: Settings, health: dict[str, Any], rules: Any) -> int:
    """Set faults, and print addresses and problems.

    A sandbox that lacks a part runs on, but its user must know about it.
    """
    if rules is not None:
        health["faults"] = len(_set_faults(settings, rules)["rules"])
    _print_status(settings, health)
    if health["broken"]:
        parts = "".join(f"\n  {name}: {reason}" for name, reason in health["broken"].items())
        raise Failure(
            f"the sandbox runs, but not all of it; requests for these parts are answered with 501:{parts}\n"
            f"More is in {_daemon_log(settings.state)}"
        )
    return 0


def _start(state: Path, options: Any, rtt: float | None = None, lifetime: float | None = None) -> None:
    """Start the daemon in a session of its own and wait for its word that it is ready."""
    private_folder(state)
    private_folder(state / "logs")
    log = _daemon_log(state)
    if log.exists() and log.stat().st_size > 10 << 20:
        log.replace(log.with_suffix(".log.1"))
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "gcp_sandbox.daemon", "--state", str(state), "--ready-fd", str(writer)]
    for name, value in (
        ("latency", getattr(options, "latency", None)),
        ("rtt", rtt),
        ("token-lifetime", lifetime),
        ("project", getattr(options, "project", None)),
        ("port", getattr(options, "port", None)),
    ):
        if value is not None:
            command += [f"--{name}", str(value)]
    if getattr(options, "no_organization", False):
        command.append("--no-organization")
    if getattr(options, "no_default_network", False):
        command.append("--no-default-network")
    with log.open("ab") as output:
        os.fchmod(output.fileno(), 0o600)
        offset = output.tell()
        daemon = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=[writer],
            env=_outside(dict(os.environ), state),
            cwd="/",
        )
    os.close(writer)
    try:
        if select.select([reader], [], [], _START_TIMEOUT)[0] and os.read(reader, 16) == b"ready\n":
            return
    finally:
        os.close(reader)
    ended = daemon.poll() is not None
    if not ended:
        daemon.terminate()
    with log.open(errors="replace") as file:
        file.seek(offset)
        tail = "".join(f"  {line}" for line in file.readlines()[-15:])
    what = "ended at once" if ended else f"was not ready after {_START_TIMEOUT:.0f} s and was stopped"
    raise Failure(f"the sandbox {what}; the end of {log}:\n{tail}")


def _outside(environment: dict[str, str], state: Path) -> dict[str, str]:
    """Return the environment without what `exec` has set: the sandbox must not go through itself."""
    if environment.get("GCP_SANDBOX_STATE"):
        with contextlib.suppress(ConfigError):  # a folder without a readable sandbox has set nothing
            for folder in {Path(environment["GCP_SANDBOX_STATE"]), state}:
                settings = Settings.load(folder)
                for name, value in variables(settings, settings.credentials / "deployer.json").items():
                    if environment.get(name) == value:
                        del environment[name]
    return environment


def _down(options: Any, settings: Settings) -> int:
    if not _stop(settings):
        print("The sandbox is not running.")
        return 0
    print("The sandbox has stopped. `gcp-sandbox up` starts it again with all its state.")
    return 0


def _stop(settings: Settings) -> bool:
    """Stop the daemon; False when there is none."""
    pid = running_pid(settings.state)
    if pid is None:
        return False
    pid = pid or _wait_ready(settings, pid)["pid"]
    for number, timeout in ((signal.SIGTERM, _STOP_TIMEOUT), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(pid, number)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if running_pid(settings.state) is None:
                return True
            time.sleep(0.05)
        if number == signal.SIGTERM:
            print(f"The sandbox does not stop; killing process {pid}.", file=sys.stderr)
    raise Failure(f"process {pid} cannot be stopped")


def _reset(options: Any, settings: Settings) -> int:
    if not settings.state.exists():
        print(f"There is nothing at {settings.state}.")
        return 0
    if not (settings.state / "daemon.lock").exists() and any(settings.state.iterdir()):
        raise Failure(f"{settings.state} is not a sandbox's state; nothing was removed")
    if running_pid(settings.state) is None and (settings.state / "daemon.json").exists():
        # It was killed, and what it had started may still run. A new daemon adopts that and then ends it.
        try:
            _start(settings.state, options)
        except Failure as failure:
            print(f"gcp-sandbox: what an earlier run left behind could not be ended: {failure}", file=sys.stderr)
    _stop(settings)
    try:
        purge(settings)
        for folder in (settings.runtime, settings.state):
            remove_folder(folder)
    except OSError as error:
        raise Failure(f"{settings.state} could not be removed completely: {error}") from error
    print("The sandbox is empty. `gcp-sandbox up` starts a new one.")
    return 0


# -- talking to the daemon --------------------------------------------------------------------------------------------


class _UnixConnection(HTTPConnection):
    """HTTP over the daemon's unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket(AF_UNIX, SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _ask(settings: Settings, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
    """Ask the daemon; OSError or HTTPException when it does not answer."""
    connection = _UnixConnection(settings.runtime / "control.sock")
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def _wait_ready(settings: Settings, pid: int | None) -> dict[str, Any]:
    """Return the daemon's health once it is ready; Failure when it ends or takes too long."""
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, HTTPException, ValueError):  # it does not listen yet
            _, health = _ask(settings, "GET", "/health")
            if health["ready"]:
                return health
        if running_pid(settings.state) is None:
            raise Failure(f"the sandbox ended while it started; see {_daemon_log(settings.state)}")
        time.sleep(0.05)
    raise Failure(f"the sandbox (process {pid}) does not answer; see {_daemon_log(settings.state)}")


def _running(settings: Settings) -> dict[str, Any]:
    """Health of a running sandbox; Failure when it does not run."""
    pid = running_pid(settings.state)
    if pid is None:
        raise Failure(f"no sandbox runs at {settings.state}; start it with `gcp-sandbox up`", NOT_RUNNING)
    return _wait_ready(settings, pid)


def _daemon_log(state: Path) -> Path:
    return state / "logs" / "daemon.log"


# -- looking ----------------------------------------------------------------------------------------------------------


def _print_status(settings: Settings, health: dict[str, Any]) -> None:
    print(f"  project    {settings.project} (number {settings.project_number})")
    print(
        f"  operations {settings.latency}"
        + (f", {settings.rtt * 1000:g} ms added to every request" if settings.rtt else "")
    )
    if settings.token_lifetime != MAX_TOKEN_LIFETIME:
        print(f"  tokens     live for {settings.token_lifetime:g} s")
    print(f"  state      {settings.state}")
    print(f"  proxy      {settings.proxy_url}")
    print(f"  browser    {settings.browser_url}")
    for label in health["deployed"]:
        print(f"             http://{label}.localhost:{settings.ports.browser}/")
    for database in health.get("databases", ()):
        address = f"127.0.0.1:{database['port']}" if database["running"] else database["problem"] or "stopped"
        print(f"  database   {database['connection']} ({address})")
    if health.get("faults"):  # a sandbox that an older release started has none
        print(f"  faults     {health['faults']} rule(s); `gcp-sandbox faults show` prints them")
    for name, reason in health["broken"].items():
        print(f"  BROKEN     {name}: {reason}")
    print("Run a program against it:  gcp-sandbox exec -- COMMAND")


def _status(options: Any, settings: Settings) -> int:
    pid = running_pid(settings.state)
    if pid is None:
        if options.json:
            print(json.dumps({"running": False, "state": str(settings.state)}))
        else:
            print(f"No sandbox runs at {settings.state}.")
        return NOT_RUNNING
    health = _wait_ready(settings, pid)
    if options.json:
        about = {
            "running": True,
            "state": str(settings.state),
            "project": settings.project,
            "project_number": settings.project_number,
            "latency": settings.latency,
            "rtt": settings.rtt,
            "tokenLifetime": settings.token_lifetime,
            "ports": dataclasses.asdict(settings.ports),
        }
        print(json.dumps({**about, **health}))
        return 0
    up_for = datetime.timedelta(seconds=int(time.time() - health["started"]))
    print(f"The sandbox has been up for {up_for} (process {health['pid']}).")
    print(f"  services   {', '.join(health['services'])}")
    _print_status(settings, health)
    return 0


def _logs(options: Any, settings: Settings) -> int:
    folder = settings.logs
    name = options.service or "daemon"
    _flush(settings)
    file = folder / f"{name}.log"
    if not file.is_file() or file.parent != folder:
        known = ", ".join(sorted(entry.stem for entry in folder.glob("*.log"))) or "none"
        raise Failure(f"there is no log of {name!r}; there are: {known}")
    with file.open(errors="replace") as stream:
        for line in stream.readlines()[-options.lines :]:
            print(line, end="")
        while options.follow:
            if line := stream.readline():
                print(line, end="", flush=True)
            else:
                time.sleep(0.2)
    return 0


# -- running programs -------------------------------------------------------------------------------------------------


def _variables(options: Any, settings: Settings) -> dict[str, str]:
    _running(settings)
    settings = Settings.load(settings.state)
    if not options.email:
        return variables(settings, settings.credentials / "deployer.json")
    status, answer = _ask(settings, "GET", f"/credentials?email={options.email}")
    if status != 200:
        raise Failure(answer.get("error") or answer["error"])
    return variables(settings, write_credentials(settings, options.email, answer), key_file=False)


def _exec(options: Any, settings: Settings) -> int:
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        raise Failure("say what to run: gcp-sandbox exec -- COMMAND", USAGE)
    environment = {**os.environ, **_variables(options, settings)}
    if options.email:
        # A key file that an outer `exec` has set would make the program another principal.
        environment.pop("GCP_SERVICE_ACCOUNT_FILE", None)
    for name in ("ALL_PROXY", "all_proxy"):
        environment.pop(name, None)
    try:
        os.execvpe(command[0], command, environment)
    except FileNotFoundError:
        raise Failure(f"{command[0]}: command not found", 127) from None
    except PermissionError:
        raise Failure(f"{command[0]}: permission denied", 126) from None


def _env(options: Any, settings: Settings) -> int:
    values = _variables(options, settings)
    if options.json:
        print(json.dumps(values, indent=2))
        return 0
    for name, value in values.items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


# -- faults -----------------------------------------------------------------------------------------------------------


def _faults(options: Any, settings: Settings) -> int:
    if options.action == "set":
        rules = _read_faults(options.rules)
        _running(settings)
        shown = _set_faults(settings, rules)
    else:
        _running(settings)
        _, shown = _ask(settings, "GET", "/faults")
    if options.action == "clear":
        _ask(settings, "DELETE", "/faults")
        print("The sandbox answers all requests without faults.")
    elif getattr(options, "json", False):
        print(json.dumps(shown))
    elif not shown["rules"]:
        print("There are no rules.")
    else:
        print(f"seed {shown['seed']}\nrule  matched  applied")
        for number, item in enumerate(shown["rules"], 1):
            print(f"{number:>4} {item['matched']:>8} {item['applied']:>8}  {json.dumps(item['rule'])}")
    return 0


def _read_faults(argument: str) -> Any:
    """Return a document with rules that are checked, before anything is changed."""
    document = faults.read(argument)
    classes = (path.partition(":") for path in SERVICES.values())
    faults.parse(document, faults.known_methods(getattr(importlib.import_module(one), two) for one, _, two in classes))
    return document


def _set_faults(settings: Settings, document: Any) -> dict[str, Any]:
    status, answer = _ask(settings, "PUT", "/faults", document)
    if status != 200:
        raise Failure(answer["error"], USAGE)
    return answer


# -- the request log --------------------------------------------------------------------------------------------------


def _requests(options: Any, settings: Settings) -> int:
    file = settings.state / "requests.sqlite3"
    if not file.exists():
        raise Failure(f"there is no sandbox at {settings.state}", NOT_RUNNING)
    _flush(settings)
    reader = RequestReader(file)
    try:
        return _report(options, reader)
    finally:
        reader.close()


def _flush(settings: Settings) -> None:
    """Have the sandbox write its logs."""
    with contextlib.suppress(OSError, HTTPException):  # a sandbox that is stopped has written everything
        _ask(settings, "POST", "/flush")


def _report(options: Any, reader: RequestReader) -> int:
    chosen: dict[str, Any] = {
        "service": options.service,
        "method": options.method,
        "since": _since(options.since) if options.since else 0.0,
    }
    if options.clear:
        reader.clear()
    elif options.count:
        print(len(reader.select(**chosen)))
    elif options.table:
        rows = reader.table(**chosen)
        print(f"{'service':<24} {'requests':>8} {'errors':>8} {'mean ms':>9} {'slowest':>9}")
        for service, count, failed, mean, slowest in rows:
            print(f"{service:<24} {count:>8} {failed:>8} {mean:>9.1f} {slowest:>9.1f}")
        print(f"{'total':<24} {sum(row[1] for row in rows):>8} {sum(row[2] for row in rows):>8}")
    else:
        for entry in reader.select(**chosen):
            print(json.dumps(dataclasses.asdict(entry)) if options.json else _line(entry))
    return 0


def _line(entry: Entry) -> str:
    moment = datetime.datetime.fromtimestamp(entry.time).strftime("%H:%M:%S.%f")[:-3]
    what = entry.method or f"{entry.verb} {entry.host}{entry.path}"
    fault = f"  fault: {entry.fault}" if entry.fault else ""
    return (
        f"{moment} {entry.status} {entry.ms:8.1f} ms  {entry.service:<20} {what}  {entry.path}  {entry.caller}{fault}"
    )


def _since(text: str) -> float:
    """Seconds since the epoch."""
    with contextlib.suppress(ValueError):  # not a number
        if float(text) > 1e8:
            return float(text)
    with contextlib.suppress(ValueError):  # not a date
        return datetime.datetime.fromisoformat(text).timestamp()
    return time.time() - parse_duration(text)
