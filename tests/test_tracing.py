"""Tracing: what an engine does is told as spans, and the trace goes wherever the work goes."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from receiver import Receiver

from knhk import AsyncEngine, Engine, HandlerError, MissingExtra, Outbound, Specification, build
from knhk.stores.memory import MemoryStore
from knhk.telemetry import OpenTelemetryTracer
from knhk.testing.clock import ManualClock
from knhk.work.spans import SAME_TRACE, Tracing, spanned

CALLER = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "vendor=1"}


class Traced:
    """A tracer, and the spans that were told to it."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = OpenTelemetryTracer(provider)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """All spans that have ended."""
        return self.exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        """Those of a name."""
        return [each for each in self.spans if each.name == name]

    def line(self, span: ReadableSpan) -> list[str]:
        """The names of a span and of all that it is in."""
        by_id = {each.context.span_id: each for each in self.spans if each.context is not None}
        names = [span.name]
        while span.parent is not None and span.parent.span_id in by_id:
            span = by_id[span.parent.span_id]
            names.append(span.name)
        return names


def trace_of(span: ReadableSpan) -> str:
    """The id of a span's trace."""
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


@pytest.fixture
def traced() -> Traced:
    """Nothing told yet."""
    return Traced()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A service that says yes to everything."""
    with Receiver() as running:
        yield running


def near(receiver: Receiver) -> Outbound:
    """A policy that allows a receiver on the loopback."""
    return Outbound(allow=[f"127.0.0.1:{receiver.port}"])


def handled(*tasks: str, **more: Any) -> Specification:
    """Tasks of one handler each, one after the other."""
    net = build("steps")
    net.sequence(net.start, *(net.task(each, handler=each, **more) for each in tasks), net.end)
    return net.specification()


def test_the_trace_of_a_request_reaches_the_service_and_the_subscriber(traced: Traced, receiver: Receiver) -> None:
    """A command inside a caller's trace is in it, and so are its task, its request, its commits, and later its webhooks."""
    net = build("order")
    http = {"method": "POST", "url": receiver.url("/secret-{data.word}?key={data.word}"), "body": "data"}
    net.sequence(net.start, net.task("charge", http=http), net.end)
    with Engine(tracer=traced.tracer, outbound=near(receiver)) as engine:
        engine.webhooks.subscribe(receiver.url("/hook"), events=["case_completed"])
        engine.register(net.specification())
        with spanned(traced.tracer, "request", {}, kind="server", parent=CALLER):
            case = engine.create_case("order", {"word": "hush"})
            case.run()
        assert 1 == engine.deliver()

    asked, told = receiver.got
    (request,) = [each for each in traced.spans if each.name == "http POST" and "task charge" in traced.line(each)]
    (delivery,) = traced.named("webhook")
    assert traced.line(request) == ["http POST", "handler http", "task charge", "case run", "request"]
    assert traced.line(traced.named("case create")[0]) == ["case create", "request"]
    assert {"store commit"} < {traced.line(each)[0] for each in traced.spans if "case run" in traced.line(each)}
    assert {"a" * 32} == {trace_of(each) for each in traced.spans}
    assert "request" in traced.line(delivery)
    for got in (asked, told):
        assert got.headers["traceparent"].startswith(f"00-{'a' * 32}-")
        assert "vendor=1" == got.headers["tracestate"]
        assert f"{'b' * 16}" not in got.headers["traceparent"]
    assert {"server.address": "127.0.0.1", "http.response.status_code": 200} == {
        name: value for name, value in (request.attributes or {}).items() if name[-3:] in ("ess", "ode")
    }
    assert "hush" not in "".join(each.to_json() for each in traced.spans)


def test_commands_of_a_pipeline_have_spans_of_their_own_and_one_commit(traced: Traced) -> None:
    """Each command of a pipeline is told as by itself, and what they share as one commit of so many steps."""
    net = build("hand")
    net.sequence(net.start, net.task("wait", manual=True), net.end)
    with Engine(tracer=traced.tracer) as engine:
        engine.register(net.specification())
        cases = [each.result() for each in engine.pipeline([partial(engine.create_case, "hand", start=True)] * 3)]
        traced.exporter.clear()
        outcomes = engine.pipeline([partial(each.complete_task, "wait") for each in cases])

    assert [None] * 3 == [each.error for each in outcomes]
    assert {each.id for each in cases} == {
        (each.attributes or {})["knhk.case_id"] for each in traced.named("case complete task")
    }
    (commit,) = traced.named("store commit")
    assert 3 == (commit.attributes or {})["knhk.commits"]


def test_without_a_tracer_a_message_still_carries_the_trace_that_it_was_made_in(
    traced: Traced, receiver: Receiver
) -> None:
    """Whoever sends a message passes on the trace of the commit, whether or not he traces."""
    store = MemoryStore()
    net = build("steps")
    net.sequence(net.start, net.task("wait", manual=True), net.end)
    engine = Engine(store, tracer=traced.tracer, outbound=near(receiver))
    engine.webhooks.subscribe(receiver.url(), events=["case_started"])
    engine.register(net.specification())
    with spanned(traced.tracer, "request", {}, parent=CALLER):
        engine.create_case("steps").start()

    assert 1 == Engine(store, outbound=near(receiver)).deliver()
    assert receiver.got[0].headers["traceparent"].startswith(f"00-{'a' * 32}-")


def test_a_header_of_the_modeller_stays(traced: Traced, receiver: Receiver) -> None:
    """A task that says its own ``Traceparent`` sends that one alone."""
    net = build("order")
    own = f"00-{'c' * 32}-{'d' * 16}-00"
    http = {"method": "GET", "url": receiver.url(), "headers": {"Traceparent": own}}
    net.sequence(net.start, net.task("look", http=http), net.end)
    engine = Engine(tracer=traced.tracer, outbound=near(receiver))
    engine.register(net.specification())

    engine.create_case("order").run()

    assert own == receiver.got[0].headers["traceparent"]


def test_what_the_runner_does_is_in_the_trace_of_who_asked(traced: Traced) -> None:
    """A runner's threads go on in the trace of the command that gave the case its work, and time off ends that."""
    clock = ManualClock()
    done = threading.Event()
    engine = Engine(tracer=traced.tracer, clock=clock)
    net = build("steps")
    net.sequence(net.start, net.task("now", handler="now"), net.task("later", timer="1d"), net.end)
    engine.register(net.specification())

    @engine.handler("now")
    def now(work: Any) -> dict[str, Any]:
        done.set()
        return {}

    with spanned(traced.tracer, "request", {}, parent=CALLER):
        case = engine.create_case("steps")
        case.start()
    with engine.serve(workers=1):
        assert done.wait(10)
    clock.advance(SAME_TRACE + 86_400_000)
    engine.tick()

    (task,), (tick,) = traced.named("task now"), traced.named("case tick")
    assert "completed" == case.state
    assert ["task now", "case run"] == traced.line(task)[:2]
    assert "a" * 32 == trace_of(task)
    assert "a" * 32 != trace_of(tick)
    assert [int("a" * 32, 16)] == [each.context.trace_id for each in tick.links]


def test_an_attempt_that_fails_is_a_span_that_fails(traced: Traced) -> None:
    """Each attempt is a task's span with its number; those that failed say of what."""
    clock = ManualClock()
    engine = Engine(tracer=traced.tracer, clock=clock)
    engine.register(handled("charge", retry={"max_attempts": 2, "initial": "1s"}))

    @engine.handler("charge")
    def charge(work: Any) -> dict[str, Any]:
        raise ValueError(f"attempt {work.attempt}")

    case = engine.create_case("steps")
    case.run()
    clock.advance(60_000)
    with pytest.raises(HandlerError):
        case.run()

    spans = traced.named("task charge")
    assert [1, 2] == [(each.attributes or {})["knhk.attempt"] for each in spans]
    assert ["ValueError: attempt 1", "ValueError: attempt 2"] == [each.status.description for each in spans]
    assert 2 == len(traced.named("handler charge"))
    assert {case.id} == {(each.attributes or {})["knhk.case_id"] for each in traced.spans}
    assert {"steps"} == {(each.attributes or {}).get("knhk.workflow_id", "steps") for each in traced.spans}


@pytest.mark.parametrize("bounded", [None, "1m"])
def test_asynchronous_handlers_are_in_their_tasks_span(traced: Traced, bounded: str | None) -> None:
    """What an asynchronous handler does is inside the span of its task, and the commits of its engine's threads are inside the run's."""

    async def main() -> None:
        async with AsyncEngine(tracer=traced.tracer) as engine:
            await engine.register(handled("one", "two", timeout=bounded))

            @engine.handler("one")
            async def one(work: Any) -> dict[str, Any]:
                with spanned(traced.tracer, "mine", {}):
                    await asyncio.sleep(0)
                return {}

            @engine.handler("two")
            def two(work: Any) -> dict[str, Any]:
                with spanned(traced.tracer, "plain", {}):
                    return {}

            with spanned(traced.tracer, "request", {}):
                case = await engine.create_case("steps")
                await case.run()

    asyncio.run(main())
    assert ["mine", "handler one", "task one", "case run", "request"] == traced.line(traced.named("mine")[0])
    assert ["plain", "handler two", "task two", "case run", "request"] == traced.line(traced.named("plain")[0])
    assert {"request"} == {traced.line(each)[-1] for each in traced.spans}


def test_people_s_work_and_lost_work_end_their_spans(traced: Traced) -> None:
    """Commands on items are spans by their names, and work that was interrupted leaves no span open."""
    net = build("steps")
    net.sequence(net.start, net.task("sign", manual=True), net.task("charge", handler="charge"), net.end)
    engine = Engine(tracer=traced.tracer)
    engine.register(net.specification())

    @engine.handler("charge")
    def charge(work: Any) -> dict[str, Any]:
        raise KeyboardInterrupt

    case = engine.create_case("steps")
    case.start()
    (item,) = case.work_items()
    item.start()
    item.complete()
    with pytest.raises(KeyboardInterrupt):
        case.run()
    engine.handler("charge")(lambda work: sys.exit(1))
    with pytest.raises(SystemExit):
        case.run()

    commands = [each.name for each in traced.spans if each.name.startswith("case ")]
    assert ["case create", "case start", "case start item", "case complete item", "case run", "case run"] == commands
    assert 2 == len(traced.named("task charge"))
    assert 1 == len({trace_of(each) for each in traced.spans})


def test_memory_of_traces_is_bounded(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of so many cases and no more it is known in whose trace they were."""
    monkeypatch.setattr("knhk.work.spans.MOST_REMEMBERED", 3)
    engine = Engine(tracer=traced.tracer)
    engine.register(handled("charge"))

    engine.create_many("steps", [None] * 5)

    assert isinstance(engine._tracing, Tracing)
    assert 3 == len(engine._tracing._last)


def test_without_the_library_the_tracer_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tracer without OpenTelemetry names the extra."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "knhk.telemetry")

    with pytest.raises(MissingExtra, match=r"knhk\[otel\]"):
        __import__("knhk.telemetry")
