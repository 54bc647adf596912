"""What durable steps cost where several instances share a store, beside what the store does without KNHK."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import attrs

from benchmarks import postgresql, servers
from benchmarks.measure import Benchmark, Figure, Scale, absent, number

INSTANCES: Final = (1, 2, 4)
CLIENTS: Final = (1, 8, 64)
ACTS: Final = {"step": "steps one by one", "pipeline": "pipelined steps"}
"""What clients do beside swaps: each makes a step and waits for it, or has several under way."""

GOAL: Final = 0.8
ROUNDS: Final = 8
_ROOT: Final = Path(__file__).resolve().parent.parent


@attrs.frozen
class Turn:
    """What several instances did at the same time: operations a second, and their processor time an operation in microseconds."""

    rate: float
    processor: float


class Instance:
    """A process that is one of the instances; see `benchmarks.instance`."""

    def __init__(self, kind: str, store: str, name: str) -> None:
        command = [sys.executable, "-m", "benchmarks.instance", kind, store, name]
        self._process = subprocess.Popen(  # noqa: S603 - this package
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT
        )

    def begin(self, act: str, clients: int, seconds: float) -> None:
        """Give it a turn."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"act": act, "clients": clients, "seconds": seconds}) + "\n")
        self._process.stdin.flush()

    def end(self) -> tuple[int, float, float]:
        """Wait for the end of its turn; return how much it did, in how many seconds, and processor seconds."""
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        if not said:
            raise RuntimeError(f"an instance ended with {self._process.wait()}")
        done, seconds, processor = json.loads(said)
        return done, seconds, processor

    def close(self) -> None:
        """Let it end."""
        self._process.communicate()


def _measured(name: str, store: Callable[[], AbstractContextManager[str]], scale: Scale) -> Iterator[Figure]:
    try:
        with store() as url, ExitStack() as stack:
            there: list[Instance] = []
            for count in INSTANCES:
                while len(there) < count:
                    there.append(Instance(name.lower(), url, f"i{len(there)}"))
                    stack.callback(there[-1].close)
                for clients in CLIENTS:
                    if clients >= count:
                        yield from _compared(name, there, clients, scale)
    except FileNotFoundError as error:
        yield absent(f"steps on {name} against raw", f">= {GOAL:.2f}", str(error))


def _compared(name: str, instances: Sequence[Instance], clients: int, scale: Scale) -> Iterator[Figure]:
    """Let clients, spread over all instances, swap and make steps in turns."""
    turns: dict[str, list[Turn]] = {act: [] for act in ("swap", *ACTS)}
    # The first turn makes connections and cases, and is not counted.
    for each in turns:
        _together(instances, each, clients, 0.0)
    for _ in range(scale.count(ROUNDS, 2)):
        for act, found in turns.items():
            found.append(_together(instances, act, clients, scale.seconds(0.3)))
    among = f"{name}, {_many(len(instances), 'instance')}, {_many(clients, 'client')}"
    raw = max(each.rate for each in turns["swap"])
    yield Figure(f"raw, {among}", raw, "/s", _lie(turns["swap"]))
    for act, called in ACTS.items():
        steps = max(each.rate for each in turns[act])
        yield Figure(f"{called}, {among}", steps, "/s", _lie(turns[act]))
        ratios = [step.rate / swap.rate for step, swap in zip(turns[act], turns["swap"], strict=True)]
        # A disk has moods that outlast a turn: the best of each may be of different ones, neighbours seldom are.
        ratio = statistics.median(ratios)
        told = (
            f"median of neighbours, {number(min(ratios))} to {number(max(ratios))}, best by best {number(steps / raw)}"
        )
        goal, reached = (f">= {GOAL:.2f}", ratio >= GOAL) if act == "pipeline" else ("", None)
        yield Figure(f"{called} against raw, {among}", ratio, "x", told, goal, reached)


def _together(instances: Sequence[Instance], act: str, clients: int, seconds: float) -> Turn:
    """Let all instances act at the same time, each with its share of the clients."""
    for each in instances:
        each.begin(act, clients // len(instances), seconds)
    answers = [each.end() for each in instances]
    done = sum(count for count, _, _ in answers)
    rate = sum(count / spent for count, spent, _ in answers)
    return Turn(rate, sum(processor for _, _, processor in answers) * 1e6 / done)


def _lie(turns: Sequence[Turn]) -> str:
    rates, processor = [each.rate for each in turns], min(each.processor for each in turns)
    return f"median {number(statistics.median(rates))}, n {len(turns)}, processor time {number(processor)} us each"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count > 1 else ''}"


@contextmanager
def _file() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield str(Path(folder, "cases.db"))


@contextmanager
def _shared(scheme: str) -> Iterator[str]:
    """Run Redis or etcd, as their own benchmarks do."""
    program, command = servers.COMMANDS[scheme]
    if shutil.which(program) is None:
        raise FileNotFoundError(f"{program} is not installed")
    with tempfile.TemporaryDirectory() as folder:
        port = servers.free_port()
        with servers.server([program, *command(folder, port)], port):
            yield f"{scheme}://127.0.0.1:{port}?namespace=instances"


@contextmanager
def _postgresql() -> Iterator[str]:
    programs = postgresql.programs()
    if programs is None:
        raise FileNotFoundError("PostgreSQL is not installed as Debian has it")
    with postgresql.server(programs) as url:
        yield f"{url}?schema=instances"


def sqlite_instances(scale: Scale) -> Iterator[Figure]:
    """
    1, 2 and 4 processes on one SQLite file, durability full, with 1, 8 and 64 clients in all.

    In turns each swaps, makes a step and waits for it, or makes 16 by `Engine.pipeline`, all on cases of its own.
    Raw: as many processes and clients, each with a connection, that compare and swap a row each in a file beside it.
    """
    yield from _measured("SQLite", _file, scale)


def redis_instances(scale: Scale) -> Iterator[Figure]:
    """
    1, 2 and 4 processes on one Redis with appendfsync always, with 1, 8 and 64 clients in all.

    In turns each swaps, makes a step and waits for it, or makes 16 by `Engine.pipeline`, all on cases of its own.
    Raw: as many processes and clients, each with a connection, that compare and swap a key each by a script of three lines.
    """
    yield from _measured("Redis", partial(_shared, "redis"), scale)


def etcd_instances(scale: Scale) -> Iterator[Figure]:
    """
    1, 2 and 4 processes on one member of etcd, with 1, 8 and 64 clients in all.

    In turns each swaps, makes a step and waits for it, or makes 16 by `Engine.pipeline`, all on cases of its own.
    Raw: as many processes and clients that compare and swap a key each by a transaction, with the library etcd3gw.
    """
    yield from _measured("etcd", partial(_shared, "etcd"), scale)


def postgresql_instances(scale: Scale) -> Iterator[Figure]:
    """
    1, 2 and 4 processes on one PostgreSQL, durability full, with 1, 8 and 64 clients in all.

    In turns each swaps, makes a step and waits for it, or makes 16 by `Engine.pipeline`, all on cases of its own.
    Raw: as many processes and clients, each with a connection, that do ``UPDATE ... WHERE version = ...`` of a row each.
    """
    yield from _measured("PostgreSQL", _postgresql, scale)


BENCHMARKS: dict[str, Benchmark] = {
    "instances-sqlite": sqlite_instances,
    "instances-redis": redis_instances,
    "instances-etcd": etcd_instances,
    "instances-postgresql": postgresql_instances,
}
