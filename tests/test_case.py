"""Properties of a case on random nets: replay gives the same state, a refused command changes nothing."""

from __future__ import annotations

import json
import os
import random
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nets import SMALL, compiled, fresh, lanes, specifications

from knhk import _hot
from knhk._attempts import Failure
from knhk._codes import Code, Phase
from knhk._kernel import Net
from knhk._lower import Program
from knhk.case import Case
from knhk.limits import Limits
from knhk.errors import (
    CommandError,
    DataError,
    IllegalTransition,
    InternalError,
    JournalError,
    LimitExceeded,
    UnknownWorkItem,
)
from knhk.journal import decode_batch, encode_batch
from knhk.spec import Specification, build
from knhk.workitem import ItemState

REFUSALS = (CommandError, DataError)
RUNS = settings(
    max_examples=70,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
ACTIONS = (
    ["complete"] * 6
    + ["start"] * 3
    + ["cancel", "event", "advance", "advance", "mi", "item", "attempt", "attempt", "case", "nonsense"]
)
FIRST = {"list": ["a", "b"]}


def copy(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree as it is read back from a file: nothing shared with the case."""
    return json.loads(json.dumps(tree))


def act(pick: Any, case: Case, at: int) -> None:
    """Give the case one random command, mostly one that fits."""
    action = pick(ACTIONS)
    paths = case.enabled() + case.running()
    path = pick(paths) if paths else "T0"
    output = pick([None, {}, {"x": 0}, {"x": 1}, {"x": 2}, {"list": [1]}, {"list": "none"}])
    numbers = sorted(case.state.items)
    if case.state.undoing is not None and action in ("complete", "start"):
        if pick([False, False, True]):
            case.begin_attempt(case.state.undoing.item, at=at)
        case.complete_item(case.state.undoing.item, output, at=at)
    elif action == "complete":
        case.complete_task(path, output, at=at)
    elif action == "start":
        case.start_task(path, at=at, by=pick(["", "ann"]))
    elif action == "cancel":
        case.cancel_task(path, at=at)
    elif action == "event":
        case.send_event(pick("ef"), output, at=at)
    elif action == "advance":
        case.advance(at=at + 1_000 * pick(range(3)))
    elif action == "mi":
        commands = [case.add_instance, case.close_instances, case.complete_instances]
        pick(commands)(path.partition("#")[0], at=at)
    elif action == "item":
        commands = ["allocate", "offer", "suspend", "resume", "fail", "retry", "start", "bogus"]
        number = pick([*numbers, 0])
        case.change_item(number, pick(commands), at=at, by=pick([None, "bob"]))
    elif action == "attempt":
        started = [number for number in numbers if case.state.items[number].state is ItemState.STARTED]
        number = pick([*started, 0])
        if number in case.state.work:
            if not case.end_cut_off(number, at=at):
                case.begin_attempt(number, at=at)
            if pick([False, False, True]):
                case.hand_back(number, at=at)
        if pick([False, True]):
            case.retry_due(at=at)
        kinds = pick([(), ("A",), ("B", "A"), ("C",)])
        case.fail_attempt(number, Failure(text="refused", kinds=kinds, draw=pick([0.0, 0.5])), at=at)
    elif action == "case":
        pick([case.suspend, case.resume, case.start, case.cancel, partial(case.cancel, compensate=False)])(at=at)
    else:
        case.complete_task(pick(["", "T9", "T0/T0", "T0#9", "T0#x", "T0#1/T0", "/"]), at=at)


def picking(data: st.DataObject) -> Any:
    """What chooses one of several as Hypothesis says."""
    return lambda options: data.draw(st.sampled_from(options))


def replayed(program: Program, nets: tuple[Net, ...], snapshot: dict[str, Any] | None, records: list[Any]) -> Case:
    """A case that has become what the history, read back from bytes, says."""
    case = fresh(program, nets)
    case.replay(snapshot, decode_batch(encode_batch(0, records))[1])
    return case


@RUNS
@given(st.data(), specifications())
def test_a_replay_gives_the_same_state(data: st.DataObject, specification: Specification) -> None:
    """Replaying all records, or those since a snapshot, gives the state, the ready tasks and the work of the live case."""
    program, nets = compiled(specification)
    case = fresh(program, nets)
    case.create(FIRST)
    everything = case.take_records()
    steps = data.draw(st.integers(1, 15))
    middle = data.draw(st.integers(0, steps))
    snapshot, since = None, list(everything)
    for at in range(steps):
        try:
            if at == 0:
                case.start(at=0)
            else:
                act(picking(data), case, at * 700)
        except REFUSALS:
            pass
        fresh_records = case.take_records()
        everything += fresh_records
        since += fresh_records
        if at == middle:
            snapshot, since = copy(case.state.dump()), []
    for other in (replayed(program, nets, None, everything), replayed(program, nets, snapshot, since)):
        assert other.state.dump() == case.state.dump()
        assert other.enabled() == case.enabled()
        assert other.running() == case.running()
        assert other.next_due() == case.next_due()
        assert sorted(other.state.work) == sorted(case.state.work)
        assert {n: net.marking.ready() for n, net in other.state.nets.items()} == {
            n: net.marking.ready() for n, net in case.state.nets.items()
        }


@pytest.mark.skipif(not _hot.COMPILED and os.environ.get("CI") != "true", reason="the compiled kernel is not built")
def test_both_kernels_make_the_same_case() -> None:
    """On random specifications the same commands give the same records, refusals and state on either kernel."""
    firings = 0

    @settings(RUNS, max_examples=100, database=None)
    @given(st.integers(0, 2**32), specifications())
    def run(seed: int, specification: Specification) -> None:
        nonlocal firings
        program, nets = compiled(specification)
        hot = tuple(_hot.Net(each.tables, or_join_budget=2_000) for each in program.nets)
        assert type(hot[0]) is not type(nets[0])
        for turn in range(8):
            pair = [fresh(program, nets), fresh(program, hot)]
            for case in pair:
                case.create(FIRST)
            for at in range(40):
                assert commanded(pair[0], seed + turn, at) == commanded(pair[1], seed + turn, at)
                reference, other = (case.take_records() for case in pair)
                assert reference == other
                assert pair[0].state.dump() == pair[1].state.dump()
                firings += sum(record[0] in (Code.FIRED, Code.BEGUN) for record in reference)
                if pair[0].state.phase in (Phase.COMPLETED, Phase.CANCELLED):
                    break

    run()

    assert firings >= 50


def commanded(case: Case, seed: int, at: int) -> str:
    """Give the case the random command of this seed and time; returns why it was refused, or nothing."""
    chance = random.Random(seed * 1_000 + at)
    try:
        if at == 0:
            case.start(at=0)
        else:
            act(chance.choice, case, at * 700)
    except REFUSALS as error:
        return repr(error)
    return ""


def test_completing_offered_work_is_starting_and_completing_it() -> None:
    """In one command or in two, the records are the same: also where nobody looks at what is in between."""
    at_once = 0

    @settings(RUNS, database=None)
    @given(st.integers(0, 2**32), lanes() | specifications())
    def run(seed: int, specification: Specification) -> None:
        nonlocal at_once
        program, nets = compiled(specification)
        once, twice = fresh(program, nets), fresh(program, nets)
        for case in (once, twice):
            case.create(FIRST)
            commanded(case, seed, 0)
        for at in range(1, 12):
            root = next(iter(once.state.nets.values()), None)
            offered = [] if root is None else [root.plan.tables.tasks[task] for task in root.offers]
            for path in offered[:1]:
                with suppress(*REFUSALS):
                    by = "ann" if at % 2 else ""
                    once.complete_task(path, {"x": at}, at=at, by=by)
                    twice.start_task(path, at=at, by=by)
                    twice.complete_task(path, {"x": at}, at=at, by=by)
                    at_once += root is not None and root.plan.index[path] in root.plan.at_once
            assert once.take_records() == twice.take_records()
            assert commanded(once, seed, at) == commanded(twice, seed, at)
        assert once.state.dump() == twice.state.dump()

    run()

    assert at_once > 0


@RUNS
@given(st.data(), specifications())
def test_a_refused_command_changes_nothing(data: st.DataObject, specification: Specification) -> None:
    """A command that raises leaves state, pending worklist changes and journal as they were, and the case goes on."""
    program, nets = compiled(specification)
    case, twin = fresh(program, nets), fresh(program, nets)
    for each in (case, twin):
        each.create(FIRST)
    for at in range(data.draw(st.integers(1, 15))):
        before, moved = copy(case.state.dump()), set(case.state.moved)
        try:
            if at == 0:
                case.start(at=0)
            else:
                act(picking(data), case, at * 700)
        except REFUSALS:
            if not case._log[case._taken :]:
                assert copy(case.state.dump()) == before
                assert set(case.state.moved) == moved
        twin.replay(None, case._log)
        case.take_records()
        assert twin.state.dump() == case.state.dump()
        assert twin.enabled() == case.enabled()


@RUNS
@given(st.data(), specifications())
def test_what_is_offered_can_be_started(data: st.DataObject, specification: Specification) -> None:
    """Every offered task can be started, on a copy of the case, unless its data or a limit stands in the way."""
    program, nets = compiled(specification)
    case = fresh(program, nets)
    case.create(FIRST)
    for at in range(data.draw(st.integers(1, 8))):
        try:
            if at == 0:
                case.start(at=0)
            else:
                act(picking(data), case, at * 700)
        except REFUSALS:
            pass
        if case.state.phase is not Phase.RUNNING:
            continue
        for path in case.enabled():
            other = fresh(program, nets)
            other.replay(None, case._log)
            try:
                other.start_task(path, at=at * 700)
            except (DataError, LimitExceeded):
                assert other.state.dump() == case.state.dump()


# --- by hand ----------------------------------------------------------------------------------------------------------


def case_of(net: Any, data: dict[str, Any] | None = None, limits: Limits | None = None) -> Case:
    """A started case of the net that was built."""
    program, nets = compiled(net.specification())
    case = Case(program, nets, limits=limits)
    case.create({} if data is None else data)
    case.start(at=0)
    return case


def one_task(**options: Any) -> Any:
    """A net of one task and one behind it."""
    net = build("one")
    net.sequence(net.start, net.task("A", **options), net.task("B", manual=True), net.end)
    return net


def test_a_case_is_created_and_started_once() -> None:
    """A second creation is a bug of the caller, a second start is refused."""
    case = case_of(one_task(manual=True))
    with pytest.raises(InternalError):
        case.create({})
    with pytest.raises(IllegalTransition) as caught:
        case.start(at=1)
    assert caught.value.status == "running"


@pytest.mark.parametrize(
    "path", ["", "C", "A/B", "A#1", "A#x", "A#1/B", "B", "/A", "A/"], ids=lambda path: path or "empty"
)
def test_a_path_that_names_nothing_is_refused(path: str) -> None:
    """Completing what is not there or not enabled is refused and nothing has happened."""
    case = case_of(one_task(manual=True))
    before = copy(case.state.dump())
    with pytest.raises((UnknownWorkItem, IllegalTransition)):
        case.complete_task(path, {"x": 1}, at=1)
    assert case.state.dump() == before


@pytest.mark.parametrize(
    ("multiple", "data"),
    [
        ({"count": "data.n"}, {"n": 1.5}),
        ({"count": "data.n"}, {"n": True}),
        ({"count": "data.n"}, {"n": -1}),
        ({"count": "data.n"}, {}),
        ({"count": "data.n", "minimum": 2}, {"n": 1}),
        ({"count": "data.n", "maximum": 2}, {"n": 3}),
        ({"for_each": "data.n"}, {"n": "text"}),
        ({"for_each": "data.n"}, {"n": {"a": 1}}),
    ],
)
def test_a_bad_number_of_instances_is_refused(multiple: dict[str, Any], data: dict[str, Any]) -> None:
    """A count that is no number within the bounds refuses the start; the task stays offered."""
    case = case_of(one_task(manual=True, multiple=multiple), data)
    before = copy(case.state.dump())
    with pytest.raises(DataError, match="A"):
        case.start_task("A", at=1)
    assert case.state.dump() == before
    assert case.enabled() == ["A"]


def test_no_instances_pass_control_at_once() -> None:
    """A multiple-instance task whose count is 0 passes control when it starts."""
    case = case_of(one_task(manual=True, multiple={"for_each": "data.n"}), {"n": []})
    case.start_task("A", at=1)
    assert case.enabled() == ["B"]


def test_added_instances_bring_their_element() -> None:
    """An instance added to a `for_each` task gets the element that came with it."""
    case = case_of(
        one_task(manual=True, multiple={"for_each": "data.n", "creation": "dynamic", "maximum": 3}), {"n": ["a"]}
    )
    case.start_task("A", at=1)
    case.add_instance("A", "b", at=2)
    items = {case.path(item): case.state.element(item) for item in case.state.items.values()}
    assert items == {"A#1": "a", "A#2": "b"}
    case.add_instance("A", "c", at=3)
    with pytest.raises(IllegalTransition, match="maximum of 3"):
        case.add_instance("A", "d", at=4)


@pytest.mark.parametrize("command", ["add_instance", "close_instances", "complete_instances"])
def test_instance_commands_need_a_running_multiple_instance_task(command: str) -> None:
    """What is no running multiple-instance task takes none of their commands."""
    single = case_of(one_task(manual=True))
    static = case_of(one_task(manual=True, multiple={"count": 2}))
    for case in (single, static):
        with pytest.raises(IllegalTransition):
            getattr(case, command)("A", at=1)
    static.start_task("A", at=1)
    if command == "complete_instances":
        static.complete_instances("A", at=2)
        assert static.enabled() == ["B"]
    else:
        with pytest.raises(IllegalTransition, match="static"):
            getattr(static, command)("A", at=2)


def test_the_life_of_a_work_item() -> None:
    """An item can be allocated, offered again, started, suspended, resumed, failed and retried, and nothing else."""
    case = case_of(one_task(manual=True))
    (number,) = case.state.items
    case.change_item(number, "allocate", at=1, by="ann")
    assert case.state.items[number].by == "ann"
    assert case.enabled() == ["A"]
    case.change_item(number, "offer", at=1, by="")
    with pytest.raises(IllegalTransition) as caught:
        case.change_item(number, "resume", at=1)
    assert caught.value.allowed == ("allocate", "start", "complete")
    case.start_task("A", at=1, by="bob")
    case.change_item(number, "suspend", at=1)
    with pytest.raises(IllegalTransition, match="it is suspended"):
        case.complete_task("A", at=1)
    case.change_item(number, "resume", at=1)
    case.change_item(number, "fail", at=1)
    assert case.state.phase is Phase.FAILED
    with pytest.raises(IllegalTransition):
        case.start_task("A", at=1)
    case.change_item(number, "retry", at=1)
    assert (case.state.phase, case.state.items[number].state) == (Phase.RUNNING, ItemState.STARTED)
    assert case.begin_attempt(number, at=1) == 1
    with pytest.raises(UnknownWorkItem):
        case.change_item(99, "fail", at=1)
    case.complete_task("A", at=2)
    assert case.enabled() == ["B"]


def test_handlers_wait_in_the_order_of_their_start() -> None:
    """The started items of handlers are the automatic work of a case."""
    case = case_of(one_task(handler="h"))
    assert [case.path(item) for item in case.automatic_work()] == ["A"]


def test_a_refused_command_after_a_snapshot_is_undone_from_it() -> None:
    """A command refused half-way, in a case whose history begins with a snapshot, leaves all but the data's copy as it was."""
    net = build("undo")
    first = net.task("first", manual=True)
    choose = net.task("choose", split="xor")
    net.sequence(net.start, first, choose)
    join = net.task("join", join="xor")
    choose.to(join, when="data.x == 1")
    other = net.condition("other")
    choose.to(other, when="data.x == 2")
    other.to(join)
    join.to(net.end)
    case = case_of(net, {"x": 2})
    case.take_records()
    tree = copy(case.snapshot())
    assert case.take_records() == []
    again = Case(case._program, case._kernels)
    again.replay(tree, [])
    with pytest.raises(DataError, match="no predicate"):
        again.complete_task("first", {"x": 3}, at=1)
    assert again.state.dump() == case.state.dump()
    again.complete_task("first", {"x": 1}, at=1)
    assert again.state.phase is Phase.COMPLETED


@pytest.mark.parametrize(
    "record",
    [
        (Code.OFFERED, 7, 0),
        (Code.FINISHED, 0, 0, 5, None, 1, None),
        (Code.BEGUN, 0, 99, 0, None, "", None),
        (Code.ITEM, 99, "started", "", 0),
        (Code.STARTED, 1),
        (77, 1),
        (Code.TIMER_CLEARED, 0, 0),
    ],
)
def test_a_record_that_cannot_have_happened_is_found(record: tuple[Any, ...]) -> None:
    """A history that names what is not there is a JournalError."""
    case = case_of(one_task(manual=True))
    other = Case(case._program, case._kernels)
    with pytest.raises(JournalError, match="does not fit"):
        other.replay(None, [*case.take_records(), record])


def test_an_undecided_or_join_is_a_problem_and_waits() -> None:
    """An OR-join that cannot be decided within its budget keeps the case running and is reported."""
    net = build("hard")
    split = net.task("split", split="and")
    join = net.task("join", join="or", manual=True)
    net.sequence(net.start, split)
    for name in "ab":
        net.sequence(split, net.task(name, manual=True), net.task(f"{name}2", cancels=["join"], manual=True), join)
    net.sequence(join, net.end)
    program, _ = compiled(net.specification())
    case = Case(program, tuple(Net(each.tables, or_join_budget=0) for each in program.nets))
    case.create({})
    case.start(at=0)
    case.complete_task("a", at=1)
    case.complete_task("a2", at=1)
    assert case.state.phase is Phase.RUNNING
    assert all("join" in each for each in case.problems())
