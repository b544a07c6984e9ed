# SPDX-License-Identifier: Apache-2.0
"""Which MariaDB there is: the system's, or the distribution's packages, unpacked into the sandbox's cache.

Nothing is installed and root is not needed: apt-get resolves and downloads with private folders for its state, and
the packages are unpacked beside each other. That happens when a server is first needed, once for all sandboxes of a
user. A server's first data are made once too, and copied for each server.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import platform
import re
import shutil
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pymysql

from gcp_sandbox.backends.cache import cache, locked, made_once
from gcp_sandbox.backends.home import Home
from gcp_sandbox.backends.local import START_TIMEOUT, environment
from gcp_sandbox.backends.sql import Flag, SqlError
from gcp_sandbox.config import remove_folder

log = logging.getLogger(__name__)

OLDEST = (10, 5)  # of which roles, JSON in mysql.global_priv and the options used here can be relied on
PLACES = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/libexec"
APT_TIMEOUT = 600.0  # seconds for apt-get to get its lists, or the packages

APT_OPTIONS = {"Acquire::Retries": 3, "Acquire::Languages": "none"}

# Options that a server is made with and must find again when it starts.
INNODB = ("--innodb-log-file-size=16M",)
CHARSET = "utf8mb4"

# Options that reach around the server to the machine or change what the sandbox relies on are no flags.
WITHHELD = re.compile(
    r"(?:basedir|bind_address|character_sets_dir|datadir|general_log_file|ignore_db_dirs|init_file|lc_messages_dir|"
    r"log_bin(?!_trust_function_creators).*|log_error|pid_file|plugin_.*|port|proxy_protocol_networks|relay_log.*|report_.*|secure_.*|server_id|"
    r"skip_(?:external_locking|grant_tables|name_resolve|networking)|slow_query_log_file|socket|ssl_.*|tls_.*|tmpdir|"
    r"slave_load_tmpdir|version.*|wsrep_.*|innodb_(?:data|undo|log_group)_.*|innodb_log_file_size|aria_log_dir_path|"
    r"innodb_page_size|innodb_flush_method|large_page.*|license|hostname|system_time_zone|have_.*|gtid_binlog.*)"
)
# Flags that Cloud SQL for MySQL takes and MariaDB does not know: kept, without an effect.
# (cloud.google.com/sql/docs/mysql/flags; name -> type, whether it needs a restart)
MYSQL_ONLY = {
    "activate_all_roles_on_login": ("BOOLEAN", False),
    "binlog_row_value_options": ("STRING", False),
    "binlog_transaction_compression": ("BOOLEAN", False),
    "binlog_transaction_dependency_history_size": ("INTEGER", False),
    "binlog_transaction_dependency_tracking": ("STRING", False),
    "cloudsql_iam_authentication": ("BOOLEAN", False),
    "cloudsql_ignore_innodb_encryption": ("BOOLEAN", False),
    "cloudsql_mysql_audit_data_masking_cmds": ("STRING", False),
    "cloudsql_mysql_audit_data_masking_regexps": ("STRING", False),
    "cloudsql_mysql_audit_log_write_period": ("INTEGER", False),
    "cloudsql_mysql_audit_max_query_length": ("INTEGER", False),
    "cloudsql_vector": ("BOOLEAN", True),
    "cte_max_recursion_depth": ("INTEGER", False),
    "default_authentication_plugin": ("STRING", True),
    "default_collation_for_utf8mb4": ("STRING", False),
    "end_markers_in_json": ("BOOLEAN", False),
    "generated_random_password_length": ("INTEGER", False),
    "gtid_mode": ("STRING", False),
    "information_schema_stats_expiry": ("INTEGER", False),
    "innodb_cloudsql_managed_buffer_pool": ("BOOLEAN", False),
    "innodb_cloudsql_optimized_write": ("BOOLEAN", True),
    "innodb_cloudsql_staged_cleanup": ("BOOLEAN", False),
    "innodb_dedicated_server": ("BOOLEAN", True),
    "innodb_print_ddl_logs": ("BOOLEAN", False),
    "innodb_redo_log_capacity": ("INTEGER", False),
    "innodb_undo_log_truncate": ("BOOLEAN", False),
    "internal_tmp_mem_storage_engine": ("STRING", False),
    "max_execution_time": ("INTEGER", False),
    "mysql_native_password": ("BOOLEAN", True),
    "mysqlx": ("BOOLEAN", True),
    "offline_mode": ("BOOLEAN", False),
    "password_history": ("INTEGER", False),
    "password_reuse_interval": ("INTEGER", False),
    "protocol_compression_algorithms": ("STRING", False),
    "range_optimizer_max_mem_size": ("INTEGER", False),
    "regexp_stack_limit": ("INTEGER", False),
    "regexp_time_limit": ("INTEGER", False),
    "replica_parallel_type": ("STRING", True),
    "replica_preserve_commit_order": ("BOOLEAN", True),
    "schema_definition_cache": ("INTEGER", False),
    "show_create_table_verbosity": ("BOOLEAN", False),
    "sql_generate_invisible_primary_key": ("BOOLEAN", False),
    "sql_require_primary_key": ("BOOLEAN", False),
    "tablespace_definition_cache": ("INTEGER", False),
    "temptable_max_mmap": ("INTEGER", False),
    "temptable_max_ram": ("INTEGER", False),
    "windowing_use_high_precision": ("BOOLEAN", False),
}

# Options of the server's program that are no variables: type, and all of them need a restart.
OPTIONS = {"default_time_zone": "STRING", "skip_character_set_client_handshake": "BOOLEAN"}

# The data types of information_schema.SYSTEM_VARIABLES -> the Admin API's.
TYPES = {"BOOLEAN": "BOOLEAN", "DOUBLE": "FLOAT", "INT": "INTEGER", "BIGINT": "INTEGER"}


@dataclass(frozen=True)
class Build:
    """A MariaDB: `daemon` is the server's program, `prefix` the folder with bin/, lib/ and share/ that belong to it,
    `libraries` what the system lacks of the libraries that it needs, `version` as it says it itself."""

    daemon: Path
    prefix: Path
    libraries: tuple[Path, ...]
    version: str

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.version.split("-")[0].split("."))

    @property
    def label(self) -> str:
        """databaseInstalledVersion: what really serves."""
        return "MARIADB_" + "_".join(map(str, self.numbers))

    @property
    def environment(self) -> dict[str, str]:
        if not self.libraries:
            return environment()
        return environment(LD_LIBRARY_PATH=":".join(map(str, self.libraries)))

    @property
    def collation(self) -> str:
        """What comes nearest to MySQL 8's utf8mb4_0900_ai_ci: accents and case do not matter, trailing spaces do."""
        return f"{CHARSET}_uca1400_nopad_ai_ci" if self.numbers >= (10, 10) else f"{CHARSET}_unicode_520_nopad_ci"

    @property
    def messages(self) -> Path:
        """The folder of its messages, a folder a language: Debian and Red Hat call it differently."""
        places = (self.prefix / "share" / name for name in ("mysql", "mariadb"))
        return next((place for place in places if (place / "english").is_dir()), self.prefix / "share" / "mysql")

    def tool(self, name: str) -> str:
        return str(self.prefix / "bin" / name)


def build(home: Home) -> Build:
    """Return the MariaDB that servers run, fetched if need be, where their user can execute it.

    :raises SqlError: there is none and none can be had.
    """
    found = _ready.get(home)
    if found is None or not found.daemon.exists():  # the cache may have been emptied
        found = _ready[home] = _enterable(home, fetched())
    return found


_ready: dict[Home, Build] = {}


def _enterable(home: Home, found: Build) -> Build:
    """Return the build itself, or a copy of it where the servers' user can execute it."""
    if home.can_enter(found.daemon.parent):
        return found
    if not found.prefix.is_relative_to(_place()):
        raise SqlError(f"{found.daemon} cannot be run by the servers' user, which may not enter its folder")
    return _unpacked(home.offer(f"mariadb-{found.version}", {"": found.prefix.parent}), found.version)


@functools.cache
def present() -> Build | None:
    """Return the MariaDB that needs no download: the system's, else the one in the cache."""
    return _system() or _cached()


_lock = threading.Lock()


def fetched() -> Build:
    """Return the MariaDB of this machine, fetched if there is none yet.

    :raises SqlError: none can be had.
    """
    with _lock:
        if (found := present()) is not None and not found.daemon.exists():
            present.cache_clear()
            found = present()
        if found is None:
            _fetch(_place())
            present.cache_clear()
            found = present()
    if found is None:
        raise SqlError(f"the packages in {_place()} hold no MariaDB server that runs on this machine")
    return found


def _system() -> Build | None:
    """Return the system's, if it is new enough. MySQL's own server is called mysqld too and is not meant."""
    path = f"{os.environ.get('PATH', '')}:{PLACES}"
    for name in ("mariadbd", "mysqld"):
        if program := shutil.which(name, path=path):
            daemon = Path(program).resolve()
            found = Build(daemon, daemon.parents[1], (), _version(daemon, {}) or "")
            if found.version and found.numbers >= OLDEST and Path(found.tool("mariadb-install-db")).exists():
                return found
    return None


def _cached() -> Build | None:
    root = _place()
    return _unpacked(root, None) if root.is_dir() else None


def _unpacked(root: Path, version: str | None) -> Build | None:
    """Return the build with its packages unpacked into `root`; its version is read from the program unless given."""
    folders = {file.parent for file in root.glob("**/lib*.so*") if "plugin" not in file.parts}
    found = Build(root / "usr" / "sbin" / "mariadbd", root / "usr", tuple(sorted(folders)), "")
    version = version or _version(found.daemon, found.environment)
    return Build(found.daemon, found.prefix, found.libraries, version) if version else None


def _version(daemon: Path, environ: dict[str, str]) -> str | None:
    """10.11.6-MariaDB-0+deb12u1, or None for what is no MariaDB or does not run."""
    try:
        done = subprocess.run(
            [daemon, "--no-defaults", "--version"], capture_output=True, text=True, env=environ or environment()
        )
    except OSError:
        return None
    found = re.search(r"Ver (\d+\.\d+\.\d+-MariaDB\S*)", done.stdout)
    return found[1] if found and not done.returncode else None


# --- the packages -----------------------------------------------------------------------------------------------------


def _place() -> Path:
    """Return where the packages are unpacked: the same for one release of a distribution."""
    with contextlib.suppress(OSError):  # a distribution without os-release
        release = platform.freedesktop_os_release()
        name = f"{release['ID']}-{release.get('VERSION_ID', 'rolling')}"
        return cache() / "mariadb" / f"{name}-{platform.machine()}"
    return cache() / "mariadb" / platform.machine()


def _fetch(target: Path) -> None:
    """Unpack the distribution's MariaDB into `target`. SqlError says why that is not possible, and what would help."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise SqlError(
            "this machine has no MariaDB, which serves Cloud SQL for MySQL, and no apt-get to fetch one with: install "
            f"MariaDB {OLDEST[0]}.{OLDEST[1]} or newer, so that mariadbd is found in PATH or /usr/sbin"
        )
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(target.with_suffix(".lock")):
        if _cached() is not None:  # another sandbox was faster
            return
        log.info("Cloud SQL for MySQL: fetching the distribution's MariaDB into %s", target)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="fetch-") as name:
            root = Apt(Path(name)).unpacked()
            if _unpacked(root, None) is None:
                raise SqlError("the distribution's MariaDB was fetched, but its server does not run on this machine")
            remove_folder(target)  # of another state of the system, without its libraries
            root.rename(target)


class Apt:
    """apt-get with a state and a cache of its own, in `folder`, beside what the machine has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "state" / "lists" / "partial").mkdir(parents=True)
        (folder / "archives" / "partial").mkdir(parents=True)
        # apt-get locks and may write where this file is. Installed packages decide which libraries are lacking.
        shutil.copyfile("/var/lib/dpkg/status", folder / "state" / "status")
        self.config = folder / "apt.conf"
        self.config.write_text(self._configuration())

    def _configuration(self) -> str:
        """Return the machine's own configuration (its proxies, say) without hooks, which are for its packages."""
        done = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True)
        kept = [line for line in done.stdout.splitlines() if "-Invoke" not in line and "DEP-11" not in line]
        ours = {
            "Dir::Etc::Main": "/dev/null",
            "Dir::Etc::Parts": "/dev/null",
            "Dir::State": self.folder / "state",
            "Dir::State::Lists": self.folder / "state" / "lists",
            "Dir::State::status": self.folder / "state" / "status",
            "Dir::State::extended_states": self.folder / "state" / "extended_states",
            "Dir::Cache": self.folder,
            "Dir::Cache::Archives": self.folder / "archives",
            "Dir::Log": self.folder,
            "APT::Sandbox::User": "root",  # under root: another user could not write here
            **APT_OPTIONS,
        }
        return "\n".join([*kept, *(f'{name} "{value}";' for name, value in ours.items())]) + "\n"

    def unpacked(self) -> Path:
        """Return the folder with the server's packages, and those that they need and the machine lacks, unpacked."""
        # A list that cannot be had is a warning to apt-get: it may not be the one that matters.
        said = self._run("apt-get", "update")[1]
        server = self._newest("mariadb-server-core", said)
        # Packages of the same source that the machine has already would not be downloaded otherwise.
        wanted = [server, server.replace("server", "client"), "mariadb-common"]
        options = ("--download-only", "--yes", "--no-install-recommends", "--reinstall", "--allow-downgrades")
        self._run("apt-get", "install", *options, *wanted)
        root = self.folder / "root"
        for package in sorted((self.folder / "archives").glob("*.deb")):
            self._run("dpkg-deb", "--extract", str(package), str(root))
        return root

    def _newest(self, name: str, said: str) -> str:
        """Return the package of a name or, where names have a version, the newest (mariadb-server-core-10.6)."""
        found = self._run("apt-cache", "pkgnames", name)[0].split()
        if not found and "Failed to fetch" in said:
            raise _unreachable(f"apt-get update: {said[-600:]}")
        if not found:
            raise SqlError(
                f"this machine has no MariaDB, which serves Cloud SQL for MySQL, and its distribution has no package "
                f"{name}: install MariaDB so that mariadbd is found in PATH or /usr/sbin"
            )
        return name if name in found else max(found, key=lambda item: [int(n) for n in re.findall(r"\d+", item)])

    def _run(self, *arguments: str) -> tuple[str, str]:
        """Return (standard output, standard error)."""
        environ = {**os.environ, "APT_CONFIG": str(self.config), "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
        try:
            done = subprocess.run(
                arguments, capture_output=True, text=True, env=environ, stdin=subprocess.DEVNULL, timeout=APT_TIMEOUT
            )
            said, failed = done.stderr.strip() or done.stdout.strip(), done.returncode != 0
        except subprocess.TimeoutExpired:
            said, failed = f"no answer within {APT_TIMEOUT:.0f} s", True
        if failed:
            raise _unreachable(f"{' '.join(arguments[:2])}: {said[-600:]}")
        return done.stdout, done.stderr


def _unreachable(said: str) -> SqlError:
    return SqlError(
        "this machine has no MariaDB, which serves Cloud SQL for MySQL, and its packages cannot be fetched: "
        f"{' '.join(said.split())}. Install mariadb-server, or make the packages reachable, and try again"
    )


# --- first data, and what the server knows ----------------------------------------------------------------------------


def template(home: Home, found: Build) -> Path:
    """Return a folder with `data`, what a new server begins with, and `variables`. It is only to be read."""
    return made_once(_templates(found), lambda target: _make_template(home, found, target))


def _templates(found: Build) -> Path:
    return cache() / "mariadb" / "templates" / found.version


def _make_template(home: Home, found: Build, target: Path) -> None:
    """Run mariadb-install-db as the servers' user, in a folder that this user can enter, and keep the result."""
    work = home.data / f"template-{os.getpid()}"
    remove_folder(work)
    home.folder(work)
    quick = (
        "--skip-log-bin",
        "--innodb-flush-log-at-trx-commit=0",
        "--loose-innodb-flush-method=nosync",
        "--loose-sync-frm=0",
    )
    try:
        _run(
            home, work,
            [
                found.tool("mariadb-install-db"), "--no-defaults", f"--basedir={found.prefix}",
                f"--datadir={work / 'data'}", "--auth-root-authentication-method=normal", "--skip-name-resolve",
                # Views of the system get the collation that literals of a session have, not the server's.
                "--skip-test-db", f"--character-set-server={CHARSET}", *INNODB, *quick,
            ],
            found.environment,
        )  # fmt: skip
        (work / "variables").write_text(_variables(home, found, work))
        shutil.copytree(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)  # the error above counts; a leftover only takes space


def _variables(home: Home, found: Build, work: Path) -> str:
    """Return the server's options from information_schema: name, type, bounds and READ_ONLY, a line each."""
    # Not in `work`: a socket's path must be short.
    place = home.folder(home.sockets / work.name)
    socket = place / "s"
    process = subprocess.Popen(
        [
            str(found.daemon), "--no-defaults", f"--basedir={found.prefix}", f"--datadir={work / 'data'}",
            f"--lc-messages-dir={found.messages}", f"--socket={socket}", f"--pid-file={work / 'pid'}",
            "--skip-networking", "--skip-grant-tables", *INNODB,
        ],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        cwd=work, env=found.environment, **home.identity,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                connection = pymysql.connect(unix_socket=str(socket), user="root")
                break
            except pymysql.err.OperationalError as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SqlError("a server with its first data does not start") from error
                time.sleep(0.02)
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT VARIABLE_NAME, VARIABLE_TYPE, NUMERIC_MIN_VALUE, NUMERIC_MAX_VALUE, READ_ONLY"
                " FROM information_schema.SYSTEM_VARIABLES"
                " WHERE COMMAND_LINE_ARGUMENT IS NOT NULL AND VARIABLE_SCOPE <> 'SESSION ONLY'"
            )
            return "".join("\t".join(str(item) for item in row) + "\n" for row in cursor.fetchall())
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(place, ignore_errors=True)  # the error above counts; a leftover only takes space


def _run(home: Home, cwd: Path, arguments: list[str], environ: dict[str, str], text: str = "") -> None:
    done = subprocess.run(arguments, input=text, capture_output=True, text=True, cwd=cwd, env=environ, **home.identity)
    if done.returncode:
        name = Path(arguments[0]).name
        raise SqlError(f"{name} failed: {(done.stderr.strip() or done.stdout.strip())[-1000:]}")


def flags() -> dict[str, Flag] | None:
    """Return the flags that may be set, by name; None before a server was first needed, when they are unknown."""
    found = present()
    if found is None or not (_templates(found) / "variables").is_file():
        return None
    return _flags(_templates(found) / "variables")


@functools.cache
def _flags(file: Path) -> dict[str, Flag]:
    known = {name: Flag(name, kind, restart) for name, (kind, restart) in MYSQL_ONLY.items()}
    known |= {name: Flag(name, kind, True) for name, kind in OPTIONS.items()}
    for line in file.read_text().splitlines():
        name, kind, low, high, fixed = line.split("\t")
        name, kind = name.lower(), TYPES.get(kind.split()[0], "STRING")
        if WITHHELD.fullmatch(name):
            continue
        bounds = (int(low), int(high)) if kind == "INTEGER" and "None" not in (low, high) else (None, None)
        known[name] = Flag(name, kind, fixed == "YES", *bounds)
    return known
