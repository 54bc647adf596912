"""``knhk work``: the worklist, and the life of work items."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import click

from knhk.cli.driving import move
from knhk.cli.failures import USAGE, Failure
from knhk.cli.handlers import Handlers
from knhk.cli.options import InOrder, by_option, data_option, db_option, handlers_option, json_option, json_value
from knhk.cli.output import note, say_json, say_table
from knhk.cli.places import Where, place_option, reached
from knhk.cli.port import QUEUES, C, I, ItemLike, Place
from knhk.cli.report import item_document, who
from knhk.cli.session import opened
from knhk.running import RunningCase, WorkItem
from knhk.workitem import ItemState

_OPEN = [ItemState.UNOFFERED.value, *QUEUES, ItemState.REPLACED.value, ItemState.FAILED.value]


@click.group(cls=InOrder)
def work() -> None:
    """
    See and do the work of people and external workers.

    ITEM is the number of a work item or the path of its task. CASE ITEM may be written CASE/ITEM.
    """


@work.command("list")
@click.argument("case", required=False)
@place_option
@click.option("--state", type=click.Choice(_OPEN), help="Only items in this state.")
@click.option("--by", metavar="NAME", help="Only what is allocated to or started by NAME.")
@click.option("--participant", metavar="NAME", help="What NAME may take up, and what is NAME's, queue by queue.")
@click.option(
    "--role", "roles", multiple=True, metavar="ROLE", help="A role of the participant's, where no --org says so."
)
@json_option
def list_(
    case: str | None,
    *,
    where: Where,
    state: str | None,
    by: str | None,
    participant: str | None,
    roles: tuple[str, ...],
    as_json: bool,
) -> None:
    """List the open work items of all cases, or of CASE."""
    if participant is None and roles:
        raise Failure("--role says what a participant is: give --participant NAME, too", USAGE)
    if participant is not None and by is not None:
        raise Failure("--by and --participant cannot stand together", USAGE)
    with reached(where, as_json=as_json) as session:
        case_id = None if case is None else session.case(case).id
        every = session.rows(state=state, by=by) if participant is None else session.queues(participant, roles, state)
        found = (each for each in every if case_id in (None, each.case_id))
        if as_json:
            session.progress.stop()
            for each in found:
                say_json(item_document(each))
            return
        rows = [
            (each.case_id, each.number, each.path, each.state, each.by, who(each))
            for each in session.progress.count(found, "work items")
        ]
    if not rows:
        note("no open work items")
    say_table(("case", "item", "task", "state", "by", "who"), rows, whole=("case", "item"))


def _split(case: str, item: str | None) -> tuple[str, str]:
    """Return case and item, which may be written as one."""
    if item is None:
        case, slash, item = case.partition("/")
        if not slash or not item:
            raise Failure("say which item: CASE ITEM or CASE/ITEM; `knhk work list` shows them", USAGE)
    return case, item


def _arguments(place: Callable[..., Any], command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the arguments that name an item, where it is, and the options that all commands on one have."""
    for decorate in (
        json_option,
        place,
        click.argument("item", required=False),
        click.argument("case", metavar="CASE[/ITEM]"),
    ):
        command = decorate(command)
    return command


_item_arguments = partial(_arguments, place_option)
_stored_item_arguments = partial(_arguments, db_option)
"""Of commands that a service does not have."""


def _do(
    case: str,
    item: str | None,
    where: Where,
    change: Callable[[ItemLike], object],
    *,
    as_json: bool,
    handlers: tuple[str, ...] = (),
    data: bool = False,
) -> None:
    """Change a work item where it is, and tell."""
    names = _split(case, item)
    with reached(where, as_json=as_json, handlers=Handlers(handlers)) as session:
        _change(session, names, change, as_json=as_json, data=data)


def _do_stored(case: str, item: str | None, db: str, change: Callable[[WorkItem], object], *, as_json: bool) -> None:
    """Change a work item in a store, and tell."""
    names = _split(case, item)
    with opened(db, as_json=as_json) as session:
        _change(session, names, change, as_json=as_json)


def _change(
    session: Place[C, I], names: tuple[str, str], change: Callable[[I], object], *, as_json: bool, data: bool = False
) -> None:
    found = session.case(names[0])
    target = session.item(found, names[1])
    move(
        session,
        found,
        lambda: change(target),
        as_json=as_json,
        automatic=session.drives,
        data=data,
        item=target.number,
    )


@work.command()
@_item_arguments
@by_option
@handlers_option
def start(case: str, item: str | None, *, where: Where, by: str, handlers: tuple[str, ...], as_json: bool) -> None:
    """Take work up."""
    _do(case, item, where, lambda each: each.start(by=by), as_json=as_json, handlers=handlers)


@work.command()
@_item_arguments
@data_option("What came out; it joins the case's data")
@by_option
@handlers_option
def complete(
    case: str,
    item: str | None,
    *,
    where: Where,
    data: dict[str, Any] | None,
    by: str,
    handlers: tuple[str, ...],
    as_json: bool,
) -> None:
    """Complete work; what is only offered is started first."""
    _do(case, item, where, lambda each: each.complete(data, by=by), as_json=as_json, handlers=handlers, data=True)


def _simple(name: str, change: Callable[[ItemLike, str], object], text: str) -> None:
    @work.command(name, help=text)
    @_item_arguments
    @by_option
    def _(case: str, item: str | None, *, where: Where, by: str, as_json: bool) -> None:
        _do(case, item, where, lambda each: change(each, by), as_json=as_json)


_simple("suspend", lambda item, by: item.suspend(by=by), "Lay started work aside.")
_simple("resume", lambda item, by: item.resume(by=by), "Take suspended work up again.")
_simple("fail", lambda item, by: item.fail(by=by), "Say that started work has failed.")


@work.command()
@_stored_item_arguments
@by_option
def retry(case: str, item: str | None, *, db: str, by: str, as_json: bool) -> None:
    """Start failed work once more."""
    _do_stored(case, item, db, lambda each: each.retry(by=by), as_json=as_json)


# --- between people -------------------------------------------------------------------------------------------------------

_to_option = click.option("--to", required=True, metavar="NAME", help="Who gets it.")


@work.command()
@_item_arguments
@click.option("--to", default="", metavar="NAME", help="Who gets it; left out: who says so.")
@by_option
def allocate(case: str, item: str | None, *, where: Where, to: str, by: str, as_json: bool) -> None:
    """Give work to somebody, or take it."""
    if not to and not by:
        raise Failure("say who gets it: --to NAME", USAGE)
    _do(case, item, where, lambda each: each.allocate(to or by, by=by), as_json=as_json)


@work.command()
@_item_arguments
@click.option("--to", multiple=True, metavar="role:NAME|participant:NAME", help="Whom to offer it to. May be repeated.")
@by_option
def offer(case: str, item: str | None, *, where: Where, to: tuple[str, ...], by: str, as_json: bool) -> None:
    """Give allocated work back to all who may do it, or offer it to others."""
    _do(case, item, where, lambda each: each.offer(to or None, by=by), as_json=as_json)


@work.command()
@_item_arguments
@_to_option
@by_option
def delegate(case: str, item: str | None, *, where: Where, to: str, by: str, as_json: bool) -> None:
    """Hand allocated work to somebody else."""
    _do(case, item, where, lambda each: each.delegate(to, by=by), as_json=as_json)


@work.command()
@_stored_item_arguments
@_to_option
@click.option("--anew", is_flag=True, help="Drop what was saved of its output.")
@by_option
def reallocate(case: str, item: str | None, *, db: str, to: str, anew: bool, by: str, as_json: bool) -> None:
    """Hand started or suspended work to somebody else."""
    _do_stored(case, item, db, lambda each: each.reallocate(to, by=by, keep=not anew), as_json=as_json)


@work.command()
@_stored_item_arguments
@data_option("What there is of the output")
@by_option
def save(case: str, item: str | None, *, db: str, data: dict[str, Any] | None, by: str, as_json: bool) -> None:
    """Keep what there is of the output of started work."""
    _do_stored(case, item, db, lambda each: each.save(data or {}, by=by), as_json=as_json)


@work.command()
@_item_arguments
@by_option
@handlers_option
def skip(case: str, item: str | None, *, where: Where, by: str, handlers: tuple[str, ...], as_json: bool) -> None:
    """Complete work without its being done."""
    _do(case, item, where, lambda each: each.skip(by=by), as_json=as_json, handlers=handlers, data=True)


@work.command()
@_stored_item_arguments
@click.option("--end", is_flag=True, help="No longer.")
@by_option
def pile(case: str, item: str | None, *, db: str, end: bool, by: str, as_json: bool) -> None:
    """Have all work of this task from now on, in every case, started at once."""
    _do_stored(case, item, db, lambda each: each.pile(by=by, piled=not end), as_json=as_json)


@work.command()
@_stored_item_arguments
@click.option("--end", is_flag=True, help="No longer.")
@by_option
def chain(case: str, item: str | None, *, db: str, end: bool, by: str, as_json: bool) -> None:
    """Have all work that comes up for you in this case from now on, started at once."""
    _do_stored(case, item, db, lambda each: each.chain(by=by, chained=not end), as_json=as_json)


# --- tasks with several instances -----------------------------------------------------------------------------------------


def _task_arguments(command: Callable[..., Any]) -> Callable[..., Any]:
    for decorate in (
        json_option,
        handlers_option,
        db_option,
        click.argument("task", required=False),
        click.argument("case", metavar="CASE[/TASK]"),
    ):
        command = decorate(command)
    return command


def _do_task(
    case: str,
    task: str | None,
    db: str,
    change: Callable[[RunningCase, str], None],
    *,
    handlers: tuple[str, ...],
    as_json: bool,
) -> None:
    """Change a task of a case by its path, and tell."""
    case_name, path = _split(case, task)
    with opened(db, as_json=as_json, handlers=Handlers(handlers)) as session:
        found = session.case(case_name)
        move(
            session,
            found,
            lambda: change(found, path),
            as_json=as_json,
            automatic=session.drives,
            data=False,
            task=path,
        )


@work.command("add-instance")
@_task_arguments
@click.option("--element", metavar="JSON", help="What the instance is for, where the task has a list of elements.")
def add_instance(
    case: str, task: str | None, *, db: str, element: str | None, handlers: tuple[str, ...], as_json: bool
) -> None:
    """Start one more instance of a dynamic task."""
    value = None if element is None else json_value("--element", element)
    _do_task(case, task, db, lambda each, path: each.add_instance(path, value), handlers=handlers, as_json=as_json)


def _simple_task(name: str, change: Callable[[RunningCase, str], None], text: str) -> None:
    @work.command(name, help=text)
    @_task_arguments
    def _(case: str, task: str | None, *, db: str, handlers: tuple[str, ...], as_json: bool) -> None:
        _do_task(case, task, db, change, handlers=handlers, as_json=as_json)


_simple_task("close-instances", RunningCase.close_instances, "Allow no further instances of a dynamic task.")
_simple_task("complete-instances", RunningCase.complete_instances, "Force a multiple-instance task to complete.")
_simple_task("cancel-task", RunningCase.cancel_task, "Abort a running task, or withdraw an offered one.")
