# SPDX-License-Identifier: Apache-2.0
"""Containers as processes: what they are given, how they end, how they outlive the daemon."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
import time
import urllib.request

import pytest
from gcp_sandbox.backends.logs import Source
from gcp_sandbox.backends.pools import Exhausted, Limits, Pool, Probe, StartFailed
from gcp_sandbox.backends.processes import Processes, Spec, Volume, free_port, replace_mounts, start_ticks
from gcp_sandbox.sandbox import Sandbox

SERVE = "import http.server, os; http.server.test(http.server.SimpleHTTPRequestHandler, port=int(os.environ['PORT']))"
SHOW = "import json, os, sys; print(json.dumps({'env': dict(os.environ), 'argv': sys.argv[1:]}), flush=True)"


SOURCE = Source("test", "mlflow-sandbox", "run.googleapis.com", "cloud_run_revision", {"revision_name": "one"})


def make(sandbox, program=SERVE, *, argv=(), **more):
    spec = {
        "owner": "test/revisions/one",
        "log": SOURCE,
        "cwd": sandbox.settings.state,
        "env": {"GIVEN": "yes"},
        "service_account": "x@mlflow-sandbox.iam.gserviceaccount.com",
        "project": sandbox.settings.project,
        "region": "europe-west1",
    }
    return Spec(argv=[sys.executable, "-c", program, *argv], **{**spec, **more})


def eventually(condition, timeout=60):
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


@pytest.fixture
def account(sandbox):
    project = sandbox.projects.get(sandbox.settings.project)
    email = f"x@{project.id}.iam.gserviceaccount.com"
    sandbox.identities.create_account(project, email)
    return email


def read_log(sandbox):
    return sandbox.logs.file("test").read_text()


def test_a_container_gets_its_environment_and_nothing_of_the_daemons(sandbox, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_DAEMON", "x")
    process = sandbox.processes.run(make(sandbox, SHOW, argv=["--host", "/cloudsql/p:r:i"], listens=False))
    assert process.wait(60) == 0
    shown = json.loads(read_log(sandbox))
    assert shown["env"]["GIVEN"] == "yes"
    assert "SECRET_OF_THE_DAEMON" not in shown["env"]
    assert shown["env"]["HTTPS_PROXY"] == sandbox.settings.proxy_url
    assert shown["env"]["GCE_METADATA_HOST"].startswith("127.0.0.1:")
    assert "PORT" not in shown["env"]
    assert shown["argv"] == ["--host", "/cloudsql/p:r:i"]


def test_volumes_are_private_and_their_mount_paths_lead_to_them(sandbox):
    volume = Volume("/secrets/db", files={"password": b"hunter2"})
    show = (
        "import os, sys; p = sys.argv[1]; "
        "print(open(p).read(), oct(os.stat(p).st_mode & 0o777), os.environ['FILE'] == p)"
    )
    process = sandbox.processes.run(
        make(
            sandbox,
            show,
            argv=["/secrets/db/password"],
            env={"FILE": "/secrets/db/password"},
            volumes=[volume],
            listens=False,
        )
    )
    folder = process.folder
    assert process.wait(60) == 0
    assert read_log(sandbox).split() == ["hunter2", "0o600", "True"]
    eventually(lambda: not folder.exists())


def test_mount_paths_are_replaced_as_whole_prefixes_only():
    mounts = {"/cloudsql": "/tmp/q0"}
    assert (
        replace_mounts("postgresql://u:p@/db?host=/cloudsql/p:r:i", mounts) == "postgresql://u:p@/db?host=/tmp/q0/p:r:i"
    )
    for text in ("/var/cloudsql/x", "/cloudsql-new/x", "https://example.com/cloudsql"):
        assert replace_mounts(text, mounts) == text


def test_the_log_is_private(sandbox):
    sandbox.logs.line(SOURCE, "a line")
    path = sandbox.logs.file("test")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().endswith(" a line\n")


def test_a_python_server_on_all_interfaces_listens_on_localhost_only(sandbox):
    process = sandbox.processes.run(make(sandbox))
    eventually(lambda: Probe().check(process.port))
    listening = subprocess.run(["cat", "/proc/net/tcp", "/proc/net/tcp6"], capture_output=True, text=True).stdout
    rows = [line.split()[1] for line in listening.splitlines() if f":{process.port:04X} " in line and " 0A " in line]
    assert rows == [f"0100007F:{process.port:04X}"]
    process.stop()


def test_the_metadata_server_gives_tokens_of_the_service_account(sandbox, account):
    process = sandbox.processes.run(make(sandbox))
    port = process.record["metadata_port"]
    url = f"http://127.0.0.1:{port}/computeMetadata/v1/instance/service-accounts/default/token"
    request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    token = json.load(urllib.request.urlopen(request))["access_token"]
    assert sandbox.identities.verify_access_token(token).email == account
    process.stop()
    eventually(lambda: not sandbox.processes.all())
    with pytest.raises(OSError):
        urllib.request.urlopen(request, timeout=2)


def test_stopping_ends_the_whole_group(sandbox):
    program = (
        "import os, signal, subprocess, sys, time\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    process = sandbox.processes.run(make(sandbox, program, listens=False))
    child = int(eventually(lambda: read_log(sandbox).strip()))
    process.stop()
    assert process.returncode == 0
    eventually(lambda: start_ticks(child) is None)


def test_a_process_that_ignores_sigterm_is_killed(sandbox):
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    )
    process = sandbox.processes.run(make(sandbox, program, listens=False))
    eventually(lambda: "up" in read_log(sandbox))
    process.stop(grace=0.5)
    assert process.returncode == -9


def test_no_secret_is_in_the_state(sandbox):
    process = sandbox.processes.run(make(sandbox, env={"PASSWORD": "correct-horse"}))
    assert not any(
        b"correct-horse" in path.read_bytes() for path in sandbox.settings.state.rglob("*") if path.is_file()
    )
    process.stop()


def test_a_later_daemon_adopts_what_runs_and_forgets_what_ended(sandbox, account, settings):
    alive = sandbox.processes.run(make(sandbox))
    dead = sandbox.processes.run(make(sandbox, owner="test/revisions/two"))
    eventually(lambda: Probe().check(alive.port))
    # The state after kill -9: the store as it is, no servers in the daemon, no parent that waits for the children.
    for attached in sandbox.processes._attached.values():
        attached.close()
    os.kill(dead.pid, 9)
    dead._child.wait()
    records = sandbox.store.list("processes.process")
    sandbox.store.put("processes.process", dead.id, dead.record)
    assert len(records) >= 1
    later = Processes(sandbox)
    later.start()
    (adopted,) = later.all()
    assert (adopted.pid, adopted.port) == (alive.pid, alive.port)
    url = f"http://127.0.0.1:{alive.record['metadata_port']}/computeMetadata/v1/instance/service-accounts/default/email"
    request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    assert urllib.request.urlopen(request).read().decode() == account
    later.stop()
    assert later.all() == [] and start_ticks(alive.pid) is None


def test_an_exit_code_survives_the_daemon(sandbox):
    spec = make(sandbox, "import sys; sys.exit(7)", owner="job/attempt", listens=False, keep_exit_code=True)
    process = sandbox.processes.run(spec)
    assert process.wait(60) == 7
    kept = Processes(sandbox).kept("job/attempt")
    assert (kept.alive(), kept.returncode) == (False, 7)
    sandbox.processes.discard(kept)
    assert sandbox.processes.kept("job/attempt") is None and not process.folder.exists()


def test_a_command_that_does_not_exist_leaves_nothing_behind(sandbox):
    with pytest.raises(OSError):
        sandbox.processes.run(Spec(**{**make(sandbox).__dict__, "argv": ["/does/not/exist"]}))
    assert sandbox.processes.all() == [] and not list((sandbox.settings.runtime / "i").iterdir())


def test_ports_are_given_once():
    assert len({free_port() for _ in range(20)}) == 20


class Pools:
    """A pool of small servers."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox, self.notes, self.pools = sandbox, [], []

    def __call__(self, program=SERVE, *, startup=None, liveness=None, **limits) -> Pool:
        pool = Pool(
            "pool",
            lambda: self.sandbox.processes.run(make(self.sandbox, program)),
            startup=startup or Probe(timeout=60),
            liveness=liveness,
            limits=Limits(**limits),
            note=self.notes.append,
        )
        self.pools.append(pool)
        return pool


@pytest.fixture
def pools(sandbox):
    made = Pools(sandbox)
    yield made
    for pool in made.pools:
        pool.close(grace=1)


def test_a_pool_starts_an_instance_on_demand_and_keeps_it(pools):
    pool = pools(maximum=3)
    assert pool.size == 0
    with pool.lease(20) as first:
        assert pool.size == 1
    with pool.lease(20) as second:
        assert second is first


def test_a_pool_grows_to_its_maximum_and_makes_others_wait(pools):
    pool = pools(concurrency=1, maximum=2)
    leases = [pool.acquire() for _ in range(3)]
    first, second = leases[0].result(60), leases[1].result(60)
    assert first is not second and pool.size == 2
    with pytest.raises(TimeoutError):
        leases[2].result(0.3)
    pool.release(first)
    assert leases[2].result(60) is first


def test_an_instance_that_refuses_connections_gets_no_more_requests(pools):
    """Its process may run a while longer, or forever."""
    pool = pools(maximum=1)
    with pool.lease(20) as first:
        pool.discard(first)
        assert pool.instances == []
    with pool.lease(20) as second:
        assert second is not first
    assert eventually(lambda: not first.process.alive())


def test_instances_that_start_side_by_side_do_not_disturb_each_other(pools):
    pool = pools(concurrency=1, maximum=6)
    leases = [pool.acquire() for _ in range(6)]
    assert len({lease.result(60).process.port for lease in leases}) == 6


def test_a_minimum_is_kept_and_dead_instances_are_replaced(pools):
    pool = pools(minimum=1, maximum=1)
    pool.tick()
    instance = eventually(lambda: pool.instances)[0]
    instance.process.kill_group()
    instance.process.exited.wait(60)
    pool.tick()
    assert eventually(lambda: pool.instances)[0] is not instance


def test_idle_instances_are_stopped_down_to_the_minimum(pools):
    pool = pools(concurrency=1, maximum=2, minimum=1, idle=0.1)
    leases = [pool.acquire() for _ in range(2)]
    for lease in leases:
        pool.release(lease.result(60))
    time.sleep(0.2)
    pool.tick()
    assert pool.size == 1


def test_an_instance_that_exits_at_start_says_so(pools):
    with pytest.raises(StartFailed, match=r"exit\(4\)") as failure:
        pools("import sys; sys.exit(4)").start_one()
    assert (failure.value.reason, failure.value.returncode) == ("exit", 4)


def test_an_instance_that_never_listens_fails_its_probe(pools):
    with pytest.raises(StartFailed) as failure:
        pools("import time; time.sleep(60)", startup=Probe(timeout=0.5, failures=1)).start_one()
    assert failure.value.reason == "probe"


def test_requests_fail_when_no_instance_starts(pools):
    with pytest.raises(StartFailed):
        pools("import sys; sys.exit(1)").acquire().result(60)


def test_a_failing_liveness_probe_restarts_the_instance(pools):
    liveness = Probe(path="/missing", period=0.1, failures=2)
    pool = pools(liveness=liveness, maximum=1)
    first = pool.start_one()
    eventually(lambda: pool.tick() or (pool.instances and pool.instances[0] is not first))
    assert any("LIVENESS" in note for note in pools.notes)


def test_a_closed_pool_serves_no_request(pools):
    pool = pools()
    pool.close()
    with pytest.raises(Exhausted):
        pool.acquire().result(1)


def test_closing_waits_for_requests_under_way(pools):
    pool = pools()
    lease = pool.acquire()
    instance = lease.result(60)
    closing = threading.Thread(target=pool.close, kwargs={"drain": 10})
    closing.start()
    time.sleep(0.3)
    assert instance.process.alive()
    pool.release(instance)
    closing.join(60)
    assert not instance.process.alive()
