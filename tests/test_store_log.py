"""The log store keeps the contract, and survives what happens to files, disks and processes."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from knhk import Engine, build
from knhk.errors import QuarantinedCase, StoreError, StoreFull, StoreUnavailable
from knhk.ports import Document, Durability, Store
from knhk.stores import SqliteStore, _segments, open_store
from knhk.stores import log as log_module
from knhk.stores.log import LogStore
from knhk.testing.store_conformance import CLAIM, ORDER, StoreConformance, item, step

SMALL = 4096


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
        drop_index(store._directory)
        return LogStore(store._directory)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cases"


@pytest.fixture
def store(path: Path) -> Iterator[LogStore]:
    """A store with one case `a` of one commit, in segments of four kilobytes."""
    store = LogStore(path, segment_bytes=SMALL)
    store.put_specification(ORDER)
    store.commit([step("a")])
    yield store
    store.close()


def drop_index(path: Path) -> None:
    for each in path.glob("index.db*"):
        each.unlink()


def crash(store: LogStore, to: Path) -> Path:
    """Copy the files as a process that dies now would leave them."""
    shutil.copytree(store._directory, to)
    return to


def reopened(path: Path) -> LogStore:
    return LogStore(path, segment_bytes=SMALL)


def versions(store: Store) -> dict[str, int]:
    return {each.case_id: each.version for each in store.cases()}


def last_segment(path: Path) -> Path:
    return max(path.glob("*.log"))


def failing(monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException, *, after: int = 0) -> list[str]:
    """Let one call of an `os` function fail, once, and count the calls."""
    real: Callable[..., Any] = getattr(os, name)
    calls: list[str] = []

    def call(*args: Any) -> Any:
        calls.append(name)
        if len(calls) == after + 1:
            raise error
        return real(*args)

    monkeypatch.setattr(_segments.os, name, call)
    return calls


# --- opening ----------------------------------------------------------------------------------------------------------


def test_url_names_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`log:PATH` opens a log, and an engine runs on it; what names no directory is refused."""
    monkeypatch.chdir(tmp_path)
    net = build("one")
    net.sequence(net.start, net.task("A", handler="h"), net.end)
    with Engine("log:cases") as engine:
        engine.handler("h")(lambda work: {"done": True})
        engine.register(net.specification())
        case_id = engine.create_case("one").run().id
    with Engine("LOG:cases", durability="normal") as engine:
        assert {"done": True} == engine.case(case_id).data

    for url in ("log:", "log:cases?x=1"):
        with pytest.raises(StoreError, match="names a directory"):
            open_store(url)


def test_without_file_locks_there_is_no_log(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """On a system without the locks that a log needs, opening one says what to do instead."""
    monkeypatch.setitem(sys.modules, "knhk.stores.log", None)

    with pytest.raises(StoreError, match="POSIX"):
        open_store(f"log:{path}")


def test_path_must_be_usable(tmp_path: Path) -> None:
    """A missing parent is named, and a file is no log."""
    (tmp_path / "file").touch()

    with pytest.raises(StoreError, match="directory .* does not exist"):
        LogStore(tmp_path / "missing" / "cases")
    with pytest.raises(StoreError, match="a log is a directory"):
        LogStore(tmp_path / "file")


def test_one_process_owns_a_log(store: LogStore, path: Path) -> None:
    """A second opener is told who has it, another process like another store in this one; after close it is free."""
    program = "import sys; from knhk.stores.log import LogStore; LogStore(sys.argv[1])"
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=f"in use by process {os.getpid()}"):
            LogStore(path)
    told = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=False).stderr
    assert f"in use by process {os.getpid()}" in told
    store.close()

    LogStore(path).close()


def test_index_is_no_sqlite_store(store: LogStore, path: Path) -> None:
    """The index cannot be opened as an SQLite store: its journal holds places, not batches."""
    store.close()

    with pytest.raises(StoreError, match="another program"):
        SqliteStore(path / "index.db")


def test_log_that_cannot_be_read(store: LogStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment that cannot be read at opening raises StoreUnavailable, and the lock is given back."""
    store.close()
    failing(monkeypatch, "fdatasync", OSError(errno.EIO, "simulated"))

    with pytest.raises(StoreUnavailable, match="not available"):
        LogStore(path)

    LogStore(path).close()


def test_damaged_index_can_be_removed(store: LogStore, path: Path) -> None:
    """A damaged index is refused with the advice to remove it, and then it is made anew; the lock is given back."""
    store.close()
    drop_index(path)
    (path / "index.db").write_bytes(b"x" * 8192)

    with pytest.raises(StoreError) as caught:
        LogStore(path)
    assert "made anew from the log" in "".join(caught.value.__notes__)
    drop_index(path)
    again = LogStore(path)

    assert {"a": 1} == versions(again)
    again.close()


@pytest.mark.parametrize(("durability", "syncs"), [("full", 3), ("normal", 0), ("off", 0)])
def test_durability_decides_about_syncs(
    path: Path, monkeypatch: pytest.MonkeyPatch, durability: str, syncs: int
) -> None:
    """Under full each commit is one sync of the log, under the others none."""
    store = LogStore(path, durability=Durability(durability))
    store.put_specification(ORDER)
    calls = failing(monkeypatch, "fdatasync", AssertionError(), after=1000)

    for expected in range(3):
        store.commit([step("a", expected)])

    assert syncs == len(calls)
    assert store.durability is Durability(durability)
    store.close()


# --- segments ---------------------------------------------------------------------------------------------------------


def test_segments_follow_each_other(store: LogStore, path: Path) -> None:
    """A frame that does not fit begins a segment; one that is larger than a segment has one of its own size."""
    for expected in range(1, 20):
        store.commit([step("a", expected, bytes([expected]) * 1000)])
    store.commit([step("b", batch=b"x" * 10_000, snapshot=b"y" * 10_000)])
    store.commit([step("c")])
    sizes = [each.stat().st_size for each in sorted(path.glob("*.log"))]
    store.close()

    assert len(sizes) > 6
    assert {SMALL} == {each for each in sizes if each < 20_000}
    assert 1 == sum(each > 20_000 for each in sizes)
    drop_index(path)
    again = reopened(path)
    assert [bytes([each]) * 1000 for each in range(1, 20)] == list(again.history("a")[1:])
    assert b"y" * 10_000 == again.load("b").snapshot
    assert {"a": 20, "b": 1, "c": 1} == versions(again)
    again.close()


def test_unfinished_segment_is_removed(store: LogStore, path: Path) -> None:
    """A segment that a crash left half made is no segment."""
    store.close()
    (path / "00000002.new").write_bytes(b"half")

    again = reopened(path)

    assert not list(path.glob("*.new"))
    again.commit([step("a", 1, b"x" * SMALL)])
    assert 2 == again.header("a").version
    again.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_for_a_segment(store: LogStore, path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Where the next segment has no space the commit raises StoreFull and stores nothing; with space it works."""
    large = step("a", 1, b"x" * SMALL)
    # The first sync closes the segment before, the second would finish the new one.
    failing(monkeypatch, "fdatasync", OSError(number, "simulated"), after=1)

    with pytest.raises(StoreFull, match="no space"):
        store.commit([large])
    assert not list(path.glob("*.new"))
    assert {"a": 1} == versions(store)
    store.commit([large])

    assert large.batch == store.history("a")[-1]


# --- a crash ----------------------------------------------------------------------------------------------------------


def test_index_is_caught_up(store: LogStore, path: Path, tmp_path: Path) -> None:
    """An index from before the last commits is brought up to the log's end, registrations and quarantines included."""
    old = tmp_path / "old"
    old.mkdir()
    shutil.copy(path / "index.db", old)
    shutil.copy(path / "index.db-wal", old)
    beside = Document(collection="box", key="k", value="v")
    store.put_specification(CLAIM, [beside])
    store.commit([step("b", spec=CLAIM, items=[item("b")], key=("k", "d")), step("a", 1, b"x" * SMALL, snapshot=b"s")])
    store.commit([step("c"), step("b", 1, closed=[1])])
    store.quarantine("c", "why")
    expected = versions(store)
    store.close()
    drop_index(path)
    for each in old.iterdir():
        shutil.copy(each, path)

    again = reopened(path)

    assert expected == versions(again)
    assert ("b", "d") == again.find_idempotent("k")
    assert (b"s", ()) == (again.load("a").snapshot, again.load("a").batches)
    assert not again.items()
    assert [ORDER, CLAIM] == list(again.specifications())
    assert [beside] == list(again.documents("box"))
    with pytest.raises(QuarantinedCase, match="why"):
        again.load("c")
    again.close()


def unsynced(store: LogStore, path: Path) -> tuple[int, int]:
    """Commit once more; return where in the last segment its frame begins and ends. It counts as not acknowledged."""
    begin = store._segments.offset
    store.commit([step("a", 1, b"last", items=[item("a")]), step("b")])
    return begin, store._segments.offset


@pytest.mark.parametrize("damage", ["truncated", "zeroed", "garbled", "flipped"])
def test_power_loss_at_every_byte_of_the_last_frame(store: LogStore, tmp_path: Path, damage: str) -> None:
    """Whatever byte the last write got to before the power went: the frame is whole or gone, and the log goes on."""
    before = crash(store, tmp_path / "before")
    begin, end = unsynced(store, tmp_path)
    segment = last_segment(store._directory)
    whole = segment.read_bytes()

    for place in range(begin, end):
        content = bytearray(whole)
        rest = {
            "truncated": bytes(end - place),
            "zeroed": whole[place:end],
            "garbled": bytes((each * 7 + 3) % 256 for each in whole[place:end]),
            "flipped": bytes([whole[place] ^ 0x10]) + whole[place + 1 : end],
        }[damage]
        content[place:end] = rest
        if damage == "zeroed":
            # The pages arrived in another order: the frame's beginning is what is missing.
            content[begin : place + 1] = bytes(place + 1 - begin)
        target = tmp_path / "lost"
        shutil.copytree(before, target)
        (target / segment.name).write_bytes(content)

        again = reopened(target)
        lost = bytes(content) != whole
        assert ({"a": 1} if lost else {"a": 2, "b": 1}) == versions(again)
        again.commit([step("c", batch=b"after")])
        again.close()
        drop_index(target)
        once_more = reopened(target)
        assert ({"a": 1, "c": 1} if lost else {"a": 2, "b": 1, "c": 1}) == versions(once_more)
        assert (b"after",) == once_more.history("c")
        once_more.close()
        shutil.rmtree(target)


def test_index_ahead_of_an_unsynced_log_is_made_anew(path: Path) -> None:
    """Under normal the log may lose what the index kept: then the log is right."""
    store = LogStore(path, durability=Durability.NORMAL)
    store.put_specification(ORDER)
    store.commit([step("a")])
    begin = store._segments.offset
    store.commit([step("a", 1), step("b")])
    segment = last_segment(path)
    store.close()
    # What was never synced by itself is known to be synced by nobody but `close`, which a crash does not reach.
    content = segment.read_bytes()
    segment.write_bytes(content[:begin] + bytes(len(content) - begin))

    again = LogStore(path, durability=Durability.NORMAL)

    assert {"a": 1} == versions(again)
    again.commit([step("a", 1, b"again")])
    assert b"again" == again.history("a")[-1]
    again.close()


def test_hole_before_unsynced_frames_is_cut(path: Path) -> None:
    """Under normal a damaged frame may be followed by whole ones that were not synced either: all of them go."""
    store = LogStore(path, durability=Durability.NORMAL)
    store.put_specification(ORDER)
    begin = store._segments.offset
    for each in "abc":
        store.commit([step(each)])
    store.close()
    drop_index(path)
    segment = last_segment(path)
    content = bytearray(segment.read_bytes())
    content[begin + 40] ^= 1
    segment.write_bytes(content)

    again = LogStore(path)

    assert {} == versions(again)
    assert content[:begin] == segment.read_bytes()[:begin]
    assert not any(segment.read_bytes()[begin:])
    again.close()


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [True, False])
def test_damage_in_the_middle_is_reported(store: LogStore, path: Path, kept: bool) -> None:
    """A synced frame that is damaged is never skipped: opening names segment and offset; a kept index finds it at loading."""
    begin = store._segments.offset
    store.commit([step("b", batch=b"b" * 100)])
    end = store._segments.offset
    store.commit([step("c")])
    store.close()
    segment = last_segment(path)
    content = bytearray(segment.read_bytes())
    content[end - 1] ^= 1
    segment.write_bytes(content)
    if not kept:
        drop_index(path)

    with pytest.raises(StoreError, match=rf"{segment.name} is damaged at offset {begin}"):
        reopened(path)


def test_damaged_batch_is_found_at_loading(store: LogStore, path: Path) -> None:
    """A batch that was damaged while the store is open raises StoreError with its place; its case can be set aside."""
    store.commit([step("b", batch=b"b" * 100)])
    place = store._segments.offset - 1
    content = bytearray(last_segment(path).read_bytes())
    content[place] ^= 1
    last_segment(path).write_bytes(content)

    for read in (store.load, store.history):
        with pytest.raises(StoreError, match=rf"segment 1 of .* is damaged at offset {place - 99}"):
            read("b")
    store.quarantine("b", "damaged")
    assert (b"a/1",) == store.history("a")
    last_segment(path).unlink()
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        store.load("a")


@pytest.mark.parametrize(
    "damage", ["last frame", "last segment", "all segments", "first segment", "head", "seam", "version"]
)
@pytest.mark.parametrize("kept", [True, False])
def test_lost_frames_are_reported(store: LogStore, path: Path, damage: str, kept: bool) -> None:
    """Synced frames that are gone, with or without their segment, are reported, never taken for the end."""
    begin = 0
    while len(list(path.glob("*.log"))) < 3:
        begin = store._segments.offset
        store.commit([step("a", store.header("a").version, b"x" * 900)])
    first, second, third = sorted(path.glob("*.log"))
    store.close()
    if not kept:
        drop_index(path)
    if damage == "last frame":
        content = third.read_bytes()
        third.write_bytes(content[:16] + bytes(len(content) - 16))
    elif damage == "last segment":
        third.unlink()
    elif damage == "all segments":
        for each in (first, second, third):
            each.unlink()
    elif damage == "first segment":
        first.unlink()
    elif damage == "head":
        third.write_bytes(b"\0" * 16 + third.read_bytes()[16:])
    elif damage == "seam":
        # The last frame of a segment that was left.
        content = second.read_bytes()
        second.write_bytes(content[: begin + 4] + b"\xff" + content[begin + 5 :])
    else:
        rewrite_version(third)

    # Without an index nothing is known of frames behind the last; and an index that is up to date does not read old segments.
    silent = {True: ("first segment", "seam"), False: ("last frame", "last segment", "all segments")}[kept]
    if damage in silent:
        reopened(path).close()
    else:
        with pytest.raises(StoreError, match=r"damaged|version 9"):
            reopened(path)


def rewrite_version(segment: Path) -> None:
    """Make the first frame one of a later version, with the right checksum."""
    content = bytearray(segment.read_bytes())
    salt = bytes(content[8:16])
    content[16 + 4] = 9
    head = bytes(content[16 : 16 + _segments._HEAD.size])
    length = int.from_bytes(head[5:9], "little")
    begin = 16 + _segments._FRAME_HEAD
    checksum = _segments._checksum(salt, head, bytes(content[begin : begin + length]))
    content[begin - 4 : begin] = checksum.to_bytes(4, "little")
    segment.write_bytes(content)


# --- what the world does ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pwrite", "fdatasync"])
def test_failed_write_is_erased(
    store: LogStore, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A write or sync that fails stores nothing, now or after a crash; the file is opened anew and the log goes on."""
    file = store._segments._file
    opened: list[object] = []
    real = os.open
    monkeypatch.setattr(_segments.os, "open", lambda *args: (opened.append(args), real(*args))[1])
    failing(monkeypatch, name, OSError(errno.EIO, "simulated"))

    with pytest.raises(StoreUnavailable, match="not available"):
        store.commit([step("a", 1, b"lost")])

    assert opened
    assert file is not None
    crashed = reopened(crash(store, tmp_path / "crashed"))
    assert {"a": 1} == versions(crashed) == versions(store)
    crashed.close()
    store.commit([step("a", 1, b"kept")])
    assert b"kept" == store.history("a")[-1]


def test_disk_that_stays_broken(store: LogStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While what a failed sync left cannot be erased nothing is written; when it can, the log goes on where it was."""
    broken = [True]
    real = os.fdatasync
    at = store._segments.offset

    def sync(file: int) -> None:
        if broken[0]:
            raise OSError(errno.EIO, "simulated")
        real(file)

    monkeypatch.setattr(_segments.os, "fdatasync", sync)
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            store.commit([step("a", 1, b"lost")])
        assert (b"a/1",) == store.history("a")
    broken[0] = False
    store.commit([step("a", 1, b"kept")])

    assert b"kept" == store.history("a")[-1]
    assert at == last_segment(path).read_bytes().rindex(b"KNHL")


def test_close_that_cannot_sync(store: LogStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A close whose sync fails says so, and gives the log back all the same."""
    failing(monkeypatch, "fdatasync", OSError(errno.EIO, "simulated"))

    with pytest.raises(StoreUnavailable, match="not synced"):
        store.close()

    LogStore(path).close()


class Failing:
    """The index's connection, on which one statement fails, or runs and is then interrupted."""

    def __init__(self, real: Any, statement: str, error: BaseException, *, runs: bool = False) -> None:
        self.real, self.statement, self.error, self.runs = real, statement, error, runs

    def execute(self, statement: str, *values: Any) -> Any:
        if statement.startswith(self.statement):
            if self.runs:
                self.real.execute(statement, *values)
            raise self.error
        return self.real.execute(statement, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


@pytest.mark.parametrize("statement", ["BEGIN", "INSERT INTO steps", "UPDATE position", "COMMIT"])
@pytest.mark.parametrize("error", [sqlite3.OperationalError("simulated"), KeyboardInterrupt()], ids=repr)
def test_frame_is_taken_back_when_the_index_fails(
    store: LogStore, tmp_path: Path, statement: str, error: BaseException
) -> None:
    """Whatever statement of the index fails or is interrupted: neither it nor the log holds the step."""
    real = store._writer._connection
    store._writer._connection = Failing(real, statement, error)  # type: ignore[assignment]

    with pytest.raises((StoreError, KeyboardInterrupt)):
        store.commit([step("a", 1)])
    if isinstance(store._writer._connection, Failing):
        store._writer._connection = store._writer._connection.real

    crashed = crash(store, tmp_path / "crashed")
    drop_index(crashed)
    again = reopened(crashed)
    assert {"a": 1} == versions(again) == versions(store)
    again.close()
    store.commit([step("a", 1, b"next")])
    assert b"next" == store.history("a")[-1]


def test_interrupt_after_the_commit_of_the_index(store: LogStore, path: Path) -> None:
    """An interrupt right after the index's COMMIT leaves the step in both."""
    real = store._writer._connection
    store._writer._connection = Failing(real, "COMMIT", KeyboardInterrupt(), runs=True)  # type: ignore[assignment]

    with pytest.raises(KeyboardInterrupt):
        store.commit([step("a", 1)])
    store._writer._connection = real

    assert 2 == store.header("a").version
    store.close()
    drop_index(path)
    again = reopened(path)
    assert {"a": 2} == versions(again)
    again.close()


def test_refused_steps_leave_no_record(store: LogStore, path: Path) -> None:
    """Of a group in which callers are refused only the others are in the log."""
    threads = []
    refused: list[BaseException] = []

    def commit(*steps: Any) -> None:
        try:
            store.commit(steps)
        except StoreError as error:
            refused.append(error)

    with store._order:
        for number in range(9):
            bad = [step("x", due=2**63)] if number % 3 == 0 else []
            threads.append(threading.Thread(target=commit, args=(step(f"t{number}", snapshot=b"s"), *bad)))
            threads[-1].start()
    for thread in threads:
        thread.join()
    expected = {"a": 1, **{f"t{number}": 1 for number in range(9) if number % 3}}

    assert 3 == len(refused)
    assert expected == versions(store)
    assert all(b"s" == store.load(each).snapshot for each in expected if each != "a")
    store.close()
    drop_index(path)
    again = reopened(path)
    assert expected == versions(again)
    again.close()


def test_step_beyond_all_bounds(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step whose length the log could not write down is refused."""
    monkeypatch.setattr(log_module, "_MAX_BYTES", 10)

    with pytest.raises(StoreError, match="larger than 10 bytes"):
        store.commit([step("a", 1, b"x" * 6, snapshot=b"x" * 6)])


def test_same_registration_by_two_threads(store: LogStore) -> None:
    """Eight threads that register the same at once leave one registration."""
    barrier = threading.Barrier(8)

    def register() -> None:
        barrier.wait()
        store.put_specification(CLAIM)

    threads = [threading.Thread(target=register) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [ORDER, CLAIM] == list(store.specifications())
