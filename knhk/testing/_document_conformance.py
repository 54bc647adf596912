"""The part of the store's contract that is about documents, also beside a registration, and who may take up a work item; `store_conformance` has the rest."""

from __future__ import annotations

import sys
import threading

import attrs
import pytest

from knhk.errors import ConcurrentUpdate, OwnershipLost, SpecificationConflict, UnknownSpecification
from knhk.ports import CaseHeader, Commit, Document, ItemRow, Store, StoredSpecification

NEW = StoredSpecification(spec_id="new", version="1", content_hash="nn", text='{"id":"new"}')
RACERS = 4
ROUNDS = 3
STEPS = 10
ORDERED_KEYS = (
    "",
    "a",
    "a\x00",
    "a\x00b",
    "ab",
    "b",
    "\ud7ff",
    "\ue000",
    "\U0001f642",
    chr(sys.maxunicode),
    chr(sys.maxunicode) + "a",
)


def document(
    key: str, value: str = "x", *, due: int | None = None, version: int = 1, collection: str = "box"
) -> Document:
    """Return a document."""
    return Document(collection=collection, key=key, value=value, due=due, version=version)


def commit_of(
    case_id: str,
    expected: int = 0,
    *,
    documents: tuple[Document, ...] = (),
    removed: tuple[Document, ...] = (),
    held: tuple[Document, ...] = (),
    items: tuple[ItemRow, ...] = (),
    closed: tuple[int, ...] = (),
) -> Commit:
    """Return a commit of a case of `store_conformance.ORDER`, with what is beside it."""
    header = CaseHeader(case_id=case_id, spec_id="order", spec_version="1", state="running", version=expected + 1)
    return Commit(
        header=header,
        expected=expected,
        batch=b"step",
        documents=documents,
        removed=removed,
        held=held,
        items=items,
        closed_items=closed,
    )


def offered(case_id: str, number: int, *audience: str, topic: str = "", state: str = "offered") -> ItemRow:
    """Return a worklist row."""
    return ItemRow(case_id=case_id, number=number, path="T", state=state, topic=topic, audience=audience)


class DocumentConformance:
    """Sentences about `Store.write`, `document`, `documents`, documents beside a registration, and the filters `topics` and `audience` of `items`."""

    def test_document_is_read_as_it_was_written(self, store: Store) -> None:
        """A document is read back in every field; another key or collection holds none."""
        written = document("k", "Zoë 🙂\n\x00", due=5)
        store.write([written])

        assert written == store.document("box", "k")
        assert store.document("box", "other") is None
        assert store.document("other", "k") is None

    def test_document_changes_from_version_to_version(self, store: Store) -> None:
        """A write replaces the version before its own, a removal takes the version that was read."""
        store.write([document("k", "first", due=1)])
        second = document("k", "second", version=2)
        store.write([second])

        assert second == store.document("box", "k")
        store.write([], [second])
        assert store.document("box", "k") is None

    @pytest.mark.parametrize("version", [-1, 0, 1, 3])
    def test_stale_write_of_a_document(self, store: Store, version: int) -> None:
        """A write that does not follow the stored version raises ConcurrentUpdate and changes nothing."""
        stored = document("k", "stored")
        store.write([stored])

        with pytest.raises(ConcurrentUpdate, match="'k'"):
            store.write([document("fine"), document("k", "late", version=version)])
        assert (stored,) == tuple(store.documents("box"))

    @pytest.mark.parametrize("version", [0, 1, 3])
    def test_stale_removal_of_a_document(self, store: Store, version: int) -> None:
        """A removal of another version than the stored one raises ConcurrentUpdate and changes nothing."""
        store.write([document("k")])
        stored = document("k", version=2)
        store.write([stored])

        with pytest.raises(ConcurrentUpdate):
            store.write([document("fine")], [document("k", version=version)])
        assert (stored,) == tuple(store.documents("box"))

    @pytest.mark.parametrize("version", [0, 1])
    def test_removal_of_what_is_not_there(self, store: Store, version: int) -> None:
        """What is not there cannot be removed."""
        with pytest.raises(ConcurrentUpdate):
            store.write([], [document("k", version=version)])

    def test_document_twice_in_one_write(self, store: Store) -> None:
        """Within one call each write sees those before it."""
        store.write([document("k", "a"), document("k", "b", version=2)], [document("k", version=2)])

        assert not store.documents("box")

    def test_documents_by_key_in_pages(self, store: Store) -> None:
        """A collection is listed by code points of its keys, from behind `after`, a page at a time."""
        store.write([document(key) for key in reversed(ORDERED_KEYS)] + [document("z", collection="other")])
        found = [each.key for each in store.documents("box", limit=3)]
        while page := store.documents("box", after=found[-1], limit=3):
            found += [each.key for each in page]

        # The empty key is behind nothing.
        assert list(ORDERED_KEYS[1:]) == found
        assert not store.documents("box", limit=0)
        assert not store.documents("none")

    @pytest.mark.parametrize("prefix", ORDERED_KEYS)
    def test_documents_by_prefix(self, store: Store, prefix: str) -> None:
        """A prefix is taken literally, whatever characters it ends with."""
        store.write([document(key) for key in ORDERED_KEYS])

        expected = [each for each in ORDERED_KEYS if each.startswith(prefix) and each]
        assert expected == [each.key for each in store.documents("box", prefix=prefix)]

    def test_collections_are_listed(self, store: Store) -> None:
        """The collections that hold something are listed by code points; one that was emptied is none."""
        names = [each for each in ORDERED_KEYS if each]
        store.write([document("k", collection=each) for each in (*names[::-1], "emptied")])
        store.write([], [document("k", collection="emptied")])

        assert names == list(store.collections())

    def test_due_documents_come_earliest_first(self, store: Store) -> None:
        """What is due is listed by (due, key); what is due later, or never, is not."""
        store.write(
            [document("b", due=2), document("a", due=2), document("c", due=1), document("d", due=3), document("e")]
        )
        store.write([document("x", due=1, collection="other")])

        assert ["c", "a", "b"] == [each.key for each in store.documents("box", due=2)]
        assert ["c"] == [each.key for each in store.documents("box", due=9, limit=1)]
        assert not store.documents("box", due=0)

    def test_documents_are_stored_with_a_step(self, store: Store) -> None:
        """A commit's documents are written and removed with its step."""
        first, second = document("k", "1"), document("k", "2", version=2)
        store.commit([commit_of("a", documents=(first,)), commit_of("b", documents=(second, document("j")))])
        store.commit([commit_of("a", 1, removed=(document("j"),))])

        assert (second,) == tuple(store.documents("box"))

    def test_stale_document_refuses_the_step(self, store: Store) -> None:
        """A commit whose document is stale stores nothing at all, nor do those with it."""
        store.write([document("k")])

        with pytest.raises(ConcurrentUpdate):
            store.commit([commit_of("a"), commit_of("b", documents=(document("fine"), document("k")))])
        assert not store.cases()
        assert ["k"] == [each.key for each in store.documents("box")]

    def test_refused_step_writes_no_document(self, store: Store) -> None:
        """The documents of a commit on a stale version of the case are not written."""
        store.commit([commit_of("a")])

        with pytest.raises(ConcurrentUpdate):
            store.commit([commit_of("a", documents=(document("k"),))])
        assert not store.documents("box")

    def test_step_under_a_held_document(self, store: Store) -> None:
        """A step, and a write, are stored while what they hold is stored at its version, which they leave as it is."""
        held = document("owner")
        store.write([held])
        store.write([document("k")], held=[held])
        store.commit([commit_of("a", held=(held,)), commit_of("a", 1, held=(held,))])

        assert 2 == store.header("a").version
        assert [document("k"), held] == list(store.documents("box"))

    @pytest.mark.parametrize("version", [-1, 0, 1, 3])
    def test_step_under_what_has_changed(self, store: Store, version: int) -> None:
        """A step whose held document is stored at another version raises OwnershipLost, and nothing of its call is stored."""
        store.write([document("owner", "old")])
        stored = document("owner", "new", version=2)
        store.write([stored])
        stale = document("owner", "old", version=version)

        with pytest.raises(OwnershipLost, match="'owner'"):
            store.commit([commit_of("a"), commit_of("b", documents=(document("k"),), held=(stored, stale))])
        with pytest.raises(OwnershipLost, match="'owner'"):
            store.write([document("k")], held=[stored, stale])
        assert not store.cases()
        assert (stored,) == tuple(store.documents("box"))

    @pytest.mark.parametrize("version", [0, 1])
    def test_step_under_what_is_not_there(self, store: Store, version: int) -> None:
        """What is not there, or no more, cannot be held."""
        gone = document("owner")
        store.write([gone])
        store.write([], [gone])
        absent = document("owner", version=version)

        with pytest.raises(OwnershipLost):
            store.commit([commit_of("a", held=(absent,))])
        with pytest.raises(OwnershipLost):
            store.write([document("k")], [], [absent])
        assert not store.cases()

    def test_held_document_changes_with_its_step(self, store: Store) -> None:
        """What is held may be written by the same step, and the steps behind it see it as it is then."""
        first, second = document("owner", "1"), document("owner", "2", version=2)
        store.write([first])
        store.commit([commit_of("a", held=(first,), documents=(second,)), commit_of("b", held=(second,))])

        with pytest.raises(OwnershipLost):
            store.commit(
                [commit_of("c", documents=(document("owner", "3", version=3),)), commit_of("d", held=(second,))]
            )
        assert ["a", "b"] == [each.case_id for each in store.cases()]
        assert second == store.document("box", "owner")

    def test_held_document_cannot_change_under_a_step(self, store: Store) -> None:
        """Of a step under a document and a change of that document at the same moment, the step is never the later one."""
        held = document("owner", "0")
        store.write([held])
        store.commit([commit_of("a")])
        for version in range(2, 2 + ROUNDS):
            after = document("owner", str(version), version=version)
            seen: list[int] = []
            barrier = threading.Barrier(2)

            def take_over(
                after: Document = after, seen: list[int] = seen, barrier: threading.Barrier = barrier
            ) -> None:
                barrier.wait()
                store.write([after])
                seen.append(store.header("a").version)

            racer = threading.Thread(target=take_over)
            racer.start()
            barrier.wait()
            try:
                for _ in range(STEPS):
                    store.commit([commit_of("a", store.header("a").version, held=(held,))])
            except OwnershipLost:
                pass
            racer.join()
            held = after
            assert seen == [store.header("a").version]

    def test_documents_are_stored_with_a_registration(self, store: Store) -> None:
        """A registration's documents are written with it, each following the version that is stored; it says that it is new."""
        store.write([document("k", "1")])
        second, fresh = document("k", "2", version=2), document("j", "Zoë 🙂", due=5)

        assert store.put_specification(NEW, [second, fresh])
        assert store.specification("new") == NEW
        assert [fresh, second] == list(store.documents("box"))

    @pytest.mark.parametrize("version", [-1, 0, 1, 3])
    def test_stale_document_refuses_the_registration(self, store: Store, version: int) -> None:
        """A registration whose document does not follow the stored version raises ConcurrentUpdate, and nothing of it is stored."""
        stored = document("k", "stored")
        store.write([stored])
        before = list(store.specifications())

        with pytest.raises(ConcurrentUpdate, match="'k'"):
            store.put_specification(NEW, [document("fine"), document("k", "late", version=version)])
        assert before == list(store.specifications())
        with pytest.raises(UnknownSpecification):
            store.specification("new")
        assert [stored] == list(store.documents("box"))
        assert store.put_specification(NEW, [document("k", "next", version=2)])

    def test_same_registration_again_writes_no_document(self, store: Store) -> None:
        """The same again is not new, writes no document and looks at none, so that a stale one refuses nothing."""
        first = document("k", "first")

        assert store.put_specification(NEW, [first])
        assert not store.put_specification(NEW, [document("j")])
        assert not store.put_specification(NEW, [first])
        assert not store.put_specification(NEW)
        assert [first] == list(store.documents("box"))

    def test_conflicting_registration_writes_no_document(self, store: Store) -> None:
        """Other content under a registered version raises SpecificationConflict, and its documents are not written."""
        store.put_specification(NEW)

        with pytest.raises(SpecificationConflict, match="new"):
            store.put_specification(attrs.evolve(NEW, content_hash="zz", text="{}"), [document("k")])
        assert not store.documents("box")

    def test_one_of_several_registers(self, store: Store) -> None:
        """Of threads that register the same at the same moment, one is told that it is new, and its document alone is written."""
        told: list[int] = []
        barrier = threading.Barrier(RACERS)

        def register(number: int) -> None:
            barrier.wait()
            if store.put_specification(NEW, [document(f"k{number}")]):
                told.append(number)

        racers = [threading.Thread(target=register, args=(number,)) for number in range(RACERS)]
        for each in racers:
            each.start()
        for each in racers:
            each.join()

        assert [f"k{number}" for number in told] == [each.key for each in store.documents("box")]
        assert 1 == len(told)
        assert 1 == list(store.specifications()).count(NEW)

    def test_items_by_audience(self, store: Store) -> None:
        """Rows are listed by who may take them up, each once, in order; a changed or closed row leaves its old audience."""
        ann, clerk = "participant:ann", "role:clerk"
        rows = (offered("a", 1, ann, clerk), offered("a", 2, clerk, clerk), offered("a", 3))
        store.commit(
            [commit_of("a", items=rows), commit_of("b", items=(offered("b", 1, ann), offered("b", 2, "role:x")))]
        )

        assert [("a", 1), ("a", 2), ("b", 1)] == self._names(store, audience=[ann, clerk])
        assert [("b", 1)] == self._names(store, audience=[ann, clerk], after=("a", 2))
        assert [("a", 1)] == self._names(store, audience=[ann, clerk], limit=1)
        assert not self._names(store, audience=[])
        changed = (attrs.evolve(rows[0], audience=(), by="ann"), attrs.evolve(rows[2], audience=(ann,)))
        store.commit([commit_of("a", 1, items=changed, closed=(2,))])
        assert [("a", 3), ("b", 1)] == self._names(store, audience=[ann, clerk])

    def test_items_by_topic(self, store: Store) -> None:
        """Rows are listed by topic, and rows without one never."""
        rows = (offered("a", 1, topic="mail"), offered("a", 2, topic="print"), offered("a", 3))
        store.commit([commit_of("a", items=(*rows, offered("a", 4, topic="mail", state="started")))])

        assert [("a", 1), ("a", 2)] == self._names(store, topics=["mail", "print", ""], state="offered")
        assert [("a", 1), ("a", 4)] == self._names(store, topics=["mail"])
        assert not self._names(store, topics=[])
        assert not self._names(store, topics=[""])

    def test_details_of_an_item(self, store: Store) -> None:
        """A row's details are read back as they were written."""
        details = {"reason": "Zoë", "attempts": 3, "nested": [{"a": None}, 1.5, True]}
        row = attrs.evolve(offered("a", 1, state="failed"), details=details, roles=("r",))
        store.commit([commit_of("a", items=(row, offered("a", 2)))])

        assert [row] == list(store.items(state="failed"))

    def _names(self, store: Store, **asked: object) -> list[tuple[str, int]]:
        return [(each.case_id, each.number) for each in store.items(**asked)]  # type: ignore[arg-type]
