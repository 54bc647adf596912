"""Options that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from knhk.cli.failures import DATA, Failure, reading, translated
from knhk.errors import ParseError
from knhk.spec.json_text import read_json
from knhk.work.organisation import Organisation

_C = TypeVar("_C", bound=Callable[..., Any])

_ORGANISATION: Final = "knhk.organisation"

HANDLERS_HELP = (
    "Python file or module with the functions that do the work:"
    " HANDLERS = {name: function}, or register(engine). May be repeated."
)


class InOrder(click.Group):
    """A group that lists its commands in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of the commands."""
        return list(self.commands)


def json_option(command: _C) -> _C:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs, and nothing else.")(command)


def db_option(command: _C) -> _C:
    """Add ``--db`` for commands that need a store that is there, and ``--org``."""
    return click.option(
        "--db",
        required=True,
        metavar="PATH",
        envvar="KNHK_DB",
        show_envvar=True,
        help="The store with the cases: a path, or a URL.",
    )(org_option(command))


def org_option(command: _C) -> _C:
    """Add ``--org``, which whoever opens the store asks `organisation` for."""
    return click.option(
        "--org",
        metavar="FILE",
        envvar="KNHK_ORG",
        show_envvar=True,
        expose_value=False,
        callback=_keep_organisation,
        help="The YAML or JSON file with the people; commands on their work then need --by.",
    )(command)


def _keep_organisation(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        with reading(value), translated():
            context.meta[_ORGANISATION] = Organisation.load(value)


def organisation() -> Organisation | None:
    """Return the people that the command which runs now was told of."""
    context = click.get_current_context(silent=True)
    return None if context is None else context.meta.get(_ORGANISATION)


def by_option(command: _C) -> _C:
    """Add ``--by``."""
    return click.option("--by", default="", metavar="NAME", help="Who does it.")(command)


def handlers_option(command: _C) -> _C:
    """Add ``--handlers``."""
    return click.option("--handlers", multiple=True, metavar="MODULE_OR_FILE", help=HANDLERS_HELP)(command)


def data_option(what: str, *, name: str = "--data") -> Callable[[_C], _C]:
    """Return a decorator that adds ``--data``, which is read before the command begins."""
    return click.option(
        name,
        "data",
        metavar="JSON|@FILE",
        callback=_read_object,
        help=f"{what}: a JSON object, or @FILE with one (@- is standard input).",
    )


def _read_object(_: click.Context, option: click.Parameter, value: str | None) -> dict[str, Any] | None:
    if value is None:
        return None
    tree = json_value(option.opts[0], value)
    if not isinstance(tree, dict):
        raise Failure(f'{option.opts[0]} must be a JSON object such as {{"amount": 7}}', DATA)
    return tree


def json_value(option: str, text: str) -> Any:
    """Read an option's JSON value; one that begins with ``@`` names the file that has it."""
    written: str | bytes = text
    if text == "@-":
        written = sys.stdin.buffer.read()
    elif text.startswith("@"):
        with reading(text[1:]):
            written = Path(text[1:]).read_bytes()
    try:
        return read_json(written)
    except ParseError as error:
        raise Failure(f"{option} is not JSON: {'; '.join(map(str, error.problems))}", DATA) from error
