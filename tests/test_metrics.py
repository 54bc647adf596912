"""Metrics: what specifications declare to be counted, and what an engine counts of its own work."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Any

import pytest

from knhk import (
    AsyncEngine,
    Engine,
    EventKind,
    HandlerError,
    Limits,
    Specification,
    SpecificationError,
    StoreUnavailable,
    build,
)
from knhk.spec import Label, Metric, MetricKind
from knhk.spec._metrics import EVENTS, TASK_EVENTS
from knhk.stores.memory import MemoryStore
from knhk.testing.clock import ManualClock
from knhk.work.metrics import BUCKETS, LONGEST_LABEL, OTHER, Distribution, Metrics

AMOUNT = {"name": "amount", "kind": "histogram", "on": "case_completed", "value": "data.amount", "buckets": [10, 100]}


def counting(*metrics: Any, version: str = "1", handler: str | None = None) -> Specification:
    """Two tasks, and what is counted of them."""
    net = build("order", version=version, metrics=metrics)
    check = net.task("check", handler=handler) if handler else net.task("check", manual=True)
    net.sequence(net.start, check, net.task("ship"), net.end)
    return net.specification()


def series(engine: Engine | AsyncEngine, name: str) -> dict[tuple[str, ...], float | Distribution]:
    """The series of a metric."""
    (found,) = [each for each in engine.metrics.read() if each.name == name]
    return dict(found.series)


def done(engine: Engine, **data: Any) -> None:
    """Bring a case to its end."""
    case = engine.create_case("order", data)
    case.start()
    case.complete_task("check", {"checked": True})


def test_a_counter_counts_events_of_its_task() -> None:
    """A counter without a value counts one for each event, of its task alone where it names one."""
    engine = Engine()
    engine.register(
        counting(
            {"name": "checked", "kind": "counter", "on": "task_completed", "task": "check"},
            {"name": "shipped", "kind": "counter", "on": "task_fired", "task": "ship"},
            {"name": "never", "kind": "counter", "on": "task_completed", "task": "ship"},
            {"name": "made", "kind": "counter", "on": "case_created", "value": "data.parts"},
        )
    )
    for parts in (2, 3):
        done(engine, parts=parts)
    engine.create_case("order", {"parts": 4})

    assert [{(): 2.0}, {(): 2.0}, {}, {(): 9.0}] == [
        series(engine, name) for name in ("checked", "shipped", "never", "made")
    ]


def test_values_are_those_after_the_event() -> None:
    """An expression sees the data as the event has left them; a gauge keeps the last, a histogram sorts them by size."""
    engine = Engine()
    engine.register(
        counting(
            {**AMOUNT, "on": "task_completed", "value": "data.amount"},
            {"name": "last", "kind": "gauge", "on": "case_completed", "value": "data.amount", "help": "The last."},
            {"name": "sizes", "kind": "histogram", "on": "task_completed", "value": "data.amount / 1000.0"},
        )
    )
    for amount in (10.0, 11.0, 500.0):
        case = engine.create_case("order", {"amount": 0.0})
        case.start()
        case.complete_task("check", {"amount": amount})

    found = series(engine, "amount")[()]
    assert Distribution(count=3, total=521.0, buckets={10.0: 1, 100.0: 2, math.inf: 3}) == found
    assert (*BUCKETS, math.inf) == tuple(series(engine, "sizes")[()].buckets)  # type: ignore[union-attr]
    assert {(): 500.0} == series(engine, "last")


def test_labels_are_bounded() -> None:
    """A label has so many values as it says; further ones are ``other``, and what is long is cut."""
    engine = Engine()
    labels = {"region": {"value": "data.region", "maximum": 2}, "big": "data.amount > 10.0"}
    engine.register(counting({"name": "orders", "kind": "counter", "on": "case_completed", "labels": labels}))
    for region in ("eu", "us", "x" * 500, "eu", None):
        done(engine, region=region, amount=20.0)

    assert {("eu", "true"): 2.0, ("us", "true"): 1.0, (OTHER, "true"): 2.0} == series(engine, "orders")
    assert ("region", "big") == engine.metrics.read()[0].labels
    done(engine, region=3, amount=1.0)
    assert 1.0 == series(engine, "orders")[(OTHER, "false")]


def test_label_texts() -> None:
    """Text, numbers, truths and null are labels; long text is cut."""
    engine = Engine()
    labels = {"what": {"value": "data.what", "maximum": 9}}
    engine.register(counting({"name": "n", "kind": "counter", "on": "case_completed", "labels": labels}))
    for what in ("y" * 200, 3, 2.5, False, None):
        done(engine, what=what)

    assert {("y" * LONGEST_LABEL,), ("3",), ("2.5",), ("false",), ("",)} == set(series(engine, "n"))


@pytest.mark.parametrize(
    ("value", "label", "kind"),
    [
        ("data.missing", None, "gauge"),
        ("data.word", None, "gauge"),
        ("data.yes", None, "histogram"),
        ("0.0 - data.amount", None, "counter"),
        ("data.amount", "data.list", "counter"),
        ("data.huge * data.huge", None, "gauge"),
    ],
)
def test_a_value_that_cannot_be_is_left_out(
    value: str, label: str | None, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What is no number, or no text for a label, counts for nothing, is told to the log once, and the case goes on."""
    metric = {"name": "n", "kind": kind, "on": "case_completed", "value": value}
    if label is not None:
        metric["labels"] = {"x": label}
    engine = Engine()
    engine.register(counting(metric))
    with caplog.at_level(logging.WARNING, "knhk.metrics"):
        for _ in range(3):
            done(engine, amount=1.0, word="w", yes=True, list=[1], huge=1e300)

    assert {} == series(engine, "n")
    assert 3 == engine.metrics.errors
    assert 1 == len(caplog.records)
    assert ["completed"] * 3 == [each.state for each in engine.cases()]


def test_what_is_not_stored_does_not_count() -> None:
    """A step whose commit fails counts for nothing, and once when it is done again."""

    class Failing(MemoryStore):
        broken = False

        def commit(self, commits: Any) -> None:
            if self.broken:
                raise StoreUnavailable("gone")
            super().commit(commits)

    store = Failing()
    engine = Engine(store)
    engine.register(counting({"name": "n", "kind": "counter", "on": "task_completed"}))
    case = engine.create_case("order")
    case.start()
    store.broken = True
    with pytest.raises(StoreUnavailable):
        case.complete_task("check")
    store.broken = False
    before = series(engine, "n")
    case.complete_task("check")

    assert ({}, {(): 1.0}) == (before, series(engine, "n"))


def test_evicted_launched_and_migrated_cases_count_on() -> None:
    """A case that was forgotten, moved to another version, or created with others counts as any."""
    first = {"name": "n", "kind": "counter", "on": "task_completed"}
    engine = Engine()
    engine.register(counting(first))
    engine.register(counting({**first, "help": "as before"}, version="2"))
    one, two, three = engine.create_many("order", [{}, {}, {}], version="1")
    for case in (one, two, three):
        case.start()
    engine.evict()
    one.complete_task("check")
    two.migrate("2")
    two.complete_task("check")

    assert {(): 2.0} == series(engine, "n")
    engine.register(counting({"name": "n", "kind": "gauge", "on": "task_completed", "value": "7"}, version="3"))
    three.migrate("3")
    three.complete_task("check")
    assert {(): 7.0} == series(engine, "n")


def test_a_schedule_s_cases_count() -> None:
    """A case that is launched by a schedule counts its creation and its start."""
    clock = ManualClock()
    net = build(
        "order",
        schedule={"every": "1h"},
        metrics=[
            Metric(name="made", kind=MetricKind.COUNTER, on="case_created"),
            Metric(name="begun", kind=MetricKind.COUNTER, on="case_started", labels={"a": Label(value="'b'")}),
        ],
    )
    net.sequence(net.start, net.task("check", manual=True), net.end)
    engine = Engine(clock=clock)
    engine.register(net.specification())
    clock.advance(3_600_001)
    engine.tick()

    assert ({(): 1.0}, {("b",): 1.0}) == (series(engine, "made"), series(engine, "begun"))


def test_attempts_are_counted_where_that_is_asked_for() -> None:
    """A measured engine counts attempts by handler and outcome; another counts none."""
    clock = ManualClock()
    net = build("order")
    retried = net.task("charge", handler="charge", retry={"max_attempts": 2, "initial": "1s"})
    net.sequence(net.start, net.task("check", handler="check"), retried, net.end)
    counts = []
    for measured in (True, False):
        engine = Engine(clock=clock, measured=measured)
        engine.register(net.specification())
        engine.handler("check")(lambda work: {})
        engine.handler("charge")(lambda work: 1 / 0)
        case = engine.create_case("order")
        case.run()
        clock.advance(60_000)
        with pytest.raises(HandlerError):
            case.run()
        counts.append(dict(engine.metrics.attempts))

    assert [{("check", "completed"): 1, ("charge", "retried"): 1, ("charge", "failed"): 1}, {}] == counts


@pytest.mark.parametrize("store", ["memory:", "sqlite"])
@pytest.mark.parametrize("replayable", [True, False])
def test_attempts_by_express_are_counted_once(store: str, replayable: bool, tmp_path: Any) -> None:
    """Whether a case goes by express, is overtaken on its way or driven, each attempt counts once."""
    engine = Engine(store if store == "memory:" else str(tmp_path / "x.db"), measured=True)
    net = build("order")
    names = ("one", "two", "three")
    net.sequence(net.start, *(net.task(each, handler=each, replayable=replayable) for each in names), net.end)
    engine.register(net.specification())

    def look(work: Any) -> dict[str, Any]:
        # Somebody looks meanwhile, so the case has to be landed.
        return {"seen": len(engine.case(work.case_id).history()) > 0}

    for name in names:
        engine.handler(name)(look if name == "two" else lambda work: {})
    engine.create_case("order").run()
    engine.handler("two")(lambda work: {})
    engine.create_case("order").run()
    engine.handler("three")(lambda work: {"bad": object()})
    with pytest.raises(HandlerError):
        engine.create_case("order").run()

    assert {
        ("one", "completed"): 3,
        ("two", "completed"): 3,
        ("three", "completed"): 2,
        ("three", "failed"): 1,
    } == dict(engine.metrics.attempts)


def test_attempts_that_are_handed_back_are_counted() -> None:
    """An asynchronous run that is cancelled hands its attempt back, which is an outcome of its own."""

    async def main() -> dict[tuple[str, str], int]:
        async with AsyncEngine(measured=True) as engine:
            await engine.register(counting(handler="check"))
            begun = asyncio.Event()

            @engine.handler("check")
            async def check(work: Any) -> dict[str, Any]:
                begun.set()
                await asyncio.Event().wait()
                return {}

            run = asyncio.ensure_future((await engine.create_case("order")).run())
            await begun.wait()
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
            return dict(engine.metrics.attempts)

    assert {("check", "handed_back"): 1} == asyncio.run(main())


def test_or_joins_beyond_their_budget_are_counted() -> None:
    """An OR-join whose search meets its budget counts once, however often its case moves while it waits."""
    net = build("survey")
    begin, merge = net.task("begin", split="and"), net.task("merge", join="or", manual=True)
    collect, assign = net.task("collect", join="and"), net.task("assign", manual=True, split="xor")
    desk, opinion = net.condition("desk"), net.condition("opinion")
    begin.to(opinion).to(merge).to(net.end)
    net.start.to(begin).to(desk).to(assign)
    for each in (0, 1):
        inbox = net.condition(f"inbox{each}")
        net.sequence(inbox, net.task(f"read{each}", manual=True), collect)
        assign.to(inbox, **({"default": True} if each else {"when": "data.reader == 0"}))
    collect.to(merge)
    counts = []
    for measured, budget in ((True, 0), (False, 0), (True, None)):
        engine = Engine(limits=Limits(or_join_budget=budget), measured=measured)
        engine.register(net.specification())
        case = engine.create_case("survey", {"reader": 0})
        case.start()
        case.start_task("assign")
        counts.append((engine.metrics.undecided, len(case.problems)))

    assert [(1, 1), (0, 1), (0, 0)] == counts


# --- the format -----------------------------------------------------------------------------------------------------------


def test_the_events_that_can_be_counted_are_events() -> None:
    """Every event that a metric may name is one of the engine's, and those about tasks are told with a path."""
    known = {each.value for each in EventKind}

    assert {*EVENTS, *TASK_EVENTS} <= known
    assert not {*EVENTS} & {*TASK_EVENTS}


@pytest.mark.parametrize(
    ("metric", "place", "says"),
    [
        ({"kind": "counter", "on": "case_created"}, "metrics[0]", '"name" is missing'),
        ({"name": "Amount", "kind": "counter", "on": "case_created"}, "metrics.Amount.name", "does not match"),
        (
            {"name": "a_total", "kind": "counter", "on": "case_created"},
            "metrics.a_total.name",
            "must not end in _total",
        ),
        ({"name": "a", "kind": "summary", "on": "case_created"}, "metrics.a.kind", '"counter", "gauge" or "histogram"'),
        ({"name": "a", "kind": "counter", "on": "case_complete"}, "metrics.a.on", 'did you mean "case_completed"'),
        ({"name": "a", "kind": "counter", "on": 3}, "metrics.a.on", "must be an event"),
        ({"name": "a", "kind": "counter", "on": "case_created", "task": "check"}, "metrics.a.task", "means nothing"),
        ({"name": "a", "kind": "counter", "on": "task_fired", "task": "nope"}, "metrics.a.task", "there is no task"),
        ({"name": "a", "kind": "gauge", "on": "case_created"}, "metrics.a.value", "a gauge needs one"),
        ({"name": "a", "kind": "counter", "on": "case_created", "value": "data."}, "metrics.a.value", "data.: "),
        ({"name": "a", "kind": "counter", "on": "case_created", "value": "item"}, "metrics.a.value", "item"),
        ({"name": "a", "kind": "counter", "on": "case_created", "buckets": [1]}, "metrics.a.buckets", "means nothing"),
        ({**AMOUNT, "buckets": [1, 1]}, "metrics.amount.buckets", "must ascend"),
        ({**AMOUNT, "buckets": []}, "metrics.amount.buckets", "a list of 1 to 50"),
        ({**AMOUNT, "buckets": ["x"]}, "metrics.amount.buckets[0]", "must be a number"),
        ({**AMOUNT, "labels": {}}, "metrics.amount.labels", "1 to 5 labels"),
        ({**AMOUNT, "labels": {"le": "data.x"}}, "metrics.amount.labels", 'no label may be called "le"'),
        ({**AMOUNT, "labels": {"X": "data.x"}}, "metrics.amount.labels.X", "does not match"),
        ({**AMOUNT, "labels": {"x": {"maximum": 3}}}, "metrics.amount.labels.x", '"value" is missing'),
        ({**AMOUNT, "labels": {"x": "1 +"}}, "metrics.amount.labels.x.value", "1 +: "),
        (
            {**AMOUNT, "labels": {each: {"value": "1", "maximum": 100} for each in ("x", "y")}},
            "metrics.amount.labels",
            "10,000 series",
        ),
        ({**AMOUNT, "unit": "EUR"}, "metrics.amount.unit", "unknown member"),
    ],
)
def test_metrics_that_cannot_be(metric: dict[str, Any], place: str, says: str) -> None:
    """What is wrong with a metric is told with its place."""
    with pytest.raises(SpecificationError) as caught:
        counting(metric)

    assert [place] == [each.place for each in caught.value.problems]
    assert says in caught.value.problems[0].message


def test_lists_of_metrics_that_cannot_be() -> None:
    """Metrics are a list, of so many and no more, and none has the name of another."""
    tree = counting(AMOUNT).to_dict()
    for metrics, says in ((AMOUNT, "must be a list"), ([AMOUNT] * 51, "at most 50"), ([AMOUNT, AMOUNT], "used twice")):
        with pytest.raises(SpecificationError, match=says):
            Specification.from_dict({**tree, "metrics": metrics})


def test_metrics_are_content() -> None:
    """What is counted belongs to the content of a specification, and defaults written out do not change it."""
    plain = {"name": "n", "kind": "counter", "on": "case_created", "labels": {"x": "data.x"}}
    spelled = {**plain, "help": "", "labels": {"x": {"value": "data.x", "maximum": 10}}}

    assert counting(plain).content_hash == counting(spelled).content_hash
    assert counting(plain).content_hash != counting().content_hash
    assert counting(plain) == Specification.from_yaml(counting(plain).to_yaml())


def test_nothing_is_done_where_nothing_is_counted() -> None:
    """Without metrics no case is looked at, and it may go by express."""
    engine = Engine()
    engine.register(counting(handler="check"))
    counted = Engine()
    counted.register(counting(AMOUNT, handler="check"))

    assert not engine.metrics.active
    assert counted.metrics.active
    assert counted._cache.compiled("order", "1").express is None
    assert isinstance(engine.metrics, Metrics)
