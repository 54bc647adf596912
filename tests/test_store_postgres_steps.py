"""Plain steps on PostgreSQL: which function stores them, where their items stand, and programs of earlier versions beside them."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from postgres_schemas import OPEN, schema_of_its_own, session, together, with_one_case

from knhk.errors import ConcurrentUpdate, OwnershipLost, QuarantinedCase, StoreError, UnknownCase
from knhk.ports import Document, ItemRow
from knhk.stores import _postgres_schema as schema_module
from knhk.stores import _postgres_steps
from knhk.stores._changes import fold
from knhk.stores._group import Caller
from knhk.stores._postgres_input import tell
from knhk.stores._postgres_steps import plain_step
from knhk.stores._postgres_url import parse
from knhk.stores.memory import MemoryStore
from knhk.stores.postgres import PostgresStore
from knhk.testing.store_conformance import ORDER, item, step

_numbers = itertools.count()


@pytest.fixture
def url(postgresql: str) -> Iterator[str]:
    """A URL with a schema of the test's own, gone afterwards."""
    with schema_of_its_own(postgresql) as made:
        yield made


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    """A store with one case `a` of one commit."""
    with with_one_case(url) as made:
        yield made


def test_plain_steps_in_one_transaction(store: PostgresStore, url: str) -> None:
    """Plain steps of several callers are stored as the same steps one by one: batches, snapshots, and rows that are new, changed and gone."""
    names = ["b", "a", "c"]
    for each, at in (("b", 0), ("c", 0), ("a", 1)):
        before = [attrs.evolve(item(each, number=number), audience=("role:w", "role:x")) for number in (1, 2)]
        store.commit([step(each, at, items=before)])
    commits = [
        attrs.evolve(
            step(each, at, items=[changed, attrs.evolve(item(each, number=3), audience=())], closed=[1]),
            snapshot=None if each == "a" else f"{each} as it was".encode(),
        )
        for each, at in (("b", 1), ("a", 2), ("c", 1))
        for changed in [attrs.evolve(item(each, number=2, by="me"), audience=("role:x", "role:y", "role:x"))]
    ]
    callers = [Caller([each], prepared=plain_step([each], store._spec_row)) for each in commits]
    assert None not in [each.prepared for each in callers]
    store._write(callers)
    with session(url) as other:
        words = other.execute("SELECT case_id, number, audience FROM audiences ORDER BY 1, 2, 3").fetchall()

    assert [None] * 3 == [each.error for each in callers]
    for commit in commits:
        whole = store.whole(commit.header.case_id)
        assert commit.header == whole.header
        assert commit.batch == whole.batches[-1]
        assert (commit.snapshot and (commit.snapshot, commit.header.version)) == whole.snapshot
        assert commit.items == whole.items
    assert [(each, 2, word) for each in sorted(names) for word in ("role:x", "role:y")] == words


@pytest.mark.parametrize("names", [["b", 'a"b'], ["b", "a\\b"], ["b", "NULL", "{a,b}", "", " c", "ä\0"]])
def test_moves_in_one_transaction(store: PostgresStore, url: str, names: list[str]) -> None:
    """Steps that close an item and open one are stored together, wherever these items stand and however their cases are called."""
    for name in names:
        store.commit([step(name, items=[attrs.evolve(item(name, number=n), audience=("anyone",)) for n in (1, 2)])])
    for at, (gone, new) in enumerate([(2, 3), (1, 4), (4, 5), (3, None)], start=1):
        commits = [
            step(
                name,
                at,
                due=None if number else 7,
                runnable=bool(number),
                items=[] if new is None else [attrs.evolve(item(name, number=new), audience=("anyone",))],
                closed=[gone],
            )
            for number, name in enumerate(names)
        ]
        callers = [Caller([each], plain_step([each], store._spec_row)) for each in commits]
        assert "store_moves_3" == together_of(callers)
        store._write(callers)
        assert [None] * len(names) == [each.error for each in callers]

    with session(url) as other:
        # Two of the fixture, and one for each of the four groups: none was refused and stored in another way.
        assert [(len(names) + 6,)] == other.execute("SELECT transaction FROM writers").fetchall()
    for name, last in zip(names, commits, strict=True):
        whole = store.whole(name)
        assert last.header == whole.header
        assert last.batch == whole.batches[-1]
        assert (attrs.evolve(item(name, number=5), audience=("anyone",)),) == whole.items


@pytest.mark.parametrize("version", [1, 2])
def test_steps_under_a_document_that_is_held(store: PostgresStore, url: str, version: int) -> None:
    """Steps that hold a document share a transaction; where it has another version, those that hold it are refused and the others stored."""
    tenure = Document(collection='"box', key="owner\\", value="")
    store.write([tenure])
    names = ["a", "b", "c"]
    store.commit([step(each) for each in names[1:]])
    held = attrs.evolve(tenure, version=version)
    commits = [attrs.evolve(step(each, 1), held=(held,) if each != "b" else ()) for each in names]
    callers = [Caller([each], plain_step([each], store._spec_row)) for each in commits]
    assert "store_moves_3" == together_of(callers)
    store._write(callers)
    with session(url) as other:
        transactions = other.execute("SELECT transaction FROM writers").fetchall()

    refused = None if version == 1 else OwnershipLost
    assert [refused, None, refused] == [each.error and type(each.error) for each in callers]
    assert [2 if refused is None else 1, 2] == [store.header(each).version for each in "ab"]
    # Two of the fixture and two of the test before it.
    assert version > 1 or [(5,)] == transactions


def wait_for_one_behind(connection: psycopg.Connection[Any]) -> None:
    """Return when another session waits for what this one has locked."""
    behind = "SELECT FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))"
    while not connection.execute(behind, (connection.info.backend_pid,)).fetchall():
        pass


def test_step_and_takeover_at_the_same_time(store: PostgresStore, url: str) -> None:
    """Who holds a document is not overtaken while his step is stored, and waits for a takeover that is under way, which refuses it."""
    tenure = Document(collection="box", key="owner", value="")
    store.write([tenure])
    outcomes: list[object] = []
    takeover = "UPDATE documents SET version = version + 1"

    def run() -> None:
        commit = attrs.evolve(step("a", store.header("a").version), held=(tenure,))
        outcomes.extend(together([store], lambda each: each.commit([commit])))

    def start(other: psycopg.Connection[Any]) -> threading.Thread:
        waiting = threading.Thread(target=run)
        waiting.start()
        wait_for_one_behind(other)
        return waiting

    with session(url) as other, session(url) as third:
        third.execute("SET lock_timeout = 1")
        with other.transaction():
            other.execute("SELECT FROM cases WHERE case_id = 'a' FOR UPDATE")
            waiting = start(other)
            with pytest.raises(psycopg.errors.LockNotAvailable):
                third.execute(takeover)
        waiting.join()
        assert [None] == outcomes
        with other.transaction():
            other.execute(takeover)
            waiting = start(other)
        waiting.join()

    assert [None, OwnershipLost] == [outcomes[0], type(outcomes[1])]
    assert 2 == store.header("a").version


def together_of(callers: Sequence[Caller]) -> str:
    """The function that stores these callers' plain steps."""
    return _postgres_steps.together([each.prepared for each in callers]).function


def test_plain_step_that_is_refused(store: PostgresStore) -> None:
    """Of plain steps that share a transaction those that come too late are refused each for its reason, and the others are stored."""
    store.commit([step("b"), step("c"), step("d")])
    store.quarantine("c", "damaged")
    commits = [step("a", 1), step("b", 7), step("c", 1), step("gone", 1), step("d", 1, due=2**70), step("d", 1)]
    callers = [Caller([each], prepared=plain_step([each], store._spec_row)) for each in commits]
    store._write(callers)

    kinds = [None, ConcurrentUpdate, QuarantinedCase, UnknownCase, StoreError, None]
    assert kinds == [each.error and type(each.error) for each in callers]
    assert [2, 1, 1, 2] == [store.header(each).version for each in "abcd"]


# --- programs of earlier versions, and where items stand ---------------------------------------------------------------

ROW = ("number", "path", "state", "by", "roles", "topic", "audience", "details", "words")


def old_step(version: int, connection: psycopg.Connection[Any], expected: int, *items: Sequence[Any]) -> None:
    """A plain step of `a` as a program of an earlier version stores it: rows of items, of one that is gone the number alone."""
    told: object = [["a", expected, 1, "running", None, False, False, items]]
    if version == 1:
        case = {"caller": 0, "place": 0, "case_id": "a", "expected": expected, "version": expected + 1, "spec": 1}
        rows = [{"caller": 0, "case_id": "a", **dict(zip(ROW, each, strict=False))} for each in items]
        told = {"cases": [case | {"state": "running", "runnable": False, "blob": 0}], "items": rows}
    writer = connection.execute(
        "INSERT INTO writers (transaction, refused, seen) VALUES (0, '{}', now()) RETURNING id"
    ).fetchone()
    assert writer is not None
    batches = [f"a/{expected + 1}".encode()]
    connection.execute(f"SELECT store_{version}(%s, 1, %s, %s)", (writer[0], json.dumps(told), batches))


def offered(number: int) -> list[Any]:
    """An item that is open to anyone, as that program tells of it."""
    return [number, "t", "offered", "", "", "", '["anyone"]', "", ["anyone"]]


@contextmanager
def schema_of(version: int, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[psycopg.Connection[Any]]:
    """A session of somebody for whom a schema of an earlier version is current, with a case whose two items are 1 and 2."""
    with monkeypatch.context() as patch:
        patch.setattr(schema_module, "SCHEMA_VERSION", version)
        patch.setattr(schema_module, "MIGRATIONS", schema_module.MIGRATIONS[:version])
        old = PostgresStore(url)
        old.put_specification(ORDER)
        old.close()
    with session(url) as connection:
        old_step(1, connection, 0)
        for number, word in ((1, "anyone"), (2, "role:w")):
            row = ("a", number, json.dumps([word]))
            connection.execute("INSERT INTO items VALUES (%s, %s, 't', 'offered', '', '', '', %s, '')", row)
            connection.execute("INSERT INTO audiences VALUES (%s, 'a', %s)", (word, number))
        yield connection


@pytest.mark.parametrize("version", [1, 2])
def test_schema_of_an_earlier_version(version: int, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of an earlier version opens and its cases go on, and a program of that version that is still running goes on too."""
    with schema_of(version, url, monkeypatch) as old:
        store = PostgresStore(url)
        assert [1, 2] == [each.number for each in store.items()]
        store.commit([step("a", 1, items=[attrs.evolve(OPEN, number=3)], closed=[1])])
        assert [2, 3] == [each.number for each in store.items()]
        old_step(version, old, 2, [3], offered(4))
        assert [2, 4] == [each.number for each in store.items()]
        store.commit([step("a", 3, items=[attrs.evolve(OPEN, number=5)], closed=[4])])
        items = old.execute("SELECT number, audience FROM items WHERE case_id = 'a' ORDER BY 1").fetchall()
        words = old.execute("SELECT number, audience FROM audiences WHERE case_id = 'a' ORDER BY 1").fetchall()
        old_step(version, old, 4, [2], offered(5), offered(6))
        store.commit([step("a", 5, closed=[6])])

    assert [(2, '["role:w"]'), (5, '["anyone"]')] == items
    assert [(2, "role:w"), (5, "anyone")] == words
    assert tuple(f"a/{at}".encode() for at in range(1, 7)) == store.history("a")
    assert [attrs.evolve(OPEN, number=5)] == list(store.items())
    store.close()


def test_step_that_waits_for_a_migration(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call of an earlier program that was under way when the schema changed is told that another was faster, and its next is stored."""
    outcomes: list[object] = []

    def run() -> None:
        try:
            old_step(2, old, 1, [1], offered(3))
        except psycopg.Error as error:
            outcomes.append(error.sqlstate)

    with schema_of(2, url, monkeypatch) as old, session(url) as other:
        with other.transaction():
            other.execute("LOCK TABLE cases")
            waiting = threading.Thread(target=run)
            waiting.start()
            wait_for_one_behind(other)
            schema_module.migrate(other, parse(url).schema)
        waiting.join()
        assert ["KN001"] == outcomes
        old_step(2, old, 1, [1], offered(3))
    store = PostgresStore(url)

    assert [2, 3] == [each.number for each in store.items()]
    store.close()


ITEMS = st.builds(
    lambda number, plain, state: attrs.evolve(
        item("", number=number, state=state), audience=("anyone",) if plain else ("role:x", "anyone")
    ),
    st.integers(-1, 3),
    st.booleans(),
    st.sampled_from(["offered", "offered", "started"]),
)
STEPS = st.lists(
    st.tuples(
        st.lists(ITEMS, max_size=3),
        st.lists(st.integers(-1, 3), max_size=2),
        st.sampled_from(["plain", "shared", "full"]),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_items_wherever_they_stand(store: PostgresStore, steps: list[tuple[list[ItemRow], list[int], str]]) -> None:
    """Whatever a step tells of its items, alone, with another's or in full, they are listed as the store in memory lists them."""
    model = MemoryStore()
    model.put_specification(ORDER)
    names = [f"{name} {next(_numbers)}" for name in ("case", '"NULL",\\}')]
    for at, (items, closed, way) in enumerate([([], [], "full"), *steps]):
        commits = [
            step(each, at, items=[attrs.evolve(row, case_id=each) for row in items], closed=closed) for each in names
        ]
        for commit in commits:
            model.commit([commit])
        told = [[each] for each in commits] if way != "full" else [commits]
        callers = [
            Caller(each, plain_step(each, store._spec_row) or tell(fold(each), store._spec_row)) for each in told
        ]
        for group in [callers] if way == "shared" else [[each] for each in callers]:
            store._write(group)

        assert [None] * len(callers) == [each.error for each in callers]
        for name in names:
            assert model.whole(name) == store.whole(name)
            for asked in ({}, {"audience": ["anyone"]}, {"audience": ["role:x", "anyone"]}, {"state": "offered"}):
                for after in (("", 0), (name, 2)):
                    given: dict[str, Any] = {"case_id": name, "limit": 3, "after": after, **asked}
                    assert list(model.items(**given)) == list(store.items(**given)), given
