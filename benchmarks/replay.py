"""Replay: how fast event logs are read, and how fast their traces are replayed, in events a second."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import Figure
from knhk import Specification
from knhk.analysis import ReplayReport
from knhk.analysis import replay as replay_log
from knhk.formats import LoggedEvent, Trace, read_event_log

EVENTS = 1_000_000
READ = 200_000
"""Events in the files that are read: reading is the slower part and as fast for any number."""

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<log xes.version="1849-2016">\n'


def claims() -> Specification:
    """A claim: checks in any order, a loop of questions, a choice of payment; silent routing in between."""
    tasks: list[dict[str, Any]] = [
        {"id": "register", "manual": {}},
        {"id": "fan", "split": "and"},
        *({"id": f"check{n}", "manual": {}} for n in range(4)),
        {"id": "meet", "join": "and"},
        {"id": "ask", "manual": {}},
        {"id": "answer", "manual": {}},
        {"id": "decide", "manual": {}},
        {"id": "pay", "manual": {}},
        {"id": "refuse", "manual": {}},
        {"id": "archive", "manual": {}},
    ]
    flows = [
        ("start", "register"),
        ("register", "fan"),
        ("meet", "c"),
        ("c", "ask"),
        ("ask", "answer"),
        ("answer", "c"),
    ]
    flows += [("fan", f"check{n}") for n in range(4)] + [(f"check{n}", "meet") for n in range(4)]
    flows += [("c", "decide"), ("decide", "d"), ("d", "pay"), ("d", "refuse"), ("pay", "e"), ("refuse", "e")]
    flows += [("e", "archive"), ("archive", "end")]
    return Specification.from_dict(
        {
            "id": "claims",
            "tasks": tasks,
            "conditions": ["c", "d", "e"],
            "flows": [{"from": a, "to": b} for a, b in flows],
        }
    )


def traces(events: int, *, noise: float, seed: int = 17) -> list[Trace]:
    """Traces of claims, a share of them with an event lost, doubled or swapped."""
    dice = random.Random(seed)  # noqa: S311 - a benchmark draws the same log every time
    names = ["register", "ask", "answer", "decide", "pay", "refuse", "archive", *(f"check{n}" for n in range(4))]
    logged = {name: LoggedEvent(name, "complete", 1_700_000_000_000_000) for name in names}
    made: list[Trace] = []
    count = 0
    while count < events:
        checks = [f"check{n}" for n in range(4)]
        dice.shuffle(checks)
        questions = ["ask", "answer"] * min(8, int(dice.expovariate(0.7)))
        case = ["register", *checks, *questions, "decide", dice.choice(["pay", "refuse"]), "archive"]
        if dice.random() < noise:
            at = dice.randrange(len(case) - 1)
            case[at : at + 2] = dice.choice([[case[at]], [case[at + 1], case[at]], [*case[at : at + 2], case[at]]])
        made.append(Trace(f"case {len(made)}", tuple(logged[name] for name in case)))
        count += len(case)
    return made


def _write_xes(path: Path, log: Sequence[Trace]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(_HEAD)
        for trace in log:
            file.write(f'<trace>\n<string key="concept:name" value="{trace.case}"/>\n')
            for event in trace.events:
                file.write(
                    f'<event>\n<string key="concept:name" value="{event.task}"/>\n'
                    '<string key="lifecycle:transition" value="complete"/>\n<string key="org:resource" value="ann"/>\n'
                    '<date key="time:timestamp" value="2026-03-01T09:30:00.000+01:00"/>\n</event>\n'
                )
            file.write("</trace>\n")
        file.write("</log>\n")


def _write_csv(path: Path, log: Sequence[Trace]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("case,task,time,resource\n")
        for trace in log:
            file.writelines(f"{trace.case},{each.task},2026-03-01T09:30:00.000+01:00,ann\n" for each in trace.events)


def _timed(specification: Specification, log: Sequence[Trace]) -> tuple[float, ReplayReport]:
    begun = time.process_time()
    report = replay_log(specification, log)
    return time.process_time() - begun, report


def replay() -> Iterator[Figure]:
    """Read XES and CSV, and replay a log of 1,000,000 events, clean and with one trace in five deviating; CPU time."""
    specification = claims()
    for name, noise in (("clean", 0.0), ("one trace in five deviates", 0.2)):
        log = traces(EVENTS, noise=noise)
        spent, report = min((_timed(specification, log) for _ in range(2)), key=lambda each: each[0])
        spread = f"{report.variant_count:,} variants of {report.traces:,} traces, fitness {report.fitness:.3f}"
        yield Figure(f"replay {EVENTS:,} events, {name}", spent, "s", spread, "< 5", spent < 5)
        yield Figure(f"events replayed a second, {name}", report.events / spent, "/s")
    with tempfile.TemporaryDirectory() as folder:
        log = log[: len(log) * READ // EVENTS]
        for kind, write in (("xes", _write_xes), ("csv", _write_csv)):
            path = Path(folder, f"log.{kind}")
            write(path, log)
            begun = time.process_time()
            count = sum(len(trace.events) for trace in read_event_log(path))
            spent = time.process_time() - begun
            yield Figure(f"events read a second, {kind}", count / spent, "/s", f"{path.stat().st_size / 1e6:.0f} MB")


BENCHMARKS = {"replay": replay}
