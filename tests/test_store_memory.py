"""The memory store keeps the contract, and `open_store` understands what it should."""

from __future__ import annotations

from pathlib import Path

import pytest

from knhk.errors import StoreError
from knhk.ports import Durability, Store
from knhk.stores import MemoryStore, SqliteStore, open_store
from knhk.testing.store_conformance import StoreConformance


class TestMemoryStore(StoreConformance):
    """The contract, in memory."""

    def make_store(self, directory: Path) -> Store:
        return MemoryStore()

    def test_promises_nothing(self, store: Store) -> None:
        """Its durability is off, whatever was asked."""
        opened = open_store("memory:", durability="full")

        assert Durability.OFF is store.durability is opened.durability


def test_open_store_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path, a relative path and both forms of the URL name the same file."""
    monkeypatch.chdir(tmp_path)

    for url in (
        "cases.db",
        "./cases.db",
        f"{tmp_path}/cases.db",
        "sqlite:///cases.db",
        f"sqlite:///{tmp_path}/cases.db",
    ):
        store = open_store(url)
        assert isinstance(store, SqliteStore)
        assert store.durability is Durability.FULL
        store.close()

    assert [each.name for each in tmp_path.iterdir()] == ["cases.db"]


@pytest.mark.parametrize("name", ["full", "normal", "off"])
def test_open_store_with_durability(tmp_path: Path, name: str) -> None:
    """The durability is chosen by name."""
    store = open_store(str(tmp_path / "cases.db"), durability=name)

    assert Durability(name) is store.durability
    store.close()


@pytest.mark.parametrize("url", ["memory:", "cases.db"])
def test_unknown_durability(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A durability that does not exist is refused with those that do, before a file is made."""
    monkeypatch.chdir(tmp_path)

    with pytest.raises(StoreError, match=r"'FULL': it is one of full, normal, off"):
        open_store(url, durability="FULL")

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "url",
    [
        "",
        ":memory:",
        "postgresql+psycopg://u:secret@h/d",
        "mysql://u:secret@h/d",
        "sqlite://",
        "sqlite:///",
        "sqlite:x.db",
        "memory://",
        "file:x.db",
    ],
)
def test_urls_that_name_nothing(url: str) -> None:
    """What is not understood is refused with what would be."""
    with pytest.raises(StoreError, match="memory:") as caught:
        open_store(url)

    assert "secret" not in str(caught.value)


def test_url_options_are_refused() -> None:
    """Options after a question mark are refused rather than ignored."""
    with pytest.raises(StoreError, match="options"):
        open_store("sqlite:///cases.db?mode=ro")
