"""The record in the store: pages that cost what is on them, verification that goes on, archives, and entries in their transactions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knhk.errors import StoreUnavailable
from knhk.ports import Document, StoredSpecification
from knhk.server import record
from knhk.server.archive import Archive
from knhk.server.audit import ENTRIES, AuditLog
from knhk.server.chain import link_text, verify
from knhk.server.record import BASES, HEADS, INDEX, LINKS, Entry, Record, Verification, Wanted
from knhk.stores import MemoryStore
from tests.served import ORDER, problem, served

KEY = b"k" * 64


class Counting(MemoryStore):
    """Counts what is read and how much of it."""

    def __init__(self) -> None:
        super().__init__()
        self.read = Counter[str]()

    def document(self, collection: str, key: str) -> Document | None:
        self.read[collection] += 1
        return super().document(collection, key)

    def documents(self, collection: str, **more: Any) -> Sequence[Document]:
        found = super().documents(collection, **more)
        self.read[collection] += len(found)
        return found


def entry(at: int, tenant: str = "default", subject: str = "ann") -> Entry:
    """A call."""
    return Entry(at=at, tenant=tenant, subject=subject, operation="case.get", resource="r", outcome=200)


def log(store: MemoryStore, writer: str = "one") -> AuditLog:
    """A writer."""
    return AuditLog(store, writer, KEY, now=lambda: 1)


def fill(written: AuditLog, begin: int, end: int, **more: Any) -> None:
    """Record a call in each millisecond, ten in a batch."""
    for at in range(begin, end):
        written.add(entry(at, **more))
        if at % 10 == 9:
            written.seal()
    written.seal()


def change(store: MemoryStore, collection: str, key: str, value: str) -> None:
    """Write what somebody wrote who can write the store."""
    found = store.document(collection, key)
    assert found is not None
    store.write([Document(collection=collection, key=key, value=value, version=found.version + 1)])


def everything(read: Record, wanted: Wanted, limit: int) -> list[int]:
    """The times of all calls on all pages."""
    times: list[int] = []
    after: str | None = ""
    while after is not None:
        page, after = read.page(wanted, limit=limit, after=after)
        assert len(page) <= limit
        times += [each.entry.at for each in page]
    return times


@given(st.text(max_size=20), st.integers(0, 2**53), st.text(max_size=5))
def test_two_ways_to_write_a_link(subject: str, at: int, trace: str) -> None:
    """What a writer hashes is the canonical JSON that whoever verifies makes of the entry."""
    if any(0xD800 <= ord(each) < 0xE000 for each in subject + trace):
        return
    store = MemoryStore()
    written = log(store)
    written.add(Entry(at=at, tenant="t", subject=subject, operation="o", resource="", outcome=1, trace=trace))
    written.seal()

    (_, _, link), *_ = written.record.links()
    kept = store.documents(LINKS)[0].value
    assert [] == verify(written.record.export(), KEY)
    assert link_text("", 1, link["entry"])[6:-1] in kept


@pytest.mark.parametrize("limit", [1, 3, 10, 1000])
def test_pages_have_everything_once(limit: int) -> None:
    """All pages together have every call of the tenant, in order, and no other's."""
    store = MemoryStore()
    written = log(store)
    for at in range(0, 60, 2):
        written.add(entry(at))
        written.add(entry(at + 1, tenant="acme"))
        if at % 14 == 0:
            written.seal()
    written.seal()

    assert list(range(0, 60, 2)) == everything(written.record, Wanted(tenant="default"), limit)
    assert list(range(31, 60, 2)) == everything(written.record, Wanted(tenant="acme", since=31), limit)
    assert [] == everything(written.record, Wanted(tenant="acme", subject="bob"), limit)


def test_page_costs_what_is_on_it() -> None:
    """A page is found through an index: a hundred others' batches before it are not read."""
    store = Counting()
    written = log(store)
    fill(written, 0, 1000, tenant="acme")
    fill(written, 1000, 1010)
    store.read.clear()

    page, following = written.record.page(Wanted(tenant="default"), limit=100, after="")

    assert (10, None) == (len(page), following)
    assert {INDEX + "default": 1, LINKS: 1} == dict(store.read)
    late, _ = written.record.page(Wanted(tenant="acme", since=995), limit=100, after="")
    assert [995, 996, 997, 998, 999] == [each.entry.at for each in late]
    assert 2 == store.read[LINKS]


def test_page_looks_so_far_and_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where little of much is wanted a page ends after some batches, and the next one goes on."""
    monkeypatch.setattr(record, "MOST_BATCHES", 3)
    store = Counting()
    written = log(store)
    fill(written, 0, 100)
    fill(written, 100, 101, subject="bob")
    store.read.clear()

    page, following = written.record.page(Wanted(tenant="default", subject="bob"), limit=5, after="")

    assert [] == page
    assert following is not None
    assert 3 == store.read[LINKS]
    assert [100] == everything(written.record, Wanted(tenant="default", subject="bob"), 5)


def test_query_that_is_none() -> None:
    """Behind a cursor that no page gave there is nothing, and a time that is none is refused."""
    with served() as service:
        for query in ("since=yesterday", "since=2026-01-01T00:00:00", "since=1900-01-01T00:00:00Z"):
            assert problem(service.ask("GET", "/audit", query_string=query), "invalid"), query
        service.ask("GET", "/cases")
        assert service.made.audit is not None
        service.made.audit.seal()
        assert 4 == len(service.ask("GET", "/audit", query_string="since=2026-01-01T00:00:00Z").json["items"])
        assert {"items": [], "next": None} == service.ask("GET", "/audit", query_string="cursor=nothing").json
        assert [] == service.ask("GET", "/audit", query_string="since=2226-01-01T00:00:00%2B02:00").json["items"]


# --- verification ---------------------------------------------------------------------------------------------------------


def test_verification_goes_on() -> None:
    """What was verified is not read again; what is changed in it later is found from the first link on."""
    store = Counting()
    written = log(store)
    fill(written, 0, 100)
    verification = Verification(written.record, seconds=lambda: 0.0)
    first = verification.go_on(within=1)
    fill(written, 100, 110)
    store.read.clear()

    second = verification.go_on(within=1)

    assert (True, True, 100) == (first.intact, first.complete, first.links)
    assert (True, True, 110) == (second.intact, second.complete, second.links)
    assert store.read[LINKS] <= 2
    changed = store.documents(LINKS)[2]
    change(store, LINKS, changed.key, changed.value.replace("ann", "bob", 1))
    assert verification.go_on(within=1).intact
    whole = verification.go_on(within=1, whole=True)
    assert (False, "one: link 21 is not what was written behind 20") == (whole.intact, whole.problems[0])
    assert not verification.go_on(within=1).intact


def test_verification_takes_its_time() -> None:
    """A verification ends when its time is over, says so, and the next one goes on there."""
    store = MemoryStore()
    written = log(store)
    fill(written, 0, 50)
    verification = Verification(written.record, seconds=iter(range(1000)).__next__)

    looks = [verification.go_on(within=1.5)]
    while not looks[-1].complete:
        looks.append(verification.go_on(within=1.5))

    assert [20, 40, 50] == [each.links for each in looks]
    assert all(each.intact for each in looks)


@pytest.mark.parametrize("value", ["", "{", "[]", "7", '[{"entry":7,"hash":""}]', '[{"hash":"x"}]', "[[]]", '{"a":1}'])
@pytest.mark.parametrize("collection", [LINKS, HEADS, BASES])
def test_document_that_was_made_unreadable(collection: str, value: str) -> None:
    """Whatever somebody puts into the store, it is found, by every way to verify, and nothing breaks."""
    store = MemoryStore()
    written = log(store)
    fill(written, 0, 30)
    if collection == BASES:
        store.write([Document(collection=BASES, key="one", value=value)])
    else:
        change(store, collection, store.documents(collection)[0].key, value)

    assert not Verification(written.record).go_on(within=9).intact
    assert verify(written.record.export(), KEY)
    assert len(everything(written.record, Wanted(tenant="default"), 7)) <= 30


def test_chain_that_is_gone() -> None:
    """A chain that was verified and is gone is missed; so is a head, and an end in front of one."""
    for remove in ((LINKS, HEADS), (HEADS,), (LINKS,)):
        store = MemoryStore()
        written = log(store)
        fill(written, 0, 30)
        verification = Verification(written.record)
        verification.go_on(within=9)
        store.write([], [each for name in remove for each in store.documents(name)])

        assert (remove, False) == (remove, verification.go_on(within=9, whole=remove == (LINKS,)).intact)


# --- archive --------------------------------------------------------------------------------------------------------------


def archive(store: MemoryStore, directory: Path, now: int) -> Archive:
    """An archive that keeps a hundred milliseconds."""
    return Archive(store, KEY, directory, 100, lambda: now)


def test_archive(tmp_path: Path) -> None:
    """What is old goes into files, each of which is whole; the chain goes on behind them, and so does its verification."""
    store = MemoryStore()
    written = log(store)
    fill(written, 0, 40)
    fill(log(store, "two"), 0, 10, tenant="acme")
    verification = Verification(written.record)
    assert verification.go_on(within=9).intact
    fill(written, 40, 100)

    files = archive(store, tmp_path / "a", 150).sweep()
    files += archive(store, tmp_path / "a", 180).sweep()
    fill(written, 100, 110)

    names = ["one-" + "1".zfill(16), "two-" + "1".zfill(16), "one-" + "51".zfill(16)]
    assert names == [each.name[:20] for each in files]
    assert 0o600 == files[0].stat().st_mode & 0o777
    assert [] == archive(store, tmp_path / "a", 180).sweep()
    assert list(range(80, 110)) == [link["entry"]["at"] for _, _, link in written.record.links()]
    assert list(range(80, 110)) == everything(written.record, Wanted(tenant="default"), 7)
    assert 3 == len(store.documents(INDEX + "default"))
    lines = [each.read_text().splitlines() for each in files]
    assert [[], [], []] == [verify(each, KEY) for each in lines]
    assert [] == verify(written.record.export(), KEY)
    assert [] == verify([*lines[0], *lines[1], *lines[2], *written.record.export()], KEY)
    assert [] != verify([*lines[0], *lines[1], *written.record.export()], KEY)
    look = verification.go_on(within=9)
    assert (True, True) == (look.intact, look.complete)
    assert Verification(written.record).go_on(within=9).intact


def test_beginning_that_was_cut_off(tmp_path: Path) -> None:
    """A beginning that is missing without a base, or with one that is an old head put in its place, is found."""
    store = MemoryStore()
    written = log(store)
    fill(written, 0, 10)
    head = store.documents(HEADS)[0]
    fill(written, 10, 30)
    store.write([], [store.documents(LINKS)[0]])

    assert not Verification(written.record).go_on(within=9).intact
    assert verify(written.record.export(), KEY)
    store.write([Document(collection=BASES, key="one", value=head.value)])
    assert not Verification(written.record).go_on(within=9).intact
    assert verify(written.record.export(), KEY)
    assert [] == archive(store, tmp_path, 1000).sweep()


def test_changed_part_is_not_archived(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A part that is not as it was written stays in the store, and the log says why."""
    store = MemoryStore()
    fill(log(store), 0, 30)
    second = store.documents(LINKS)[1]
    change(store, LINKS, second.key, second.value.replace("ann", "bob"))
    moving = archive(store, tmp_path / "a", 1000)

    assert [] == moving.sweep()
    assert 3 == len(store.documents(LINKS))
    assert "link 11" in moving.failure
    assert "not archived" in caplog.text
    assert not (tmp_path / "a").exists()


def test_two_archive_at_once(tmp_path: Path) -> None:
    """Of two instances that move the same part one does."""

    class Slow(MemoryStore):
        other: Archive | None = None

        def write(self, documents: Sequence[Document], removed: Sequence[Document] = ()) -> None:
            other, self.other = self.other, None
            if other is not None:
                other.sweep()
            super().write(documents, removed)

    store = Slow()
    written = log(store)
    fill(written, 0, 30)
    store.other = archive(store, tmp_path / "b", 115)

    assert [] == archive(store, tmp_path / "a", 1000).sweep()
    assert [11, 21] == [int(each.key.rpartition("/")[2]) for each in store.documents(LINKS)]
    assert [] == verify(written.record.export(), KEY)


def test_archive_in_the_service(tmp_path: Path) -> None:
    """With a retention the service archives in its state directory; what cannot be archived stays, and the log says why."""
    with served(state_path=str(tmp_path / "s"), audit_retention=1e-9) as service:
        service.ask("GET", "/cases")
        assert service.made.audit is not None
        assert service.made.archive is not None
        service.made.audit.seal()
        service.made.archive._now = lambda: 2**52  # noqa: SLF001 - much later
        (tmp_path / "s" / "audit-archive").write_text("in the way")
        with pytest.raises(OSError, match="audit-archive"):
            service.made.archive.sweep()
        (tmp_path / "s" / "audit-archive").unlink()
        (file,) = service.made.archive.sweep()
        service.made.archive.start()
        assert service.ask("GET", "/audit/verify").json["intact"]

    assert json.loads(file.read_text().splitlines()[0])["entry"]["operation"] == "case.list"


# --- entries in the transaction of what they tell of ----------------------------------------------------------------------


def test_entry_of_what_no_case_has_is_written_with_it() -> None:
    """The entry of a registration, a removal or a subscription is in its transaction, once; a failure says so."""
    told: list[tuple[str, list[tuple[str, str, int]]]] = []

    def operations(documents: Sequence[Document]) -> list[tuple[str, str, int]]:
        trees = [json.loads(each.value) for each in documents if each.collection == ENTRIES]
        return [(each["operation"], each["resource"], each["outcome"]) for each in trees]

    class Watching(MemoryStore):
        fails = False

        def put_specification(self, specification: StoredSpecification, documents: Sequence[Document] = ()) -> bool:
            if self.fails:
                raise StoreUnavailable("gone")
            new = super().put_specification(specification, documents)
            told.append((f"registered {new}", operations(documents)))
            return new

        def write(
            self, documents: Sequence[Document], removed: Sequence[Document] = (), held: Sequence[Document] = ()
        ) -> None:
            super().write(documents, removed, held)
            if carried := operations(documents):
                told.append((documents[0].collection, carried))

    store = Watching()
    with served(store=store) as service:
        for spec in (ORDER, ORDER):
            service.ask("POST", "/workflows", body={"spec": spec})
        service.ask("DELETE", "/workflows/order")
        service.ask("DELETE", "/workflows/order")
        service.register()
        service.ask("POST", "/workflows", body={"spec": {**ORDER, "name": "Other"}})
        made = service.ask("POST", "/webhooks", body={"url": "https://93.184.216.34/"}).json
        service.ask("DELETE", f"/webhooks/{made['id']}")
        store.fails = True
        service.ask("POST", "/workflows", body={"spec": {**ORDER, "version": "9"}})
        assert service.made.audit is not None
        service.made.audit.seal()
        found = [link["entry"] for _, _, link in service.made.audit.record.links()]
        entries = Counter((each["operation"], each["outcome"]) for each in found)
        registered = {each["resource"] for each in found if each["operation"] == "workflow.register"}

    assert [
        ("registered True", [("workflow.register", "order", 201)]),
        # The same again writes none of it.
        ("registered False", [("workflow.register", "order", 200)]),
        ("retired", [("workflow.remove", "order", 204)]),
        ("registered False", [("workflow.register", "order", 201)]),
        (ENTRIES, [("workflow.register", "order", 201)]),
        ("webhooks", [("webhook.create", "", 201)]),
        (ENTRIES, [("webhook.remove", made["id"], 204)]),
    ] == told
    assert {
        ("workflow.register", 201): 2,
        ("workflow.register", 200): 1,
        ("workflow.register", 409): 1,
        ("workflow.register", 503): 1,
        ("workflow.remove", 204): 1,
        ("workflow.remove", 404): 1,
        ("webhook.create", 201): 1,
        ("webhook.remove", 204): 1,
    } == dict(entries)
    # Also of those that changed nothing it is told what they were about.
    assert {"order"} == registered


def test_registration_and_its_entry_are_stored_together() -> None:
    """A store that goes away as soon as a registration is stored, or refuses its entry, leaves both or neither."""

    class Away(MemoryStore):
        away = False
        refused = 0

        def put_specification(self, specification: StoredSpecification, documents: Sequence[Document] = ()) -> bool:
            if specification.version == "2":
                self.refused += 1
                documents = [attrs.evolve(each, version=2) for each in documents]
            new = super().put_specification(specification, documents)
            self.away = True
            return new

        def write(
            self, documents: Sequence[Document], removed: Sequence[Document] = (), held: Sequence[Document] = ()
        ) -> None:
            if self.away:
                raise StoreUnavailable("gone")
            super().write(documents, removed, held)

    store = Away()
    with served(store=store) as service:
        assert 409 == service.ask("POST", "/workflows", body={"spec": {**ORDER, "version": "2"}}).status_code
        service.ask("POST", "/workflows", body={"spec": ORDER})
        versions = [each.version for each in store.specifications()]
        entries = [json.loads(each.value) for each in store.documents(ENTRIES)]
        store.away = False

    assert 1 == store.refused
    assert ["1"] == versions
    assert [("workflow.register", "order", 201)] == [
        (each["operation"], each["resource"], each["outcome"]) for each in entries
    ]
