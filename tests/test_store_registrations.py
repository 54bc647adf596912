"""A registration with its documents on the stores that are servers: lost answers, and others who are faster."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from relay import Relay, relay

from knhk.errors import SpecificationConflict
from knhk.ports import Document, StoredSpecification
from knhk.stores import open_store
from knhk.stores.etcd import EtcdStore
from knhk.stores.postgres import PostgresStore
from knhk.stores.redis import RedisStore
from knhk.testing.store_conformance import ORDER

NEW = StoredSpecification(spec_id="new", version="1", content_hash="nn", text='{"id":"new"}')
_numbers = itertools.count()
_NAMES = {"redis": "namespace", "etcd": "namespace", "postgresql": "schema"}

ServerStore = RedisStore | EtcdStore | PostgresStore


class Served:
    """One store, through a way that loses answers, and another on the same data."""

    def __init__(self, url: str, name: str, lossy: Relay) -> None:
        parts = urlsplit(url)
        assert parts.port is not None
        through = url.replace(f":{parts.port}", f":{lossy.port}")
        mark = f"{'&' if parts.query else '?'}{_NAMES[name]}=r{os.getpid()}_{next(_numbers)}"
        self.lossy = lossy
        self.store: Any = open_store(through + mark)
        self.other = open_store(url + mark)

    def before_writing(self, monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
        """Let this happen once, when the store has looked and is about to write."""
        commit = self.store._groups.commit

        def later(*asked: Any) -> None:
            monkeypatch.undo()
            happens()
            commit(*asked)

        monkeypatch.setattr(self.store._groups, "commit", later)


@pytest.fixture(params=["redis", "etcd", "postgresql"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """A store on each kind of server."""
    url: str = request.getfixturevalue(request.param)
    with relay(urlsplit(url).port or 0) as lossy:
        made = Served(url, request.param, lossy)
        yield made
        made.store.close()
        made.other.close()


def document(key: str, version: int = 1) -> Document:
    """A document."""
    return Document(collection="box", key=key, value=str(version), version=version)


def test_registration_whose_answer_is_lost(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registration whose answer is lost is stored once, with its document, and is told to be new."""
    served.before_writing(monkeypatch, lambda: setattr(served.lossy, "losing", 1))

    assert served.store.put_specification(NEW, [document("k")])
    assert 1 == served.lossy.lost
    assert [NEW] == list(served.other.specifications())
    assert [document("k")] == list(served.other.documents("box"))


def test_another_is_faster(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who registers what another has just registered writes nothing; other content is refused."""
    served.before_writing(monkeypatch, lambda: served.other.put_specification(NEW, [document("theirs")]))
    assert not served.store.put_specification(NEW, [document("mine")])

    theirs = StoredSpecification(spec_id="order", version="1", content_hash="zz", text="{}")
    served.before_writing(monkeypatch, lambda: served.other.put_specification(theirs))
    with pytest.raises(SpecificationConflict, match="order"):
        served.store.put_specification(ORDER, [document("mine")])
    assert [document("theirs")] == list(served.store.documents("box"))
    assert [NEW, theirs] == list(served.store.specifications())


def test_registration_with_many_documents(served: Served) -> None:
    """More documents than a transaction of etcd has operations are written with a registration, or refuse it."""
    many = [document(f"{number:03d}") for number in range(150)]
    assert served.store.put_specification(NEW, many)
    assert many == list(served.other.documents("box", limit=1000))

    served.other.write([document("077", 2)])
    more = [document(f"{number:03d}", 2) for number in range(150)]
    with pytest.raises(Exception, match="'077'"):
        served.store.put_specification(ORDER, more)
    assert [NEW] == list(served.store.specifications())
