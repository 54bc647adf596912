"""The servers of the tests start once for all who use them, and are gone when nobody does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from servers import PostgresqlServer, shared

USER = """
import sys, time
from pathlib import Path
from servers import shared

with shared("postgresql", Path(sys.argv[1])) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


def answers(url: str) -> bool:
    server = object.__new__(PostgresqlServer)
    server.port = int(url.rpartition(":")[2].partition("/")[0])
    return server.ready()


def test_a_shared_server_ends_with_the_last_who_uses_it(tmp_path: Path, postgresql: str) -> None:
    """Two processes get the same server; it stays when one ends, and is gone when the other is killed."""
    command = [sys.executable, "-c", USER, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": os.path.dirname(__file__)}
    with subprocess.Popen(command, **pipes) as first, subprocess.Popen(command, **pipes) as second:
        urls = [each.stdout.readline().decode().strip() for each in (first, second)]
        assert urls[0] == urls[1] != postgresql
        first.communicate()

        assert answers(urls[0])

        second.send_signal(signal.SIGKILL)
    end = time.monotonic() + 60
    while answers(urls[0]) and time.monotonic() < end:
        pass
    assert not answers(urls[0])

    # Whoever comes later starts another.
    with shared("postgresql", tmp_path) as again:
        assert answers(again)
