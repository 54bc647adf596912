"""``knhk patterns``: the catalogue of control-flow patterns, to read and to run."""

from __future__ import annotations

import textwrap
from importlib import import_module
from typing import Any

import click

from knhk.cli.failures import NO, NOT_FOUND, Failure
from knhk.cli.options import data_option, json_option
from knhk.cli.output import clean, say, say_fields, say_json, say_table
from knhk.cli.report import BAD, data_text


@click.command()
@click.argument("pattern", required=False, metavar="[N]")
@click.option("--execute", is_flag=True, help="Run the pattern's example.")
@data_option("Variables for --execute")
@json_option
def patterns(pattern: str | None, *, execute: bool, data: dict[str, Any] | None, as_json: bool) -> None:
    """
    List the 43 control-flow patterns; show or execute number N.

    N may also be a name, such as exclusive-choice.
    """
    if pattern is None:
        if execute:
            raise click.UsageError("--execute needs the number of a pattern")
        _list(as_json=as_json)
        return
    if data is not None and not execute:
        raise click.UsageError("--data is for --execute")
    found = _find(pattern)
    if execute:
        _execute(found, data, as_json=as_json)
    elif as_json:
        say_json(_document(found))
    else:
        _show(found)


def _catalogue() -> Any:
    """Return the catalogue; it is loaded only here, because its 43 nets would slow every other command."""
    return import_module("knhk.patterns").patterns


def _find(name: str) -> Any:
    try:
        return _catalogue()[int(name) if name.isdecimal() else name]
    except KeyError as error:
        raise Failure(str(error.args[0]), NOT_FOUND) from error


def _list(*, as_json: bool) -> None:
    every = _catalogue().values()
    if as_json:
        for each in every:
            say_json({"number": each.number, "name": each.name, "category": each.category})
    else:
        rows = [(each.number, each.name, each.category) for each in every]
        say_table(("number", "name", "category"), rows, whole=("number",))


def _document(pattern: Any) -> dict[str, Any]:
    return {
        "number": pattern.number,
        "name": pattern.name,
        "other_names": list(pattern.other_names),
        "category": pattern.category,
        "description": pattern.description,
        "story": pattern.story,
        "variables": dict(pattern.variables),
        "defaults": pattern.defaults,
        "net": pattern.specification.to_dict(),
    }


def _show(pattern: Any) -> None:
    say(f"{pattern.number}  {pattern.name}")
    say()
    say_fields(
        [
            ("also", ", ".join(pattern.other_names)),
            ("category", pattern.category),
            ("says", _folded(pattern.description)),
            ("example", _folded(pattern.story)),
        ]
    )
    say()
    for name, net in pattern.specification.nets().items():
        say(f"subnet {name}" if name else "net")
        for flow in net.flows:
            condition = f"   when {flow.when}" if flow.when else "   otherwise" if flow.default else ""
            say(f"  {flow.label}{condition}")
    if pattern.variables:
        say()
        say_table(("variable", "meaning"), list(pattern.variables.items()), whole=("variable",))
    say()
    say(f"run it with: knhk patterns {pattern.number} --execute")


def _folded(text: str) -> str:
    return "\n".join(textwrap.wrap(text, 88))


def _execute(pattern: Any, data: dict[str, Any] | None, *, as_json: bool) -> None:
    done = pattern.execute(data)
    if as_json:
        say_json(
            {
                "number": pattern.number,
                "name": pattern.name,
                "outcome": done.outcome,
                "trace": list(done.trace),
                "variables": done.variables,
            }
        )
    else:
        say(f"{pattern.number}  {pattern.name}: {pattern.story}")
        say()
        say_fields(
            [
                ("outcome", done.outcome),
                ("trace", "\n".join(map(clean, done.trace))),
                ("variables", data_text(done.variables)),
            ]
        )
    if done.outcome in BAD:
        raise click.exceptions.Exit(NO)
