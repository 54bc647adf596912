"""``knhk instances``: who shares a store."""

from __future__ import annotations

import attrs
import click

from knhk.cli.commands_serve import configured
from knhk.cli.options import json_option
from knhk.cli.output import local_time, note, say_json, say_table
from knhk.cli.session import check_there
from knhk.stores import open_store
from knhk.system import SystemClock
from knhk.work.instances import list_instances


@click.command()
@click.option(
    "--db",
    metavar="PATH",
    envvar="KNHK_DB",
    show_envvar=True,
    help="The store; where none is named, that of the service that is configured here.",
)
@json_option
def instances(*, db: str | None, as_json: bool) -> None:
    """
    List the instances that share a store.

    An instance is silent when its heartbeat is late by its own clock; one that was silent for a lease is taken over and gone.
    """
    address = configured().settings.store if db is None else db
    check_there(address)
    store = open_store(address, durability="off")
    try:
        found = list_instances(store, SystemClock().now())
    finally:
        store.close()
    if as_json:
        for each in found:
            say_json(attrs.asdict(each))
        return
    if not found:
        note("no instances: nobody shares this store")
    rows = [
        (each.id, each.state, each.partitions, each.address, each.region, local_time(each.started)) for each in found
    ]
    say_table(("instance", "state", "partitions", "address", "region", "since"), rows, whole=("instance",))
