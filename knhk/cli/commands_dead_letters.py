"""``knhk dead-letters``: work that has failed for good, in all cases, and messages that did not arrive."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import attrs
import click

from knhk.cli.failures import USAGE, Failure
from knhk.cli.options import InOrder, json_option
from knhk.cli.output import json_text, local_time, note, say, say_fields, say_json, say_table
from knhk.cli.places import Where, place_option, reached
from knhk.cli.port import Place
from knhk.work.dead_letter import MESSAGE, WORK, DeadLetter
from knhk.work.dead_messages import is_message


@click.group("dead-letters", cls=InOrder)
def dead_letters() -> None:
    """
    See, try again and give up what has failed for good.

    That is work, and messages of webhooks that did not arrive.
    LETTER is CASE:ITEM, as the list shows it; CASE may be a part of the case's id that no other case has.
    Of a message it is the whole of what the list shows.
    """


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that narrow the list."""
    for name, member, what in (
        ("--webhook", "webhook", "that are messages of this webhook"),
        ("--error", "error", "whose error is of this type"),
        ("--topic", "topic", "of external work of this topic"),
        ("--handler", "handler", "of this handler"),
        ("--spec", "spec_id", "of cases of this specification"),
    ):
        command = click.option(name, member, metavar="NAME", help=f"Only those {what}.")(command)
    return click.option("--kind", type=click.Choice((WORK, MESSAGE)), help="Only work, or only messages.")(command)


def _letter(session: Place[Any, Any], name: str) -> str:
    """Return the whole id of a letter."""
    if is_message(name):
        return name
    case, mark, number = name.rpartition(":")
    if not mark or not number.isdecimal():
        raise Failure(f"{name!r} names no dead letter: say CASE:ITEM; `knhk dead-letters list` shows them", USAGE)
    return f"{session.case(case).id}:{number}"


def _document(letter: DeadLetter) -> dict[str, Any]:
    return attrs.asdict(letter, filter=lambda attribute, _: attribute.name not in ("data", "item", "index"))


@dead_letters.command("list")
@_filters
@click.option("--limit", type=click.IntRange(1), help="No more than so many.")
@place_option
@json_option
def list_(*, limit: int | None, where: Where, as_json: bool, **wanted: str | None) -> None:
    """List what has failed for good: work by case, then messages by webhook."""
    with reached(where, as_json=as_json) as session:
        letters = session.letters.all(**wanted)
        found = islice(letters, limit)
        if as_json:
            session.progress.stop()
            for each in found:
                say_json(_document(each))
            return
        rows = [
            (
                each.id,
                each.path,
                each.handler or each.topic or each.webhook,
                each.attempts,
                local_time(each.at),
                each.reason,
            )
            for each in session.progress.count(found, "dead letters")
        ]
    if not rows:
        note("no dead letters")
    say_table(("letter", "task", "for", "attempts", "failed at", "reason"), rows, whole=("letter",))


@dead_letters.command()
@click.argument("letter")
@place_option
@json_option
def show(letter: str, *, where: Where, as_json: bool) -> None:
    """Show one with its data."""
    with reached(where, as_json=as_json) as session:
        found = session.letters.get(_letter(session, letter))
    if as_json:
        say_json(attrs.asdict(found))
        return
    element = "" if found.index is None else f"{json_text(found.item)} (instance {found.index + 1})"
    say_fields(
        (
            ("letter", found.id),
            ("spec", f"{found.spec_id} {found.spec_version}"),
            ("task", found.path),
            ("handler", found.handler),
            ("topic", found.topic),
            ("webhook", found.webhook),
            ("failed at", local_time(found.at)),
            (
                "attempts",
                f"{found.attempts}" if found.attempts == found.attempt else f"{found.attempts} of {found.attempt}",
            ),
            ("reason", found.reason),
            ("error", found.error),
            ("where", found.where),
            ("digest", found.digest),
            ("element", element),
            ("data", json_text(found.data)),
        )
    )


@dead_letters.command()
@click.argument("letter", required=False)
@click.option("--all", "everything", is_flag=True, help="All that fit, instead of one.")
@_filters
@click.option("--by", default="", metavar="NAME", help="Who does it; of a service the token says that.")
@place_option
@json_option
def replay(letter: str | None, *, everything: bool, by: str, where: Where, as_json: bool, **wanted: str | None) -> None:
    """Give LETTER, or all that fit, all its attempts anew; `knhk tick` makes those of handlers."""
    if everything == (letter is not None) or (letter is not None and any(wanted.values())):
        raise Failure(
            "say which: LETTER, or --all with or without --kind, --spec, --handler, --topic, --error, --webhook", USAGE
        )
    with reached(where, as_json=as_json) as session:
        letters = session.letters
        count = 1
        if letter is None:
            count = letters.replay_all(**wanted, by=by)
        else:
            letters.replay(_letter(session, letter), by=by)
    if as_json:
        say_json({"replayed": count})
    else:
        say(f"replayed {count}")


@dead_letters.command()
@click.argument("letter")
@click.option("--by", default="", metavar="NAME", help="Who decides it; of a service the token says that.")
@click.option("--reason", required=True, metavar="TEXT", help="Why, for the history.")
@place_option
@json_option
def discard(letter: str, *, by: str, reason: str, where: Where, as_json: bool) -> None:
    """Give LETTER up: its task is withdrawn, or of several instances this one ends; or a message is forgotten."""
    if where.db and not by:
        raise Failure("say who decides it: --by NAME", USAGE)
    with reached(where, as_json=as_json) as session:
        name = _letter(session, letter)
        session.letters.discard(name, by=by, reason=reason)
        state = "" if is_message(name) else session.known(name.rpartition(":")[0]).state
    if as_json:
        say_json({"discarded": name, "state": state or None})
    else:
        say(f"discarded {name}" + (f"; the case is {state}" if state else ""))
