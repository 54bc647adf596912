"""Automatic work in the service: of every tenant, with few threads, and handed back at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from knhk.system import SystemClock
from knhk.errors import StoreUnavailable
from knhk.server import background
from knhk.server.background import Background
from tests.served import Served, served

WORK: dict[str, Any] = {
    "id": "work",
    "tasks": {"a": {"handler": "count"}},
    "flows": [{"from": "start", "to": "a"}, {"from": "a", "to": "end"}],
}
LATER: dict[str, Any] = {
    "id": "later",
    "tasks": {"a": {"timer": "200ms"}},
    "flows": [{"from": "start", "to": "a"}, {"from": "a", "to": "end"}],
}


class Module:
    """What `WORKFLOW_HANDLERS` names: registers a handler, for every tenant."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.work = work

    def register(self, engine: Any) -> None:
        """Register it."""
        engine.handler("count")(self.work)


def soon(so: Callable[[], bool], seconds: float = 20) -> bool:
    """Whether something becomes so."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if so():
            return True
        time.sleep(0.01)
    return False


def working(service: Served, work: Callable[[Any], Any]) -> None:
    """Let a service have a handler."""
    service.made.tenants._modules.append(Module(work))  # type: ignore[arg-type]


def state(service: Served, case: str, tenant: str) -> str:
    """The state of a case."""
    return str(service.ask("GET", f"/cases/{case}", tenant=tenant).json["state"])


def test_every_tenants_work_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Started cases of more tenants than there are places complete by themselves, handlers and timers."""
    monkeypatch.setattr(background, "TURN", 0.0)
    with served() as service:
        working(service, lambda work: {"done": True})
        tenants = ["default", *(f"t{number}" for number in range(5))]
        cases = []
        for tenant in tenants:
            for spec in (WORK, LATER):
                service.register(spec, tenant=tenant)
                cases.append((service.case(spec_id=spec["id"], tenant=tenant), tenant))
        runs = Background(service.made.tenants, SystemClock(), places=2, workers=1, interval=0.02)
        before = threading.active_count()
        runs.start()

        assert soon(lambda: all(state(service, *each) == "completed" for each in cases))
        assert len(runs.served) <= 2
        assert threading.active_count() - before <= 2 * 4
        runs.stop(5)
        assert [] == runs.served


def test_quiet_tenants_give_their_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenant without work has no place after a while."""
    monkeypatch.setattr(background, "QUIET", 0.0)
    with served() as service:
        working(service, lambda work: {})
        service.register(WORK)
        case = service.case(spec_id="work")
        runs = Background(service.made.tenants, SystemClock())

        runs.look()
        assert ["default"] == runs.served
        assert soon(lambda: state(service, case, "default") == "completed")
        assert soon(lambda: runs.look() or runs.served == [])


def test_the_oldest_place_is_kept_for_a_turn() -> None:
    """While every place is new, whoever comes next waits."""
    with served() as service:
        working(service, lambda work: {})
        over = threading.Event()
        for tenant in ("default", "acme"):
            service.register(WORK, tenant=tenant)
            service.case(spec_id="work", tenant=tenant)
        service.made.tenants._modules[:] = [Module(lambda work: over.wait(20) and {})]  # type: ignore[list-item]
        service.made.tenants._engines.clear()
        runs = Background(service.made.tenants, SystemClock(), places=1)
        runs.look()
        runs.look()

        assert ["default"] == runs.served
        over.set()
        runs.stop(5)


def test_work_that_does_not_end_is_handed_back(tmp_path: Path) -> None:
    """At the end a handler that does not return loses its work, which the next process does."""
    over, began = threading.Event(), threading.Event()

    def slow(work: Any) -> Any:
        began.set()
        over.wait(30)

    with served(state_path=str(tmp_path)) as service:
        working(service, slow)
        service.register(WORK)
        case = service.case(spec_id="work")
        service.made.start()
        assert began.wait(20)
        begun = time.monotonic()
        service.made.background.stop(0.2)
        assert time.monotonic() - begun < 5
    over.set()
    with served(state_path=str(tmp_path)) as service:
        working(service, lambda work: {"done": True})
        service.made.start()
        assert soon(lambda: state(service, case, "default") == "completed")


def test_failed_look_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that the store refuses is shown, and the next one tries again."""
    with served() as service:

        def gone() -> list[str]:
            raise StoreUnavailable("gone")

        with monkeypatch.context() as broken:
            broken.setattr(service.made.tenants, "known", gone)
            service.made.start()
            assert soon(lambda: service.made.background.failure is not None)
            parts = service.client.simulate_get("/health/components").json["components"]
            assert "down" == parts["automatic-work"]["status"]
        assert soon(lambda: service.made.background.failure is None)
