"""One specification that uses most of the format, run to its end along every branch, on memory and on SQLite."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from knhk import Engine, EventKind, Specification, Work
from knhk.errors import DataError
from knhk.testing.chance import FixedChance
from knhk.testing.clock import ManualClock

ORDER = """
{"id": "order", "name": "Order to cash", "version": "1",
 "tasks": [
   {"id": "check",   "handler": "check_credit", "split": "xor",
    "retry": {"max_attempts": 5, "initial": "100ms", "coefficient": 2, "max": "30s"}},
   {"id": "approve", "manual": {"roles": ["approver"]}},
   {"id": "expire",  "timer": "3d"},
   {"id": "pack",    "join": "xor", "split": "and"},
   {"id": "label",   "external": {"topic": "labels", "timeout": "10m"}},
   {"id": "ship",    "subnet": "shipping"},
   {"id": "close",   "join": "and"},
   {"id": "notify",  "handler": "notify",
    "multiple": {"for_each": "data.recipients", "minimum": 1, "maximum": 50, "threshold": 2, "creation": "static"}}],
 "conditions": [{"id": "waiting"}],
 "flows": [
   {"from": "start", "to": "check"},
   {"from": "check", "to": "waiting", "when": "data.amount > 1000"},
   {"from": "check", "to": "pack", "default": true},
   {"from": "waiting", "to": "approve"}, {"from": "waiting", "to": "expire"},
   {"from": "approve", "to": "pack"}, {"from": "expire", "to": "end"},
   {"from": "pack", "to": "label"}, {"from": "pack", "to": "ship"},
   {"from": "label", "to": "close"}, {"from": "ship", "to": "close"},
   {"from": "close", "to": "notify"}, {"from": "notify", "to": "end"}],
 "subnets": {"shipping": {"tasks": [{"id": "pick", "manual": {}}],
                          "flows": [{"from": "start", "to": "pick"}, {"from": "pick", "to": "end"}]}},
 "data": {"type": "object", "required": ["amount"]}}
"""
PEOPLE = ["ann", "bob", "cyd"]
MINUTE, DAY = 60_000, 86_400_000


class Shop:
    """An engine with the order's handlers, and what they did."""

    def __init__(self, engine: Engine, clock: ManualClock) -> None:
        self.engine = engine
        self.clock = clock
        self.outages = 0
        self.notified: list[str] = []
        engine.handler("check_credit")(self.check_credit)
        engine.handler("notify")(self.notify)
        assert engine.register(Specification.from_json(ORDER)).new

    def check_credit(self, work: Work) -> dict[str, Any]:
        if work.attempt <= self.outages:
            raise ConnectionError("no answer")
        return {"checked": work.attempt}

    def notify(self, work: Work) -> None:
        self.notified.append(work.item)

    def order(self, amount: int) -> Any:
        return self.engine.create_case("order", {"amount": amount, "recipients": PEOPLE}).run()

    def pack(self, case: Any) -> None:
        """Do the work outside, then what follows by itself."""
        case.start_task("label", by="printer")
        case.complete_task("label", {"label": "L1"}, by="printer")
        case.complete_task("ship/pick")
        case.run()


@pytest.fixture(params=["memory", "sqlite"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """A shop on each store."""
    clock = ManualClock()
    target = "memory:" if request.param == "memory" else str(tmp_path / "orders.db")
    with Engine(target, clock=clock, chance=FixedChance()) as engine:
        yield Shop(engine, clock)


def test_the_specification_is_read_as_it_is_written() -> None:
    """Reading and writing the specification keeps every member, and its content has one name."""
    specification = Specification.from_json(ORDER)

    assert Specification.from_json(specification.to_json()) == specification
    assert {task["id"] for task in json.loads(ORDER)["tasks"]} == {
        task["id"] for task in specification.to_dict()["tasks"]
    }


def test_a_small_order_is_packed_at_once(shop: Shop) -> None:
    """A small amount takes the default: label and shipping in parallel, then two of the recipients are enough."""
    case = shop.order(120)
    assert ["label", "ship/pick"] == case.enabled

    shop.pack(case)

    assert "completed" == case.state
    assert ["ann", "bob"] == shop.notified
    assert {"amount": 120, "recipients": PEOPLE, "checked": 1, "label": "L1"} == case.data


def test_a_large_order_is_approved(shop: Shop) -> None:
    """A large amount waits for an approver, whose choice takes the deadline away."""
    case = shop.order(1_200)
    assert ["approve"] == case.enabled
    (item,) = case.work_items()
    assert ("approver",) == item.roles

    item.complete({"approved": True}, by="ann")

    assert (["label", "ship/pick"], None) == (case.enabled, case.next_due)
    shop.pack(case)
    assert "completed" == case.state


def test_a_large_order_that_nobody_approves_expires(shop: Shop) -> None:
    """After three days without approval the case ends, and nothing was packed."""
    case = shop.order(1_200)
    shop.clock.advance(3 * DAY - 1)
    assert 0 == shop.engine.tick()
    shop.clock.advance(1)

    assert 1 == shop.engine.tick()

    assert ("completed", []) == (case.state, shop.notified)
    assert "label" not in {event.path for event in case.history()}


def test_a_credit_check_that_fails_is_made_again(shop: Shop) -> None:
    """Four failures are waited out with doubling waits, and the fifth attempt goes on."""
    shop.outages = 4
    case = shop.order(120)
    waits = []
    while case.next_due is not None:
        waits.append(case.next_due - shop.clock.now())
        shop.clock.advance(waits[-1])
        shop.engine.tick()
        shop.engine.run_pending()

    assert [100, 200, 400, 800] == waits
    assert 5 == case.data["checked"]
    assert 4 == sum(event.kind is EventKind.ATTEMPT_FAILED for event in case.history())
    shop.pack(case)
    assert "completed" == case.state


def test_a_label_that_is_not_printed_in_time_is_offered_again(shop: Shop) -> None:
    """A printer that took the label and fell silent loses it after ten minutes to the next one."""
    case = shop.order(120)
    case.start_task("label", by="broken printer")
    shop.clock.advance(10 * MINUTE)

    assert 1 == shop.engine.tick()

    assert ["labels"] == [row.topic for row in shop.engine.work_items(state="offered") if row.path == "label"]
    shop.pack(case)
    assert "completed" == case.state


def test_an_order_without_an_amount_is_no_order(shop: Shop) -> None:
    """The schema's demand is made when the case is created."""
    with pytest.raises(DataError, match='"amount" is a required property'):
        shop.engine.create_case("order", {"recipients": PEOPLE})
