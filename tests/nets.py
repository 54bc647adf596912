"""Random nets and runs for property tests: every net is drawn as a specification and is well-formed by construction."""

from __future__ import annotations

from typing import Any

from hypothesis import event, reject
from hypothesis import strategies as st

from knhk._kernel import Net
from knhk._lower import Program, lower
from knhk.case import Case
from knhk.limits import Limits
from knhk.errors import SpecificationError
from knhk.spec import Specification

LIMITS = Limits(steps=300, instances=20, depth=6)
"""Small, so that nets that go on by themselves are refused quickly."""

SMALL = st.integers(0, 2)


def predicates() -> st.SearchStrategy[str]:
    """Predicates over the one variable that commands set; an unset variable is false."""
    return st.builds(
        lambda operator, constant: f"has(data.x) && data.x {operator} {constant}",
        st.sampled_from(["==", "!=", "<", ">="]),
        SMALL,
    )


@st.composite
def _multiple(draw: st.DrawFn) -> dict[str, Any]:
    tree: dict[str, Any] = {"count": draw(st.integers(0, 3))}
    form = draw(st.sampled_from(["plain", "threshold", "until", "detached", "list"]))
    if form == "detached":
        return {**tree, "detached": True}
    if form == "list":
        tree = {"for_each": "data.list"}
    elif form == "threshold":
        tree["count"] = 3
        tree["threshold"] = draw(st.integers(1, 3))
    elif form == "until":
        tree["until"] = draw(st.sampled_from(["completed >= 2", "created > 2 && completed > 0", "has(data.x)"]))
    if form in ("threshold", "until"):
        tree["remaining"] = draw(st.sampled_from(["cancel", "continue"]))
    if draw(st.booleans()):
        tree["creation"] = "dynamic"
        tree["maximum"] = 5
    return tree


@st.composite
def _net(draw: st.DrawFn, subnets: tuple[str, ...]) -> dict[str, Any]:
    """A net: conditions in rows, tasks that take from some and put to some; the first task takes the first token."""
    names = ["start", *(f"p{n}" for n in range(draw(st.integers(1, 4))))]
    count = draw(st.integers(1, 5))
    tasks: list[dict[str, Any]] = []
    flows: list[dict[str, Any]] = []
    listened: set[str] = set()
    ids = [f"T{n}" for n in range(count)]
    for number, name in enumerate(ids):
        task: dict[str, Any] = {"id": name}
        sources = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
        if number == 0 and "start" not in sources:
            sources[0] = "start"
        targets = draw(st.lists(st.sampled_from([*names[1:], "end"]), min_size=1, max_size=3, unique=True))
        _joins(draw, task, sources, [*names[1:], *ids])
        _splits(draw, task, targets, flows)
        weigh = len(sources) == 1
        flows.extend(
            {"from": each, "to": name, **({"weight": 2} if weigh and draw(st.integers(0, 7)) == 0 else {})}
            for each in sources
        )
        if draw(st.integers(0, 3)) == 0:
            task["cancels"] = draw(st.lists(st.sampled_from([*names[1:], *ids]), min_size=1, max_size=3, unique=True))
        if draw(st.integers(0, 6)) == 0:
            task["reads"] = [draw(st.sampled_from(names))]
        _work(draw, task, subnets, listened)
        _failing(draw, task, [each for each in (*names[1:], "end") if each not in targets], flows)
        tasks.append(task)
    return {
        "tasks": tasks,
        "conditions": names[1:],
        "flows": flows,
        "termination": draw(st.sampled_from(["explicit", "explicit", "implicit"])),
    }


def _joins(draw: st.DrawFn, task: dict[str, Any], sources: list[str], region: list[str]) -> None:
    if len(sources) == 1:
        return
    join: Any = draw(st.sampled_from(["and", "xor", "or", "partial", "cancelling"]))
    if join in ("partial", "cancelling"):
        tree: dict[str, Any] = {"partial": draw(st.integers(1, len(sources) - 1))}
        if join == "cancelling":
            tree["cancels"] = draw(st.lists(st.sampled_from(region), max_size=2, unique=True))
        join = tree
    task["join"] = join


def _splits(draw: st.DrawFn, task: dict[str, Any], targets: list[str], flows: list[dict[str, Any]]) -> None:
    split = draw(st.sampled_from(["and", "xor", "or"])) if len(targets) > 1 else None
    if split is not None:
        task["split"] = split
    for position, target in enumerate(targets):
        flow: dict[str, Any] = {"from": task["id"], "to": target}
        if split in ("xor", "or"):
            if position == len(targets) - 1 and draw(st.booleans()):
                flow["default"] = True
            else:
                flow["when"] = draw(predicates())
        flows.append(flow)


def _work(draw: st.DrawFn, task: dict[str, Any], subnets: tuple[str, ...], listened: set[str]) -> None:
    others = ["routing", "handler", "external", "timer", "multiple", "trigger", "subnet"]
    kind = draw(st.sampled_from(["manual"] * 4 + others))
    if kind == "subnet" and subnets:
        task["subnet"] = draw(st.sampled_from(subnets))
        if draw(st.integers(0, 2)) == 0:
            task["multiple"] = {"count": draw(st.integers(0, 3))}
    elif kind == "timer":
        task["timer"] = f"{draw(st.integers(1, 3))}s"
    elif kind == "handler":
        task["handler"] = "work"
        _attempts(draw, task)
    elif kind == "external":
        task["external"] = {"topic": "t", "timeout": f"{draw(st.integers(1, 3))}s"}
        _attempts(draw, task)
        if draw(st.booleans()):
            task["multiple"] = draw(_multiple())
    elif kind != "routing":
        task["manual"] = {}
        if kind == "multiple":
            task["multiple"] = draw(_multiple())
        event = draw(st.sampled_from(["e", "f"]))
        if kind == "trigger" and event not in listened:
            listened.add(event)
            task["trigger"] = {"event": event, "mode": draw(st.sampled_from(["transient", "persistent"]))}


def _failing(draw: st.DrawFn, task: dict[str, Any], targets: list[str], flows: list[dict[str, Any]]) -> None:
    """What follows when the work of a task fails."""
    works = any(each in task for each in ("handler", "manual", "external", "subnet"))
    detached = "detached" in task.get("multiple", {})
    if works and not detached and draw(st.integers(0, 3)) == 0:
        since = draw(st.sampled_from(["enablement", "start"]))
        task["deadline"] = {"after": f"{draw(st.integers(1, 4))}s", "from": since}
    if works and draw(st.integers(0, 2)) == 0:
        task["compensate"] = draw(st.sampled_from(["undo", {"handler": "undo", "retry": {"max_attempts": 2}}]))
    for member in ("requires", "ensures"):
        if draw(st.integers(0, 7)) == 0:
            task[member] = "!has(data.x) || data.x != 1"
    if works and not detached and targets and task.get("split", "xor") == "xor" and draw(st.booleans()):
        names = draw(
            st.lists(
                st.sampled_from(["A", "B", "*", "Deadline", "ConstraintViolation"]), min_size=1, max_size=2, unique=True
            )
        )
        flows.append({"from": task["id"], "to": draw(st.sampled_from(targets)), "on_error": names})


def _attempts(draw: st.DrawFn, task: dict[str, Any]) -> None:
    if draw(st.booleans()):
        task["retry"] = {"max_attempts": draw(st.integers(1, 3)), "initial": "1s", "max": "2s"}
        if draw(st.booleans()):
            task["retry"] |= {"deadline": "3s", "jitter": 0.5}


@st.composite
def specifications(draw: st.DrawFn) -> Specification:
    """A well-formed specification with up to two subnets, recursion included."""
    subnets = draw(st.sampled_from([(), ("S",), ("S", "R")]))
    tree: dict[str, Any] = {"id": "random", **draw(_net(subnets))}
    if subnets:
        tree["subnets"] = {name: draw(_net(subnets)) for name in subnets}
    try:
        return Specification.from_dict(tree)
    except SpecificationError as error:
        # What the parts cannot know: whether a path leads through the whole net.
        for each in (tree, *tree.get("subnets", {}).values()):
            each["termination"] = "implicit"
        try:
            return Specification.from_dict(tree)
        except SpecificationError:
            event(error.problems[0].message)
            reject()


@st.composite
def lanes(draw: st.DrawFn) -> Specification:
    """Two lanes of people's work side by side, whose tasks may read what the other lane has, empty it, or have a rival."""
    tasks: list[dict[str, Any]] = [{"id": "fork", "manual": {}, "split": "and"}, {"id": "join", "join": "and"}]
    flows = [("start", "fork"), ("fork", "a0"), ("fork", "b0"), ("a3", "join"), ("b3", "join"), ("join", "end")]
    for lane, other in ("ab", "ba"):
        for number in range(3):
            task: dict[str, Any] = {"id": f"{lane}{number}{number + 1}", "manual": {}}
            member = draw(st.sampled_from(["", "", "", "reads", "cancels"]))
            if member:
                task[member] = [f"{other}{draw(st.integers(0, 3))}"]
            rivals = [task, *([{**task, "id": f"{task['id']}x"}] if draw(st.integers(0, 3)) == 0 else [])]
            for each in rivals:
                flows += [(f"{lane}{number}", each["id"]), (each["id"], f"{lane}{number + 1}")]
            tasks += rivals
    return Specification.from_dict(
        {
            "id": "lanes",
            "tasks": tasks,
            "conditions": [f"{lane}{number}" for lane in "ab" for number in range(4)],
            "flows": [{"from": source, "to": target} for source, target in flows],
        }
    )


def compiled(specification: Specification) -> tuple[Program, tuple[Net, ...]]:
    """What a case needs, made as the engine makes it."""
    program = lower(specification)
    return program, tuple(Net(each.tables, or_join_budget=2_000) for each in program.nets)


def fresh(program: Program, nets: tuple[Net, ...]) -> Case:
    """A case that has no history yet."""
    return Case(program, nets, limits=LIMITS)
