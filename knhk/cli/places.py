"""Where a command finds the cases: in a store (``--db``) or at a service (``--server``)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import attrs
import click
from click.core import ParameterSource

from knhk.cli.failures import USAGE, Failure
from knhk.cli.handlers import Handlers
from knhk.cli.options import org_option, organisation
from knhk.cli.output import Slow
from knhk.cli.port import Place
from knhk.cli.remote import connected, server_option
from knhk.cli.remote_session import RemoteSession
from knhk.cli.session import opened

_C = TypeVar("_C", bound=Callable[..., Any])

_NEITHER: Final = "say where the cases are: --db PATH, or --server URL"


@attrs.frozen
class Where:
    """
    What was typed: a store, or a service.

    Args:
        db: the store; "" for none.
        servers, token_file: the service.
    """

    db: str = ""
    servers: tuple[str, ...] = ()
    token_file: str | None = None


def place_option(command: _C) -> _C:
    """Add ``--db``, ``--org``, ``--server`` and ``--token-file``; the command is given `where`."""

    @functools.wraps(command)
    def placed(*args: Any, db: str | None, servers: tuple[str, ...], token_file: str | None, **named: Any) -> Any:
        return command(*args, where=_chosen(db or "", servers, token_file), **named)

    add_db = click.option(
        "--db", metavar="PATH", envvar="KNHK_DB", show_envvar=True, help="The store with the cases: a path, or a URL."
    )
    made: _C = add_db(org_option(server_option(required=False)(placed)))  # type: ignore[assignment] # with its own parameters
    return made


def _chosen(db: str, servers: tuple[str, ...], token_file: str | None) -> Where:
    """Return the one place that is meant: what is typed counts before a variable."""
    if db and servers:
        context = click.get_current_context()
        typed = [
            name for name in ("db", "servers") if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        ]
        if len(typed) != 1:
            raise Failure("--db and --server, or their variables, cannot stand together: leave one out", USAGE)
        db, servers = (db, ()) if typed == ["db"] else ("", servers)
    if not db and not servers:
        raise Failure(_NEITHER, USAGE)
    return Where(db, servers, token_file)


@contextmanager
def reached(where: Where, *, as_json: bool, handlers: Handlers | None = None) -> Iterator[Place[Any, Any]]:
    """Open a store, or ask a service, for one command."""
    if where.db:
        with opened(where.db, as_json=as_json, handlers=handlers) as session:
            yield session
        return
    if handlers is not None and handlers.names:
        raise Failure(
            "--handlers is for a store: a service does automatic work by itself, and `knhk worker` other", USAGE
        )
    if organisation() is not None:
        raise Failure("--org is for a store: a service knows who asks by the token", USAGE)
    with connected(where.servers, where.token_file) as client, Slow("asking the service", aside=as_json) as progress:
        yield RemoteSession(client, where.servers, where.token_file, progress)
