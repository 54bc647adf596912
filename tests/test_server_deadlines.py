"""Nothing that a caller asks for holds the service: work that does not end, nets that explode, verifications that take long."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from knhk.server import service as operations
from knhk.server import working
from knhk.spec.verdict import Budget
from tests.served import Served, problem, served

HANDLED = {
    "id": "handled",
    "tasks": {"a": {"handler": "wait", "join": "xor", "split": "xor"}},
    "flows": [
        {"from": "start", "to": "a"},
        {"from": "a", "to": "a", "when": "1 == 1"},
        {"from": "a", "to": "end", "default": True},
    ],
}
ROUTING = {
    "id": "routing",
    "conditions": ["c"],
    "tasks": {"a": {}, "b": {"split": "xor"}},
    "flows": [
        {"from": "start", "to": "a"},
        {"from": "a", "to": "c"},
        {"from": "c", "to": "b"},
        {"from": "b", "to": "c", "when": "1 == 1"},
        {"from": "b", "to": "end", "default": True},
    ],
}


def execute_all(service: Served, cases: list[str]) -> list[Any]:
    """Execute cases at once; returns the answers."""
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda case=each: answers.append(service.ask("POST", f"/cases/{case}/execute")))
        for each in cases
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return answers


@pytest.mark.parametrize("loops", [False, True])
def test_handlers_that_do_not_end(loops: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that does not return, or work that never ends, holds its call until the deadline; others are answered meanwhile."""
    monkeypatch.setattr(working, "PLACE_WITHIN", 0.01)
    over = threading.Event()
    runs = threading.Semaphore(0)
    with served() as service:
        service.made.service.deadline = 0.2
        engine = service.made.tenants.engine("default")

        @engine.handler("wait")
        def wait(work: Any) -> None:
            del work
            runs.release()
            if not loops:
                over.wait()

        service.register(HANDLED)
        cases = [service.case(spec_id="handled", start=False) for _ in range(3 * working.MOST_RUNS)]

        answers = execute_all(service, cases)

        assert {(200, "running")} == {(each.status_code, each.json["state"]) for each in answers}
        assert {"ready": True} == service.ask("GET", "/health/ready").json
        assert all(runs.acquire(timeout=30) for _ in range(working.MOST_RUNS))
        assert "cancelled" == service.ask("POST", f"/cases/{cases[0]}/cancel").json["state"]
        over.set()


def test_loop_of_routing() -> None:
    """A net that goes round for ever by itself stops at its budget of steps: the call is refused, the case can be cancelled."""
    with served() as service:
        service.register(ROUTING)
        case = service.case(spec_id="routing", start=False)

        answer = service.ask("POST", f"/cases/{case}/execute")

        assert problem(answer, "invalid")
        assert "steps" in answer.json["detail"]
        assert "created" == service.ask("GET", f"/cases/{case}").json["state"]
        assert "cancelled" == service.ask("POST", f"/cases/{case}/cancel").json["state"]


def test_net_that_explodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A net with more markings than anybody can look at is undecided within its budget, and the answer is remembered."""
    monkeypatch.setattr(operations, "VERIFIED_WITHIN", Budget(states=1_000, seconds=5.0))
    monkeypatch.setattr(operations, "AT_REGISTRATION", Budget(states=1_000, seconds=5.0))
    tasks: dict[str, Any] = {"fork": {"split": "and"}, "join": {"join": "and"}}
    flows = [{"from": "start", "to": "fork"}, {"from": "join", "to": "end"}]
    for number in range(12):
        chain = ["fork", f"a{number}", f"b{number}", f"c{number}", "join"]
        flows += [{"from": a, "to": b} for a, b in zip(chain, chain[1:], strict=False)]
        # Each branch cancels in the next one, which no reduction takes away.
        tasks |= {f"a{number}": {}, f"b{number}": {}, f"c{number}": {"cancels": [f"b{(number + 1) % 12}"]}}
    spec = {"id": "wide", "tasks": [{"id": each, **what} for each, what in tasks.items()], "flows": flows}
    with served() as service:
        judged = service.ask("POST", "/workflows/verify", body={"spec": spec})
        service.register(spec)
        found = [service.ask("GET", "/workflows/wide") for _ in range(2)]
        monkeypatch.setattr(operations.Specification, "verify", lambda *_, **__: 1 / 0)
        again = service.ask("GET", "/workflows/wide")

    assert (200, "undecided") == (judged.status_code, judged.json["verdict"])
    assert found[0].json["soundness"] == found[1].json["soundness"] == again.json["soundness"]


def test_verifications_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """More verifications at once than there are places are refused for now, and everything else goes on."""
    monkeypatch.setattr(working, "PLACE_WITHIN", 0.01)
    with served() as service:
        service.register(ROUTING)
        places = service.made.service._judging  # noqa: SLF001 - as if so many were under way
        for _ in range(working.MOST_JUDGED):
            places.take()
        refused = service.ask("POST", "/workflows/verify", body={"spec": ROUTING})
        record = service.ask("GET", "/audit/verify")
        other = service.ask("GET", "/workflows/routing")
        places.give()
        free = service.ask("POST", "/workflows/verify", body={"spec": ROUTING})

    assert problem(refused, "rate-limited")
    assert problem(record, "rate-limited")
    assert "1" == refused.headers["retry-after"]
    assert (200, 200) == (other.status_code, free.status_code)


def test_memory_of_verdicts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verdicts are remembered for so many workflows, and found again for the others."""
    monkeypatch.setattr(operations, "_MOST_VERDICTS", 2)
    with served() as service:
        for version in "1234":
            service.register({**ROUTING, "version": version})
        verdicts = [
            service.ask("GET", "/workflows/routing", query_string=f"version={version}").json["soundness"]
            for version in "1234"
        ]

        assert 2 == len(service.made.service._soundness)  # noqa: SLF001
    assert 1 == len({str(each) for each in verdicts})
