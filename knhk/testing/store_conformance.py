"""
The contract of `knhk.ports.Store` as tests: a store that passes them may be handed to `knhk.Engine`.

Subclass `StoreConformance` in a test file, say how a store is made, and pytest runs every sentence of the contract::

    class TestMyStore(StoreConformance):
        def make_store(self, directory):
            return MyStore(directory / "cases")

Each test has a fresh store.
Nothing here sleeps or asks for the time.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

from knhk.errors import (
    ConcurrentUpdate,
    IdempotencyConflict,
    QuarantinedCase,
    SpecificationConflict,
    StoreError,
    StoreUnavailable,
    UnknownCase,
    UnknownSpecification,
)
from knhk.ports import Commit, Document, Durability, ItemRow, Store, StoredSpecification, WholeCase
from knhk.testing._document_conformance import DocumentConformance
from knhk.testing._together_conformance import CLAIM, ORDER, TogetherConformance, item, step

TEXTS = ("Zoë", "注文", "🙂", "a'b\"c;--", "line\nline", "nul\0nul", "%_*", "\ufeff")
THREADS = 8


class StoreConformance(TogetherConformance, DocumentConformance):
    """Every sentence of the port; subclasses define `make_store` and, where stores outlive the process, `reopen`."""

    def make_store(self, directory: Path) -> Store:
        """Return a fresh, empty store; `directory` is empty and the test's own."""
        raise NotImplementedError

    def reopen(self, store: Store) -> Store | None:  # noqa: ARG002 - subclasses use it
        """Close the store and return another on the same data; None (the default) where data ends with the store."""
        return None

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        """Make a store with the specifications `ORDER` and `CLAIM`, and close it afterwards."""
        directory = tmp_path / "store"
        directory.mkdir()
        store = self.make_store(directory)
        store.put_specification(ORDER)
        store.put_specification(CLAIM)
        yield store
        store.close()

    # --- commit and load ----------------------------------------------------------------------------------------------

    def test_durability_is_stated(self, store: Store) -> None:
        """A store says what an acknowledged commit survives."""
        assert isinstance(store.durability, Durability)

    def test_created_case_is_loaded_as_it_was_committed(self, store: Store) -> None:
        """A committed case is read back with its header, without a snapshot, with its one batch."""
        commit = step("a", due=5, runnable=True)
        store.commit([commit])

        stored = store.load("a")

        assert commit.header == stored.header
        assert stored.snapshot is None
        assert stored.batches == (commit.batch,)

    def test_batches_come_in_order(self, store: Store) -> None:
        """Load returns the batches in the order of their versions."""
        for expected in range(20):
            store.commit([step("a", expected)])

        assert tuple(f"a/{version}".encode() for version in range(1, 21)) == store.load("a").batches

    def test_header_is_the_last_one(self, store: Store) -> None:
        """The header is that of the last commit in every field."""
        store.commit([step("a", due=5, runnable=True)])
        last = step("a", 1, spec=CLAIM, state="completed")
        store.commit([last])

        assert last.header == store.header("a") == store.load("a").header

    def test_nothing_to_commit(self, store: Store) -> None:
        """No commits at all change nothing and raise nothing."""
        store.commit([])

        assert not store.cases()

    def test_unknown_case(self, store: Store) -> None:
        """Asking for a case that was never created raises UnknownCase."""
        asks: list[Callable[[], object]] = [
            lambda: store.load("none"),
            lambda: store.header("none"),
            lambda: store.history("none"),
            lambda: store.whole("none"),
            lambda: store.quarantine("none", "why"),
            lambda: store.commit([step("none", 3)]),
        ]
        for ask in asks:
            with pytest.raises(UnknownCase, match="none"):
                ask()

    def test_commit_of_an_unregistered_specification(self, store: Store) -> None:
        """A case of a specification that is not registered is refused."""
        missing = attrs.evolve(ORDER, version="9")
        with pytest.raises(UnknownSpecification, match="order"):
            store.commit([step("a", spec=missing)])

        assert not store.cases()

    def test_commit_that_contradicts_itself(self, store: Store) -> None:
        """A header that does not follow the expected version, or an item of another case, is refused."""
        good = step("a")
        bad = [
            attrs.evolve(good, header=attrs.evolve(good.header, version=2)),
            attrs.evolve(good, items=(item("b"),)),
        ]
        for each in bad:
            with pytest.raises(StoreError):
                store.commit([each])

        assert not store.cases()

    # --- compare and swap ---------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("expected", [0, 1, 3, 7])
    def test_another_version_is_stored(self, store: Store, expected: int) -> None:
        """A commit on any version but the stored one raises ConcurrentUpdate and changes nothing."""
        store.commit([step("a")])
        store.commit([step("a", 1)])
        before = store.load("a")

        with pytest.raises(ConcurrentUpdate, match="a"):
            store.commit([step("a", expected, b"lost", snapshot=b"lost", items=[item("a")])])

        assert before == store.load("a")
        assert not store.items()

    def test_one_of_many_racing_threads_wins(self, store: Store) -> None:
        """Of eight threads that commit on the same version exactly one succeeds, in each of ten rounds."""
        store.commit([step("a")])
        for expected in range(1, 11):
            winners = self._race(
                [step("a", expected, f"{expected} by {thread}".encode()) for thread in range(THREADS)], store
            )

            assert len(winners) == 1
            assert winners[0].batch == store.load("a").batches[-1]
        assert len(store.history("a")) == 11

    def test_one_of_many_racing_creations_wins(self, store: Store) -> None:
        """Of eight threads that create cases with one idempotency key exactly one succeeds."""
        winners = self._race([step(f"case {thread}", key=("key", "digest")) for thread in range(THREADS)], store)

        assert [each.header for each in winners] == list(store.cases())

    def test_threads_on_different_cases_all_win(self, store: Store) -> None:
        """Threads that commit to different cases do not disturb each other."""
        commits = [step(f"case {thread}", items=[item(f"case {thread}")]) for thread in range(THREADS)]

        winners = self._race(commits, store)

        assert len(winners) == THREADS == len(store.cases()) == len(store.items())

    def _race(self, commits: Sequence[Commit], store: Store) -> list[Commit]:
        """Commit each in a thread of its own, all at once; return those that were not refused."""
        barrier = threading.Barrier(len(commits))
        winners: list[Commit] = []
        surprises: list[BaseException] = []

        def run(commit: Commit) -> None:
            barrier.wait()
            try:
                store.commit([commit])
                winners.append(commit)
            except (ConcurrentUpdate, IdempotencyConflict):
                pass
            except BaseException as error:  # noqa: BLE001 - reported by the thread that runs the test
                surprises.append(error)

        threads = [threading.Thread(target=run, args=(commit,)) for commit in commits]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert surprises == []
        return winners

    # --- snapshots and history ----------------------------------------------------------------------------------------

    def test_load_starts_from_the_last_snapshot(self, store: Store) -> None:
        """After a snapshot load returns it and only the later batches."""
        store.commit([step("a")])
        store.commit([step("a", 1, snapshot=b"first")])
        store.commit([step("a", 2)])
        store.commit([step("a", 3, snapshot=b"second")])

        just_after = store.load("a")
        store.commit([step("a", 4)])
        later = store.load("a")

        assert (just_after.snapshot, just_after.batches) == (b"second", ())
        assert (later.snapshot, later.batches) == (b"second", (b"a/5",))

    def test_history_is_complete(self, store: Store) -> None:
        """A snapshot takes nothing away from the history."""
        for expected in range(10):
            store.commit([step("a", expected, snapshot=b"state" if expected % 3 == 2 else None)])

        assert tuple(f"a/{version}".encode() for version in range(1, 11)) == store.history("a")

    def test_whole_case(self, store: Store) -> None:
        """A case is read with all its batches, its last snapshot and where that was made, and its rows by number."""
        rows = [item("a", 10), item("a", 2, by="eve")]
        for version in range(5):
            last = step("a", version, snapshot=b"at 3" if version == 2 else None, items=rows, due=version)
            store.commit([last])
        store.commit([step("b", items=[item("b")])])

        batches = tuple(f"a/{version}".encode() for version in range(1, 6))
        expected = WholeCase(header=last.header, batches=batches, snapshot=(b"at 3", 3), items=tuple(rows[::-1]))
        assert expected == store.whole("a")
        assert store.whole("b").snapshot is None

    def test_large_and_empty_blobs(self, store: Store) -> None:
        """Batches and snapshots of any bytes and of megabytes come back as they were."""
        large = bytes(range(256)) * 8192
        store.commit([step("a", 0, large)])
        store.commit([step("a", 1, b"", snapshot=large[::-1])])
        store.commit([step("b", 0, b"", snapshot=b"")])

        assert store.load("a").snapshot == large[::-1]
        assert store.history("a") == (large, b"")
        assert store.load("b").snapshot == b""

    @pytest.mark.parametrize("text", TEXTS, ids=ascii)
    def test_any_text_is_kept(self, store: Store, text: str) -> None:
        """Every text field keeps every character."""
        specification = StoredSpecification(spec_id=text, version=text, content_hash=text, text=text)
        row = ItemRow(case_id=text, number=1, path=text, state=text, by=text, roles=(text, "b"), topic=text)
        commit = step(text, spec=specification, state=text, items=[row], key=(text, text))
        store.put_specification(specification)
        store.commit([commit])

        assert store.specification(text, text) == specification == store.specification(text)
        assert commit.header == store.header(text)
        assert list(store.items(case_id=text, state=text, by=text)) == [row]
        assert [each.case_id for each in store.cases(spec_id=text, state=text)] == [text]
        assert store.find_idempotent(text) == (text, text)
        assert (text, text, text) in store.idempotency_keys()
        store.quarantine(text, text)
        assert store.header(text).quarantined == text

    # --- listing cases ------------------------------------------------------------------------------------------------

    def test_cases_are_listed_by_id_in_pages(self, store: Store) -> None:
        """Paging from behind the last id seen lists every case once, by ascending id."""
        ids = [f"{number:03}" for number in range(25)]
        store.commit([step(each) for each in reversed(ids)])

        pages = []
        after = ""
        while page := store.cases(after=after, limit=10):
            pages.append([each.case_id for each in page])
            after = page[-1].case_id

        assert pages == [ids[:10], ids[10:20], ids[20:]]

    def test_ids_ascend_by_code_point(self, store: Store) -> None:
        """Ids are ordered as Python orders text."""
        ids = ["B", "a", "Z", "é", "z", "🙂", "\uffff", "10", "9", "a0", "a "]
        store.commit([step(each, runnable=True, items=[item(each)]) for each in ids])

        assert sorted(ids) == [each.case_id for each in store.cases()]
        assert sorted(ids) == list(store.runnable())
        assert sorted(ids) == [each.case_id for each in store.items()]

    def test_cases_are_filtered(self, store: Store) -> None:
        """Cases are listed by specification (of every version), by state, and by both."""
        store.put_specification(attrs.evolve(ORDER, version="2", content_hash="bb"))
        second = attrs.evolve(ORDER, version="2")
        store.commit([step("a"), step("b", spec=second, state="completed"), step("c", spec=CLAIM, state="completed")])

        assert [each.case_id for each in store.cases(spec_id="order")] == ["a", "b"]
        assert [each.case_id for each in store.cases(state="completed")] == ["b", "c"]
        assert [each.case_id for each in store.cases(spec_id="order", state="completed")] == ["b"]
        assert [each.case_id for each in store.cases(state="completed", after="b")] == ["c"]
        assert not store.cases(spec_id="none")

    def test_limits(self, store: Store) -> None:
        """Every list holds at most `limit` entries, a hundred unless told."""
        ids = [f"{number:03}" for number in range(101)]
        store.commit([step(each, due=1, runnable=True, items=[item(each)]) for each in ids])

        assert [len(each) for each in (store.cases(), store.items(), store.due(1), store.runnable())] == [100] * 4
        assert [
            len(each)
            for each in (
                store.cases(limit=1000),
                store.items(limit=1000),
                store.due(1, limit=1000),
                store.runnable(limit=1000),
            )
        ] == [101] * 4
        assert [
            len(each) for each in (store.cases(limit=0), store.items(limit=0), store.due(1, 0), store.runnable(limit=0))
        ] == [0] * 4

    # --- the worklist -------------------------------------------------------------------------------------------------

    def test_items_come_change_and_go(self, store: Store) -> None:
        """A commit adds rows, replaces those that changed, removes the closed ones and leaves the others."""
        full = ItemRow(case_id="a", number=3, path="x/y.2", state="started", by="eve", roles=("r", "s"), topic="mail")
        store.commit([step("a", items=[item("a", 1), item("a", 2), full])])
        store.commit([step("a", 1, items=[item("a", 2, state="allocated", by="bob")], closed=[1, 77])])

        assert list(store.items()) == [item("a", 2, state="allocated", by="bob"), full]

    @pytest.mark.parametrize("seed", [19, 42])
    def test_items_are_what_the_last_step_on_each_has_made_of_it(self, store: Store, seed: int) -> None:
        """Whatever items do, offered to anyone, to a role, taken, given back, closed together: each is listed once, as it is."""
        chance = random.Random(seed)  # noqa: S311 - what happens, not secrets
        kinds: list[dict[str, Any]] = [
            {"audience": ("anyone",)},
            {"audience": ("role:clerk",), "roles": ("clerk",)},
            {"state": "started", "by": "bob"},
        ]
        there: dict[int, ItemRow] = {}
        last = 0
        for version in range(12):
            fates = [(number, chance.random()) for number in there]
            closed = [number for number, fate in fates if fate < 0.3]
            changed = [number for number, fate in fates if 0.3 <= fate < 0.7]
            fresh = range(last + 1, last + 1 + chance.choice((0, 0, 1, 1, 2)))
            last += len(fresh)
            items = [attrs.evolve(item("a", each), **chance.choice(kinds)) for each in (*changed, *fresh)]
            there = {each: row for each, row in there.items() if each not in closed} | {
                each.number: each for each in items
            }
            store.commit([step("a", version, items=items, closed=closed)])

            rows = [there[each] for each in sorted(there)]
            assert rows == list(store.items(case_id="a"))
            assert [each for each in rows if each.state == "offered"] == list(store.items(state="offered"))
            assert [each for each in rows if each.by] == list(store.items(by="bob"))
            for word in ("anyone", "role:clerk"):
                assert [each for each in rows if word in each.audience] == list(store.items(audience=[word]))

    def test_items_are_filtered(self, store: Store) -> None:
        """Rows are listed by case, by state, by person, and by all of them; `by=""` asks for those of nobody."""
        rows = [item("a", 1), item("a", 2, state="started", by="eve"), item("b", 1, by="eve"), item("b", 2, by="bob")]
        store.commit([step("a", items=rows[:2]), step("b", items=rows[2:])])

        assert rows[:2] == list(store.items(case_id="a"))
        assert rows[1:2] == list(store.items(state="started"))
        assert rows[1:3] == list(store.items(by="eve"))
        assert rows[2:3] == list(store.items(case_id="b", state="offered", by="eve"))
        assert rows[:1] == list(store.items(by=""))
        assert not store.items(case_id="none")

    def test_items_are_listed_in_pages(self, store: Store) -> None:
        """Paging goes by case id, then by number as a number, across the cases, under every filter."""
        rows = [item(case_id, number, by="eve") for case_id in ("a", "b", "c") for number in (1, 2, 10)]
        store.commit([step(each, items=[row for row in rows if row.case_id == each][::-1]) for each in ("c", "a", "b")])

        for by, case_id in ((None, None), ("eve", None), (None, "b"), ("eve", "b")):
            expected = [row for row in rows if case_id in {None, row.case_id}]
            found: list[ItemRow] = []
            after = ("", 0)
            while page := store.items(by=by, case_id=case_id, limit=2, after=after):
                found += page
                after = (page[-1].case_id, page[-1].number)
            assert expected == found

    # --- timers and automatic work ------------------------------------------------------------------------------------

    def test_due_cases_come_earliest_first(self, store: Store) -> None:
        """Cases whose timer is not after now are listed by their timer, the moment itself included."""
        store.commit([step("a", due=30), step("b", due=10), step("c", due=20), step("d", due=31), step("e")])

        assert list(store.due(30)) == ["b", "c", "a"]
        assert list(store.due(30, limit=2)) == ["b", "c"]
        assert not store.due(9)

    def test_due_follows_the_last_commit(self, store: Store) -> None:
        """A timer that moved or went is listed as it is now."""
        store.commit([step("a", due=10), step("b", due=20)])
        store.commit([step("a", 1, due=30), step("b", 1)])

        assert not store.due(29)
        assert list(store.due(30)) == ["a"]

    def test_times_before_the_epoch_and_far_away(self, store: Store) -> None:
        """Any time of 64 bits is kept and compared as a number."""
        store.commit([step("a", due=2**62), step("b", due=-5), step("c", due=0)])

        assert list(store.due(2**62)) == ["b", "c", "a"]
        assert list(store.due(-1)) == ["b"]

    def test_runnable_cases_come_in_pages(self, store: Store) -> None:
        """Cases with automatic work are listed by ascending id, from behind `after`, as they are now."""
        store.commit([step(each, runnable=each != "c") for each in "dcba"])

        assert list(store.runnable()) == ["a", "b", "d"]
        assert list(store.runnable(after="a", limit=1)) == ["b"]
        store.commit([step("b", 1), step("c", 1, runnable=True)])
        assert list(store.runnable()) == ["a", "c", "d"]

    def test_only_running_cases_have_work(self, store: Store) -> None:
        """Cases that do not run are on no list of timers or automatic work, and come back when they run again."""
        states = ("created", "suspended", "completed", "cancelled", "failed", "deadlocked")
        store.commit([step(each, state=each, due=1, runnable=True) for each in states])

        assert not store.due(10)
        assert not store.runnable()
        store.commit([step("suspended", 1, due=1, runnable=True)])
        assert list(store.due(10)) == ["suspended"] == list(store.runnable())

    # --- quarantine ---------------------------------------------------------------------------------------------------

    def test_quarantined_case_is_refused_and_kept(self, store: Store) -> None:
        """Load and commit refuse a quarantined case with the reason; its header and history stay."""
        store.commit([step("a", due=1)])
        store.quarantine("a", "checksum of batch 1")

        with pytest.raises(QuarantinedCase, match="checksum of batch 1"):
            store.load("a")
        with pytest.raises(QuarantinedCase):
            store.commit([step("a", 1)])
        assert store.header("a") == attrs.evolve(step("a", due=1).header, quarantined="checksum of batch 1")
        assert store.history("a") == (b"a/1",)
        assert store.whole("a").header.quarantined == "checksum of batch 1"
        assert [each.case_id for each in store.cases()] == ["a"]

    def test_quarantined_case_is_on_no_list_of_work(self, store: Store) -> None:
        """Timers, automatic work and worklist leave a quarantined case out; the others go on."""
        store.commit([step(each, due=1, runnable=True, items=[item(each, by="eve")]) for each in ("a", "b")])
        store.quarantine("a", "damaged")

        assert list(store.due(10)) == ["b"] == list(store.runnable())
        assert list(store.items()) == [item("b", by="eve")] == list(store.items(by="eve"))
        assert not store.items(case_id="a")
        assert (item("a", by="eve"),) == store.whole("a").items
        store.commit([step("b", 1)])

    def test_step_that_sets_its_case_aside(self, store: Store) -> None:
        """A commit whose header says quarantined sets the case aside for the next one, also in the same call."""
        aside = step("a", due=1, runnable=True)
        aside = attrs.evolve(aside, header=attrs.evolve(aside.header, quarantined="why"))
        with pytest.raises(QuarantinedCase):
            store.commit([aside, step("a", 1)])
        store.commit([aside])

        assert store.header("a") == aside.header
        assert not store.due(10)
        assert not store.runnable()

    def test_first_reason_stays(self, store: Store) -> None:
        """A second quarantine keeps the first reason; an empty one sets the case aside all the same."""
        store.commit([step("a"), step("b")])
        store.quarantine("a", "first")
        store.quarantine("a", "second")
        store.quarantine("b", "")

        assert store.header("a").quarantined == "first"
        assert store.header("b").quarantined
        with pytest.raises(QuarantinedCase):
            store.load("b")

    # --- idempotency --------------------------------------------------------------------------------------------------

    def test_key_is_found_with_its_case(self, store: Store) -> None:
        """A key stored with a creation is found with case and digest; another is not."""
        store.commit([step("a", key=("key", "digest"))])

        assert store.find_idempotent("key") == ("a", "digest")
        assert store.find_idempotent("other") is None

    def test_keys_are_listed_in_pages(self, store: Store) -> None:
        """Every key is listed with its case and its digest, by ascending key, from behind `after`."""
        keys = ["B", "a", "z", "é", "🙂"]
        store.commit([step(f"case {each}", key=(each, f"digest {each}")) for each in keys[::-1]] + [step("none")])

        expected = [(each, f"case {each}", f"digest {each}") for each in keys]
        assert expected == list(store.idempotency_keys())
        assert expected[2:4] == list(store.idempotency_keys(after="a", limit=2))
        assert not store.idempotency_keys(limit=0)

    @pytest.mark.parametrize("digest", ["digest", "other"])
    def test_key_is_used_once(self, store: Store, digest: str) -> None:
        """A commit with a key that is stored raises IdempotencyConflict, whatever its digest, and stores nothing."""
        store.commit([step("a", key=("key", "digest"))])

        with pytest.raises(IdempotencyConflict, match="key"):
            store.commit([step("b", key=("key", digest))])
        # A repeated creation whose answer was lost is told of the key, not of the case.
        with pytest.raises(IdempotencyConflict, match="key"):
            store.commit([step("a", key=("key", digest))])

        assert store.find_idempotent("key") == ("a", "digest")
        assert [each.case_id for each in store.cases()] == ["a"]

    def test_key_twice_in_one_call(self, store: Store) -> None:
        """Two creations with one key in one call are both refused."""
        with pytest.raises(IdempotencyConflict):
            store.commit([step("a", key=("key", "d")), step("b", key=("key", "d"))])

        assert not store.cases()
        assert store.find_idempotent("key") is None

    # --- specifications -----------------------------------------------------------------------------------------------

    def test_specifications_in_order_of_registration(self, store: Store) -> None:
        """All are listed in the order of registration; without a version the latest registered is read."""
        ten = attrs.evolve(ORDER, version="10", content_hash="10")
        two = attrs.evolve(ORDER, version="2", content_hash="2")
        store.put_specification(ten)
        store.put_specification(two)

        assert list(store.specifications()) == [ORDER, CLAIM, ten, two]
        assert store.specification("order") == two
        assert store.specification("order", "10") == ten

    def test_same_specification_again(self, store: Store) -> None:
        """The same content again does nothing: neither a second entry nor a later place."""
        store.put_specification(attrs.evolve(ORDER, version="2", content_hash="2"))
        store.put_specification(ORDER)

        assert store.specification("order").version == "2"
        assert [each.version for each in store.specifications()] == ["1", "1", "2"]

    def test_other_content_under_one_version(self, store: Store) -> None:
        """Other content under a registered version raises SpecificationConflict, and the first stays."""
        with pytest.raises(SpecificationConflict, match="order"):
            store.put_specification(attrs.evolve(ORDER, content_hash="zz", text="{}"))

        assert store.specification("order", "1") == ORDER

    @pytest.mark.parametrize(("spec_id", "version"), [("none", None), ("none", "1"), ("order", "9"), ("order", "")])
    def test_unknown_specification(self, store: Store, spec_id: str, version: str | None) -> None:
        """Reading what was never registered raises UnknownSpecification."""
        with pytest.raises(UnknownSpecification, match=spec_id):
            store.specification(spec_id, version)

    # --- the end ------------------------------------------------------------------------------------------------------

    def test_closed_store_refuses(self, store: Store) -> None:
        """After close every call raises StoreUnavailable; closing again does nothing."""
        store.commit([step("a")])
        store.close()
        store.close()

        calls: list[Callable[[], object]] = [
            lambda: store.commit([step("b")]),
            lambda: store.load("a"),
            lambda: store.history("a"),
            lambda: store.header("a"),
            lambda: store.whole("a"),
            store.cases,
            store.items,
            lambda: store.due(1),
            store.runnable,
            lambda: store.find_idempotent("key"),
            store.idempotency_keys,
            store.collections,
            lambda: store.write([]),
            lambda: store.document("box", "k"),
            lambda: store.documents("box"),
            lambda: store.documents("box", due=1),
            lambda: store.quarantine("a", "why"),
            lambda: store.put_specification(ORDER),
            lambda: store.specification("order"),
            store.specifications,
        ]
        for call in calls:
            with pytest.raises(StoreUnavailable, match="closed"):
                call()

    def test_reopened_store_holds_everything(self, store: Store) -> None:
        """Another store on the same data answers every question as the first did; a store without one promises nothing."""
        store.commit([step("a", due=1, runnable=True, items=[item("a")], key=("key", "d")), step("b")])
        store.commit([step("a", 1, snapshot=b"state", due=1, runnable=True)])
        store.commit([step("a", 2, due=1, runnable=True)])
        beside = Document(collection="box", key="k", value="v", due=1)
        store.commit(
            [attrs.evolve(step("c", items=[attrs.evolve(item("c"), audience=("role:x",))]), documents=(beside,))]
        )
        store.write([attrs.evolve(beside, value="w", version=2), attrs.evolve(beside, key="j")])
        store.write([], [attrs.evolve(beside, key="j")])
        store.quarantine("b", "why")
        before = _everything(store)

        again = self.reopen(store)
        if again is None:
            assert store.durability is Durability.OFF
            return

        try:
            assert before == _everything(again)
            again.commit([step("a", 3)])
        finally:
            again.close()


def _everything(store: Store) -> list[object]:
    return [
        store.load("a"),
        store.history("a"),
        store.history("b"),
        *map(store.whole, "abc"),
        list(store.cases()),
        list(store.items()),
        list(store.due(10)),
        list(store.items(audience=["role:x"])),
        list(store.documents("box")),
        list(store.runnable()),
        store.find_idempotent("key"),
        list(store.idempotency_keys()),
        list(store.collections()),
        list(store.specifications()),
    ]
