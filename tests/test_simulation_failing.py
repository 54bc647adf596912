"""Work that fails in a simulation: attempts, waits between them, and who takes the error; on both event loops."""

from __future__ import annotations

from typing import Any

import pytest

from knhk import _hot
from knhk.analysis import SimulationModel, SimulationReport, simulate
from knhk.analysis._simulation_loop import reference
from knhk.analysis._simulation_plan import make_plan
from knhk.analysis._simulation_report import make_report
from knhk.errors import ModelError
from knhk.spec import Specification

RETRY = {"max_attempts": 3, "initial": "1s", "coefficient": 2, "max": "1h", "jitter": 0}


def chain(*tasks: dict[str, Any], flows: list[dict[str, Any]] | None = None, **more: Any) -> Specification:
    """Tasks one after the other, and other flows."""
    ids = ["start", *(task["id"] for task in tasks if not task.get("name") == "aside"), "end"]
    line = [{"from": a, "to": b} for a, b in zip(ids, ids[1:], strict=False)]
    return Specification.from_dict({"id": "s", "tasks": list(tasks), "flows": [*line, *(flows or [])], **more})


def played(specification: Specification, cases: int = 1, **model: Any) -> SimulationReport:
    """Simulate on both event loops, which must agree."""
    read = SimulationModel.from_dict(model)
    report = simulate(specification, read, cases=cases, seed=7)
    plan = make_plan(specification, read, kernel=_hot.Net)
    raw = reference(plan, cases=cases, warm_up=0, seed=7)
    assert report == make_report(specification, plan, raw, cases=cases, warm_up=0, seed=7, spent=0.0)
    return report


def test_attempts_follow_the_retry_policy_of_the_task() -> None:
    """Half of all attempts fail: a case has 1 + 1/2 + 1/4 of them, and an eighth of the cases fail for good."""
    report = played(
        chain({"id": "a", "handler": "h", "retry": RETRY}), cases=20_000, tasks={"a": {"duration": 1, "fails": 0.5}}
    )

    (figures,) = report.tasks
    assert 1.75 == pytest.approx(figures.executions, rel=0.02)
    assert 0.875 == pytest.approx(figures.failed, rel=0.03)
    assert 0.125 == pytest.approx(report.outcomes["failed"] / 20_000, rel=0.06)
    assert 20_000 == report.outcomes["failed"] + report.outcomes["completed"]
    # At once; after 1 s + 1 s; after another 2 s + 1 s.
    assert {1.0, 3.0, 6.0} == set(report.times)


def test_waits_are_drawn_and_bounded() -> None:
    """With jitter a wait is anything up to what it would be, and none is longer than the longest."""
    retry = {**RETRY, "max_attempts": 50, "max": "4s", "jitter": 1}
    report = played(chain({"id": "a", "handler": "h", "retry": retry}), cases=2_000, tasks={"a": {"fails": 0.5}})

    assert report.throughput is not None
    assert {"completed": 2_000} == {name: count for name, count in report.outcomes.items() if count}
    # 1/2 of 0, 1/4 of 0..1, 1/8 of 0..1 + 0..2, and 0..4 for every further one.
    mean = 0.25 * 0.5 + 0.125 * 1.5 + sum(0.5 ** (n + 2) * (1.5 + 2 * (n - 1)) for n in range(2, 50))
    assert mean == pytest.approx(report.throughput.mean.mean, rel=0.1)


def test_the_deadline_of_the_policy_ends_the_attempts() -> None:
    """The third attempt would begin 5 s after the first, and must within 4 s."""
    task = {"id": "a", "handler": "h", "retry": {**RETRY, "deadline": "4s"}}

    report = played(chain(task), tasks={"a": {"duration": 1, "fails": 1}})

    assert (2, 2, 1) == (report.tasks[0].executions, report.tasks[0].failed, report.outcomes["failed"])


def test_an_error_takes_its_flow_and_is_not_always_tried_again() -> None:
    """What is not retryable fails at once; each error goes along the first flow that names it, `*` takes the others."""
    task = {"id": "a", "handler": "h", "retry": {**RETRY, "non_retryable": ["Declined"]}}
    aside = [{"id": each, "manual": {}, "name": "aside"} for each in ("sorry", "call")]
    flows = [
        {"from": "a", "to": "sorry", "on_error": "Declined"},
        {"from": "a", "to": "call", "on_error": "*"},
        *({"from": each, "to": "end"} for each in ("sorry", "call")),
    ]

    report = played(
        chain(task, *aside, flows=flows), cases=1_000, tasks={"a": {"fails": {"Declined": 0.5, "Timeout": 0.5}}}
    )

    done = {each.name: each.executions for each in report.tasks}
    # Three attempts, each declined with 1/2: one of eight comes to its third time-out.
    assert 1_000 == report.outcomes["completed"]
    assert 0.875 == pytest.approx(done["sorry"], abs=0.03)
    assert 0.125 == pytest.approx(done["call"], abs=0.03)
    assert 1.75 == pytest.approx(done["a"], abs=0.06)


def test_an_error_leaves_the_subnet_and_ends_what_runs_beside() -> None:
    """The composite task around it takes it: the other branch is aborted, its unit is free again, and the case completes."""
    inside = {
        "tasks": [
            {"id": "both", "split": "and"},
            {"id": "bad", "handler": "h"},
            {"id": "long", "manual": {"roles": ["clerk"]}},
            {"id": "meet", "join": "and"},
        ],
        "flows": [
            {"from": "start", "to": "both"},
            *({"from": "both", "to": each} for each in ("bad", "long")),
            *({"from": each, "to": "meet"} for each in ("bad", "long")),
            {"from": "meet", "to": "end"},
        ],
    }
    specification = chain(
        {"id": "all", "subnet": "inside"},
        {"id": "undo", "manual": {"roles": ["clerk"]}, "name": "aside"},
        flows=[{"from": "all", "to": "undo", "on_error": "*"}, {"from": "undo", "to": "end"}],
        subnets={"inside": inside},
    )
    tasks = {"bad": {"duration": 2, "fails": 1}, "long": {"duration": 100}}

    report = played(
        specification, tasks={"undo": {"duration": 1}}, subnets={"inside": {"tasks": tasks}}, resources={"clerk": 1}
    )

    aborted = {each.name: each.aborted for each in report.tasks}
    assert ((3.0,), 1.0, 1.0) == (tuple(report.times), aborted["inside/long"], aborted["all"])


@pytest.mark.parametrize(("threshold", "outcome"), [(1, "completed"), (None, "failed")])
def test_instances_go_on_without_a_lost_one_where_enough_are_left(threshold: int | None, outcome: str) -> None:
    """With a threshold that can still be reached a lost instance is only that; else it is the task's failure."""
    multiple = {"count": 3, **({} if threshold is None else {"threshold": threshold})}
    specification = chain({"id": "a", "handler": "h", "multiple": multiple})

    reports = [
        simulate(specification, SimulationModel.from_dict({"tasks": {"a": {"fails": 0.3}}}), cases=1, seed=seed)
        for seed in range(60)
    ]

    some = [each for each in reports if each.tasks[0].failed in (1, 2)]
    assert some
    assert {outcome} == {name for each in some for name, count in each.outcomes.items() if count}


def test_lost_work_holds_nothing_else_up() -> None:
    """The branch beside it goes on to its end; then the case is counted as failed, even where an event is waited for."""
    tasks = [
        {"id": "both", "split": "and"},
        {"id": "bad", "handler": "h"},
        {"id": "good", "handler": "h"},
        {"id": "never", "trigger": "e"},
        {"id": "meet", "join": "and"},
    ]
    flows = [
        {"from": "start", "to": "both"},
        *({"from": "both", "to": each} for each in ("bad", "good", "never")),
        *({"from": each, "to": "meet"} for each in ("bad", "good", "never")),
        {"from": "meet", "to": "end"},
    ]
    specification = Specification.from_dict({"id": "s", "tasks": tasks, "flows": flows})
    said = {"bad": {"fails": 1}, "good": {"duration": 5}, "never": {"wait": "never"}}

    report = played(specification, tasks=said)

    assert (1, 5.0) == (report.outcomes["failed"], report.duration)
    assert {"bad": (1, 1), "good": (1, 0)} == {
        each.name: (each.executions, each.failed) for each in report.tasks if each.executions
    }


def test_attempts_without_end_are_cut_off() -> None:
    """Each attempt after the first counts towards the steps that a case may have."""
    task = {"id": "a", "handler": "h", "retry": {**RETRY, "max_attempts": 2**31 - 1, "coefficient": 1}}

    report = played(chain(task), tasks={"a": {"fails": 1}}, max_steps=10)

    assert (1, 10) == (report.outcomes["cut off"], report.tasks[0].executions)


def test_what_cannot_fail_so_is_refused_with_its_place() -> None:
    """Only work fails; an exlet is not simulated; probabilities are such, and no more than 1 together."""
    specification = chain(
        {"id": "route"},
        {"id": "part", "subnet": "n"},
        {"id": "a", "handler": "h", "exlet": "w"},
        {"id": "b", "handler": "h"},
        subnets={"n": {"flows": [{"from": "start", "to": "t"}, {"from": "t", "to": "end"}], "tasks": [{"id": "t"}]}},
    )
    tasks = {"route": {"fails": 1}, "part": {"fails": 1}, "a": {"fails": 0.1}, "b": {"fails": {"A": 0.6, "B": 0.6}}}

    with pytest.raises(ModelError) as caught:
        simulate(specification, SimulationModel.from_dict({"tasks": tasks}))

    assert {
        "tasks.route.fails: it does no work that could fail",
        "tasks.part.fails: it is composite: the tasks of its subnet fail",
        "tasks.a.fails: is not simulated where a worklet is called for what failed (exlet)",
        "tasks.b.fails: the probabilities sum to 1.2, more than 1",
    } == {str(each) for each in caught.value.problems}
    for fails, place in ((2, "tasks.a.fails"), ("often", "tasks.a.fails"), ({"A": -1}, "tasks.a.fails.A")):
        with pytest.raises(ModelError) as caught:
            SimulationModel.from_dict({"tasks": {"a": {"fails": fails}}})
        assert [place] == [each.place for each in caught.value.problems]


def test_what_is_assumed_never_to_fail_is_listed() -> None:
    """A task whose failures the specification provides for, and the model does not, is named in the report."""
    report = simulate(chain({"id": "a", "handler": "h", "retry": RETRY}, {"id": "b", "handler": "h"}), cases=1)

    assert ["tasks.a.fails: never, so its retries and error flows are not used for its own failures"] == [
        each for each in report.defaults if "fails" in each
    ]
