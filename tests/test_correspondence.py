"""Events for whom they may concern: the cases that they are meant for keep them, each once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knhk import AsyncEngine, Engine, IdempotencyConflict, Specification, SpecificationError, build
from knhk.errors import DataError
from knhk.expr import compile_expression, equation
from knhk.stores.memory import MemoryStore
from knhk.testing.clock import ManualClock
from knhk.work.correlation import KEYS, KEYS_OF_CASES, key_of
from knhk.work.correspondence import EVENTS, REMEMBERED

KEYED = "data.order_id == event.order_id"
SCANNED = "data.order_id == event.order_id && event.amount > 0"


def waiting(
    correlate: str | None, *, name: str = "order", mode: str = "persistent", version: str = "1"
) -> Specification:
    """A case that waits for a payment."""
    trigger = {"event": "paid", "mode": mode, **({} if correlate is None else {"correlate": correlate})}
    net = build(name, version=version)
    net.sequence(net.start, net.task("wait", trigger=trigger), net.task("ship", manual=True), net.end)
    return net.specification()


@pytest.fixture
def clock() -> ManualClock:
    """Time that stands still."""
    return ManualClock()


@pytest.fixture
def engine(clock: ManualClock) -> Iterator[Engine]:
    """An engine without specifications."""
    with Engine(clock=clock) as running:
        yield running


def running(engine: Engine, *orders: Any, name: str = "order") -> list[str]:
    """Cases of these orders, waiting."""
    return [engine.create_case(name, {"order_id": each}).run().id for each in orders]


def shipping(engine: Engine) -> list[str]:
    """The cases that have had their event."""
    return [header.case_id for header in engine.cases() if engine.case(header.case_id).enabled == ["ship"]]


@pytest.mark.parametrize("correlate", [KEYED, "event.order_id == data.order_id", SCANNED])
def test_an_event_finds_the_case_that_it_is_meant_for(engine: Engine, correlate: str) -> None:
    """Whether its trigger has a key or every case is asked, the case with this order keeps it, and its data join it."""
    engine.register(waiting(correlate))
    _, second, _ = running(engine, 1, 2, 3)

    delivered = engine.send_event("paid", {"order_id": 2, "amount": 7})

    assert ((second,), {}) == (delivered.cases, delivered.refused)
    assert [second] == shipping(engine)
    assert {"order_id": 2, "amount": 7} == engine.case(second).data
    assert () == engine.send_event("paid", {"order_id": 9, "amount": 7}).cases
    assert () == engine.send_event("unheard", {"order_id": 2}).cases


def test_without_correlation_every_listener_keeps_it(engine: Engine) -> None:
    """An event that is meant for all is kept by all that listen, or by those whose data and specification fit."""
    engine.register(waiting(None))
    engine.register(waiting(None, name="other"))
    cases = running(engine, 1, 2)
    others = running(engine, 1, name="other")

    assert (cases[0],) == engine.send_event("paid", correlate={"order_id": 1}, spec_id="order").cases
    assert (others[0],) == engine.send_event("paid", correlate={"order_id": 1}, spec_id="other").cases
    assert {*cases, *others} == {*engine.send_event("paid").cases}
    assert () == engine.send_event("paid", correlate={"missing": None}).cases


def test_an_event_that_is_addressed_is_not_asked_for_whom_it_is(engine: Engine) -> None:
    """`case.send_event` names the case, so its trigger's `correlate` is not looked at."""
    engine.register(waiting(KEYED))
    (case,) = running(engine, 1)

    assert 1 == engine.case(case).send_event("paid")


def test_the_index_follows_the_case(tmp_path: Path, clock: ManualClock) -> None:
    """A key appears when the case begins to listen, moves with the data, survives restarts, and goes with the case."""
    path = str(tmp_path / "cases.db")
    with Engine(path, clock=clock) as engine:
        engine.register(waiting(KEYED))
        case = engine.create_case("order", {"order_id": 1})
        assert () == engine._store.documents(KEYS)
        case.run()
        (entry,) = engine._store.documents(KEYS)
        assert entry.key.endswith(f"/{case.id}")
        case.send_event("paid", {"order_id": 5})
        assert entry.key != engine._store.documents(KEYS)[0].key
        engine.evict()
        late = engine.create_case("order")
        late.run()
        assert 1 == len(engine._store.documents(KEYS))
    with Engine(path, clock=clock) as engine:
        assert () == engine.send_event("paid", {"order_id": 1}).cases
        assert (case.id,) == engine.send_event("paid", {"order_id": 5}).cases
        engine.case(case.id).complete_task("ship")
        engine.case(late.id).cancel()
        assert ((), ()) == (tuple(engine._store.documents(KEYS)), tuple(engine._store.documents(KEYS_OF_CASES)))


def test_a_thousand_cases_are_not_looked_at_for_one(engine: Engine) -> None:
    """With a key no other case is loaded; without one every running case is."""
    engine.register(waiting(KEYED))
    cases = running(engine, *range(300))
    engine.evict()

    assert (cases[123],) == engine.send_event("paid", {"order_id": 123}).cases
    assert 1 == len(engine._cache)


def test_a_case_that_cannot_say_is_told_of(engine: Engine) -> None:
    """What keeps a case from being asked is in the answer, and the others are asked all the same."""
    engine.register(waiting(SCANNED))
    good, suspended, other = running(engine, 1, 1, 2)
    silent = engine.create_case("order").run().id
    engine.case(suspended).suspend()
    engine.case(other).suspend()

    delivered = engine.send_event("paid", {"order_id": 1, "amount": 1})

    assert (good,) == delivered.cases
    assert {silent, suspended} == delivered.refused.keys()
    assert "order_id" in delivered.refused[silent]
    with pytest.raises(DataError):
        engine.send_event("paid", {"order_id": float("nan")})


def test_an_event_without_the_key_is_meant_for_nobody(engine: Engine) -> None:
    """A keyed trigger has nothing to compare, in the event or in the case."""
    engine.register(waiting(KEYED))
    running(engine, 1)
    engine.create_case("order").run()

    assert ((), {}) == (engine.send_event("paid").cases, engine.send_event("paid").refused)


def test_a_suspended_case_with_a_key_is_told_of(engine: Engine) -> None:
    """It listens and may not be moved: the sender hears of it."""
    engine.register(waiting(KEYED))
    (case,) = running(engine, 1)
    engine.case(case).suspend()

    assert {case} == engine.send_event("paid", {"order_id": 1}).refused.keys()


def test_a_transient_event_is_kept_by_those_that_wait_now(engine: Engine) -> None:
    """A case that listens and has nothing waiting keeps nothing."""
    engine.register(waiting(KEYED, mode="transient"))
    (case,) = running(engine, 1)

    assert (case,) == engine.send_event("paid", {"order_id": 1}).cases
    assert () == engine.send_event("paid", {"order_id": 1}).cases


def test_the_same_event_with_its_key_is_kept_once(engine: Engine, clock: ManualClock) -> None:
    """Sent again it says what it did; another event under the key is refused; after a week the key is forgotten."""
    engine.register(waiting(None))
    first, second = running(engine, 1, 2)
    delivered = engine.send_event("paid", {"n": 1}, idempotency_key="a/1")
    (third,) = running(engine, 3)

    assert delivered == engine.send_event("paid", {"n": 1}, idempotency_key="a/1")
    assert {first, second} == {*delivered.cases} == {*shipping(engine)}
    assert third not in shipping(engine)
    with pytest.raises(IdempotencyConflict):
        engine.send_event("paid", {"n": 2}, idempotency_key="a/1")
    clock.advance(REMEMBERED)
    engine.send_event("unheard")
    assert () == engine._store.documents(EVENTS)
    assert 3 == len(engine.send_event("paid", {"n": 2}, idempotency_key="a/1").cases)


def test_a_delivery_that_was_cut_off_is_finished_by_the_next(engine: Engine) -> None:
    """Cases that kept the event before the process was killed do not keep it again; the others do."""
    engine.register(waiting(None))
    first, second = running(engine, 1, 2)
    engine.case(second).suspend()
    delivered = engine.send_event("paid", idempotency_key="k", spec_id="order")
    assert (first,) == delivered.cases
    engine.case(first).complete_task("ship")
    again = engine.create_case("order").run()
    engine.case(second).resume()

    delivered = engine.send_event("paid", idempotency_key="k", spec_id="order")

    assert {second, again.id} == {*delivered.cases}
    history = [event for event in engine.case(first).history() if event.kind.value == "trigger_held"]
    assert 1 == len(history)


class Moving(MemoryStore):
    """A store in which somebody else is faster."""

    def __init__(self) -> None:
        super().__init__()
        self.faster: Any = None

    def commit(self, commits: Any) -> None:
        """Let the other commit first."""
        faster, self.faster = self.faster, None
        if faster is not None:
            faster()
        super().commit(commits)

    def write(self, documents: Any, removed: Any = ()) -> None:
        """Let the other write first."""
        faster, self.faster = self.faster, None
        if faster is not None:
            faster()
        super().write(documents, removed)


def test_two_engines_deliver_an_event_once(clock: ManualClock) -> None:
    """Who is overtaken asks the case as it is now: the event that the other delivered is not kept again."""
    store = Moving()
    with Engine(store, clock=clock) as one, Engine(store, clock=clock) as two:
        one.register(waiting(KEYED))
        (case,) = running(one, 1)
        two.case(case).marking  # noqa: B018 - it is in the memory of both
        event = {"order_id": 1}
        store.faster = lambda: setattr(store, "faster", lambda: two.send_event("paid", event, idempotency_key="k"))
        assert (case,) == one.send_event("paid", event, idempotency_key="k").cases
        assert 1 == [each.kind.value for each in one.case(case).history()].count("trigger_held")
        # Moved by the other, and so no longer what this engine remembers.
        two.case(case).cancel()
        assert {case: ()} != one.send_event("paid", event).refused
        store.faster = lambda: two.send_event("later", idempotency_key="z")
        assert () == one.send_event("later", idempotency_key="z").cases
        clock.advance(REMEMBERED)
        store.faster = lambda: two.send_event("x")
        one.send_event("x")
        assert () == store.documents(EVENTS)


def test_a_case_that_others_move_all_the_time_is_told_of(clock: ManualClock) -> None:
    """After some attempts the sender hears that it has to come again."""

    class Busy(MemoryStore):
        busy = False

        def commit(self, commits: Any) -> None:
            if self.busy:
                header = self.header(commits[0].header.case_id)
                super().commit(
                    [
                        attrs.evolve(
                            commits[0],
                            header=attrs.evolve(header, version=header.version + 1),
                            expected=header.version,
                            documents=(),
                            removed=(),
                        )
                    ]
                )
            super().commit(commits)

    store = Busy()
    with Engine(store, clock=clock) as engine:
        net = build("free")
        net.sequence(net.start, net.task("wait", trigger="paid"), net.task("again", trigger="more"), net.end)
        engine.register(net.specification())
        case = engine.create_case("free").run().id
        store.busy = True

        refused = engine.send_event("paid").refused

    assert {case} == refused.keys()


def test_the_asynchronous_engine_sends_events_too() -> None:
    """`AsyncEngine.send_event` is the same with await."""

    async def send() -> tuple[str, ...]:
        async with AsyncEngine() as engine:
            await engine.register(waiting(KEYED))
            case = await engine.create_case("order", {"order_id": 1})
            await case.run()
            delivered = await engine.send_event("paid", {"order_id": 1})
            assert (case.id,) == delivered.cases
            return delivered.cases

    assert asyncio.run(send())


def test_a_correlation_that_is_no_predicate_of_data_and_event_is_refused() -> None:
    """It is compiled with these two names when the specification is read."""
    with pytest.raises(SpecificationError, match=r"tasks\.wait\.trigger\.correlate"):
        waiting("data.a == other.b")


SIDES = [
    ("data.a == event.b", ("data.a", "event.b")),
    ("event.b.c == data['a']", ("event.b.c", "data['a']")),
    ("data.a + 1 == event.b * 2", ("data.a + 1", "event.b * 2")),
    ("data.a == event.b && true", None),
    ("data.a == event.b == true", None),
    ("data.a != event.b", None),
    ("(data.a + 1) * 2 == event.b", None),
    ("!(data.a == event.b)", None),
]


@pytest.mark.parametrize(("text", "sides"), SIDES)
def test_an_equation_is_taken_apart_where_it_is_one(text: str, sides: Any) -> None:
    """Only a comparison at the top has sides."""
    found = equation(compile_expression(text, variables=("data", "event")))

    assert sides is None or found is not None
    if text != "data.a == event.b == true":
        assert (None if found is None else tuple(each.text for each in found)) == sides


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(-3, 3).map(lambda n: round(n * 2) / 2)
    | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xy"), inner, max_size=2),
    max_leaves=4,
)


@given(VALUES, VALUES)
def test_keys_are_the_same_where_values_are_equal(left: Any, right: Any) -> None:
    """The index finds what the predicate would find."""
    equal = compile_expression("data == event", variables=("data", "event")).test({"data": left, "event": right})

    assert equal == (key_of(left) == key_of(right))


def test_what_equals_nothing_has_no_key() -> None:
    """Not a number is equal to nothing, itself included."""
    assert (None, None) == (key_of(float("nan")), key_of([float("nan")]))
