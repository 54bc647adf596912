"""Moving a case: do the command, do the automatic work where handlers were given, and tell what came of it."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from knhk.cli.failures import NO, STOPPED, Failure, exit_code
from knhk.cli.output import clean, note, say, say_json
from knhk.cli.port import C, CaseLike, I, Place
from knhk.cli.report import BAD, case_document, say_case_line, say_standing, trace_entry, trace_line
from knhk.cli.session import short
from knhk.errors import CommandError, DataError, HandlerError, KnhkError
from knhk.work.handlers import Work

_EXPECTED = (CommandError, DataError, HandlerError)
"""Failures after which a case can still be shown: it is as it was, or the failure is part of it."""


class Trace:
    """
    What is completed in a case, printed as it goes.

    Looking at a history costs as much as it is long, so that it is done again only after ten times what it took.

    Args:
        case: whose.
        speaks: whether to print; the entries are kept in any case.

    Attributes:
        entries: what was completed since the beginning.
    """

    def __init__(self, case: CaseLike, *, speaks: bool) -> None:
        self._case = case
        self._speaks = speaks
        self._seen = len(case.history())
        self._not_before = 0.0
        self.entries: list[dict[str, Any]] = []

    def look(self) -> None:
        """Print what came since the last look."""
        events = self._case.history()
        for event in events[self._seen :]:
            entry = trace_entry(event)
            if entry is not None:
                self.entries.append(entry)
                if self._speaks:
                    say(trace_line(entry))
        self._seen = len(events)

    def look_if_cheap(self) -> None:
        """Print what came since the last look, unless that was just now."""
        before = time.monotonic()
        if before >= self._not_before:
            self.look()
            after = time.monotonic()
            self._not_before = after + 10 * (after - before)


def move(
    session: Place[C, I],
    case: C,
    command: Callable[[], object],
    *,
    as_json: bool,
    automatic: bool,
    data: bool = True,
    **more: Any,
) -> None:
    """
    Do a command on a case, then what follows from it, and tell.

    Args:
        session, case: where.
        command: what to do.
        as_json: print a document for programs.
        automatic: whether to do the automatic work, too.
        data: whether people see the case's data.
        more: what else the document has.

    Raises:
        KnhkError: what went wrong, after telling where the case stands.
        click.exceptions.Exit: the case failed or deadlocked.
    """
    if automatic:
        session.require_handlers(case)
    trace = Trace(case, speaks=not as_json)
    command()
    if not as_json:
        say_case_line(session, case)
        trace.look()
    failure = drive(session, case, trace, as_json=as_json) if automatic else None
    session.progress.stop()
    trace.look()
    if as_json:
        say_json({**case_document(session, case), "trace": trace.entries, **more})
    else:
        say_standing(session, case, data=data)
    if failure is not None:
        raise failure
    if session.header(case).state in BAD:
        raise click.exceptions.Exit(NO)


def drive(session: Place[C, I], case: C, trace: Trace | None = None, *, as_json: bool) -> KnhkError | None:
    """Do the automatic work of a case until it waits or ends; returns what went wrong in it."""

    def announce(work: Work) -> None:
        if trace is not None:
            trace.look_if_cheap()
        session.progress.describe(f"{work.task}, attempt {work.attempt}" if work.attempt > 1 else work.task)

    # What a handler prints must not stand between a program and its JSON.
    elsewhere = contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()
    try:
        with elsewhere:
            session.run_work(case, announce)
    except _EXPECTED as error:
        return error
    except KeyboardInterrupt:
        where = f"; go on with: knhk resume {short(case.id)} {session.option}" if session.keeps else ""
        raise Failure(f"stopped in case {case.id}{where}", STOPPED) from None
    return None


def tell_failure(case_id: str, failure: KnhkError) -> int:
    """Say on stderr what went wrong in one of several cases; returns the exit code for it."""
    note(f"case {clean(case_id)}: {failure}")
    return exit_code(failure)
