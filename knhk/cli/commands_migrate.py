"""``knhk migrate``: open cases to another version of their specification."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from knhk.cli.failures import NO, USAGE, Failure, reading
from knhk.cli.options import db_option, json_option
from knhk.cli.output import clean, counted, note, say, say_json
from knhk.cli.session import opened
from knhk.migration import CaseMigration, MigrationReport
from knhk.spec import Specification

_SHOWN = 20


def _pairs(_: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    for old, sign, new in pairs:
        if not (old and sign and new):
            raise click.BadParameter(f"{old + sign + new!r} is not OLD=NEW", param=parameter)
    return {old: new for old, _, new in pairs}


@click.command()
@click.argument("specification", metavar="FILE|ID")
@click.option("--to", metavar="VERSION", help="The registered version to move to, where no file is given.")
@db_option
@click.option("--case", "cases", multiple=True, metavar="CASE", help="Only this case; may be repeated.")
@click.option(
    "--task", "tasks", multiple=True, callback=_pairs, metavar="OLD=NEW", help="A task that has another name."
)
@click.option(
    "--condition",
    "conditions",
    multiple=True,
    callback=_pairs,
    metavar="OLD=NEW",
    help="Where a condition's tokens go.",
)
@click.option(
    "--net", "nets", multiple=True, callback=_pairs, metavar="OLD=NEW", help="A subnet that has another name."
)
@click.option("--dry-run", is_flag=True, help="Change nothing: say what would become of each case.")
@json_option
def migrate(
    *,
    specification: str,
    to: str | None,
    db: str,
    cases: tuple[str, ...],
    tasks: dict[str, str],
    conditions: dict[str, str],
    nets: dict[str, str],
    dry_run: bool,
    as_json: bool,
) -> None:
    """
    Move open cases to another version of their specification.

    FILE is the new version, which is registered; or ID names a specification whose version is registered already.
    A case moves whole or stays as it is: where a token or started work has no place in the new version, the problem is told
    with its place. The exit code says whether all could move.
    """
    spec_id, target = _target(specification, to)
    with opened(db, as_json=as_json) as session:
        named = [session.case(each).id for each in cases] or None
        seen = 0

        def progress(_: CaseMigration) -> None:
            nonlocal seen
            seen += 1
            if seen % 100 == 0:
                session.progress.describe(f"{seen} cases")

        begun = time.monotonic()
        report = session.engine.migrate(
            spec_id,
            to=target,
            cases=named,
            tasks=tasks,
            conditions=conditions,
            nets=nets,
            dry_run=dry_run,
            progress=progress,
        )
        seconds = time.monotonic() - begun
    if as_json:
        for each in report.cases:
            say_json(_document(each, dry_run=dry_run))
        note(_head(report, seconds))
    else:
        _say(report, seconds)
    if report.refused:
        raise click.exceptions.Exit(NO)


def _target(specification: str, to: str | None) -> tuple[str, str | Specification]:
    if Path(specification).is_file():
        if to is not None:
            raise Failure("--to names a registered version: give the specification's id with it, not a file", USAGE)
        with reading(specification):
            loaded = Specification.load(specification)
        return loaded.id, loaded
    if to is None:
        raise Failure(f"{specification} is no file; to move to a registered version, name it: --to VERSION", USAGE)
    return specification, to


def _document(fate: CaseMigration, *, dry_run: bool) -> dict[str, Any]:
    return {
        "case_id": fate.case_id,
        "from": fate.source,
        "to": fate.target,
        "dry_run": dry_run,
        "moves": fate.moves,
        "problems": [{"place": each.place, "message": each.message} for each in fate.problems],
        "withdrawn": list(fate.withdrawn),
    }


def _head(report: MigrationReport, seconds: float) -> str:
    """Say how many moved, in what time, and how many a second were looked at."""
    rate = f" ({len(report.cases) / seconds:,.0f} cases/s)" if report.cases and seconds > 0 else ""
    return clean(f"{str(report).partition(chr(10))[0]} in {seconds:.1f} s{rate}")


def _say(report: MigrationReport, seconds: float) -> None:
    _, *reasons = str(report).split("\n")
    say(_head(report, seconds))
    for reason in reasons[:_SHOWN]:
        say(clean(f"  {reason}"))
    if len(reasons) > _SHOWN:
        say(f"  and {counted(len(reasons) - _SHOWN, 'other problem')}; --json tells of each case")
    withdrawn = sum(len(each.withdrawn) for each in report.moved)
    if withdrawn:
        verb = "would be" if report.dry_run else "were"
        note(f"{counted(withdrawn, 'offer')} {verb} withdrawn, as the new version has no such task")
