"""Spans out of the service: a request is found under one id everywhere, and a collector that is down harms nobody."""

from __future__ import annotations

import io
import json
import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from knhk.server.configuration import ConfigurationError, load
from knhk.server.endpoint import Endpoint, read_endpoint
from knhk.server.observing import log_as_json
from tests.collector import Collected, over_grpc, over_http
from tests.served import Served, served

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@contextmanager
def exporting(endpoint: str, **settings: Any) -> Iterator[Served]:
    """A service that sends spans."""
    with served(otel_endpoint=endpoint, **settings) as service:
        service.made.exporting.start()
        yield service


@pytest.fixture
def lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What the log says."""
    root = logging.getLogger("knhk")
    before = root.handlers[:], root.level, root.propagate
    stream = io.StringIO()
    log_as_json("info", stream)
    yield lambda: [json.loads(each) for each in stream.getvalue().splitlines()]
    root.handlers[:], root.propagate = before[0], before[2]
    root.setLevel(before[1])


@pytest.mark.parametrize("collecting", [over_http, over_grpc])
def test_one_id_everywhere(
    collecting: Callable[[], AbstractContextManager[Collected]], lines: Callable[[], list[dict[str, Any]]]
) -> None:
    """The caller's trace id is in the answer, the record, the log, and at the collector in all spans of the request."""
    with collecting() as collected, exporting(collected.endpoint, region="us-east-1") as service:
        service.register()
        case = service.case(headers={"traceparent": PARENT})
        answer = service.ask("GET", f"/cases/{case}", headers={"traceparent": PARENT})
        missing = service.ask("GET", "/nothing", headers={"traceparent": PARENT})
        service.made.exporting.flush()
        service.made.audit.seal()
        record = service.ask("GET", "/audit").json["items"]

    mine = [each for each in collected.spans if each.trace_id.hex() == TRACE]
    by_name = {each.name: each for each in mine}
    root = by_name["POST /api/v1/cases"]
    assert TRACE == answer.headers["trace-id"] == missing.headers["trace-id"]
    assert {"case.create", "case.get", "none"} <= {each["operation"] for each in record if each["trace"] == TRACE}
    assert 3 == sum(each.get("trace_id") == TRACE for each in lines() if each["message"] == "call")
    assert "00f067aa0ba902b7" == root.parent_span_id.hex()
    assert root.span_id == by_name["case create"].parent_span_id
    assert {"POST /api/v1/cases", "GET /api/v1/cases/{case_id}", "GET", "store commit"} <= by_name.keys()
    assert ("knhk-workflow-engine", "one", "us-east-1") == tuple(
        collected.resource[each] for each in ("service.name", "service.instance.id", "cloud.region")
    )
    assert 201 == next(each.value.int_value for each in root.attributes if each.key == "http.response.status_code")


def test_without_a_collector_the_trace_id_is_the_same_everywhere_too(
    lines: Callable[[], list[dict[str, Any]]],
) -> None:
    """Where no spans are sent, answer, log and record still have the caller's trace id, or one of their own."""
    with served() as service:
        service.register()
        named = service.case(headers={"traceparent": PARENT})
        own = service.ask("GET", f"/cases/{named}", headers={"traceparent": f"00-{'0' * 32}-{'0' * 16}-01"})

    told = {each["operation"]: each for each in lines() if each["message"] == "call"}
    assert TRACE == told["case.create"]["trace_id"]
    assert own.headers["trace-id"] == told["case.get"]["trace_id"]
    assert own.headers["trace-id"] not in (TRACE, "0" * 32)
    assert ("order", named) == tuple(told["case.create"][each] for each in ("workflow_id", "case_id"))


def test_a_request_that_meets_a_bug_is_a_span_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a request that failed inside, the span says of what; the answer does not."""
    with over_http() as collected, exporting(collected.endpoint) as service:
        monkeypatch.setattr(service.made.service, "case_get", lambda *_: 1 / 0)
        answer = service.ask("GET", "/cases/one")
        service.made.exporting.flush()

    (span,) = [each for each in collected.spans if each.name == "GET /api/v1/cases/{case_id}"]
    assert 500 == answer.status_code
    assert "ZeroDivisionError: division by zero" == span.status.message
    assert "ZeroDivision" not in answer.text


def test_a_collector_that_is_down_costs_spans_alone(
    lines: Callable[[], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nobody at the endpoint requests are answered, their spans are counted as dropped, and health says so."""
    monkeypatch.setattr("knhk.server.exporting.PATIENCE", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with exporting(f"http://127.0.0.1:{port}") as service:
        export = service.made.exporting.export
        service.register()
        service.made.exporting.flush()
        first = export.dropped
        service.case()
        service.made.exporting.flush()
        components = service.client.simulate_get("/health/components").json
        ready = service.client.simulate_get("/health/ready").status_code
        metrics = service.client.simulate_get("/metrics").text

    exporter = components["components"]["exporter"]
    assert 0 < first < export.dropped
    assert (0, "degraded", "Healthy", 200) == (export.sent, exporter["status"], components["status"], ready)
    assert f"{export.dropped} dropped" in exporter["detail"]
    assert exporter["age"] >= 0
    assert f'knhk_spans_total{{outcome="dropped"}} {float(export.dropped)}' in metrics
    assert 1 == sum(each["message"].startswith("spans are dropped") for each in lines())


def test_a_collector_that_hangs_delays_neither_requests_nor_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a batch hangs the queue fills to its bound, further spans are dropped, and the end waits a moment alone."""
    monkeypatch.setattr("knhk.server.exporting.QUEUE", 4)
    monkeypatch.setattr("knhk.server.exporting.EVERY", 0.01)
    monkeypatch.setattr("knhk.server.exporting.LAST", 0.01)
    monkeypatch.setattr("knhk.server.exporting.PATIENCE", 600.0)
    released = threading.Event()
    with over_http() as collected:
        collected.hold = released.wait
        with exporting(collected.endpoint) as service:
            export = service.made.exporting.export
            service.register()
            assert collected.arrived.wait(10)
            for _ in range(10):
                assert 200 == service.ask("GET", "/cases").status_code
            waiting = export.waiting
        # The end did not wait for the collector.
        released.set()

    assert 4 >= waiting > 0
    assert (0, 0) == (export.sent, export.waiting)
    assert export.dropped > 6


def test_a_collector_that_comes_back_is_told_of(lines: Callable[[], list[dict[str, Any]]]) -> None:
    """Spans that were refused are lost; those after the collector's return arrive, and the log has one line of each turn."""
    with over_http() as collected:
        working = collected.endpoint
        with exporting(working + "/elsewhere") as service:
            service.ask("GET", "/cases")
            service.made.exporting.flush()
            down = service.made.exporting.health()["status"]
            service.made.exporting.export._inner = None
            service.made.exporting._endpoint = read_endpoint(working)
            service.ask("GET", "/cases")
            service.made.exporting.flush()
            up = service.made.exporting.health()["status"]

    assert ("degraded", "up") == (down, up)
    assert ["spans are dropped: the collector does not take them", "spans arrive again"] == [
        # Another test's collector may be given up only now.
        each["message"]
        for each in lines()
        if working.rpartition(":")[2] in str(each.get("collector", ""))
    ]


@pytest.mark.parametrize(
    ("text", "grpc", "secure", "address", "url"),
    [
        ("http://otel-collector:4317", True, False, "otel-collector:4317", None),
        ("https://otel-collector:4317", True, True, "otel-collector:4317", None),
        ("http://c:4318", False, False, "c:4318", "http://c:4318/v1/traces"),
        ("grpc://c:4318", False, False, "c:4318", "http://c:4318/v1/traces"),
        ("https://c/otlp/", False, True, "c:443", "https://c:443/otlp/v1/traces"),
        ("http://[::1]/v1/traces", False, False, "[::1]:80", "http://[::1]:80/v1/traces"),
        ("grpcs://c", True, True, "c:4317", None),
    ],
)
def test_endpoint(text: str, grpc: bool, secure: bool, address: str, url: str | None) -> None:
    """Port 4317 is gRPC and 4318 is HTTP; for any other the scheme says it."""
    found = read_endpoint(text)

    assert Endpoint(grpc=grpc, secure=secure, address=address, url=url or found.url) == found


@pytest.mark.parametrize(
    "text",
    ["collector:4317", "ftp://c", "http://", "http://c:99999", "http://user:secret@c:4318", "http://c:4318?key=1"],
)
def test_endpoint_that_is_none(text: str) -> None:
    """What is no address of a collector refuses the start and names its variable; secrets in it are refused too."""
    with pytest.raises(ConfigurationError, match="WORKFLOW_OTEL_ENDPOINT"):
        load({"WORKFLOW_OTEL_ENDPOINT": text})


def test_without_the_library_the_start_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint without the extra is refused with its variable and what to install."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    monkeypatch.delitem(sys.modules, "knhk.server.exporting", raising=False)

    with (
        pytest.raises(ConfigurationError, match=r"WORKFLOW_OTEL_ENDPOINT: .*knhk\[otel\]"),
        served(otel_endpoint="http://127.0.0.1:4317"),
    ):
        pass
