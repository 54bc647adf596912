"""Commands on cases: looking at them, ending, holding and continuing them, and what comes from outside."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from knhk._codes import Phase
from knhk.cli.driving import drive, move, tell_failure
from knhk.cli.failures import NO
from knhk.cli.handlers import Handlers, asked_for
from knhk.cli.options import data_option, db_option, handlers_option, json_option
from knhk.cli.output import clean, counted, local_time, note, say, say_json, say_table
from knhk.cli.places import Where, place_option, reached
from knhk.cli.port import C, I, Place
from knhk.cli.report import BAD, case_document, event_document, header_document, say_whole
from knhk.cli.session import Session, opened, short
from knhk.errors import CommandError, DataError, IllegalTransition, QuarantinedCase
from knhk.ports import CaseHeader

_STATES = [each.value for each in Phase]


# --- looking --------------------------------------------------------------------------------------------------------------


@click.command()
@place_option
@click.option("--state", type=click.Choice(_STATES), help="Only cases in this state.")
@click.option("--spec", metavar="ID", help="Only cases of this specification.")
@json_option
def cases(*, where: Where, state: str | None, spec: str | None, as_json: bool) -> None:
    """List the cases, oldest first."""
    with reached(where, as_json=as_json) as session:
        found = session.cases(spec_id=spec, state=state)
        if as_json:
            session.progress.stop()
            for each in found:
                say_json(header_document(each))
            return
        rows = [_row(each) for each in session.progress.count(found, "cases")]
    if not rows:
        note("no cases")
    say_table(("case", "specification", "state", "next timer", "remarks"), rows, whole=("case",))


def _row(header: CaseHeader) -> tuple[object, ...]:
    remarks = "automatic work waits" if header.runnable else ""
    if header.quarantined:
        remarks = f"set aside: {header.quarantined}"
    return (
        header.case_id,
        f"{header.spec_id} {header.spec_version}",
        header.state,
        local_time(header.due),
        remarks,
    )


@click.command()
@click.argument("case")
@place_option
@click.option("--last", type=click.IntRange(min=0), metavar="N", help="Only the last N events of the history.")
@json_option
def show(case: str, *, where: Where, last: int | None, as_json: bool) -> None:
    """Show everything about a case, its history included."""
    with reached(where, as_json=as_json) as session:
        found = session.case(case)
        events = found.history()
        left_out = 0 if last is None else max(0, len(events) - last)
        events = events[left_out:]
        session.progress.stop()
        if as_json:
            history = [event_document(each) for each in events]
            say_json({**case_document(session, found), "marking": found.marking, "history": history})
        else:
            say_whole(session, found, events, left_out=left_out)


# --- commands -------------------------------------------------------------------------------------------------------------


@click.command()
@click.argument("case")
@click.option("--no-compensation", is_flag=True, help="Leave what has completed as it is, whatever could undo it.")
@place_option
@json_option
def cancel(case: str, *, no_compensation: bool, where: Where, as_json: bool) -> None:
    """
    End a case as cancelled, with everything in it.

    What has completed and can be undone is undone first, by the next `knhk tick` with --handlers.
    """
    with reached(where, as_json=as_json) as session:
        found = session.case(case)
        command = partial(found.cancel, compensate=not no_compensation)
        move(session, found, command, as_json=as_json, automatic=False, data=False)


@click.command()
@click.argument("case")
@place_option
@json_option
def suspend(case: str, *, where: Where, as_json: bool) -> None:
    """Hold a case until it is resumed; its timers wait."""
    with reached(where, as_json=as_json) as session:
        found = session.case(case)
        move(session, found, found.suspend, as_json=as_json, automatic=False, data=False)


@click.command()
@click.argument("case")
@place_option
@handlers_option
@json_option
def resume(case: str, *, where: Where, handlers: tuple[str, ...], as_json: bool) -> None:
    """
    Go on with a suspended, failed or cut-off case.

    A suspended case goes on; work that has failed gets another attempt. With --handlers the case's automatic work is done,
    else it waits for `knhk tick --handlers` or another program.
    """
    with reached(where, as_json=as_json, handlers=Handlers(handlers)) as session:
        found = session.case(case)

        def command() -> None:
            _resume(session, found)

        move(session, found, command, as_json=as_json, automatic=session.drives)


def _resume(session: Place[C, I], case: C) -> None:
    state = case.state
    if state == "suspended":
        case.resume()
    elif state == "created":
        case.start()
    elif case.retry_failed() == 0 and not (session.header(case).runnable and session.drives):
        waits = "; its automatic work waits for --handlers" if session.header(case).runnable else ""
        message = f"case {case.id} cannot be resumed: it is {state} and nothing in it has failed{waits}"
        raise IllegalTransition(message, status=state, command="resume")


@click.command()
@click.argument("case")
@click.argument("name")
@data_option("What the event brings; it joins the case's data")
@place_option
@handlers_option
@json_option
def event(
    case: str, name: str, *, data: dict[str, Any] | None, where: Where, handlers: tuple[str, ...], as_json: bool
) -> None:
    """Deliver the event NAME to a case."""
    with reached(where, as_json=as_json, handlers=Handlers(handlers)) as session:
        found = session.case(case)
        specification = session.specification(session.header(found))
        known = {task.trigger.event for net in specification.nets().values() for task in net.tasks if task.trigger}
        if name not in known:
            listens = f"it listens to {', '.join(sorted(known))}" if known else "it listens to none"
            message = f"case {found.id} is of {specification.id!r}, which has no event {name!r}: {listens}"
            raise IllegalTransition(message, status=found.state, command="event", allowed=sorted(known))
        kept: list[int] = []

        def command() -> None:
            kept.append(found.send_event(name, data))
            if not kept[0]:
                note(f"nobody waits for {name!r} now, and it is not kept: nothing has happened")

        if session.drives:
            session.require_handlers(found)
        move(session, found, command, as_json=as_json, automatic=session.drives, event=name)


@click.command()
@db_option
@handlers_option
@json_option
def tick(*, db: str, handlers: tuple[str, ...], as_json: bool) -> None:
    """
    Run due timers, and waiting automatic work.

    Automatic work is done with --handlers, in any case. Cases that ask for a handler that is not given are left as they are.
    """
    with opened(db, as_json=as_json, handlers=Handlers(handlers)) as session:
        codes: list[int] = []
        timers = 0
        try:
            timers = session.engine.tick()
        except (CommandError, DataError) as error:
            codes.append(tell_failure("with a due timer", error))
        driven, left = _drive_all(session, codes, as_json=as_json)
        session.progress.stop()
        if as_json:
            say_json({"timers": timers, "driven": driven, "left": left})
        else:
            _say_tick(timers, driven, left)
    if any(each["state"] in BAD for each in driven):
        codes.append(NO)
    raise click.exceptions.Exit(codes[0] if codes else 0)


def _drive_all(
    session: Session, codes: list[int], *, as_json: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Do the waiting work of all cases for which every handler is there; returns what was done and what was left."""
    driven, left = [], []
    for case_id in session.engine.pending():
        case = session.engine.case(case_id)
        missing = sorted(set(asked_for(session.specification(session.header(case)))) - session.engine.names)
        if missing:
            left.append({"case": case_id, "missing": missing})
            continue
        try:
            failure = drive(session, case, as_json=as_json)
        except QuarantinedCase as error:
            codes.append(tell_failure(case_id, error))
            continue
        if failure is not None:
            codes.append(tell_failure(case_id, failure))
        driven.append({"case": case_id, "state": session.header(case).state})
    return driven, left


def _say_tick(timers: int, driven: list[dict[str, Any]], left: list[dict[str, Any]]) -> None:
    if not (timers or driven or left):
        say("nothing was due, and no automatic work waits")
        return
    say(f"{counted(timers, 'timer')} ran; automatic work done in {counted(len(driven), 'case')}, left in {len(left)}")
    for each in driven:
        say(f"  {clean(short(each['case']))}  {each['state']}")
    for each in left:
        say(clean(f"  {short(each['case'])}  left: give --handlers with {', '.join(each['missing'])}"))
