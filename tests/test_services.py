"""Tasks that call a service: what is asked, what an answer becomes, and what a value cannot do to a request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from receiver import Answer, Got, Receiver

from knhk import (
    AsyncEngine,
    Engine,
    EventKind,
    HandlerError,
    Outbound,
    OutboundFailed,
    OutboundRefused,
    ResponseRefused,
    Specification,
    SpecificationError,
    build,
)
from knhk.errors import DataError
from knhk.spec import Http
from knhk.testing.clock import ManualClock
from knhk.work.handlers import Work
from knhk.work.services import Services


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A service that says yes to everything until it is told otherwise."""
    with Receiver() as running:
        yield running


def near(receiver: Receiver, **more: Any) -> Outbound:
    """A policy that allows a receiver on the loopback."""
    return Outbound(allow=[f"127.0.0.1:{receiver.port}"], **more)


def calling(http: Any, **task: Any) -> Specification:
    """One task that calls a service."""
    net = build("calls")
    net.sequence(net.start, net.task("call", http=http, **task), net.end)
    return net.specification()


def as_json(value: Any, status: int = 200, **headers: str) -> Callable[[Got], Answer]:
    """A JSON answer to everything."""
    return lambda got: Answer(status, {"Content-Type": "application/json", **headers}, json.dumps(value).encode())


def test_a_request_is_made_of_the_data_and_its_answer_becomes_data(receiver: Receiver) -> None:
    """Method, URL, headers and body come from the specification and the data; what `result` says joins the data."""
    receiver.answer = as_json({"id": "R-1", "lines": [1, 2]}, 201, **{"X-Trace": "t9"})
    http = {
        "method": "POST",
        "url": receiver.url("/accounts/{data.account}/debits?note={data.note}&n={data.n}&ok={data.n > 1}"),
        "headers": {"X-Tenant": "tenant {data.tenant}"},
        "body": '{"amount": data.amount, "lines": [data.n, 2.5, null, "ü"]}',
        "success": 'status == 201 && body.id.startsWith("R")',
        "result": '{"receipt": body.id, "trace": headers["x-trace"], "count": size(body.lines) + data.n}',
    }
    data = {"account": "a/b c?d", "note": "x&y=z#é", "n": 2, "tenant": "acme", "amount": 12}
    with Engine(outbound=near(receiver)) as engine:
        engine.register(calling(http))
        case = engine.create_case("calls", data).run()

        assert ("completed", {**data, "receipt": "R-1", "trace": "t9", "count": 4}) == (case.state, case.data)
        (got,) = receiver.got
        key = f"{case.id}:1"
    assert ("POST", "/accounts/a%2Fb%20c%3Fd/debits?note=x%26y%3Dz%23%C3%A9&n=2&ok=true") == (got.method, got.path)
    assert ("tenant acme", "application/json", key) == (
        got.headers["x-tenant"],
        got.headers["content-type"],
        got.headers["idempotency-key"],
    )
    assert {"amount": 12, "lines": [2, 2.5, None, "ü"]} == json.loads(got.body)


def test_the_shortest_request_is_its_url(receiver: Receiver) -> None:
    """A text is the URL of a GET without body; any status from 200 to 299 is success, and there is no result."""
    with Engine(outbound=near(receiver)) as engine:
        engine.register(calling(receiver.url("/ping")))
        case = engine.create_case("calls", {"a": 1}).run()
        assert ("completed", {"a": 1}) == (case.state, case.data)

    (got,) = receiver.got
    assert ("GET", "/ping", b"") == (got.method, got.path, got.body)
    assert "idempotency-key" not in got.headers


def test_attempts_are_as_those_of_handlers(receiver: Receiver) -> None:
    """A failed request is tried again by the retry policy with the same key, and `Retry-After` is waited for."""
    clock = ManualClock()
    answers = iter([Answer(503, {"Retry-After": "60"}), Answer(200)])
    receiver.answer = lambda got: next(answers)
    http = {"method": "POST", "url": receiver.url(), "body": "data.n"}
    with Engine(clock=clock, outbound=near(receiver)) as engine:
        engine.register(calling(http, retry={"max_attempts": 3, "initial": "1s"}))
        case = engine.create_case("calls", {"n": 1}).run()
        assert clock.now() + 60_000 == case.next_due
        clock.advance(60_000)
        assert "completed" == case.run().state
        (failed,) = [each for each in case.history() if each.kind is EventKind.ATTEMPT_FAILED]

    assert "was answered with status 503" in failed.details["error"]
    assert 1 == len({got.headers["idempotency-key"] for got in receiver.got}) < len(receiver.got)


@pytest.mark.parametrize(
    ("status", "retryable"), [(400, False), (404, False), (302, True), (408, True), (429, True), (500, True)]
)
def test_what_the_service_will_always_refuse_is_not_tried_again(
    receiver: Receiver, status: int, retryable: bool
) -> None:
    """A status of 400 to 499 fails the work at once, but for those that mean "later"."""
    receiver.answer = lambda got: Answer(status, body=b"because \x1b[31m of\n that")
    with Engine(clock=ManualClock(), outbound=near(receiver)) as engine:
        engine.register(calling(receiver.url(), retry={"max_attempts": 3}))
        case = engine.create_case("calls")
        if retryable:
            assert case.run().next_due is not None
        else:
            with pytest.raises(
                HandlerError, match=rf"GET http.* with status {status}: because \[31m of that"
            ) as raised:
                case.run()
            assert isinstance(raised.value.__cause__, ResponseRefused)
            assert status == raised.value.__cause__.status


def test_a_multiple_instance_sees_its_element(receiver: Receiver) -> None:
    """`item` and `index` are there in an instance."""
    net = build("calls")
    task = net.task("call", http=receiver.url("/{item.id}/{index}"), multiple={"for_each": "data.all"})
    net.sequence(net.start, task, net.end)
    with Engine(outbound=near(receiver)) as engine:
        engine.register(net.specification())
        engine.create_case("calls", {"all": [{"id": "a"}, {"id": "b"}]}).run()

    assert ["/a/0", "/b/1"] == [got.path for got in receiver.got]


def test_mappings_of_the_task_stand_around_the_request(receiver: Receiver) -> None:
    """`input` is what the request sees as data, and `output` maps what its result says."""
    receiver.answer = as_json({"id": 7})
    with Engine(outbound=near(receiver)) as engine:
        engine.register(
            calling(
                {"url": receiver.url("/{data.who}"), "result": "body"},
                input={"who": "data.customer.id"},
                output={"receipt": "output.id"},
            )
        )
        case = engine.create_case("calls", {"customer": {"id": "c1"}}).run()
        assert {"customer": {"id": "c1"}, "receipt": 7} == case.data

    assert ["/c1"] == [got.path for got in receiver.got]


def test_the_asynchronous_engine_calls_services_too(receiver: Receiver) -> None:
    """The same specification runs with await."""
    receiver.answer = as_json({"n": 1})

    async def run() -> dict[str, Any]:
        async with AsyncEngine(outbound=near(receiver)) as engine:
            await engine.register(calling({"url": receiver.url(), "result": "body"}))
            case = await engine.create_case("calls")
            await case.run()
            return await case.data()

    assert {"n": 1} == asyncio.run(run())


def work(**data: Any) -> Work:
    """Work as a handler is given it."""
    return Work("c", "call", 1, 1, data, None, None)


def service(receiver: Receiver, http: Http, **more: Any) -> Any:
    """The function that makes a request."""
    return Services(near(receiver, **more), ManualClock(), dialect="subset")(http)


@pytest.mark.parametrize(
    ("url", "data", "why"),
    [
        ("/{data.a}", {"a": ""}, "empty in the path"),
        ("/{data.a}", {"a": ".."}, r"a segment \. or \.\."),
        ("/x/{data.a}/y", {"a": "."}, r"a segment \. or \.\."),
        ("/.{data.a}", {"a": "."}, r"a segment \. or \.\."),
        ("/{data.a}{data.a}?x", {"a": "."}, r"a segment \. or \.\."),
        ("/{data.a}", {"a": None}, "neither text, number nor bool"),
        ("/{data.a}", {"a": ["x"]}, "neither text, number nor bool"),
        ("/{data.a}", {"a": "\ud800"}, "surrogate"),
        ("/{data.b}", {"a": 1}, "has no member"),
    ],
)
def test_a_value_that_does_not_fit_the_url_is_refused(receiver: Receiver, url: str, data: Any, why: str) -> None:
    """Nothing is sent where a value would address something else."""
    with pytest.raises(DataError, match=why):
        service(receiver, Http(url=receiver.url(url)))(work(**data))

    assert [] == receiver.got


@given(st.text(min_size=1, max_size=12).filter(lambda t: t not in (".", "..")))
def test_a_value_stays_one_piece_of_the_url(value: str) -> None:
    """Whatever text a value is, the server reads it back as one segment and one parameter, and asks nobody else."""
    from urllib.parse import parse_qs, urlsplit

    seen: list[str] = []

    class Listening(Outbound):
        def request(self, method: str, url: str, **options: Any) -> Any:
            seen.append(url)
            raise OutboundFailed("enough")

    call = Services(Listening(), ManualClock(), dialect="subset")(
        Http(url="https://api.example:8443/a/{data.v}/b?x={data.v}&y=1")
    )
    with pytest.raises(OutboundFailed):
        call(work(v=value))
    parts = urlsplit(seen[0])
    from urllib.parse import unquote

    assert ("https", "api.example:8443", "") == (parts.scheme, parts.netloc, parts.fragment)
    assert ["", "a", value, "b"] == [unquote(each) for each in parts.path.split("/")]
    assert {"x": [value], "y": ["1"]} == parse_qs(parts.query, keep_blank_values=True)


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\x00b", "é", "a\x7f"])
def test_a_value_stays_in_its_header(receiver: Receiver, value: str) -> None:
    """What would end the line, or is no ASCII, is refused before anything is sent."""
    with pytest.raises(DataError, match="header X-A"):
        service(receiver, Http(url=receiver.url(), headers={"X-A": "{data.v}"}))(work(v=value))

    assert [] == receiver.got


def test_a_body_that_is_no_json_is_sent_as_text(receiver: Receiver) -> None:
    """`Content-Type` decides: JSON of any kind is written, everything else must be text."""
    for kind, body, sent in (
        ("text/plain", "data.t", "é".encode()),
        ("application/problem+json", "data.t", b'"\xc3\xa9"'),
        ("Application/JSON; charset=utf-8", "[data.t]", b'["\xc3\xa9"]'),
    ):
        service(receiver, Http(method="POST", url=receiver.url(), headers={"content-type": kind}, body=body))(
            work(t="é")
        )
        assert (sent, kind) == (receiver.got[-1].body, receiver.got[-1].headers["content-type"])
    with pytest.raises(DataError, match="a body of text/plain must be text"):
        service(
            receiver, Http(method="POST", url=receiver.url(), headers={"Content-Type": "text/plain"}, body="data.n")
        )(work(n=1))
    with pytest.raises(DataError, match="the body is no JSON"):
        service(receiver, Http(method="POST", url=receiver.url(), body="1.0 / data.z"))(work(z=0.0))


@pytest.mark.parametrize(
    ("content_type", "body", "value"),
    [
        ("application/json", b'{"a": [1, 2.5, null]}', {"a": [1, 2.5, None]}),
        ("application/hal+json; charset=utf-8", b"1", 1),
        ("text/plain; charset=latin-1", b"\xe9", "é"),
        ("text/plain", "é".encode(), "é"),
        ("", b"plain", "plain"),
        ("application/json", b"", None),
    ],
)
def test_an_answer_is_read_by_what_it_says_it_is(
    receiver: Receiver, content_type: str, body: bytes, value: Any
) -> None:
    """JSON is a value, other text is text, nothing is null."""
    receiver.answer = lambda got: Answer(200, {"Content-Type": content_type}, body)

    assert {"b": value} == service(receiver, Http(url=receiver.url(), result='{"b": body}'))(work())


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b"{", 200),
        ("application/json", b"NaN", 200),
        ("application/json", b"[" * 100_000, 200),
        ("application/json", b"\xff", 200),
        ("text/plain", b"\xff", 503),
        ("text/plain; charset=klingon", b"a", 200),
    ],
)
def test_an_answer_that_cannot_be_read_is_refused(
    receiver: Receiver, content_type: str, body: bytes, status: int
) -> None:
    """What is not what it says it is has no meaning; after a failure of the server it may have later."""
    receiver.answer = lambda got: Answer(status, {"Content-Type": content_type}, body)

    with pytest.raises(ResponseRefused, match="cannot be read as") as raised:
        service(receiver, Http(url=receiver.url()))(work())

    assert (status, status >= 500) == (raised.value.status, raised.value.retryable)


def test_a_result_is_a_map(receiver: Receiver) -> None:
    """What joins the data has names."""
    with pytest.raises(DataError, match="is no map"):
        service(receiver, Http(url=receiver.url(), result="status"))(work())
    with pytest.raises(DataError, match="no bool|bool"):
        service(receiver, Http(url=receiver.url(), success="status"))(work())


def test_the_guard_stands_before_services_too(receiver: Receiver) -> None:
    """A redirect inside is not followed, an address inside not called, and a slow answer given up in time."""
    receiver.answer = lambda got: Answer(302, {"Location": "http://169.254.169.254/"})
    with pytest.raises(ResponseRefused, match="302"):
        service(receiver, Http(url=receiver.url()))(work())
    with pytest.raises(OutboundRefused):
        service(receiver, Http(url="http://169.254.169.254/{data.a}"))(work(a="x"))
    assert 1 == len(receiver.got)

    def silent(got: Got) -> Answer:
        gone.wait(5)
        return Answer()

    import threading

    gone = threading.Event()
    receiver.answer = silent
    with pytest.raises(OutboundFailed, match=r"within 0\.1 s"):
        service(receiver, Http(url=receiver.url(), timeout=100))(work())
    gone.set()


def test_a_request_is_compiled_once(receiver: Receiver) -> None:
    """The same request has the same function."""
    services = Services(near(receiver), ManualClock(), dialect="subset")

    assert services(Http(url="http://a/", headers={"A": "b"})) is services(Http(url="http://a/", headers={"A": "b"}))
    assert services(Http(url="http://a/", headers={"A": "b"})) is not services(Http(url="http://a/"))


@pytest.mark.parametrize(
    ("http", "place", "why"),
    [
        ("ftp://a/", "url", "must begin with http://"),
        ("http://{data.host}/", "url", "no value may come before the path"),
        ("http://a{data.host}/", "url", "no value may come before the path"),
        ("http://a:{data.port}/", "url", "no value may come before the path"),
        ("{data.url}", "url", "must begin with"),
        ("", "url", "must begin with"),
        ("http://a/#b", "url", "behind #"),
        ("http://a/{data.x}#b", "url", "behind #"),
        ("http://a/{data.x", "url", 'no "}" behind it'),
        ("http://a/}", "url", 'no "{" before it'),
        ("http://a/{data.}", "url", "{data.}: "),
        ("http://a/{other}", "url", "{other}: "),
        ({"method": "POST"}, "", '"url" is missing'),
        ({"url": "http://a/", "method": "TRACE"}, "method", "must be"),
        ({"url": "http://a/", "headers": {"a b": "c"}}, 'headers["a b"]', "no name of a header"),
        ({"url": "http://a/", "headers": {"Host": "b"}}, "headers.Host", "not for a task to choose"),
        ({"url": "http://a/", "headers": {"X": "{"}}, "headers.X", "no"),
        ({"url": "http://a/", "headers": 1}, "headers", "must be a map"),
        ({"url": "http://a/", "body": "1"}, "body", "a GET request has none"),
        ({"url": "http://a/", "method": "POST", "body": "status"}, "body", "status"),
        ({"url": "http://a/", "success": "state == 1"}, "success", "state"),
        ({"url": "http://a/", "result": "{"}, "result", ""),
        ({"url": "http://a/", "timeout": "0s"}, "timeout", "longer than nothing"),
        ({"url": "http://a/", "redirects": True}, "redirects", "unknown member"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_with_its_place(http: Any, place: str, why: str) -> None:
    """Every problem is found when the specification is read."""
    with pytest.raises(SpecificationError) as raised:
        calling(http)

    where = f"tasks.call.http{'.' if place and not place.startswith('[') else ''}{place}"
    assert [True] == [each.place == where and why in each.message for each in raised.value.problems], raised.value


def test_what_belongs_to_handlers_and_requests_alike(receiver: Receiver) -> None:
    """A request may have a retry policy, a concurrency limit and a breaker; a time limit of its own instead of the handler's."""
    calling("http://a/", retry={"max_attempts": 2}, concurrency=1, breaker="a")
    for member, value in (("timeout", "5s"), ("heartbeat", "5s"), ("replayable", True), ("handler", "h")):
        with pytest.raises(SpecificationError):
            calling("http://a/", **{member: value})


def test_braces_in_expressions_do_not_end_a_hole(receiver: Receiver) -> None:
    """A hole ends where its expression is whole."""
    http = Http(url=receiver.url('/{ {"}": data.a}["}"] }/{"}"}{data.b}'))

    service(receiver, http)(work(a="x", b="y"))

    assert ["/x/%7Dy"] == [got.path for got in receiver.got]
