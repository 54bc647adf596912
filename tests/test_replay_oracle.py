"""Replay against definitions that know nothing of it: process trees and their languages, and the balance of tokens."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import event, given, reject, settings
from hypothesis import strategies as st

from knhk.analysis import DeviationKind, replay
from knhk.errors import DataError
from knhk.formats import LoggedEvent, Trace
from knhk.spec import Specification
from tests.nets import specifications

Tree = tuple[Any, ...]
DONE: Tree = ("done",)


def may_end(tree: Tree) -> bool:
    """Whether a tree has run its course without an event."""
    kind, *parts = tree
    if kind in ("done", "seq", "and"):
        return all(map(may_end, parts))
    return kind != "task" and any(map(may_end, parts))


def after(tree: Tree, name: str) -> set[Tree]:
    """What may be left of a tree when an event has happened (derivatives, as of regular expressions with shuffle)."""
    kind, *parts = tree
    if kind == "task":
        return {DONE} if parts[0] == name else set()
    if kind == "xor":
        return set().union(*(after(each, name) for each in parts))
    if kind == "and":
        return {
            ("and", *parts[:at], left, *parts[at + 1 :]) for at, each in enumerate(parts) for left in after(each, name)
        }
    if kind == "seq":
        found: set[Tree] = set()
        for at, each in enumerate(parts):
            found |= {("seq", left, *parts[at + 1 :]) for left in after(each, name)}
            if not may_end(each):
                break
        return found
    if kind == "loop":
        return {("xor", left, ("seq", left, tree)) for left in after(parts[0], name)}
    return set()


def speaks(tree: Tree, names: list[str]) -> bool:
    """Whether a sequence of events is a complete run of a tree."""
    left = {tree}
    for name in names:
        left = set().union(*(after(each, name) for each in left))
    return any(map(may_end, left))


def net(tree: Tree) -> Specification:
    """The tree as a net: leaves are manual tasks, everything else is routing."""
    numbers = itertools.count()
    tasks: list[dict[str, Any]] = []
    flows: list[dict[str, Any]] = []
    conditions: list[str] = []

    def condition() -> str:
        conditions.append(f"c{next(numbers)}")
        return conditions[-1]

    def task(sources: list[str], targets: list[str], **work: Any) -> None:
        name = work.pop("id", f"r{next(numbers)}")
        joins = {"join": "and"} if len(sources) > 1 else {}
        splits = {"split": "and"} if len(targets) > 1 else {}
        tasks.append({"id": name, **joins, **splits, **work})
        flows.extend({"from": each, "to": name} for each in sources)
        flows.extend({"from": name, "to": each} for each in targets)

    def lay(part: Tree, source: str, target: str) -> None:
        kind, *parts = part
        if kind == "task":
            task([source], [target], id=parts[0], manual={})
        elif kind == "xor":
            for each in parts:
                lay(each, source, target)
        elif kind == "seq":
            between = [source, *(condition() for _ in parts[1:]), target]
            for each, (a, b) in zip(parts, itertools.pairwise(between), strict=True):
                lay(each, a, b)
        elif kind == "and":
            ends = [(condition(), condition()) for _ in parts]
            task([source], [a for a, _ in ends])
            for each, (a, b) in zip(parts, ends, strict=True):
                lay(each, a, b)
            task([b for _, b in ends], [target])
        else:
            a, b = condition(), condition()
            task([source], [a])
            lay(parts[0], a, b)
            task([b], [a])
            task([b], [target])

    lay(tree, "start", "end")
    return Specification.from_dict({"id": "tree", "tasks": tasks, "conditions": conditions, "flows": flows})


NAMES = "ABCDEF"


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """A process tree over some of six tasks, each of which occurs once."""
    parts: list[Tree] = [("task", name) for name in NAMES[: draw(st.integers(1, 6))]]
    while len(parts) > 1:
        count = draw(st.integers(2, min(3, len(parts))))
        made: Tree = (draw(st.sampled_from(["seq", "xor", "and"])), *parts[:count])
        parts = [*parts[count:], ("loop", made) if draw(st.integers(0, 3)) == 0 else made]
    return parts[0]


@st.composite
def walks(draw: st.DrawFn, tree: Tree) -> list[str]:
    """A complete run of a tree, or nearly one."""
    names: list[str] = []
    left = tree
    for _ in range(12):
        ways = [(name, each) for name in NAMES for each in sorted(after(left, name), key=repr)]
        if not ways or (may_end(left) and draw(st.booleans())):
            break
        name, left = draw(st.sampled_from(ways))
        names.append(name)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(names)))
        change = draw(st.sampled_from(["remove", "swap", "insert", "append"]))
        if change == "remove":
            del names[at : at + 1]
        elif change == "swap":
            names[at : at + 2] = names[at : at + 2][::-1]
        else:
            names.insert(at if change == "insert" else len(names), draw(st.sampled_from(NAMES)))
    return names


def trace(names: list[str]) -> Trace:
    """A trace of completions."""
    return Trace("case", tuple(map(LoggedEvent, names)))


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_fitness_is_one_exactly_in_the_language(data: st.DataObject) -> None:
    """A trace fits if, and only if, it is a complete run of the process tree that the net was made from."""
    tree = data.draw(trees())
    names = data.draw(walks(tree))
    member = speaks(tree, names)
    event(f"in the language: {member}")

    report = replay(net(tree), [trace(names)], strict=True)

    assert (member, member, 0) == (report.fitness == 1, report.deviations == (), report.undecided)


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_what_does_not_fit_is_named(data: st.DataObject) -> None:
    """The first event that no run of the tree allows is the first deviation, by its position and its task."""
    tree = data.draw(trees())
    names = data.draw(walks(tree))
    left, wrong = {tree}, 0
    for position, name in enumerate(names, 1):
        left = set().union(*(after(each, name) for each in left))
        if not left:
            wrong = position
            break

    report = replay(net(tree), [trace(names)], strict=True)

    positions = [each.position for each in report.worst[0].deviations] if report.worst else []
    assert wrong == min((each for each in positions if each), default=0)
    if wrong:
        first = next(each for each in report.worst[0].deviations if each.position == wrong)
        known = any(names[wrong - 1] == each["id"] for each in net(tree).to_dict()["tasks"])
        assert (DeviationKind.NOT_ENABLED if known else DeviationKind.UNKNOWN_TASK, names[wrong - 1]) == (
            first.kind,
            first.task,
        )


EVENTS = st.builds(
    LoggedEvent,
    st.sampled_from(["T0", "T1", "T2", "T3", "T0/T0", "T1/T1", "T2/T0", "T1#1", "T1#2", "T0/T1#1", "X"]),
    st.sampled_from(["complete", "complete", "start", "schedule"]),
)


@settings(deadline=None, max_examples=100)
@given(specification=specifications(), events=st.lists(EVENTS, max_size=8), strict=st.booleans())
def test_tokens_are_in_balance(specification: Specification, events: list[LoggedEvent], strict: bool) -> None:
    """Whatever the log says, what was produced and missing is what was consumed and remains, and fitness lies in 0 to 1."""
    try:
        report = replay(specification, [Trace("case", tuple(events))], strict=strict, budget=200)
    except DataError:
        reject()

    assert report.produced + report.missing == report.consumed + report.remaining
    assert 0 <= report.fitness <= 1
    assert (report.fitness == 1) == (not report.missing and not report.remaining)
    assert (report.fitness == 1) == (report.deviations == ())
