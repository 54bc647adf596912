"""
Four processes on one store, killed and stopped at random moments: nothing is lost, doubled or contradicted.

``KNHK_CHAOS="cases=10000 kills=20 stops=20 seed=1"`` makes more of it than a usual run has.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from knhk import Engine
from knhk.events import EventKind
from knhk.stores import open_store
from tests.instance import DURABILITY, specification

PLAN = {"cases": 60, "kills": 2, "stops": 2, "seed": 0, "patience": 120}
PLAN |= {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", os.environ.get("KNHK_CHAOS", ""))}
INSTANCES = 4
LEASE = 1.5
ROOT = Path(__file__).resolve().parent.parent


class Crowd:
    """The processes, and what is done to them."""

    def __init__(self, store: str, directory: Path) -> None:
        self._store = store
        self._directory = directory
        self._count = 0
        self.processes = [self._start() for _ in range(INSTANCES)]
        self.paused: dict[int, tuple[subprocess.Popen[bytes], float]] = {}

    def _start(self) -> subprocess.Popen[bytes]:
        self._count += 1
        arguments = [self._store, f"i{self._count}", str(self._directory), str(LEASE)]
        return subprocess.Popen([sys.executable, "-m", "tests.instance", *arguments], cwd=ROOT)

    def kill(self, chance: random.Random) -> None:
        """Kill one that is not stopped, and start another."""
        place = chance.choice([n for n, each in enumerate(self.processes) if each.pid not in self.paused])
        self.processes[place].kill()
        self.processes[place].wait()
        self.processes[place] = self._start()

    def stop(self, chance: random.Random) -> None:
        """Stop one, for shorter or longer than its lease."""
        free = [each for each in self.processes if each.pid not in self.paused]
        each = chance.choice(free)
        each.send_signal(signal.SIGSTOP)
        self.paused[each.pid] = each, time.monotonic() + chance.choice((0.2, LEASE, 2 * LEASE))

    def go_on(self, *, all_of: bool = False) -> None:
        """Let those go on that were stopped for long enough."""
        for pid, (each, until) in tuple(self.paused.items()):
            if all_of or time.monotonic() >= until:
                each.send_signal(signal.SIGCONT)
                del self.paused[pid]

    def end(self) -> list[int]:
        """End all in order; returns how they ended."""
        self.go_on(all_of=True)
        for each in self.processes:
            each.terminate()
        return [each.wait(60) for each in self.processes]


def lines(path: Path) -> list[list[str]]:
    """Return the lines of a file in words."""
    return [line.split(" ", 1) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs the signals of a POSIX system")
def test_processes_that_are_killed_and_stopped(tmp_path: Path) -> None:
    """All cases reach their end, each task once, with what was acknowledged, though processes are killed and stopped meanwhile."""
    chance = random.Random(PLAN["seed"])  # noqa: S311 - chaos, not secrets
    target = str(tmp_path / "cases.db")
    store = open_store(target, durability=DURABILITY)
    engine = Engine(store)
    engine.register(specification())
    crowd = Crowd(target, tmp_path)
    try:
        while len(lines(tmp_path / "joined")) < INSTANCES:
            assert not any(each.poll() for each in crowd.processes)
            time.sleep(0.05)
        harm = [crowd.kill] * PLAN["kills"] + [crowd.stop] * PLAN["stops"]
        chance.shuffle(harm)
        made: list[str] = []
        end = time.monotonic() + PLAN["patience"]
        while harm or crowd.paused or len(made) < PLAN["cases"] or open_cases(engine):
            assert time.monotonic() < end, f"{open_cases(engine)} cases are open"
            if len(made) < PLAN["cases"]:
                # So that there is something to do as long as harm is done.
                some = engine.create_many("chaos", [{}] * max(PLAN["cases"] // (8 + len(harm)), 5))
                made += [each.id for each in some]
                for case in some:
                    case.start()
            if harm and len(crowd.paused) < INSTANCES - 2:
                harm.pop()(chance)
            crowd.go_on()
            time.sleep(chance.uniform(0.05, 0.5))
        assert [0] * INSTANCES == crowd.end()
    finally:
        for each in crowd.processes:
            each.kill()
            each.wait()
    engine.evict()
    wrong = contradictions(engine, made, tmp_path)
    store.close()
    assert not wrong


def open_cases(engine: Engine) -> int:
    """How many cases have not ended, of the first page of them."""
    return len(engine.store.cases(state="running")) + len(engine.store.cases(state="created"))


def contradictions(engine: Engine, made: list[str], directory: Path) -> list[str]:
    """Return what must not be in the histories of the cases, which are replayed, and in what others have noted."""
    wrong = [] if sorted(made) == [each.case_id for each in engine.cases()] else ["cases are lost, or nobody's"]
    acknowledged = lines(directory / "acknowledged")
    told = {case_id: said for case_id, said in acknowledged}
    if len(told) != len(acknowledged):
        wrong.append("a command was acknowledged twice")
    ended = Counter(words[1].split(" i")[0] for words in lines(directory / "calls") if words[0] == "end")
    tasks = ("first", "second", "hand", "last")
    for case_id in made:
        case = engine.case(case_id)
        if case.state != "completed":
            wrong.append(f"{case_id} is {case.state}")
            continue
        events = case.history()
        done = Counter(each.path for each in events if each.kind is EventKind.TASK_COMPLETED)
        if done != Counter(tasks):
            wrong.append(f"{case_id}: {done}")
        if told.get(case_id, case.data["hand"]) != case.data["hand"]:
            wrong.append(f"{case_id}: {told[case_id]!r} was acknowledged, and {case.data['hand']!r} is so")
        for task in ("first", "second", "last"):
            # Whoever is said to have done it has done it, at the attempt that is said to be the one.
            attempt = case.data[task].split()[1]
            if not ended[f"{case_id} {task} {attempt}"]:
                wrong.append(f"{case_id}: nobody made attempt {attempt} at {task}")
    return wrong
