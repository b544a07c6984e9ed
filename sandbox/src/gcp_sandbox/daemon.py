# SPDX-License-Identifier: Apache-2.0
"""The background process: `python -m gcp_sandbox.daemon --state DIR`. `gcp-sandbox up` starts it.

It holds a lock on `<state>/daemon.lock` for as long as it lives, however it ends, so that no second daemon serves the
same state. `<state>/daemon.json` names its process; a file without a lock is left over from an unclean end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import gc
import json
import logging
import os
import resource
import signal
import sys
import time
from pathlib import Path

from gcp_sandbox.config import ConfigError, Settings, private_folder, write_private

log = logging.getLogger("gcp_sandbox.daemon")


class AlreadyRunning(Exception):
    """Another daemon serves this state."""


def lock(state: Path) -> int:
    """Take the lock; AlreadyRunning when another process has it. The descriptor is the lock: keep it open."""
    private_folder(state)
    descriptor = os.open(state / "daemon.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise AlreadyRunning(str(state)) from None
    return descriptor


def running_pid(state: Path) -> int | None:
    """Process id of the daemon that serves `state`, None when none does; 0 when it is only just starting."""
    try:
        descriptor = os.open(state / "daemon.lock", os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        try:
            return json.loads((state / "daemon.json").read_text())["pid"]
        except (FileNotFoundError, ValueError, KeyError):
            return 0
    finally:
        os.close(descriptor)
    return None


async def serve(settings: Settings, port: int | None, ready: int | None) -> None:
    """Serve until a signal or a command stops the process; the proxy on `port`, where one is given."""
    from gcp_sandbox.gateway.media import free_spool
    from gcp_sandbox.network.listeners import Listeners, bind
    from gcp_sandbox.sandbox import Sandbox

    began = time.monotonic()
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    settings.folders()
    free_spool(settings.spool)
    settings, sockets = bind(settings, port)
    sandbox = Sandbox(settings)
    listeners = Listeners(sandbox, sockets, stop.set)
    try:
        # First the sockets: what services start may already ask for them.
        await listeners.start()
        settings.save()
        write_private(settings.state / "daemon.json", json.dumps({"pid": os.getpid(), "started": time.time()}))
        await asyncio.to_thread(sandbox.start)
        # What start-up made lives as long as the process; the collector need not visit it again.
        gc.collect()
        gc.freeze()
        log.info("ready after %.1f s, proxy at %s", time.monotonic() - began, settings.proxy_url)
        if ready is not None:
            os.write(ready, b"ready\n")
            os.close(ready)
        await stop.wait()
        log.info("stopping")
    finally:
        await listeners.stop()
        await asyncio.to_thread(sandbox.stop)
    (settings.state / "daemon.json").unlink(missing_ok=True)
    log.info("stopped")


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the background process."""
    parser = argparse.ArgumentParser(prog="gcp_sandbox.daemon")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--latency")
    parser.add_argument("--rtt", type=float)
    parser.add_argument("--token-lifetime", type=float)
    parser.add_argument("--project")
    parser.add_argument("--no-organization", dest="organization", action="store_false", default=None)
    parser.add_argument("--no-default-network", dest="default_network", action="store_false", default=None)
    parser.add_argument("--port", type=int, help="of the proxy")
    parser.add_argument("--ready-fd", type=int, help="file descriptor that gets a line when requests are answered")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    # httpx logs every request at INFO, with its query.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    os.umask(0o077)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # a container may forbid it; the soft limit stays
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        lock(options.state)
        settings = Settings.load(options.state).changed(
            latency=options.latency,
            rtt=options.rtt,
            token_lifetime=options.token_lifetime,
            project=options.project,
            organization=options.organization,
            default_network=options.default_network,
        )
        asyncio.run(serve(settings, options.port, options.ready_fd))
    except AlreadyRunning:
        log.error("another sandbox serves %s", options.state)
        return 1
    except (ConfigError, OSError) as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
