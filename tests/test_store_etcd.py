"""The store on etcd: every sentence of the port on a real cluster, and what a cluster, a network and their settings can do."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from knhk.ports import Store
from knhk.stores.etcd import EtcdStore
from knhk.testing.store_conformance import StoreConformance

NAMESPACES = itertools.count()


def own(url: str) -> str:
    """The URL with a namespace that no other test has, whichever process runs it."""
    return f"{url}?namespace=t{os.getpid()}-{next(NAMESPACES)}"


class TestEtcdStore(StoreConformance):
    """The contract."""

    @pytest.fixture(autouse=True)
    def _server(self, etcd: str) -> None:
        self.url = own(etcd)

    def make_store(self, directory: Path) -> Store:
        return EtcdStore(self.url)

    def reopen(self, store: Store) -> Store:
        store.close()
        return EtcdStore(self.url)
