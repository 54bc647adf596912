"""``knhk serve``, ``knhk token``, ``knhk config`` and ``knhk audit``: the service and what goes with it."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from knhk.cli.failures import NO, USAGE, Failure, reading
from knhk.cli.options import json_option
from knhk.cli.output import clean, counted, note, say, say_json, say_table
from knhk.errors import MissingExtra


def _server(name: str) -> Any:
    """Load a module of the service; raises MissingExtra where its libraries are not installed."""
    try:
        return importlib.import_module(f"knhk.server.{name}")
    except ModuleNotFoundError as error:
        raise MissingExtra("server", "the service") from error


def configured() -> Any:
    """Return what the environment says; raises Failure where it cannot be used."""
    configuration = _server("configuration")
    try:
        loaded = configuration.load(os.environ)
    except configuration.ConfigurationError as error:
        raise Failure(str(error), USAGE) from error
    return loaded


@click.command()
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="So many processes answer on the port, each an instance on the store.",
)
@click.option("--listener", type=(int, int), hidden=True)
def serve(*, workers: int, listener: tuple[int, int] | None) -> None:
    """
    Serve the REST API, and gRPC beside it.

    gRPC is served where WORKFLOW_GRPC_PORT says a port.
    It is configured by the variables WORKFLOW_*; `knhk config` prints them.
    Without any key a secret is made in the state directory at the first start; `knhk token` signs with it.
    SIGTERM ends it in order: not ready first, then what has arrived is answered.
    """
    loaded = configured()
    serving, observing = _server("serving"), _server("observing")
    settings = loaded.settings
    configuration = _server("configuration")
    observing.log_as_json(
        settings.log_level,
        instance=settings.instance_id,
        region=settings.region,
        secrets=[configuration.secret_of(settings).decode(errors="replace")],
    )
    if listener is None:
        for warning in loaded.warnings:
            serving.LOG.warning(warning)
    secure = bool(settings.tls_cert)
    try:
        if workers > 1:
            settings = configuration.shared_by(settings, workers)
        made = serving.make(settings)
        if secure or workers > 1:
            # It is made again in each process that serves; here it was to be seen that it can be.
            made.close()
            if settings.grpc_port is not None:
                reserved = _server("rpc.listening").Reservation(settings)
                settings = configuration.on_port(settings, reserved.port)
    except configuration.ConfigurationError as error:
        raise Failure(str(error), USAGE) from error

    def ready(port: int) -> None:
        address = f"{'https' if secure else 'http'}://{settings.api_host}:{port}"
        note(
            f"serving {address}/api/v1, described at {address}/swagger; with a console for people at {address}/console"
        )
        note(
            f"store {clean(configuration.without_password(loaded.settings.store))}, durability {made.store.durability.value}"
        )
        if workers > 1:
            note(f"{workers} workers; limits and figures are each worker's own")
        if settings.grpc_port is not None:
            note(f"serving gRPC on {settings.api_host}:{made.rpc.port or settings.grpc_port}")
        if made.made_key is not None:
            note(f"a new secret is in {clean(str(made.made_key))}; get a token with: knhk token --role admin")

    try:
        if secure:
            _server("secure").SecureServer(settings, ready, workers=workers).run()
        elif workers > 1:
            _serve_together(settings, workers, ready)
        elif listener is not None:
            processes = _server("workers")
            processes.follow_parent()
            serving.Server(made, processes.inherited(listener[0])).run(lambda _: processes.tell_ready(listener[1]))
        else:
            serving.Server(made).run(ready)
    except configuration.ConfigurationError as error:
        raise Failure(str(error), USAGE) from error


def _serve_together(settings: Any, count: int, ready: Any) -> None:
    command = (sys.executable, "-m", "knhk", "serve", "--listener")
    environment = dict(os.environ)
    if settings.grpc_port is not None:
        environment[_server("configuration").variable("grpc_port")] = str(settings.grpc_port)
    status = _server("workers").Workers(settings, count, command=command, environment=environment).run(ready)
    if status:
        raise click.exceptions.Exit(status)


@click.command()
@click.option("--subject", default="developer", show_default=True, help="Who it is for.")
@click.option("--role", "roles", multiple=True, metavar="ROLE", help="What he may do; may be repeated.")
@click.option("--tenant", default="default", show_default=True, help="Whose cases he sees.")
@click.option(
    "--hours", type=click.FloatRange(min=0, min_open=True), default=12.0, show_default=True, help="How long it counts."
)
def token(*, subject: str, roles: tuple[str, ...], tenant: str, hours: float) -> None:
    """
    Print a token for development.

    It is signed with the secret of the service that is configured here.
    """
    loaded = configured()
    identity, rights, configuration, serving = (
        _server("identity"),
        _server("rights"),
        _server("configuration"),
        _server("serving"),
    )
    unknown = sorted(set(roles) - rights.ROLES)
    if unknown or not roles:
        names = ", ".join(sorted(rights.ROLES))
        raise Failure(f"{', '.join(unknown) or 'no role'}: give --role, one of {names}", USAGE)
    settings = loaded.settings
    if settings.jwt_algorithm is not configuration.Algorithm.HS256:
        raise Failure(f"tokens are signed with {settings.jwt_algorithm.value} elsewhere: ask their issuer", USAGE)
    secret = configuration.secret_of(settings)
    if not secret:
        path = Path(settings.state_path) / serving.KEY_FILE
        with reading(str(path)):
            secret = path.read_bytes().strip()
    click.echo(
        identity.make_token(
            secret,
            subject=subject,
            roles=list(roles),
            tenant=tenant,
            seconds=int(hours * 3600),
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
        )
    )


@click.command()
@json_option
def config(*, as_json: bool) -> None:
    """
    Print every setting of the service.

    Each is shown with where it came from; secrets are masked.
    """
    loaded = configured()
    rows = loaded.table()
    if as_json:
        say_json({name: {"value": value, "from": origin} for name, value, origin in rows})
        return
    say_table(("variable", "value", "from"), rows, whole=("variable",))
    for warning in loaded.warnings:
        note(clean(warning))


@click.group()
def audit() -> None:
    """Export or verify the record of calls."""


@audit.command("export")
def export_record() -> None:
    """Print the record of the configured store as lines of JSON."""
    loaded = configured()
    record, stores = _server("record"), importlib.import_module("knhk.stores")
    store = stores.open_store(loaded.settings.store)
    try:
        for line in record.Record(store, b"").export():
            click.echo(line)
    finally:
        store.close()


@audit.command("verify")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option(
    "--key", "key_file", type=click.Path(dir_okay=False), help="The file of the key; the state directory's, if none."
)
@click.option(
    "--head", "heads", multiple=True, metavar="WRITER:NUMBER:HASH", help="A head that was kept; may be repeated."
)
def verify_record(*, file: str, key_file: str | None, heads: tuple[str, ...]) -> None:
    """Look for edits, deletions, moves and cut-off ends in an exported record."""
    chain, serving = _server("chain"), _server("serving")
    path = Path(key_file) if key_file else Path(configured().settings.state_path) / serving.AUDIT_KEY_FILE
    with reading(str(path)):
        key = path.read_bytes().strip()
    kept = {}
    for head in heads:
        writer, _, rest = head.partition(":")
        number, _, hash_ = rest.partition(":")
        if not number.isdecimal() or not hash_:
            raise Failure(f"{head!r} is not WRITER:NUMBER:HASH", USAGE)
        kept[writer] = (int(number), hash_)
    with reading(file):
        lines = sys.stdin.readlines() if file == "-" else Path(file).read_text(encoding="utf-8").splitlines()
    wrong = chain.verify(lines, key, kept=kept)
    for each in wrong:
        say(clean(each))
    if wrong:
        raise click.exceptions.Exit(NO)
    say(f"{counted(len(lines), 'line')}, as they were written")
