"""The document format: what is read, what is refused and where, and what is written."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from knhk.errors import Problem, SpecificationError
from knhk.spec import (
    Condition,
    External,
    Flow,
    Join,
    Manual,
    Multiple,
    Net,
    PartialJoin,
    Retry,
    Specification,
    Task,
    Termination,
    Trigger,
    TriggerMode,
    from_document,
    to_document,
)
from knhk.spec.document import read_document
from knhk.spec.places import MAX_PROBLEMS

DESIGN: dict[str, Any] = {
    "id": "order",
    "name": "Order to cash",
    "version": "1",
    "tasks": [
        {
            "id": "check",
            "handler": "check_credit",
            "split": "xor",
            "retry": {"max_attempts": 5, "initial": "100ms", "coefficient": 2, "max": "30s"},
        },
        {"id": "approve", "manual": {"roles": ["approver"]}},
        {"id": "expire", "timer": "3d"},
        {"id": "pack", "join": "xor", "split": "and"},
        {"id": "label", "external": {"topic": "labels", "timeout": "10m"}},
        {"id": "ship", "subnet": "shipping"},
        {"id": "close", "join": "and"},
        {
            "id": "notify",
            "handler": "notify",
            "multiple": {
                "for_each": "data.recipients",
                "minimum": 1,
                "maximum": 50,
                "threshold": 2,
                "creation": "static",
            },
        },
    ],
    "conditions": [{"id": "waiting"}],
    "flows": [
        {"from": "start", "to": "check"},
        {"from": "check", "to": "waiting", "when": "data.amount > 1000"},
        {"from": "check", "to": "pack", "default": True},
        {"from": "waiting", "to": "approve"},
        {"from": "waiting", "to": "expire"},
        {"from": "approve", "to": "pack"},
        {"from": "expire", "to": "end"},
        {"from": "pack", "to": "label"},
        {"from": "pack", "to": "ship"},
        {"from": "label", "to": "close"},
        {"from": "ship", "to": "close"},
        {"from": "close", "to": "notify"},
        {"from": "notify", "to": "end"},
    ],
    "subnets": {
        "shipping": {
            "tasks": [{"id": "pick", "manual": {}}],
            "flows": [{"from": "start", "to": "pick"}, {"from": "pick", "to": "end"}],
        }
    },
    "data": {"type": "object", "required": ["amount"]},
}
"""The example of the format's description."""


def net(**task: Any) -> dict[str, Any]:
    """A document with one task `a` of these attributes."""
    return {
        "id": "s",
        "tasks": [{"id": "a", **task}],
        "flows": [{"from": "start", "to": "a"}, {"from": "a", "to": "end"}],
    }


def found(document: object) -> list[tuple[str, str]]:
    """Places and messages of what reading a document finds."""
    with pytest.raises(SpecificationError) as caught:
        from_document(document)
    return [(each.place, each.message) for each in caught.value.problems]


def test_the_example_of_the_description_is_well_formed() -> None:
    """The format's own example loads, and its canonical form leaves out what is default."""
    specification = Specification.from_dict(DESIGN)

    assert specification.root.tasks[0].retry == Retry(max_attempts=5)
    assert specification.root.tasks[2].timer == 259_200_000
    assert specification.root.tasks[4].external == External(topic="labels", timeout=600_000)
    assert specification.subnets["shipping"].tasks == (Task(id="pick", manual=Manual()),)
    assert to_document(specification)["tasks"][0]["retry"] == {"max_attempts": 5}
    assert to_document(specification)["tasks"][1:7] == DESIGN["tasks"][1:7]


def test_only_the_id_is_needed() -> None:
    """A document with an id alone is the empty net, and so is the guide's example."""
    expected = Specification(id="workflow-123", name="Example Workflow")
    document = {"id": "workflow-123", "name": "Example Workflow", "tasks": [], "conditions": []}

    assert Specification.from_dict({"id": "x"}) == Specification(id="x")
    assert Specification.from_dict(document) == expected
    assert expected.to_dict() == {"id": "workflow-123", "name": "Example Workflow"}


SPELLINGS: list[tuple[dict[str, Any], Task]] = [
    ({"join": "or"}, Task(id="a", join=Join.OR)),
    ({"join": {"partial": 1}}, Task(id="a", join=PartialJoin(required=1))),
    ({"join": {"partial": 1, "cancels": []}}, Task(id="a", join=PartialJoin(required=1, cancels=()))),
    ({"manual": True}, Task(id="a", manual=Manual())),
    ({"manual": {}}, Task(id="a", manual=Manual())),
    ({"manual": {"roles": ["x", "y"]}}, Task(id="a", manual=Manual(roles=("x", "y")))),
    ({"external": "labels"}, Task(id="a", external=External(topic="labels"))),
    ({"trigger": "paid"}, Task(id="a", trigger=Trigger(event="paid"))),
    (
        {"trigger": {"event": "paid", "mode": "transient"}},
        Task(id="a", trigger=Trigger(event="paid", mode=TriggerMode.TRANSIENT)),
    ),
    ({"timer": "1.5h"}, Task(id="a", timer=5_400_000)),
    ({"timer": "0s"}, Task(id="a", timer=0)),
    ({"retry": {}, "handler": "h"}, Task(id="a", handler="h", retry=Retry())),
    ({"multiple": {"count": 0}}, Task(id="a", multiple=Multiple(count=0))),
    ({"multiple": {"count": "data.n"}}, Task(id="a", multiple=Multiple(count="data.n"))),
]


@pytest.mark.parametrize(("attributes", "expected"), SPELLINGS)
def test_spellings_of_attributes(attributes: dict[str, Any], expected: Task) -> None:
    """Each spelling of an attribute means the task it should, and the canonical spelling the same again."""
    specification = Specification.from_dict(net(**attributes))

    assert specification.root.tasks == (expected,)
    assert from_document(specification.to_dict()) == specification


def test_maps_and_bare_ids_stand_for_lists() -> None:
    """Tasks and conditions may be maps by id, conditions bare ids; the canonical form has lists."""
    flows = [
        {"from": "start", "to": "a"},
        {"from": "a", "to": "c"},
        {"from": "c", "to": "b"},
        {"from": "b", "to": "end"},
    ]
    by_map = {"id": "s", "tasks": {"a": {"name": "A"}, "b": None}, "conditions": {"c": None}, "flows": flows}
    by_list = {
        "id": "s",
        "tasks": [{"id": "a", "name": "A"}, {"id": "b", "name": ""}],
        "conditions": ["c"],
        "flows": flows,
    }

    specification = from_document(by_map)

    assert specification == from_document(by_list)
    assert specification.root.conditions == (Condition(id="c"),)
    assert specification.to_dict() == {
        **by_list,
        "tasks": [{"id": "a", "name": "A"}, {"id": "b"}],
        "conditions": [{"id": "c"}],
    }
    assert specification.content_hash == from_document(by_list).content_hash


@pytest.mark.parametrize(("written", "version"), [(1, "1"), (1.5, "1.5"), (2.0, "2.0"), ("2026-01-01", "2026-01-01")])
def test_a_version_may_be_a_number(written: object, version: str) -> None:
    """A version written as a number becomes text."""
    assert from_document({"id": "s", "version": written}).version == version


def test_nothing_of_the_tree_is_kept() -> None:
    """Changing the tree afterwards does not change the specification, nor changing what it writes."""
    tree: dict[str, Any] = {"id": "s", "data": {"required": ["a"]}}
    specification = from_document(tree)
    tree["data"]["required"].append("b")
    specification.to_dict()["data"]["required"].append("c")

    assert specification.data == {"required": ["a"]}


DUPLICATE_MAP = {"id": "s", "tasks": {"a": {"id": "b"}}}
DEEP: Any = {}
for _ in range(70):
    DEEP = {"x": DEEP}

BAD: list[tuple[object, str, str]] = [
    ([], "", "must be a map of members, not a list"),
    (None, "", "must be a map of members, not null"),
    ({}, "", 'the member "id" is missing'),
    ({"id": 7}, "id", "must be text, not the number 7; put it in quotes"),
    ({"id": True}, "id", "must be text, not true; put it in quotes"),
    ({"id": ""}, "id", "must not be empty"),
    ({"id": "a b"}, "id", '"a b" does not match [A-Za-z0-9][A-Za-z0-9._-]{0,127}'),
    ({"id": "a" * 129}, "id", "longer than 128 characters"),
    ({"id": "s", "version": True}, "version", "must be text, not true; put it in quotes"),
    ({"id": "s", "version": -1}, "version", '"-1" does not match [A-Za-z0-9][A-Za-z0-9._+-]{0,63}'),
    ({"id": "s", "version": 10**400}, "version", "must be text, not the number with too many digits; put it in quotes"),
    ({"id": "s", "name": None}, "name", "must be text, not null"),
    ({"id": "s", "name": "x\ud800"}, "name", "holds half of a surrogate pair"),
    ({"id": "s", "name": "x" * 10_001}, "name", "longer than 10000 characters"),
    ({"id": "s", "task": []}, "task", 'unknown member; did you mean "tasks"?'),
    ({"id": "s", "a b": []}, '["a b"]', "unknown member; there may be"),
    ({"id": "s", 7: []}, "", "the name of a member must be text, not the number 7; put it in quotes"),
    ({"id": "s", "termination": "implict"}, "termination", 'must be "explicit" or "implicit", not the text "implict"'),
    ({"id": "s", "tasks": "a"}, "tasks", 'must be a list, or a map by id, not the text "a"'),
    ({"id": "s", "tasks": ["a"]}, "tasks[0]", 'must be a map of members, not the text "a"'),
    ({"id": "s", "tasks": [{"name": "a"}]}, "tasks[0]", 'the member "id" is missing'),
    ({"id": "s", "tasks": [{"id": True}]}, "tasks[0].id", "must be text, not true; put it in quotes"),
    ({"id": "s", "tasks": {7: {}}}, "tasks[0].id", "must be text, not the number 7; put it in quotes"),
    (DUPLICATE_MAP, "tasks.a.id", 'is the text "b", but the map says the text "a"'),
    ({"id": "s", "tasks": [{"id": "a b"}]}, 'tasks["a b"].id', 'must not contain " "'),
    ({"id": "s", "tasks": [{"id": "a/b"}]}, 'tasks["a/b"].id', 'must not contain "/"'),
    ({"id": "s", "tasks": [{"id": "a#b"}]}, 'tasks["a#b"].id', 'must not contain "#"'),
    ({"id": "s", "tasks": [{"id": "a>b"}]}, 'tasks["a>b"].id', 'must not contain ">"'),
    ({"id": "s", "tasks": [{"id": "a\n"}]}, 'tasks["a\\n"].id', 'must not contain "\\n"'),
    ({"id": "s", "tasks": [{"id": ""}]}, 'tasks[""].id', "must not be empty"),
    ({"id": "s", "tasks": [{"id": "start"}]}, "tasks.start.id", '"start" is reserved'),
    ({"id": "s", "conditions": ["end"]}, "conditions.end.id", '"end" is reserved'),
    ({"id": "s", "conditions": [None]}, "conditions[0]", "must be a map of members or only an id, not null"),
    ({"id": "s", "conditions": [{"id": "c", "nam": ""}]}, "conditions.c.nam", 'unknown member; did you mean "name"?'),
    (net(hander="h"), "tasks.a.hander", 'unknown member; did you mean "handler"?'),
    (net(handler=""), "tasks.a.handler", "must not be empty"),
    (net(join="xro"), "tasks.a.join", 'must be "and", "xor" or "or", or a map with "partial", not the text "xro"'),
    (net(join={}), "tasks.a.join", 'the member "partial" is missing'),
    (net(join={"partial": 0}), "tasks.a.join.partial", "must be 1 to 2147483647, not the number 0"),
    (net(join={"partial": True}), "tasks.a.join.partial", "must be a whole number, not true"),
    (net(join={"partial": 1, "cancels": "x"}), "tasks.a.join.cancels", 'must be a list, not the text "x"'),
    (net(split="AND"), "tasks.a.split", 'must be "and", "xor" or "or", not the text "AND"'),
    (net(cancels=["b", 1]), "tasks.a.cancels[1]", "must be text, not the number 1; put it in quotes"),
    (net(reads=["c", "c"]), "tasks.a.reads[1]", '"c" is in the list twice'),
    (net(subnet=[]), "tasks.a.subnet", "must be text, not a list"),
    (net(timer=30), "tasks.a.timer", 'must be a duration such as "250ms", "30s" or "3d", not the number 30'),
    (net(timer="30"), "tasks.a.timer", '"30" is not a duration: a duration is a number and a unit'),
    (net(timer="-3s"), "tasks.a.timer", '"-3s" is not a duration: a duration is a number and a unit'),
    (net(timer="0.5ms"), "tasks.a.timer", '"0.5ms" is not a duration: a duration is a whole number of milliseconds'),
    (net(timer="36501d"), "tasks.a.timer", '"36501d" is not a duration: a duration is at most 36500d'),
    (net(trigger={"mode": "transient"}), "tasks.a.trigger", 'the member "event" is missing'),
    (net(trigger={"event": "e", "mode": "x"}), "tasks.a.trigger.mode", 'must be "persistent" or "transient"'),
    (net(manual=False), "tasks.a.manual", "must be a map of members, not false"),
    (net(manual={"roles": "clerk"}), "tasks.a.manual.roles", 'must be a list, not the text "clerk"'),
    (net(external={}), "tasks.a.external", 'the member "topic" is missing'),
    (net(external={"topic": "t", "timeout": 5}), "tasks.a.external.timeout", "must be a duration such as"),
    (net(retry={"max": "x"}), "tasks.a.retry.max", '"x" is not a duration'),
    (net(retry={"max_attempts": 0}), "tasks.a.retry.max_attempts", "must be 1 to 2147483647, not the number 0"),
    (net(retry={"coefficient": 0.5}), "tasks.a.retry.coefficient", "must be 1 to 1000, not the number 0.5"),
    (net(retry={"coefficient": float("nan")}), "tasks.a.retry.coefficient", "must be 1 to 1000, not the number nan"),
    (net(retry={"coefficient": "2"}), "tasks.a.retry.coefficient", 'must be a number, not the text "2"'),
    (net(replayable="yes"), "tasks.a.replayable", 'must be true or false, not the text "yes"'),
    (net(multiple={"count": 1.0}), "tasks.a.multiple.count", "must be a whole number, not the number 1.0"),
    (net(multiple={"count": -1}), "tasks.a.multiple.count", "must be 0 to 2147483647, not the number -1"),
    (net(multiple={"threshold": 0}), "tasks.a.multiple.threshold", "must be 1 to 2147483647, not the number 0"),
    (net(multiple={"creation": "x"}), "tasks.a.multiple.creation", 'must be "static" or "dynamic", not the text "x"'),
    ({"id": "s", "flows": {}}, "flows", "must be a list, not a map"),
    ({"id": "s", "flows": ["a"]}, "flows[0]", 'must be a map of members, not the text "a"'),
    ({"id": "s", "flows": [{"from": "a"}]}, "flows[0]", 'the member "to" is missing'),
    ({"id": "s", "flows": [{"from": "a", "to": 1}]}, "flows[0].to", "must be text, not the number 1; put it in quotes"),
    ({"id": "s", "flows": [{"from": "a", "to": "b", "when": True}]}, "flows[0].when", "must be text, not true"),
    ({"id": "s", "flows": [{"from": "a", "to": "b", "default": 1}]}, "flows[0].default", "must be true or false, not"),
    ({"id": "s", "flows": [{"from": "a", "to": "b", "weight": 0}]}, "flows[0].weight", "must be 1 to 2147483647"),
    ({"id": "s", "flows": [{"from": "a", "to": "b", "weight": 2**31}]}, "flows[0].weight", "must be 1 to 2147483647"),
    ({"id": "s", "flows": [{"from": "a", "to": "b", "weight": True}]}, "flows[0].weight", "must be a whole number"),
    ({"id": "s", "subnets": []}, "subnets", "must be a map of nets by name, not a list"),
    ({"id": "s", "subnets": {"n": 1}}, "subnets.n", "must be a map of members, not the number 1"),
    ({"id": "s", "subnets": {"a/b": {}}}, 'subnets["a/b"]', 'must not contain "/"'),
    ({"id": "s", "subnets": {7: {}}}, "subnets", "the name of a subnet must be text, not the number 7"),
    ({"id": "s", "subnets": {"n": {"subnets": {}}}}, "subnets.n.subnets", "unknown member"),
    ({"id": "s", "subnets": {"n": {"flows": [{"form": "a"}]}}}, "subnets.n.flows[0].form", 'did you mean "from"?'),
    ({"id": "s", "data": []}, "data", "must be a JSON Schema, which is a map, not a list"),
    ({"id": "s", "data": {"a": [float("inf")]}}, "data.a[0]", "must be a finite number"),
    ({"id": "s", "data": {"a": 2**64}}, "data.a", "the number does not fit into 64 bits"),
    ({"id": "s", "data": {"a": "\udfff"}}, "data.a", "holds half of a surrogate pair"),
    ({"id": "s", "data": {"\udfff": 1}}, "data", "the name of a member holds half of a surrogate pair"),
    ({"id": "s", "data": {"a": {1: 1}}}, "data.a", "the name of a member must be text, not the number 1"),
    ({"id": "s", "data": {"a": object()}}, "data.a", "must be a JSON value, not a Python object"),
    ({"id": "s", "data": DEEP}, "data" + ".x" * 64, "nested deeper than 64"),
    ({"id": "s", "tasks": [{"id": "a"}] * 100_001}, "tasks", "100,001 entries; at most 100,000 are allowed"),
    ({"id": "s", "subnets": dict.fromkeys(map(str, range(100_001)))}, "subnets", "100,001 entries; at most 100,000"),
    ({"id": "s", "flows": [{}] * 1_000_001}, "flows", "1,000,001 flows; at most 1,000,000 are allowed"),
]


@pytest.mark.parametrize(
    ("document", "place", "message"), BAD, ids=[f"{place}-{message}"[:50] for _, place, message in BAD]
)
def test_bad_documents_name_the_place(document: object, place: str, message: str) -> None:
    """Each mistake of form is found once, at its place, in words."""
    first, *others = found(document)

    assert first[0] == place
    assert message in first[1]
    assert all(each[1].startswith("the member") for each in others)


def test_all_problems_of_form_are_found_at_once() -> None:
    """A document with many mistakes is answered with all of them, in the order of the text."""
    document = {
        "id": "a b",
        "version": [],
        "tsks": [],
        "tasks": [
            {"id": "a", "splt": "xor", "timer": 3},
            {"name": "nameless"},
            {"id": "b", "retry": {"max": "1y", "x": 1}},
        ],
        "flows": [{"from": "start", "to": "a", "wen": ""}, {"to": "a"}],
        "subnets": {"n": {"tasks": [{"id": 3}]}},
    }

    places = [place for place, _ in found(document)]

    assert places == [
        "id",
        "version",
        "tsks",
        "tasks.a.splt",
        "tasks.a.timer",
        "tasks[1]",
        "tasks.b.retry.max",
        "tasks.b.retry.x",
        "flows[0].wen",
        "flows[1]",
        "subnets.n.tasks[0].id",
    ]


def test_a_report_lists_a_thousand_problems_and_counts_the_rest() -> None:
    """A hostile document gets a bounded answer that says what is left out."""
    document = {"id": "s", "flows": [{"x": 1}] * 2_000}

    problems = found(document)

    assert len(problems) == MAX_PROBLEMS + 1
    assert problems[-1] == ("", "and 5000 more")


def test_a_document_that_contains_itself_is_refused() -> None:
    """Cyclic and exploding data end with a problem, not with the memory."""
    cycle: dict[str, Any] = {}
    cycle["x"] = cycle
    bomb: list[Any] = []
    for _ in range(40):
        bomb = [bomb, bomb, bomb]

    assert found({"id": "s", "data": cycle}) == [("data" + ".x" * 64, "nested deeper than 64")]
    assert found({"id": "s", "data": {"b": bomb}})[0][1] == "more than 100,000 values"


def test_form_and_meaning_are_reported_together() -> None:
    """What the nets say wrong is listed after what is wrong in form, without what only follows from the latter."""
    document = {
        "id": "s",
        "tasks": [{"id": "a", "splt": "xor"}, {"id": "b", "join": "xor"}, {"id": "c", "retry": {}}, {"id": "d"}],
        "flows": [
            {"from": "start", "to": "a"},
            {"from": "a", "to": "b", "when": "data.x"},
            {"from": "a", "to": "c"},
            {"from": "b", "to": "d", "wieght": 2},
            {"from": "c", "to": "end"},
            {"from": "d", "to": "nowhere"},
            {"from": "c", "to": "nowhere", "when": "data."},
        ],
        "subnets": {"broken": {"tasks": [{}], "flows": [{"from": "x", "to": "y"}]}, "n": {"conditions": ["unused"]}},
    }

    with pytest.raises(SpecificationError) as caught:
        Specification.from_dict(document)

    assert [str(each).split(";")[0][:60] for each in caught.value.problems] == [
        "tasks.a.splt: unknown member",
        "flows[3].wieght: unknown member",
        'subnets.broken.tasks[0]: the member "id" is missing',
        'tasks.c.split: is needed for 2 outputs: "and", "xor" or "or"',
        "tasks.c.retry: only a task with a handler, a request or exte",
        'flows[5].to: there is no element "nowhere" in this net',
        'flows[6].to: there is no element "nowhere" in this net',
        "flows[6].when: column 6: the expression ends here",
        "subnets.n.conditions.unused: it is not used: no flow leads i",
    ]


def test_problems_of_what_was_made_in_python_include_its_form() -> None:
    """A specification constructed directly is looked at as if it had been read."""
    made = Specification(id="a b", root=Net(tasks=(Task(id="x", timer=-1),), flows=(Flow(source="start", target="x"),)))

    assert made.problems() == (
        Problem("id", '"a b" does not match [A-Za-z0-9][A-Za-z0-9._-]{0,127}'),
        Problem(
            "tasks.x.timer",
            '"-1ms" is not a duration: a duration is a number and a unit (ms, s, m, h or d), '
            'such as "250ms", "30s" or "3d"',
        ),
        Problem(
            "end",
            "no path of flows leads to end from start, so the net can never end: "
            'lead a flow into it, or say "termination": "implicit"',
        ),
    )


def test_termination_is_read() -> None:
    """An implicit net is one that says so."""
    assert from_document({"id": "s", "termination": "implicit"}).root.termination is Termination.IMPLICIT


def test_the_root_net_comes_first_without_a_name() -> None:
    """All nets of a specification are at hand by name, the root net first."""
    specification = from_document({"id": "s", "conditions": ["c"], "subnets": {"b": {}, "a": {}}})

    assert list(specification.nets().items()) == [("", specification.root), ("b", Net()), ("a", Net())]


def test_a_cancellation_set_has_short_forms() -> None:
    """`A>*` and `*>B` are read as all implicit conditions behind A and in front of B, each once; explicit ones are not meant."""
    tree: dict[str, Any] = {
        "id": "short",
        "tasks": [
            {"id": "a", "split": "and"},
            {"id": "b", "split": "and"},
            {"id": "c"},
            {"id": "stop", "join": {"partial": 1, "cancels": ["b>stop", "a>*", "c", "*>stop"]}, "cancels": ["b>*"]},
        ],
        "conditions": ["p"],
        "flows": [
            {"from": "start", "to": "a"},
            *({"from": "a", "to": each} for each in ("b", "c", "p")),
            *({"from": "b", "to": each} for each in ("stop", "p")),
            {"from": "c", "to": "stop"},
            {"from": "stop", "to": "end"},
        ],
    }
    whole = copy.deepcopy(tree)
    whole["tasks"][3]["join"]["cancels"] = ["b>stop", "a>b", "a>c", "c", "c>stop"]
    whole["tasks"][3]["cancels"] = ["b>stop"]

    assert read_document(whole) == read_document(tree)
    assert read_document({"id": "s", "subnets": {"n": whole}}) == read_document({"id": "s", "subnets": {"n": tree}})


@pytest.mark.parametrize("reference", ["z>*", "*>a", "*>*", "*", "stop>*"])
def test_a_short_form_that_stands_for_nothing_is_no_name(reference: str) -> None:
    """It is told like any other name that is not there."""
    tasks = [{"id": "a"}, {"id": "stop", "cancels": [reference]}]
    flows = [{"from": "start", "to": "a"}, {"from": "a", "to": "stop"}, {"from": "stop", "to": "end"}]

    with pytest.raises(SpecificationError, match=re.escape(f'"{reference}"')):
        Specification.from_dict({"id": "short", "tasks": tasks, "flows": flows})
