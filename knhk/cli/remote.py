"""Options and client of commands that ask a service rather than a store."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from knhk.cli.failures import USAGE, Failure, reading
from knhk.client import Client

_C = TypeVar("_C", bound=Callable[..., Any])

TOKEN: Final = "WORKFLOW_TOKEN"
"""The variable with the bearer token."""


def server_option(*, required: bool) -> Callable[[_C], _C]:
    """Return a decorator that adds ``--server`` and ``--token-file``."""

    def decorate(command: _C) -> _C:
        command = click.option(
            "--token-file",
            metavar="FILE",
            help=f"The file with the token, read for each call; without it, the variable {TOKEN} has the token.",
        )(command)
        return click.option(
            "--server",
            "servers",
            multiple=True,
            required=required,
            metavar="URL",
            envvar="KNHK_SERVER",
            show_envvar=True,
            help="The service, as http://host:8080. May be repeated for several instances.",
        )(command)

    return decorate


def connected(servers: Sequence[str], token_file: str | None, **more: Any) -> Client:
    """
    Return a client of a service.

    Raises:
        Failure: an address is none.
        MissingExtra: its library is not installed.
    """

    def token() -> str | None:
        if token_file is None:
            return os.environ.get(TOKEN) or None
        with reading(token_file):
            return Path(token_file).read_text(encoding="utf-8").strip()

    try:
        return Client(servers, token=token, **more)
    except ValueError as error:
        raise Failure(str(error), USAGE) from error
