"""The store on Redis: every sentence of the port on a real server, and what a server, a network and their settings can do."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest
import trustme
from click.testing import CliRunner
from redis import exceptions
from killed import acknowledged_under_kills
from relay import Relay, relay
from servers import RedisServer, free_port, running

from knhk import Engine, build
from knhk.cli.app import knhk
from knhk.errors import ConcurrentUpdate, KnhkError, OwnershipLost, StoreError, StoreFull, StoreUnavailable
from knhk.server import serving
from knhk.server.configuration import load
from knhk.ports import Document, Durability, Store
from knhk.stores import open_store, without_password
from knhk.stores import _redis_link
from knhk.stores import _redis_scripts as scripts
from knhk.stores._group import Caller
from knhk.stores._redis_commit import COMMIT
from knhk.stores._redis_link import read_address, refuse_weaker
from knhk.stores._redis_words import add_step
from knhk.stores.redis import RedisStore
from knhk.testing import scenarios
from knhk.testing.store_conformance import ORDER, StoreConformance, item, step

SCENARIOS = Path(__file__).parent / "data" / "patterns" / "cases_public.json"
NAMESPACES = itertools.count()
SAFE = {
    "redis_version": "7.0.15",
    "maxmemory": "0",
    "maxmemory_policy": "noeviction",
    "aof_enabled": "1",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
}


def own(url: str) -> str:
    """The URL with a namespace that no other test has, whichever process runs it."""
    return f"{url}?namespace=t{os.getpid()}-{next(NAMESPACES)}"


@pytest.fixture
def url(redis: str) -> str:
    """A namespace of the shared server."""
    return own(redis)


@pytest.fixture
def store(url: str) -> Iterator[RedisStore]:
    """A store with a specification and one case."""
    made = RedisStore(url)
    made.put_specification(ORDER)
    made.commit([step("a")])
    yield made
    made.close()


class TestRedisStore(StoreConformance):
    """The contract."""

    @pytest.fixture(autouse=True)
    def _server(self, redis: str) -> None:
        self.url = own(redis)

    def make_store(self, directory: Path) -> Store:
        return RedisStore(self.url)

    def reopen(self, store: Store) -> Store:
        store.close()
        return RedisStore(self.url)


def test_scenarios_with_eviction(own_redis: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    """The 95 scenarios play as written when the case is loaded anew from Redis after every step."""
    own_redis.say("CONFIG SET appendfsync no")
    status = scenarios.main([str(SCENARIOS), "--store", own_redis.url, "--evict"])

    assert "95 passed, 0 failed\n" == capsys.readouterr().out
    assert 0 == status


# --- lost answers -----------------------------------------------------------------------------------------------------


@pytest.fixture
def lossy(redis: str) -> Iterator[Relay]:
    """A way to the shared server that loses answers."""
    with relay(read_address(redis).options["port"]) as made:
        yield made


def test_step_whose_answer_is_lost_is_stored_once(lossy: Relay) -> None:
    """A commit whose answer is lost is stored once and acknowledged, and so is the next; a document likewise."""
    store = RedisStore(own(f"redis://127.0.0.1:{lossy.port}/0"))
    store.put_specification(ORDER)
    for expected in range(60):
        # What a new connection is told when it is made comes first.
        lossy.losing = expected % 3
        store.commit([step("a", expected, key=("key", "d") if not expected else None)])
    lossy.losing = 1
    document = store_document(store)

    assert 61 == lossy.lost
    assert 60 == len(store.history("a"))
    assert document == store.document("box", "k")
    store.close()


def store_document(store: Store) -> Document:
    """Store a document and return it."""
    document = Document(collection="box", key="k", value="v")
    store.write([document])
    return document


def test_group_is_stored_once_however_often_it_is_sent(store: RedisStore) -> None:
    """A group that comes again is told what it was told, refusals included; one from before the last is refused."""
    words: list[bytes] = []
    add_step(words, step("a", 1))
    stale: list[bytes] = []
    add_step(stale, step("a", 1))
    command = (COMMIT, "writer", 7, 2, len(words), *words, len(stale), *stale)
    first = store._link.tell_script(*command)
    again = store._link.tell_script(*command)

    assert first == again == [0, [b"case", b"a", b"2", b"1"]]
    assert 2 == len(store.history("a"))
    with pytest.raises(StoreError, match="KNHKLATE"):
        store._link.tell_script(COMMIT, "writer", 6, 1, len(words), *words)


@pytest.mark.parametrize("together", [True, False])
def test_items_that_change_step_by_step(store: RedisStore, *, together: bool) -> None:
    """An item is in the lists that the last step left it in, in a group and alone; who is refused changes nothing."""
    taken = item("a", state="allocated", by="ann")
    steps = (
        step("a", 1, items=[item("a"), item("a", 2), item("a", 3)]),
        step("a", 1, items=[item("a", 4)]),
        step("a", 2, items=[taken], closed=[2, 3]),
        step("a", 3, items=[item("a", 3)], closed=[9]),
        step("\0", items=[item("\0"), item("\0", 2)], closed=[2]),
        step("\0", 1, items=[item("\0", 3), item("\0", 1, by="eve")], closed=[3]),
        step("\0", 2, items=[item("\0")]),
    )
    callers = [Caller([each], []) for each in steps]
    for each, caller in zip(steps, callers, strict=True):
        add_step(caller.prepared, each)
    for each in [callers] if together else [[caller] for caller in callers]:
        store._write(each)

    assert [None, ConcurrentUpdate, *[None] * 5] == [each.error and type(each.error) for each in callers]
    assert (item("\0"), taken, item("a", 3)) == store.items()
    assert (item("\0"), item("a", 3)) == store.items(state="offered")
    assert (taken,) == store.items(by="ann")
    assert () == store.items(by="eve")
    assert (item("\0"), item("a", 3)) == store.items(by="")


def test_step_that_is_alone_under_a_document(store: RedisStore) -> None:
    """A step that changes nothing but its case's version is held to documents as any other is."""
    first = store_document(store)
    under = attrs.evolve(step("a", 1, items=[item("a")]), held=(first,))
    store.commit([under])
    store.write([attrs.evolve(first, version=2)])
    late = attrs.evolve(step("a", 2, closed=[1]), held=(first,))
    missing = attrs.evolve(late, held=(Document(collection="box", key="none", value=""),))
    for each in (late, missing):
        with pytest.raises(OwnershipLost):
            store.commit([each])

    assert (2, (item("a"),)) == (store.header("a").version, store.items(case_id="a"))


def test_step_with_thousands_of_items(store: RedisStore) -> None:
    """A step may open and close more items than a script can say in one command."""
    store.commit([step("a", 1, items=[item("a", number) for number in range(5000)])])
    store.commit([step("a", 2, items=[item("a", 1, by="ann")], closed=range(2, 5000))])

    assert (item("a", 0), item("a", 1, by="ann")) == store.items(case_id="a")
    assert (item("a", 0),) == store.items(by="")


def test_two_groups_are_on_their_way(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group does not wait for the answer to the one before it, and each has a writer of its own."""
    tell, both, writers = store._link.tell_script, threading.Barrier(2, timeout=30), set()

    def meeting(script: scripts.Script, *words: object) -> object:
        writers.add(words[0])
        both.wait()
        return tell(script, *words)

    monkeypatch.setattr(store._link, "tell_script", meeting)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(store.commit, [each]) for each in (step("a", 1), step("b"))]:
            done.result()

    assert 2 == len(writers)
    assert (2, 1) == (store.header("a").version, store.header("b").version)


def test_interrupt_while_waiting_for_the_answer(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is interrupted when the server has the step already, leaves it stored once, and the store usable."""
    tell, calls = store._link.tell_script, []

    def interrupted(*arguments: object) -> object:
        calls.append(tell(*arguments))
        if len(calls) == 1:
            raise KeyboardInterrupt
        return calls[-1]

    monkeypatch.setattr(store._link, "tell_script", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.commit([step("a", 1)])
    store.commit([step("a", 2)])

    assert [b"a/1", b"a/2", b"a/3"] == list(store.history("a"))


def test_leader_is_interrupted(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is interrupted when the server has the group already, sees to it that the others are told, refusals included."""
    tell, calls = store._link.tell_script, []

    def interrupted(*arguments: object) -> object:
        calls.append(tell(*arguments))
        if len(calls) == 1:
            raise KeyboardInterrupt
        return calls[-1]

    monkeypatch.setattr(store._link, "tell_script", interrupted)
    callers = [Caller((), []) for _ in range(2)]
    for each in callers:
        add_step(each.prepared, step("a", 1))
    with pytest.raises(KeyboardInterrupt):
        store._write(callers)

    assert [True, True] == [each.settled for each in callers]
    assert [None, ConcurrentUpdate] == [each.error and type(each.error) for each in callers]
    assert [b"a/1", b"a/2"] == list(store.history("a"))


def test_answer_that_never_comes(lossy: Relay) -> None:
    """Where no answer comes in time, the caller is told that nobody knows; reading tells."""
    store = RedisStore(own(f"redis://127.0.0.1:{lossy.port}/0"), timeout_ms=150)
    store.put_specification(ORDER)
    lossy.losing = 1_000_000
    with pytest.raises(StoreUnavailable, match="not known"):
        store.commit([step("a")])
    with pytest.raises(StoreUnavailable, match="reached"):
        store.header("a")
    lossy.losing = 0

    assert 1 == store.header("a").version
    with pytest.raises(ConcurrentUpdate):
        store.commit([step("a")])
    store.close()


def test_reading_again(lossy: Relay) -> None:
    """A question whose answer is lost is asked again, by command and by script; one of two registrations is kept."""
    store = RedisStore(own(f"redis://127.0.0.1:{lossy.port}/0"))
    lossy.losing = 1
    store.put_specification(ORDER)
    store.commit([step("a")])
    lossy.losing = 1
    assert 1 == store.header("a").version
    lossy.losing = 1
    assert (b"a/1",) == store.load("a").batches

    assert [ORDER] == list(store.specifications())
    assert 3 == lossy.lost
    store.close()


def test_connections_are_bounded(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every connection is in use for as long as a call waits, it is refused; given back, the next call has it."""
    monkeypatch.setattr(_redis_link, "_CONNECTIONS", 1)
    store = RedisStore(url)
    link = store._link
    taken, link._timeout = link._take(), 0.001
    with pytest.raises(StoreUnavailable, match="busy"):
        store.cases()
    link._timeout = 30
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(link.ask, "LRANGE", b"none", 0, 1)
        while not link._waiting:
            pass
        link._give_back(taken, good=True)

    assert [] == asked.result()
    assert [taken] == link._idle
    store.close()


# --- servers that end -------------------------------------------------------------------------------------------------


def test_server_is_killed_and_started_again(own_redis: RedisServer) -> None:
    """A server that is killed at any moment loses no acknowledged step, and callers go on by themselves when it is back."""
    store = RedisStore(own_redis.url, timeout_ms=60_000)
    acknowledged = acknowledged_under_kills(store, own_redis, kills=5)
    store.close()

    store = RedisStore(own_redis.url)
    assert acknowledged == [len(store.history(f"case {number}")) for number in range(4)]
    store.close()


def test_server_that_is_away(own_redis: RedisServer) -> None:
    """Without a server every call raises StoreUnavailable; with it back the same store works, scripts included."""
    store = RedisStore(own_redis.url)
    store.put_specification(ORDER)
    own_redis.stop(signal.SIGKILL)
    for call in (lambda: store.commit([step("a")]), store.cases, lambda: store.write([])):
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            call()
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        RedisStore(own_redis.url)
    own_redis.start()
    store.commit([step("a")])

    assert ["a"] == [each.case_id for each in store.cases()]
    store.close()


# --- what a server refuses --------------------------------------------------------------------------------------------


def test_memory_is_used_up(own_redis: RedisServer) -> None:
    """At maxmemory a commit raises StoreFull and stores nothing, reading goes on, and so does writing when there is room."""
    store = RedisStore(own_redis.url)
    store.put_specification(ORDER)
    store.commit([step("a")])
    own_redis.say("CONFIG SET maxmemory 1")
    with pytest.raises(StoreFull, match="no space"):
        store.commit([step("a", 1), step("b", items=[item("b")])])
    with pytest.raises(StoreFull):
        store_document(store)

    assert [("a", 1)] == [(each.case_id, each.version) for each in store.cases()]
    assert not store.items()
    own_redis.say("CONFIG SET maxmemory 0")
    store.commit([step("a", 1)])
    store.close()


def test_replica_refuses(own_redis: RedisServer) -> None:
    """A server that has become a replica takes no steps; reading goes on; made the primary again, it takes them."""
    store = RedisStore(own_redis.url)
    store.put_specification(ORDER)
    own_redis.say("REPLICAOF 127.0.0.1 1")
    with pytest.raises(StoreUnavailable, match="read only"):
        store.commit([step("a")])

    assert [ORDER] == list(store.specifications())
    own_redis.say("REPLICAOF NO ONE")
    store.commit([step("a")])
    store.close()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (exceptions.ResponseError("MISCONF Errors writing to the AOF file: No space left on device"), StoreFull),
        (exceptions.ResponseError("MISCONF Redis is configured to save RDB snapshots"), StoreUnavailable),
        (exceptions.ResponseError("BUSY Redis is busy running a script"), StoreUnavailable),
        (exceptions.ResponseError("CLUSTERDOWN Hash slot not served"), StoreUnavailable),
        (exceptions.BusyLoadingError("Redis is loading the dataset in memory"), StoreUnavailable),
        (exceptions.MasterDownError("Link with MASTER is down"), StoreUnavailable),
        (exceptions.NoPermissionError("this user has no permissions"), StoreError),
        (exceptions.ResponseError("WRONGTYPE Operation against a key"), StoreError),
    ],
)
def test_errors_are_translated(store: RedisStore, error: Exception, kind: type[KnhkError]) -> None:
    """Each kind of refusal becomes its kind of StoreError."""
    assert kind is type(store._link._translated(error))


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("durability", "settings", "said"),
    [
        (Durability.FULL, {"aof_enabled": "0"}, "appendonly no"),
        (Durability.FULL, {"appendfsync": "everysec"}, "appendfsync everysec"),
        (Durability.FULL, {"appendfsync": "no"}, "appendfsync no"),
        (Durability.FULL, {"no-appendfsync-on-rewrite": "yes"}, "no-appendfsync-on-rewrite yes"),
        (Durability.NORMAL, {"aof_enabled": "0"}, "appendonly no"),
        (Durability.NORMAL, {"appendfsync": "no"}, "appendfsync no"),
        (Durability.OFF, {"maxmemory": "9", "maxmemory_policy": "allkeys-lru"}, "maxmemory-policy allkeys-lru"),
        (Durability.OFF, {"redis_version": "5.0.14"}, "6.2 or newer"),
    ],
)
def test_weaker_settings_are_refused(durability: Durability, settings: dict[str, str], said: str) -> None:
    """A server whose settings give less than the durability is refused with the setting."""
    refuse_weaker("here", durability, SAFE)
    with pytest.raises(StoreError, match=said):
        refuse_weaker("here", durability, SAFE | settings)


@pytest.mark.parametrize(
    ("durability", "settings"),
    [
        (Durability.NORMAL, {"appendfsync": "everysec", "no-appendfsync-on-rewrite": "yes"}),
        (Durability.OFF, {"aof_enabled": "0", "appendfsync": "no"}),
        (Durability.FULL, {"maxmemory": "9"}),
        (Durability.FULL, {"maxmemory_policy": "allkeys-lru"}),
    ],
)
def test_settings_that_are_enough(durability: Durability, settings: dict[str, str]) -> None:
    """What gives the durability is taken."""
    refuse_weaker("here", durability, SAFE | settings)


def test_setting_that_may_not_be_read() -> None:
    """Where the server does not say how it syncs, the operator has to."""
    settings = {name: value for name, value in SAFE.items() if name != "appendfsync"}
    with pytest.raises(StoreError, match="appendfsync=always in the URL"):
        refuse_weaker("here", Durability.FULL, settings)
    refuse_weaker("here", Durability.OFF, settings)


def test_settings_of_a_real_server(own_redis: RedisServer) -> None:
    """The settings are read whenever a connection is made; a user who may not read them has them from the URL."""
    url = own_redis.url
    own_redis.say("CONFIG SET appendfsync everysec")
    with pytest.raises(StoreError, match="appendfsync everysec"):
        open_store(url)
    with pytest.raises(StoreError, match="appendfsync everysec"):
        open_store(f"{url}?appendfsync=always")
    open_store(url, durability="normal").close()
    own_redis.say("CONFIG SET appendfsync always")
    own_redis.say("CONFIG SET appendonly no")
    with pytest.raises(StoreError, match="appendonly no"):
        open_store(url)
    open_store(url, durability="off").close()
    own_redis.say("CONFIG SET appendonly yes")
    own_redis.say("ACL SETUSER guest on >pw ~* +@all -config")
    guest = url.replace("//", "//guest:pw@")
    with pytest.raises(StoreError, match="appendfsync=always in the URL"):
        open_store(guest)
    open_store(f"{guest}?appendfsync=always").close()
    with pytest.raises(StoreError, match="refuses this user") as caught:
        open_store(url.replace("//", "//guest:secret@"))

    assert "secret" not in str(caught.value)


def test_layout_of_a_newer_version(store: RedisStore, url: str) -> None:
    """A namespace that a newer version has written is refused."""
    store._link.tell("SET", f"{store._link.root}format", scripts.FORMAT + 1)
    with pytest.raises(StoreError, match="newer KNHK"):
        RedisStore(url)


def test_server_in_cluster_mode() -> None:
    """All keys of a namespace are in one slot, as a server in cluster mode requires."""
    with running(RedisServer(**{"cluster-enabled": "yes"})) as server:
        assert isinstance(server, RedisServer)
        server.say("CLUSTER ADDSLOTSRANGE 0 16383")
        while server.say("GET x") != "$-1":
            pass
        store = RedisStore(server.url)
        store.put_specification(ORDER)
        first = attrs.evolve(step("a", items=[item("a")], key=("k", "d"), due=1, runnable=True), snapshot=b"s")
        store.commit([first])
        store_document(store)

        assert b"s" == store.load("a").snapshot
        keys = store._link.tell("KEYS", "*")
        assert 1 == len({store._link.tell("CLUSTER", "KEYSLOT", each) for each in keys})
        store.close()


def test_tls(tmp_path: Path) -> None:
    """rediss:// talks TLS, and only to a server that a trusted authority vouches for."""
    authority, stranger = trustme.CA(), trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    for name, pem in (("ca", authority.cert_pem), ("other", stranger.cert_pem)):
        pem.write_to_path(tmp_path / f"{name}.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    plain = RedisServer()
    port = free_port()
    plain.settings = {
        "tls-port": str(port),
        "tls-cert-file": str(tmp_path / "cert.pem"),
        "tls-key-file": str(tmp_path / "key.pem"),
        "tls-ca-cert-file": str(tmp_path / "ca.pem"),
        "tls-auth-clients": "no",
    }
    with running(plain):
        url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={tmp_path}/"
        store = RedisStore(f"{url}ca.pem")
        store.put_specification(ORDER)
        assert [ORDER] == list(store.specifications())
        store.close()
        with pytest.raises(StoreUnavailable, match="certificate"):
            RedisStore(f"{url}other.pem")


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:secret@host:port/0",
        "redis://u:secret@host/zero",
        "redis://u:secret@host?space=x",
        "redis://u:secret@host?namespace={x}",
        "redis://u:secret@host?namespace=",
        "redis://u:secret@host?namespace=a&namespace=b",
        "redis://u:secret@host?appendfsync=often",
        "redis://u:secret@host?ssl_ca_certs=ca.pem",
        "redis://u:secret@host?namespace",
    ],
)
def test_addresses_that_are_refused(url: str) -> None:
    """What is wrong with a URL is said without its password."""
    with pytest.raises(StoreError) as caught:
        open_store(url)

    assert "secret" not in str(caught.value)


def test_address_in_full() -> None:
    """Every part of a URL arrives, the password is not shown."""
    address = read_address("REDISS://eve:p%40ss@host:1/2?namespace=orders&appendfsync=always&ssl_ca_certs=/ca")

    assert ("rediss://host:1/2", "orders", "always", True) == (
        address.shown,
        address.namespace,
        address.appendfsync,
        address.secure,
    )
    expected = {"host": "host", "port": 1, "db": 2, "username": "eve", "password": "p@ss", "ssl_ca_certs": "/ca"}
    assert expected == address.options
    assert "p@ss" not in repr(address)
    assert ("redis://localhost:6379/0", "knhk") == (read_address("redis://").shown, read_address("redis://").namespace)
    assert "redis://eve:********@host/2" == without_password("redis://eve:p@ss@host/2")


def test_namespaces_are_apart(redis: str) -> None:
    """What is in one namespace is not in another."""
    first, second = RedisStore(own(redis)), RedisStore(own(redis))
    first.put_specification(ORDER)

    assert not second.specifications()
    first.close()
    second.close()


def test_half_characters(store: RedisStore) -> None:
    """A text that is no Unicode and a number beyond 64 bits are refused and change nothing."""
    for bad in (step("b", due=2**63), step("b\ud800", batch=b"x"), step("b", key=("\udfff", "d"))):
        with pytest.raises(StoreError, match="cannot be stored"):
            store.commit([step("a", 1), bad])

    assert [1] == [each.version for each in store.cases()]


def test_library_is_not_installed() -> None:
    """Without the extra the store says how to install it."""
    code = "import sys; sys.modules['redis'] = None\nfrom knhk.stores import open_store\nopen_store('redis://host')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert "pip install 'knhk[redis]'" in done.stderr


def test_url_wherever_a_store_is_named(url: str, tmp_path: Path) -> None:
    """An engine and the command line open the store by its URL; cases are there for the one that come from the other."""
    net = build("hello")
    net.sequence(net.start, net.task("greet", manual=True), net.end)
    path = tmp_path / "hello.json"
    path.write_text(net.specification().to_json())
    ran = CliRunner().invoke(knhk, ["run", str(path), "--db", url])
    assert 0 == ran.exit_code, ran.output
    with Engine(url) as engine:
        (header,) = engine.cases()
        engine.case(header.case_id).complete_task("greet")
    listed = CliRunner().invoke(knhk, ["cases", "--db", url, "--json"])

    assert "completed" in listed.output


def test_service_on_redis(url: str) -> None:
    """The service keeps its cases where WORKFLOW_STATE_PATH says, and shows no password of it."""
    off = dict.fromkeys(("WORKFLOW_AUTH_ENABLED", "WORKFLOW_AUDIT_ENABLED"), "false")
    environment = {"WORKFLOW_STATE_PATH": url, **off}
    made = serving.make(load(environment).settings)
    made.close()
    secret = load({"WORKFLOW_STATE_PATH": "redis://eve:secret@host", **off})

    assert isinstance(made.store._store, RedisStore)  # what is timed
    assert "secret" not in str(secret.table())
