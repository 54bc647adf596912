"""
One instance of several, as a process of its own: ``python -m tests.instance STORE NAME DIRECTORY LEASE``.

It does its part of the automatic work, and gives commands as people do, to whatever case it finds; each acknowledged command is
noted in a file of the directory before the next one is given.
Whoever started it kills it, or stops it and lets it go on, at any moment.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from knhk import Engine, build
from knhk.errors import CommandError, KnhkError, StoreError
from knhk.spec import Specification
from knhk.stores import open_store
from knhk.work.ownership import Ownership

_T = TypeVar("_T")

TASKS = ("first", "second", "last")
"""The tasks whose handler notes its attempts."""


def durability_of(store: str) -> str:
    """Of a file nothing is to be gained from a sync: a process that is killed loses nothing that it has written."""
    return "full" if "://" in store else "off"


def specification() -> Specification:
    """Handlers one after the other, a person, and a timer, side by side; then a handler for what came of them."""
    net = build("chaos")
    split, join = net.task("split", split="and"), net.task("join", join="and")
    net.start.to(split)
    first = net.task("first", handler="count", retry={"max_attempts": 1000, "initial": "10ms"})
    second = net.task("second", handler="count", retry={"max_attempts": 1000, "initial": "10ms"})
    net.sequence(split, first, second, join)
    net.sequence(split, net.task("hand", manual=True), join)
    net.sequence(split, net.task("wait", timer="50ms"), join)
    net.sequence(join, net.task("last", handler="count", retry={"max_attempts": 1000, "initial": "10ms"}), net.end)
    return net.specification()


def note(file: int, line: str) -> None:
    """Add a line, whole, whoever else writes."""
    os.write(file, f"{line}\n".encode())


def count(calls: int, name: str) -> Any:
    """Return the handler of all tasks: it notes when it begins and when it ends."""

    def run(work: Any) -> dict[str, Any]:
        note(calls, f"begin {work.case_id} {work.task} {work.attempt} {name}")
        if random.random() < 0.02:  # noqa: S311 - chaos, not secrets
            raise ValueError("now and then")
        note(calls, f"end {work.case_id} {work.task} {work.attempt} {name}")
        return {work.task: f"{name} {work.attempt}"}

    return run


def complete_some(engine: Engine, acknowledged: int, name: str) -> None:
    """Complete offered items, as they come: one by one, or by a pipeline."""
    rows = list(engine.store.items(state="offered", limit=50))
    random.shuffle(rows)
    cases = [engine.case(row.case_id) for row in rows[:5]]
    said = [f"{name} {os.getpid()} {number} {random.random()}" for number in range(5)]  # noqa: S311 - to tell them apart
    commands = [partial(case.complete_task, "hand", {"hand": what}) for case, what in zip(cases, said, strict=False)]
    together = random.choice((1, 3, 5))  # noqa: S311 - chaos, not secrets
    for begin in range(0, len(commands), together):
        outcomes = engine.pipeline(commands[begin : begin + together])
        for place, outcome in enumerate(outcomes, begin):
            if outcome.error is None:
                note(acknowledged, f"{cases[place].id} {said[place]}")
        for each in outcomes:
            # Where another was faster, or moves it again and again, the next is tried.
            if each.error is not None and not isinstance(each.error, CommandError):
                raise each.error


def patiently(part: Callable[[], _T]) -> _T:
    """Do a part again until the store is there."""
    while True:
        try:
            return part()
        except StoreError:
            time.sleep(0.05)


def end_with_parent() -> None:
    """End where whoever has the other end of this process's input has ended, however he did."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(store: str, name: str, directory: str, lease: str) -> None:
    """Work until SIGTERM."""
    end_with_parent()
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    flags = os.O_APPEND | os.O_CREAT | os.O_WRONLY
    calls, acknowledged, joined, said = (
        os.open(Path(directory) / each, flags) for each in ("calls", "acknowledged", "joined", f"said-{name}")
    )
    os.dup2(said, sys.stderr.fileno())
    opened = patiently(lambda: open_store(store, durability=durability_of(store)))
    ownership = Ownership(opened, name, lease=float(lease))
    engine = Engine(opened, instance=ownership)
    engine.handler("count")(count(calls, name))
    patiently(ownership.start)
    with engine.serve(workers=3, interval=0.05):
        note(joined, name)
        while not over.wait(0.02):
            try:
                complete_some(engine, acknowledged, name)
            except KnhkError as error:
                # The store is away, or a process that is stopped as it writes keeps all others from it: they try again.
                note(calls, f"failed {error!r}")
        ownership.drain()
    ownership.stop()
    opened.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
