"""
What the showcases have in common: a job that works through realistic rows, is killed in the middle, and goes on as if nothing was.

The parent starts a child that does the job on an SQLite file, and ends with SIGKILL at a moment at which it has just had an
effect outside and not yet told the engine.
A second child does the same job on the same file from the start; what is done is not done again.
Then the parent reads the file and the ledger and compares what came out with what the rows say must come out.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from functools import cached_property
from pathlib import Path
from typing import Any

from knhk import Engine, EventKind, RunningCase, Specification, Work
from knhk.testing.clock import ManualClock

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
FIRST_DAY = 1_772_438_400_000
"""Monday 2 March 2026, 08:00 UTC."""

_DONE = (EventKind.TASK_COMPLETED, EventKind.INSTANCE_COMPLETED, EventKind.TASK_FIRED)


class World:
    """
    The world outside: a ledger with one synced line per attempt, in which a key that was seen before has no second effect.

    Args:
        path: the file, one JSON object a line.
        kill_at: kill this process at this line; 0 for never.
        kill_in: or rather at the first line from there on that is of this action; "" for any.
    """

    def __init__(self, path: Path, kill_at: int = 0, kill_in: str = "") -> None:
        lines = ledger_lines(path)
        self._seen = {line["key"] for line in lines}
        self._lines = len(lines)
        self._kill_at = kill_at
        self._kill_in = kill_in
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def effect(self, action: str, work: Work, **details: Any) -> None:
        """Note an attempt, and have the effect unless this piece of work has had it."""
        key = f"{action}:{work.idempotency_key}"
        line = {"key": key, "attempt": work.attempt, "action": action, "effect": key not in self._seen, **details}
        os.write(self._file, json.dumps(line).encode() + b"\n")
        os.fsync(self._file)
        self._seen.add(key)
        self._lines += 1
        if 0 < self._kill_at <= self._lines and self._kill_in in ("", action):
            os.kill(os.getpid(), signal.SIGKILL)


def ledger_lines(path: Path) -> list[dict[str, Any]]:
    """Read a ledger; an empty list if there is none yet."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def trace(case: RunningCase) -> list[str]:
    """Return the paths of a case's tasks and instances in the order in which they were completed."""
    return [event.path for event in case.history() if event.kind in _DONE]


class Showcase:
    """
    One showcase; subclasses say what is theirs.

    Attributes:
        title: what it is called.
        specification: the file of the specification.
        rows: what there is to do, each with a member ``id``.
        killed_in: the effect outside in whose middle the first child is killed; "" for any.
        make_engine: makes the engine on a store.
    """

    title: str
    specification: Path
    rows: list[dict[str, str]]
    killed_in = ""

    def make_engine(self, database: str, clock: ManualClock) -> Engine:
        """Return the engine that the job works with."""
        return Engine(database, clock=clock)

    def handlers(self, engine: Engine, world: World) -> None:
        """Register the handlers."""
        raise NotImplementedError

    def data(self, row: dict[str, str]) -> dict[str, Any]:
        """Return what the engine is told about a row when its case is created."""
        raise NotImplementedError

    def play(self, engine: Engine, clock: ManualClock, rows: list[dict[str, str]]) -> None:
        """Do everything that people, customers and time do, from wherever the cases are."""
        raise NotImplementedError

    def outcome(self, case: RunningCase) -> str:
        """Return what became of a case."""
        return str(case.data.get("outcome", case.state))

    def expected(self, row: dict[str, str]) -> str:
        """Return what must become of a row, from the row alone."""
        raise NotImplementedError

    def effects(self, row: dict[str, str]) -> dict[str, int]:
        """Return how often each effect outside must have been had for a row."""
        raise NotImplementedError

    def figures(
        self,
        engine: Engine,  # noqa: ARG002 - what a showcase of its own figures may look at
        database: Path,  # noqa: ARG002
        lines: list[dict[str, Any]],  # noqa: ARG002
        seconds: float,  # noqa: ARG002
    ) -> list[tuple[str, str]]:
        """
        Return what else is to be told in the end, name and value.

        Args:
            engine: on the file that is worked through.
            database: the file.
            lines: the ledger.
            seconds: what both children took.
        """
        return []

    # --- the job ------------------------------------------------------------------------------------------------------

    @cached_property
    def loaded(self) -> Specification:
        """The specification."""
        return Specification.load(self.specification)

    def case(self, engine: Engine, row: dict[str, str]) -> RunningCase:
        """Create a row's case, or find it: the row's id is the idempotency key."""
        return engine.create_case(self.loaded.id, self.data(row), idempotency_key=row["id"])

    def job(self, database: str, ledger: Path, rows: list[dict[str, str]], kill_at: int) -> None:
        """Work through the rows; it may be run again at any time and goes on where it stopped."""
        clock = ManualClock(FIRST_DAY)
        with self.make_engine(database, clock) as engine:
            self.handlers(engine, World(ledger, kill_at, self.killed_in))
            engine.register(self.loaded)
            resumed = engine.run_pending()
            if resumed:
                print(f"  {resumed} cases had work that was cut off", flush=True)
            self.play(engine, clock, rows)

    def traces(self, rows: list[dict[str, str]]) -> dict[str, list[str]]:
        """Return what each row's case goes through, played in memory without a kill."""
        clock = ManualClock(FIRST_DAY)
        with tempfile.TemporaryDirectory() as directory, self.make_engine("memory:", clock) as engine:
            self.handlers(engine, World(Path(directory) / "ledger"))
            engine.register(self.loaded)
            with contextlib.redirect_stdout(sys.stderr):
                self.play(engine, clock, rows)
            return {row["id"]: trace(self.case(engine, row)) for row in rows}

    # --- the story ----------------------------------------------------------------------------------------------------

    def main(self, script: str) -> int:
        """Read the command line and do the job, or tell the whole story."""
        parser = argparse.ArgumentParser(description=f"{self.title}: killed in the middle, and resumed.")
        parser.add_argument("--db", type=Path, help="the SQLite file, which must not exist (default: a temporary one)")
        parser.add_argument("--rows", type=int, default=len(self.rows), help=f"how many (default: {len(self.rows)})")
        parser.add_argument("--traces", action="store_true", help="only print what each case goes through, as JSON")
        parser.add_argument("--job", type=int, metavar="KILL_AT", help=argparse.SUPPRESS)
        arguments = parser.parse_args()
        if not 4 <= arguments.rows <= len(self.rows):
            print(f"--rows: 4 to {len(self.rows)}, please", file=sys.stderr)
            return 2
        rows = self.rows[: arguments.rows]
        if arguments.traces:
            print(json.dumps(self.traces(rows), indent=1))
            return 0
        if arguments.job is not None:
            self.job(str(arguments.db), Path(f"{arguments.db}.ledger"), rows, arguments.job)
            return 0
        with tempfile.TemporaryDirectory(prefix="knhk-showcase-") as directory:
            database = arguments.db or Path(directory) / "cases.db"
            if database.exists():
                print(f"{database} exists already: name a new file", file=sys.stderr)
                return 2
            return self._story(script, database, rows)

    def _story(self, script: str, database: Path, rows: list[dict[str, str]]) -> int:
        print(f"{self.title}: {len(rows)} cases on {database}", flush=True)
        begun = time.perf_counter()
        ledger = Path(f"{database}.ledger")
        middle = max(1, sum(sum(self.effects(row).values()) for row in rows) // 2)
        ended = self._child(script, database, rows, middle)
        if ended != -signal.SIGKILL:
            print(f"the first child ended by itself with {ended}", file=sys.stderr)
            return 1
        before = len(ledger_lines(ledger))
        print(f"  SIGKILL after effect {before:,}, which the engine was not told of; resuming", flush=True)
        if self._child(script, database, rows, 0):
            print("the second child failed", file=sys.stderr)
            return 1
        wrong = self._wrong(database, ledger_lines(ledger), rows, time.perf_counter() - begun)
        for each in wrong:
            print(f"WRONG: {each}", file=sys.stderr)
        print("NOT OK" if wrong else "OK: every case ended as it must, every effect was had as often as it must")
        return 1 if wrong else 0

    def _child(self, script: str, database: Path, rows: list[dict[str, str]], kill_at: int) -> int:
        arguments = ["--job", str(kill_at), "--db", str(database), "--rows", str(len(rows))]
        return subprocess.run([sys.executable, script, *arguments], check=False).returncode

    def _wrong(
        self, database: Path, lines: list[dict[str, Any]], rows: list[dict[str, str]], seconds: float
    ) -> list[str]:
        """Print what came out; return what is not as it should be."""
        wrong: list[str] = []
        outcomes: Counter[str] = Counter()
        had: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for line in lines:
            had[line["of"]][line["action"]] += line["effect"]
        repeated = sum(not line["effect"] for line in lines)
        with self.make_engine(str(database), ManualClock(FIRST_DAY)) as engine:
            cases = [engine.case(each.case_id) for each in engine.cases()]
            found = {case.data["id"]: case for case in cases}
            if len(cases) != len(rows):
                wrong.append(f"{len(rows)} rows have {len(cases)} cases")
            for row in rows:
                outcome = self.outcome(found[row["id"]]) if row["id"] in found else "missing"
                outcomes[outcome] += 1
                if outcome != self.expected(row):
                    wrong.append(f"{row['id']} is {outcome}, should be {self.expected(row)}")
                if had[row["id"]] != self.effects(row):
                    wrong.append(f"{row['id']} had the effects {dict(had[row['id']])}, should have {self.effects(row)}")
            wrong += [f"{each.path} of {each.case_id} is still open" for each in engine.work_items()]
            figures = self.figures(engine, database, lines, seconds)
        effects = ("effects outside", f"{len(lines) - repeated:,}")
        for name, value in [
            *((outcome, f"{count:,}") for outcome, count in sorted(outcomes.items())),
            effects,
            ("repeated without effect", f"{repeated:,}"),
            *figures,
        ]:
            print(f"  {name:<28}{value:>6}")
        print(f"  {seconds:.1f} s, kill and resume included")
        return wrong
