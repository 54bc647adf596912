"""Webhooks: what happens is told at least once, in order for each case, signed, and never lost."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from receiver import Answer, Got, Receiver

from knhk import (
    AsyncEngine,
    CommandError,
    Engine,
    Outbound,
    OutboundRefused,
    Specification,
    StoreUnavailable,
    build,
)
from knhk.errors import InvalidSignature
from knhk.ports import Document
from knhk.spec import Retry
from knhk.stores.memory import MemoryStore
from knhk.testing.clock import ManualClock
from knhk.work.answers import retry_after
from knhk.work.delivery import CLAIM_MARGIN, WHILE_PAUSED
from knhk.work.outbox import LOOK_EVERY
from knhk.work.signature import sign, verify_signature

SECRET = "a secret of thirty-two characters"


def steps(*tasks: str, name: str = "steps") -> Specification:
    """Manual tasks, one after the other."""
    net = build(name)
    net.sequence(net.start, *(net.task(each, manual=True) for each in tasks), net.end)
    return net.specification()


def near(receiver: Receiver) -> Outbound:
    """A policy that allows a receiver on the loopback."""
    return Outbound(allow=[f"127.0.0.1:{receiver.port}"])


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that says yes to everything until it is told otherwise."""
    with Receiver() as running:
        yield running


@pytest.fixture
def clock() -> ManualClock:
    """Time that stands still."""
    return ManualClock(1_700_000_000_000)


@pytest.fixture
def engine(receiver: Receiver, clock: ManualClock) -> Iterator[Engine]:
    """An engine that may call the receiver."""
    with Engine(clock=clock, outbound=near(receiver)) as running:
        running.register(steps("A", "B"))
        yield running


def told(receiver: Receiver) -> list[tuple[str, str]]:
    """What arrived: types and paths."""
    return [(each["type"], each["path"]) for each in (json.loads(got.body) for got in receiver.got)]


def test_everything_that_happens_is_told_in_order_and_signed(engine: Engine, receiver: Receiver) -> None:
    """A subscription to everything is told what the history tells, each message signed, with an id of its own."""
    hook = engine.webhooks.subscribe(receiver.url("/hook"), secret=SECRET)
    case = engine.create_case("steps", {"n": 1})
    case.run()
    case.complete_task("A", {"a": 1})
    case.complete_task("B")

    arrived = engine.deliver()

    history = case.history()
    assert len(history) == arrived == len(receiver.got)
    messages = [json.loads(got.body) for got in receiver.got]
    assert [(e.kind.value, e.path, dict(e.details), e.at) for e in history] == [
        (m["type"], m["path"], m["details"], m["at"]) for m in messages
    ]
    assert {(case.id, "steps", "1")} == {(m["case_id"], m["spec_id"], m["spec_version"]) for m in messages}
    assert len(messages) == len({m["id"] for m in messages})
    for got, message in zip(receiver.got, messages, strict=True):
        verify_signature(got.headers["knhk-signature"], got.body, SECRET, now=1_700_000_000)
        assert ("POST", "/hook", "application/json") == (got.method, got.path, got.headers["content-type"])
        assert (message["id"], message["type"], hook.id) == (
            got.headers["knhk-message-id"],
            got.headers["knhk-event"],
            got.headers["knhk-subscription"],
        )
    assert [] == list(engine.webhooks.pending())
    assert 0 == engine.deliver()


def test_a_subscription_gets_what_it_asked_for(engine: Engine, receiver: Receiver) -> None:
    """By type, by specification, with or without data; each subscription its own messages."""
    engine.register(steps("A", name="other"))
    webhooks = engine.webhooks
    webhooks.subscribe(receiver.url("/ends"), events=["case_completed", "case_cancelled"])
    webhooks.subscribe(receiver.url("/other"), events=["item_*"], spec_id="other")
    webhooks.subscribe(receiver.url("/bare"), events="task_completed", with_data=False)
    for name in ("steps", "other"):
        case = engine.create_case(name, {"n": 1}).run()
        case.complete_task("A", {"secret": 1})
        case.cancel() if name == "steps" else None

    engine.deliver()

    by_path: dict[str, list[Any]] = {}
    for got in receiver.got:
        message = json.loads(got.body)
        by_path.setdefault(got.path, []).append((message["type"], message["spec_id"], message["details"]))
    assert [("case_cancelled", "steps", {}), ("case_completed", "other", {})] == sorted(by_path["/ends"])
    assert [("item_offered", "other", {})] == by_path["/other"]
    assert [("task_completed", "other", {}), ("task_completed", "steps", {})] == sorted(by_path["/bare"])


def test_messages_of_a_case_alone_need_no_second_state(engine: Engine, receiver: Receiver) -> None:
    """Where subscribers want to know of cases as a whole, no state is kept beside the case; else it is."""
    hook = engine.webhooks.subscribe(receiver.url(), events=["case_*"])
    case = engine.create_case("steps").run()
    resident = engine._cache.pin(case.id)
    assert resident.told is None

    engine.webhooks.remove(hook.id)
    engine.webhooks.subscribe(receiver.url(), events=["item_offered"])
    case.complete_task("A")
    engine.deliver()

    assert resident.told is not None
    assert [("item_offered", "B")] == told(receiver)


def test_what_happened_while_nobody_listened_is_not_mixed_in(engine: Engine, receiver: Receiver) -> None:
    """A subscription that comes after a time without any is told what happens from then on, as it was."""
    hook = engine.webhooks.subscribe(receiver.url(), events=["item_offered", "task_started"])
    case = engine.create_case("steps").run()
    engine.webhooks.remove(hook.id)
    case.complete_task("A")
    engine.webhooks.subscribe(receiver.url(), events=["item_offered", "task_started", "task_completed"])
    case.complete_task("B")

    engine.deliver()

    assert [("task_started", "B"), ("task_completed", "B")] == told(receiver)


@pytest.mark.parametrize("how", ["error flow", "scope", "exlet"])
def test_an_error_that_is_taken_is_no_dead_letter(engine: Engine, receiver: Receiver, how: str) -> None:
    """Work that failed, and whose error a flow or a worklet takes, is told of as failed, and as nothing more."""
    net = build("taken")
    if how == "scope":
        inside = net.subnet("inside")
        done = inside.task("done", handler="f", compensate="f", input={"ok": "true"})
        inside.sequence(inside.start, done, inside.task("F", handler="f"), inside.end)
        work = net.task("part", subnet=inside)
    else:
        work = net.task("F", handler="f", **({"exlet": "steps"} if how == "exlet" else {}))
    net.sequence(net.start, work, net.end)
    if how != "exlet":
        work.to(net.task("after", manual=True), on_error="*").to(net.end)
    engine.register(net.specification())

    @engine.handler("f")
    def fail(work: Any) -> None:
        if not work.data.get("ok") and work.compensates is None:
            raise OSError("no")

    engine.webhooks.subscribe(receiver.url(), events=["dead_letter", "attempt_failed"])
    engine.create_case("taken").run()
    engine.deliver()

    assert (["attempt_failed"], []) == ([kind for kind, _ in told(receiver)], engine.dead_letters.list())


def test_a_dead_letter_is_told_of(engine: Engine, receiver: Receiver) -> None:
    """Work that failed for good makes a message of its own; an attempt that is followed by another makes none."""
    net = build("failing")
    net.sequence(net.start, net.task("F", handler="f", retry={"max_attempts": 2, "initial": "1s"}), net.end)
    engine.register(net.specification())

    @engine.handler("f")
    def fail(work: Any) -> None:
        raise OSError("no")

    engine.webhooks.subscribe(receiver.url(), events=["dead_letter", "case_failed"])
    case = engine.create_case("failing").run()
    assert 0 == engine.deliver()
    engine.clock.advance(1_000)  # type: ignore[attr-defined]
    with pytest.raises(Exception, match="no"):
        case.run()

    engine.deliver()

    assert [("dead_letter", "F"), ("case_failed", "")] == told(receiver)
    assert {"attempt": 2, "error": "OSError: no"} == json.loads(receiver.got[0].body)["details"]


def test_plain_automatic_work_is_told_of_too(engine: Engine, receiver: Receiver) -> None:
    """What goes by express is told as what the driver does, evicted or not, snapshots included."""
    net = build("fast")
    net.sequence(
        net.start, *(net.task(f"T{n}", handler="t") for n in range(30)), net.task("end2", manual=True), net.end
    )
    engine.register(net.specification())
    engine.handler("t")(lambda work: {"n": work.task})
    engine.webhooks.subscribe(receiver.url())

    case = engine.create_case("fast").run()
    engine.evict()
    case.complete_task("end2")
    engine.deliver()

    assert [(each.kind.value, each.path) for each in case.history()] == told(receiver)


def failing_at(*numbers: int, answer: Answer = Answer(500)) -> Callable[[Got], Answer]:
    """Answers that refuse requests by number, from 1."""
    count = iter(range(1, 1_000))
    return lambda got: answer if next(count) in numbers else Answer()


def test_what_did_not_arrive_is_sent_again_and_what_is_behind_it_waits(
    engine: Engine, receiver: Receiver, clock: ManualClock
) -> None:
    """After a failure the same message comes again when its wait is over; nothing of its case overtakes it."""
    receiver.answer = failing_at(2, 3)
    hook = engine.webhooks.subscribe(receiver.url(), events=["item_offered", "task_completed", "case_*"])
    case = engine.create_case("steps").run()
    case.complete_task("A")

    assert 1 == engine.deliver()
    assert 0 == engine.deliver()
    waiting = next(engine.webhooks.pending(hook.id))
    assert (1, "answered with status 500", "case_started") == (
        waiting.attempts,
        waiting.error,
        waiting.message["type"],
    )
    case.complete_task("B")
    assert 0 == engine.deliver()
    clock.advance(1_000)
    assert 0 == engine.deliver()
    clock.advance(4_000)
    assert len(case.history()) > engine.deliver() > 4

    types = [kind for kind, _ in told(receiver)]
    assert ["case_created", "case_started", "case_started", "case_started", "item_offered"] == types[:5]
    ids = list(dict.fromkeys(got.headers["knhk-message-id"] for got in receiver.got))
    wanted = ("item_offered", "task_completed", "case_created", "case_started", "case_completed")
    expected = [event for event in case.history() if event.kind.value in wanted]
    assert [event.kind.value for event in expected] == [
        next(json.loads(g.body)["type"] for g in receiver.got if g.headers["knhk-message-id"] == each) for each in ids
    ]


def test_other_cases_and_subscriptions_do_not_wait(engine: Engine, receiver: Receiver) -> None:
    """A message that does not arrive holds up its own case and subscription alone."""
    receiver.answer = lambda got: Answer(503 if got.path == "/bad" else 200)
    engine.webhooks.subscribe(receiver.url("/bad"), events=["case_created"])
    engine.webhooks.subscribe(receiver.url("/good"), events=["case_created"])
    for _ in range(3):
        engine.create_case("steps")

    assert 3 == engine.deliver()
    assert 3 == len(list(engine.webhooks.pending()))


def test_the_other_side_may_ask_for_a_longer_wait(engine: Engine, receiver: Receiver, clock: ManualClock) -> None:
    """`Retry-After` is the least wait."""
    receiver.answer = failing_at(1, answer=Answer(429, {"Retry-After": "120"}))
    engine.webhooks.subscribe(receiver.url(), events=["case_created"])
    engine.create_case("steps")
    engine.deliver()

    clock.advance(119_999)
    assert 0 == engine.deliver()
    clock.advance(1)
    assert 1 == engine.deliver()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("999999999", 86_400),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60),
        ("Tue, 14 Nov 2023 22:14:20 -0000", 60),
        ("Tue, 14 Nov 2000 22:14:20 GMT", 0),
        ("Tue, 14 Nov 2099 22:14:20 GMT", 86_400),
        ("soon", None),
        ("-1", None),
        ("٣", None),
        ("", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_a_date(text: str, seconds: float | None) -> None:
    """Both forms are read, within a day; anything else is as if it were not there."""
    assert seconds == retry_after({"retry-after": text}, 1_700_000_000_000)


def test_after_its_last_attempt_a_message_is_dead_and_the_next_one_goes(
    engine: Engine, receiver: Receiver, clock: ManualClock
) -> None:
    """Dead messages are listed, sent again or discarded; the rest of the case is told without them."""
    receiver.answer = lambda got: Answer(500 if b"case_created" in got.body else 200)
    hook = engine.webhooks.subscribe(
        receiver.url(), events=["case_created", "case_started"], retry=Retry(max_attempts=2, initial=1_000)
    )
    case = engine.create_case("steps").run()
    engine.deliver()
    clock.advance(1_000)

    assert 1 == engine.deliver()

    (dead,) = engine.webhooks.dead(hook.id)
    assert ("case_created", 2, "answered with status 500", None) == (
        dead.message["type"],
        dead.attempts,
        dead.error,
        dead.due,
    )
    assert [("case_created", "")] * 2 + [("case_started", "")] == told(receiver)
    receiver.answer = lambda got: Answer()
    engine.webhooks.replay(dead.id)
    assert ([], 1) == (list(engine.webhooks.dead()), engine.deliver())
    assert 1 == len({got.headers["knhk-message-id"] for got in receiver.got if b"case_created" in got.body})
    with pytest.raises(CommandError, match="no dead message"):
        engine.webhooks.replay(dead.id)
    receiver.answer = lambda got: Answer(400)
    case.cancel()
    engine.create_case("steps")
    engine.deliver()
    clock.advance(1_000)
    engine.deliver()
    (dead,) = engine.webhooks.dead()
    engine.webhooks.discard(dead.id)
    assert [] == list(engine.webhooks.dead())
    with pytest.raises(CommandError, match="no dead message"):
        engine.webhooks.discard(dead.id)


def test_a_url_that_leads_inside_later_is_not_called(receiver: Receiver, clock: ManualClock) -> None:
    """A name that was public when it was subscribed, and is not any more: the message is dead at once, and says why."""
    answers = iter([["93.184.215.14"], ["127.0.0.1"]])
    outbound = Outbound(resolve=lambda host, port: next(answers), ports=[receiver.port])
    with Engine(clock=clock, outbound=outbound) as engine:
        engine.register(steps("A"))
        engine.webhooks.subscribe(receiver.url(host="turns.example"), events=["case_created"])
        engine.create_case("steps")

        assert 0 == engine.deliver()

        (dead,) = engine.webhooks.dead()
        assert "loopback" in dead.error
    assert [] == receiver.got


def test_redirects_are_failures(engine: Engine, receiver: Receiver) -> None:
    """A redirect, wherever it leads, is not followed."""
    receiver.answer = lambda got: Answer(307, {"Location": receiver.url("/inside")})
    engine.webhooks.subscribe(receiver.url("/hook"), events=["case_created"])
    engine.create_case("steps")

    assert 0 == engine.deliver()

    assert ["/hook"] == [got.path for got in receiver.got]
    assert ["answered with status 307"] == [each.error for each in engine.webhooks.pending()]


def test_paused_messages_wait_and_come_in_order(engine: Engine, receiver: Receiver, clock: ManualClock) -> None:
    """What happens while a subscription is paused is told after `resume`, in order."""
    hook = engine.webhooks.subscribe(receiver.url(), events=["case_*"])
    engine.webhooks.pause(hook.id)
    case = engine.create_case("steps").run()
    assert (0, 0) == (engine.deliver(), engine.deliver())
    assert engine.webhooks.get(hook.id).paused
    clock.advance(WHILE_PAUSED)
    assert 0 == engine.deliver()
    case.cancel()

    engine.webhooks.resume(hook.id)

    assert 3 == engine.deliver()
    assert ["case_created", "case_started", "case_cancelled"] == [kind for kind, _ in told(receiver)]


def test_a_removed_subscription_is_told_nothing_more(engine: Engine, receiver: Receiver, clock: ManualClock) -> None:
    """Its messages go with it, waiting and dead ones, also those that another engine made before it knew."""
    receiver.answer = lambda got: Answer(500)
    hook = engine.webhooks.subscribe(receiver.url(), events=["case_*"], retry=Retry(max_attempts=1))
    engine.create_case("steps").run()
    engine.deliver()
    assert 2 == len(list(engine.webhooks.dead()))
    engine.create_case("steps").run()
    late = list(engine._store.documents("webhook-outbox"))

    engine.webhooks.remove(hook.id)

    assert ([], [], []) == (engine.webhooks.list(), list(engine.webhooks.dead()), list(engine.webhooks.pending()))
    engine._store.write([attrs.evolve(each, version=1) for each in late])
    got = len(receiver.got)
    assert 0 == engine.deliver()
    assert ([], got) == (list(engine.webhooks.pending()), len(receiver.got))
    for call in (engine.webhooks.get, engine.webhooks.pause, engine.webhooks.resume, engine.webhooks.remove):
        with pytest.raises(CommandError, match="no subscription"):
            call(hook.id)


def test_a_secret_is_shown_once(engine: Engine, receiver: Receiver) -> None:
    """One is made where none is given; lists and texts never show it."""
    hook = engine.webhooks.subscribe(receiver.url())

    assert len(hook.secret) >= 32
    assert hook.secret not in repr(hook)
    assert {""} == {each.secret for each in [*engine.webhooks.list(), engine.webhooks.get(hook.id)]}


def test_what_makes_no_sense_is_refused(engine: Engine, receiver: Receiver) -> None:
    """URLs inside, events that are none, short secrets and endless timeouts are refused, and nothing is stored."""
    subscribe = engine.webhooks.subscribe
    with pytest.raises(OutboundRefused):
        subscribe("http://169.254.169.254/")
    with pytest.raises(CommandError, match="no events 'nonsense'"):
        subscribe(receiver.url(), events=["case_*", "nonsense"])
    with pytest.raises(CommandError, match="there are no events"):
        subscribe(receiver.url(), events=[])
    with pytest.raises(CommandError, match="at least 32 characters"):
        subscribe(receiver.url(), secret="short")
    for timeout in (0, 601):
        with pytest.raises(CommandError, match="timeout"):
            subscribe(receiver.url(), timeout=timeout)
    assert [] == engine.webhooks.list()


def test_a_second_engine_learns_of_subscriptions_and_sends_nothing_twice(
    receiver: Receiver, clock: ManualClock, tmp_path: Path
) -> None:
    """Another engine on the store tells what happens in its own cases after a moment, and both together send each once."""
    path = str(tmp_path / "cases.db")
    with (
        Engine(path, clock=clock, outbound=near(receiver)) as one,
        Engine(path, clock=clock, outbound=near(receiver)) as two,
    ):
        one.register(steps("A"))
        two.create_case("steps")
        one.webhooks.subscribe(receiver.url(), events=["case_*"])
        two.create_case("steps")
        clock.advance(LOOK_EVERY)
        cases = [engine.create_case("steps") for engine in (one, two) * 10]
        for case in cases:
            case.run()
        threads = [threading.Thread(target=engine.deliver) for engine in (one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        clock.advance(60_000)
        one.deliver()

        assert [] == list(one.webhooks.pending())
    ids = [got.headers["knhk-message-id"] for got in receiver.got]
    assert 40 == len(ids) == len(set(ids))


def test_a_message_that_another_engine_took_and_never_sent_is_sent_after_its_claim(
    engine: Engine, receiver: Receiver, clock: ManualClock
) -> None:
    """A claim of an engine that was killed ends; until then nobody sends the message, nor one behind it."""
    engine.webhooks.subscribe(receiver.url(), events=["case_*"], timeout=10)
    case = engine.create_case("steps")
    (waiting,) = engine._store.documents("webhook-outbox")
    tree = {**json.loads(waiting.value), "attempts": 1}
    due = clock.now() + 10_000 + CLAIM_MARGIN
    engine._store.write([attrs.evolve(waiting, value=json.dumps(tree), due=due, version=2)])
    case.start()

    assert 0 == engine.deliver()
    clock.advance(10_000 + CLAIM_MARGIN)
    assert 2 == engine.deliver()
    assert [("case_created", ""), ("case_started", "")] == told(receiver)


class Overtaking(MemoryStore):
    """A store in which somebody else is always faster when a certain thing is written."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Callable[[Any, Any], None] | None = None

    def write(self, documents: Any, removed: Any = ()) -> None:
        """Let the other write first."""
        if self.before is not None:
            self.before(documents, removed)
        super().write(documents, removed)


def test_whoever_is_overtaken_leaves_the_stream_to_the_other(receiver: Receiver, clock: ManualClock) -> None:
    """A claim, a removal or a postponement that comes too late changes nothing and raises nothing."""
    store = Overtaking()
    with Engine(store, clock=clock, outbound=near(receiver)) as engine:
        engine.register(steps("A"))
        engine.webhooks.subscribe(receiver.url(), events=["case_*"])
        engine.create_case("steps").start()
        first, second = store.documents("webhook-outbox")

        def touch(document: Document) -> None:
            now = store.document(document.collection, document.key)
            assert now is not None
            MemoryStore.write(store, [attrs.evolve(now, version=now.version + 1)])

        # Somebody claims the head first.
        def claimed(documents: Any, removed: Any) -> None:
            store.before = None
            now = store.document(first.collection, first.key)
            assert now is not None
            MemoryStore.write(store, [attrs.evolve(now, due=clock.now() + 1, version=now.version + 1)])

        store.before = claimed
        assert 0 == engine._delivery._drain(first.key.rpartition("/")[0] + "/", clock.now)
        assert 0 == len(receiver.got)
        clock.advance(1)
        # Somebody moves the second while the first is sent: it is removed all the same, and the second is claimed afresh.
        calls = []

        def second_moves(documents: Any, removed: Any) -> None:
            if removed and not calls:
                calls.append(1)
                touch(second)

        store.before = second_moves
        assert 2 == engine.deliver()
        assert ([1], []) == (calls, list(engine.webhooks.pending()))
        # Somebody removes the head while it is sent, as after a claim that ended: it was told twice, and all is well.
        case = engine.create_case("steps")
        (head,) = store.documents("webhook-outbox")

        def gone(documents: Any, removed: Any) -> None:
            if removed:
                MemoryStore.write(store, [], removed=removed)
                store.before = None

        store.before = gone
        engine.deliver()
        assert [] == list(engine.webhooks.pending())
        # Somebody moves what is put off behind a message that waits.
        receiver.answer = lambda got: Answer(500)
        case.start()
        case.cancel()

        def moved(documents: Any, removed: Any) -> None:
            if len(documents) == 1 and "case_cancelled" in documents[0].value:
                store.before = None
                touch(documents[0])

        store.before = moved
        engine.deliver()
        assert 2 == len(list(engine.webhooks.pending()))


def test_changes_of_a_subscription_are_made_to_what_is_so(receiver: Receiver, clock: ManualClock) -> None:
    """A change that somebody else overtook is made again; a message that is being sent is left to its sender."""
    store = Overtaking()
    with Engine(store, clock=clock, outbound=near(receiver)) as engine:
        engine.register(steps("A"))
        hook = engine.webhooks.subscribe(receiver.url(), events=["case_*"])
        engine.create_case("steps")

        def overtake_once(documents: Any, removed: Any) -> None:
            store.before = None
            (each,) = documents or removed
            now = store.document(each.collection, each.key)
            assert now is not None
            MemoryStore.write(store, [attrs.evolve(now, version=now.version + 1)])

        store.before = overtake_once
        engine.webhooks.pause(hook.id)
        assert engine.webhooks.get(hook.id).paused
        engine.webhooks.resume(hook.id)

        def overtake_message(documents: Any, removed: Any) -> None:
            if (documents or removed)[0].collection == "webhook-outbox":
                overtake_once(documents, removed)

        store.before = overtake_message
        engine.webhooks.resume(hook.id)
        store.before = overtake_once
        engine.webhooks.remove(hook.id)
        engine.webhooks.subscribe(receiver.url(), events=["case_*"])
        hook = engine.webhooks.list()[0]
        engine.create_case("steps")
        store.before = overtake_message
        engine.webhooks.remove(hook.id)
        assert [] == engine.webhooks.list()
        assert 0 == engine.deliver()


class Broken(MemoryStore):
    """A store that fails at messages of certain cases."""

    broken: tuple[str, ...] = ()

    def documents(self, collection: str, **options: Any) -> Any:
        """Fail where it is told to."""
        if any(each in options.get("prefix", "") for each in self.broken):
            raise StoreUnavailable(f"not now: {options['prefix']}")
        return super().documents(collection, **options)


def test_a_store_that_fails_is_told_of_after_the_others_were_sent(receiver: Receiver, clock: ManualClock) -> None:
    """What could not be looked at raises; other streams are sent, and nothing is lost when the store is back."""
    store = Broken()
    with Engine(store, clock=clock, outbound=near(receiver)) as engine:
        engine.register(steps("A"))
        engine.webhooks.subscribe(receiver.url(), events=["case_created"])
        cases = [engine.create_case("steps") for _ in range(3)]
        store.broken = (cases[0].id, cases[1].id)
        with pytest.raises(StoreUnavailable) as raised:
            engine.deliver()
        assert 1 == len(raised.value.__notes__)
        assert 1 == len(receiver.got)
        store.broken = (cases[0].id,)
        with engine.serve(interval=0.01) as runner:
            while not runner.failures:
                runner.wake()
        store.broken = ()
        with contextlib.suppress(StoreUnavailable):
            # What the runner began last may have failed as well, and nobody was told of it yet.
            engine.deliver()
        engine.deliver()
        assert [] == list(engine.webhooks.pending())


def test_the_runner_sends_without_waiting_for_slow_receivers(
    engine: Engine, receiver: Receiver, clock: ManualClock
) -> None:
    """A round of the runner begins to send and goes on; closing waits for what is under way."""
    arrived, go_on = threading.Event(), threading.Event()

    def slow(got: Got) -> Answer:
        arrived.set()
        go_on.wait(10)
        return Answer()

    receiver.answer = slow
    engine.webhooks.subscribe(receiver.url(), events=["case_*"])
    case = engine.create_case("steps")
    runner = engine.serve()

    assert 1 == runner.step()
    assert arrived.wait(10)
    case.start()
    assert 0 == runner.step()
    assert ["A"] == case.enabled
    closing = threading.Thread(target=engine._delivery.close)
    closing.start()
    while not engine._delivery._closed:
        pass
    go_on.set()
    closing.join()
    assert 1 == runner.step()
    assert 0 == runner.step() + engine.deliver()
    assert [("case_created", "")] == told(receiver)
    assert ["case_started"] == [each.message["type"] for each in engine.webhooks.pending()]


def test_a_stream_of_many_messages_holds_no_other_up(engine: Engine, receiver: Receiver) -> None:
    """What is due behind a busy stream is found, however much of it there is."""
    blocked, go_on = threading.Event(), threading.Event()

    def answer(got: Got) -> Answer:
        if b'"steps"' in got.body and not go_on.is_set():
            blocked.set()
            go_on.wait(10)
        return Answer()

    receiver.answer = answer
    engine.webhooks.subscribe(receiver.url(), events=["item_offered", "task_completed"])
    spec = engine.create_case("steps").run()
    engine.register(steps("A", name="other"))
    for _ in range(120):
        engine._store.write(
            [
                Document(
                    collection="webhook-outbox",
                    key=f"{engine.webhooks.list()[0].id}/{spec.id}/9{_:011d}.000001",
                    value=json.dumps(
                        {"attempts": 0, "error": "", "message": {"id": str(_), "type": "x", "spec_id": "steps"}}
                    ),
                    due=engine.clock.now(),
                )
            ]
        )
    assert 1 == engine._delivery.begin(engine.clock.now)
    assert blocked.wait(10)
    engine.create_case("other").run()

    assert 1 == engine._delivery.begin(engine.clock.now)
    go_on.set()
    assert engine.deliver() >= 121


def test_two_hundred_messages_of_a_case_come_in_order(engine: Engine, receiver: Receiver) -> None:
    """A long history of one case is told in its order."""
    net = build("long")
    work = net.task("W", manual=True, split="xor")
    again = net.condition("again")
    net.start.to(net.task("open")).to(again)
    again.to(work)
    work.to(again, default=True)
    work.to(net.end, when="has(data.stop)")
    engine.register(net.specification())
    engine.webhooks.subscribe(receiver.url(), events=["task_completed"])
    case = engine.create_case("long").run()
    for n in range(200):
        case.complete_task("W", {"n": n})
        if n == 100:
            engine.evict()

    assert 200 == engine.deliver()

    assert [*range(200)] == [json.loads(got.body)["details"]["data"]["n"] for got in receiver.got]


async def _asynchronously(receiver: Receiver) -> int:
    async with AsyncEngine(outbound=near(receiver)) as engine:
        await engine.register(steps("A"))
        engine.engine.webhooks.subscribe(receiver.url(), events=["case_created"])
        await engine.create_case("steps")
        return await engine.deliver()


def test_the_asynchronous_engine_delivers(receiver: Receiver) -> None:
    """`AsyncEngine.deliver` is the same with await."""
    import asyncio

    assert 1 == asyncio.run(_asynchronously(receiver))


@pytest.mark.parametrize(
    ("header", "body", "secret", "now"),
    [
        (sign(b"body", SECRET, at=100), b"bodY", SECRET, 100),
        (sign(b"body", SECRET, at=100), b"body", "another" + SECRET, 100),
        (sign(b"body", SECRET, at=100).replace("t=100", "t=101"), b"body", SECRET, 100),
        (sign(b"body", SECRET, at=100), b"body", SECRET, 401),
        (sign(b"body", SECRET, at=100), b"body", SECRET, -201),
        ("", b"body", SECRET, 100),
        ("t=100", b"body", SECRET, 100),
        ("v1=abc", b"body", SECRET, 100),
        ("t=100,t=100,v1=abc", b"body", SECRET, 100),
        ("t=1e2,v1=abc", b"body", SECRET, 100),
        ("t=-100,v1=abc", b"body", SECRET, 100),
        ("t=100,v1=\udcff", b"body", SECRET, 100),
        (sign(b"body", SECRET, at=100).replace("v1", "v0"), b"body", SECRET, 100),
        (sign(b"body", SECRET, at=100), b"body", [], 100),
        (sign(b"body", SECRET, at=100), b"body", SECRET, None),
    ],
)
def test_a_signature_that_is_not_right_is_refused(header: str, body: bytes, secret: Any, now: float | None) -> None:
    """Another body, secret or time, too old or too new, and headers that are none."""
    with pytest.raises(InvalidSignature):
        verify_signature(header, body, secret, now=now)


def test_a_right_signature_passes_also_while_secrets_change() -> None:
    """One of several secrets, and one of several signatures, is enough."""
    header = sign(b"body", SECRET, at=100)
    verify_signature(header, b"body", ["another" + SECRET, SECRET], now=400)
    verify_signature(f"{header},v1=00, v2=11", b"body", SECRET, now=-200)


def test_a_migrated_case_is_told_of_in_both_versions(engine: Engine, receiver: Receiver) -> None:
    """The move to another version is told, and so is what happens after it."""
    net = build("steps", version="2")
    net.sequence(net.start, net.task("A", manual=True), net.task("C", manual=True), net.end)
    engine.webhooks.subscribe(receiver.url(), events=["case_migrated", "item_offered"])
    case = engine.create_case("steps").run()
    engine.register(net.specification())
    case.migrate("2")
    case.complete_task("A")

    engine.deliver()

    assert [("item_offered", "A"), ("case_migrated", ""), ("item_offered", "C")] == told(receiver)
    assert {"source": "1", "target": "2"} == json.loads(receiver.got[1].body)["details"]
