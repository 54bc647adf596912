"""
DBOS: workflows are Python functions, each of whose steps is kept in a database before the next begins.

After https://docs.dbos.dev/python/programming-guide ("Workflows and Steps", SQLite being the default) and
https://docs.dbos.dev/python/tutorials/workflow-communication ("Messages and Notifications": `recv` waits, `send` wakes).
With the argument ``wal`` the file is put into SQLite's WAL mode before DBOS opens it, which lasts, as DBOS sets no mode.
SQLite's ``synchronous`` is what it is by default, FULL.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

from dbos import DBOS, DBOSConfig, SetWorkflowID

from benchmarks.peers.protocol import Run, Worker, expect, serve

DURABLE = "each of its steps is durable: see the durable rows"
PATIENCE = 3_600


@DBOS.step()  # type: ignore[untyped-decorator]
def work(number: int) -> int:
    """Do a task's work."""
    return number


@DBOS.workflow()  # type: ignore[untyped-decorator]
def sequence(size: int) -> int:
    """Tasks one after the other."""
    return [work(number) for number in range(size)][-1]  # type: ignore[no-any-return]


@DBOS.workflow()  # type: ignore[untyped-decorator]
async def waits(order: int) -> Any:
    """Wait for a message."""
    answer = await DBOS.recv_async("approval", timeout_seconds=PATIENCE)
    return order, answer


class Dbos(Worker):
    """The library."""

    version = version("dbos")
    absent: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("sequence", "parallel", "choice", "some", "loop", "instances"), DURABLE
    )

    def __init__(self, *, wal: bool) -> None:
        self.name = "DBOS, WAL" if wal else "DBOS"
        self._wal = wal
        self._launched = False

    def durable(self, size: int, folder: str) -> Run:
        """A workflow of steps."""
        self._launch(folder)

        def run() -> None:
            expect(sequence(size) == size - 1)

        return run

    def idle(self, number: int) -> object:
        """A workflow that waits for a message."""
        if not self._launched:
            self._launch(tempfile.mkdtemp())
        return DBOS.start_workflow(waits, number)

    def leave(self, folder: str, count: int) -> None:
        """Leave workflows that wait for a message."""
        self._launch(folder)
        for number in range(count):
            with SetWorkflowID(f"case-{number}"):
                DBOS.start_workflow(waits, number)

    def restart(self, folder: str, count: int) -> None:
        """Launch, which recovers all pending workflows; send one its message and take its result."""
        self._launch(folder)
        DBOS.send(f"case-{count - 1}", "yes", "approval")
        expect(DBOS.retrieve_workflow(f"case-{count - 1}").get_result()[1] == "yes")

    def _launch(self, folder: str) -> None:
        path = Path(folder, "dbos.sqlite")
        if self._wal:
            with sqlite3.connect(path) as connection:
                mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
                expect(mode == "wal", f"the journal mode is {mode}")
            connection.close()
        config: DBOSConfig = {
            "name": "benchmark",
            "system_database_url": f"sqlite:///{path}",
            "log_level": "ERROR",
            "application_version": "1",
        }
        DBOS(config=config)
        DBOS.launch()
        self._launched = True


if __name__ == "__main__":
    serve(Dbos(wal="wal" in sys.argv[1:]))
