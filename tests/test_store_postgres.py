"""The PostgreSQL store keeps the contract, and survives what happens to servers and connections."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import psycopg
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from postgres_schemas import OPEN, own, schema_of_its_own, session, together, with_one_case
from relay import Relay, relay
from servers import PostgresqlServer

from knhk import Engine, build
from knhk.cli.app import knhk
from knhk.errors import (
    ConcurrentUpdate,
    IdempotencyConflict,
    KnhkError,
    OwnershipLost,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from knhk.ports import Commit, Document, Durability, Store
from knhk.server import serving
from knhk.server.configuration import load
from knhk.stores import _postgres_schema as schema_module
from knhk.stores import open_store, without_password
from knhk.stores._changes import fold
from knhk.stores._group import Caller
from knhk.stores._postgres_input import tell
from knhk.stores._postgres_steps import plain_step
from knhk.stores._postgres_text import inward, outward
from knhk.stores._postgres_url import parse
from knhk.stores._postgres_writer import Writer
from knhk.stores.postgres import PostgresStore
from knhk.testing import scenarios
from knhk.testing.store_conformance import CLAIM, ORDER, StoreConformance, item, step

SCENARIOS = Path(__file__).parent / "data" / "patterns" / "cases_public.json"


@pytest.fixture
def url(postgresql: str) -> Iterator[str]:
    """A URL with a schema of the test's own, gone afterwards."""
    with schema_of_its_own(postgresql) as made:
        yield made


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    """A store with one case `a` of one commit."""
    with with_one_case(url) as made:
        yield made


class TestPostgresStore(StoreConformance):
    """The contract, on a server."""

    @pytest.fixture(autouse=True)
    def _with_url(self, url: str) -> None:
        self.url = url

    def make_store(self, directory: Path) -> Store:
        return PostgresStore(self.url)

    def reopen(self, store: Store) -> Store:
        store.close()
        return PostgresStore(self.url)


def test_scenarios_with_eviction(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The 95 scenarios play as written when the case is loaded anew from PostgreSQL after every step."""
    status = scenarios.main([str(SCENARIOS), "--store", url, "--evict"])

    assert "95 passed, 0 failed\n" == capsys.readouterr().out
    assert 0 == status


@given(st.text(st.sampled_from("\0\1\2a🙂"), max_size=6), st.text(st.sampled_from("\0\1\2a🙂"), max_size=6))
def test_texts_as_they_are_stored(one: str, other: str) -> None:
    """A text comes back as it was, without a NUL in between, and order and beginnings are as before."""
    assert one == outward(inward(one))
    assert "\0" not in inward(one)
    assert (one < other) == (inward(one) < inward(other))
    assert one.startswith(other) == inward(one).startswith(inward(other))


# --- several at once --------------------------------------------------------------------------------------------------


def test_one_of_several_instances_wins(store: PostgresStore, url: str) -> None:
    """Of four instances that commit on one version, create with one key, or write one document, exactly one wins each time."""
    stores = [store, *(PostgresStore(url) for _ in range(3))]
    for version in range(1, 11):
        document = Document(collection="box", key="k", value="v", version=version)
        new, key = step(f"new {version}", key=(f"key {version}", "d")), (f"both {version}", "d")
        acts: list[Callable[[PostgresStore], object]] = [
            lambda each, at=version: each.commit([step("a", at)]),  # type: ignore[misc]
            lambda each, new=new: each.commit([new]),  # type: ignore[misc]
            lambda each, at=version: each.commit(
                [step(f"plain {at}", items=[attrs.evolve(OPEN, case_id=f"plain {at}")])]
            ),  # type: ignore[misc]
            lambda each, document=document: each.write([document]),  # type: ignore[misc]
            lambda each, key=key: each.commit([step(f"{id(each)} {key}", key=key)]),  # type: ignore[misc]
        ]
        for act in acts:
            outcomes = together(stores, act)
            assert 1 == outcomes.count(None), outcomes
            losses = [type(each) for each in outcomes if each is not None]
            assert set(losses) <= {ConcurrentUpdate, IdempotencyConflict}
    assert 10 == len(store.items(audience=["anyone"]))
    for each in stores[1:]:
        each.close()


def test_steps_of_many_cases_in_another_order(store: PostgresStore, url: str) -> None:
    """Two instances that move the same cases in opposite orders do not wait for each other: one of them has them all."""
    names = [f"case {number}" for number in range(20)]
    store.commit([step(each) for each in names])
    stores = [store, PostgresStore(url)]
    orders = {id(store): names, id(stores[1]): names[::-1]}
    for version in range(1, 11):
        begun = time.monotonic()
        outcomes = together(stores, lambda each, at=version: each.commit([step(name, at) for name in orders[id(each)]]))  # type: ignore[misc]
        assert 1 == outcomes.count(None), outcomes
        # PostgreSQL looks for two that wait for each other after a second.
        assert time.monotonic() - begun < 1 or "40P01" not in str(outcomes)
    stores[1].close()


def test_callers_in_one_transaction(store: PostgresStore) -> None:
    """A caller who is refused takes none of his group along, and who changes the same follows in a transaction of his own."""
    held = Document(collection="box", key="owner", value="")
    store.write([held])
    wanted: list[tuple[list[Commit], type[KnhkError] | None]] = [
        ([step("a", 1), step("b", key=("key", "d"))], None),
        ([step("c"), step("a", 7)], ConcurrentUpdate),
        ([step("a", 2)], None),
        ([step("d", key=("key", "d"))], IdempotencyConflict),
        ([attrs.evolve(step("e"), held=(held,))], None),
        ([attrs.evolve(step("f"), removed=(held,))], None),
        ([attrs.evolve(step("g"), held=(held,))], OwnershipLost),
        ([step("h", due=2**70)], StoreError),
        ([step("i", items=[item("i", number=-1)])], None),
    ]
    callers = [Caller(each, prepared=tell(fold(each), store._spec_row)) for each, _ in wanted]
    store._write(callers)

    assert [kind for _, kind in wanted] == [None if each.error is None else type(each.error) for each in callers]
    assert all(each.settled for each in callers)
    assert ["a", "b", "e", "f", "i"] == [each.case_id for each in store.cases()]
    assert 3 == store.header("a").version


def test_lock_that_somebody_holds(url: str) -> None:
    """A commit waits for a lock as long as the URL says and is refused; the others in its group are stored."""
    store = PostgresStore(f"{url}&timeout=0.2")
    store.put_specification(ORDER)
    store.commit([step("a"), step("b")])
    with session(url) as other, other.transaction():
        other.execute("SELECT FROM cases WHERE case_id = 'a' FOR UPDATE")
        callers = [Caller((), prepared=tell(fold([step(name, 1)]), store._spec_row)) for name in ("a", "b")]
        store._write(callers)

    assert isinstance(callers[0].error, StoreUnavailable)
    assert callers[1].error is None
    store.commit([step("a", 1)])
    store.close()


def test_connections_are_bounded(url: str) -> None:
    """No more connections are made than the URL allows; whoever gets none in time is told so."""
    store = PostgresStore(f"{url}&connections=1&timeout=0.05")
    with store._connections.use():
        with pytest.raises(StoreUnavailable, match="all 1 connections"):
            store.cases()

    assert not store.cases()
    store.close()


# --- lost connections and servers -------------------------------------------------------------------------------------


@pytest.fixture
def lossy(postgresql: str) -> Iterator[Relay]:
    """A way to the shared server that loses answers."""
    with relay(int(parse(postgresql).parameters["port"])) as made:
        yield made


def test_step_whose_answer_is_lost_is_stored_once(lossy: Relay) -> None:
    """A commit whose answer is lost is stored once and acknowledged, and so is the next; a document likewise."""
    store = PostgresStore(own(f"postgresql://knhk@127.0.0.1:{lossy.port}/postgres", sslmode="disable"))
    store.put_specification(ORDER)
    for expected in range(40):
        lossy.losing = expected % 3
        store.commit([step("a", expected, key=("key", "d") if not expected else None)])
    lossy.losing = 1
    document = Document(collection="box", key="k", value="v")
    store.write([document])

    assert 40 == lossy.lost
    assert 40 == len(store.history("a"))
    assert document == store.document("box", "k")
    lossy.losing = 1
    callers = [Caller((), prepared=tell(fold([step("a", at)]), store._spec_row)) for at in (40, 7)]
    callers.append(Caller((), prepared=tell(fold([step("b")]), store._spec_row)))
    store._write(callers)
    assert [None, ConcurrentUpdate, None] == [each.error and type(each.error) for each in callers]
    for at in range(41, 46):
        lossy.losing = 1
        callers = [
            Caller([each], prepared=plain_step([each], store._spec_row)) for each in (step("a", at), step("b", at - 40))
        ]
        # Where no signal can interrupt it, libpq waits for the answer by itself.
        waiting = threading.Thread(target=store._write, args=(callers,))
        waiting.start()
        waiting.join()
        assert [None, None] == [each.error for each in callers]
    store.close()


def test_group_whose_answer_is_lost(lossy: Relay) -> None:
    """Of callers who share a transaction whose answer is lost each is told what became of his own."""
    store = PostgresStore(own(f"postgresql://knhk@127.0.0.1:{lossy.port}/postgres", sslmode="disable"))
    store.put_specification(ORDER)
    store.commit([step("a"), step("b")])
    callers = [Caller((), prepared=tell(fold([each]), store._spec_row)) for each in (step("a", 1), step("b", 7))]
    lossy.losing = 1
    store._write(callers)

    assert [None, ConcurrentUpdate] == [each.error and type(each.error) for each in callers]
    assert (2, 1) == (store.header("a").version, store.header("b").version)
    store.close()


def test_interrupt_while_waiting_for_the_answer(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the leader is interrupted, the others in his group are told that they are stored."""
    send = Writer._send

    def interrupted(self: Writer, *asked: Any) -> Any:
        send(self, *asked)
        self._in_doubt = True
        raise KeyboardInterrupt

    monkeypatch.setattr(Writer, "_send", interrupted)
    callers = [Caller((), prepared=tell(fold([each]), store._spec_row)) for each in (step("a", 1), step("b", 7))]
    with pytest.raises(KeyboardInterrupt):
        store._write(callers)

    assert all(each.settled for each in callers)
    assert callers[0].error is None
    assert isinstance(callers[1].error, StoreUnavailable)
    assert 2 == store.header("a").version


def test_server_that_is_away(own_postgresql: PostgresqlServer) -> None:
    """Without the server every call is refused at once; when it is back, all go on by themselves."""
    store = PostgresStore(f"{own_postgresql.url}?timeout=0.3")
    store.put_specification(ORDER)
    store.commit([step("a")])
    own_postgresql.stop()
    with pytest.raises(StoreUnavailable, match="not known"):
        # It had been sent when the connection turned out to be gone.
        store.commit([step("a", 1)])
    calls: list[Callable[[], object]] = [
        lambda: store.commit([step("a", 1)]),
        lambda: store.write([Document(collection="box", key="k", value="v")]),
        lambda: store.load("a"),
        store.cases,
        lambda: store.quarantine("a", "why"),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailable, match="not available"):
            call()
    with pytest.raises(StoreUnavailable):
        PostgresStore(own_postgresql.url)
    own_postgresql.start()

    store.commit([step("a", 1)])
    assert (b"a/1", b"a/2") == store.history("a")
    store.close()


def test_server_is_killed_and_started_again(own_postgresql: PostgresqlServer) -> None:
    """While the server is stopped at once and started three times, four threads lose nothing and store nothing twice."""
    store = PostgresStore(f"{own_postgresql.url}?timeout=30")
    store.put_specification(ORDER)
    stop = threading.Event()
    surprises: list[str] = []
    acknowledged: dict[str, int] = {}

    def work(name: str) -> None:
        version = 0
        while not stop.is_set():
            try:
                store.commit([step(name, version)])
            except StoreUnavailable:
                # Nobody was connected: nothing was sent.
                continue
            except KnhkError as error:
                surprises.append(repr(error))
                return
            version += 1
            acknowledged[name] = version

    threads = [threading.Thread(target=work, args=(f"case {number}",)) for number in range(4)]
    for each in threads:
        each.start()
    for goal in (40, 80, 120):
        while sum(acknowledged.values()) < goal and not surprises:
            time.sleep(0.001)
        own_postgresql.stop()
        own_postgresql.start()
    while sum(acknowledged.values()) < 160 and not surprises:
        time.sleep(0.001)
    stop.set()
    for each in threads:
        each.join()

    assert not surprises
    assert acknowledged == {each.case_id: each.version for each in store.cases()}
    for name, version in acknowledged.items():
        assert tuple(f"{name}/{at}".encode() for at in range(1, version + 1)) == store.history(name)
    store.close()


def test_durability_is_what_the_server_keeps(own_postgresql: PostgresqlServer) -> None:
    """Settings under which the power may take what was acknowledged are refused by name, and `off` is taken with any."""
    levels = {each: f"{own_postgresql.url}?schema={each.value}_level" for each in Durability}
    seen: dict[tuple[str, Durability], str] = {}
    with psycopg.connect(own_postgresql.url, autocommit=True) as connection:
        for setting in ("", "fsync", "full_page_writes", "synchronous_commit"):
            if setting:
                connection.execute(f"ALTER SYSTEM SET {setting} = off")
            connection.execute("SELECT pg_reload_conf()")
            wanted = "off" if setting else "on"
            while setting and connection.execute(f"SHOW {setting}").fetchone() != (wanted,):
                pass
            for level, url in levels.items():
                try:
                    store = PostgresStore(url, durability=level)
                except StoreError as error:
                    seen[setting, level] = str(error)
                else:
                    with store._connections.use() as own_connection:
                        seen[setting, level] = own_connection.execute("SHOW synchronous_commit").fetchone()[0]  # type: ignore[index]
                    assert level is store.durability
                    store.close()
            connection.execute("ALTER SYSTEM RESET ALL")

    for setting in ("fsync", "full_page_writes"):
        for level in (Durability.FULL, Durability.NORMAL):
            assert f"{setting}=off, so durability {level.value!r}" in seen[setting, level]
        assert "off" == seen[setting, Durability.OFF]
    # What a session may choose for itself is chosen.
    assert "on" == seen["synchronous_commit", Durability.FULL] == seen["", Durability.FULL]
    assert "off" == seen["synchronous_commit", Durability.NORMAL] == seen["", Durability.NORMAL]


@pytest.mark.parametrize(
    ("state", "kind", "said"),
    [
        ("53100", StoreFull, "no space is left"),
        ("40001", ConcurrentUpdate, "faster 5 times"),
        ("XX001", StoreError, "damaged"),
        ("42501", StoreError, "grant the user"),
        ("22000", StoreError, "22000"),
        ("58030", StoreUnavailable, "not available"),
        ("25006", StoreUnavailable, "not available"),
    ],
)
def test_errors_of_the_server(store: PostgresStore, url: str, state: str, kind: type[KnhkError], said: str) -> None:
    """What the server refuses is told in the words of the port, nothing of it is stored, and the store goes on."""
    with session(url) as other:
        other.execute(
            f"CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'simulated' USING ERRCODE = '{state}'; END $$;"
            " CREATE TRIGGER fail BEFORE INSERT ON journal FOR EACH ROW EXECUTE FUNCTION fail()"
        )
        with pytest.raises(kind, match=said):
            store.commit([step("a", 1, items=[item("a")])])
        assert (b"a/1",) == store.load("a").batches
        assert not store.items()
        other.execute("DROP TRIGGER fail ON journal")

    store.commit([step("a", 1)])


def test_writer_that_was_forgotten(store: PostgresStore, url: str) -> None:
    """A store whose row among the writers is gone gets another."""
    with session(url) as other:
        other.execute("DELETE FROM writers")
    store.commit([step("a", 1)])

    assert 2 == store.header("a").version


# --- the schema -------------------------------------------------------------------------------------------------------


def test_schema_that_is_not_there(url: str) -> None:
    """A schema is made only for whoever wants that."""
    with pytest.raises(StoreError, match="there is no store in PostgreSQL"):
        open_store(url, create=False)
    open_store(url).close()

    open_store(url, create=False).close()


def test_schema_of_a_newer_version(store: PostgresStore, url: str) -> None:
    """A schema that a newer KNHK migrated is refused."""
    with session(url) as other:
        other.execute("UPDATE schema_version SET version = version + 1")

    with pytest.raises(StoreError, match="newer KNHK"):
        PostgresStore(url)


def test_schema_of_another_program(url: str) -> None:
    """A schema with tables of another program is refused, and left as it is."""
    with session(url) as other:
        other.execute(f"CREATE SCHEMA {parse(url).schema}; CREATE TABLE {parse(url).schema}.theirs (id integer)")
        with pytest.raises(StoreError, match="another program"):
            PostgresStore(url)

        assert other.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = %s", (parse(url).schema,)
        ).fetchone() == (1,)


def test_several_open_a_new_schema(url: str) -> None:
    """Several instances that find no schema make one together."""
    outcomes: list[object] = []

    def open_it() -> None:
        store = PostgresStore(url)
        outcomes.append(store.specifications())
        store.close()

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert [()] * 4 == outcomes


def test_migration_that_is_killed(store: PostgresStore, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration whose session is killed leaves the schema as it was; afterwards it is done."""
    kill = "SELECT pg_terminate_backend(pg_backend_pid())"
    change = "CREATE TABLE {s}.later (id integer)"
    published = schema_module.MIGRATIONS
    now = len(published)
    monkeypatch.setattr("knhk.stores.postgres.SCHEMA_VERSION", now + 1)
    monkeypatch.setattr(schema_module, "SCHEMA_VERSION", now + 1)
    monkeypatch.setattr(schema_module, "MIGRATIONS", (*published, (change, kill)))
    with pytest.raises(StoreUnavailable):
        PostgresStore(url)
    with session(url) as other:
        assert (now,) == other.execute("SELECT version FROM schema_version").fetchone()
    store.commit([step("a", 1)])
    monkeypatch.setattr(schema_module, "MIGRATIONS", (*published, (change,)))
    PostgresStore(url).close()

    with session(url) as other:
        assert (now + 1,) == other.execute("SELECT version FROM schema_version").fetchone()
    # Whoever was open before goes on.
    store.commit([step("a", 2)])


def test_lists_go_by_an_index(store: PostgresStore, url: str) -> None:
    """No list of work reads a whole table, however the tables have grown."""
    store.put_specification(CLAIM)
    for page in range(4):
        store.commit(
            [
                attrs.evolve(
                    step(
                        name,
                        due=number if number % 50 == 0 else None,
                        runnable=number % 50 == 1,
                        spec=CLAIM if number % 50 else ORDER,
                        state="running" if number % 50 < 3 else "completed",
                        items=[
                            attrs.evolve(item(name), audience=("anyone",))
                            if number % 50 == 5
                            else attrs.evolve(
                                item(name, by=f"p{number % 50}"),
                                topic=f"t{number % 50}",
                                audience=(f"role:r{number % 50}",),
                                state="offered" if number % 50 else "failed",
                            )
                        ],
                    ),
                    documents=(
                        Document(
                            collection=f"c{number % 50}", key=name, value="v", due=number if number % 50 == 7 else None
                        ),
                    ),
                )
                for number in range(page * 500, page * 500 + 500)
                for name in [f"case {number:06}"]
            ]
        )
    asked = store._queries
    page_of_items: dict[str, Any] = {
        "case_id": None,
        "state": None,
        "by": None,
        "topics": None,
        "audience": None,
        "after": ("", 0),
        "limit": 10,
    }
    lists = {
        "cases": asked.cases(None, None, "case 0003", 10),
        "in a state": asked.cases(None, "running", "case 0003", 10),
        "of a specification": asked.cases("order", None, "case 0003", 10),
        "due": (asked.due, (500, 10)),
        "runnable": (asked.runnable, ("case 0003", 10)),
        "of a case": asked.items(**page_of_items | {"case_id": "case 000300"}),
        "failed": asked.items(**page_of_items | {"state": "failed"}),
        "of somebody": asked.items(**page_of_items | {"by": "p7"}),
        "of topics": asked.items(**page_of_items | {"topics": ["t7", "t8"], "state": "offered"}),
        "of an audience": asked.items(**page_of_items | {"audience": ["role:r7", "role:r8"]}),
        "of anyone": asked.items(**page_of_items | {"audience": ["anyone", "role:r7"], "after": ("case 0003", 0)}),
        "documents": asked.documents("c7", due=None, prefix="case 0001", after="", limit=10),
        "due documents": asked.documents("c7", due=10_000, prefix="", after="", limit=10),
    }
    with session(url) as other:
        other.execute("ANALYZE")
        plans = {
            name: "\n".join(row[0] for row in other.execute(f"EXPLAIN {query}", values).fetchall())
            for name, (query, values) in lists.items()
        }

    for name, plan in plans.items():
        # The registrations are two rows.
        assert "Seq Scan" not in plan.replace("Seq Scan on specifications", ""), f"{name}: {plan}"


# --- the URL ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:secret@h/d?schema=Bad",
        "postgresql://u:secret@h/d?schema=pg_x",
        'postgresql://u:secret@h/d?schema="a"',
        "postgresql://u:secret@h/d?connections=0",
        "postgresql://u:secret@h/d?connections=1.5",
        "postgresql://u:secret@h/d?timeout=never",
        "postgresql://u:secret@h/d?timeout=nan",
        "postgresql://u:secret@h/d?unheard=of",
        "postgresql://u:se/secret@h/d",
        "postgresql://u:se?secret@h/d",
        "postgresql://u:secret@h:port/d",
        "postgresql://u:secret@h/d#part",
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    """What is not understood is refused before anything is connected, and no password is shown."""
    with pytest.raises(StoreError) as caught:
        open_store(url)

    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None


def test_url_in_full() -> None:
    """KNHK takes its own parameters, and libpq gets all others as they are."""
    address = parse(
        "postgres://u:p%40ss@one,two:5433/d?schema=orders&connections=3&timeout=1.5&sslmode=verify-full&sslrootcert=/ca.pem"
    )

    assert ("orders", 3, 1.5) == (address.schema, address.connections, address.timeout)
    assert ("one,two", "p@ss", "verify-full", "/ca.pem") == tuple(
        address.parameters[each] for each in ("host", "password", "sslmode", "sslrootcert")
    )
    assert "schema" not in address.parameters
    assert "p@ss" not in address.named + repr(address)
    shown = without_password("postgresql://u:secret@h/d?password=secret&sslpassword=secret&schema=x")
    assert "postgresql://u:********@h/d?password=********&sslpassword=********&schema=x" == shown


def test_library_is_not_installed() -> None:
    """Without the extra the store says how to install it."""
    code = (
        "import sys; sys.modules['psycopg'] = None\nfrom knhk.stores import open_store\nopen_store('postgresql://h/d')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert "pip install 'knhk[postgres]'" in done.stderr


def test_url_wherever_a_store_is_named(url: str, tmp_path: Path) -> None:
    """An engine, the command line and the service open the store by its URL; cases are there for one that come from another."""
    net = build("hello")
    net.sequence(net.start, net.task("greet", manual=True), net.end)
    path = tmp_path / "hello.json"
    path.write_text(net.specification().to_json())
    absent = CliRunner().invoke(knhk, ["cases", "--db", url])
    assert "there is no store" in absent.output
    ran = CliRunner().invoke(knhk, ["run", str(path), "--db", url])
    assert 0 == ran.exit_code, ran.output
    with Engine(url) as engine:
        (header,) = engine.cases()
        engine.case(header.case_id).complete_task("greet")
    listed = CliRunner().invoke(knhk, ["cases", "--db", url, "--json"])
    names = ("WORKFLOW_AUTH_ENABLED", "WORKFLOW_AUDIT_ENABLED")
    made = serving.make(load({"WORKFLOW_STATE_PATH": url, **dict.fromkeys(names, "false")}).settings)
    made.close()

    assert "completed" in listed.output
    assert isinstance(made.store._store, PostgresStore)  # what is timed


def test_half_characters(store: PostgresStore) -> None:
    """Half of a character is refused, alone or in a group, and nothing else with it."""
    with pytest.raises(StoreError, match="cannot be stored"):
        store.commit([step("a\ud800", batch=b"x")])
    callers = [Caller((), prepared=tell(fold([step(each, batch=b"x")]), store._spec_row)) for each in ("b", "c\ud800")]
    store._write(callers)

    assert [None, StoreError] == [each.error and type(each.error) for each in callers]
    assert ["a", "b"] == [each.case_id for each in store.cases()]
