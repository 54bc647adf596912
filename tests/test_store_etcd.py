"""The store on etcd: every sentence of the port on a real cluster, and what a cluster, a network and their settings can do."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trustme
from killed import acknowledged_under_kills
from relay import Relay, relay
from servers import EtcdServer, free_port, running

from knhk import Engine, build
from knhk.errors import (
    ConcurrentUpdate,
    IdempotencyConflict,
    KnhkError,
    QuarantinedCase,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from knhk.ports import Commit, Document, Durability, Store
from knhk.stores import _etcd_layout as layout
from knhk.stores import _etcd_messages as messages
from knhk.stores import open_store
from knhk.stores._etcd_layout import behind
from knhk.stores._etcd_channel import Refused
from knhk.stores._etcd_link import Compacted, Link, read_address
from knhk.stores._etcd_messages import LOGIN, RANGE, TRANSACTION, Method, api
from knhk.stores._etcd_plan import Plan
from knhk.stores._etcd_writer import Overtaken
from knhk.stores._group import Caller
from knhk.stores._lost import Lost
from knhk.stores.etcd import EtcdStore
from knhk.testing import scenarios
from knhk.testing.store_conformance import ORDER, StoreConformance, item, step

SCENARIOS = Path(__file__).parent / "data" / "patterns" / "cases_public.json"
NAMESPACES = itertools.count()
# Questions with a number in their first field, as that for a lease is, whose answers nobody looks at.
REVOKE, COMPACT = (Method(name, api.StatusResponse) for name in ("Lease/LeaseRevoke", "KV/Compact"))
LARGE = "x" * 1_200_000
"""A value that is in three pieces."""


def own(url: str) -> str:
    """The URL with a namespace that no other test has, whichever process runs it."""
    return f"{url}?namespace=t{os.getpid()}-{next(NAMESPACES)}"


@pytest.fixture
def url(etcd: str) -> str:
    """A namespace of the shared server."""
    return own(etcd)


@pytest.fixture
def store(url: str) -> Iterator[EtcdStore]:
    """A store with a specification and one case."""
    made = EtcdStore(url)
    made.put_specification(ORDER)
    made.commit([step("a")])
    yield made
    made.close()


@pytest.fixture
def other(store: EtcdStore, url: str) -> Iterator[EtcdStore]:
    """Another store on the same namespace."""
    made = EtcdStore(url)
    yield made
    made.close()


def document(value: str = "v", version: int = 1, **changes: Any) -> Document:
    """A document of a key that all tests use."""
    return Document(collection="box", key="k", value=value, version=version, **changes)


class TestEtcdStore(StoreConformance):
    """The contract."""

    @pytest.fixture(autouse=True)
    def _server(self, etcd: str) -> None:
        self.url = own(etcd)

    def make_store(self, directory: Path) -> Store:
        return EtcdStore(self.url)

    def reopen(self, store: Store) -> Store:
        store.close()
        return EtcdStore(self.url)


def test_scenarios_with_eviction(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The 95 scenarios play as written when the case is loaded anew from etcd after every step."""
    status = scenarios.main([str(SCENARIOS), "--store", url, "--evict"])

    assert "95 passed, 0 failed\n" == capsys.readouterr().out
    assert 0 == status


# --- what is remembered -----------------------------------------------------------------------------------------------


def test_another_instance_moves_a_case(store: EtcdStore, other: EtcdStore) -> None:
    """What another instance did to a case, its items and documents is found out, though this one remembers otherwise."""
    store.commit([step("a", 1, items=[item("a", 1), item("a", 2)])])
    store.write([document(due=1)])
    other.commit([step("a", 2, items=[item("a", 1, by="eve"), item("a", 3)], closed=[2])])
    other.write([document("w", 2, due=2)])
    with pytest.raises(ConcurrentUpdate):
        store.commit([step("a", 2)])
    with pytest.raises(ConcurrentUpdate):
        store.write([document("w", 2)])

    store.commit([step("a", 3, closed=[1, 3])])
    store.write([], [document("w", 2)])
    assert not store.items()
    assert not store.items(by="eve")
    assert not store.documents("box", due=9)
    assert [4] == [each.version for each in other.cases()]


def test_one_step_of_a_known_case_is_one_request(store: EtcdStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of a case, and a write of a document, that this store moved last take one request."""
    store.commit([step("a", 1, items=[item("a", 1)])])
    store.write([document(due=1)])
    tell, methods = store._link.tell, []
    monkeypatch.setattr(store._link, "tell", lambda method, sent: methods.append(method) or tell(method, sent))
    store.commit([step("a", 2, items=[item("a", 2)], closed=[1])])
    store.write([document("w", 2)])

    assert [TRANSACTION] * 2 == methods


def test_case_that_is_created_again(store: EtcdStore, other: EtcdStore) -> None:
    """A creation takes for granted that there is no such case or key, and is refused where there is."""
    with pytest.raises(ConcurrentUpdate):
        other.commit([step("a")])
    store.commit([step("b", key=("key", "d"))])
    with pytest.raises(IdempotencyConflict):
        other.commit([step("c", key=("key", "d"))])
    with pytest.raises(ConcurrentUpdate):
        other.write([document(), document("w", 1, due=3)])

    assert ["a", "b"] == [each.case_id for each in other.cases()]


def test_quarantine_races_with_a_step(store: EtcdStore, other: EtcdStore) -> None:
    """A case that another instance has set aside takes no step; what sets one aside sees all its rows, whoever wrote them."""
    store.commit([step("a", 1, items=[item("a", 1), item("a", 2)])])
    other.commit([step("a", 2, items=[item("a", 3)])])
    aside = step("a", 3, items=[item("a", 4)], closed=[1])
    with pytest.raises(QuarantinedCase):
        store.commit([attrs.evolve(aside, header=attrs.evolve(aside.header, quarantined="why")), step("a", 4)])
    store.commit([attrs.evolve(aside, header=attrs.evolve(aside.header, quarantined="why"))])

    assert not other.items()
    assert [2, 3, 4] == [each.number for each in other.whole("a").items]
    with pytest.raises(QuarantinedCase, match="why"):
        other.commit([step("a", 4)])


# --- more than etcd takes at a time -----------------------------------------------------------------------------------


def test_more_cases_than_a_transaction_has_operations(store: EtcdStore, other: EtcdStore) -> None:
    """Hundreds of cases are created, and moved, by one call, all or none."""
    names = [f"{number:04}" for number in range(300)]
    store.commit([step(each, items=[item(each)], key=(each, "d"), due=1, runnable=True) for each in names])
    other.commit([step("0150", 1)])
    with pytest.raises(ConcurrentUpdate):
        store.commit([step(each, 1, closed=[1]) for each in names])
    assert 300 == len(store.items(limit=1000))
    store.commit([step(each, 2 if each == "0150" else 1, closed=[1]) for each in names])

    assert not store.items()
    assert not store.runnable()
    assert 301 == len(store.cases(limit=1000)) == 1 + len(store.idempotency_keys(limit=1000))


def test_step_that_is_too_large(store: EtcdStore) -> None:
    """A step that no request can hold is refused with the limit, and nothing of it is stored."""
    rows = [attrs.evolve(item("a", number), path="x" * 1000) for number in range(1, 1000)]
    with pytest.raises(StoreError, match="too large"):
        store.commit([step("a", 1, items=rows)])

    assert 1 == store.header("a").version
    assert not store.items()


def test_cluster_that_takes_few_operations() -> None:
    """The URL says how many operations a transaction may have; where the cluster takes fewer, it is said what to do."""
    with running(EtcdServer("--max-txn-ops", "16")) as server:
        store = EtcdStore(f"{server.url}?max_txn_ops=16")
        store.put_specification(ORDER)
        names = [f"{number:02}" for number in range(12)]
        store.commit([step(each, items=[item(each)]) for each in names])
        with pytest.raises(ConcurrentUpdate):
            store.commit([step(each, 1) for each in names] + [step("00", 9)])
        assert names == [each.case_id for each in store.items()]
        with pytest.raises(StoreError, match="max-txn-ops"):
            store.commit([step(f"{number:05}", items=[item(f"{number:05}")]) for number in range(900)])
        store.close()
        wrong = EtcdStore(server.url)
        with pytest.raises(StoreError, match="max_txn_ops= what it has, not 128"):
            wrong.commit([step(f"{number:02}") for number in range(30, 60)])
        assert 12 == len(wrong.cases())
        wrong.close()


def test_value_in_pieces(store: EtcdStore) -> None:
    """A large value is read as it was written, and its pieces go when it is changed or removed."""
    store.write([document(LARGE)])
    assert document(LARGE) == store.document("box", "k")
    store.write([document(LARGE + "y", 2), document(LARGE + "z", 3)])
    assert document(LARGE + "z", 3) == store.document("box", "k")
    assert 3 == len(kept(store))
    store.write([], [document(version=3)])
    assert not kept(store)
    store.commit([step("a", 1, LARGE.encode(), snapshot=LARGE.encode())])
    store.commit([step("a", 2, snapshot=b"small")])

    assert LARGE.encode() == store.history("a")[1]
    assert b"small" == store.load("a").snapshot
    # Those of the batch.
    assert 3 == len(kept(store))


def test_pieces_of_a_refused_step(store: EtcdStore, other: EtcdStore) -> None:
    """Pieces whose step is refused stay under a lease, which ends; those of a step that is stored stay for good."""
    other.commit([step("a", 1)])
    with pytest.raises(ConcurrentUpdate):
        store.commit([step("a", 1, LARGE.encode())])
    assert pieces(store)
    assert all(each.lease for each in pieces(store))
    lost = {each.key for each in pieces(store)}
    store.commit([step("a", 2, LARGE.encode())])

    assert {each.key for each in kept(store)} == {each.key for each in pieces(store)} - lost


def test_piece_that_is_missing(store: EtcdStore) -> None:
    """A value of which a piece is gone is reported, and never read as a shorter one."""
    store.write([document(LARGE)])
    store._link.ask(TRANSACTION, messages.transaction((), [messages.delete(pieces(store)[1].key)]))

    with pytest.raises(StoreError, match="damaged"):
        store.document("box", "k")


def pieces(store: EtcdStore) -> list[api.KeyValue]:
    """The pieces that are stored."""
    first = store._keys.key("y")
    return store._link.ask(RANGE, messages.keys_from(first, behind(first))).kvs


def kept(store: EtcdStore) -> list[api.KeyValue]:
    """The pieces that stay: those that no lease ends."""
    return [each for each in pieces(store) if not each.lease]


# --- lost answers -----------------------------------------------------------------------------------------------------


@pytest.fixture
def lossy(etcd: str) -> Iterator[Relay]:
    """A way to the shared server that loses answers."""
    with relay(read_address(etcd).servers[0][1]) as made:
        yield made


def test_step_whose_answer_is_lost_is_stored_once(lossy: Relay) -> None:
    """A commit whose answer is lost is stored once and acknowledged, and so is the next."""
    store = EtcdStore(own(f"etcd://127.0.0.1:{lossy.port}"))
    store.put_specification(ORDER)
    for expected in range(30):
        lossy.losing = expected % 3
        store.commit([step("a", expected, key=("key", "d") if not expected else None)])
    lossy.losing = 1
    store.write([document()])

    assert 31 == lossy.lost
    assert 30 == len(store.history("a"))
    assert document() == store.document("box", "k")
    store.close()


def test_group_whose_answer_is_lost(lossy: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of callers whose one answer is lost each is told his own outcome, and is stored once or not at all."""
    store = EtcdStore(own(f"etcd://127.0.0.1:{lossy.port}"))
    store.put_specification(ORDER)
    store.commit([step(f"case {number}") for number in range(8)])
    gathered = store._groups._gather

    def losing(group: list[Any]) -> None:
        gathered(group)
        lossy.losing = 1

    monkeypatch.setattr(store._groups, "_gather", losing)
    told: dict[int, list[str]] = {number: [] for number in range(8)}

    def outcome(commit: Commit) -> str:
        while True:
            try:
                store.commit([commit])
            except ConcurrentUpdate:
                return "refused"
            except StoreUnavailable:
                # The greeting on a new connection was lost, or twice the answer to what was read before the step: nothing
                # was sent. Of a step that was, and is stored, the next attempt would say that it is refused.
                continue
            return "stored"

    def work(number: int) -> None:
        for expected in range(1, 9):
            told[number] += [outcome(step(f"case {number}", expected)) for _ in range(2)]

    threads = [threading.Thread(target=work, args=(number,)) for number in told]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert {number: ["stored", "refused"] * 8 for number in told} == told
    assert [9] * 8 == [len(store.history(f"case {number}")) for number in told]
    assert lossy.lost > 8
    store.close()


def test_request_that_arrives_late(store: EtcdStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that arrives when its writer has gone on changes nothing."""
    tell, sent = store._link.tell, []
    monkeypatch.setattr(store._link, "tell", lambda method, each: sent.append(each) or tell(method, each))
    store.write([document()])
    store.write([], [document()])
    before = store.documents("box")
    tell(TRANSACTION, sent[0])

    assert () == before == store.documents("box")


def test_interrupt_while_waiting_for_the_answer(store: EtcdStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is interrupted when the cluster has the step already, leaves it stored once, and the store usable."""
    tell, calls = store._link.tell, []

    def interrupted(method: Method[Any], sent: Any) -> Any:
        calls.append(tell(method, sent))
        if len(calls) == 1:
            raise KeyboardInterrupt
        return calls[-1]

    monkeypatch.setattr(store._link, "tell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.commit([step("a", 1)])
    store.commit([step("a", 2)])

    assert [b"a/1", b"a/2", b"a/3"] == list(store.history("a"))


def test_leader_is_interrupted(store: EtcdStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is interrupted when the cluster has the group already, sees to it that the others are told, refusals included."""
    tell, calls = store._link.tell, []

    def interrupted(method: Method[Any], sent: Any) -> Any:
        calls.append(tell(method, sent))
        if len(calls) == 1:
            raise KeyboardInterrupt
        return calls[-1]

    monkeypatch.setattr(store._link, "tell", interrupted)
    good, bad = store._keys.key("d", "good"), store._keys.key("d", "bad")
    callers = [Caller((), Plan({good: 0}, {good: b"x"})), Caller((), Plan({bad: 7}, {bad: b"x"}))]
    with pytest.raises(KeyboardInterrupt):
        store._writer.write(callers)

    assert [True, True] == [each.settled for each in callers]
    assert [None, Overtaken] == [each.error and type(each.error) for each in callers]


def test_plans_that_depend_on_each_other(store: EtcdStore) -> None:
    """Plans of which one changes what another depends on are not in one request, where neither would see the other."""
    one, two, three = (store._keys.key("d", each) for each in "abc")
    first, second, third = Plan({one: 0}, {two: b"x"}), Plan({two: 0}, {one: b"x"}), Plan({three: 0}, {three: b"x"})
    callers = [Caller((), each) for each in (first, second, third)]

    taken, left = store._writer._take(callers)
    assert ([first, third], [second]) == ([each.prepared for each in taken], [each.prepared for each in left])
    store._writer.write(callers)
    assert [None, Overtaken, None] == [each.error and type(each.error) for each in callers]


def test_answer_that_never_comes(lossy: Relay) -> None:
    """Where no answer comes in time, the caller is told that nobody knows; the next step goes on from what is so."""
    store = EtcdStore(own(f"etcd://127.0.0.1:{lossy.port}"))
    store.put_specification(ORDER)
    store.commit([step("a")])
    store._link.timeout = 0.1
    lossy.losing = 1_000_000
    with pytest.raises(StoreUnavailable, match="not known"):
        store.commit([step("a", 1)])
    with pytest.raises(StoreUnavailable):
        store.header("a")
    lossy.losing = 0

    assert 2 == store.header("a").version
    store.commit([step("a", 2)])
    store.close()


def test_what_a_writer_leaves_behind_is_gone(store: EtcdStore) -> None:
    """A store whose lease has ended, and whose mark with it, takes another, and goes on."""
    store._link.ask(REVOKE, api.LeaseGrantRequest(ttl=store._writer._lease))
    store.commit([step("a", 1)])
    store._link.ask(TRANSACTION, messages.transaction((), [messages.delete(store._writer._key)]))
    store.commit([step("a", 2)])

    assert 3 == store.header("a").version


def test_revision_that_was_compacted_away(store: EtcdStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What several requests read is read again where the cluster has forgotten the revision of the first."""
    for expected in range(1, 120):
        store.commit([step("a", expected)])
    ask, forgotten = store._link.ask, []

    def compacting(method: Method[Any], sent: Any) -> Any:
        answer = ask(method, sent)
        if method is TRANSACTION and not forgotten:
            forgotten.append(method)
            store.write([document()])
            ask(COMPACT, api.LeaseGrantRequest(ttl=answer.header.revision + 1))
        return answer

    monkeypatch.setattr(store._link, "ask", compacting)
    assert 120 == len(store.load("a").batches)

    def always(method: Method[Any], sent: Any) -> Any:
        raise Compacted("compacted")

    monkeypatch.setattr(store._link, "ask", always)
    with pytest.raises(ConcurrentUpdate, match="100 times"):
        store.load("a")


def test_others_are_always_faster(store: EtcdStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is overtaken again and again gives up, and nothing is stored."""
    monkeypatch.setattr(store, "_write", lambda *_: False)
    calls = (
        lambda: store.commit([step("a", 1)]),
        lambda: store.quarantine("a", "why"),
        lambda: store.put_specification(attrs.evolve(ORDER, version="2")),
    )
    for call in calls:
        with pytest.raises(ConcurrentUpdate, match="100 times"):
            call()


def test_registrations_race(store: EtcdStore, other: EtcdStore) -> None:
    """Specifications that are registered at the same time all get a place in the order, each once."""

    def register(through: EtcdStore, first: int) -> None:
        for number in range(first, first + 8):
            through.put_specification(attrs.evolve(ORDER, version=str(number)))

    threads = [threading.Thread(target=register, args=(each, 2 + 4 * at)) for at, each in enumerate((store, other))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert {str(number) for number in range(1, 14)} == {each.version for each in store.specifications()}
    assert 13 == len(store.specifications())


# --- servers that end -------------------------------------------------------------------------------------------------


def test_server_is_killed_and_started_again(own_etcd: EtcdServer) -> None:
    """A server that is killed at any moment loses no acknowledged step, and callers go on by themselves when it is back."""
    store = EtcdStore(own_etcd.url, timeout_ms=60_000)
    acknowledged = acknowledged_under_kills(store, own_etcd, kills=3)
    store.close()

    store = EtcdStore(own_etcd.url)
    assert acknowledged == [len(store.history(f"case {number}")) for number in range(4)]
    store.close()


def test_server_that_is_away(own_etcd: EtcdServer) -> None:
    """Without a server every call raises StoreUnavailable; with it back the same store works."""
    store = EtcdStore(own_etcd.url)
    store.put_specification(ORDER)
    own_etcd.stop(signal.SIGKILL)
    for call in (lambda: store.commit([step("a")]), store.cases, lambda: store.write([document()])):
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            call()
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        EtcdStore(own_etcd.url)
    own_etcd.start()
    store.commit([step("a")])

    assert ["a"] == [each.case_id for each in store.cases()]
    store.close()


def test_other_servers_of_the_cluster(etcd: str) -> None:
    """A server of the URL that takes no connection is passed over."""
    address = etcd.replace("//", f"//127.0.0.1:{free_port()},")
    store = EtcdStore(own(address))
    store.put_specification(ORDER)

    assert [ORDER] == list(store.specifications())
    store.close()


# --- what a cluster refuses -------------------------------------------------------------------------------------------


def test_quota_is_used_up() -> None:
    """At the quota a commit raises StoreFull and stores nothing, and reading goes on."""
    with running(EtcdServer("--quota-backend-bytes", "1000000")) as server:
        store = EtcdStore(server.url)
        store.put_specification(ORDER)
        expected = 0
        with pytest.raises(StoreFull, match="no space"):
            while True:
                store.commit([step("a", expected, b"x" * 30_000)])
                expected += 1

        assert expected == store.header("a").version
        store.close()


def test_step_with_which_the_quota_is_used_up(store: EtcdStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that etcd makes, and says all the same that it has no space for, is stored once and acknowledged."""
    tell = store._link.tell

    def full(method: Method[Any], sent: Any) -> Any:
        answer = tell(method, sent)
        if method is TRANSACTION and sent.success and sent.success[0].HasField("request_put"):
            raise StoreFull("no space")
        return answer

    monkeypatch.setattr(store._link, "tell", full)
    store.commit([step("a", 1)])

    assert [b"a/1", b"a/2"] == list(store.history("a"))


def test_cluster_that_does_not_sync() -> None:
    """A cluster that is seen not to sync is refused for full, and taken for less."""
    with running(EtcdServer("--unsafe-no-fsync")) as server:
        with pytest.raises(StoreError, match="unsafe-no-fsync"):
            open_store(server.url)
        open_store(server.url, durability="normal").close()


def test_what_cannot_be_seen_of_a_server(store: EtcdStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that does not tell how often it syncs is taken at its word; one that is too old is refused."""
    calls = []
    monkeypatch.setattr(store._link, "_syncs", lambda: None)
    store._link.check(Durability.FULL, lambda: calls.append(1))
    monkeypatch.setattr(store._link, "ask", lambda method, sent: api.StatusResponse(version="3.3.27"))
    with pytest.raises(StoreError, match=r"etcd 3\.3: 3\.4 or newer"):
        store._link.check(Durability.OFF, lambda: calls.append(2))

    assert [1] == calls


def test_syncs_that_are_not_told(own_etcd: EtcdServer) -> None:
    """A server whose figures are elsewhere, or that is away, tells nothing of its syncs."""
    store = EtcdStore(own_etcd.url)
    assert store._link._syncs()
    own_etcd.stop()

    assert store._link._syncs() is None
    store.close()


def test_login(own_etcd: EtcdServer) -> None:
    """User and password of the URL log in, and again when the token has ended; others are refused without a word of them."""
    for path, body in (
        ("user/add", {"name": "root", "password": "p@ss"}),
        ("user/grant", {"user": "root", "role": "root"}),
        ("auth/enable", {}),
    ):
        place = f"http://127.0.0.1:{own_etcd.port}/v3/auth/{path.removeprefix('auth/')}"
        urllib.request.urlopen(urllib.request.Request(place, json.dumps(body).encode()), timeout=30).close()
    store = EtcdStore(own_etcd.url.replace("//", "//root:p%40ss@"))
    store.put_specification(ORDER)
    store._link._servers[0].token = "old"
    store.commit([step("a")])
    assert ["a"] == [each.case_id for each in store.cases()]
    for login in ("", "root:secret@"):
        with pytest.raises(StoreError, match="refuses this user") as caught:
            EtcdStore(own_etcd.url.replace("//", f"//{login}"))
        assert "secret" not in str(caught.value)
    store.close()


def test_login_that_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose login has ended again when he has just logged in, is refused."""
    link, calls = Link(read_address("etcd://eve:p@host"), 1), []

    def call(method: Method[Any], message: Any) -> Any:
        calls.append(method)
        if method is LOGIN:
            return api.AuthenticateResponse(token="token")
        raise Refused("etcdserver: invalid auth token", judged=True)

    monkeypatch.setattr(link._servers[0], "call", call)
    with pytest.raises(StoreError, match="refuses this user"):
        link.ask(RANGE, messages.keys_from(b"k"))

    assert [LOGIN, RANGE] * 2 == calls


def test_tls(tmp_path: Path) -> None:
    """etcds:// talks TLS, with a certificate where it is asked for, and only to a server that a trusted authority vouches for."""
    authority, stranger = trustme.CA(), trustme.CA()
    server_side, client_side = authority.issue_cert("127.0.0.1"), authority.issue_cert("client@knhk.test")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    stranger.cert_pem.write_to_path(tmp_path / "other.pem")
    for name, issued in (("server", server_side), ("client", client_side)):
        issued.private_key_pem.write_to_path(tmp_path / f"{name}-key.pem")
        issued.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
    server, port = EtcdServer(), free_port()
    server.options = (
        *("--listen-client-urls", f"http://127.0.0.1:{server.port},https://127.0.0.1:{port}", "--client-cert-auth"),
        *("--cert-file", str(tmp_path / "server.pem"), "--key-file", str(tmp_path / "server-key.pem")),
        *("--trusted-ca-file", str(tmp_path / "ca.pem")),
    )
    certificate = f"ssl_certfile={tmp_path}/client.pem&ssl_keyfile={tmp_path}/client-key.pem"
    with running(server):
        store = EtcdStore(f"etcds://127.0.0.1:{port}?ssl_ca_certs={tmp_path}/ca.pem&{certificate}")
        store.put_specification(ORDER)
        assert [ORDER] == list(store.specifications())
        store.close()
        for wrong in (f"ssl_ca_certs={tmp_path}/other.pem&{certificate}", f"ssl_ca_certs={tmp_path}/ca.pem"):
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                EtcdStore(f"etcds://127.0.0.1:{port}?{wrong}")


@pytest.mark.parametrize("files", ["ssl_ca_certs=/none.pem", f"ssl_certfile={__file__}"])
def test_files_that_are_no_certificates(files: str) -> None:
    """Files that cannot be used for TLS are named, before anything is sent."""
    with pytest.raises(StoreError, match=f"{files.partition('=')[0]} cannot be used"):
        EtcdStore(f"etcds://127.0.0.1:1?{files}")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("etcdserver: mvcc: database space exceeded", StoreFull),
        ("etcdserver: no leader", StoreUnavailable),
        ("etcdserver: too many requests", StoreUnavailable),
        ("etcdserver: permission denied", StoreError),
        ("etcdserver: mvcc: required revision has been compacted", Compacted),
        ("etcdserver: duplicate key given in txn request", StoreError),
        ("", StoreError),
    ],
)
def test_errors_are_translated(store: EtcdStore, said: str, kind: type[KnhkError]) -> None:
    """Each kind of refusal becomes its kind of StoreError."""
    assert kind is type(store._link._translated(said, judged=True))


def test_request_that_timed_out_in_the_cluster(store: EtcdStore) -> None:
    """Of a request that the cluster gave up on nobody knows whether it was made."""
    assert Lost is type(store._link._translated("etcdserver: request timed out", judged=False))


def test_layout_of_a_newer_version(store: EtcdStore, url: str) -> None:
    """A namespace that a newer version has written is refused."""
    changes = [messages.put(store._keys.key("f"), b"%d" % (layout.FORMAT + 1))]
    store._link.ask(TRANSACTION, messages.transaction((), changes))
    with pytest.raises(StoreError, match="newer KNHK"):
        EtcdStore(url)


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "etcd://u:secret@host:port",
        "etcd://u:secret@host/0",
        "etcd://u:secret@host?space=x",
        "etcd://u:secret@host?namespace={x}",
        "etcd://u:secret@host?namespace=a&namespace=b",
        "etcd://u:secret@host?max_txn_ops=many",
        "etcd://u:secret@host?max_txn_ops=15",
        "etcd://u:secret@host?ssl_ca_certs=ca.pem",
        "etcd://u:secret@host?namespace",
    ],
)
def test_addresses_that_are_refused(url: str) -> None:
    """What is wrong with a URL is said without its password."""
    with pytest.raises(StoreError) as caught:
        open_store(url)

    assert "secret" not in str(caught.value)


def test_address_in_full() -> None:
    """Every part of a URL arrives, the password is not shown."""
    address = read_address("ETCDS://eve:p%40ss@a:1,b?namespace=orders&max_txn_ops=512&ssl_ca_certs=/ca")

    assert ("etcds://a:1,b:2379", "orders", 512, True) == (
        address.shown,
        address.namespace,
        address.operations,
        address.secure,
    )
    assert (("a", 1), ("b", 2379)) == address.servers
    assert ("eve", "p@ss", {"ssl_ca_certs": "/ca"}) == (address.user, address.password, address.files)
    assert "p@ss" not in repr(address)
    assert "etcd://localhost:2379" == read_address("etcd://").shown


def test_half_characters(store: EtcdStore) -> None:
    """A text that is no Unicode and a number beyond 64 bits are refused and change nothing."""
    for bad in (step("b", due=2**63), step("b\ud800", batch=b"x"), step("b", key=("\udfff", "d"))):
        with pytest.raises(StoreError, match="cannot be stored"):
            store.commit([step("a", 1), bad])

    assert [1] == [each.version for each in store.cases()]


def test_library_is_not_installed() -> None:
    """Without the extra the store says how to install it."""
    code = "import sys; sys.modules['grpc'] = None\nfrom knhk.stores import open_store\nopen_store('etcd://host')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert "pip install 'knhk[etcd]'" in done.stderr


def test_engine_on_etcd(url: str) -> None:
    """An engine opens the store by its URL, and another goes on with its cases."""
    net = build("hello")
    net.sequence(net.start, net.task("greet", manual=True), net.end)
    with Engine(url) as engine:
        engine.register(net.specification())
        case_id = engine.create_case("hello").run().id
    with Engine(url) as engine:
        engine.case(case_id).complete_task("greet")

        assert "completed" == engine.case(case_id).state
