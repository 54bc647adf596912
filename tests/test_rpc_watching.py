"""Streams and waits over gRPC: events of a case to its end, deadlines, health, and how all of them end with the instance."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc

from knhk.rpc import SERVICE
from knhk.server import working
from knhk.server.rpc import arriving, gate, mirroring, probing, watching
from tests.rpc import Called, called, plain, refusal, registered, until
from tests.served import stop_rates, token
from tests.test_contract import PRINTS
from tests.test_server_health import Failing, gone

Code = grpc.StatusCode
NOW = health_pb2.HealthCheckResponse.SERVING
NOT_NOW = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Called]:
    """A service with a workflow, which looks often."""
    monkeypatch.setattr(watching, "LOOK", 0.01)
    monkeypatch.setattr(probing, "LOOK", 0.01)
    monkeypatch.setattr(arriving, "LOOK", 0.01)
    monkeypatch.setattr("knhk.server.health.PATIENCE", 60.0)
    with called() as made:
        registered(made)
        registered(made, PRINTS)
        yield made


def case_of(service: Called, spec_id: str = "order") -> str:
    """A case that has been started."""
    return str(service.call("CreateCase", spec_id=spec_id, start=True).case_id)


def watched(service: Called, case: str, after: int = 0, **more: Any) -> Any:
    """The stream of a case's events."""
    return service.call("WatchCase", case_id=case, after=after, timeout=60, **more)


def ended(stream: Any) -> Code:
    """With what a stream ends, whatever comes before."""
    with pytest.raises(grpc.RpcError) as error:
        list(stream)
    return error.value.code()


def item_of(service: Called, case: str) -> str:
    """The first open item of a case."""
    return str(service.call("ListWorkItems", case_id=case).items[0].id)


# --- events ---------------------------------------------------------------------------------------------------------------


def test_watching_loses_nothing(service: Called) -> None:
    """Events come as they happen; whoever is cut off goes on from where he was; the stream ends with the case, and all of it is its history."""
    case = case_of(service)
    first = watched(service, case)
    begun = [next(first), next(first)]
    service.call("CompleteWorkItem", item_id=item_of(service, case), data={"checked": 1})
    begun.append(next(first))
    first.cancel()
    rest = watched(service, case, after=begun[-1].sequence)
    begun.append(next(rest))
    service.call("CompleteWorkItem", item_id=item_of(service, case))

    events = [plain(each) for each in (*begun, *rest)]

    history = [plain(each) for each in service.call("GetCaseHistory", case_id=case).items]
    assert history == events
    assert "case_completed" == events[-1]["kind"]
    assert history[4:] == [plain(each) for each in watched(service, case, after=4)]
    assert [] == list(watched(service, case, after=len(history)))


def test_whoever_watches_is_told_that_he_is_heard(service: Called) -> None:
    """The metadata of a stream come at once, also where nothing happens; where it is refused they come with the refusal."""
    case = case_of(service)
    known = len(service.call("GetCaseHistory", case_id=case).items)
    stream = watched(service, case, after=known)
    stream.initial_metadata()

    assert stream.is_active()
    stream.cancel()
    refused = watched(service, "nothing")
    refused.initial_metadata()
    assert not refused.is_active()


def test_watching_is_read_by_pages(service: Called, monkeypatch: pytest.MonkeyPatch) -> None:
    """A history that is longer than a page comes whole."""
    monkeypatch.setattr(watching, "LONGEST_PAGE", 2)
    case = case_of(service)
    service.call("CancelCase", case_id=case)

    assert service.call("GetCaseHistory", case_id=case).items == list(watched(service, case))


def test_who_may_not_watch(service: Called) -> None:
    """A case of nobody's or another tenant's, a number that is none, and a role that does not read: refused before the first event, and on record once."""
    case = case_of(service)

    assert Code.NOT_FOUND == ended(watched(service, "nothing"))
    assert Code.NOT_FOUND == ended(watched(service, case, tenant="acme"))
    assert Code.INVALID_ARGUMENT == ended(watched(service, case, after=-1))
    assert Code.PERMISSION_DENIED == ended(service.call("WatchCase", "participant", case_id=case))
    service.call("CancelCase", case_id=case)
    list(watched(service, case))
    service.made.audit.seal()
    entries = [link["entry"] for _, _, link in service.made.audit.record.links()]
    assert [404, 404, 422, 403, 200] == [each["outcome"] for each in entries if each["operation"] == "case.history"]


def test_too_many_watch(service: Called, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every place taken a further stream is refused, with when to come again, and other calls go on; a place that is given up is another's."""
    monkeypatch.setattr(service.made.rpc._gate, "_watches", threading.BoundedSemaphore(1))
    case = case_of(service)
    first = watched(service, case)
    next(first)

    told = None
    try:
        next(watched(service, case))
    except grpc.RpcError as error:
        told = refusal(error)
    status = Status.FromString(told.metadata["grpc-status-details-bin"])
    delay = RetryInfo()
    assert status.details[1].Unpack(delay)
    assert (Code.RESOURCE_EXHAUSTED, "rate-limited", 5) == (told.code, told.kind, delay.retry_delay.seconds)
    assert "running" == service.call("GetCase", case_id=case).state
    gone = threading.Event()
    first.add_done_callback(lambda _: gone.set())
    first.cancel()
    assert gone.wait(20)
    until(lambda: service.made.rpc._gate._watches._value == 1)
    assert "case_created" == next(watched(service, case)).kind


def test_a_stream_ends_with_its_token_and_its_time(service: Called, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody watches for longer than his token counts, or than a stream may last."""
    case = case_of(service)
    stream = watched(service, case)
    next(stream)
    monkeypatch.setattr(service.made.rpc._gate.verifier, "_now", lambda: 2**40)
    assert Code.UNAUTHENTICATED == ended(stream)
    monkeypatch.undo()

    monkeypatch.setattr(watching, "LOOK", 0.01)
    monkeypatch.setattr(gate, "LONGEST_WATCH", 0.2)
    assert Code.DEADLINE_EXCEEDED == ended(watched(service, case))


def test_a_bug_in_a_stream_is_internal(service: Called, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw is told without a word of the inside."""
    case = case_of(service)
    monkeypatch.setattr(watching, "_since", lambda *_: 1 / 0)
    try:
        list(watched(service, case))
    except grpc.RpcError as error:
        told = refusal(error)

    assert (Code.INTERNAL, "internal", "Something went wrong here") == (told.code, told.kind, told.text)


# --- deadlines ------------------------------------------------------------------------------------------------------------


def test_nothing_is_claimed_for_somebody_who_has_gone(service: Called) -> None:
    """Whoever waits for work no longer, because of his deadline or because he left, gets none: the next one has it."""
    message = service.message("ClaimWork", {"topics": ["labels"], "wait": 20.0})
    left, late = (
        service.stub.ClaimWork.future(message, metadata=service.metadata(), timeout=each) for each in (60, 0.5)
    )
    until(lambda: service.made.service.polls._places._value == working.MOST_POLLS - 1)
    # At the deadline it hears that there is none, if the answer is in time.
    assert late.exception(20) is not None or not late.result().items
    left.cancel()
    case_of(service, "prints")
    until(lambda: service.made.service.polls._places._value == working.MOST_POLLS)

    (claim,) = service.call("ClaimWork", topics=["labels"], wait=10.0).items

    assert "print" == claim.path


def test_a_deadline_that_has_passed_before(service: Called, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call whose time is over before it is begun changes nothing, and is on record as too late."""
    monkeypatch.setattr(gate, "LONGEST_CALL", 0.0)

    told = service.refused("CreateCase", spec_id="order")

    assert (Code.DEADLINE_EXCEEDED, "deadline") == (told.code, told.kind)
    assert [] == list(service.made.store.cases())


def test_an_execution_ends_with_the_call(service: Called) -> None:
    """`ExecuteCase` does what it can in the time that its caller has left, and says how far it came."""
    case = service.call("CreateCase", spec_id="order").case_id

    assert ["check"] == service.call("ExecuteCase", case_id=case, timeout=10).enabled


# --- messages that do not come -------------------------------------------------------------------------------------------


def test_whoever_says_nothing_keeps_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger is refused without a message; whoever is known is cut off when his does not come, which is on record; a call that ends without one is malformed."""
    monkeypatch.setattr(arriving, "LOOK", 0.01)
    monkeypatch.setattr(arriving, "ARRIVES_WITHIN", 0.05)
    get, health = f"/{SERVICE}/GetCase", "/grpc.health.v1.Health/Check"
    silence: queue.Queue[None] = queue.Queue()
    with called() as service:

        def code(path: str, messages: Any, metadata: Any) -> Code:
            call = service.channel.stream_unary(path).future(messages, metadata=metadata, timeout=60)
            with pytest.raises((grpc.RpcError, grpc.FutureCancelledError)):
                call.result(60)
            return call.code()

        def outcomes() -> list[int]:
            service.made.audit.seal()
            return sorted(link["entry"]["outcome"] for _, _, link in service.made.audit.record.links())

        stranger = code(get, iter(silence.get, None), [])
        silent = [code(each, iter(silence.get, None), service.metadata()) for each in (get, health)]
        monkeypatch.setattr(arriving, "ARRIVES_WITHIN", 60.0)
        empty = [code(each, iter(()), service.metadata()) for each in (get, health)]
        for _ in range(3):
            silence.put(None)
        until(lambda: len(outcomes()) == 3)
        assert [400, 401, 504] == outcomes()

    assert Code.UNAUTHENTICATED == stranger
    assert [Code.CANCELLED] * 2 == silent
    assert [Code.INVALID_ARGUMENT] * 2 == empty


# --- limits ---------------------------------------------------------------------------------------------------------------


def test_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever calls too often hears so, and when to come again; strangers are counted by their address."""
    stop_rates(monkeypatch)
    with called(rate_limit=2.0) as service:
        codes = [service.refused("GetCase", case_id="nothing").code for _ in range(2)]
        told = service.refused("GetCase", case_id="nothing")
        other = service.refused("GetCase", case_id="nothing", sub="otto")
        strangers = [service.refused("ListCases", metadata=[]).code for _ in range(3)]

    assert [Code.NOT_FOUND] * 2 == codes
    assert (Code.RESOURCE_EXHAUSTED, "1", '"default";r=0;t=1') == (
        told.code,
        told.metadata["retry-after"],
        told.metadata["ratelimit"],
    )
    assert Code.NOT_FOUND == other.code
    assert [Code.UNAUTHENTICATED, Code.UNAUTHENTICATED, Code.RESOURCE_EXHAUSTED] == strangers


def test_reflection_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many ask what the service is at a time, and not for ever."""
    monkeypatch.setattr(mirroring, "MOST_STREAMS", 1)
    with called(grpc_reflection=True) as service:
        call = service.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        asking: queue.Queue[bytes | None] = queue.Queue()
        asking.put(b"\x3a\x00")
        silent = call(iter(asking.get, None), timeout=60)
        assert b"WorkflowEngineService" in next(silent)
        assert Code.RESOURCE_EXHAUSTED == ended(call(iter(()), timeout=60))
        asking.put(None)
        assert [] == list(silent)
        monkeypatch.setattr(mirroring, "LONGEST", 0.05)
        assert Code.CANCELLED == ended(call(iter(asking.get, None), timeout=60))
        asking.put(None)


# --- health, and the end --------------------------------------------------------------------------------------------------


def test_health(monkeypatch: pytest.MonkeyPatch) -> None:
    """Health is what readiness is, for the whole and for the service; whoever watches is told; of what there is not nothing is known."""
    monkeypatch.setattr(probing, "LOOK", 0.01)
    monkeypatch.setattr("knhk.server.health.FRESH", 0.0)
    monkeypatch.setattr("knhk.server.health.PATIENCE", 60.0)
    store = Failing()
    with called(store=store, audit_enabled=False) as service:
        stub = health_pb2_grpc.HealthStub(service.channel)
        stream = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=60)
        seen = [next(stream).status]
        unknown = next(stub.Watch(health_pb2.HealthCheckRequest(service="another"), timeout=60)).status
        with pytest.raises(grpc.RpcError) as missing:
            stub.Check(health_pb2.HealthCheckRequest(service="another"), timeout=20)
        store.trouble = gone
        seen.append(next(stream).status)
        assert NOT_NOW == stub.Check(health_pb2.HealthCheckRequest(), timeout=20).status
        store.trouble = lambda: None
        seen.append(next(stream).status)
        service.made.health.draining = True
        checked = stub.Check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=20).status
        seen.append(next(stream).status)

    assert [NOW, NOT_NOW, NOW, NOT_NOW] == seen
    assert NOT_NOW == checked
    assert health_pb2.HealthCheckResponse.SERVICE_UNKNOWN == unknown
    assert Code.NOT_FOUND == missing.value.code()


def test_a_store_that_is_away() -> None:
    """A call that the store cannot serve hears so, and when to come again."""
    store = Failing()
    with called(store=store, audit_enabled=False) as service:
        registered(service)
        store.trouble = gone
        told = service.refused("RemoveWorkflow", spec_id="order")
        store.trouble = lambda: None

    assert (Code.UNAVAILABLE, "store-unavailable", "1") == (told.code, told.kind, told.metadata["retry-after"])


def test_health_is_watched_by_so_many(service: Called, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams of the health service are bounded, and one that ends leaves its place."""
    monkeypatch.setattr(probing, "MOST_LISTENERS", 1)
    stub = health_pb2_grpc.HealthStub(service.channel)
    first = stub.Watch(health_pb2.HealthCheckRequest(), timeout=60)
    assert NOW == next(first).status

    assert Code.RESOURCE_EXHAUSTED == ended(stub.Watch(health_pb2.HealthCheckRequest(), timeout=60))

    first.cancel()
    until(lambda: not service.made.rpc._probe._listening)
    assert NOW == next(stub.Watch(health_pb2.HealthCheckRequest(), timeout=60)).status


def test_the_end_of_an_instance(service: Called) -> None:
    """When the instance ends, streams end, with words to go on elsewhere, whoever watches its health is told first, and further calls are refused."""
    health = health_pb2_grpc.HealthStub(service.channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)
    stream = watched(service, case_of(service))
    assert (NOW, "case_created") == (next(health).status, next(stream).kind)
    waiting = service.stub.ClaimWork.future(
        service.message("ClaimWork", {"topics": ["labels"], "wait": 20.0}), metadata=service.metadata(), timeout=60
    )
    until(lambda: service.made.service.polls._places._value == working.MOST_POLLS - 1)

    service.made.health.draining = True
    service.made.service.leave()
    service.made.rpc.refuse(20.0)

    assert [NOT_NOW] == [each.status for each in health]
    assert Code.UNAVAILABLE == ended(stream)
    assert [] == list(waiting.result(20).items)
    service.made.rpc.stop(20.0)
    with pytest.raises(grpc.RpcError) as error:
        service.call("ListCases")
    assert Code.UNAVAILABLE == error.value.code()
