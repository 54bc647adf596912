"""
Other engines and KNHK, doing the same work in turns: ``python -m benchmarks peers``.

Each engine runs in a process and a virtual environment of its own.
A round asks each of them for a slice of the same work, one after the other, so that whatever disturbs the machine meets all;
the best slice is quoted, the middle one beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from benchmarks.machine import machine
from benchmarks.measure import number
from benchmarks.peers.connection import Connection, WorkerFailed
from benchmarks.peers.environments import KNHK, PEERS, ROOT, Peer, Unavailable, command_of, python_of
from benchmarks.peers.page import peers_page


@attrs.frozen
class Workload:
    """
    The same work for all.

    Args:
        name: on the command line.
        title: as a table shows it.
        kind: ``cases``, ``idle`` or ``restart``.
        work: what a worker knows it as.
        size: of a case's net, or how many cases there are.
        tasks: that run in a case, by which its cost is divided.
        threads: that run cases at the same time.
    """

    name: str
    title: str
    kind: str
    work: str
    size: int
    tasks: int = 1
    threads: int = 1


WORKLOADS = (
    Workload("sequence", "sequence of 10", "cases", "sequence", 10, 10),
    Workload("sequence-100", "sequence of 100", "cases", "sequence", 100, 100),
    Workload("sequence-1000", "sequence of 1,000", "cases", "sequence", 1_000, 1_000),
    Workload("and", "AND-split and -join of 8", "cases", "parallel", 8, 10),
    Workload("xor", "XOR-split and -join, 1 of 4", "cases", "choice", 4, 3),
    Workload("or", "OR-split and -join, 2 of 4", "cases", "some", 4, 4),
    Workload("loop", "loop of 10 turns", "cases", "loop", 10, 10),
    Workload("instances", "10 instances of a task", "cases", "instances", 10, 10),
    Workload("durable", "durable sequence of 10, 1 thread", "cases", "durable", 10, 10),
    Workload("durable-8", "durable sequence of 10, 8 threads", "cases", "durable", 10, 10, 8),
    Workload("idle", "10,000 idle cases", "idle", "idle", 10_000),
    Workload("restart", "restart with 10,000 open cases", "restart", "restart", 10_000),
)


@attrs.frozen
class Outcome:
    """
    What a peer needed for a workload.

    Args:
        wall, cpu: microseconds a task, of each slice; of a restart, microseconds in all.
        resident: bytes an idle case.
        reason: why there is nothing.
    """

    wall: tuple[float, ...] = ()
    cpu: tuple[float, ...] = ()
    resident: float | None = None
    reason: str = ""


@attrs.frozen
class Comparison:
    """All that was measured: outcomes by workload and peer, the versions, and who could not be had."""

    outcomes: Mapping[str, Mapping[str, Outcome]]
    versions: Mapping[str, str]
    unavailable: Mapping[str, str]


@attrs.frozen
class Pace:
    """
    How much to measure.

    Args:
        rounds: slices of each peer.
        seconds: that a slice should take.
        open_cases: the most cases to leave idle or open.
        patience: seconds that an answer may take.
    """

    rounds: int = 15
    seconds: float = 0.1
    open_cases: int = 10_000
    patience: float = 300.0


def main(arguments: Sequence[str]) -> int:
    """Build the environments, run the workloads, print the tables; 0 if KNHK and one peer at least could be measured."""
    options = _parser().parse_args(arguments)
    known = {each.module for each in PEERS} | {each.name for each in PEERS}
    unknown = [each for each in options.only or () if each not in known]
    if unknown:
        print(f"unknown: {', '.join(unknown)}; there are {', '.join(sorted(known))}", file=sys.stderr)
        return 2
    peers = [each for each in PEERS if not options.only or {each.module, each.name} & set(options.only)]
    workloads = [each for each in WORKLOADS if not options.workload or each.name in options.workload]
    pace = Pace(rounds=2, seconds=0.05, open_cases=200, patience=60.0) if options.quick else Pace()
    if options.cases is not None:
        pace = attrs.evolve(pace, open_cases=options.cases)
    where = machine()
    comparison = compare((KNHK, *peers), workloads, pace, options.cache, tell=not options.json)
    titles = {each.name: shown_title(each, pace) for each in workloads}
    if options.json:
        print(json.dumps({"machine": where, **attrs.asdict(comparison)}))
    else:
        print("\n" + "\n".join(lines(comparison, titles)))
    if options.page is not None:
        page = peers_page(where, [KNHK, *peers], comparison_tables(comparison, titles), comparison.versions)
        options.page.write_text(page, encoding="utf-8")
    return 0 if KNHK.name in comparison.versions and len(comparison.versions) > 1 else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ", ".join(sorted({each.module for each in PEERS}))
    parser.add_argument(
        "--only", action="append", metavar="PEER", help=f"only this one beside KNHK: {names}; repeatable"
    )
    works = [each.name for each in WORKLOADS]
    parser.add_argument("--workload", action="append", choices=works, help="only this one; repeatable")
    parser.add_argument("--json", action="store_true", help="one JSON object with every slice")
    parser.add_argument("--quick", action="store_true", help="short slices, and 200 open cases instead of 10,000")
    parser.add_argument("--cases", type=_count, metavar="N", help="how many cases to leave idle or open (10,000)")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the documentation page of this run")
    parser.add_argument("--cache", type=Path, default=ROOT / ".peers", help="where the environments are kept (.peers)")
    return parser


def _count(text: str) -> int:
    count = int(text)
    if count < 2:
        raise argparse.ArgumentTypeError("at least 2: of idle cases, the second half is measured")
    return count


def shown_title(workload: Workload, pace: Pace) -> str:
    """Return a workload's title with the number of cases that there really were."""
    if workload.kind == "cases":
        return workload.title
    return workload.title.replace(f"{workload.size:,}", f"{min(workload.size, pace.open_cases):,}")


def compare(
    peers: Iterable[Peer], workloads: Sequence[Workload], pace: Pace, cache: Path, *, tell: bool = False
) -> Comparison:
    """Run the workloads on all peers, in turns; who cannot be had or fails is told with the reason."""
    commands: dict[str, Sequence[str]] = {}
    unavailable: dict[str, str] = {}
    for peer in peers:
        if tell:
            print(f"{peer.name}: {' '.join(peer.requirements) or 'here'}", flush=True)
        try:
            commands[peer.name] = command_of(peer, python_of(peer, cache))
        except Unavailable as error:
            unavailable[peer.name] = str(error)
    return compare_workers(commands, unavailable, workloads, pace, tell=tell)


def compare_workers(
    commands: Mapping[str, Sequence[str]],
    unavailable: Mapping[str, str],
    workloads: Sequence[Workload],
    pace: Pace,
    *,
    tell: bool = False,
) -> Comparison:
    """Run the workloads on the workers that these commands start, in turns."""
    unavailable = dict(unavailable)
    outcomes: dict[str, dict[str, Outcome]] = {each.name: {} for each in workloads}
    versions: dict[str, str] = {}
    with contextlib.ExitStack() as running:
        workers: dict[str, Connection] = {}
        for name, command in commands.items():
            try:
                workers[name] = running.enter_context(Connection(command, ROOT, patience=pace.patience))
            except WorkerFailed as error:
                unavailable[name] = str(error)
            else:
                versions[name] = workers[name].greeting["version"]
        for workload in workloads:
            if tell:
                print(f"{shown_title(workload, pace)} ...", flush=True)
            able: dict[str, Connection] = {}
            for name, worker in workers.items():
                reason = worker.greeting["absent"].get(workload.work)
                if reason is None:
                    able[name] = worker
                else:
                    outcomes[workload.name][name] = Outcome(reason=reason)
            outcomes[workload.name] |= (
                run_cases(workload, able, pace)
                if workload.kind == "cases"
                else {name: _run_alone(workload, commands[name], pace) for name in able}
            )
    return Comparison(outcomes, versions, unavailable)


def run_cases(workload: Workload, workers: Mapping[str, Connection], pace: Pace) -> dict[str, Outcome]:
    """Run slices of a workload on all workers in turns."""
    repeats: dict[str, int] = {}
    slices: dict[str, list[Mapping[str, Any]]] = {}
    failed: dict[str, Outcome] = {}

    def ask(name: str, repeat: int) -> Mapping[str, Any]:
        return workers[name].ask(
            kind="cases", workload=workload.work, size=workload.size, repeat=repeat, threads=workload.threads
        )

    for name in workers:
        try:
            # The first case pays for what is built once; the next ones tell how many fill a slice.
            ask(name, workload.threads)
            once = ask(name, workload.threads)["wall"] / workload.threads
        except WorkerFailed as error:
            failed[name] = Outcome(reason=f"failed: {error}")
            continue
        repeats[name] = max(workload.threads, min(10_000, round(pace.seconds / max(once, 1e-9))))
        slices[name] = []
    for _ in range(pace.rounds):
        for name in [each for each in slices if each not in failed]:
            try:
                slices[name].append(ask(name, repeats[name]))
            except WorkerFailed as error:
                failed[name] = Outcome(reason=f"failed: {error}")
    measured = {}
    for name, each in slices.items():
        if name not in failed:
            factor = 1e6 / (repeats[name] * workload.tasks)
            measured[name] = Outcome(
                tuple(one["wall"] * factor for one in each), tuple(one["cpu"] * factor for one in each)
            )
    return measured | failed


def _run_alone(workload: Workload, command: Sequence[str], pace: Pace) -> Outcome:
    """Run a workload that needs a process of its own: idle cases, or a restart."""
    count = min(workload.size, pace.open_cases)
    try:
        if workload.kind == "idle":
            with Connection(command, ROOT, patience=pace.patience) as worker:
                return Outcome(resident=worker.ask(kind="idle", count=count)["bytes"])
        walls: list[float] = []
        cpus: list[float] = []
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            with Connection(command, ROOT, patience=pace.patience) as worker:
                worker.ask(kind="leave", folder=folder, count=count)
            with Connection(command, ROOT, patience=pace.patience) as worker:
                answer = worker.ask(kind="restart", folder=folder, count=count)
            walls.append(answer["wall"] * 1e6)
            cpus.append(answer["cpu"] * 1e6)
        return Outcome(tuple(walls), tuple(cpus))
    except WorkerFailed as error:
        return Outcome(reason=f"failed: {error}")


# --- telling ----------------------------------------------------------------------------------------------------------

Table = tuple[str, list[str], list[list[str]]]
"""A caption, a head and rows."""


def comparison_tables(comparison: Comparison, titles: Mapping[str, str], *, medians: bool = True) -> list[Table]:
    """Return what was measured as tables: wall and processor time, with ratios to KNHK, and memory; then the reasons."""
    names = [each for each in comparison.versions if each != KNHK.name]
    head = ["", KNHK.name, *names]
    time_rows: dict[str, list[list[str]]] = {"wall": [], "cpu": []}
    memory: list[list[str]] = []
    reasons: dict[tuple[str, str], list[str]] = {}
    for workload, outcomes in comparison.outcomes.items():
        ours = outcomes.get(KNHK.name, Outcome())
        for kind, rows in time_rows.items():
            if any(each.wall for each in outcomes.values()):
                own = getattr(ours, kind)
                rows.append(
                    [
                        titles[workload],
                        *(_time(getattr(outcomes[each], kind), own, medians=medians) for each in head[1:]),
                    ]
                )
        if any(each.resident is not None for each in outcomes.values()):
            memory.append([titles[workload], *(_bytes(outcomes[each], ours) for each in head[1:])])
        for name, outcome in outcomes.items():
            if outcome.reason:
                reasons.setdefault((name, outcome.reason), []).append(titles[workload])
    tables: list[Table] = [
        ("Elapsed time a task (of a restart: in all), and how many times KNHK's it is", head, time_rows["wall"]),
        ("Processor time a task (of a restart: in all), and how many times KNHK's it is", head, time_rows["cpu"]),
        ("Resident memory of an idle case, and how many times KNHK's it is", head, memory),
    ]
    blanks = [[name, ", ".join(where), why] for (name, why), where in reasons.items()]
    blanks += [[name, "all", why] for name, why in comparison.unavailable.items()]
    tables.append(("What is blank, and why", ["", "workloads", "reason"], blanks))
    return [each for each in tables if each[2]]


def lines(comparison: Comparison, titles: Mapping[str, str]) -> Iterator[str]:
    """Yield the tables as people read them on a terminal, which is too narrow for the medians."""
    for caption, head, rows in comparison_tables(comparison, titles, medians=False):
        yield caption
        widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
        for row in [head, *rows]:
            yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        yield ""


def _time(slices: Sequence[float], ours: Sequence[float], *, medians: bool) -> str:
    """Return the best slice with its unit, the ratio to KNHK's best, and the median where there are several slices."""
    if not slices:
        return ""
    best = min(slices)
    ratio = f" ({number(best / min(ours))}x)" if ours and slices is not ours else ""
    middle = f", median {_microseconds(statistics.median(slices))}" if medians and len(slices) > 1 else ""
    return f"{_microseconds(best)}{ratio}{middle}"


def _microseconds(value: float) -> str:
    if value >= 1e6:
        return f"{number(value / 1e6)} s"
    return f"{number(value / 1e3)} ms" if value >= 1e3 else f"{number(value)} us"


def _bytes(outcome: Outcome, ours: Outcome) -> str:
    if outcome.resident is None:
        return ""
    ratio = f" ({number(outcome.resident / ours.resident)}x)" if ours.resident and outcome is not ours else ""
    return f"{number(outcome.resident)} B{ratio}"
