"""What really ran fits: histories of cases on random specifications, told as traces, replay with fitness 1."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import assume, event, given, note, settings
from hypothesis import strategies as st

from knhk._codes import Phase
from knhk._lower import Kind, Program
from knhk.analysis import replay
from knhk.case import Case
from knhk.errors import CommandError, DataError
from knhk.events import Event, EventKind
from knhk.formats import LoggedEvent, Trace
from knhk.history import narrate
from knhk.journal import encode_batch
from knhk.spec import Specification
from tests.nets import SMALL, compiled, fresh, specifications


@st.composite
def runs(draw: st.DrawFn) -> tuple[Specification, Program, list[Event], Phase]:
    """A specification, and the history of one case of it that was started and steered by commands of its language."""
    specification = draw(specifications())
    program, nets = compiled(specification)
    case = fresh(program, nets)
    batches: list[bytes] = []

    def keep() -> None:
        records = case.take_records()
        if records:
            batches.append(encode_batch(0, records))

    case.create({"list": draw(st.lists(SMALL, max_size=3)), **draw(st.fixed_dictionaries({}, optional={"x": SMALL}))})
    keep()
    at = 0
    try:
        case.start(at=at)
    except (CommandError, DataError):
        assume(False)
    keep()
    # The commands come from a seed, since Hypothesis prefers runs that stop early.
    dice = random.Random(draw(st.integers(0, 2**32)))
    for _ in range(dice.choice([0, 3, 12, 25])):
        if case.state.phase not in (Phase.RUNNING, Phase.DEADLOCKED):
            break
        at += 1000
        try:
            _command(dice, case, at)
        except (CommandError, DataError):
            pass
        keep()
    return specification, program, narrate(program, nets, batches), case.state.phase


def _command(dice: random.Random, case: Case, at: int) -> None:
    if case.state.phase is Phase.RUNNING and dice.random() < 0.1:
        case.advance(at=at)
        return
    offered, running = case.enabled(), case.running()
    options = [("start", each) for each in offered] + [("complete", each) for each in (*offered, *running)]
    options += [("add", each.rpartition("#")[0]) for each in running if "#" in each.rpartition("/")[2]]
    if not options or dice.random() < 0.1:
        options = [("event", "e"), ("event", "f")]
    what, path = dice.choice(options)
    if what == "start":
        case.start_task(path, at=at)
    elif what == "complete":
        case.complete_task(path, dice.choice([None, {"x": 0}, {"x": 1}, {"x": 2}]), at=at)
    elif what == "add":
        case.add_instance(path, 1, at=at)
    else:
        case.send_event(path, at=at)


def told(program: Program, history: Sequence[Event], *, starts: bool, everything: bool, instances: bool) -> Trace:
    """The history as a log would have it."""
    events: list[LoggedEvent] = []
    for each in history:
        kind = _kind(program, each.path) if each.path else None
        completes = each.kind in (EventKind.TASK_COMPLETED, EventKind.INSTANCE_COMPLETED)
        fires = each.kind is EventKind.TASK_FIRED and kind is Kind.ROUTING
        path = each.path if instances else "/".join(part.partition("#")[0] for part in each.path.split("/"))
        if (completes and (everything or kind is not Kind.SUBNET)) or (fires and everything):
            events.append(LoggedEvent(path))
        elif starts and each.kind is EventKind.TASK_STARTED and (everything or kind is not Kind.SUBNET):
            events.append(LoggedEvent(path, "start"))
    return Trace("case", tuple(events))


def _kind(program: Program, path: str) -> Kind:
    net = program.nets[0]
    *above, last = [part.partition("#")[0] for part in path.split("/")]
    for each in above:
        net = program.nets[net.plans[net.index[each]].subnet]
    return net.plans[net.index[last]].kind


@settings(deadline=None, max_examples=150)
@given(run=runs(), starts=st.booleans(), everything=st.booleans(), instances=st.booleans(), strict=st.booleans())
def test_a_real_run_fits(run, starts: bool, everything: bool, instances: bool, strict: bool) -> None:
    """The history of a case that ran, ended or not, has fitness 1 and no deviation, whatever the log tells of it."""
    specification, program, history, phase = run
    trace = told(program, history, starts=starts, everything=everything, instances=instances)
    event(f"{phase.value}, {min(len(trace.events), 4)} events or more")
    note(str([(e.kind.value, e.path, e.details) for e in history]))
    note(str(trace))

    report = replay(specification, [trace], unfinished_cases=phase is not Phase.COMPLETED, strict=strict)

    if report.undecided:
        event("undecided")
        return
    assert (1.0, (), 1) == (report.fitness, report.deviations, report.fitting)
