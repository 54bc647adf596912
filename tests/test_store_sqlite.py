"""The SQLite store keeps the contract, and survives what happens to files and processes."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knhk.errors import ConcurrentUpdate, QuarantinedCase, StoreError, StoreFull, StoreUnavailable
from knhk.ports import Document, Durability, ItemRow, Store
from knhk.stores import MemoryStore, SqliteStore, _documents, _worklist, migrations, sqlite
from knhk.stores.migrations import APPLICATION_ID, SCHEMA_VERSION
from knhk.testing.store_conformance import CLAIM, ORDER, StoreConformance, item, step


class TestSqliteStore(StoreConformance):
    """The contract, on a file."""

    def make_store(self, directory: Path) -> Store:
        return SqliteStore(directory / "cases.db")

    def reopen(self, store: Store) -> Store:
        assert isinstance(store, SqliteStore)
        store.close()
        return SqliteStore(store._path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cases.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    """A store with one case `a` of one commit, which does not wait for locks."""
    store = SqliteStore(path, busy_timeout_ms=0)
    store.put_specification(ORDER)
    store.commit([step("a")])
    yield store
    store.close()


def offer(case_id: str, number: int) -> ItemRow:
    """Return a work item that is open to anyone, with no more to tell."""
    return ItemRow(case_id=case_id, number=number, path="T", state="offered", audience=("anyone",))


def writer(store: SqliteStore) -> Any:
    assert store._writer._connection is not None
    return store._writer._connection


class Failing:
    """A connection on which one statement fails as SQLite would."""

    def __init__(self, real: sqlite3.Connection, statement: str, code: int) -> None:
        self.real, self.statement, self.code = real, statement, code

    def execute(self, statement: str, *values: Any) -> Any:
        if statement.startswith(self.statement):
            error = sqlite3.OperationalError("simulated")
            error.sqlite_errorcode, error.sqlite_errorname = self.code, "SIMULATED"
            raise error
        return self.real.execute(statement, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


# --- opening ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("durability", "synchronous"), [("full", 2), ("normal", 1), ("off", 0)])
def test_pragmas_are_what_durability_needs(path: Path, durability: str, synchronous: int) -> None:
    """The writing connection is in WAL mode, with the `synchronous` that the durability stands for."""
    store = SqliteStore(path, durability=Durability(durability))

    assert writer(store).execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert writer(store).execute("PRAGMA synchronous").fetchone() == (synchronous,)
    assert store.durability is Durability(durability)
    store.close()


@pytest.mark.parametrize(("pragma", "wrong"), [("journal_mode", "delete"), ("synchronous", 1)])
def test_pragma_that_does_not_hold_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, pragma: str, wrong: object
) -> None:
    """Where a setting does not hold (a file system without WAL), opening is refused with pragma and value."""

    class Stubborn(sqlite3.Connection):
        def execute(self, statement: str, *values: Any) -> Any:
            if statement.startswith(f"PRAGMA {pragma}"):
                return super().execute("SELECT ?", (wrong,))
            return super().execute(statement, *values)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **named: connect(*args, factory=Stubborn, **named))

    with pytest.raises(StoreError, match=f"PRAGMA {pragma} is {wrong!r}"):
        SqliteStore(path)


def test_current_file_opens_without_sqlite_utils(store: SqliteStore, path: Path) -> None:
    """An existing, current file is opened without the library that migrates."""
    store.close()
    program = f"""
import sys
from knhk.stores import open_store
store = open_store({str(path)!r})
print(store.header("a").version, "sqlite_utils" in sys.modules)
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert answer.split() == ["1", "False"]


@pytest.mark.parametrize("patience", [0, 5000])
def test_change_to_wal_is_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch, patience: int) -> None:
    """When another process is just creating the file, opening waits for it, though no longer than it was told."""
    refused = []

    class Busy(sqlite3.Connection):
        def execute(self, statement: str, *values: Any) -> Any:
            if statement.startswith("PRAGMA journal_mode =") and len(refused) < 3:
                refused.append(statement)
                error = sqlite3.OperationalError("database is locked")
                error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_BUSY, "SQLITE_BUSY"
                raise error
            return super().execute(statement, *values)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **named: connect(*args, factory=Busy, **named))

    if patience:
        SqliteStore(path, busy_timeout_ms=patience).close()
    else:
        with pytest.raises(StoreUnavailable, match="locked"):
            SqliteStore(path, busy_timeout_ms=patience)

    assert len(refused) == (3 if patience else 1)


def test_failed_migration_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration that fails halfway is rolled back whole, with StoreError, and can be tried again."""

    def broken(database: Any) -> None:
        database.execute("CREATE TABLE half (x)")
        database.execute("CREATE TABLE half (x)")

    good = migrations.MIGRATIONS
    monkeypatch.setattr(migrations, "MIGRATIONS", (broken,))
    with pytest.raises(StoreError, match="half already exists"):
        SqliteStore(path)
    monkeypatch.setattr(migrations, "MIGRATIONS", good)

    SqliteStore(path).close()
    other = sqlite3.connect(path)
    assert other.execute("SELECT count(*) FROM sqlite_master WHERE name = 'half'").fetchone() == (0,)
    other.close()


def test_older_file_is_migrated(store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of an older version is brought up to date with its cases, once."""
    store.close()
    steps = (*migrations.MIGRATIONS, lambda database: database.execute("CREATE TABLE later (x)"))
    monkeypatch.setattr(migrations, "MIGRATIONS", steps)
    for module in (migrations, sqlite):
        monkeypatch.setattr(module, "SCHEMA_VERSION", len(steps))

    for _ in range(2):
        migrated = SqliteStore(path)
        assert writer(migrated).execute("PRAGMA user_version").fetchone() == (len(steps),)
        assert migrated.history("a") == (b"a/1",)
        migrated.close()


def test_failure_to_open_the_reader_closes_the_writer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the second connection cannot be had, the first is not left open."""
    opened = []

    class Picky(sqlite3.Connection):
        def execute(self, statement: str, *values: Any) -> Any:
            opened.append(self)
            if statement.startswith("PRAGMA query_only"):
                raise sqlite3.OperationalError("simulated")
            return super().execute(statement, *values)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **named: connect(*args, factory=Picky, **named))

    with pytest.raises(StoreError, match="simulated"):
        SqliteStore(path)

    for each in opened:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            each.cursor()


@pytest.mark.parametrize("name", ["", ":memory:", "nul\0nul"])
def test_no_file_path(name: str) -> None:
    """What is not the path of a file is refused."""
    with pytest.raises(StoreError, match="not the path of a file"):
        SqliteStore(name)


def test_directory_must_exist(tmp_path: Path) -> None:
    """A missing directory is named, and a directory is not a file."""
    with pytest.raises(StoreError, match="directory .*/missing does not exist"):
        SqliteStore(tmp_path / "missing" / "cases.db")
    with pytest.raises(StoreError, match="is a directory"):
        SqliteStore(tmp_path)


@pytest.mark.parametrize("name", ["a b.db", "a%20b?.db", "#x&mode=memory.db", "注文.db", "sqlite:.db"])
def test_any_file_name(tmp_path: Path, name: str) -> None:
    """File names with the special characters of URLs are file names."""
    SqliteStore(tmp_path / name).close()

    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_newer_schema_is_refused(store: SqliteStore, path: Path) -> None:
    """A file of a newer KNHK is refused with both versions, and is not touched."""
    store.close()
    other = sqlite3.connect(path)
    other.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    other.close()
    before = path.read_bytes()

    with pytest.raises(StoreError, match=f"schema version {SCHEMA_VERSION + 1}, .* reads up to {SCHEMA_VERSION}"):
        SqliteStore(path)

    assert before == path.read_bytes()


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE theirs (x)", "PRAGMA user_version = 7", "PRAGMA application_id = 7"]
)
def test_database_of_another_program_is_refused(path: Path, statement: str) -> None:
    """An SQLite file that is not KNHK's is refused and not touched."""
    other = sqlite3.connect(path)
    other.execute(statement)
    other.close()
    before = path.read_bytes()

    with pytest.raises(StoreError, match="of another program"):
        SqliteStore(path)

    assert before == path.read_bytes()


def test_empty_file_becomes_a_store(path: Path) -> None:
    """An empty file, as `mktemp` makes it, is a new store."""
    path.touch()

    store = SqliteStore(path)

    assert writer(store).execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    store.close()


@pytest.mark.parametrize("start", [0, 16])
def test_damaged_header_is_refused(store: SqliteStore, path: Path, start: int) -> None:
    """A file whose first bytes are damaged is refused with its name."""
    store.close()
    content = bytearray(path.read_bytes())
    content[start : start + 84] = b"\xff" * 84
    path.write_bytes(content)

    with pytest.raises(StoreError, match=r"cases\.db") as caught:
        SqliteStore(path)

    assert type(caught.value) is StoreError


def test_damage_inside_is_detected(store: SqliteStore, path: Path) -> None:
    """Damaged pages raise StoreError with the file's name, and never other exceptions or wrong lists."""
    store.commit([step(f"{number:04}", batch=b"x" * 500) for number in range(500)])
    store.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)

    store = SqliteStore(path)

    for call in (lambda: store.load("0001"), store.cases, lambda: store.commit([step("new")])):
        with pytest.raises(StoreError, match=r"cases\.db is damaged"):
            call()
    store.close()


# --- what the world does ----------------------------------------------------------------------------------------------


def test_locked_by_another(store: SqliteStore, path: Path) -> None:
    """While another connection writes, commits raise StoreUnavailable and reading goes on; then commits work again."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreUnavailable, match="locked"):
        store.commit([step("a", 1)])
    assert store.load("a").batches == (b"a/1",)
    other.execute("ROLLBACK")
    other.close()
    store.commit([step("a", 1)])

    assert store.header("a").version == 2


def test_locked_while_opening(store: SqliteStore, path: Path) -> None:
    """A file that another holds exclusively cannot be opened: StoreUnavailable."""
    store.close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreUnavailable, match="locked"):
        SqliteStore(path, busy_timeout_ms=0)
    other.close()

    SqliteStore(path, busy_timeout_ms=0).close()


def test_disk_full(store: SqliteStore) -> None:
    """A full disk raises StoreFull, nothing of the commit is stored, reading goes on, and it works when there is space."""
    pages = writer(store).execute("PRAGMA page_count").fetchone()[0]
    writer(store).execute(f"PRAGMA max_page_count = {pages}")
    large = [step("b", items=[item("b")]), step("a", 1, b"x" * 100_000)]

    with pytest.raises(StoreFull, match="no space"):
        store.commit(large)
    assert [each.case_id for each in store.cases()] == ["a"]
    assert store.history("a") == (b"a/1",)
    assert not store.items()
    writer(store).execute(f"PRAGMA max_page_count = {pages + 1000}")
    store.commit(large)

    assert [len(each) for each in store.history("a")] == [3, 100_000]


def test_read_only_connection(store: SqliteStore) -> None:
    """A store that cannot be written raises StoreUnavailable, reading goes on, and it works when it can be."""
    writer(store).execute("PRAGMA query_only = 1")

    with pytest.raises(StoreUnavailable, match="readonly"):
        store.commit([step("a", 1)])
    assert store.load("a").batches == (b"a/1",)
    writer(store).execute("PRAGMA query_only = 0")
    store.commit([step("a", 1)])

    assert store.header("a").version == 2


def test_read_only_file() -> None:
    """A file without the right to write is read, commits raise StoreUnavailable; where nothing may be made, opening does."""
    directory = Path(tempfile.mkdtemp())
    path = directory / "cases.db"
    store = SqliteStore(path)
    store.put_specification(ORDER)
    store.commit([step("a")])
    store.close()
    path.chmod(0o444)
    directory.chmod(0o777)
    user = os.geteuid()
    # The rights of files do not bind root: then the test is somebody else for a while.
    nobody = 65534 if user == 0 else user
    try:
        os.seteuid(nobody)

        store = SqliteStore(path)
        with pytest.raises(StoreUnavailable, match="readonly"):
            store.commit([step("a", 1)])
        assert store.load("a").batches == (b"a/1",)
        store.close()
        os.seteuid(user)
        directory.chmod(0o555)
        os.seteuid(nobody)
        with pytest.raises(StoreUnavailable, match="unable to open"):
            SqliteStore(directory / "other.db")
    finally:
        os.seteuid(user)
        directory.chmod(0o700)
        shutil.rmtree(directory)


@pytest.mark.parametrize(
    ("statement", "snapshot"),
    [("BEGIN", b"s"), ("INSERT INTO steps", b"s"), ("COMMIT", b"s"), ("ROLLBACK", None), ("INSERT INTO steps", None)],
)
def test_connection_is_replaced_after_an_io_error(store: SqliteStore, statement: str, snapshot: bytes | None) -> None:
    """An I/O error at any statement stores nothing, and the next call uses another connection, with its settings."""
    first = writer(store)
    store._writer._connection = Failing(first, statement, sqlite3.SQLITE_IOERR_FSYNC)  # type: ignore[assignment]

    # A commit that is refused anyway is rolled back.
    bad = [step("a", 1), step("none", 1)] if statement == "ROLLBACK" else [step("a", 1, snapshot=snapshot)]
    with pytest.raises(Exception, match="simulated|none"):
        store.commit(bad)

    assert store._writer._connection is None
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        first.execute("SELECT 1")
    assert store.load("a").batches == (b"a/1",)
    store.commit([step("a", 1)])
    assert store.history("a") == (b"a/1", b"a/2")
    assert writer(store).execute("PRAGMA synchronous").fetchone() == (2,)


def test_reader_is_replaced_after_an_io_error(store: SqliteStore) -> None:
    """An I/O error while reading raises StoreUnavailable; the next read uses another connection."""
    store._reader._connection = Failing(  # type: ignore[assignment]
        store._reader._connection, "SELECT", sqlite3.SQLITE_IOERR_READ
    )

    with pytest.raises(StoreUnavailable, match="simulated"):
        store.load("a")

    assert store.load("a").batches == (b"a/1",)


def test_file_that_vanished_does_not_come_back_empty(store: SqliteStore, path: Path) -> None:
    """When a doubtful connection is replaced and the file is gone or another, the store is refused, not made anew."""
    store._writer._drop()
    store._reader._drop()
    path.unlink()

    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="unable to open"):
            store.commit([step("b")])
        with pytest.raises(StoreUnavailable, match="unable to open"):
            store.load("a")
    assert not path.exists()
    path.touch()
    with pytest.raises(StoreError, match="was replaced"):
        store.commit([step("b")])


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_FULL, StoreFull),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StoreUnavailable),
        (sqlite3.SQLITE_READONLY_DBMOVED, StoreUnavailable),
        (sqlite3.SQLITE_CANTOPEN, StoreUnavailable),
        (sqlite3.SQLITE_CORRUPT_VTAB, StoreError),
        (sqlite3.SQLITE_ERROR, StoreError),
    ],
)
def test_errors_are_translated(store: SqliteStore, code: int, kind: type[StoreError]) -> None:
    """Each kind of SQLite error, whatever its details, becomes its kind of StoreError, and the next call works."""
    store._writer._connection = Failing(writer(store), "INSERT INTO steps", code)  # type: ignore[assignment]

    with pytest.raises(StoreError) as caught:
        store.commit([step("a", 1)])
    if isinstance(store._writer._connection, Failing):
        store._writer._connection = store._writer._connection.real
    store.commit([step("a", 1)])

    assert kind is type(caught.value)
    assert store.history("a") == (b"a/1", b"a/2")


def test_values_that_cannot_be_stored(store: SqliteStore) -> None:
    """Numbers beyond 64 bits and half characters are refused with StoreError and change nothing."""
    for bad in (step("b", due=2**63), step("b\ud800", batch=b"x"), step("b", key=("\udfff", "d"))):
        with pytest.raises(StoreError, match="cannot be stored"):
            store.commit([step("a", 1), bad])

    assert [each.version for each in store.cases()] == [1]


# --- processes --------------------------------------------------------------------------------------------------------

KILLED_COMMIT = """
import os, sys
from knhk.stores import SqliteStore
from knhk.testing.store_conformance import item, step
store = SqliteStore(sys.argv[1])
count, last = 0, ""
def trace(statement):
    # The work of each trigger is traced as the statement once more.
    global count, last
    count, last = count + (statement != last), statement
    if count == int(sys.argv[2]):
        os._exit(9)
store._writer._connection.set_trace_callback(trace)
store.commit([step("a", 1, snapshot=b"s", items=[item("a")]), step("b", key=("k", "d"))])
os._exit(0)
"""


def test_process_killed_while_committing(store: SqliteStore, path: Path) -> None:
    """A process that dies before any statement of a commit, COMMIT included, leaves the state before it."""
    store.close()
    killed = 0

    while subprocess.run([sys.executable, "-c", KILLED_COMMIT, path, str(killed + 1)], check=False).returncode == 9:
        killed += 1
        store = SqliteStore(path)
        assert [(each.case_id, each.version) for each in store.cases()] == [("a", 1)]
        assert store.load("a").snapshot is None
        assert not store.items()
        assert store.find_idempotent("k") is None
        store.close()

    assert killed >= 8
    store = SqliteStore(path)
    assert [(each.case_id, each.version) for each in store.cases()] == [("a", 2), ("b", 1)]
    store.close()


KILLED_CREATION = """
import os, sqlite3, sys
import sqlite_utils
from knhk.stores import SqliteStore
from knhk.testing.store_conformance import ORDER, step
path, connect = sys.argv[1], sqlite3.connect

def die_at(number):
    count = 0
    def trace(statement):
        nonlocal count
        count += 1
        if count == number:
            os._exit(9)
    def traced(*args, **named):
        connection = connect(*args, **named)
        connection.set_trace_callback(trace)
        return connection
    sqlite3.connect = traced
    SqliteStore(path)
    os._exit(0)

number = 0
status = 9
while status == 9:
    number += 1
    for suffix in ("", "-wal", "-shm", "-journal"):
        if os.path.exists(path + suffix):
            os.unlink(path + suffix)
    child = os.fork()
    if child == 0:
        die_at(number)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    store = SqliteStore(path)
    store.put_specification(ORDER)
    store.commit([step("a")])
    assert store.history("a") == (b"a/1",)
    store.close()
print(status, number)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_process_killed_while_creating(path: Path) -> None:
    """A process that dies before any statement that creates the file leaves what the next one completes."""
    done = subprocess.run([sys.executable, "-c", KILLED_CREATION, path], capture_output=True, text=True, check=False)

    status, number = done.stdout.split()
    assert status == "0", done.stderr
    assert int(number) > 20


RACING = """
import sys
from knhk.errors import ConcurrentUpdate
from knhk.stores import SqliteStore
from knhk.testing.store_conformance import ORDER, step
store = SqliteStore(sys.argv[1], busy_timeout_ms=30000)
store.put_specification(ORDER)
won = 0
for number in range(50):
    expected = number
    try:
        store.commit([step("a", expected)])
        won += 1
    except ConcurrentUpdate:
        pass
store.close()
print(won)
"""


def test_processes_share_a_file(path: Path) -> None:
    """Processes that create one file together and race on one case: each version is committed by exactly one of them."""
    racers = [
        subprocess.Popen([sys.executable, "-c", RACING, path], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]

    won = [int(each.communicate()[0]) for each in racers]

    store = SqliteStore(path)
    assert len(store.history("a")) == 50 == sum(won)
    store.close()


def test_another_process_sees_commits_and_registrations(store: SqliteStore, path: Path) -> None:
    """Two stores on one file see each other's commits, registrations and quarantines at once."""
    other = SqliteStore(path)
    other.put_specification(CLAIM)

    store.commit([step("b", spec=CLAIM), step("a", 1)])
    other.quarantine("b", "why")

    assert other.header("a").version == 2
    with pytest.raises(QuarantinedCase, match="why"):
        store.load("b")
    other.close()


def test_another_process_registers_first(store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registration that another process has stored since it was looked for is the same again: no document is written."""
    other = SqliteStore(path)

    def registered_meanwhile(*_: object) -> list[object]:
        other.put_specification(CLAIM)
        return []

    monkeypatch.setattr(store, "_read", registered_meanwhile)
    assert not store.put_specification(CLAIM, [Document(collection="box", key="k", value="v")])
    monkeypatch.undo()
    assert not store.documents("box")
    other.close()


def test_reading_does_not_wait_for_writing(store: SqliteStore) -> None:
    """While one thread is inside a commit, another reads the state before it."""
    seen = []
    with store._writer.transaction("BEGIN IMMEDIATE") as connection:
        connection.execute("UPDATE cases SET version = 9")
        thread = threading.Thread(target=lambda: seen.append(store.header("a").version))
        thread.start()
        thread.join()

    assert seen == [1]


# --- steps ------------------------------------------------------------------------------------------------------------


def test_step_is_one_statement(store: SqliteStore) -> None:
    """What a step changes is one statement, a transaction of its own, however many work items it has."""
    statements: list[str] = []
    writer(store).set_trace_callback(statements.append)

    store.commit([step("a", 1, items=[item("a", number) for number in range(5)])])
    store.commit([step("a", 2, items=[item("a", 5)], closed=range(5))])

    # The work of each trigger is traced as the statement once more.
    told = [kind for kind, _ in itertools.groupby(each.split(" (")[0] for each in statements)]
    assert ["INSERT INTO steps"] == told
    assert [item("a", 5)] == list(store.items())


def test_step_from_offer_to_offer_writes_two_pages(store: SqliteStore) -> None:
    """Where one item that is open to anyone follows another, a page of the cases is written and one of the journal."""
    store.commit([step("a", 1, items=[offer("a", 1)])])
    writer(store).execute("PRAGMA wal_checkpoint (RESTART)").fetchall()

    store.commit([step("a", 2, items=[offer("a", 2)], closed=[1])])

    _, pages, _ = writer(store).execute("PRAGMA wal_checkpoint").fetchone()
    assert 2 == pages
    assert [offer("a", 2)] == list(store.items())


ROWS = st.builds(
    lambda number, path, who: attrs.evolve(offer("", number), path=path, **who),
    st.integers(0, 4),
    st.sampled_from(["T", "U"]),
    st.sampled_from(
        [
            *[{}] * 4,
            {"state": "allocated", "by": "ann"},
            {"audience": ("role:x", "anyone")},
            {"audience": ()},
            {"topic": "mail"},
            {"details": {"n": 1}},
            {"state": "failed"},
            {"roles": ("x",)},
        ]
    ),
)
CHANGES = st.tuples(
    st.sampled_from("ab"),
    st.lists(ROWS, max_size=3, unique_by=lambda each: each.number),
    st.lists(st.integers(0, 4), max_size=3),
)


def test_worklist_is_as_in_memory(tmp_path: Path) -> None:
    """Whatever steps put and close, beside their case or not, every list is what the store in memory has."""
    asked: list[dict[str, Any]] = [
        {},
        {"case_id": "b"},
        {"state": "offered", "by": ""},
        {"by": "ann"},
        {"audience": ["anyone"]},
        {"audience": ["role:x", "anyone"], "case_id": "a"},
        {"audience": ["role:x"]},
        {"audience": [*map(str, range(300)), "anyone"]},
        {"topics": ["mail"]},
        {"after": ("a", 2), "limit": 2},
        {"after": ("a", 1), "limit": 1, "audience": ["anyone"]},
    ]
    memory, store = MemoryStore(), SqliteStore(tmp_path / "cases.db", durability=Durability.OFF)
    versions = dict.fromkeys("ab", 0)

    def change(case_id: str, rows: Sequence[ItemRow], closed: Sequence[int]) -> None:
        items = [attrs.evolve(each, case_id=case_id) for each in rows]
        for each in (memory, store):
            each.commit([step(case_id, versions[case_id], items=items, closed=closed)])
        versions[case_id] += 1

    @settings(max_examples=40, deadline=None)
    @given(st.lists(CHANGES, max_size=12))
    def check(changes: list[tuple[str, list[ItemRow], list[int]]]) -> None:
        for each in "ab":
            change(each, [], range(5))
        assert not store.items()
        assert not writer(store).execute("SELECT * FROM audiences").fetchall()
        for each in changes:
            change(*each)
            assert [list(memory.items(**each)) for each in asked] == [list(store.items(**each)) for each in asked]
            assert memory.whole("a") == store.whole("a")

    with contextlib.closing(store):
        memory.put_specification(ORDER)
        store.put_specification(ORDER)
        check()
        change("a", [offer("", 1)], [])
        memory.quarantine("a", "why")
        store.quarantine("a", "why")
        assert list(memory.items()) == list(store.items())


def test_step_of_many_rows(store: SqliteStore) -> None:
    """A step with more work items than a statement has rows is stored whole, or refused whole."""
    many = [attrs.evolve(item("a", number), audience=("role:x", "role:y", "anyone")) for number in range(100)]

    with pytest.raises(ConcurrentUpdate):
        store.commit([step("b"), step("a", 7, items=many)])
    assert not store.items()
    store.commit([step("a", 1, items=many)])
    assert many == list(store.items(audience=["role:y"]))
    store.commit([step("a", 2, closed=range(100))])

    assert not store.items(audience=["role:y", "anyone"])


def test_item_that_a_step_puts_and_closes(store: SqliteStore) -> None:
    """What a step both changes and closes is closed."""
    store.commit([step("a", 1, items=[item("a")])])

    store.commit([step("a", 2, items=[attrs.evolve(item("a"), by="eve")], closed=[1])])

    assert not store.items()


@pytest.mark.parametrize("word", ["anyone", "role:ü", 'role:"\\', "role:\U0001f600", "role:a\0b", "role:\\u0000", ""])
@pytest.mark.parametrize("others", [(), ("participant:ann",)])
def test_closed_item_leaves_nothing(store: SqliteStore, word: str, others: tuple[str, ...]) -> None:
    """Whoever was in the audience of a work item, none of its words is kept when that is changed or the item closed."""
    first = attrs.evolve(item("a"), audience=(word, *others, word))
    words = "SELECT audience FROM audiences ORDER BY audience"

    store.commit([step("a", 1, items=[first, attrs.evolve(first, number=2)])])
    assert [(each,) for each in sorted({word, *others}) for _ in "12"] == writer(store).execute(words).fetchall()
    store.commit([step("a", 2, items=[attrs.evolve(first, audience=("role:z",))])])
    assert 1 == len(store.items(audience=[word])) == len(store.items(audience=["role:z"]))
    store.commit([step("a", 3, closed=[1, 2])])

    assert not writer(store).execute(words).fetchall()


# --- costs ------------------------------------------------------------------------------------------------------------


def test_case_costs_less_than_two_kilobytes(path: Path) -> None:
    """A case with an idempotency key and twelve commits of 60 bytes, among others, costs less than 2 KB of file."""
    store = SqliteStore(path, durability=Durability.OFF)
    store.put_specification(ORDER)
    ids = [f"{number * 7919:028x}" for number in range(1000)]
    for expected in range(12):
        for each in ids:
            key = (f"request {each}", "d" * 64) if expected == 0 else None
            last = expected == 11
            store.commit(
                [
                    step(
                        each,
                        expected,
                        b"x" * 60,
                        key=key,
                        items=[] if last else [item(each, expected)],
                        closed=[expected - 1],
                        runnable=not last,
                        due=None if last else 1_700_000_000_000 + expected,
                        state="completed" if last else "running",
                    )
                ]
            )
    store.close()

    assert path.stat().st_size / len(ids) < 2048


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (sqlite._DUE, "cases_due"),
        (sqlite._RUNNABLE, "cases_runnable"),
        (sqlite._CASES, "sqlite_autoindex_cases_1"),
        (_documents.BY_KEY, "PRIMARY KEY"),
        (_documents.BY_DUE, "documents_due"),
        (sqlite._BATCHES, "PRIMARY KEY"),
        (sqlite._HEADER, "sqlite_autoindex_cases_1"),
    ],
)
def test_lists_are_read_by_index(store: SqliteStore, query: str, index: str) -> None:
    """Every list is read from an index in its order: nothing is sorted, and finished cases are not looked at."""
    numbered = {each for each in "123456" if f"?{each}" in query}
    values = (None,) * (len(numbered) or query.count("?"))
    plan = writer(store).execute(f"EXPLAIN QUERY PLAN {query}", values).fetchall()
    steps = [row[3] for row in plan]

    assert index in steps[0]
    assert not any("TEMP B-TREE" in each for each in steps)


@pytest.mark.parametrize(
    ("asked", "indexes"),
    [
        ({}, ["cases_offering", "PRIMARY KEY"]),
        ({"case_id": "a"}, ["sqlite_autoindex_cases_1", "PRIMARY KEY"]),
        ({"by": "eve"}, ["items_by"]),
        ({"state": "failed"}, ["items_failed"]),
        ({"topics": ["mail"], "state": "offered"}, ["items_topic"]),
    ],
)
def test_worklist_is_read_by_index(store: SqliteStore, asked: dict[str, Any], indexes: list[str]) -> None:
    """Every list of work items is read from an index in its order: nothing is sorted, and no other items are looked at."""
    nothing = dict.fromkeys(("case_id", "state", "by", "topics", "audience"))
    query, values = _worklist.find_items(**{**nothing, **asked}, after=("", 0), limit=10)
    plan = writer(store).execute(f"EXPLAIN QUERY PLAN {query}", values).fetchall()
    steps = [row[3] for row in plan]

    searches = [each for each in steps if "SEARCH" in each]
    assert all(index in search for index, search in zip(indexes, searches, strict=True))
    assert not any("TEMP B-TREE" in each for each in steps)


def older(path: Path, version: int, monkeypatch: pytest.MonkeyPatch) -> sqlite3.Connection:
    """Return a connection to a new file of an older version, with one case `a` of one commit."""
    connection = sqlite3.connect(path, isolation_level=None)
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "SCHEMA_VERSION", version)
        migrations.migrate(connection)
    connection.execute("INSERT INTO specifications VALUES (1, 'order', '1', 'h', '{}')")
    connection.execute("INSERT INTO cases VALUES (1, 'a', 1, 'running', 1, NULL, 0, NULL)")
    connection.execute("INSERT INTO journal VALUES (1, 1, CAST ('a/1' AS BLOB))")
    return connection


def test_file_of_version_1(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file from before there were documents keeps its cases and items, and gets them."""
    with contextlib.closing(older(path, 1, monkeypatch)) as old:
        old.execute("INSERT INTO items VALUES ('a', 1, 'T', 'offered', '', '', '')")

    store = SqliteStore(path)
    try:
        assert [ItemRow(case_id="a", number=1, path="T", state="offered")] == list(store.items())
        assert store.history("a") == (b"a/1",)
        assert not store.documents("box")
    finally:
        store.close()


def test_file_from_before_offers_stood_with_their_case(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work items of a file of version 3 stay, can be taken up and closed, and an older process with it open writes none."""
    insert = "INSERT INTO items VALUES ('a', {}, 'T', 'offered', '', '', '', '[\"anyone\"]', '')"
    with contextlib.closing(older(path, 3, monkeypatch)) as old:
        for number in (1, 2):
            old.execute(insert.format(number))
            old.execute(f"INSERT INTO audiences VALUES ('anyone', 'a', {number})")

        store = SqliteStore(path)
        try:
            assert [offer("a", 1), offer("a", 2)] == list(store.items()) == list(store.items(audience=["anyone"]))
            store.commit([step("a", 1, items=[offer("a", 3)], closed=[1])])
            assert [offer("a", 2), offer("a", 3)] == list(store.items()) == list(store.items(audience=["anyone"]))
            store.commit([step("a", 2, items=[attrs.evolve(offer("a", 3), state="started", by="ann")], closed=[2])])
            assert [3] == [each.number for each in store.items(by="ann")] == [each.number for each in store.items()]
            with pytest.raises(sqlite3.OperationalError, match="no such table: items"):
                old.execute(insert.format(9))
        finally:
            store.close()
