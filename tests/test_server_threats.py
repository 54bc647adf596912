"""Workflows and expressions that are meant to harm: refused, or stopped at a bound, and everybody else is served."""

from __future__ import annotations

from typing import Any

import pytest

from tests.served import Served, problem, served

DATA = {"n": list(range(20_000)), "s": "a" * 5_000 + "!"}


def line(*tasks: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A workflow of these tasks, one behind the other."""
    chain = ["start", *(each["id"] for each in tasks), "end"]
    flows = [{"from": a, "to": b} for a, b in zip(chain, chain[1:], strict=False)]
    return {"id": "x", "tasks": list(tasks), "flows": flows, **more}


def net(task: str, subnet: str) -> dict[str, Any]:
    """A net with one task, which stands for another net."""
    flows = [{"from": "start", "to": task}, {"from": task, "to": "end"}]
    return {"tasks": [{"id": task, "subnet": subnet}], "flows": flows}


def choosing(when: str) -> dict[str, Any]:
    """A workflow with a flow that is taken where this holds."""
    spec = line({"id": "a", "split": "xor"}, {"id": "b"})
    flows: list[dict[str, Any]] = [
        {"from": "start", "to": "a"},
        {"from": "a", "to": "b", "when": when},
        {"from": "a", "to": "end", "default": True},
        {"from": "b", "to": "end"},
    ]
    return {**spec, "flows": flows}


@pytest.fixture(scope="module")
def service() -> Any:
    """A service in which nothing is left behind."""
    with served() as made:
        yield made


REFUSED = {
    "instances, fewer than none": line({"id": "a", "manual": True, "multiple": {"count": -1}}),
    "instances, more than a number holds": line({"id": "a", "manual": True, "multiple": {"count": 10**30}}),
    "a flow from nowhere": {"id": "x", "tasks": [{"id": "a"}], "flows": [{"from": "b", "to": "a"}]},
    "a flow to nowhere": {"id": "x", "tasks": [{"id": "a"}], "flows": [{"from": "start", "to": "b"}]},
    "a subnet that is not there": line({"id": "a", "subnet": "n"}),
    "an id twice": line({"id": "a"}, {"id": "a"}),
    "a slow regular expression": choosing('data.s.matches("(a+)+$")'),
    "three thousand parentheses": choosing("(" * 3_000 + "1" + ")" * 3_000 + " == 1"),
    "a power of powers": choosing("9**9**9**9 > 1"),
    "a hundred thousand terms": choosing("+".join(["1"] * 100_000) + " > 1"),
    "a call of the language underneath": choosing("__import__('os').system('x') == 1"),
    "a document": choosing("document('file:///etc/passwd') == 1"),
    "loops in loops": choosing("data.n.all(a, data.n.all(b, data.n.all(c, a + b + c > 0)))"),
    "a format": choosing("'%s'.format([data]) == 'x'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_when_it_is_registered(service: Served, name: str) -> None:
    """A workflow that can do nothing but harm is refused with the place of what is wrong, and is not there."""
    before = service.state()

    answer = service.ask("POST", "/workflows", body={"spec": REFUSED[name]})

    assert problem(answer, "invalid") or problem(answer, "malformed")
    assert answer.json["problems"]
    assert before == service.state()


STOPPED = {
    "a net in itself": line({"id": "a", "subnet": "n"}, subnets={"n": net("b", "n")}),
    "two nets in each other": line({"id": "a", "subnet": "n"}, subnets={"n": net("b", "m"), "m": net("c", "n")}),
    "a number that grows": choosing("*".join(["9"] * 25) + " > 1"),
    "the inside of the language underneath": choosing("data.__class__.__mro__ == 1"),
}


@pytest.mark.parametrize("name", STOPPED)
def test_stopped_when_it_runs(service: Served, name: str) -> None:
    """A case that goes beyond a bound, or asks for what there is not, is refused, says why, and can be cancelled; others go on."""
    version = name.replace(" ", "-")
    assert 201 == service.ask("POST", "/workflows", body={"spec": {**STOPPED[name], "version": version}}).status_code
    made = service.ask("POST", "/cases", body={"spec_id": "x", "version": version, "data": DATA}).json["case_id"]

    answer = service.ask("POST", f"/cases/{made}/execute")

    assert problem(answer, "invalid")
    assert answer.json["detail"]
    assert (200, {"alive": True}) == (
        service.ask("GET", "/health/live").status_code,
        service.ask("GET", "/health/live").json,
    )
    assert "cancelled" == service.ask("POST", f"/cases/{made}/cancel").json["state"]


@pytest.mark.parametrize("multiple", [{"count": 10**9}, {"for_each": "data.n"}])
def test_instances_beyond_the_bound(service: Served, multiple: dict[str, Any]) -> None:
    """More instances of a task than a case may have are not made: its start is refused, and it stays as it was."""
    spec = line(
        {"id": "a", "manual": True, "multiple": multiple}, version=f"many-{len(multiple)}{next(iter(multiple))}"
    )
    service.register(spec)
    made = service.ask("POST", "/cases", body={"spec_id": "x", "version": spec["version"], "data": DATA, "start": True})
    item = service.item(made.json["case_id"])

    answer = service.ask("POST", f"/workitems/{item}/start")

    assert problem(answer, "invalid")
    assert "instances" in answer.json["detail"]
    assert "offered" == service.ask("GET", f"/workitems/{item}").json["state"]
    assert "cancelled" == service.ask("POST", f"/cases/{made.json['case_id']}/cancel").json["state"]


def test_large_workflow(service: Served) -> None:
    """A workflow of 1,500 tasks is a workflow."""
    service.register(line(*({"id": f"t{number}"} for number in range(1_500)), version="large"))
    made = service.ask("POST", "/cases", body={"spec_id": "x", "version": "large", "data": {}}).json["case_id"]

    assert "completed" == service.ask("POST", f"/cases/{made}/execute").json["state"]
