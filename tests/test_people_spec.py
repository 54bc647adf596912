"""What a specification says of people, and what is wrong with it."""

from __future__ import annotations

from typing import Any

import pytest

import knhk
from knhk.spec import Manual
from tests.people import work_of


def found(manual: Any, other: Any = True) -> list[str]:
    """The problems of a task `b` with this manual work, behind a task `a`."""
    try:
        return list(map(str, work_of({"a": other, "b": manual}).problems()))
    except knhk.SpecificationError as error:
        return list(map(str, error.problems))


@pytest.mark.parametrize(
    ("manual", "problem"),
    [
        ({"separate_from": ["x"]}, 'separate_from: there is no task "x" in this specification'),
        ({"familiar_to": "x"}, 'familiar_to: there is no task "x" in this specification'),
        (
            {"separate_from": ["a"], "familiar_to": "a"},
            'familiar_to: whoever did "a" is kept from this task by separate_from',
        ),
        (
            {"offer": "participant", "allocate": "random"},
            "allocate: the engine cannot choose among those whom a person has yet to name: offer is participant",
        ),
        (
            {"allocate": {"policy": "round_robin", "seed": 4}},
            'allocate.seed: is for the random policy, not for "round_robin"',
        ),
        (
            {"allocate": "system"},
            'allocate.policy: must be "round_robin", "shortest_queue" or "random", not the text "system"',
        ),
        ({"allocate": {"seed": 1}}, 'allocate: the member "policy" is missing'),
        ({"allocate": 3}, "allocate: must be a map of members, not the number 3"),
        ({"offer": "nobody"}, 'offer: must be "system" or "participant", not the text "nobody"'),
        ({"privileges": ["skip", "skip"]}, "privileges: has a privilege twice"),
        ({"privileges": ["fly"]}, 'privileges[0]: must be "suspend"'),
        ({"privileges": ["skip"] * 8}, "privileges: 8 entries; at most 7 are allowed"),
        ({"privileges": "skip"}, 'privileges: must be a list, not the text "skip"'),
        ({"participants_from": "data."}, "participants_from: "),
        ({"escalate": [{"priority": 1}]}, 'escalate[0]: the member "after" is missing'),
        ({"escalate": [{"after": "1h"}]}, "escalate[0]: does nothing: give it to, priority or notify"),
        ({"escalate": [{"after": "1h", "to": {}}]}, "escalate[0].to: names nobody: give it roles or participants"),
        (
            {"escalate": [{"after": "2h", "priority": 1}, {"after": "2h", "priority": 2}]},
            "escalate[1].after: must be longer than nothing, and later than the step before",
        ),
        (
            {"escalate": [{"after": "0s", "priority": 1}]},
            "escalate[0].after: must be longer than nothing, and later than the step before",
        ),
        ({"role": ["x"]}, 'role: unknown member; did you mean "roles"?'),
    ],
)
def test_problems_have_their_place(manual: dict[str, Any], problem: str) -> None:
    """What is wrong with work of people is found, once, with its place."""
    (told,) = found(manual)

    assert told.startswith(f"tasks.b.manual.{problem}")


def test_only_people_can_be_kept_apart() -> None:
    """A task that no person does cannot be what another is separate from, or familiar to."""
    tree = work_of({"b": {"separate_from": ["b"]}}).to_dict()
    tree["tasks"].append({"id": "c", "handler": "c"})
    tree["tasks"][0]["manual"] = {"separate_from": ["c"]}
    tree["flows"] = [{"from": s, "to": t} for s, t in (("start", "b"), ("b", "c"), ("c", "end"))]

    with pytest.raises(knhk.SpecificationError, match='"c" is no manual task, so nobody is known to have done it'):
        knhk.Specification.from_dict(tree)


def test_a_damaged_task_is_not_blamed_for_more() -> None:
    """Where a task could not be read, nothing is said of what it would have meant, nor of references to it."""
    tree = {
        "id": "work",
        "tasks": {
            "a": {"manual": {"separate_from": ["b"], "offer": 3}},
            "b": {"manual": {"separate_from": ["a"]}},
        },
        "flows": [{"from": s, "to": t} for s, t in (("start", "a"), ("a", "b"), ("b", "end"))],
    }

    with pytest.raises(knhk.SpecificationError) as caught:
        knhk.Specification.from_dict(tree)

    assert [each.place for each in caught.value.problems] == ["tasks.a.manual.offer"]


def test_spellings_mean_the_same() -> None:
    """A policy by its name is a map with it; what is the default need not be written; both have the same content."""
    short = work_of({"a": {"roles": ["r"], "allocate": "random"}, "b": {"allocate": "participant"}})
    whole = work_of(
        {
            "a": {"roles": ["r"], "allocate": {"policy": "random", "seed": 0}, "offer": "system"},
            "b": {"start": "participant", "chained": False, "escalate": []},
        }
    )

    assert short == whole
    assert short.content_hash == whole.content_hash
    assert short.root.tasks[1].manual == Manual()
    assert [task.manual is not None and task.manual.is_plain for task in short.root.tasks] == [False, True]


def test_a_builder_takes_the_document() -> None:
    """The builder's `manual` is a role, several, all there is to say of it, or an object of the model."""
    late = [{"after": "1h", "notify": "late"}]
    net = knhk.build("work")
    a = net.task("a", manual={"roles": ["clerk"], "escalate": late})  # type: ignore[typeddict-item]
    b = net.task("b", manual=Manual(roles=("clerk",), separate_from=("a",)))
    net.sequence(net.start, a, b, net.end)

    made = net.specification()

    assert made == work_of(
        {"a": {"roles": ["clerk"], "escalate": late}, "b": {"roles": ["clerk"], "separate_from": ["a"]}}
    )
