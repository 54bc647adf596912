"""Schemas of a PostgreSQL server for tests: each has its own, and they look into it as somebody else."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
import psycopg

from knhk.errors import KnhkError
from knhk.stores._postgres_url import parse
from knhk.stores.postgres import PostgresStore
from knhk.testing.store_conformance import ORDER, item, step

_numbers = itertools.count()
OPEN = attrs.evolve(item("a"), path="t", audience=("anyone",))
"""An item that may stand beside its case."""


def own(url: str, **options: object) -> str:
    """The URL with a schema of its own."""
    named = {"schema": f"t{os.getpid()}_{next(_numbers)}", **options}
    return f"{url}?{'&'.join(f'{name}={value}' for name, value in named.items())}"


def session(url: str) -> psycopg.Connection[Any]:
    """A connection of somebody else to the same schema."""
    address = parse(url)
    made = psycopg.connect(autocommit=True, **address.parameters)
    made.execute(f"SET search_path = {address.schema}")
    return made


@contextmanager
def schema_of_its_own(server: str) -> Iterator[str]:
    """A URL with a schema of a test's own, gone afterwards."""
    made = own(server)
    yield made
    with session(made) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {parse(made).schema} CASCADE")


@contextmanager
def with_one_case(url: str) -> Iterator[PostgresStore]:
    """A store with one case `a` of one commit."""
    store = PostgresStore(url)
    store.put_specification(ORDER)
    store.commit([step("a")])
    yield store
    store.close()


def together(stores: Sequence[PostgresStore], act: Callable[[PostgresStore], object]) -> list[object]:
    """What comes of the same act on each store at the same moment: its result or what it raised."""
    barrier = threading.Barrier(len(stores))
    outcomes: list[object] = []

    def run(store: PostgresStore) -> None:
        barrier.wait()
        try:
            outcomes.append(act(store))
        except KnhkError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run, args=(each,)) for each in stores]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return outcomes
