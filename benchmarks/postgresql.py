"""What commits and steps cost on PostgreSQL, beside what the same server does without KNHK: ``python -m benchmarks postgresql``."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import Benchmark, Figure, Scale, absent


def postgresql(scale: Scale) -> Iterator[Figure]:
    """
    Compare-and-swap of 500 bytes by 1, 8 and 64 callers with a row, or a case, each; durability full; in turns.

    Raw: each caller has a connection and does ``UPDATE ... WHERE version = ...``, one transaction each.
    Commits: `PostgresStore.commit` of one step.
    Steps: a manual task of an engine, acknowledged.
    The figure is the best of the rounds.
    """
    found = programs()
    if found is None:
        yield absent("commits on PostgreSQL against raw", ">= 0.80", "PostgreSQL is not installed as Debian has it")
        return
    try:
        from benchmarks.postgresql_callers import compared  # noqa: PLC0415 - it needs the extra
    except ImportError as error:
        yield absent("commits on PostgreSQL against raw", ">= 0.80", str(error))
        return
    with server(found) as url:
        yield from compared(f"{url}?schema=benchmark", "benchmark", scale)


def programs() -> Path | None:
    """Return the folder of the newest version's programs, where Debian has them; None: it is not installed."""
    found = [each for each in Path("/usr/lib/postgresql").glob("*/bin") if each.parent.name.isdigit()]
    return max(found, key=lambda each: int(each.parent.name), default=None)


@contextmanager
def server(programs: Path) -> Iterator[str]:
    """Run a server with a new cluster, as another user where this is root, which PostgreSQL refuses."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as listener:
        user: list[str] = []
        if os.getuid() == 0:
            shutil.chown(folder, "postgres")
            user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        listener.close()
        data = str(Path(folder, "data"))
        make = [
            *user,
            str(programs / "initdb"),
            "-D",
            data,
            "--auth=trust",
            "-U",
            "knhk",
            "--encoding=UTF8",
            "--locale=C",
        ]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, cwd=folder)  # noqa: S603 - found above
        settings = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200")
        options = [part for each in settings for part in ("-c", each)]
        command = [*user, str(programs / "postgres"), "-D", data, "-p", str(port), *options]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)  # noqa: S603
        try:
            ask = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
            while subprocess.run(ask, check=False).returncode:  # noqa: S603
                if process.poll() is not None:
                    message = "PostgreSQL did not start"
                    raise RuntimeError(message)
                time.sleep(0.05)
            yield f"postgresql://knhk@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGQUIT)
            process.wait()


BENCHMARKS: dict[str, Benchmark] = {"postgresql": postgresql}
