"""Measure what KNHK costs, and say of each promise whether it is kept; ``peers`` measures other engines beside it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import attrs

from benchmarks.calibration import Calibration, calibrate
from benchmarks.machine import machine
from benchmarks.measure import Benchmark, Scale, loop_nanoseconds, number
from benchmarks.page import Result, Run, figures_page
from benchmarks.peers.driver import main as peers
from benchmarks.registry import GOALS, benchmarks, judge, measure, method


def main(arguments: Sequence[str]) -> int:
    """Run the named benchmarks, or all; 0 whatever the verdicts are, as a busy machine is no error."""
    if arguments and arguments[0] == "peers":
        return peers(arguments[1:])
    known = benchmarks()
    options = _parser(known).parse_args(arguments)
    unknown = set(options.names) - set(known)
    if unknown:
        print(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(known)} and peers", file=sys.stderr)
        return 2
    scale = Scale(quick=options.quick, cases=options.cases)
    chosen = {name: each for name, each in known.items() if not options.names or name in options.names}
    run = _run(chosen, scale, as_json=options.json)
    if not options.json:
        _print_goals(run.results, everything=not options.names)
    if options.page is not None:
        options.page.write_text(figures_page(run), encoding="utf-8")
    return 0


def _parser(known: Iterable[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"one of {', '.join(known)}; all without one; or peers, alone"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="about a second each; the orders of magnitude are right")
    parser.add_argument(
        "--cases", type=int, metavar="N", help="let idle open N cases, rather than work out what a million would take"
    )
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the documentation page of this run")
    return parser


def _run(chosen: Mapping[str, Benchmark], scale: Scale, *, as_json: bool) -> Run:
    """Run benchmarks one after the other, and print each figure when it is there."""
    where, mood = machine(), _described(calibrate(seconds=scale.seconds(0.5)))
    if as_json:
        print(json.dumps({"machine": where, "calibration": mood}), flush=True)
    else:
        for key, value in [*where.items(), *mood.items()]:
            print(f"{key:<20} {value}", flush=True)
    results = []
    for name, benchmark in chosen.items():
        said = method(benchmark)
        if not as_json:
            print(f"\n{name}: {said}", flush=True)
        before = loop_nanoseconds(scale.seconds(0.2))
        figures = []
        for figure in measure(benchmark, scale):
            figures.append(figure)
            line = json.dumps({"benchmark": name, **attrs.asdict(figure), "verdict": figure.verdict.value})
            print(line if as_json else figure.line(), flush=True)
        loop = (before, loop_nanoseconds(scale.seconds(0.2)))
        if as_json:
            print(json.dumps({"benchmark": name, "method": said, "loop before": loop[0], "loop after": loop[1]}))
        else:
            print(f"empty loop turn: {number(loop[0])} ns before, {number(loop[1])} ns after", flush=True)
        results.append(Result(name, said, tuple(figures), loop))
    return Run(where, mood, tuple(results))


def _described(calibration: Calibration) -> dict[str, str]:
    """Return the calibration as a run prints it."""
    addition, ticks = calibration.addition, calibration.ticks
    return {
        "empty loop turn": f"{number(calibration.loop)} ns",
        "dependent addition": "no C compiler"
        if addition is None
        else f"{addition:.3f} ns, a clock of {1 / addition:.2f} GHz",
        "time stamp counter": "none" if ticks is None else f"{ticks:.3f} ticks a ns",
    }


def _print_goals(results: Iterable[Result], *, everything: bool) -> None:
    """Print what the run says of each promise, or of those that it is about."""
    found = {result.name: result.figures for result in results}
    print("\ngoals")
    for goal in GOALS:
        if not everything and not found.keys() & set(goal.benchmarks):
            continue
        verdict, reason = judge(goal, found)
        print(f"{verdict.value:<18} {goal.what}: {goal.goal}{' - ' + reason if reason else ''}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
