"""Stores are copied, checked and backed up whole, whatever is in them and whenever it is stopped."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
from click.testing import CliRunner

from knhk import Engine, build
from knhk.checking import check_store
from knhk.cli.app import knhk
from knhk.errors import StoreError
from knhk.ports import Commit, Document, Store
from knhk.stores import MemoryStore, SqliteStore, open_store
from knhk.stores.copying import COPYING, contents, copy_store
from knhk.testing import scenarios
from knhk.testing.store_conformance import CLAIM, ORDER, item, step

SCENARIOS = Path(__file__).parent / "data" / "patterns" / "cases_public.json"


def fill(store: Store, cases: int = 3) -> None:
    """Put something of everything into a store: each case has steps, a snapshot, rows, a key and a document."""
    store.put_specification(CLAIM)
    store.put_specification(ORDER)
    for number in range(cases):
        name = f"case {number}"
        store.commit(
            [step(name, key=(f"key {name}", "digest") if number % 2 else None, items=[item(name), item(name, 2)])]
        )
        store.commit([step(name, 1, snapshot=b"at 2", due=5, runnable=True, closed=[1])])
        last = step(name, 2, b"\0\xff", due=7, runnable=True, items=[item(name, 3, by="eve")])
        store.commit([attrs.evolve(last, documents=(Document(collection="box", key=name, value="v", due=number),))])
    store.quarantine("case 0", "damaged \0")
    document = Document(collection="counters", key="n\0", value="1")
    for version in range(1, 6):
        store.write([attrs.evolve(document, value=str(version), version=version)])


def ran(*arguments: str) -> Any:
    return CliRunner().invoke(knhk, ["store", *arguments])


@pytest.fixture
def source(tmp_path: Path) -> str:
    """The path of a store with everything in it."""
    path = str(tmp_path / "source.db")
    store = open_store(path)
    fill(store)
    store.close()
    return path


@pytest.mark.parametrize("kind", ["sqlite", "log", "postgresql", "redis", "etcd"])
def test_copy_there_and_back(source: str, kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """What is copied to another kind of store, and from there to a file, is what it was."""
    if kind in ("postgresql", "redis", "etcd"):
        option = {"postgresql": "schema=copied_", "redis": "namespace=copied-", "etcd": "namespace=copied-"}[kind]
        there = f"{request.getfixturevalue(kind)}?{option}{os.getpid()}"
    else:
        there = f"{'log:' if kind == 'log' else ''}{tmp_path / 'there'}"
    back = str(tmp_path / "back.db")
    first, second = ran("copy", source, there), ran("copy", there, back, "--json")

    assert "2 specifications, 3 cases, 9 batches, 6 items, 1 keys, 4 documents: both hold the same" in first.output
    assert 0 == first.exit_code == second.exit_code
    before, after = open_store(source), open_store(back)
    assert attrs.asdict(contents(before)) == json.loads(second.stdout) == attrs.asdict(contents(after))
    assert [before.whole(f"case {number}") for number in range(3)] == [
        after.whole(f"case {number}") for number in range(3)
    ]
    assert [ORDER, CLAIM] == list(after.specifications())[::-1]
    assert COPYING not in after.collections()
    before.close()
    after.close()


class Stopping(MemoryStore):
    """Stops taking anything after some calls that write."""

    left = 10**9

    def _count(self) -> None:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1

    def commit(self, commits: Any) -> None:
        self._count()
        super().commit(commits)

    def write(self, documents: Any, removed: Any = (), held: Any = ()) -> None:
        self._count()
        super().write(documents, removed, held)


def test_copy_that_is_stopped_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that is stopped before any of its writes goes on where it was, also when the source has changed since."""
    monkeypatch.setattr("knhk.stores.copying._CASES", 1)
    monkeypatch.setattr("knhk.stores.copying._VERSIONS", 2)
    stops = 0
    while True:
        source, target = MemoryStore(), Stopping()
        fill(source, 4)
        target.left = stops
        try:
            copy_store(source, target, name="it")
        except KeyboardInterrupt:
            stops += 1
        else:
            break
        target.left = 10**9
        source.commit([step("case 1", 3, items=[item("case 1", 9)], closed=[3])])
        source.quarantine("case 2", "late")
        gone = source.document("box", "case 3")
        assert gone is not None
        source.write([], [gone])
        source.write([Document(collection="counters", key="n\0", value="6", version=6)])
        copy_store(source, target, name="it")
        assert contents(source) == contents(target)
    assert stops >= 10


def test_target_that_takes_little_at_once(source: str, etcd: str) -> None:
    """A case whose steps are more than the target takes in one call is copied in parts."""
    store = open_store(source)
    store.commit([step("long", version) for version in range(300)])
    target = open_store(f"{etcd}?namespace=little-{os.getpid()}")
    copy_store(store, target, name="it")

    assert 300 == len(target.history("long"))
    store.close()
    target.close()


def test_copy_is_killed_and_goes_on(tmp_path: Path) -> None:
    """A command that is killed in the middle goes on when it is run again."""
    source, target = str(tmp_path / "source.db"), str(tmp_path / "target.db")
    store = open_store(source, durability="off")
    fill(store, 400)
    store.close()
    kills = 0
    code = (
        "import os, signal, sys\nfrom knhk.stores import open_store, copying\ncopying._CASES = 20\n"
        "def tell(text):\n    if text.startswith(sys.argv[3]):\n        os.kill(os.getpid(), signal.SIGKILL)\n"
        "copying.copy_store(open_store(sys.argv[1]), open_store(sys.argv[2], durability='off'), name='it', tell=tell)"
    )
    for when in ("100 cases copied", "20 cases copied", "100 documents copied", "100 cases read"):
        done = subprocess.run([sys.executable, "-c", code, source, target, when], check=False)
        kills += done.returncode == -signal.SIGKILL
        assert 0 < len(open_store(target).cases(limit=1000)) <= 400
    done = subprocess.run([sys.executable, "-c", code, source, target, "never"], check=False)

    assert kills >= 3
    assert 0 == done.returncode
    assert contents(open_store(source)) == contents(open_store(target))


def test_target_that_is_refused(source: str, tmp_path: Path) -> None:
    """A target that holds anything, or is a copy of something else, is refused, and so is a source that is a copy."""
    full = str(tmp_path / "full.db")
    open_store(full).put_specification(ORDER)
    half, half_path = SqliteStore(tmp_path / "half.db"), str(tmp_path / "half.db")
    half.write([Document(collection=COPYING, key="source", value="another")])
    half.close()

    assert "the target is not empty" in ran("copy", source, full).output
    assert "unfinished copy of another store, another" in ran("copy", source, half_path).output
    assert "an unfinished copy itself" in ran("copy", half_path, str(tmp_path / "new.db")).output
    assert "the same store" in ran("copy", source, source).output
    assert "in memory" in ran("copy", source, "memory:").output
    assert 3 == ran("copy", str(tmp_path / "none.db"), str(tmp_path / "new2.db")).exit_code
    assert not (tmp_path / "new2.db").exists()


def test_source_that_changes(source: str) -> None:
    """A copy whose source is used meanwhile is refused at the end, and can be gone on with."""
    old, new = open_store(source), MemoryStore()

    def meddle(text: str) -> None:
        if text == "comparing":
            old.write([Document(collection="box", key="late", value="v")])

    with pytest.raises(StoreError, match="differs from its source in documents"):
        copy_store(old, new, name="it", tell=meddle)
    copy_store(old, new, name="it")
    assert contents(old) == contents(new)

    class Late(MemoryStore):
        def whole(self, case_id: str) -> Any:
            return attrs.evolve(super().whole(case_id), snapshot=None)

    with pytest.raises(StoreError, match="differs from its source in cases"):
        copy_store(old, Late(), name="it")
    old.close()


# --- checking ---------------------------------------------------------------------------------------------------------


def test_sound_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is found wrong with the cases of all scenarios, whatever state they are in."""
    monkeypatch.setattr("knhk._recording.SNAPSHOT_EVERY", 7)
    store = open_store(str(tmp_path / "cases.db"), durability="off")
    for each in json.loads(SCENARIOS.read_text()):
        scenarios.Player(each, store=store, evict=False, trace=False).play()
    store.close()
    done = ran("verify", str(tmp_path / "cases.db"))

    assert "0 with something wrong" in done.output
    assert 0 == done.exit_code


def damaged(path: Path, statement: str) -> str:
    """What is said of a store with one case of a manual task and a timer, after a change by SQL."""
    net = build("hello")
    net.sequence(net.start, net.task("greet", manual=True), net.task("wait", timer="1h"), net.end)
    with Engine(str(path)) as engine:
        engine.register(net.specification())
        engine.create_case("hello").start()
        other = engine.create_case("hello")
        other.start()
        other.complete_task("greet")
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()
    done = ran("verify", str(path))
    assert 1 == done.exit_code
    return str(done.output)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (
            "UPDATE journal SET batch = CAST(substr(batch, 1, length(batch) - 1) || X'00' AS BLOB) WHERE version = 2",
            "checksum",
        ),
        ("DELETE FROM journal WHERE version = 1", "the header says"),
        ("UPDATE cases SET state = 'completed'", "state: the store says 'completed', the history 'running'"),
        ("UPDATE cases SET due = 5 WHERE due IS NOT NULL", "earliest timer: the store says 5"),
        ("UPDATE cases SET runnable = 1", "automatic work: the store says True"),
        ("UPDATE cases SET offering = 0, offer_number = NULL", "work items: the store says []"),
        ("UPDATE cases SET quarantined = 'why'", "set aside: why"),
        ("INSERT INTO snapshots (case_row, version, state) VALUES (1, 1, X'00')", "entry ends after 1 bytes"),
    ],
)
def test_damage_is_found(tmp_path: Path, statement: str, said: str) -> None:
    """Whatever does not fit is told with its case."""
    assert said in damaged(tmp_path / "cases.db", statement)


def test_snapshot_in_the_wrong_place(tmp_path: Path) -> None:
    """A snapshot that says another version than it is stored with is told."""
    store = open_store(str(tmp_path / "cases.db"))
    net = build("hello")
    net.sequence(net.start, net.task("greet", manual=True), net.end)
    with Engine(store) as engine:
        engine.register(net.specification())
        engine.create_case("hello").start()
        (header,) = engine.cases()
        again = open_store(str(tmp_path / "cases.db"))
        from knhk.journal import encode_batch, encode_snapshot

        snapshot = encode_snapshot({"version": 9, "state": {}})
        last = attrs.evolve(header, version=header.version + 1)
        again.commit([Commit(header=last, expected=header.version, batch=encode_batch(0, ()), snapshot=snapshot)])

        assert ["the snapshot is of version 9, and is stored as that of version 3"] == [
            each.reason for each in check_store(again)
        ]
        again.close()


# --- backups ----------------------------------------------------------------------------------------------------------


def test_backup_of_a_file_in_use(source: str, tmp_path: Path) -> None:
    """A file that is in use is written to another as it is; a file that is there is not written over."""
    store = open_store(source)
    store.commit([step("new")])
    file = str(tmp_path / "backup.db")
    done, again = ran("backup", source, file), ran("backup", source, file)

    assert 0 == done.exit_code
    assert contents(store) == contents(open_store(file))
    assert "is there already" in again.output
    assert not (tmp_path / "backup.db.part").exists()
    store.close()


def test_backup_of_another_kind(source: str, tmp_path: Path, postgresql: str) -> None:
    """Of what is not one file it says what to do instead."""
    log, server = f"log:{tmp_path / 'log'}", f"{postgresql}?schema=backup_{os.getpid()}"
    for each in (log, server):
        open_store(each).close()

    assert "copy the directory" in ran("backup", log, str(tmp_path / "b")).output
    assert "pg_dump" in ran("backup", server, str(tmp_path / "b")).output
