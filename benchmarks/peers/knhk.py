"""KNHK as its users run it: ``Engine("memory:")``, handlers and ``case.run()``; SQLite for what must last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.nets import fork, instances, line, loop
from benchmarks.peers.protocol import Run, Worker, expect, serve
from knhk import Engine, Specification, __version__

DOES = {"handler": "work"}


class Knhk(Worker):
    """This library."""

    name = "KNHK"
    version = __version__

    def __init__(self) -> None:
        self._waiting: Engine | None = None

    def sequence(self, size: int, _folder: str) -> Run:
        """Tasks one after the other."""
        return _runs(line("sequence", size, **DOES))

    def parallel(self, size: int, _folder: str) -> Run:
        """AND-split and AND-join."""
        return _runs(fork("parallel", size, "and", task=DOES))

    def choice(self, size: int, _folder: str) -> Run:
        """XOR-split and XOR-join; the second branch is taken."""
        whens = [f"data.branch == {number}" for number in range(size)]
        return _runs(fork("choice", size, "xor", whens=whens, task=DOES), {"branch": 1})

    def some(self, size: int, _folder: str) -> Run:
        """OR-split and OR-join; two branches are taken."""
        whens = [f"data.branch{number}" for number in range(size)]
        data = {f"branch{number}": number < 2 for number in range(size)}
        return _runs(fork("some", size, "or", whens=whens, task=DOES), data)

    def loop(self, size: int, _folder: str) -> Run:
        """A task that runs again until it has run so often."""
        return _runs(loop("loop", size, handler="count"), {"n": 0})

    def instances(self, size: int, _folder: str) -> Run:
        """A multiple-instance task."""
        return _runs(instances("instances", size, **DOES))

    def durable(self, size: int, folder: str) -> Run:
        """Tasks one after the other, each result acknowledged under durability full."""
        return _runs(line("durable", size, **DOES), target=str(Path(folder, "cases.db")))

    def idle(self, number: int) -> object:
        """Open a case with manual tasks; the engine keeps all of them in memory."""
        if self._waiting is None:
            self._waiting = Engine("memory:", cache=1_000_000)
            self._waiting.register(_waits())
        case = self._waiting.create_case("waits", {"order": number})
        case.start()
        return case

    def leave(self, folder: str, count: int) -> None:
        """Leave open cases in a file."""
        with Engine(str(Path(folder, "cases.db"))) as engine:
            engine.register(_waits())
            for number in range(count):
                engine.create_case("waits", {"order": number}).start()

    def restart(self, folder: str, count: int) -> None:
        """Open the file, list what all cases wait for, and complete one of the items."""
        with Engine(str(Path(folder, "cases.db"))) as engine:
            rows = list(engine.work_items(state="offered"))
            expect(len(rows) == count, f"{len(rows)} of {count} items wait")
            row = rows[0]
            engine.case(row.case_id).work_item(row.number).complete({"approved": True})


def _waits() -> Specification:
    return line("waits", 3, manual={})


def _runs(specification: Specification, data: dict[str, Any] | None = None, target: str = "memory:") -> Run:
    engine = Engine(target)
    engine.handler("work")(lambda _work: None)
    engine.handler("count")(lambda work: {"n": work.data["n"] + 1})
    engine.register(specification)

    def run() -> None:
        expect(engine.run_case(specification.id, data).state == "completed")

    return run


if __name__ == "__main__":
    serve(Knhk())
