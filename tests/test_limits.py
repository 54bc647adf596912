"""Sizes that must work, and the limits beyond which a command is refused with nothing changed."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from knhk._codes import Phase
from knhk._kernel import Net
from knhk._lower import lower
from knhk.case import Case
from knhk.limits import Limits
from knhk.errors import LimitExceeded
from knhk.spec import Specification, build


def case_of(net: Any, data: dict[str, Any] | None = None, limits: Limits | None = None) -> Case:
    """A case of the net, not yet started."""
    program = lower(net.specification())
    case = Case(program, tuple(Net(each.tables) for each in program.nets), limits=limits)
    case.create({} if data is None else data)
    return case


def counted_loop(turns: int) -> Any:
    """A loop of a routing task that goes round as often as there is fuel: `turns` + 2 steps in all."""
    net = build("loop")
    again, fuel, counter = net.condition("again"), net.condition("fuel"), net.condition("counter")
    first, turn = net.task("first", split="and"), net.task("turn", join="and", split="and")
    stop = net.task("stop", cancels=["again"])
    net.start.to(first)
    first.to(again)
    first.to(fuel, weight=turns)
    again.to(turn)
    fuel.to(turn)
    turn.to(again)
    turn.to(counter)
    counter.to(stop, weight=turns)
    stop.to(net.end)
    return net


def test_a_sequence_of_500_routing_tasks() -> None:
    """Five hundred tasks that complete by themselves run within the start."""
    net = build("long")
    net.sequence(net.start, *(net.task(f"t{n}") for n in range(500)), net.end)
    case = case_of(net)
    case.start(at=0)
    assert case.state.phase is Phase.COMPLETED
    assert len(case.take_records()) == 503


def test_a_loop_of_100_000_turns() -> None:
    """A loop of routing tasks may go round a hundred thousand times within the default limits."""
    case = case_of(counted_loop(100_000))
    case.start(at=0)
    assert case.state.phase is Phase.COMPLETED


@pytest.mark.parametrize(("steps", "fits"), [(102, True), (101, False), (0, False)])
def test_the_limit_of_steps_is_exact(steps: int, fits: bool) -> None:
    """With one step less than the case needs the start is refused, the case is unchanged and can be started later."""
    case = case_of(counted_loop(100), limits=Limits(steps=steps))
    if fits:
        case.start(at=0)
        assert case.state.phase is Phase.COMPLETED
        return
    before = copy.deepcopy(case.state.dump())
    case.take_records()
    with pytest.raises(LimitExceeded) as caught:
        case.start(at=0)
    assert (caught.value.limit, caught.value.maximum) == ("steps", steps)
    assert case.state.dump() == before
    assert case.take_records() == []


@pytest.mark.parametrize("who", [{"manual": True}, {}])
def test_a_violation_that_leads_back_to_itself_is_refused(who: dict[str, bool]) -> None:
    """Where what a task requires never holds, and its error leads back to it, the limit of steps ends the round."""
    tree = {
        "id": "round",
        "conditions": ["again"],
        "tasks": [{"id": "first", "join": "xor"}, {"id": "check", "requires": "data.ok", **who}],
        "flows": [
            {"from": "start", "to": "first"},
            {"from": "first", "to": "again"},
            {"from": "again", "to": "check"},
            {"from": "check", "to": "end"},
            {"from": "check", "to": "again", "on_error": "*"},
        ],
    }
    program = lower(Specification.from_dict(tree))
    case = Case(program, tuple(Net(each.tables) for each in program.nets), limits=Limits(steps=50))
    case.create({"ok": False})
    case.take_records()

    with pytest.raises(LimitExceeded, match="check: the case goes on by itself for too many steps"):
        case.start(at=0)
    assert case.state.phase is Phase.CREATED
    assert [] == case.take_records()


def nested(depth: int, limits: Limits | None = None) -> Case:
    """A case that goes `depth` composite tasks deep: each start of a person's task goes one deeper."""
    net = build("deep")
    net.sequence(net.start, net.task("R", subnet="R"), net.end)
    inner = net.subnet("R")
    choose = inner.task("choose", manual=True, split="xor")
    again = inner.task("R", subnet="R")
    inner.start.to(choose)
    choose.to(again, when="has(data.deeper) && data.deeper")
    stop = inner.task("stop")
    choose.to(stop, default=True)
    done = inner.condition("done")
    again.to(done)
    stop.to(done)
    inner.sequence(done, inner.task("last"), inner.end)
    case = case_of(net, limits=limits)
    case.start(at=0)
    for level in range(1, depth):
        case.complete_task("R/" * level + "choose", {"deeper": True}, at=0)
    return case


def test_recursion_1000_deep() -> None:
    """A thousand composite tasks inside one another work and end; one more is refused and changes nothing."""
    case = nested(1_000)
    (path,) = case.enabled()
    assert path == "R/" * 1_000 + "choose"
    before = copy.deepcopy(case.state.dump())
    with pytest.raises(LimitExceeded) as caught:
        case.complete_task(path, {"deeper": True}, at=0)
    assert (caught.value.limit, caught.value.maximum) == ("depth", 1_000)
    assert case.state.dump() == before
    other = case_of_same(case)
    assert other.enabled() == [path]
    case.complete_task(path, {"deeper": False}, at=0)
    assert case.state.phase is Phase.COMPLETED
    other.cancel(at=0)
    assert other.state.nets == {}


def case_of_same(case: Case) -> Case:
    """Another case made from the state's dump."""
    other = Case(case._program, case._kernels)
    other.replay(copy.deepcopy(case.state.dump()), [])
    return other


@pytest.mark.parametrize("depth", [1, 5])
def test_the_limit_of_depth_is_exact(depth: int) -> None:
    """With a limit of n, n composite tasks inside one another work and n + 1 do not."""
    case = nested(depth, Limits(depth=depth))
    with pytest.raises(LimitExceeded):
        case.complete_task("R/" * depth + "choose", {"deeper": True}, at=0)


def many() -> Any:
    """A task with as many instances as the data says, more to be added, one enough to go on."""
    net = build("many")
    work = net.task("work", manual=True, multiple={"count": "data.n", "threshold": 1, "creation": "dynamic"})
    net.sequence(net.start, work, net.end)
    return net


def test_100_000_instances() -> None:
    """A hundred thousand instances of one task start and end; one more is refused, at the start and later."""
    case = case_of(many(), {"n": 100_000})
    case.start(at=0)
    case.start_task("work", at=0)
    assert len(case.state.items) == 100_000
    with pytest.raises(LimitExceeded, match="limit instances=100000"):
        case.add_instance("work", at=0)
    assert len(case.state.items) == 100_000
    case.complete_task("work#100000", at=0)
    assert case.state.phase is Phase.COMPLETED


def test_100_001_instances_are_refused() -> None:
    """One instance more than the limit is refused when the task starts, and the task stays offered."""
    case = case_of(many(), {"n": 100_001})
    case.start(at=0)
    before = copy.deepcopy(case.state.dump())
    with pytest.raises(LimitExceeded) as caught:
        case.start_task("work", at=0)
    assert (caught.value.limit, caught.value.maximum) == ("instances", 100_000)
    assert case.state.dump() == before
    assert case.enabled() == ["work"]
