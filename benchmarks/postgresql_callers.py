"""Callers on PostgreSQL, with KNHK and without: for `benchmarks.postgresql`, as it needs an extra."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import psycopg

from benchmarks.measure import Figure, Scale, number
from benchmarks.nets import ring
from knhk import Engine
from knhk.ports import CaseHeader, Commit, StoredSpecification
from knhk.stores._group import Caller
from knhk.stores._postgres_url import parse
from knhk.stores.postgres import PostgresStore

CALLERS: Final = (1, 8, 64)
ROUNDS: Final = 5
_SPECIFICATION: Final = StoredSpecification(spec_id="raw", version="1", content_hash="", text="{}")
_BATCH: Final = b"x" * 500


class Counted(PostgresStore):
    """The real store; counts its groups, each of which is one transaction where nobody changes what another does."""

    groups = 0

    def _write(self, group: Sequence[Caller]) -> None:
        # As several write at the same time, a count may be lost; it is for the spread alone.
        self.groups += 1
        super()._write(group)


Act = Callable[[int], object]


def compared(url: str, schema: str, scale: Scale) -> Iterator[Figure]:
    """Measure on a server, in a schema of a new store."""
    store = Counted(url)
    store.put_specification(_SPECIFICATION)
    with psycopg.connect(autocommit=True, **parse(url).parameters) as connection:
        connection.execute(f"CREATE TABLE {schema}.raw (id integer PRIMARY KEY, version bigint, record bytea)")
        connection.execute(
            f"INSERT INTO {schema}.raw SELECT n, 0, ''::bytea FROM generate_series(0, {max(CALLERS) - 1}) AS n"  # noqa: S608
        )
    sessions = [psycopg.connect(autocommit=True, **parse(url).parameters) for _ in range(max(CALLERS))]
    engine = Engine(store)
    try:
        engine.register(ring(100))
        acts: dict[str, Act] = {
            "raw": _raw(sessions, schema),
            "commits": _commits(store),
            "steps": _steps(engine),
        }
        for callers in CALLERS:
            yield from _figures(acts, store, callers, scale.seconds(0.5))
    finally:
        engine.close()
        store.close()
        for each in sessions:
            each.close()


def _figures(acts: dict[str, Act], store: Counted, callers: int, seconds: float) -> Iterator[Figure]:
    rates: dict[str, list[float]] = {name: [] for name in acts}
    commits = groups = 0
    for _ in range(ROUNDS):
        for name, act in acts.items():
            before = store.groups
            done = _together(act, callers, seconds)
            rates[name].append(done / seconds)
            if name == "commits":
                commits, groups = commits + done, groups + store.groups - before
    raw = max(rates["raw"])
    among = f"PostgreSQL, {callers} caller{'s' if callers > 1 else ''}"
    yield Figure(f"raw compare-and-swap, {among}", raw, "/s", _lie(rates["raw"]))
    yield Figure(
        f"commits, {among}",
        max(rates["commits"]),
        "/s",
        f"{_lie(rates['commits'])}, {commits / max(groups, 1):.1f} a transaction",
    )
    yield Figure(f"engine's manual steps, {among}", max(rates["steps"]), "/s", _lie(rates["steps"]))
    ratio = max(rates["commits"]) / raw
    medians = f"of the medians {statistics.median(rates['commits']) / statistics.median(rates['raw']):.2f}"
    yield Figure(f"commits against raw, {among}", ratio, "x", medians, ">= 0.80", ratio >= 0.8)


def _lie(rates: Sequence[float]) -> str:
    return f"median {number(statistics.median(rates))}, n {len(rates)}"


def _together(act: Act, callers: int, seconds: float) -> int:
    """Let callers act at the same time, again and again; return how often they did."""
    counts = [0] * callers
    begin = threading.Barrier(callers)

    def run(caller: int) -> None:
        begin.wait()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            act(caller)
            counts[caller] += 1

    threads = [threading.Thread(target=run, args=(caller,)) for caller in range(callers)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return sum(counts)


def _raw(sessions: Sequence[psycopg.Connection[Any]], schema: str) -> Act:
    statement = f"UPDATE {schema}.raw SET version = version + 1, record = %b WHERE id = %s AND version = %s"  # noqa: S608
    versions = [0] * len(sessions)

    def act(caller: int) -> None:
        done = sessions[caller].execute(statement, (_BATCH, caller, versions[caller]), prepare=True)
        if done.rowcount != 1:
            raise AssertionError(f"caller {caller} lost his row")
        versions[caller] += 1

    return act


def _commits(store: PostgresStore) -> Act:
    held = [0] * max(CALLERS)

    def act(caller: int) -> None:
        version = held[caller] + 1
        header = CaseHeader(case_id=f"raw {caller}", spec_id="raw", spec_version="1", state="running", version=version)
        store.commit([Commit(header=header, expected=version - 1, batch=_BATCH)])
        held[caller] = version

    return act


def _steps(engine: Engine) -> Act:
    cases = [engine.create_case("ring100") for _ in range(max(CALLERS))]
    for each in cases:
        each.start()
    places = [0] * len(cases)

    def act(caller: int) -> None:
        cases[caller].complete_task(f"t{places[caller]}")
        places[caller] = (places[caller] + 1) % 100

    return act
