"""The log store keeps the contract, and survives what happens to files and processes."""

from __future__ import annotations

from pathlib import Path

from knhk.ports import Store
from knhk.stores.log import LogStore
from knhk.testing.store_conformance import StoreConformance


class TestLogStore(StoreConformance):
    """The contract, on a log."""

    def make_store(self, directory: Path) -> Store:
        return LogStore(directory / "cases", segment_bytes=64 * 1024)

    def reopen(self, store: Store) -> Store:
        assert isinstance(store, LogStore)
        store.close()
        return LogStore(store._directory)


class TestRebuiltLogStore(TestLogStore):
    """The contract, where the index is made anew from the log."""

    def reopen(self, store: Store) -> Store:
        assert isinstance(store, LogStore)
        store.close()
        for each in store._directory.glob("index.db*"):
            each.unlink()
        return LogStore(store._directory)
