"""``knhk replay``: how well an event log fits a specification."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from knhk.analysis.conformance import BUDGET, ReplayReport, TraceReplay, replay
from knhk.cli.failures import DATA, NO, Failure, reading, told
from knhk.cli.options import json_option
from knhk.cli.output import Slow, clean, counted, note, say, say_fields, say_json, say_table
from knhk.errors import ParseError
from knhk.formats.event_log import Columns, Order, read_event_log
from knhk.spec import Specification
from knhk.spec.files import read_file

_MAX_EVENTS: Final = 12
"""How many events of a variant a table shows."""

_SHOWN: Final = 3
"""How many deviations of a trace a table shows."""

_NOBODY: Final = "(no task)"


@click.command("replay")
@click.argument("log")
@click.argument("specification")
@click.option(
    "--map", "mapping", metavar="FILE", help="JSON or YAML: {name in the log: task path, or null to leave out}."
)
@click.option("--case", metavar="COLUMN", help="CSV: the column with the case; else recognised.")
@click.option("--task", metavar="COLUMN", help="CSV: the column with the task; else recognised.")
@click.option("--time", metavar="COLUMN", help="CSV: the column with the time; else recognised.")
@click.option("--lifecycle", metavar="COLUMN", help="CSV: the column with the transition; else recognised.")
@click.option("--order", type=click.Choice(["time", "file"]), default="time", help="CSV: the order of a case's events.")
@click.option(
    "--strict", is_flag=True, help="A task with work to do never happens unseen, also if the log never names it."
)
@click.option("--unfinished", is_flag=True, help="Cases may stop anywhere: nothing is asked of a trace's end.")
@click.option("--worst", default=10, show_default=True, type=click.IntRange(0, 100_000), help="How many to list.")
@click.option(
    "--budget", default=BUDGET, show_default=True, type=click.IntRange(1), help="Running nets that one search looks at."
)
@json_option
def replay_log(
    log: str,
    specification: str,
    *,
    mapping: str | None,
    case: str | None,
    task: str | None,
    time: str | None,
    lifecycle: str | None,
    order: Order,
    strict: bool,
    unfinished: bool,
    worst: int,
    budget: int,
    as_json: bool,
) -> None:
    """
    Say how well an event log fits a specification.

    LOG is XES or CSV, also with .gz. Each trace is replayed on the specification; fitness 1 is a run of it. Exit code 0: every trace fits; 1: some do
    not.
    """
    columns = Columns(case=case, task=task, time=time, lifecycle=lifecycle)
    with reading(specification):
        loaded = Specification.load(specification)
    names = _read_mapping(mapping)
    with Slow(f"replaying {log}") as slow, reading(log):
        try:
            report = replay(
                loaded,
                slow.count(read_event_log(log, columns=columns, order=order), "traces"),
                names=names,
                strict=strict,
                unfinished_cases=unfinished,
                listed=worst,
                budget=budget,
            )
        except ParseError as error:
            # Not the code of an answer: whether the log fits is not known.
            raise Failure(told(error), DATA) from error
    if as_json:
        say_json({"log": log, **report.to_dict()})
    else:
        _say(log, report)
    if report.fitting < report.traces:
        raise click.exceptions.Exit(NO)


def _read_mapping(file: str | None) -> dict[str, str | None]:
    if file is None:
        return {}
    with reading(file):
        tree = read_file(Path(file))
    if not isinstance(tree, dict) or not all(
        isinstance(name, str) and (path is None or isinstance(path, str)) for name, path in tree.items()
    ):
        message = f'{file} must be an object of names in the log to task paths, such as {{"Ship goods": "ship/send"}}'
        raise Failure(message, DATA)
    return tree


def _say(log: str, report: ReplayReport) -> None:
    say(clean(f"{log} on {report.specification} {report.version}"))
    skipped = ", ".join(f"{count} {reason}" for reason, count in report.skipped.items())
    counts = [
        counted(report.traces, "trace"),
        counted(report.events, "event"),
        counted(report.variant_count, "variant"),
    ]
    share = f" ({report.fitting / report.traces:.1%})" if report.traces else ""
    say_fields(
        [
            ("  has", ", ".join(counts)),
            ("  skipped", clean(skipped)),
            ("  fitting", f"{report.fitting} of {counted(report.traces, 'trace')}{share}"),
            ("  fitness", f"{report.fitness:.4f} mean over traces, {report.token_fitness:.4f} over tokens"),
            (
                "  tokens",
                ", ".join(
                    f"{getattr(report, each)} {each}" for each in ("produced", "consumed", "missing", "remaining")
                ),
            ),
        ]
    )
    if report.silent:
        note(clean(f"the log never names {', '.join(report.silent)}: taken to happen unseen; --strict does not"))
    if report.undecided:
        note(f"{counted(report.undecided, 'trace')} may fit better: a search met its budget; give a larger --budget")
    _say_deviations(report)
    _say_variants(report)


def _say_deviations(report: ReplayReport) -> None:
    if report.deviations:
        say()
        say_table(
            ["task", "deviation", "times", "traces", "for example"],
            [
                [
                    each.task or _NOBODY,
                    each.kind.value.replace("_", " "),
                    each.count,
                    each.traces,
                    ", ".join(each.cases),
                ]
                for each in report.deviations
            ],
        )
    if report.worst:
        say()
        say_table(
            ["case", "fitness", "missing", "remaining", "deviations"],
            [
                [each.case, f"{each.fitness:.4f}", each.missing, each.remaining, _deviations(each)]
                for each in report.worst
            ],
            whole=["case"],
        )


def _deviations(trace: TraceReplay) -> str:
    shown = [
        f"{each.task or each.condition or _NOBODY}: {each.kind.value.replace('_', ' ')}"
        + (f" (event {each.position})" if each.position else "")
        for each in trace.deviations[:_SHOWN]
    ]
    beyond = len(trace.deviations) - _SHOWN
    return ", ".join([*shown, f"and {beyond} more"] if beyond > 0 else shown)


def _say_variants(report: ReplayReport) -> None:
    if report.variants:
        say()
        say_table(
            ["traces", "fitness", "variant"],
            [
                [each.count, f"{each.fitness:.4f}", " > ".join(_first(each.events)) or "(no events)"]
                for each in report.variants
            ],
        )


def _first(events: tuple[str, ...]) -> list[str]:
    beyond = len(events) - _MAX_EVENTS
    return [*events[:_MAX_EVENTS], f"... {beyond} more"] if beyond > 0 else list(events)
