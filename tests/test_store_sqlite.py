"""The SQLite store keeps the contract, and survives what happens to files."""

from __future__ import annotations

from pathlib import Path

from knhk.ports import Store
from knhk.stores import SqliteStore
from knhk.testing.store_conformance import StoreConformance


class TestSqliteStore(StoreConformance):
    """The contract, on a file."""

    def make_store(self, directory: Path) -> Store:
        return SqliteStore(directory / "cases.db")

    def reopen(self, store: Store) -> Store:
        assert isinstance(store, SqliteStore)
        store.close()
        return SqliteStore(store._path)
