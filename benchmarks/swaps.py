"""The raw rate of each store: one key or row that is compared and swapped, by the store's own library and without KNHK."""

from __future__ import annotations

import sqlite3
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import Final
from urllib.parse import urlsplit

Swap = Callable[[], None]
"""Compares and swaps once, durably; raises AssertionError where somebody else has changed the key, which nobody does."""

_RECORD: Final = b"x" * 500
_SCRIPT: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


def redis_swap(url: str, name: str) -> Swap:
    """A key of 72 bytes on a connection of its own, by a script of three lines."""
    from redis import Redis  # noqa: PLC0415 - an extra

    client = Redis(port=_port(url), single_connection_client=True)
    digest, filling, count = client.script_load(_SCRIPT), b"x" * 64, 0
    client.set(name, filling + b"%08d" % count)

    def swap() -> None:
        nonlocal count
        before, after = (filling + b"%08d" % each for each in (count, count + 1))
        if client.evalsha(digest, 1, name, before, after) != 1:
            raise AssertionError(name)
        count += 1

    return swap


def etcd_swap(url: str, name: str) -> Swap:
    """A key of 64 bytes on a connection of its own, by a transaction, with the library etcd3gw."""
    from etcd3gw.client import Etcd3Client  # noqa: PLC0415 - only this needs it

    client = Etcd3Client("127.0.0.1", _port(url), api_path="/v3/")
    key, value = (b64encode(each).decode() for each in (name.encode(), b"x" * 64))
    address, revision = client.get_url("/kv/txn"), 0

    def swap() -> None:
        nonlocal revision
        unchanged = {"target": "MOD", "result": "EQUAL", "key": key, "mod_revision": str(revision)}
        body = {"compare": [unchanged], "success": [{"request_put": {"key": key, "value": value}}]}
        answer = client.post(address, json=body)
        if not answer.get("succeeded"):
            raise AssertionError(name)
        revision = int(answer["header"]["revision"])

    return swap


def postgresql_swap(url: str, name: str) -> Swap:
    """A row of 500 bytes on a connection of its own, by an UPDATE of what has the version, a transaction each."""
    import psycopg  # noqa: PLC0415 - an extra

    connection = psycopg.connect(url.partition("?")[0], autocommit=True)
    with suppress(psycopg.errors.UniqueViolation):
        # Made by another at the same moment.
        connection.execute("CREATE TABLE IF NOT EXISTS raw (id text PRIMARY KEY, version bigint, record bytea)")
    connection.execute("INSERT INTO raw VALUES (%s, 0, '')", (name,))
    version = 0

    def swap() -> None:
        nonlocal version
        done = connection.execute(
            "UPDATE raw SET version = version + 1, record = %b WHERE id = %s AND version = %s",
            (_RECORD, name, version),
            prepare=True,
        )
        if done.rowcount != 1:
            raise AssertionError(name)
        version += 1

    return swap


def sqlite_swaps(url: str, names: Sequence[str]) -> list[Swap]:
    """
    Rows of 500 bytes in a file beside the store, by an UPDATE of what has the version; WAL and FULL, a transaction each.

    They take turns on one connection: each with its own, some would wait for minutes, as SQLite has no queue.
    """
    connection = sqlite3.connect(f"{url}.raw", isolation_level=None, check_same_thread=False, timeout=60)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS raw (id TEXT PRIMARY KEY, version INTEGER, record BLOB)")
    connection.executemany("INSERT INTO raw VALUES (?, 0, '')", [(each,) for each in names])
    lock = Lock()

    def of_one(name: str) -> Swap:
        version = 0

        def swap() -> None:
            nonlocal version
            with lock:
                connection.execute("BEGIN IMMEDIATE")
                done = connection.execute(
                    "UPDATE raw SET version = version + 1, record = ? WHERE id = ? AND version = ?",
                    (_RECORD, name, version),
                )
                connection.execute("COMMIT")
            if done.rowcount != 1:
                raise AssertionError(name)
            version += 1

        return swap

    return list(map(of_one, names))


def _each(swap: Callable[[str, str], Swap], url: str, names: Sequence[str]) -> list[Swap]:
    return [swap(url, each) for each in names]


def _port(url: str) -> int:
    port = urlsplit(url).port
    if port is None:
        raise AssertionError(url)
    return port


SWAPS: Final[Mapping[str, Callable[[str, Sequence[str]], list[Swap]]]] = {
    "redis": partial(_each, redis_swap),
    "etcd": partial(_each, etcd_swap),
    "postgresql": partial(_each, postgresql_swap),
    "sqlite": sqlite_swaps,
}
"""By kind of store: given the store's URL, or the path of its file, and names that nobody else has, one for each client."""
