"""Well-formedness: each rule with the net that breaks it, and the place at which it is told."""

from __future__ import annotations

import time
from typing import Any

import pytest

from knhk.errors import SpecificationError
from knhk.spec import Flow, Net, Specification, Task, from_document, problems

Flows = list[tuple[Any, ...]]


def document(
    tasks: dict[str, Any], flows: Flows, *, conditions: tuple[str, ...] = (), **members: Any
) -> dict[str, Any]:
    """A document from tasks by id, and flows as tuples of source, target and, where there are any, other members."""
    written = [{"from": each[0], "to": each[1], **(each[2] if len(each) > 2 else {})} for each in flows]
    return {"id": "s", "tasks": tasks, "conditions": list(conditions), "flows": written, **members}


def found(tree: dict[str, Any]) -> list[tuple[str, str]]:
    """Places and messages of what is wrong with a document whose form is right."""
    return [(each.place, each.message) for each in problems(from_document(tree))]


LINE: Flows = [("start", "a"), ("a", "b"), ("b", "end")]
"""a and then b."""


def one(**attributes: Any) -> dict[str, Any]:
    """A net of one task `a` with these attributes."""
    return document({"a": attributes}, [("start", "a"), ("a", "end")])


def line(a: dict[str, Any], flow: dict[str, Any] | None = None) -> dict[str, Any]:
    """A net of a with these attributes, and then b, with these members of the flow between them."""
    return document({"a": a, "b": {}}, [("start", "a"), ("a", "b", flow or {}), ("b", "end")])


def fork(a: dict[str, Any], to_b: dict[str, Any], to_end: dict[str, Any]) -> dict[str, Any]:
    """A net in which a leads to b and to end."""
    return document({"a": a, "b": {}}, [("start", "a"), ("a", "b", to_b), ("a", "end", to_end), ("b", "end")])


def merge(a: dict[str, Any], **attributes: Any) -> dict[str, Any]:
    """A net in which two branches of `s` meet in `a`."""
    flows: Flows = [("start", "s"), ("s", "x"), ("s", "y"), ("x", "a"), ("y", "a"), ("a", "end")]
    return document({"s": {"split": "and"}, "x": {}, "y": {}, "a": a}, flows, **attributes)


WHERE = "when and default belong to the several outputs of an XOR- or OR-split"
CHOICE = {"when": "data.x"}
DEFAULT = {"default": True}
ISLAND = document({"a": {}, "b": {"join": "xor"}, "c": {}}, [("start", "a"), ("a", "end"), ("b", "c"), ("c", "b")])
LOOP = document({"a": {"join": "xor"}, "b": {}}, [("start", "a"), ("a", "b"), ("b", "a")])
NO_INPUT = document({"a": {}, "b": {"join": "and"}}, [("start", "b"), ("a", "b"), ("b", "end")])
SOURCE = document({"a": {"join": "and"}}, [("start", "a"), ("c", "a"), ("a", "end")], conditions=("c",))
TWICE = document({"a": {}}, [("start", "a"), ("a", "end")])
TWICE["tasks"] = [{"id": "a"}, {"id": "a"}]
SHARED = document({"a": {}, "c": {}}, [("start", "a"), ("a", "c"), ("c", "end")], conditions=("c",))
COLLISION = document({"a": {"split": "and"}, "b": {}}, [*LINE, ("a", "a>b")], conditions=("a>b",))
LISTENERS = document({"a": {"trigger": "e"}, "b": {"trigger": "e"}}, LINE)

RULES: list[tuple[dict[str, Any], str, str]] = [
    # elements
    (TWICE, "tasks.a", 'the id "a" is used twice (before: in tasks)'),
    (SHARED, "conditions.c", 'the id "c" is used twice (before: in tasks)'),
    (COLLISION, 'conditions["a>b"]', 'the id "a>b" is the name of the implicit condition of the flow a -> b'),
    (document({}, [], conditions=("c",)), "conditions.c", "it is not used: no flow leads into it or out of it"),
    (SOURCE, "conditions.c", "no flow leads into it, so it can never hold a token"),
    (NO_INPUT, "tasks.a", "no flow leads into it, so it can never start"),
    (ISLAND, "tasks.b", "no path of flows leads to it from start"),
    (ISLAND, "tasks.c", "no path of flows leads to it from start"),
    (LOOP, "end", "no path of flows leads to end from start, so the net can never end"),
    (document({"a": {}}, [("start", "a")]), "tasks.a", "no flow leads out of it"),
    # flows
    (
        document({"a": {}}, [("start", "a"), ("a", "edn")]),
        "flows[1].to",
        'no element "edn" in this net; did you mean "end"?',
    ),
    (
        document({"a": {}}, [("strat", "a"), ("a", "end")]),
        "flows[0].from",
        'no element "strat" in this net; did you mean',
    ),
    (
        document({}, [("start", "end")]),
        "flows[0]",
        "start -> end joins two conditions: there must be a task between them",
    ),
    (
        document({"a": {"split": "and"}}, [*LINE[:1], ("a", "end"), ("a", "start")]),
        "flows[2].to",
        "no flow leads into start",
    ),
    (
        document({"a": {"join": "xor"}}, [*LINE[:1], ("a", "end"), ("end", "a")]),
        "flows[2].from",
        "no flow leads out of end",
    ),
    (
        document({"a": {}, "b": {"split": "and"}}, [*LINE, ("b", "a>b")]),
        "flows[3].to",
        '"a>b" is an implicit condition: write it as a',
    ),
    (
        document({"a": {"split": "and"}, "b": {}}, [*LINE, ("a", "b")]),
        "flows[3]",
        "a -> b is there already, as flows[1]",
    ),
    (
        document({"a": {}}, [("start", "a", CHOICE), ("a", "end")]),
        "flows[0].when",
        f'"start" is a condition, which does not choose: {WHERE}',
    ),
    (document({"a": {}}, [("start", "a", DEFAULT), ("a", "end")]), "flows[0].default", '"start" is a condition, which'),
    (line({"split": "xor"}, CHOICE), "flows[1].when", f'the only output of "a" is always taken: {WHERE}'),
    (line({}, DEFAULT), "flows[1].default", f'the only output of "a" is always taken: {WHERE}'),
    (fork({"split": "and"}, CHOICE, {}), "flows[1].when", f'the AND-split of "a" takes all outputs: {WHERE}'),
    (fork({"split": "and"}, {}, DEFAULT), "flows[2].default", f'the AND-split of "a" takes all outputs: {WHERE}'),
    (fork({"split": "xor"}, CHOICE, {}), "flows[2]", 'needs when or default, as an output of the XOR-split of "a"'),
    (fork({"split": "or"}, {}, DEFAULT), "flows[1]", 'needs when or default, as an output of the OR-split of "a"'),
    (fork({"split": "or"}, DEFAULT, DEFAULT), "flows[2].default", '"a" has a default already, flows[1]'),
    (
        fork({"split": "xor"}, {**CHOICE, **DEFAULT}, CHOICE),
        "flows[1].default",
        "a flow has either a predicate or is the",
    ),
    (fork({"split": "xor"}, {"when": "data.x >"}, DEFAULT), "flows[1].when", "column 9: the expression ends here"),
    (fork({"split": "xor"}, {"when": "completed > 1"}, DEFAULT), "flows[1].when", "unknown variable `completed`"),
    # tasks
    (fork({}, {}, {}), "tasks.a.split", 'is needed for 2 outputs: "and", "xor" or "or"'),
    (merge({}), "tasks.a.join", 'is needed for 2 inputs: "and", "xor" or "or", or a partial join'),
    (merge({"join": {"partial": 3}}), "tasks.a.join.partial", "must be 1 to 2, the number of inputs, not 3"),
    (merge({"join": {"partial": 1, "cancels": ["z"]}}), "tasks.a.join.cancels", 'there is no element "z" in this net'),
    (one(cancels=["aa"]), "tasks.a.cancels", 'there is no element "aa" in this net; did you mean "a"?'),
    (one(reads=["a"]), "tasks.a.reads", '"a" is a task: only conditions can be read'),
    (one(reads=["b"]), "tasks.a.reads", 'there is no element "b" in this net'),
    (one(subnet="shipping"), "tasks.a.subnet", 'there is no subnet "shipping"'),
    (
        one(handler="h", manual={}, external="t"),
        "tasks.a",
        "has 3 kinds of work (handler, manual, external), and may have",
    ),
    (one(handler="h", subnet="n") | {"subnets": {"n": {}}}, "tasks.a", "has 2 kinds of work (handler, subnet)"),
    (one(retry={}), "tasks.a.retry", "only a task with a handler, a request or external work can be tried again"),
    (
        one(handler="h", retry={"initial": "1m"}),
        "tasks.a.retry.max",
        "the longest wait, 30s, is shorter than the initial one, 1m",
    ),
    (one(manual={}, replayable=True), "tasks.a.replayable", "is a promise about a handler, and there is none"),
    (one(external={"topic": "t", "timeout": "0s"}), "tasks.a.external.timeout", "must be longer than nothing"),
    (one(timer="1s", trigger="e"), "tasks.a.timer", "cannot stand together with a trigger"),
    (LISTENERS, "tasks.b.trigger.event", '"a" listens for "e" already; one task of a net may'),
    (one(multiple={}), "tasks.a.multiple", "needs count or for_each"),
    (one(multiple={"detached": True}), "tasks.a.multiple", "needs count or for_each"),
    (one(multiple={"count": 1, "for_each": "data.x"}), "tasks.a.multiple", "has count and for_each, and may have one"),
    (
        one(multiple={"count": "data.n", "minimum": 3, "maximum": 2}),
        "tasks.a.multiple.minimum",
        "3 is more than the maximum, 2",
    ),
    (one(multiple={"count": 1, "minimum": 2}), "tasks.a.multiple.count", "1 is less than the minimum, 2"),
    (one(multiple={"count": 3, "maximum": 2}), "tasks.a.multiple.count", "3 is more than the maximum, 2"),
    (
        one(multiple={"count": 3, "threshold": 2, "until": "true"}),
        "tasks.a.multiple.until",
        "cannot stand together with threshold",
    ),
    (
        one(multiple={"count": 3, "detached": True, "creation": "dynamic"}),
        "tasks.a.multiple.creation",
        "detached instances are",
    ),
    (one(multiple={"count": "n"}), "tasks.a.multiple.count", "unknown variable `n`"),
    (one(multiple={"count": "completed"}), "tasks.a.multiple.count", "unknown variable `completed`"),
    (one(multiple={"for_each": "data."}), "tasks.a.multiple.for_each", "the expression ends here"),
    (one(multiple={"count": 3, "until": "done > 1"}), "tasks.a.multiple.until", "unknown variable `done`"),
]


@pytest.mark.parametrize(
    ("tree", "place", "message"), RULES, ids=[f"{place}-{message}"[:60] for _, place, message in RULES]
)
def test_each_rule_names_the_place(tree: dict[str, Any], place: str, message: str) -> None:
    """Each broken rule is told once, at its place, in words; also inside a subnet, and nothing is told beside it."""
    findings = found(tree)
    allowed = {"tasks.b", "tasks.c", "tasks.a", "end", "conditions.c"} if place != "tasks.a.join.partial" else set()
    subnet = {name: each for name, each in tree.items() if name not in ("id", "subnets")}
    nested = found({"id": "s", "subnets": {**tree.get("subnets", {}), "net.1": subnet}})

    assert [each[1] for each in findings if each[0] == place and message in each[1]] != []
    assert {each[0] for each in findings} - {place} <= allowed
    assert [(f'subnets["net.1"].{each}', text) for each, text in findings] == nested


WELL_FORMED: list[dict[str, Any]] = [
    document({}, []),
    one(split="xor", join="and"),
    one(cancels=["a", "start", "end"], reads=["start"]),
    one(join={"partial": 1}),
    document({"a": {}, "b": {"cancels": ["a>b"], "reads": ["a>b"]}}, LINE),
    document({"a": {}}, [("start", "a")], termination="implicit"),
    document(
        {"a": {"join": "xor"}, "b": {}}, LOOP_FLOWS := [("start", "a"), ("a", "b"), ("b", "a")], termination="implicit"
    ),
    document({"a": {"join": "xor", "split": "and"}}, [("start", "a"), ("a", "a"), ("a", "end")]),
    document({"a": {}}, [("start", "a"), ("a", "c")], conditions=("c",), termination="implicit"),
    fork({"split": "xor"}, CHOICE, CHOICE),
    fork({"split": "or"}, {"when": "has(data.x) && data.x > 1"}, DEFAULT),
    merge({"join": {"partial": 2, "cancels": ["x", "s>x"]}}),
    line({}, {"weight": 3}),
    one(subnet="n") | {"subnets": {"n": {}, "unused": {}}},
    one(external="t", retry={}),
    one(timer="1h", handler="h", replayable=True, retry={"initial": "1m", "max": "1m"}),
    one(multiple={"for_each": "data.x", "until": "completed >= created / 2 || data.done", "minimum": 0}),
    one(multiple={"count": 2, "minimum": 2, "maximum": 2, "threshold": 5}),
    one(multiple={"count": "data.n", "detached": True}),
    document({"a": {"trigger": "e"}, "b": {"trigger": "f"}}, LINE),
]


@pytest.mark.parametrize("tree", WELL_FORMED, ids=range(len(WELL_FORMED)))
def test_nets_that_are_well_formed(tree: dict[str, Any]) -> None:
    """What is unusual and has a meaning is not refused."""
    assert found(tree) == []
    assert Specification.from_dict(tree) == from_document(tree)


def test_every_problem_is_listed_at_once() -> None:
    """A net with many mistakes is answered with all of them, and loading raises them together."""
    tree = document(
        {"a": {"split": "xor", "handler": "h", "manual": {}}, "b": {}, "c": {"retry": {}, "subnet": "x"}},
        [
            ("start", "a"),
            ("a", "b", CHOICE),
            ("a", "p"),
            ("b", "q"),
            ("c", "end"),
            ("start", "end"),
            ("b", "c", DEFAULT),
        ],
        conditions=("p", "idle"),
        subnets={"n": {"tasks": [{"id": "lost"}]}},
    )
    expected = [
        "tasks.a",
        "tasks.b.split",
        "tasks.c.subnet",
        "tasks.c.retry",
        "conditions.idle",
        "flows[2]",
        "flows[3].to",
        "flows[5]",
        "subnets.n.tasks.lost",
        "subnets.n.tasks.lost",
        "subnets.n.end",
    ]

    with pytest.raises(SpecificationError) as caught:
        Specification.from_dict(tree)

    assert [place for place, _ in found(tree)] == expected
    assert [each.place for each in caught.value.problems] == expected
    assert str(caught.value).startswith("the specification has 11 problems:\n  - tasks.a: has 2 kinds of work")


def test_expressions_are_checked_in_the_dialect_asked_for() -> None:
    """What only the whole language has is refused by the subset with a hint."""
    tree = fork({"split": "xor"}, {"when": "data.items.exists(x, x > 1)"}, DEFAULT)

    assert any("dialect" in message for _, message in found(tree))


def test_a_subnet_without_a_name_does_not_hide_the_root() -> None:
    """A subnet called "" is refused, and the root net is looked at all the same."""
    root = Net(tasks=(Task(id="a"),), flows=(Flow(source="start", target="a"), Flow(source="a", target="end")))
    made = Specification(id="s", root=root, subnets={"": Net(tasks=(Task(id="lost"),))})

    assert [each.place for each in made.problems()] == [
        'subnets[""]',
        *['subnets[""].tasks.lost'] * 2,
        'subnets[""].end',
    ]


def test_a_large_net_is_checked_in_linear_time() -> None:
    """Ten thousand tasks in a row, and as many wrong references, take seconds at the most."""
    names = ["start", *(f"t{number}" for number in range(10_000)), "end"]
    flows: Flows = list(zip(names, names[1:], strict=False))
    tasks = {each: {"cancels": ["nobody"]} for each in names[1:-1]}

    began = time.process_time()
    findings = found(document(tasks, flows))

    assert len(findings) == 1_001
    assert time.process_time() - began < 10
