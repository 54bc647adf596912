"""``knhk run``: a case of a specification from a file."""

from __future__ import annotations

from typing import Any

import click

from knhk.cli.driving import move
from knhk.cli.failures import reading
from knhk.cli.handlers import Handlers, require
from knhk.cli.options import data_option, handlers_option, json_option, org_option
from knhk.cli.session import MEMORY, opened
from knhk.spec import Specification


@click.command()
@click.argument("file")
@data_option("The case's first data")
@click.option(
    "--db",
    default=MEMORY,
    metavar="PATH",
    envvar="KNHK_DB",
    show_envvar=True,
    help="SQLite file to keep the case in, made if need be. Without it the case is in memory and nothing is kept.",
)
@org_option
@handlers_option
@json_option
def run(file: str, *, data: dict[str, Any] | None, db: str, handlers: tuple[str, ...], as_json: bool) -> None:
    """
    Run a case of the specification in FILE (JSON or YAML).

    Registers the specification, creates a case, does its automatic work and prints each task as it completes; then where
    the case stands, and how to go on.
    """
    with reading(file):
        specification = Specification.load(file)
    given = Handlers(handlers)
    if given.known is not None:
        # Before the store is opened, which may make a file.
        require(specification, given.known)
    with opened(db, as_json=as_json, handlers=given, create=True) as session:
        require(specification, session.engine.names)
        session.engine.register(specification)
        case = session.engine.create_case(specification.id, data, version=specification.version)
        kept = None if db == MEMORY else db
        move(session, case, lambda: None, as_json=as_json, automatic=True, db=kept)
