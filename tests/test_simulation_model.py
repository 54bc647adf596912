"""Simulation models: read strictly, bound to their specification, and every problem named with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from knhk.analysis import SimulationModel, simulate
from knhk.analysis._simulation_model import Arrival, Arrivals, Distribution, Shape
from knhk.errors import ModelError, SpecificationError
from knhk.spec import Specification

SPECIFICATION = Specification.from_dict(
    {
        "id": "order",
        "tasks": [
            {"id": "check", "handler": "check", "split": "xor"},
            {"id": "approve", "manual": {"roles": ["approver"]}},
            {"id": "late", "timer": "3d"},
            {"id": "tell", "handler": "h", "multiple": {"for_each": "data.x", "minimum": 2, "maximum": 5}, "join": "xor", "split": "or"},
            {"id": "three", "handler": "h", "multiple": {"count": 3}},
            {"id": "ship", "subnet": "shipping", "join": "xor"},
        ],
        "conditions": ["waiting"],
        "flows": [
            {"from": "start", "to": "check"},
            {"from": "check", "to": "waiting", "when": "data.y"},
            {"from": "check", "to": "tell", "default": True},
            {"from": "waiting", "to": "approve"},
            {"from": "waiting", "to": "late"},
            {"from": "approve", "to": "tell"},
            {"from": "late", "to": "end"},
            {"from": "tell", "to": "three", "when": "data.z"},
            {"from": "tell", "to": "ship", "default": True},
            {"from": "three", "to": "ship"},
            {"from": "ship", "to": "end"},
        ],
        "subnets": {
            "shipping": {
                "tasks": [
                    {"id": "s", "split": "xor"},
                    {"id": "t", "split": "or"},
                    {"id": "u", "handler": "h", "join": "xor"},
                ],
                "flows": [
                    {"from": "start", "to": "s"},
                    {"from": "s", "to": "t", "when": "data.a"},
                    {"from": "s", "to": "u", "when": "data.b"},
                    {"from": "s", "to": "end", "when": "data.c"},
                    {"from": "t", "to": "u", "when": "data.a"},
                    {"from": "t", "to": "end", "when": "data.b"},
                    {"from": "u", "to": "end"},
                ],
            }
        },
    }
)  # fmt: skip


def problems(tree: object) -> dict[str, str]:
    """What is wrong with a document, by place."""
    with pytest.raises(ModelError) as caught:
        simulate(SPECIFICATION, SimulationModel.from_dict(tree), cases=1)
    return {each.place: each.message for each in caught.value.problems}


def distribution(tree: object) -> Distribution | None:
    return SimulationModel.from_dict({"tasks": {"a": {"duration": tree}}}).root.tasks["a"].duration


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ("30s", Distribution(Shape.CONSTANT, 30)),
        (1.5, Distribution(Shape.CONSTANT, 1.5)),
        ({"constant": "2h"}, Distribution(Shape.CONSTANT, 7200)),
        ({"exponential": "1m"}, Distribution(Shape.EXPONENTIAL, 60)),
        ({"uniform": {"min": 1, "max": "2s"}}, Distribution(Shape.UNIFORM, 1, 2)),
        ({"triangular": {"max": 3, "min": 1, "mode": 2}}, Distribution(Shape.TRIANGULAR, 1, 2, 3)),
        ({"normal": {"mean": 0, "deviation": 2}}, Distribution(Shape.NORMAL, 0, 2)),
        ({"lognormal": {"mean": 1, "deviation": 0}}, Distribution(Shape.LOGNORMAL, 0, 0)),
    ],
)
def test_a_duration_has_several_spellings(tree: object, expected: Distribution) -> None:
    """A duration is text with a unit, a number of seconds, or a named distribution with its parameters."""
    assert distribution(tree) == expected


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ("one by one", Arrival(Arrivals.ONE_BY_ONE)),
        ("at once", Arrival(Arrivals.AT_ONCE)),
        ({"every": "5m"}, Arrival(Arrivals.EVERY, 300)),
        ({"rate": 12, "per": "1h"}, Arrival(Arrivals.RATE, 300)),
        ({"rate": 4}, Arrival(Arrivals.RATE, 0.25)),
    ],
)
def test_arrivals_have_several_spellings(tree: object, expected: Arrival) -> None:
    """Cases come one by one, at once, at an interval, or at a rate."""
    assert SimulationModel.from_dict({"arrival": tree}).arrival == expected


def test_a_model_lists_every_problem_of_its_form() -> None:
    """Every member that cannot be read is named with its place, not the first alone."""
    found = problems(
        {
            "tasks": {
                "a": {"duration": "soon", "wait": -1, "resource": "", "instances": -1, "colour": 1},
                "b": {"duration": {"exponential": True}, "wait": {"uniform": {"min": 2, "max": 1}}},
                "c": {"duration": {"normal": {"mean": 1}}, "wait": {"cauchy": 1}},
                "d": {"duration": {"lognormal": {"mean": 0, "deviation": 1}}, "wait": 1e12},
                "e": {"instances": {"x": 1, "2": 2}},
                "f": {"instances": {"1": 0}},
                "g": {"instances": {"1": 0.5, "01": 0.5}},
                "h": [],
                7: {},
            },
            "flows": {"a -> b": 2},
            "subnets": {"s": {"task": {}}, "t": 1},
            "resources": {"r": 0},
            "arrival": "often",
            "max_time": 0,
            "max_steps": 0,
        }
    )

    assert found == {
        "tasks": "a name must be text, not the number 7; put it in quotes",
        "tasks.a.duration": '"soon" is not a duration: a duration is a number and a unit (ms, s, m, h or d), such as "250ms", "30s" or "3d"',
        "tasks.a.wait": "must be 0 to 3,153,600,000 seconds, not the number -1",
        "tasks.a.resource": "must not be empty",
        "tasks.a.instances": "must be 0 to 100000, not the number -1",
        "tasks.a.colour": found["tasks.a.colour"],
        "tasks.b.duration.exponential": 'must be a duration such as "30s" or a number of seconds, not true',
        "tasks.b.wait.uniform": "its parameters must ascend: min, max",
        "tasks.c.duration.normal": 'the member "deviation" is missing',
        "tasks.c.wait": 'must be a duration, or a map with one of "constant", "exponential", "uniform", "triangular", "normal" or "lognormal"',
        "tasks.d.duration.lognormal.mean": "must be longer than 0",
        "tasks.d.wait": "must be 0 to 3,153,600,000 seconds, not the number 1000000000000.0",
        "tasks.e.instances.x": 'must be a whole number, not the text "x"',
        "tasks.e.instances.2": "must be 0 to 1, not the number 2",
        "tasks.f.instances": "one number of instances must have a probability above 0",
        "tasks.g.instances.01": "1 is there twice",
        "tasks.h": "must be a map of members, not a list",
        'flows["a -> b"]': "must be 0 to 1, not the number 2",
        "subnets.s.task": 'unknown member; did you mean "tasks"?',
        "subnets.t": "must be a map of members, not the number 1",
        "resources.r": "must be 1 to 1000000, not the number 0",
        "arrival": 'must be "one by one", "at once", {"every": "5m"} or {"rate": 12, "per": "1h"}, not the text "often"',
        "max_time": "must be longer than 0",
        "max_steps": found["max_steps"],
    }


@pytest.mark.parametrize("tree", [{"every": "1s", "rate": 1}, {}, {"every": "1s", "per": "1s"}])
def test_an_arrival_is_of_one_kind(tree: dict[str, Any]) -> None:
    """An interval and a rate exclude each other, and one of them is needed."""
    assert problems({"arrival": tree}) == {"arrival": 'needs either "every", or "rate" and perhaps "per"'}


@pytest.mark.parametrize("tree", [{"every": 0}, {"rate": 0}, {"rate": 1, "per": "x"}])
def test_an_arrival_has_a_positive_interval(tree: dict[str, Any]) -> None:
    """Neither the interval nor the rate may be nothing."""
    assert all(place.startswith("arrival.") for place in problems({"arrival": tree}))


@pytest.mark.parametrize("tree", [[], {"tasks": []}, {"subnets": 1}, {"flows": "x"}])
def test_what_must_be_a_map_is_one(tree: object) -> None:
    """A list or a text in place of a map is a problem."""
    assert all("must be a map" in message for message in problems(tree).values())


def test_a_model_lists_everything_that_does_not_fit_its_specification() -> None:
    """Unknown names, and what a task cannot have, are named with their places and a suggestion."""
    found = problems(
        {
            "tasks": {
                "chek": {},
                "check": {"wait": 1, "resource": "clark", "instances": 2},
                "late": {"wait": 1},
                "tell": {"instances": {"1": 0.5, "6": 0.5}},
                "three": {"instances": 3},
                "ship": {"duration": 1, "resource": "clerk"},
            },
            "flows": {"check -> waitin": 0.5, "start -> check": 1, "tell -> ship": 0.1},
            "subnets": {
                "shiping": {},
                "shipping": {"flows": {"s -> t": 0.7, "s -> u": 0.7, "t -> u": 0, "t -> end": 0}},
            },
            "resources": {"clerk": 1, "nobody": 2},
        }
    )

    assert found == {
        "subnets.shiping": 'the specification has no such subnet; did you mean "shipping"?',
        "tasks.chek": 'the net has no such task; did you mean "check"?',
        'flows["check -> waitin"]': 'the net has no such flow out of an XOR- or OR-split; did you mean "check -> waiting"?',
        'flows["start -> check"]': found['flows["start -> check"]'],
        'flows["tell -> ship"]': "the default of an OR-split is taken when no other flow is",
        "tasks.check.wait": "it starts by itself: only triggered, manual and external tasks wait",
        "tasks.check.resource": 'the model has no resource "clark"; did you mean "clerk"?',
        "tasks.check.instances": "it is no multiple-instance task",
        "tasks.late.wait": "it has a timer, which says how long it waits",
        "tasks.tell.instances": "the task may have 2 to 5 instances, not 6",
        "tasks.three.instances": "the specification says it: 3",
        "tasks.ship.duration": "it is composite: its duration is that of its subnet",
        "tasks.ship.resource": "it is composite: the tasks of its subnet need resources",
        "subnets.shipping.flows": 'all flows of "t" have probability 0, and it has no default',
        "resources.nobody": "no task needs it",
    }


def test_shares_of_more_than_one_are_refused() -> None:
    """Probabilities of some flows leave nothing for the others if they are more than 1; all zero leaves nothing to take."""
    assert (
        "sum to 1.4"
        in problems({"subnets": {"shipping": {"flows": {"s -> t": 0.7, "s -> u": 0.7}}}})["subnets.shipping.flows"]
    )
    assert "have probability 0" in problems({"flows": {"check -> waiting": 0, "check -> tell": 0}})["flows"]


def test_what_is_not_simulated_is_refused_with_its_place() -> None:
    """`until` and dynamic creation are named, never ignored."""
    tree = SPECIFICATION.to_dict()
    tasks = {each["id"]: each for each in tree["tasks"]}
    tasks["three"]["multiple"] = {"count": 3, "until": "completed > 1", "creation": "dynamic"}

    with pytest.raises(ModelError) as caught:
        simulate(Specification.from_dict(tree))

    assert [str(each) for each in caught.value.problems] == [
        "tasks.three.multiple.until: is not simulated: it looks at data, and a simulation has none",
        "tasks.three.multiple.creation: is not simulated: instances come from outside; only static is",
    ]
    assert str(caught.value).startswith("the simulation model has 2 problems:")


def test_everything_that_was_not_said_is_listed() -> None:
    """The report names each default that was used."""
    report = simulate(SPECIFICATION, cases=10)

    assert {
        "tasks.check.duration: 0",
        "tasks.check.resource: none, its capacity is infinite",
        "tasks.check.split: equal probabilities",
        "tasks.approve.wait: 0, its event comes or somebody takes it up at once",
        "tasks.tell.instances: 2",
        "tasks.tell.split: 1/2 for each flow without a probability, the default aside",
        "arrival: one by one, each case when the one before has ended",
    } <= set(report.defaults)


def test_a_complete_model_assumes_nothing() -> None:
    """Where everything is said, no default is named; shares that do not sum to 1 are weights if all are given."""
    specification = Specification.from_dict(
        {
            "id": "one",
            "tasks": [{"id": "a", "handler": "h", "split": "xor"}, {"id": "b", "handler": "h"}],
            "flows": [
                {"from": "start", "to": "a"},
                {"from": "a", "to": "b", "when": "data.x"},
                {"from": "a", "to": "end", "default": True},
                {"from": "b", "to": "end"},
            ],
        }
    )
    said = {"duration": 1, "resource": "r"}
    model = {
        "tasks": {"a": said, "b": said},
        "resources": {"r": 1},
        "arrival": "at once",
        "flows": {"a -> b": 0.1, "a -> end": 0.1},
    }

    report = simulate(specification, SimulationModel.from_dict(model), cases=2_000)

    assert report.defaults == ()
    assert report.tasks[1].executions == pytest.approx(0.5, abs=0.05)


def test_what_is_left_of_the_shares_is_shared(tmp_path: Path) -> None:
    """Without a default flow, the flows that were not named share what the others leave."""
    model = {"flows": {"check -> waiting": 0}, "subnets": {"shipping": {"flows": {"s -> t": 0.5}}}}

    report = simulate(SPECIFICATION, SimulationModel.from_dict(model), cases=4_000)

    found = {each.name: each.executions for each in report.tasks}
    # u comes with s -> u (1/4), or s -> t (1/2) and then t -> u, which alone is 1/3 of what t may take: with t -> end the net ends.
    assert found["shipping/u"] == pytest.approx(found["ship"] * (1 / 4 + 1 / 2 * 1 / 3), abs=0.03)


def test_files_and_texts_are_read_alike(tmp_path: Path) -> None:
    """JSON, YAML, a file and a tree give the same model."""
    text = '{"tasks": {"a": {"duration": "1s"}}, "max_time": "1d"}'
    file = tmp_path / "model.yaml"
    file.write_text("tasks: {a: {duration: 1s}}\nmax_time: 1d\n")

    expected = SimulationModel.from_json(text)
    assert expected == SimulationModel.from_yaml(file.read_text())
    assert expected == SimulationModel.load(file)
    assert expected.max_time == 86_400


def test_a_text_that_cannot_be_read_is_a_model_error(tmp_path: Path) -> None:
    """Broken JSON, broken YAML and an unknown suffix are told as problems of the model."""
    (tmp_path / "model.txt").write_text("{}")

    with pytest.raises(ModelError, match="the simulation model has a problem"):
        SimulationModel.from_json("{")
    with pytest.raises(ModelError):
        SimulationModel.from_yaml("a: [")
    with pytest.raises(ModelError, match="the suffix must be one of"):
        SimulationModel.load(tmp_path / "model.txt")
    assert issubclass(ModelError, SpecificationError)
