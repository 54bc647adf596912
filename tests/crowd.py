"""
Four processes on one store, killed and stopped at random moments while the store is restarted: what must hold is looked at in the end.

    python -m tests.crowd sqlite|redis|etcd|postgresql cases=10000 kills=20 stops=20 restarts=5 seed=1

A process is an instance as `tests.instance` has it; the server is one of its own (`tests.servers`), and is killed, not asked to stop.
Cases are created as others come to their end, and harm is done at moments that are spread over all of them.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from knhk import Engine
from knhk.checking import check_store
from knhk.events import EventKind
from knhk.stores import open_store
from tests.instance import TASKS, durability_of, patiently, specification
from tests.nursery import Nursery, Worker
from tests.servers import KINDS, Server, running

INSTANCES = 4
LEASE = 1.5
BACKLOG = 200
ROOT = Path(__file__).resolve().parent.parent
PROGRAM = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.instance import main; main(*sys.argv[1:])"


@attrs.frozen(kw_only=True)
class Plan:
    """How much is done: cases, processes killed, processes stopped, restarts of the store; and by which random numbers."""

    cases: int = 40
    kills: int = 2
    stops: int = 2
    restarts: int = 1
    seed: int = 0

    @property
    def patience(self) -> float:
        """After how many seconds it is taken to hang."""
        return 120 + self.cases / 4


class Crowd:
    """The processes, and what is done to them."""

    def __init__(self, store: str, directory: Path, nursery: Nursery, chance: random.Random) -> None:
        self._store = store
        self._directory = directory
        self._nursery = nursery
        self._chance = chance
        self._count = 0
        self.processes = [self._start() for _ in range(INSTANCES)]
        self.paused: dict[int, threading.Timer] = {}

    def _start(self) -> Worker:
        self._count += 1
        return self._nursery.start(self._store, f"i{self._count}", str(self._directory), str(LEASE))

    def kill(self) -> None:
        """Kill one that is not stopped, and start another."""
        place = self._chance.choice([n for n, each in enumerate(self.processes) if each.pid not in self.paused])
        self.processes[place].kill()
        self.processes[place].wait()
        self.processes[place] = self._start()

    def stop(self) -> None:
        """Stop one, for shorter or longer than its lease."""
        pid = self._chance.choice([each.pid for each in self.processes if each.pid not in self.paused])
        # By a thread of its own: whoever waits for a lock of the stopped one waits no longer than that.
        self.paused[pid] = threading.Timer(self._chance.choice((0.2, LEASE, 2 * LEASE)), self._go_on, (pid,))
        os.kill(pid, signal.SIGSTOP)
        self.paused[pid].start()

    def _go_on(self, pid: int) -> None:
        os.kill(pid, signal.SIGCONT)
        del self.paused[pid]

    def check(self) -> None:
        """Raise where a process has ended that nobody has killed."""
        ended = {each.pid: each.returncode for each in self.processes if each.poll() is not None}
        if ended:
            said = "".join(each.read_text(encoding="utf-8")[-2000:] for each in self._directory.glob("said-*"))
            raise AssertionError(f"ended by themselves: {ended}\n{said}")

    def end(self) -> list[int | None]:
        """End all in order; returns how they ended."""
        for each in self.processes:
            os.kill(each.pid, signal.SIGTERM)
        end = time.monotonic() + 60
        while any(each.poll() is None for each in self.processes) and time.monotonic() < end:
            time.sleep(0.02)
        return [each.poll() for each in self.processes]

    def remove(self) -> None:
        """Kill all."""
        for each in tuple(self.paused.values()):
            each.join()
        for each in self.processes:
            each.kill()
            each.wait()


class Notes:
    """The lines that the processes add to a file, read as they come."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self.lines: list[str] = []

    def look(self) -> list[str]:
        """Return all lines so far; each was written whole."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read)
                said = file.read()
            self._read += len(said)
            self.lines += said.decode().splitlines()
        return self.lines


def run(target: str, server: Server | None, directory: Path, plan: Plan) -> list[str]:
    """Let a crowd do a plan on a store; return what must not be."""
    chance = random.Random(plan.seed)  # noqa: S311 - chaos, not secrets
    store = open_store(target, durability=durability_of(target))
    engine = Engine(store)
    engine.register(specification())
    with Nursery(PROGRAM) as nursery:
        crowd = Crowd(target, directory, nursery, chance)
        try:
            made = harm(crowd, engine, server, directory, plan, chance)
            ends = crowd.end()
        finally:
            crowd.remove()
    engine.evict()
    wrong = [] if ends == [0] * INSTANCES else [f"the processes ended with {ends}"]
    wrong += contradictions(engine, made, directory)
    store.close()
    return wrong


def harm(
    crowd: Crowd, engine: Engine, server: Server | None, directory: Path, plan: Plan, chance: random.Random
) -> list[str]:
    """Create the cases and do all harm, and wait until all cases have ended; return their ids."""
    joined, acknowledged = Notes(directory / "joined"), Notes(directory / "acknowledged")
    while len(joined.look()) < INSTANCES:
        crowd.check()
        time.sleep(0.02)
    todo = [crowd.kill] * plan.kills + [crowd.stop] * plan.stops
    if server is not None:
        todo += [lambda: restart(server)] * plan.restarts
    chance.shuffle(todo)
    moments = sorted(chance.randrange(plan.cases * 9 // 10) for _ in todo)
    made: list[str] = []
    end = time.monotonic() + plan.patience
    while todo or crowd.paused or len(made) < plan.cases or (left := open_cases(engine)):
        assert time.monotonic() < end, f"of {len(made)} cases {left} are open at least, {len(todo)} harms are to do"
        crowd.check()
        done = len(acknowledged.look())
        for _ in range(min(done + BACKLOG, plan.cases) - len(made)):
            made.append(patiently(lambda: create(engine, len(made))))
        if todo and done >= moments[-len(todo)] and len(crowd.paused) < INSTANCES - 2:
            todo.pop()()
        time.sleep(0.02)
    return made


def create(engine: Engine, number: int) -> str:
    """Create a case; again where nobody knows whether it was created."""
    return engine.create_case("chaos", idempotency_key=f"case {number}", start=True).id


def restart(server: Server) -> None:
    """Kill the server at once and start it again."""
    server.stop()
    server.start()


def open_cases(engine: Engine) -> int:
    """How many cases have not ended, of the first page of them."""
    return patiently(lambda: len(engine.store.cases(state="running")) + len(engine.store.cases(state="created")))


def contradictions(engine: Engine, made: list[str], directory: Path) -> list[str]:
    """Return what must not be in the store, in the histories, which are replayed, and in what the processes have noted."""
    wrong = [f"{each.case_id}: {each.reason}" for each in check_store(engine.store)]
    if sorted(made) != [each.case_id for each in engine.cases()] or len(made) != len(set(made)):
        wrong.append("cases are lost, doubled, or nobody's")
    acknowledged = [line.split(" ", 1) for line in Notes(directory / "acknowledged").look()]
    told = {case_id: said for case_id, said in acknowledged}
    if len(told) != len(acknowledged):
        wrong.append("a command was acknowledged twice")
    calls = [line.split() for line in Notes(directory / "calls").look()]
    begun = Counter((words[1], words[2], words[3]) for words in calls if words[0] == "begin")
    wrong += [f"{' '.join(each)} was attempted {count} times" for each, count in begun.items() if count > 1]
    ended = {tuple(words[1:]) for words in calls if words[0] == "end"}
    for case_id in made:
        wrong += [f"{case_id}: {each}" for each in contradictions_of(engine, case_id, told.get(case_id), ended)]
    return wrong


def contradictions_of(engine: Engine, case_id: str, told: str | None, ended: set[tuple[str, ...]]) -> Iterator[str]:
    """Yield what must not be in a case, of which somebody was told what a person's task has given."""
    case = engine.case(case_id)
    if case.state != "completed":
        yield f"is {case.state}"
        return
    done = Counter(each.path for each in case.history() if each.kind is EventKind.TASK_COMPLETED)
    if done != Counter((*TASKS, "hand")):
        yield f"completed {done}"
    if told is not None and told != case.data["hand"]:
        yield f"{told!r} was acknowledged, and {case.data['hand']!r} is so"
    for task in TASKS:
        # Whoever is said to have done it has done it, at the attempt that is said to be the one.
        name, attempt = case.data[task].split()
        if (case_id, task, attempt, name) not in ended:
            yield f"{name} is said to have made attempt {attempt} at {task}, and has not"


@contextlib.contextmanager
def shared_by_all(kind: str, directory: Path) -> Iterator[tuple[str, Server | None]]:
    """A store of this kind that no other test has, and its server, if it has one."""
    if kind == "sqlite":
        yield str(directory / "cases.db"), None
    else:
        with running(KINDS[kind]()) as server:
            yield server.url, server


def main(kind: str, *told: str) -> int:
    """Do a plan on a store of this kind, and say what came of it."""
    plan = Plan(**{name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", " ".join(told))})
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as path, shared_by_all(kind, Path(path)) as (target, server):
        wrong = run(target, server, Path(path), plan)
        calls = Notes(Path(path) / "calls").look()
    spent = time.monotonic() - begun
    for each in wrong[:20]:
        print(each, file=sys.stderr)
    print(
        f"{kind}: {plan.cases} cases, {plan.kills} kills, {plan.stops} stops, {plan.restarts if server else 0} restarts,"
        f" seed {plan.seed}: {sum(each.startswith('begin') for each in calls)} attempts at {3 * plan.cases} tasks,"
        f" {spent:.0f} s, {len(wrong)} contradictions"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
