"""The events of a case as a client hears of them: over gRPC and HTTP, and what it does where no answer comes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import attrs
import grpc
import pytest

from knhk import errors
from knhk.client import AsyncClient, Balancing, Client, Event
from knhk.client.core import Answer, Core, Lost, Next, Send, Settings, Wait
from knhk.client.grpc_sends import GrpcSends
from knhk.client.watching import LISTEN, Found, Watch
from knhk.server.rpc import watching
from tests.listening import Instance, Shared, connected
from tests.rpc import Called, called, until
from tests.served import ORDER, token

HTTP = "http://one"
CUT = Lost(ConnectionResetError("reset"), sent=True)
UNSENT = Lost(ConnectionRefusedError("refused"), sent=False)
STANDS = Answer(200, {}, b"")


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that looks often."""
    monkeypatch.setattr(watching, "LOOK", 0.01)


def url_of(made: Called) -> str:
    """Where it is called over gRPC."""
    return f"grpc://127.0.0.1:{made.made.rpc.port}"


@contextmanager
def case_of(made: Called) -> Iterator[tuple[Client, str]]:
    """A client, and a case that has been started."""
    with Client(url_of(made), token=token()) as client:
        client.workflows.register(ORDER)
        yield client, client.cases.create("order", start=True).case_id


def complete(client: Client, case: str) -> None:
    """Do what is offered next in a case."""
    (item,) = client.items.list(case_id=case).items
    client.items.complete(item.id)


# --- of a service ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "rpc"), [(Client, True), (Client, False), (AsyncClient, False)])
def test_events_come_as_they_happen(
    kind: type[Client | AsyncClient], rpc: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever happens between two looks, or two streams, comes once and in order, until the case has ended; `after` leaves out what is known."""
    with called() as made, ExitStack() as stack:
        worker, case = stack.enter_context(case_of(made))
        instance = Instance(made.made)
        stack.callback(instance.end)
        client = stack.enter_context(connected(kind, [url_of(made) if rpc else instance.url], token=token()))
        target = client if isinstance(client, Client) else client._target
        happens = [lambda: complete(worker, case), lambda: None, lambda: complete(worker, case)]

        def sleep(_: float) -> None:
            happens.pop(0)()

        async def wait(_: float) -> None:
            sleep(_)

        monkeypatch.setattr(target.transport, "_sleep", wait if kind is AsyncClient else sleep)
        # Over gRPC each stream ends when it has told what there is.
        monkeypatch.setattr(made.made.service.polls, "pause", lambda _: True)
        heard = list(client.cases.watch(case))
        history = list(worker.cases.history(case).items)

        assert [] == happens
        assert history == heard
        assert isinstance(heard[0], Event)
        assert "case_completed" == heard[-1].kind
        assert history[4:] == list(client.cases.watch(case, after=4))
        assert [] == list(client.cases.watch(case, after=len(history)))
        with pytest.raises(errors.UnknownCase):
            list(client.cases.watch("none"))


def test_a_stream_goes_on_with_another_instance() -> None:
    """Where the instance that tells ends, another one goes on from the last event, and nothing comes twice."""
    store = Shared()
    with called(store=store, instance_id="i0") as left, ExitStack() as stack:
        ending = ExitStack()
        leaves = ending.enter_context(called(store=store, instance_id="i1"))
        worker, case = stack.enter_context(case_of(left))
        client = stack.enter_context(Client([url_of(leaves), url_of(left)], token=token()))
        heard = []
        for event in client.cases.watch(case):
            heard.append(event)
            if event.kind == "item_offered":
                # What happens while nobody is there to tell it is not lost either.
                ending.close()
                complete(worker, case)

        assert list(worker.cases.history(case).items) == heard
        assert "case_completed" == heard[-1].kind
        assert [0, 0] == [each.under_way for each in client.transport.core.endpoints.values()]


def test_a_token_that_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a fresh token the stream goes on where the old one counts no more; one that never counted is refused."""
    with called() as made, case_of(made) as (worker, case):
        asked = 0

        def fresh() -> str:
            nonlocal asked
            asked += 1
            if asked == 2:
                monkeypatch.undo()
                worker.cases.cancel(case)
            return token()

        with Client(url_of(made), token=fresh) as client:
            stream = client.cases.watch(case)
            heard = [next(stream)]
            monkeypatch.setattr(made.made.rpc._gate.verifier, "_now", lambda: 2**40)
            heard += stream

        assert (2, "case_cancelled") == (asked, heard[-1].kind)
        assert list(worker.cases.history(case).items) == heard
        with Client(url_of(made)) as stranger, pytest.raises(errors.ResponseRefused, match="unauthenticated"):
            list(stranger.cases.watch(case))


def test_whoever_hears_no_more_leaves_his_place() -> None:
    """An iterator that is closed gives its place in the service up; with a client that is closed it ends, and says so."""
    with called() as made, case_of(made) as (client, case):
        places = made.made.rpc._gate._watches
        most = places._value
        stream = client.cases.watch(case)
        next(stream)
        assert most - 1 == places._value
        stream.close()
        until(lambda: places._value == most)
        other = client.cases.watch(case)
        next(other)
        client.close()
        with pytest.raises(errors.OutboundRefused, match="closed"):
            list(other)


@pytest.mark.parametrize(("after", "every"), [(-1, 1.0), (0, 0.0), (0, float("nan"))])
def test_what_cannot_be_watched(after: int, every: float) -> None:
    """A number that no event has, and looks without time between them, are refused before anything is sent."""
    with Client(HTTP) as client, pytest.raises(ValueError, match="sequence number"):
        client.cases.watch("a", after=after, every=every)


# --- without sockets ------------------------------------------------------------------------------------------------------


class Line:
    """A core with its clock, which answers by functions; what was asked and waited for is kept."""

    def __init__(self, *urls: str, streams: bool, **settings: Any) -> None:
        self.now = 0.0
        self.waits: list[float] = []
        self.asked: list[tuple[str, Any]] = []
        self.core = Core(urls or (HTTP,), Settings(seconds=lambda: self.now, chance=lambda: 0.5, **settings))
        self.watch = Watch(self.core, "a", after=0, every=7.0, streams=streams)

    def hear(self, answers: Callable[[Send], Iterator[Answer | Lost]]) -> list[int]:
        """Watch until it is over; returns the numbers of the events."""
        steps, heard, said, coming = self.watch.steps(), [], None, iter(())
        while True:
            try:
                step = steps.send(said)
            except StopIteration:
                return heard
            said = None
            if isinstance(step, Found):
                heard.append(step.event.sequence)
            elif isinstance(step, Wait):
                self.waits.append(step.seconds)
                self.now += step.seconds
            elif isinstance(step, Next):
                said = next(coming, None)
            elif step.url.endswith("/health/ready"):
                said = Answer(200, {}, b"")
            else:
                assert step.request is not None
                self.asked.append((step.endpoint, step.request.query.get("after")))
                coming = answers(step)
                if not step.streams:
                    said = next(coming)


def event(number: int) -> Answer:
    """An event."""
    told = Event(sequence=number, at="", kind="task_started", path="", details={})
    return Answer(200, {}, json.dumps(attrs.asdict(told)).encode())


def problem(kind: str, status: int, **headers: str) -> Answer:
    """A refusal."""
    return Answer(status, headers, json.dumps({"type": f"urn:knhk:problem:{kind}"}).encode())


def test_a_stream_begins_anew_where_it_was() -> None:
    """A cut, an end of the instance or of the time, and a store that is away: each stream is asked for from behind the last event."""
    streams = [
        [STANDS, event(1), CUT],
        [STANDS, event(2), event(3), problem("draining", 503)],
        [STANDS, problem("deadline", 504)],
        [problem("store-unavailable", 503)],
        [UNSENT],
        [STANDS, event(4)],
    ]
    line = Line("http://one", "http://two", streams=True)

    assert [1, 2, 3, 4] == line.hear(lambda _: iter(streams.pop(0)))
    assert [0, 1, 3, 3, 3, 3] == [after for _, after in line.asked]
    assert {"http://one", "http://two"} == {url for url, _ in line.asked}
    # Each that stood begins the waits anew; those that did not make them longer.
    assert [0.05, 0.05, 0.05, 0.1, 0.2] == line.waits
    assert [0, 0] == [each.under_way for each in line.core.endpoints.values()]


def test_a_case_comes_home() -> None:
    """By consistent hashing a case that went to another instance for a while is asked of its own one again."""
    urls = [f"http://{number}" for number in range(3)]
    streams = [[problem("store-unavailable", 503)], [STANDS, problem("deadline", 504)], [STANDS]]
    line = Line(*urls, streams=True, balancing=Balancing.CONSISTENT_HASHING)

    line.hear(lambda _: iter(streams.pop(0)))
    home, other, then = [url for url, _ in line.asked]
    assert home == then != other


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize(
    ("answer", "raised"),
    [
        (problem("not-found", 404), errors.UnknownCase),
        (problem("forbidden", 403), errors.Forbidden),
        (problem("unauthenticated", 401), errors.ResponseRefused),
    ],
)
def test_what_does_not_pass_is_raised(streams: bool, answer: Answer, raised: type[Exception]) -> None:
    """A refusal that another attempt would not change is raised at once."""
    line = Line(streams=streams)

    with pytest.raises(raised):
        line.hear(lambda _: iter([answer]))
    assert (1, []) == (len(line.asked), line.waits)


@pytest.mark.parametrize("streams", [True, False])
def test_nobody_answers_for_too_long(streams: bool) -> None:
    """Where no instance answers for the client's `timeout` that is raised, with waits that grow, however long all was well before."""
    line = Line(streams=streams, timeout=20.0)
    answered = 0

    def answers(_: Send) -> Iterator[Answer | Lost]:
        nonlocal answered
        answered += 1
        if answered == 1 and streams:
            yield STANDS
            line.now += LISTEN
        yield CUT

    with pytest.raises(errors.OutboundFailed):
        line.hear(answers)
    since = LISTEN if streams else 0.0
    assert since + 12 < line.now <= since + 20
    assert line.waits[-1] > 10 * line.waits[0]


def test_an_endpoint_that_fails_is_left_alone() -> None:
    """Streams that are never answered open the breaker, and what stands is heard to the end all the same."""
    line = Line(streams=True)
    left = 6

    def answers(_: Send) -> Iterator[Answer | Lost]:
        nonlocal left
        left -= 1
        yield from [CUT] if left >= 0 else [STANDS, event(1)]

    assert [1] == line.hear(answers)
    # Five failures open it, and one more while it is half open.
    assert 7 == len(line.asked) < len(line.waits) + 1


def test_a_stream_whose_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that stood to its deadline is no failure of the instance; one that never stood is."""

    class Over(grpc.RpcError):
        stands = True

        def __call__(self, *_: Any, **__: Any) -> Over:
            return self

        def __iter__(self) -> Iterator[Any]:
            raise self

        def initial_metadata(self) -> None: ...

        def cancel(self) -> None: ...

        def is_active(self) -> bool:
            return self.stands

        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.DEADLINE_EXCEEDED

        def details(self) -> str:
            return "late"

        def trailing_metadata(self) -> tuple[()]:
            return ()

    class Channel:
        def unary_stream(self, *_: Any, **__: Any) -> Over:
            return Over()

    url = "grpc://nobody:1"
    sends = GrpcSends([url])
    monkeypatch.setattr(sends, "_channels", {url: Channel()})
    core = Core([url], Settings(), ("grpc",))
    step = next(Watch(core, "a", after=0, every=1.0, streams=True).steps())
    assert isinstance(step, Send)

    first, over = sends.stream(step)
    assert (STANDS, 504) == (first, over.status if isinstance(over, Answer) else None)
    monkeypatch.setattr(Over, "stands", False)
    (lost,) = sends.stream(step)
    assert isinstance(lost, Lost)
