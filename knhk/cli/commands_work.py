"""``knhk work``: the worklist, and the life of work items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from knhk.cli.driving import move
from knhk.cli.failures import USAGE, Failure
from knhk.cli.handlers import Handlers
from knhk.cli.options import InOrder, by_option, data_option, db_option, handlers_option, json_option, json_value
from knhk.cli.output import note, say_json, say_table
from knhk.cli.report import item_document, who
from knhk.cli.session import opened
from knhk.running import RunningCase, WorkItem
from knhk.workitem import ItemState

_STATES = [each.value for each in (ItemState.OFFERED, ItemState.ALLOCATED, ItemState.STARTED, ItemState.SUSPENDED)]
_OPEN = [*_STATES, ItemState.FAILED.value]


@click.group(cls=InOrder)
def work() -> None:
    """
    See and do the work of people and external workers.

    ITEM is the number of a work item or the path of its task. CASE ITEM may be written CASE/ITEM.
    """


@work.command("list")
@click.argument("case", required=False)
@db_option
@click.option("--state", type=click.Choice(_OPEN), help="Only items in this state.")
@click.option("--by", metavar="NAME", help="Only what is allocated to or started by NAME.")
@json_option
def list_(case: str | None, *, db: str, state: str | None, by: str | None, as_json: bool) -> None:
    """List the open work items of all cases, or of CASE."""
    with opened(db, as_json=as_json) as session:
        if case is None:
            found = session.engine.work_items(state=state, by=by)
        else:
            case_id = session.case(case).id
            found = (each for each in session.engine.work_items(state=state, by=by) if each.case_id == case_id)
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


def _item_arguments(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the arguments that name an item, and the options that all commands on one have."""
    for decorate in (
        json_option,
        db_option,
        click.argument("item", required=False),
        click.argument("case", metavar="CASE[/ITEM]"),
    ):
        command = decorate(command)
    return command


def _do(
    case: str,
    item: str | None,
    db: str,
    change: Callable[[WorkItem], None],
    *,
    as_json: bool,
    handlers: tuple[str, ...] = (),
    data: bool = False,
) -> None:
    """Change a work item, and tell."""
    case_name, item_name = _split(case, item)
    with opened(db, as_json=as_json, handlers=Handlers(handlers)) as session:
        found = session.case(case_name)
        target = session.item(found, item_name)
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
def start(case: str, item: str | None, *, db: str, by: str, handlers: tuple[str, ...], as_json: bool) -> None:
    """Take work up."""
    _do(case, item, db, lambda each: each.start(by=by), as_json=as_json, handlers=handlers)


@work.command()
@_item_arguments
@data_option("What came out; it joins the case's data")
@by_option
@handlers_option
def complete(
    case: str,
    item: str | None,
    *,
    db: str,
    data: dict[str, Any] | None,
    by: str,
    handlers: tuple[str, ...],
    as_json: bool,
) -> None:
    """Complete work; what is only offered is started first."""
    _do(case, item, db, lambda each: each.complete(data, by=by), as_json=as_json, handlers=handlers, data=True)


@work.command()
@_item_arguments
@click.option("--by", required=True, metavar="NAME", help="Who shall do it.")
def allocate(case: str, item: str | None, *, db: str, by: str, as_json: bool) -> None:
    """Give work to somebody."""
    _do(case, item, db, lambda each: each.allocate(by), as_json=as_json)


def _simple(name: str, change: Callable[[WorkItem], None], text: str) -> None:
    @work.command(name, help=text)
    @_item_arguments
    def _(case: str, item: str | None, *, db: str, as_json: bool) -> None:
        _do(case, item, db, change, as_json=as_json)


_simple("offer", WorkItem.offer, "Give allocated work back to all who may do it.")
_simple("suspend", WorkItem.suspend, "Lay started work aside.")
_simple("resume", WorkItem.resume, "Take suspended work up again.")
_simple("fail", WorkItem.fail, "Say that started work has failed.")
_simple("retry", WorkItem.retry, "Start failed work once more.")


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
