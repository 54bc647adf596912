"""The store on Redis keeps every sentence of the port, on a real server."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from knhk.ports import Store
from knhk.stores.redis import RedisStore
from knhk.testing.store_conformance import StoreConformance

NAMESPACES = itertools.count()


def namespace() -> str:
    """A namespace that no other test has, whichever process runs it."""
    import os

    return f"t{os.getpid()}-{next(NAMESPACES)}"


class TestRedisStore(StoreConformance):
    """The contract."""

    @pytest.fixture(autouse=True)
    def _server(self, redis: str) -> None:
        self.url = f"{redis}?namespace={namespace()}"

    def make_store(self, directory: Path) -> Store:
        return RedisStore(self.url)

    def reopen(self, store: Store) -> Store:
        store.close()
        return RedisStore(self.url)
