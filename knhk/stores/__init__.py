"""Where cases are kept: one file a store, all with the contract of `knhk.ports.Store`."""

from __future__ import annotations

from knhk.errors import StoreError
from knhk.ports import Durability, Store
from knhk.stores.memory import MemoryStore
from knhk.stores.sqlite import SqliteStore

_ELSEWHERE = ("redis", "etcd", "postgresql")


def open_store(url: str, *, durability: str = "full") -> Store:
    """
    Open the store that a URL names: ``memory:``, a path, or ``sqlite:///path``.

    Raises:
        StoreError: the URL or the durability is not known, or the store cannot be opened.
    """
    try:
        level = Durability(durability)
    except ValueError as error:
        message = f"durability {durability!r} is not known: full, normal or off"
        raise StoreError(message) from error
    scheme, separator, rest = url.partition("://")
    if url == "memory:":
        return MemoryStore()
    if separator and scheme in _ELSEWHERE:
        message = f"{scheme}:// stores are not part of this version"
        raise StoreError(message)
    if separator and scheme != "sqlite":
        message = f"no store is known for {url!r}: memory:, a path, or sqlite:///path"
        raise StoreError(message)
    return SqliteStore(rest.removeprefix("/") if separator else url, durability=level)


__all__ = ("MemoryStore", "SqliteStore", "open_store")
