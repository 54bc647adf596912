"""The part of the contract of a store that says what is stored together, and what apart."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest

from knhk.errors import ConcurrentUpdate, IdempotencyConflict, StoreError, UnknownSpecification
from knhk.ports import CaseHeader, Commit, ItemRow, Store, StoredSpecification

ORDER = StoredSpecification(spec_id="order", version="1", content_hash="aa", text='{"id":"order"}')
CLAIM = StoredSpecification(spec_id="claim", version="1", content_hash="cc", text='{"id":"claim"}')


def step(
    case_id: str,
    expected: int = 0,
    batch: bytes | None = None,
    *,
    snapshot: bytes | None = None,
    items: Sequence[ItemRow] = (),
    closed: Sequence[int] = (),
    key: tuple[str, str] | None = None,
    spec: StoredSpecification = ORDER,
    state: str = "running",
    due: int | None = None,
    runnable: bool = False,
) -> Commit:
    """Return a commit of a case's next step; its batch names the case and the version unless one is given."""
    header = CaseHeader(
        case_id=case_id,
        spec_id=spec.spec_id,
        spec_version=spec.version,
        state=state,
        due=due,
        runnable=runnable,
        version=expected + 1,
    )
    return Commit(
        header=header,
        expected=expected,
        batch=f"{case_id}/{expected + 1}".encode() if batch is None else batch,
        snapshot=snapshot,
        items=tuple(items),
        closed_items=tuple(closed),
        idempotency=key,
    )


def item(case_id: str, number: int = 1, *, state: str = "offered", by: str = "") -> ItemRow:
    """Return a worklist row."""
    return ItemRow(case_id=case_id, number=number, path=f"task.{number}", state=state, by=by)


class TogetherConformance:
    """Calls that store all or nothing, and calls that come at the same time; `knhk.testing.store_conformance` has the rest."""

    def test_several_commits_are_stored_together(self, store: Store) -> None:
        """One call commits steps of several cases, and several steps of one case in order."""
        store.commit([step("a"), step("b"), step("a", 1)])

        assert store.load("a").batches == (b"a/1", b"a/2")
        assert store.load("b").batches == (b"b/1",)

    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_one_bad_commit_of_three_stores_none(self, store: Store, place: int) -> None:
        """If one of three commits is refused, nothing of the others is stored, wherever it stands."""
        store.commit([step("old")])
        commits = [
            step("a", items=[item("a")], key=("key a", "d"), due=1, runnable=True),
            step("old", 1, snapshot=b"state", items=[item("old")], due=1, runnable=True),
        ]
        commits.insert(place, step("old", 5))

        with pytest.raises(ConcurrentUpdate):
            store.commit(commits)

        assert [each.case_id for each in store.cases()] == ["old"]
        assert store.load("old").snapshot is None
        assert store.history("old") == (b"old/1",)
        assert not store.items()
        assert not store.due(10)
        assert not store.runnable()
        assert store.find_idempotent("key a") is None

    def test_calls_at_once_are_refused_one_by_one(self, store: Store) -> None:
        """Of several calls each is stored whole or refused and not stored at all, and each hears its own outcome."""
        store.commit([step("old"), step("late", key=("k", "d"))])
        calls = [
            [step("a", items=[item("a")]), step("b", due=1)],
            [step("c"), step("old", 5)],
            [step("old", 1, snapshot=b"state")],
            [],
            [step("d", key=("k", "other"))],
            [step("late", 1)],
        ]

        errors = store.commit_each(calls)

        assert [None, ConcurrentUpdate, None, None, IdempotencyConflict, None] == [
            each and type(each) for each in errors
        ]
        assert ["a", "b", "late", "old"] == [each.case_id for each in store.cases()]
        assert [("a", 1)] == [(each.case_id, each.number) for each in store.items()]
        assert (b"old/1", b"old/2") == store.history("old")
        assert b"state" == store.load("old").snapshot
        assert (b"late/1", b"late/2") == store.load("late").batches
        assert [] == store.commit_each([])

    def test_calls_at_once_that_contradict_themselves_are_refused(self, store: Store) -> None:
        """A call that no store could take is refused for itself, among others that are stored."""
        broken = attrs.evolve(step("a"), expected=7)

        errors = store.commit_each(
            [[step("b")], [broken], [step("c", spec=attrs.evolve(ORDER, version="9"))], [step("d")]]
        )

        assert [None, StoreError, UnknownSpecification, None] == [each and type(each) for each in errors]
        assert ["b", "d"] == [each.case_id for each in store.cases()]

    def test_many_calls_at_once(self, store: Store) -> None:
        """More calls than fit in one transaction are stored all the same, steps of cases that are there among them."""
        store.commit([step(f"case {each:04}") for each in range(0, 300, 2)])

        errors = store.commit_each([[step(f"case {each:04}", 1 - each % 2)] for each in range(300)])

        assert [None] * 300 == errors
        assert [2 - each % 2 for each in range(300)] == [store.header(f"case {each:04}").version for each in range(300)]
