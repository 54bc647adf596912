"""The record of calls: every call is on it, nobody can change it unseen, and it agrees with what happened."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from knhk.errors import StoreUnavailable
from knhk.ports import Document
from knhk.server import audit
from knhk.server.audit import ENTRIES, AuditLog
from knhk.server.chain import sign, verify
from knhk.server.record import LINKS, Entry
from knhk.server.serving import AUDIT_KEY_FILE
from knhk.stores import MemoryStore
from tests.served import Served, served

KEY = b"k" * 64


def entry(number: int) -> Entry:
    """A call."""
    return Entry(at=number, tenant="default", subject=f"user-{number}", operation="case.get", resource="r", outcome=200)


def written(count: int, writers: int = 2) -> list[str]:
    """The export of a record of so many calls on each of some chains."""
    store = MemoryStore()
    logs = [AuditLog(store, f"w{number}", KEY, now=lambda: 1) for number in range(writers)]
    for log in logs:
        for number in range(count):
            log.add(entry(number))
            if number % 7 == 6:
                log.seal()
        log.seal()
    return list(logs[0].record.export())


def test_untouched_record_is_intact() -> None:
    """A record is as it was written, and another key says nothing of it."""
    lines = written(40)

    assert 82 == len(lines)
    assert [] == verify(lines, KEY)
    assert verify(lines, b"another key")


def test_thousand_changes() -> None:
    """Each of a thousand random edits, deletions, swaps, insertions and truncations is found."""
    chance = random.Random(7)
    lines = sorted(written(40), key=lambda each: '"head"' in each)
    heads = {
        tree["writer"]: (tree["head"]["sequence"], tree["head"]["hash"])
        for tree in map(json.loads, lines)
        if "head" in tree
    }
    missed = []
    for number in range(1000):
        changed = list(lines)
        kind = ("edit", "delete", "swap", "insert", "cut", "cut with head")[number % 6]
        place = chance.randrange(80)
        if kind == "edit":
            tree = json.loads(changed[place])
            member = chance.choice(sorted(tree["entry"]))
            old = tree["entry"][member]
            tree["entry"][member] = old + 1 if isinstance(old, int) else f"{old}x"
            changed[place] = json.dumps(tree)
        elif kind == "delete":
            del changed[place]
        elif kind == "swap":
            other = (place + chance.randrange(1, 40)) % 40 + 40 * (place // 40)
            changed[place], changed[other] = changed[other], changed[place]
        elif kind == "insert":
            changed.insert(place, changed[chance.randrange(80)])
        elif kind == "cut":
            writer = json.loads(changed[place])["writer"]
            keep = json.loads(changed[place])["sequence"]
            changed = [
                each
                for each in changed
                if json.loads(each)["writer"] != writer or json.loads(each).get("sequence", 0) < keep
            ]
        else:
            # Whoever has the store and not the key puts an older head back, with its own signature.
            keep = chance.randrange(1, 40)
            older = [
                each
                for each in lines
                if json.loads(each)["writer"] == "w0" and json.loads(each).get("sequence", 99) <= keep
            ]
            last = json.loads(older[-1])
            head = {"sequence": keep, "hash": last["hash"], "signature": sign(KEY, "w0", keep, last["hash"])}
            changed = [
                *older,
                *(each for each in lines if json.loads(each)["writer"] != "w0"),
                json.dumps({"writer": "w0", "head": head}),
            ]
        if not verify(changed, KEY, kept=heads if kind == "cut with head" else None):
            missed.append((number, kind, place))

    assert [] == missed


@pytest.mark.parametrize(
    "line", ["", "{", "[]", "7", '{"writer":"w0"}', '{"writer":"w0","sequence":1}', '{"writer":"w0","head":7}']
)
def test_line_that_cannot_be_read(line: str) -> None:
    """A line that is none is told, and nothing breaks."""
    assert verify([*written(3), line], KEY)


def test_batches_of_a_full_buffer() -> None:
    """A full buffer makes callers wait, and loses nothing."""
    store = MemoryStore()
    log = AuditLog(store, "one", KEY, now=lambda: 1, most_waiting=5)
    log.start()
    threads = [threading.Thread(target=lambda: [log.add(entry(each)) for each in range(20)]) for _ in range(5)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    log.stop()

    assert 100 == sum(1 for _ in log.record.links())
    assert [] == verify(log.record.export(), KEY)


def test_two_instances_seal_one_store() -> None:
    """What several instances seal at once is in one chain each, once."""
    store = MemoryStore()
    logs = [AuditLog(store, f"w{number}", KEY, now=lambda: 1) for number in range(4)]

    def work(log: AuditLog) -> None:
        for number in range(50):
            log.add(entry(number))
            log.seal()

    threads = [threading.Thread(target=work, args=(each,)) for each in logs]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert 200 == sum(1 for _ in logs[0].record.links())
    assert [] == verify(logs[0].record.export(), KEY)


def test_what_another_left_is_sealed() -> None:
    """What an instance that ended left unsealed is sealed by whoever comes next."""
    store = MemoryStore()
    ended = AuditLog(store, "ended", KEY, now=lambda: 1)
    store.write([ended.entry(entry(1))])

    AuditLog(store, "next", KEY, now=lambda: 1).seal()

    assert [] == list(store.documents(ENTRIES))
    assert ["next"] == [writer for writer, _, _ in ended.record.links()]


class Failing(MemoryStore):
    """A store that fails while it is told to."""

    fails = False

    def write(self, documents: object, removed: object = ()) -> None:
        if self.fails:
            raise StoreUnavailable("gone")
        super().write(documents, removed)  # type: ignore[arg-type]


def test_store_that_fails() -> None:
    """What cannot be written waits, the failure is told, and when the store is back nothing is missing."""
    store = Failing()
    log = AuditLog(store, "one", KEY, now=lambda: 1)
    log.add(entry(1))
    store.fails = True
    log.start()
    while log.failure is None:
        pass
    store.fails = False
    while log.failure is not None:
        pass
    log.stop()

    assert 1 == sum(1 for _ in log.record.links())


# --- in the service -------------------------------------------------------------------------------------------------------


def recorded(service: Served) -> list[dict[str, object]]:
    """Every entry, in order."""
    assert service.made.audit is not None
    service.made.audit.seal()
    return [link["entry"] for _, _, link in service.made.audit.record.links()]


def test_every_call_is_on_record() -> None:
    """Calls are on record with who, what, about what, and what came of it; refused ones, and those of nobody, too."""
    with served() as service:
        service.register()
        case = service.case()
        service.ask(
            "GET",
            f"/cases/{case}",
            "viewer",
            sub="vic",
            headers={"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"},
        )
        service.ask("DELETE", "/workflows/order", "viewer", sub="vic")
        service.ask("GET", "/cases/nothing")
        service.ask("GET", "/nowhere")
        service.ask("GET", "/cases", bearer="a.b.c")
        service.client.simulate_get("/health")
        entries = recorded(service)

    assert [
        ("ann", "workflow.register", "order", 201),
        ("ann", "case.create", case, 201),
        ("vic", "case.get", case, 200),
        ("vic", "workflow.remove", "order", 403),
        ("ann", "case.get", "nothing", 404),
        ("ann", "none", "", 404),
        ("", "case.list", "", 401),
    ] == sorted_by_time(entries)
    assert "a" * 32 == next(each["trace"] for each in entries if each["subject"] == "vic")


def sorted_by_time(entries: list[dict[str, object]]) -> list[tuple[object, ...]]:
    """What entries say, in the order of the calls."""
    return [tuple(each[name] for name in ("subject", "operation", "resource", "outcome")) for each in entries]


def test_entry_of_a_change_is_in_its_commit() -> None:
    """The entry of a call that changes a case is stored in the transaction of the change."""
    commits: list[tuple[str, list[str]]] = []

    class Watching(MemoryStore):
        def commit(self, group: object) -> None:
            super().commit(group)  # type: ignore[arg-type]
            for each in group:  # type: ignore[attr-defined]
                commits.append(
                    (
                        each.header.state,
                        [json.loads(d.value)["operation"] for d in each.documents if d.collection == ENTRIES],
                    )
                )

    with served(store=Watching()) as service:
        service.register()
        case = service.case(start=False)
        service.ask("POST", f"/cases/{case}/start")
        item = service.item(case)
        service.ask("POST", f"/workitems/{item}/start")
        service.ask("POST", f"/workitems/{item}/complete", body={})
        service.ask("POST", f"/cases/{case}/suspend")
        service.ask("POST", f"/cases/{case}/resume")
        service.ask("POST", f"/cases/{case}/execute")
        service.ask("POST", f"/cases/{case}/cancel")
        service.ask("POST", f"/cases/{case}/cancel")
        entries = [each["operation"] for each in recorded(service)]

    assert [
        ("created", ["case.create"]),
        ("running", ["case.start"]),
        ("running", ["item.start"]),
        ("running", ["item.complete"]),
        ("suspended", ["case.suspend"]),
        ("running", ["case.resume"]),
        ("cancelled", ["case.cancel"]),
    ] == commits
    assert 1 == entries.count("case.start")
    assert 2 == entries.count("case.cancel")
    assert 1 == entries.count("case.execute")


def test_change_that_failed_is_on_record_as_that() -> None:
    """A change that the store refused leaves one entry, with its outcome."""

    class Refusing(MemoryStore):
        refuses = False

        def commit(self, group: object) -> None:
            if self.refuses:
                raise StoreUnavailable("gone")
            super().commit(group)  # type: ignore[arg-type]

    store = Refusing()
    with served(store=store) as service:
        service.register()
        case = service.case(start=False)
        store.refuses = True
        service.ask("POST", f"/cases/{case}/start")
        store.refuses = False
        outcomes = [each["outcome"] for each in recorded(service) if each["operation"] == "case.start"]

    assert [503] == outcomes


def test_record_is_read_and_verified() -> None:
    """An auditor reads the record, a page at a time and filtered, and hears whether it is intact."""
    with served() as service:
        service.register()
        for _ in range(5):
            service.ask("GET", "/cases", sub="vic")
        assert service.made.audit is not None
        service.made.audit.seal()
        seen, query = [], "limit=2&subject=vic"
        while True:
            page = service.ask("GET", "/audit", "auditor", query_string=query).json
            seen += page["items"]
            if page["next"] is None:
                break
            query = f"limit=2&subject=vic&cursor={page['next']}"
        by_operation = service.ask("GET", "/audit", "auditor", query_string="operation=workflow.register").json["items"]
        verdict = service.ask("GET", "/audit/verify", "auditor").json

    assert 5 == len(seen) == len({each["sequence"] for each in seen})
    assert 1 == len(by_operation)
    assert verdict["intact"]
    assert "one" in verdict["heads"]


def test_tampering_in_the_store_is_found() -> None:
    """Whoever changes a link in the store is found out."""
    with served() as service:
        service.ask("GET", "/cases")
        assert service.made.audit is not None
        service.made.audit.seal()
        store = service.made.store
        link = store.documents(LINKS)[0]
        store.write(
            [
                Document(
                    collection=link.collection,
                    key=link.key,
                    value=link.value.replace("ann", "bob"),
                    version=link.version + 1,
                )
            ]
        )

        verdict = service.ask("GET", "/audit/verify", "auditor").json

    assert not verdict["intact"]
    assert "link 1" in verdict["problems"][0]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/audit", "/audit/verify"])
def test_record_cannot_be_written(method: str, path: str) -> None:
    """There is no way to write the record but to call."""
    with served() as service:
        assert 405 == service.ask(method, path).status_code


def test_commands(tmp_path: Path) -> None:
    """The record is exported and verified without the service; a changed line and a head that was cut off behind are found."""
    with served(state_path=str(tmp_path)) as service:
        service.register()
        head = service.ask("GET", "/audit/verify").json["heads"]["one"]
    environment = {"WORKFLOW_STATE_PATH": str(tmp_path), "PATH": "", "HOME": str(tmp_path)}

    def knhk(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "knhk", "audit", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    file = tmp_path / "record"
    file.write_text(knhk("export").stdout)
    kept = f"one:{head['sequence']}:{head['hash']}"
    changed = tmp_path / "changed"
    changed.write_text(file.read_text().replace("ann", "bob", 1))

    assert 0 == knhk("verify", str(file)).returncode
    assert 0 == knhk("verify", str(file), "--head", kept, "--key", str(tmp_path / AUDIT_KEY_FILE)).returncode
    assert (1, True) == (knhk("verify", str(changed)).returncode, "link 1" in knhk("verify", str(changed)).stdout)
    assert 1 == knhk("verify", str(file), "--head", f"one:1:{'0' * 64}").returncode
    assert 2 == knhk("verify", str(file), "--head", "one").returncode
    assert 0 != knhk("verify", str(tmp_path / "nothing")).returncode
