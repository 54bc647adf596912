"""Health: what probes hear, and that nobody waits for a store that does not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from knhk.errors import StoreUnavailable
from knhk.ports import Document
from knhk.server.health import Health
from knhk.stores import MemoryStore
from tests.served import served


class Failing(MemoryStore):
    """A store that can be made to fail, or to hang."""

    def __init__(self) -> None:
        super().__init__()
        self.trouble: Callable[[], None] = lambda: None

    def document(self, collection: str, key: str) -> Document | None:
        self.trouble()
        return super().document(collection, key)

    def write(self, *args: Any, **more: Any) -> None:
        self.trouble()
        super().write(*args, **more)


def gone() -> None:
    """Fail as a store that is out of reach."""
    raise StoreUnavailable("the disk is gone")


def test_bodies_are_those_of_the_guide() -> None:
    """The three probes answer word for word as they are documented, without a token."""
    with served() as service:
        answers = {path: service.client.simulate_get(path) for path in ("/health", "/health/live", "/health/ready")}

    assert {"status": "Healthy", "service": "knhk-workflow-engine", "version": "1.0.0"} == answers["/health"].json
    assert '{"alive": true}' == answers["/health/live"].text
    assert '{"ready": true}' == answers["/health/ready"].text
    assert {200} == {each.status_code for each in answers.values()}
    assert {"application/json"} == {each.headers["content-type"] for each in answers.values()}


def test_store_that_fails_and_comes_back() -> None:
    """Within two seconds of a failure the service is not ready, and says why; within two seconds of its end it is again."""
    store = Failing()
    with served(store=store) as service:
        probe = service.client.simulate_get
        assert 200 == probe("/health/ready").status_code

        store.trouble = gone
        assert within(2, lambda: probe("/health/ready").status_code == 503)
        assert "store" in probe("/health/ready").json["reason"]
        assert "Unhealthy" == probe("/health").json["status"]
        assert "down" == probe("/health/components").json["components"]["store"]["status"]
        assert 200 == probe("/health/live").status_code

        store.trouble = lambda: None
        assert within(2, lambda: probe("/health/ready").status_code == 200)
        assert "Healthy" == probe("/health").json["status"]


def within(seconds: float, so: Callable[[], bool]) -> bool:
    """Whether something becomes so in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if so():
            return True
    return False


def test_store_that_hangs() -> None:
    """A store that does not answer makes the service not ready, and no probe wait for long."""
    store, over = Failing(), threading.Event()
    with served(store=store) as service:
        service.client.simulate_get("/health/ready")
        store.trouble = over.wait
        begun = time.monotonic()

        assert within(5, lambda: service.client.simulate_get("/health/ready").status_code == 503)
        assert "does not answer" in service.client.simulate_get("/health/ready").json["reason"]
        assert 200 == service.client.simulate_get("/health/live").status_code
        assert time.monotonic() - begun < 8
        over.set()
        store.trouble = lambda: None
        assert within(2, lambda: service.client.simulate_get("/health/ready").status_code == 200)


def test_answers_are_remembered_for_a_moment() -> None:
    """Many probes at once ask the store once."""
    asked: list[int] = []
    store = Failing()
    store.trouble = lambda: asked.append(1)
    now = [0.0]
    health = Health(store, None, version="1", switched_off={}, seconds=lambda: now[0])

    for _ in range(100):
        health.ready()
    assert 1 == len(asked)
    now[0] += 1
    health.ready()
    assert 2 == len(asked)
    health.close()


def test_call_while_the_store_is_gone() -> None:
    """A call that the store cannot serve hears so, and when to come again."""
    store = Failing()
    with served(store=store, audit_enabled=False) as service:
        service.register()
        store.trouble = gone

        answer = service.ask("DELETE", "/workflows/order")

        assert (503, "urn:knhk:problem:store-unavailable") == (answer.status_code, answer.json["type"])
        assert "1" == answer.headers["retry-after"]
        store.trouble = lambda: None


@pytest.mark.parametrize("name", ["auth", "audit", "rate_limit"])
def test_what_is_switched_off_is_shown(name: str) -> None:
    """What is off on purpose is shown with the variable that says so."""
    with served(**{f"{name}_enabled": False}) as service:
        parts = service.client.simulate_get("/health/components").json["components"]

    assert "off" == parts[name.replace("_", "-")]["status"]
    assert f"WORKFLOW_{name.upper()}_ENABLED" in parts[name.replace("_", "-")]["detail"]


def test_draining() -> None:
    """An instance that ends is alive, and not ready."""
    with served() as service:
        service.made.health.draining = True

        assert {"ready": False, "reason": "draining"} == service.client.simulate_get("/health/ready").json
        assert 200 == service.client.simulate_get("/health/live").status_code
