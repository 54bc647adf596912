"""
Where cases are kept: `open_store` chooses by URL.

`memory` is for tests and forgets with the process; `sqlite` is one durable file, which several processes may share; `log` is a
directory that one process owns, with an append-only log as what is so; `redis`, `etcd` and `postgres` are servers that
instances on several machines share.
All pass `knhk.testing.store_conformance`, and so must any other.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Final

from knhk.errors import StoreError
from knhk.ports import Durability, Store
from knhk.stores.memory import MemoryStore
from knhk.stores.sqlite import SqliteStore

__all__ = ["MemoryStore", "SqliteStore", "open_store", "without_password"]

_ACCEPTED: Final = (
    '"memory:", a path, "sqlite:///path" (an absolute path: "sqlite:////path"), "log:directory", "redis://host:port/0", '
    '"etcd://host:port", or "postgresql://host/database"'
)
_SERVERS: Final = {
    **dict.fromkeys(("redis", "rediss"), ("redis", "RedisStore")),
    **dict.fromkeys(("etcd", "etcds"), ("etcd", "EtcdStore")),
}
"""Module and class of a store, by the scheme of its URL."""

# A scheme has two letters or more: "C:" is a drive.
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_PASSWORD: Final = re.compile(r"(?<=://)([^/?#:@]*):[^/?#]*@")
_PASSWORD_OPTION: Final = re.compile(r"([?&](?:ssl)?password=)[^&]*")


def open_store(url: str, *, durability: str = "full", create: bool = True) -> Store:
    """
    Open the store that a URL names.

    Args:
        url: ``"memory:"``, the path of an SQLite file, ``"sqlite:///path"``, ``"log:directory"``, ``"redis://host:port/0"``,
            ``"etcd://host:port"``, or ``"postgresql://host/database"``.
        durability: ``full``, ``normal`` or ``off``; a memory store is always ``off``, as its `durability` says.
        create: whether a file, a directory or a schema of PostgreSQL is made where there is none.

    Raises:
        StoreError: the URL or the durability is not understood, the file is not a store of this version or not there, or the
            server does not give the durability.
        StoreUnavailable: the file is locked or cannot be opened, or the server is out of reach.
        MissingExtra: the library for this server is not installed.
    """
    level = _durability(durability)
    if url == "memory:":
        return MemoryStore()
    if url.lower().startswith("log:"):
        return _open_log(url[4:], level, create=create)
    scheme = url.partition("://")[0].lower()
    if scheme in _SERVERS:
        # Imported here because its library is an extra.
        name, kind = _SERVERS[scheme]
        store: Store = getattr(importlib.import_module(f"knhk.stores.{name}"), kind)(url, durability=level)
        return store
    if url.lower().startswith(("postgresql://", "postgres://")):
        # As above.
        module = importlib.import_module("knhk.stores.postgres")
        kept: Store = module.PostgresStore(url, durability=level, create=create)
        return kept
    path = _path(url)
    if not create:
        _require(path)
    return SqliteStore(path, durability=level)


def without_password(url: str) -> str:
    """Return a store's URL as it may be shown."""
    return _PASSWORD_OPTION.sub(r"\1********", _PASSWORD.sub(r"\1:********@", url))


def _require(path: str) -> None:
    if not Path(path).exists():
        raise StoreError(f"there is no store {path}")


def _open_log(path: str, level: Durability, *, create: bool) -> Store:
    if not path or "?" in path:
        raise StoreError(f"a store URL with 'log:' names a directory and takes no options: give {_ACCEPTED}")
    if not create:
        _require(path)
    try:
        # Imported here because it needs locks that not every system has.
        module = importlib.import_module("knhk.stores.log")
    except ImportError as error:
        raise StoreError("log stores need a POSIX system: give the path of an SQLite file") from error
    store: Store = module.LogStore(path, durability=level)
    return store


def _durability(name: str) -> Durability:
    try:
        return Durability(name)
    except ValueError:
        accepted = ", ".join(each.value for each in Durability)
        raise StoreError(f"unknown durability {name!r}: it is one of {accepted}") from None


def _path(url: str) -> str:
    scheme = _SCHEME.match(url)
    if scheme is None:
        if not url:
            raise StoreError(f"an empty store URL: give {_ACCEPTED}")
        return url
    name = scheme[1].lower()
    path = url[scheme.end() :].removeprefix("///")
    if name != "sqlite" or not url.startswith("///", scheme.end()) or not path:
        # The URL itself may hold a password: only its scheme is shown.
        raise StoreError(f"a store URL with {scheme[0]!r} is not understood: give {_ACCEPTED}")
    if "?" in path:
        raise StoreError(f"a store URL takes no options after '?': give {_ACCEPTED}, and durability by its own name")
    return path
