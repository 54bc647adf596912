"""Four-eyes in every interleaving, and the life of items under any sequence of commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import knhk
from knhk.errors import CommandError
from knhk.testing.clock import ManualClock
from tests.people import EVERY_PRIVILEGE, HOUR, OFFICE, office, work_of

# --- an exhaustive search -------------------------------------------------------------------------------------------------

PEOPLE = ("ann", "ben")
Command = tuple[str, ...]
DIRECTORIES: dict[str, Callable[[], knhk.Organisation | None]] = {
    "without a directory": lambda: None,
    "two clerks": lambda: knhk.Organisation.from_dict(
        {"roles": ["clerk"], "participants": {each: {"roles": ["clerk"]} for each in PEOPLE}}
    ),
    "two administrators": lambda: knhk.Organisation.from_dict(
        {"roles": ["clerk"], "participants": {each: {"roles": ["clerk"], "administrator": True} for each in PEOPLE}}
    ),
}


Hands = frozenset[tuple[str, str]]
"""Who ever had which task in his hands: (task, participant)."""


def commands(case: knhk.RunningCase) -> Iterator[Command]:
    """Every command that either of two participants could give on any open item, and the clock's."""
    for item in case.work_items():
        number = str(item.number)
        for by in PEOPLE:
            for command in ("start", "complete", "suspend", "resume", "offer", "skip", "fail", "retry"):
                yield command, number, by
            for to in PEOPLE:
                yield "allocate", number, by, to
                yield "delegate", number, by, to
                yield "reallocate", number, by, to
    yield ("tick",)


class Board:
    """A case of an engine that can be put back to where it was."""

    def __init__(self, specification: knhk.Specification, directory: knhk.Organisation | None) -> None:
        self.engine = knhk.Engine(directory=directory, clock=ManualClock(0))
        self.engine.register(specification)
        self.case = self.engine.create_case("work").run()

    def read(self) -> str:
        """Return everything that matters to what can follow."""
        with self.engine._cache.hold(self.case.id) as resident:
            return json.dumps(resident.case.state.dump())

    def put(self, state: str) -> None:
        """Go back to a state."""
        with self.engine._cache.hold(self.case.id) as resident:
            resident.case.replay(json.loads(state), ())
            resident.shared = resident.case.state.next_item - 1

    def give(self, command: Command) -> Hands | None:
        """Give a command; returns who has had his hands on what with it, or None where it was refused."""
        name, *rest = command
        before = {str(item.number): (item.path, item.by) for item in self.case.work_items()}
        found: set[tuple[str, str]] = set()
        try:
            if name == "tick":
                if not self.case.tick(100 * HOUR):
                    return None
            else:
                number, by, *to = rest
                item = self.case.work_item(int(number))
                getattr(item, name)(*to, by=by)
                if name in ("complete", "skip"):
                    found.add((before[number][0], by))
        except CommandError:
            return None
        found |= {(each.path, each.by) for each in self.case.work_items() if each.state in ("started", "suspended")}
        return frozenset(found)


def search(specification: knhk.Specification, directory: knhk.Organisation | None) -> tuple[int, set[Hands]]:
    """Play every interleaving; returns how many states there were, and who had done what at the ends."""
    board = Board(specification, directory)
    first = (board.read(), Hands())
    seen = {first}
    ends: set[Hands] = set()
    waiting = [first]
    while waiting:
        state, hands = waiting.pop()
        board.put(state)
        if board.case.state == "completed":
            ends.add(hands)
            continue
        for command in list(commands(board.case)):
            fresh = board.give(command)
            if fresh is None:
                continue
            reached = (board.read(), hands | fresh)
            for person in PEOPLE:
                assert not {("check", person), ("approve", person)} <= reached[1], (command, state)
            if reached not in seen:
                seen.add(reached)
                waiting.append(reached)
            board.put(state)
    return len(seen), ends


def hands_of(case: knhk.RunningCase) -> dict[str, set[str]]:
    """By task, who ever had it started, completed or skipped it, as the history tells: not as the case remembers."""
    found: dict[str, set[str]] = {}
    for event in case.history():
        by = event.details.get("by")
        started = event.kind is knhk.EventKind.ITEM_CHANGED and event.details["state"] in ("started", "suspended")
        if by and (started or event.kind in (knhk.EventKind.TASK_STARTED, knhk.EventKind.ITEM_SKIPPED)):
            found.setdefault(event.path, set()).add(str(by))
    return found


BOTH_WAYS = {frozenset({("check", one), ("approve", other)}) for one, other in (("ann", "ben"), ("ben", "ann"))}


@pytest.mark.parametrize("who", DIRECTORIES)
@pytest.mark.parametrize("parallel", [False, True], ids=["in sequence", "in parallel"])
def test_four_eyes_holds_in_every_interleaving(who: str, parallel: bool) -> None:  # noqa: FBT001 - a parameter
    """However two participants interleave all commands they have, nobody ever has his hands on both separate tasks."""
    manual: dict[str, Any] = {"roles": ["clerk"], "privileges": EVERY_PRIVILEGE}
    late = [{"after": "1h", "to": {"roles": ["clerk"]}}]
    tasks = {"check": manual, "approve": {**manual, "separate_from": ["check"], "escalate": late}}

    states, ends = search(work_of(tasks, parallel=parallel), DIRECTORIES[who]())

    # The search has seen something: both ways to share the two tasks out, and no third.
    assert states > 40
    assert ends == BOTH_WAYS


@pytest.mark.parametrize("policy", ["round_robin", "shortest_queue", "random"])
def test_four_eyes_holds_when_the_engine_allocates(policy: str) -> None:
    """However two participants interleave their commands, the engine gives nobody both of two separate tasks."""
    manual: dict[str, Any] = {"roles": ["clerk"], "allocate": policy, "start": "system", "privileges": EVERY_PRIVILEGE}
    tasks = {"check": manual, "approve": {**manual, "separate_from": ["check"]}}

    _, ends = search(work_of(tasks), DIRECTORIES["two clerks"]())

    assert ends
    assert ends <= BOTH_WAYS


# --- any sequence of commands ---------------------------------------------------------------------------------------------

MANUALS: dict[str, Any] = {
    "a": {
        "roles": ["clerk"],
        "privileges": EVERY_PRIVILEGE,
        "escalate": [{"after": "1h", "to": {"roles": ["auditor"]}}],
    },
    "b": {"roles": ["clerk"], "privileges": EVERY_PRIVILEGE, "separate_from": ["a"], "allocate": "shortest_queue"},
    "c": {"roles": ["auditor"], "offer": "participant", "start": "system"},
    "d": True,
}
NAMES = [*OFFICE["participants"], "zed", ""]


class Lives(RuleBasedStateMachine):
    """
    Two cases of four tasks each, and everybody's commands on them.

    The model knows of each item who has it, by what was not refused; the engine is asked through its lists.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(0)
        self.engine = knhk.Engine(directory=office(), clock=self.clock)
        self.engine.register(work_of(MANUALS, parallel=True))
        self.cases = [self.engine.create_case("work").run() for _ in range(2)]
        self.done = [0, 0]

    @rule(
        which=st.integers(0, 1),
        number=st.integers(1, 5),
        command=st.sampled_from(["start", "complete", "suspend", "resume", "offer", "skip", "fail", "retry"]),
        by=st.sampled_from(NAMES),
    )
    def command(self, which: int, number: int, command: str, by: str) -> None:
        """Somebody gives a command that names nobody else."""
        before = self.items(which)
        try:
            item = self.cases[which].work_item(number)
            getattr(item, command)(by=by)
        except CommandError:
            assert self.items(which) == before
            return
        assert command not in ("start", "resume") or self.items(which)[number][1] == by or by == "root"
        self.done[which] += command in ("complete", "skip")

    @rule(
        which=st.integers(0, 1),
        number=st.integers(1, 5),
        command=st.sampled_from(["allocate", "delegate", "reallocate"]),
        by=st.sampled_from(NAMES),
        to=st.sampled_from(NAMES),
    )
    def hand_on(self, which: int, number: int, command: str, by: str, to: str) -> None:
        """Somebody hands an item to somebody."""
        before = self.items(which)
        try:
            getattr(self.cases[which].work_item(number), command)(to, by=by)
        except CommandError:
            assert self.items(which) == before
            return
        assert self.items(which)[number][1] == to

    @rule(hours=st.integers(0, 3))
    def wait(self, hours: int) -> None:
        """Time passes, and what is due is done."""
        self.clock.advance(hours * HOUR)
        self.engine.tick()

    @rule()
    def forget(self) -> None:
        """The cases leave the memory."""
        self.engine.evict()

    def items(self, which: int) -> dict[int, tuple[str, str]]:
        """By number: state and owner, as the case says."""
        return {item.number: (item.state, item.by) for item in self.cases[which].work_items()}

    @invariant()
    def no_item_is_lost(self) -> None:
        """Of each case's items as many are open as were not completed."""
        for which, case in enumerate(self.cases):
            open_items = self.items(which)
            assert len(open_items) == len(MANUALS) - self.done[which]
            assert (case.state == "completed") is (not open_items)

    @invariant()
    def owners_are_single(self) -> None:
        """An item that somebody has is in his list and in no other; one that nobody has is in nobody's."""
        held: dict[tuple[str, int], list[str]] = {}
        for name in OFFICE["participants"]:
            if name != "gone":
                worklist = self.engine.worklist(name)
                for row in (*worklist.allocated(), *worklist.started(), *worklist.suspended()):
                    held.setdefault((row.case_id, row.number), []).append(name)
        for which, case in enumerate(self.cases):
            for number, (state, by) in self.items(which).items():
                owned = state in ("allocated", "started", "suspended")
                assert held.pop((case.id, number), []) == ([by] if owned else [])
                assert bool(by) is owned or state == "failed"
        assert held == {}

    @invariant()
    def four_eyes_hold(self) -> None:
        """Nobody ever had his hands on both separate tasks of a case."""
        for case in self.cases:
            touched = hands_of(case)
            assert not touched.get("a", set()) & touched.get("b", set())


TestLives = Lives.TestCase
TestLives.settings = hypothesis.settings(max_examples=60, stateful_step_count=30, deadline=None)
