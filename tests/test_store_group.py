"""Callers that wait together share one write; each is told its own outcome, once."""

from __future__ import annotations

import contextlib
import itertools
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

from knhk.errors import (
    ConcurrentUpdate,
    IdempotencyConflict,
    QuarantinedCase,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from knhk.ports import Commit, ItemRow
from knhk.stores import SqliteStore
from knhk.stores._group import Caller, GroupCommit
from knhk.testing.store_conformance import ORDER, item, step

Outcome = BaseException | None


class Press:
    """A `write` that waits to be told to go on, remembers its groups, and refuses whom it should."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.go = threading.Semaphore(0)
        self.refused: dict[str, Exception] = {}
        self.broken: BaseException | None = None

    def write(self, group: Sequence[Caller]) -> None:
        self.groups.append([each.commits[0].header.case_id for each in group])
        assert self.go.acquire(timeout=30)
        if self.broken is not None:
            broken, self.broken = self.broken, None
            raise broken
        for caller in group:
            caller.error = self.refused.get(caller.commits[0].header.case_id)


class Waiting:
    """Callers in threads of their own, queued one after the other behind the first."""

    def __init__(self, groups: GroupCommit, commit: Callable[[Sequence[Commit]], None]) -> None:
        self.groups = groups
        self.commit = commit
        self.outcomes: dict[str, Outcome] = {}
        self.threads: list[threading.Thread] = []

    def call(self, *commits: Commit) -> None:
        queued = len(self.groups._queue)
        led = not self.groups._free
        under_way = self.groups._under_way

        def run() -> None:
            try:
                self.commit(commits)
            except BaseException as error:  # noqa: BLE001 - the outcome is what the test is about
                self.outcomes[commits[0].header.case_id] = error
            else:
                self.outcomes[commits[0].header.case_id] = None

        # A daemon: one that is never woken fails its test, and must not keep the interpreter from ending.
        thread = threading.Thread(target=run, daemon=True)
        self.threads.append(thread)
        thread.start()
        # One who leads has taken along whom he could: whoever comes now queues.
        until(
            lambda: (
                len(self.groups._queue) > queued if led else self.groups._under_way > under_way or not thread.is_alive()
            )
        )

    def end(self) -> dict[str, Outcome]:
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive()
        return self.outcomes


def until(so: Callable[[], bool]) -> None:
    """Let other threads run until something is so."""
    end = time.monotonic() + 30
    while not so():
        assert time.monotonic() < end
        time.sleep(0)


def interrupt_main(so: Callable[[], bool]) -> None:
    """
    Interrupt the main thread until something is so.

    Where the signal comes in the instant before the thread begins to wait for a lock, Python looks at it only after that wait.
    """
    end = time.monotonic() + 30
    while not so():
        assert time.monotonic() < end
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        again = time.monotonic() + 1
        while not so() and time.monotonic() < again:
            time.sleep(0)


@pytest.fixture
def press() -> Press:
    return Press()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT interrupts, also where the tests run in the background of a shell, which has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


# --- who writes with whom ---------------------------------------------------------------------------------------------


def test_lone_caller_writes_in_its_own_thread() -> None:
    """A caller whom nobody is before writes at once and by itself."""
    threads = []
    groups = GroupCommit(lambda group: threads.append((threading.current_thread(), len(group))))

    for _ in range(3):
        groups.commit([step("a")])

    assert [(threading.current_thread(), 1)] * 3 == threads


def test_who_comes_during_a_write_shares_the_next(press: Press) -> None:
    """Callers that come while the first writes are one group, in the order in which they came."""
    groups = GroupCommit(press.write)
    waiting = Waiting(groups, groups.commit)

    for name in "abcd":
        waiting.call(step(name))
    press.go.release(2)

    assert dict.fromkeys("abcd") == waiting.end()
    assert [["a"], ["b", "c", "d"]] == press.groups


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"max_callers": 2}, [["a"], ["b", "c"], ["d", "e"]]),
        ({"max_bytes": 250}, [["a"], ["b", "c", "d"], ["e"]]),
        ({"max_bytes": 1}, [["a"], ["b"], ["c"], ["d"], ["e"]]),
    ],
)
def test_groups_are_bounded(press: Press, limits: dict[str, int], expected: list[list[str]]) -> None:
    """A group ends at its number of callers or bytes, and the first left behind leads the next."""
    groups = GroupCommit(press.write, **limits)
    waiting = Waiting(groups, groups.commit)

    for name in "abcde":
        waiting.call(step(name, batch=b"x" * 50, snapshot=b"y" * 50))
    press.go.release(5)
    waiting.end()

    assert expected == press.groups


# --- calls of one thread at once --------------------------------------------------------------------------------------


class Trains(Waiting):
    """Threads that hand in several calls each."""

    def __init__(self, groups: GroupCommit) -> None:
        super().__init__(groups, self.commit_each)
        self.errors: dict[str, list[type[Exception] | None]] = {}

    def commit_each(self, commits: Sequence[Commit]) -> None:
        errors = self.groups.commit_each([[each] for each in commits], _refuse_bad)
        self.errors[commits[0].header.case_id] = [None if each is None else type(each) for each in errors]


def _refuse_bad(commits: Sequence[Commit]) -> None:
    if commits[0].header.case_id == "bad":
        raise StoreError("contradicts itself")


def test_calls_of_one_thread_go_together(press: Press) -> None:
    """Several calls of a thread are in one group with those of others, and each has its own outcome."""
    press.refused["d"] = ConcurrentUpdate("d moved")
    groups = GroupCommit(press.write)
    trains = Trains(groups)

    trains.call(step("a"), step("b"))
    trains.call(step("c"), step("bad"), step("d"), step("e"))
    trains.call(step("f"))
    trains.call(step("g"), step("h"))
    press.go.release(2)
    trains.end()

    assert [["a", "b"], ["c", "d", "e", "f", "g", "h"]] == press.groups
    expected = {"a": [None] * 2, "c": [None, StoreError, ConcurrentUpdate, None], "f": [None], "g": [None] * 2}
    assert expected == trains.errors


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"max_callers": 2}, [["a", "b"], ["c", "d"], ["e"]]),
        ({"max_bytes": 250}, [["a", "b", "c"], ["d", "e"]]),
        ({"max_bytes": 1}, [["a"], ["b"], ["c"], ["d"], ["e"]]),
    ],
)
def test_calls_of_one_thread_are_as_many_groups_as_they_need(limits: dict[str, int], expected: list[list[str]]) -> None:
    """More calls than a group may have are several groups, one after the other."""
    press = Press()
    press.go.release(5)
    groups = GroupCommit(press.write, **limits)

    errors = groups.commit_each(
        [[step(name, batch=b"x" * 50, snapshot=b"y" * 50)] for name in "abcde"], lambda commits: None
    )

    assert [None] * 5 == errors
    assert expected == press.groups


def test_failed_write_fails_every_call_of_a_thread(press: Press) -> None:
    """An error of the whole write is that of every call, each an error of its own; a bug is raised."""
    groups = GroupCommit(press.write)
    press.go.release(2)
    press.broken = StoreFull("no space")

    first, second = groups.commit_each([[step("a")], [step("b")]], lambda commits: None)
    press.broken = ZeroDivisionError()

    assert (StoreFull, StoreFull) == (type(first), type(second))
    assert first is not second
    with pytest.raises(ZeroDivisionError):
        groups.commit_each([[step("a")], [step("b")]], lambda commits: None)


def test_interrupt_of_a_waiting_thread_with_several_calls(press: Press, interruptible: None) -> None:
    """A thread that is interrupted in the queue takes all its calls with it."""
    groups = GroupCommit(press.write)
    waiting = Waiting(groups, groups.commit)
    waiting.call(step("a"))

    def interrupt() -> None:
        until(lambda: len(groups._queue) == 1)
        interrupt_main(lambda: not groups._queue)
        press.go.release(2)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        groups.commit_each([[step("b")], [step("c")]], lambda commits: None)
    interrupter.join()
    waiting.end()
    groups.commit([step("later")])

    assert [["a"], ["later"]] == press.groups


# --- outcomes ---------------------------------------------------------------------------------------------------------


def test_refused_caller_fails_alone(press: Press) -> None:
    """Whom the write refuses gets that very error, and the others of the group return."""
    press.refused["c"] = ConcurrentUpdate("c moved")
    groups = GroupCommit(press.write)
    waiting = Waiting(groups, groups.commit)

    for name in "abcd":
        waiting.call(step(name))
    press.go.release(2)

    assert {"a": None, "b": None, "c": press.refused["c"], "d": None} == waiting.end()


def test_failed_write_fails_each_caller_with_an_error_of_its_own(press: Press) -> None:
    """An error of the whole write is raised by every caller of the group and by nobody else."""
    groups = GroupCommit(press.write)
    waiting = Waiting(groups, groups.commit)
    for name in "abc":
        waiting.call(step(name))
    press.go.release()
    until(lambda: len(press.groups) == 2)
    press.broken = StoreFull("no space")
    waiting.call(step("z"))

    press.go.release(2)
    outcomes = waiting.end()

    assert outcomes["a"] is outcomes["z"] is None
    assert (StoreFull, StoreFull) == (type(outcomes["b"]), type(outcomes["c"]))
    assert outcomes["b"] is not outcomes["c"]
    assert "no space" == str(outcomes["b"]) == str(outcomes["c"])
    assert [["a"], ["b", "c"], ["z"]] == press.groups


@pytest.mark.parametrize("broken", [KeyboardInterrupt(), ZeroDivisionError()], ids=repr)
def test_interrupt_of_the_leader(press: Press, broken: BaseException) -> None:
    """What is no error of the store is raised by the leader; the others are told that their commit was abandoned."""
    groups = GroupCommit(press.write)
    waiting = Waiting(groups, groups.commit)
    for name in "abc":
        waiting.call(step(name))
    press.go.release()
    until(lambda: len(press.groups) == 2)
    press.broken = broken

    press.go.release()
    outcomes = waiting.end()

    assert outcomes["b"] is broken
    assert isinstance(outcomes["c"], StoreUnavailable)
    press.go.release()
    groups.commit([step("d")])


@pytest.mark.parametrize("queued", [True, False])
def test_interrupt_of_a_waiting_caller(press: Press, interruptible: None, queued: bool) -> None:
    """A caller interrupted in the queue leaves it; one whose group is being written sees it to its end, and wakes the next."""
    groups = GroupCommit(press.write)
    waiting = Waiting(groups, groups.commit)
    waiting.call(step("a"))

    def interrupt() -> None:
        # "main" is the thread of the test; behind "b" it is in the second group.
        until(lambda: len(groups._queue) == (1 if queued else 2))
        if not queued:
            waiting.call(step("c"))
            press.go.release()
            until(lambda: len(press.groups) == 2)
        if queued:
            interrupt_main(lambda: not groups._queue)
        else:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        press.go.release(2)

    if not queued:
        waiting.call(step("b"))
    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        groups.commit([step("main")])
    interrupter.join()
    waiting.end()

    assert ([["a"]] if queued else [["a"], ["b", "main", "c"]]) == press.groups
    press.go.release()
    groups.commit([step("later")])
    assert ["later"] == press.groups[-1]


def test_interrupt_of_a_caller_that_is_called_to_lead(press: Press) -> None:
    """A caller interrupted at the moment when it is to lead lets the next one lead."""

    class Interrupted:
        def __init__(self) -> None:
            self.asked = 0

        def acquire(self) -> None:
            self.asked += 1
            if self.asked == 2:
                # Whoever wrote takes it out of the queue to let it lead, and then the interrupt comes.
                groups._queue.remove(caller)
                raise KeyboardInterrupt

    groups = GroupCommit(press.write)
    caller = Caller([step("a")], wake=Interrupted())  # type: ignore[arg-type]
    groups._free = 0
    waiting = Waiting(groups, groups.commit)
    waiting.call(step("next"))
    press.go.release()

    with pytest.raises(KeyboardInterrupt):
        groups._commit(caller)

    assert {"next": None} == waiting.end()
    assert 1 == groups._free


# --- on SQLite --------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """A store with cases `a` to `e` of one commit each; `a` has used the key `k`."""
    store = SqliteStore(tmp_path / "cases.db", busy_timeout_ms=0)
    store.put_specification(ORDER)
    store.commit([step("a", key=("k", "d")), *map(step, "bcde")])
    yield store
    store.close()


@contextlib.contextmanager
def gathered(store: SqliteStore, first: str = "first") -> Iterator[Waiting]:
    """Callers inside the block are one group, behind a first commit, of several statements, that creates a case."""
    waiting = Waiting(store._groups, store.commit)
    with store._writer._lock:
        waiting.call(step(first, snapshot=b"s"))
        yield waiting
    waiting.end()


class Failing:
    """A connection that does something else at one statement of a group."""

    def __init__(self, real: Any, statement: str, happens: Callable[[Callable[[], Any]], Any]) -> None:
        self.real, self.statement, self.happens = real, statement, happens

    def execute(self, statement: str, *values: Any) -> Any:
        # The first caller writes by itself; the group is known by its savepoints, its COMMIT by being the second.
        if statement.startswith(self.statement) and self._in_group():
            return self.happens(lambda: self.real.execute(statement, *values))
        if statement in {"BEGIN IMMEDIATE", "COMMIT"}:
            self.seen = getattr(self, "seen", 0) + 1
        return self.real.execute(statement, *values)

    def _in_group(self) -> bool:
        return getattr(self, "seen", 0) >= 2

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def failing(store: SqliteStore, statement: str, happens: Callable[[Callable[[], Any]], Any]) -> None:
    store._writer._connection = Failing(store._writer._connection, statement, happens)  # type: ignore[assignment]


def raising(code: int) -> Callable[[Callable[[], Any]], Any]:
    def happens(_: Callable[[], Any]) -> Any:
        error = sqlite3.OperationalError("simulated")
        error.sqlite_errorcode, error.sqlite_errorname = code, "SIMULATED"
        raise error

    return happens


def versions(store: SqliteStore) -> dict[str, int]:
    return {each.case_id: each.version for each in store.cases()}


@pytest.mark.parametrize("snapshot", [None, b"s"])
def test_group_is_one_transaction(store: SqliteStore, snapshot: bytes | None) -> None:
    """Five callers that wait together share one statement, a transaction of its own; who brings more has what it needs beside it."""
    statements: list[str] = []

    with gathered(store) as waiting:
        for each in "abcd":
            waiting.call(step(each, 1, items=[item(each)]))
        waiting.call(step("e", 1, snapshot=snapshot))
        assert store._writer._connection is not None
        store._writer._connection.set_trace_callback(statements.append)

    # The work of each trigger is traced as the statement once more.
    told = [kind for kind, _ in itertools.groupby(each.split(" (")[0] for each in statements)]
    assert dict.fromkeys(["first", *"abcde"]) == waiting.outcomes
    first = ["BEGIN IMMEDIATE", "INSERT INTO steps", "INSERT OR REPLACE INTO snapshots", "COMMIT"]
    beside = ["SAVEPOINT caller", *first[1:3], "RELEASE caller"]
    assert [*first, *(["INSERT INTO steps"] if snapshot is None else [*first[:2], *beside, "COMMIT"])] == told
    assert {"first": 1, **dict.fromkeys("abcde", 2)} == versions(store)


def test_group_of_moves_and_other_steps(store: SqliteStore) -> None:
    """Steps from one offer to the next share a statement of their own; one whose offer is elsewhere, or that is refused, spoils none."""

    def offers(case_id: str, *numbers: int) -> list[ItemRow]:
        return [attrs.evolve(item(case_id, number), audience=("anyone",)) for number in numbers]

    store.commit([step(each, 1, items=offers(each, 1, 2)) for each in "abcd"])
    statements: list[str] = []
    with gathered(store) as waiting:
        waiting.call(step("a", 2, items=offers("a", 3), closed=[1]))
        waiting.call(step("b", 2, items=offers("b", 3), closed=[2]))
        waiting.call(step("c", 2, closed=[1]))
        assert store._writer._connection is not None
        store._writer._connection.set_trace_callback(statements.append)
    told = [kind for kind, _ in itertools.groupby(each.split(" (")[0] for each in statements)]
    with gathered(store, "second") as more:
        more.call(step("a", 3, items=offers("a", 4), closed=[2]))
        more.call(step("d", 7, items=offers("d", 3), closed=[1]))

    assert ["BEGIN IMMEDIATE", "INSERT INTO moves", "INSERT INTO steps", "COMMIT"] == told[-4:]
    assert dict.fromkeys(["first", *"abc"]) == waiting.outcomes
    assert (None, ConcurrentUpdate) == (more.outcomes["a"], type(more.outcomes["d"]))
    found = {each: [row.number for row in store.items(case_id=each, audience=["anyone"])] for each in "abcd"}
    assert {"a": [3, 4], "b": [1, 3], "c": [2], "d": [1, 2]} == found
    assert {"first": 1, "second": 1, "a": 4, "b": 3, "c": 3, "d": 2, "e": 1} == versions(store)


def test_group_of_more_rows_than_a_statement_has(store: SqliteStore) -> None:
    """Callers beyond the rows of one statement have the next; a refusal in one leaves the other as it is."""
    many = [item("a", number) for number in range(40)]

    with gathered(store) as waiting:
        waiting.call(step("a", 1, items=many))
        waiting.call(step("b", 1, items=[attrs.evolve(each, case_id="b") for each in many]))
        waiting.call(step("c", 7))
        waiting.call(step("d", 1))

    assert isinstance(waiting.outcomes.pop("c"), ConcurrentUpdate)
    assert dict.fromkeys(["first", *"abd"]) == waiting.outcomes
    assert 80 == len(store.items(limit=100))
    assert {"first": 1, "a": 2, "b": 2, "c": 1, "d": 2, "e": 1} == versions(store)


def test_refusals_in_a_group(store: SqliteStore) -> None:
    """Every kind of refusal fails its caller alone, and leaves nothing of it."""
    store.quarantine("d", "why")
    aside = step("e", 1)
    huge = step("b", 2, due=2**63)

    with gathered(store) as waiting:
        waiting.call(step("a", 1), step("b", 1))
        waiting.call(step("d", 1))
        waiting.call(aside, step("e", 1))
        waiting.call(step("new", key=("k", "d")))
        waiting.call(step("b", 2, items=[attrs.evolve(item("b"), path="\ud800")]), huge)
        waiting.call(step("c", 1), step("c", 2, snapshot=b"s"))
        outcomes = waiting.outcomes

    assert outcomes["a"] is outcomes["c"] is None
    assert isinstance(outcomes["d"], QuarantinedCase)
    assert isinstance(outcomes["e"], ConcurrentUpdate)
    assert isinstance(outcomes["new"], IdempotencyConflict)
    assert isinstance(outcomes["b"], StoreError)
    assert "cannot be stored" in str(outcomes["b"])
    assert {"a": 2, "b": 2, "c": 3, "d": 1, "e": 1, "first": 1} == versions(store)
    assert not store.items()


def test_first_of_two_on_one_version_wins_in_a_group(store: SqliteStore) -> None:
    """Compare-and-swap holds inside a group, in the order of coming."""
    with gathered(store) as waiting:
        waiting.call(step("a", 1, b"won"), step("b", 1))
        waiting.call(step("c", 1), step("a", 1, b"lost"))

    assert (None, ConcurrentUpdate) == (waiting.outcomes["a"], type(waiting.outcomes["c"]))
    assert b"won" == store.history("a")[-1]
    assert 1 == store.header("c").version


@pytest.mark.parametrize(
    ("code", "kind"), [(sqlite3.SQLITE_TOOBIG, StoreError), (sqlite3.SQLITE_CONSTRAINT, StoreError)]
)
def test_error_of_one_statement_is_one_callers(store: SqliteStore, code: int, kind: type[StoreError]) -> None:
    """What SQLite says about one value concerns the caller that gave it."""
    failing(store, "INSERT OR REPLACE INTO snapshots", raising(code))

    with gathered(store) as waiting:
        waiting.call(step("a", 1))
        waiting.call(step("b", 1, snapshot=b"x"))
        waiting.call(step("c", 1))

    assert kind is type(waiting.outcomes["b"])
    assert waiting.outcomes["a"] is waiting.outcomes["c"] is None
    assert {"a": 2, "b": 1, "c": 2, "d": 1, "e": 1, "first": 1} == versions(store)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_IOERR_FSYNC, StoreUnavailable),
        (sqlite3.SQLITE_FULL, StoreFull),
        (sqlite3.SQLITE_BUSY, StoreUnavailable),
    ],
)
@pytest.mark.parametrize(
    "statement",
    ["BEGIN", "SAVEPOINT", "SELECT cases.case_id", "INSERT INTO steps", "ROLLBACK TO", "RELEASE", "COMMIT"],
)
def test_error_of_the_transaction_is_everybodys(
    store: SqliteStore, statement: str, code: int, kind: type[StoreError]
) -> None:
    """Whatever statement meets a full disk, a lock or an I/O error: nobody of the group is stored, everybody is told."""
    failing(store, statement, raising(code))

    with gathered(store) as waiting:
        waiting.call(step("a", 1))
        waiting.call(step("b", 5))
        waiting.call(step("new", key=("other", "d")))
        waiting.call(step("c", 1))

    told = [waiting.outcomes[each] for each in ("a", "b", "new", "c")]
    assert [kind] * 4 == [type(each) for each in told]
    assert len(set(map(id, told))) == 4
    assert waiting.outcomes["first"] is None
    assert {**dict.fromkeys("abcde", 1), "first": 1} == versions(store)
    if isinstance(store._writer._connection, Failing):
        store._writer._connection = store._writer._connection.real
    store.commit([step("a", 1)])
    assert 2 == store.header("a").version


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("statement", "snapshot"), [("COMMIT", b"s"), ("INSERT INTO moves", None)])
def test_interrupt_at_the_commit(store: SqliteStore, after: bool, statement: str, snapshot: bytes | None) -> None:
    """An interrupt before COMMIT, or before the statement that is all of it, stores nobody; one right after it leaves everybody stored and the others told so."""

    def happens(execute: Callable[[], Any]) -> Any:
        if after:
            execute()
        raise KeyboardInterrupt

    offers = [[attrs.evolve(item(each, number), audience=("anyone",)) for number in (1, 2)] for each in "ab"]
    store.commit([step(each, 1, items=rows[:1]) for each, rows in zip("ab", offers, strict=True)])
    failing(store, statement, happens)
    with gathered(store) as waiting:
        waiting.call(step("a", 2, items=offers[0][1:], closed=[1], snapshot=snapshot))
        waiting.call(step("b", 2, items=offers[1][1:], closed=[1]))

    assert isinstance(waiting.outcomes["a"], KeyboardInterrupt)
    assert waiting.outcomes["b"] is None if after else isinstance(waiting.outcomes["b"], StoreUnavailable)
    assert (3 if after else 2) == store.header("a").version == store.header("b").version


def test_close_while_callers_wait(store: SqliteStore, tmp_path: Path) -> None:
    """Who is still waiting when the store is closed is told that it is, or is stored."""
    closing = threading.Thread(target=store.close)
    with gathered(store) as waiting:
        for each in "abc":
            waiting.call(step(each, 1))
        closing.start()
    closing.join()

    again = SqliteStore(tmp_path / "cases.db")
    for case_id, outcome in waiting.outcomes.items():
        if outcome is None:
            assert (1 if case_id == "first" else 2) == again.header(case_id).version
        else:
            assert isinstance(outcome, StoreUnavailable)
            assert "closed" in str(outcome)
            assert case_id == "first" or 1 == again.header(case_id).version
    again.close()


def test_many_threads_need_few_transactions(store: SqliteStore) -> None:
    """Sixty-four threads of ten commits each: every acknowledged one is there, in far fewer transactions."""
    groups: list[int] = []
    write = store._groups._write

    def counted(group: Sequence[Caller]) -> None:
        groups.append(len(group))
        write(group)

    store._groups._write = counted
    waiting = Waiting(store._groups, store.commit)
    outcomes: list[Outcome] = []

    def run(case_id: str) -> None:
        for expected in range(10):
            try:
                store.commit([step(case_id, expected)])
            except BaseException as error:  # noqa: BLE001 - reported below
                outcomes.append(error)

    waiting.threads = [threading.Thread(target=run, args=(f"t{number}",), daemon=True) for number in range(64)]
    for thread in waiting.threads:
        thread.start()
    waiting.end()

    assert [] == outcomes
    for number in range(64):
        assert tuple(f"t{number}/{version}".encode() for version in range(1, 11)) == store.history(f"t{number}")
    assert len(groups) < 320


def test_interrupt_of_a_caller_that_was_just_woken(press: Press) -> None:
    """A caller interrupted between being woken and looking why does not wait to be woken once more."""

    class Woken:
        """A lock that is given, and then an interrupt comes before anybody can tell."""

        def __init__(self) -> None:
            self.asked = 0

        def acquire(self) -> None:
            self.asked += 1
            assert self.asked <= 2, "nobody wakes it again"
            if self.asked == 2:
                groups._queue.remove(caller)
                caller.woken = caller.settled = True
                raise KeyboardInterrupt

    groups = GroupCommit(press.write)
    caller = Caller((step("a"),))
    caller.wake = Woken()
    groups._free = 0

    with pytest.raises(KeyboardInterrupt):
        groups._commit(caller)


@pytest.mark.parametrize("begins", [True, False])
def test_interrupt_of_a_caller_that_has_just_come(press: Press, begins: bool) -> None:
    """A caller interrupted when it has taken its place, in the queue or as the one who leads, gives it back."""

    class Interrupting:
        """A lock, and an interrupt as soon as it is given back."""

        def __enter__(self) -> None:
            lock.acquire()

        def __exit__(self, *error: object) -> None:
            groups._lock = lock
            lock.release()
            raise KeyboardInterrupt

    groups = GroupCommit(press.write)
    lock = groups._lock
    waiting = Waiting(groups, groups.commit)
    if not begins:
        waiting.call(step("a"))
    groups._lock = Interrupting()  # type: ignore[assignment]

    with pytest.raises(KeyboardInterrupt):
        groups.commit([step("b")])

    press.go.release(2)
    waiting.end()
    groups.commit([step("c")])
    assert ([["c"]] if begins else [["a"], ["c"]]) == press.groups


def test_several_lead_at_the_same_time() -> None:
    """With two leaders two groups are written at the same time; who comes meanwhile waits, and is taken along."""
    sizes: list[int] = []
    both = threading.Barrier(3)
    go_on = threading.Event()

    def write(group: Sequence[Caller]) -> None:
        sizes.append(len(group))
        if len(sizes) <= 2:
            both.wait()
            go_on.wait()

    groups = GroupCommit(write, leaders=2)
    threads = [threading.Thread(target=groups.commit, args=((),)) for _ in range(5)]
    for each in threads[:2]:
        each.start()
    both.wait()
    for number, each in enumerate(threads[2:], 1):
        each.start()
        until(lambda number=number: len(groups._queue) == number)
    go_on.set()
    for each in threads:
        each.join()

    assert [1, 1] == sizes[:2]
    assert 5 == sum(sizes)
    assert 2 == groups._free


def test_further_group_begins_when_it_has_half_of_the_callers() -> None:
    """Of four callers the second pair begins a further group, and fewer begin when nothing is written any more."""
    sizes: list[int] = []
    gates = [threading.Event() for _ in range(5)]

    def write(group: Sequence[Caller]) -> None:
        sizes.append(len(group))
        gates[len(sizes) - 1].wait()

    groups = GroupCommit(write, leaders=2)
    threads: list[threading.Thread] = []

    def come(happened: Callable[[], bool]) -> None:
        threads.append(threading.Thread(target=groups.commit, args=((),), daemon=True))
        threads[-1].start()
        until(happened)

    come(lambda: len(sizes) == 1)
    come(lambda: len(sizes) == 2)
    for queued in (1, 2, 3):
        come(lambda queued=queued: len(groups._queue) == queued)  # type: ignore[misc]
    gates[0].set()
    until(lambda: len(sizes) == 3)
    gates[1].set()
    until(lambda: groups._free == 1)
    come(lambda: len(groups._queue) == 1)
    come(lambda: len(sizes) == 4)
    come(lambda: len(groups._queue) == 1)
    gates[2].set()
    until(lambda: groups._free == 1)
    assert [1, 1, 3, 2] == sizes
    for each in gates[3:]:
        each.set()
    for each in threads:
        each.join(30)

    assert [1, 1, 3, 2, 1] == sizes
    assert 0 == groups._under_way
    assert 2 == groups._free
