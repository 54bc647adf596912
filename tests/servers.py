"""
Real servers for the tests, from Debian's packages, on free ports of the loopback interface, each with a directory of its own.

`postgresql` is one server for the whole run, which all worker processes share; a test that stops or breaks its server takes
`own_postgresql` instead.
The shared one runs under a guard, which is this file as a program: it waits for a lock that every process that uses the server
holds, and stops the server as soon as nobody does, however they ended.
Another kind of server is a subclass of `Server` and two fixtures beside these.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, ClassVar

import pytest

STARTING_TAKES = 60.0


def free_port() -> int:
    """
    A port of the loopback interface that nobody has now.

    It is one of those that the kernel gives to no outgoing connection, so that none of the many of a test run takes it before the
    server does, and low enough for Redis, whose port in cluster mode is 10,000 above this one.
    """
    while True:
        port = 12_000 + secrets.randbelow(10_000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def _in_memory() -> str | None:
    """A directory in memory where there is one with room: whether a disk keeps what it is told is not what is tested."""
    shm = Path("/dev/shm")
    return str(shm) if shm.is_dir() and shutil.disk_usage(shm).free > 2**30 else None


class Server:
    """
    A server process with its directory.

    Subclasses say which program, how its directory is prepared, how it is called and when it is ready.
    """

    name: ClassVar[str]
    """What it is called here; its fixtures have this name too."""

    user: ClassVar[str | None] = None
    """Whom it runs as where the tests run as root; None: as root."""

    stop_signal: ClassVar[signal.Signals] = signal.SIGKILL
    """How it is stopped where nobody says otherwise; nothing of its data is wanted any more."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"knhk-{self.name}-", dir=_in_memory()))
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._as: list[str] = []
        if os.getuid() == 0:
            # Whoever ends, the server ends with them.
            self._as = ["setpriv", "--pdeathsig", "KILL"]
            if self.user is not None:
                shutil.chown(self.directory, self.user)
                group = str(pwd.getpwnam(self.user).pw_gid)
                self._as += ["--reuid", self.user, "--regid", group, "--clear-groups"]

    @classmethod
    def program(cls) -> str | None:
        """The path of its program, or None where it is not installed."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Make what it needs before its first start."""

    def command(self) -> Sequence[str]:
        """How it is called."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Whether it answers."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        """The store URL without options."""
        raise NotImplementedError

    def run(self, command: Sequence[str]) -> None:
        """Run a program as the server's user, and wait for it."""
        done = subprocess.run([*self._as, *command], capture_output=True, cwd=self.directory, check=False)
        assert done.returncode == 0, f"{command[0]}: {done.stdout.decode()}{done.stderr.decode()}"

    def start(self) -> None:
        """Start it and return when it answers."""
        assert self.process is None
        with (self.directory / "output").open("ab") as output:
            self.process = subprocess.Popen(
                [*self._as, *self.command()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.directory,
                start_new_session=True,
            )
        end = time.monotonic() + STARTING_TAKES
        while not self.ready():
            said = (self.directory / "output").read_text(errors="replace")[-2000:]
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop(signal.SIGKILL)
                raise AssertionError(f"{self.name} did not start: {said}")
            time.sleep(0.02)

    def stop(self, by: signal.Signals | None = None) -> None:
        """Stop it by a signal and wait until it is gone; stopping twice is stopping once."""
        if self.process is not None:
            self.process.send_signal(by or self.stop_signal)
            self.process.wait()
            self.process = None

    def remove(self) -> None:
        """Stop it and remove its directory."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


class PostgresqlServer(Server):
    """PostgreSQL: it refuses to run as root, and its default order of texts is one that stores must not rely on."""

    name = "postgresql"
    user = "postgres"
    # "Immediate": without a checkpoint, and nothing is written that was not before.
    stop_signal = signal.SIGQUIT

    @classmethod
    def program(cls) -> str | None:
        """The newest version's."""
        found = [each for each in Path("/usr/lib/postgresql").glob("*/bin/postgres") if each.parts[4].isdigit()]
        newest = max(found, key=lambda each: int(each.parts[4]), default=None)
        return shutil.which("postgres") if newest is None else str(newest)

    def __init__(self, **settings: str) -> None:
        super().__init__()
        self.settings = settings

    def prepare(self) -> None:
        """Make the cluster."""
        program = Path(str(self.program()))
        self.run(
            [str(program.with_name("initdb")), "-D", str(self.directory / "data"), "--no-sync", "--auth=trust"]
            + ["-U", "knhk", "--encoding=UTF8", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US"]
        )

    def command(self) -> Sequence[str]:
        """The server in the foreground, with few of everything."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": "32MB",
            "max_wal_size": "256MB",
            "log_min_messages": "fatal",
            **self.settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self.program()), "-D", str(self.directory / "data"), "-p", str(self.port), *options]

    def ready(self) -> bool:
        """It takes connections."""
        probe = [str(Path(str(self.program())).with_name("pg_isready")), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(probe, check=False).returncode == 0

    @property
    def url(self) -> str:
        """Its database that is always there."""
        return f"postgresql://knhk@127.0.0.1:{self.port}/postgres"


class RedisServer(Server):
    """Redis with an append-only file that is synced before each answer."""

    name = "redis"

    def __init__(self, **settings: str) -> None:
        super().__init__()
        self.settings = settings

    @classmethod
    def program(cls) -> str | None:
        """The server, or the command that is called so."""
        return shutil.which("redis-server")

    def command(self) -> Sequence[str]:
        """The server in the foreground, without snapshots."""
        settings = {"bind": "127.0.0.1", "save": "", "appendonly": "yes", "appendfsync": "always", **self.settings}
        options = [part for name, value in settings.items() for part in (f"--{name}", value)]
        return [str(self.program()), "--port", str(self.port), "--dir", str(self.directory), *options]

    def say(self, command: str) -> str:
        """Send a command line and return the first line of the answer; "" where nobody answers."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=30) as line:
                line.sendall(f"{command}\r\n".encode())
                with line.makefile("r") as answer:
                    return answer.readline().strip()
        except OSError:
            return ""

    def ready(self) -> bool:
        """It has loaded its data."""
        return self.say("PING").startswith(("+PONG", "-NOAUTH"))

    @property
    def url(self) -> str:
        """Its first database."""
        return f"redis://127.0.0.1:{self.port}/0"


class EtcdServer(Server):
    """One member of etcd, which is a cluster."""

    name = "etcd"

    def __init__(self, *options: str) -> None:
        super().__init__()
        self.options = options
        self.peer = free_port()

    @classmethod
    def program(cls) -> str | None:
        """The server, or the command that is called so."""
        return shutil.which("etcd")

    def command(self) -> Sequence[str]:
        """The server in the foreground."""
        here, peer = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.peer}"
        return [
            *(
                str(self.program()),
                "--data-dir",
                str(self.directory / "data"),
                "--log-level",
                "error",
                "--logger",
                "zap",
            ),
            *("--listen-client-urls", here, "--advertise-client-urls", here, "--listen-peer-urls", peer),
            *("--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}", *self.options),
        ]

    def ready(self) -> bool:
        """It has a leader."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=30) as answer:
                return b'"true"' in answer.read()
        except OSError:
            return False

    @property
    def url(self) -> str:
        """Its URL."""
        return f"etcd://127.0.0.1:{self.port}"


KINDS: dict[str, type[Server]] = {each.name: each for each in (PostgresqlServer, RedisServer, EtcdServer)}


def missing() -> list[str]:
    """The servers that are not installed here."""
    return [name for name, kind in KINDS.items() if kind.program() is None]


def require(name: str) -> None:
    """Skip the test where the server is not installed; in CI, where nothing may be skipped, fail."""
    if name in missing():
        reason = f"{name} is not installed: tools/install_servers installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


def place(url: str, name: str) -> str:
    """The URL of a part of a server that nobody else uses: a namespace or, of PostgreSQL, a schema."""
    part = "schema" if url.startswith("postgresql") else "namespace"
    return f"{url}?{part}={name}_{os.getpid()}"


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    """The server, prepared and started, and gone afterwards."""
    try:
        server.prepare()
        server.start()
        yield server
    finally:
        server.remove()


@contextlib.contextmanager
def shared(name: str, directory: Path) -> Iterator[str]:
    """The URL of the server that all who name this directory share; whoever comes first starts it."""
    told = directory / f"{name}.url"
    with (directory / f"{name}.users").open("w") as users:
        with (directory / f"{name}.starting").open("w") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            # A guard that is stopping has this lock, and has taken back the URL when it lets go.
            fcntl.flock(users, fcntl.LOCK_SH)
            if not told.exists():
                _guarded(name, directory)
        yield told.read_text()


def _guarded(name: str, directory: Path) -> None:
    guard = subprocess.Popen(
        [sys.executable, __file__, name, str(directory)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert guard.stdout is not None
    with guard.stdout:
        url = guard.stdout.readline().decode().strip()
    assert url, f"the guard of {name} ended with {guard.wait()}"
    # It outlives whoever started it, and is no child that anybody waits for.
    guard.returncode = 0
    (directory / f"{name}.url").write_text(url)


def guard(name: str, directory: Path, output: IO[str]) -> None:
    """Start a server, say its URL, and stop it as soon as nobody holds the lock of its users."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    with running(KINDS[name]()) as server:
        print(server.url, file=output, flush=True)
        with (directory / f"{name}.users").open("w") as users:
            fcntl.flock(users, fcntl.LOCK_EX)
            (directory / f"{name}.url").unlink(missing_ok=True)
            server.stop()


def _common(factory: pytest.TempPathFactory) -> Path:
    """The directory that all worker processes of this run have in common."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the PostgreSQL server that the whole run shares; use a schema of your own."""
    require("postgresql")
    with shared("postgresql", _common(tmp_path_factory)) as url:
        yield url


@pytest.fixture
def own_postgresql() -> Iterator[PostgresqlServer]:
    """A PostgreSQL server that the test may stop, break and start."""
    require("postgresql")
    with running(PostgresqlServer()) as server:
        assert isinstance(server, PostgresqlServer)
        yield server


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the Redis server that the whole run shares; use a namespace of your own."""
    require("redis")
    with shared("redis", _common(tmp_path_factory)) as url:
        yield url


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis server that the test may stop, break and start."""
    require("redis")
    with running(RedisServer()) as server:
        assert isinstance(server, RedisServer)
        yield server


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the etcd server that the whole run shares; use a namespace of your own."""
    require("etcd")
    with shared("etcd", _common(tmp_path_factory)) as url:
        yield url


@pytest.fixture
def own_etcd() -> Iterator[EtcdServer]:
    """An etcd server that the test may stop, break and start."""
    require("etcd")
    with running(EtcdServer()) as server:
        assert isinstance(server, EtcdServer)
        yield server


if __name__ == "__main__":
    guard(sys.argv[1], Path(sys.argv[2]), sys.stdout)
