"""Simulation: against theory, against its reference version, and against what it promises of every case."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from knhk import _hot, _kernel
from knhk.analysis import SimulationModel, SimulationReport, simulate
from knhk.analysis._simulation_draws import Draws
from knhk.analysis._simulation_loop import reference
from knhk.analysis._simulation_model import Distribution, Shape
from knhk.analysis._simulation_plan import Plan, make_plan
from knhk.analysis._simulation_run import choose, run
from knhk.analysis._simulation_state import Raw
from knhk.errors import ModelError, SpecificationError
from knhk.spec import Net, Specification, Task
from tests.nets import specifications


def line(*tasks: dict[str, Any], **more: Any) -> Specification:
    """Tasks one after the other."""
    ends = ["start", *(each["id"] for each in tasks), "end"]
    flows = [{"from": a, "to": b} for a, b in itertools.pairwise(ends)]
    return Specification.from_dict({"id": "line", "tasks": list(tasks), "flows": flows, **more})


def net(tasks: list[dict[str, Any]], flows: str, **more: Any) -> Specification:
    """A net whose flows are written ``a b, b c``; a star behind the target makes the default."""
    pairs = [each.split() for each in flows.split(", ")]
    written = []
    for source, target in pairs:
        flow: dict[str, Any] = {"from": source, "to": target.rstrip("*")}
        split = next((each.get("split") for each in tasks if each["id"] == source), None)
        if target.endswith("*"):
            flow["default"] = True
        elif split in ("xor", "or"):
            flow["when"] = "data.x"
        written.append(flow)
    return Specification.from_dict({"id": "net", "tasks": tasks, "flows": written, **more})


def played(specification: Specification, model: dict[str, Any] | None = None, **options: Any) -> SimulationReport:
    """A report of a few cases; both event loops have measured the same."""
    options = {"cases": 200, "seed": 1, "warm_up": 0} | options
    bound = SimulationModel.from_dict(model or {})
    plan = make_plan(specification, bound, kernel=_hot.Net)

    assert bits(reference(plan, **options)) == bits(run(plan, **options))
    return simulate(specification, bound, **options)


def executions(report: SimulationReport) -> dict[str, float]:
    return {each.name: each.executions for each in report.tasks}


def bits(raw: Raw) -> dict[str, Any]:
    """What a run measured, so that equal means equal to the bit."""
    tree = {each.name: getattr(raw, each.name) for each in attrs.fields(Raw)}
    return {**tree, "throughput": raw.throughput.tobytes()}


QUEUE = line({"id": "serve", "handler": "h"})


def queue(rho: float, servers: int = 1) -> SimulationModel:
    """Poisson arrivals at rate 1 and exponential service on a number of equal servers."""
    return SimulationModel.from_dict(
        {
            "tasks": {"serve": {"duration": {"exponential": rho * servers}, "resource": "desk"}},
            "resources": {"desk": servers},
            "arrival": {"rate": 1},
        }
    )


# --- theory -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not _hot.COMPILED, reason="takes too long on the reference version")
@pytest.mark.parametrize("rho", [0.5, 0.8])
def test_a_single_server_queue_is_within_one_percent_of_theory(rho: float) -> None:
    """M/M/1: the mean time in the system is s/(1-rho), the mean waiting rho times that, and the utilisation is rho."""
    report = simulate(QUEUE, queue(rho), cases=1_000_000, seed=7, warm_up=2_000)

    expected = rho / (1 - rho)
    assert report.throughput is not None
    assert abs(report.throughput.mean.mean / expected - 1) < 0.01
    assert abs(report.tasks[0].waiting.mean / (rho * expected) - 1) < 0.01
    assert abs(report.resources[0].utilisation.mean / rho - 1) < 0.01
    # Little's law, within the same percent: the queue's mean length is the arrival rate, 1, times the mean waiting.
    assert abs(report.resources[0].queue_length.mean / (rho * expected) - 1) < 0.01
    # The time in the system is exponential too.
    assert abs(report.throughput.percentiles[50] / (expected * math.log(2)) - 1) < 0.02


def test_several_servers_agree_with_erlang() -> None:
    """M/M/3 at rho 0.7: the mean waiting of Erlang's C formula lies within the confidence interval."""
    report = simulate(QUEUE, queue(0.7, 3), cases=100_000, seed=3, warm_up=1_000)

    load = 2.1
    below = sum(load**k / math.factorial(k) for k in range(3))
    at_least = load**3 / math.factorial(3) / 0.3
    expected = at_least / (below + at_least) * 0.7 / 0.3
    waiting = report.tasks[0].waiting
    assert waiting.half_width is not None
    assert abs(waiting.mean - expected) < waiting.half_width * 1.5
    assert waiting.half_width < 0.1 * expected


def test_a_tandem_is_two_single_server_queues() -> None:
    """Burke: the departures of M/M/1 are Poisson, so the second queue of a tandem behaves as if it stood alone."""
    tandem = line({"id": "a", "handler": "h"}, {"id": "b", "handler": "h"})
    model = SimulationModel.from_dict(
        {
            "tasks": {
                "a": {"duration": {"exponential": 0.5}, "resource": "first"},
                "b": {"duration": {"exponential": 0.6}, "resource": "second"},
            },
            "resources": {"first": 1, "second": 1},
            "arrival": {"rate": 1},
        }
    )

    report = simulate(tandem, model, cases=100_000, seed=5, warm_up=1_000)

    found = report.throughput
    assert found is not None
    assert found.mean.half_width is not None
    assert abs(found.mean.mean - (0.5 / 0.5 + 0.6 / 0.4)) < found.mean.half_width * 1.5
    assert report.bottleneck == "second"


def test_constant_times_add_up_exactly() -> None:
    """Without chance and without limits every case takes the sum of its tasks."""
    report = played(
        line({"id": "a", "handler": "h"}, {"id": "b", "timer": "10s"}), {"tasks": {"a": {"duration": "1.5s"}}}
    )

    assert report.throughput is not None
    assert (report.throughput.minimum, report.throughput.maximum) == (11.5, 11.5)
    assert report.throughput.mean.half_width == 0
    assert report.duration == 200 * 11.5


@pytest.mark.parametrize(
    ("shape", "mean", "deviation"),
    [
        (Distribution(Shape.EXPONENTIAL, 3.0), 3.0, 3.0),
        (Distribution(Shape.UNIFORM, 1.0, 4.0), 2.5, 3 / math.sqrt(12)),
        (Distribution(Shape.TRIANGULAR, 1.0, 2.0, 6.0), 3.0, math.sqrt((1 + 4 + 36 - 2 - 6 - 12) / 18)),
        (Distribution(Shape.NORMAL, 10.0, 1.0), 10.0, 1.0),
        (Distribution(Shape.NORMAL, 0.0, 1.0), math.sqrt(2 / math.pi), math.sqrt(1 - 2 / math.pi)),
        (SimulationModel.from_dict({"tasks": {"a": {"duration": {"lognormal": {"mean": 5, "deviation": 2}}}}}).root.tasks["a"].duration, 5.0, 2.0),
        (Distribution(Shape.CONSTANT, 4.0), 4.0, 0.0),
    ],
    ids=["exponential", "uniform", "triangular", "normal", "half normal", "lognormal", "constant"],
)  # fmt: skip
def test_a_distribution_has_its_moments(shape: Distribution, mean: float, deviation: float) -> None:
    """What is drawn has the mean and the standard deviation of its distribution, within five standard errors."""
    draws = Draws(11, 1)
    drawn = [draws.duration(shape) for _ in range(20_000)]

    found = math.fsum(drawn) / len(drawn)
    assert min(drawn) >= 0
    assert found == pytest.approx(mean, abs=5 * deviation / math.sqrt(len(drawn)) + 1e-12)
    assert math.sqrt(math.fsum((each - found) ** 2 for each in drawn) / len(drawn)) == pytest.approx(deviation, rel=0.1)
    assert shape.mean == pytest.approx(mean)


def test_the_generator_is_the_published_one() -> None:
    """The first words are those of the authors' C code for xoshiro256++ with splitmix64 from the seed 0."""
    draws = Draws(0, 0)

    # 0x53175D61490B23DF and 0x61DA6F3DC380D507, shifted as doubles are made.
    assert [draws.unit() * 2**53 for _ in range(2)] == [0x53175D61490B23DF >> 11, 0x61DA6F3DC380D507 >> 11]


# --- two versions, one truth ------------------------------------------------------------------------------------------


@st.composite
def distributions(draw: st.DrawFn) -> Any:
    return draw(
        st.sampled_from(
            [
                0,
                "2s",
                {"exponential": 1},
                {"uniform": {"min": 0, "max": 2}},
                {"triangular": {"min": 0, "mode": 1, "max": 3}},
                {"normal": {"mean": 1, "deviation": 1}},
                {"lognormal": {"mean": 1, "deviation": 1}},
            ]
        )
    )


@st.composite
def models(draw: st.DrawFn, specification: Specification) -> SimulationModel:
    """A model that fits: whatever a task may have, it has or has not."""
    capacities = draw(st.dictionaries(st.sampled_from(["r", "s"]), st.integers(1, 3)))
    used = set()
    trees: dict[str, dict[str, Any]] = {}
    for name, each in specification.nets().items():
        tree: dict[str, Any] = {"tasks": {}, "flows": {}}
        for task in each.tasks:
            said: dict[str, Any] = {}
            if task.subnet is None and draw(st.booleans()):
                said["duration"] = draw(distributions())
            if task.subnet is None and capacities and draw(st.booleans()):
                said["resource"] = draw(st.sampled_from(sorted(capacities)))
                used.add(said["resource"])
            waits = task.manual is not None or task.external is not None or task.trigger is not None
            if waits and task.timer is None and draw(st.booleans()):
                said["wait"] = draw(st.one_of(distributions(), st.just("never")))
            works = any((task.handler, task.manual, task.external, task.http, task.worklet))
            if works and not task.exlet and draw(st.booleans()):
                said["fails"] = draw(st.sampled_from([0.3, 1, {"A": 0.4}, {"A": 0.2, "B": 0.3, "Odd": 0.1}]))
            if task.multiple is not None and task.multiple.for_each is not None:
                said["instances"] = draw(st.sampled_from([0, 2, {"1": 0.5, "3": 0.5}]))
            tree["tasks"][task.id] = said
        trees[name] = tree
    root = trees.pop("")
    arrival = draw(st.sampled_from(["one by one", "at once", {"every": "1s"}, {"rate": 2}]))
    document = {
        **root,
        "subnets": trees,
        "arrival": arrival,
        "resources": {name: capacity for name, capacity in capacities.items() if name in used},
        "max_steps": 300,
    }
    if draw(st.booleans()):
        document["max_time"] = "10s"
    return SimulationModel.from_dict(document)


@st.composite
def plans(draw: st.DrawFn, kernel: type[_kernel.Net] = _hot.Net) -> Plan | None:
    specification = draw(specifications())
    try:
        return make_plan(specification, draw(models(specification)), kernel=kernel)
    except ModelError as error:
        assert all("is not simulated" in each.message for each in error.problems), error
        return None


@pytest.mark.skipif(not _hot.COMPILED, reason="there is one version")
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(plan=plans(), seed=st.integers(0, 2**64 - 1), warm_up=st.integers(0, 5))
def test_the_compiled_loop_does_what_the_reference_does(plan: Plan | None, seed: int, warm_up: int) -> None:
    """On random nets and models both event loops measure the same, to the bit."""
    if plan is None:
        return

    expected = reference(plan, cases=12, warm_up=warm_up, seed=seed)
    assert bits(expected) == bits(run(plan, cases=12, warm_up=warm_up, seed=seed))


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(plan=plans(), seed=st.integers(0, 1000))
def test_no_case_is_lost_and_no_unit_used_twice(plan: Plan | None, seed: int) -> None:
    """Every case ends in exactly one way, only completed ones have a time, and no resource exceeds its capacity."""
    if plan is None:
        return

    raw = run(plan, cases=20, warm_up=0, seed=seed)

    assert set(raw.outcomes) <= {0, 1, 2, 3, 4}
    assert len(raw.outcomes) == len(raw.throughput) == 20
    assert all((outcome == 0) == (time >= 0) for outcome, time in zip(raw.outcomes, raw.throughput, strict=True))
    assert all(most <= capacity for most, capacity in zip(raw.most_busy, plan.capacities, strict=True))
    leaves = [number for number, task in enumerate(plan.tasks) if task.subnet < 0]
    assert all(raw.executions[each] == raw.finished[each] + raw.aborted[each] for each in leaves)
    assert all(failed <= finished for failed, finished in zip(raw.failed, raw.finished, strict=True))


def test_both_kernels_give_one_report() -> None:
    """The reference kernel under the event loop changes nothing."""
    specification = Specification.load("examples/order_to_cash/order.json")
    model = SimulationModel.load("examples/order_to_cash/simulation.json")
    raws = [
        bits(run(make_plan(specification, model, kernel=kernel), cases=300, warm_up=10, seed=4))
        for kernel in (_hot.Net, _kernel.Net)
    ]

    assert raws[0] == raws[1]


def test_a_seed_means_the_same_in_every_process() -> None:
    """Neither the hash seed nor the process changes a report; another seed does."""
    code = (
        "from knhk.analysis import *; from knhk.spec import Specification; import hashlib, sys;"
        "r = simulate(Specification.load('examples/order_to_cash/order.json'),"
        " SimulationModel.load('examples/order_to_cash/simulation.json'), cases=500, seed=int(sys.argv[1]));"
        "print(r.to_dict())"
    )
    answers = {
        (hashes, seed): subprocess.run(
            [sys.executable, "-c", code, seed],
            env={**os.environ, "PYTHONHASHSEED": hashes},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hashes, seed in (("0", "1"), ("99", "1"), ("0", "2"))
    }

    assert answers["0", "1"] == answers["99", "1"]
    assert answers["0", "1"] != answers["0", "2"]


def test_where_nothing_is_compiled_the_reference_runs() -> None:
    """Without the compiled kernel, or where this module alone was not built, the reference loop is taken."""

    def missing() -> Any:
        raise ImportError("not built")

    assert choose(missing, compiled=False, required=False) is reference
    assert choose(missing, compiled=True, required=False) is reference
    with pytest.raises(ImportError, match="not built"):
        choose(missing, compiled=True, required=True)


# --- the token game ---------------------------------------------------------------------------------------------------


def test_an_xor_split_takes_its_shares() -> None:
    """A flow's probability is its share; the default has the rest."""
    specification = net(
        [
            {"id": "s", "split": "xor"},
            {"id": "a", "handler": "h"},
            {"id": "b", "handler": "h"},
            {"id": "c", "handler": "h"},
        ],
        "start s, s a, s b, s c*, a end, b end, c end",
    )

    found = executions(played(specification, {"flows": {"s -> a": 0.5, "s -> b": 0.2}}, cases=5_000))

    assert found["a"] == pytest.approx(0.5, abs=0.03)
    assert found["b"] == pytest.approx(0.2, abs=0.03)
    assert sum(found.values()) == pytest.approx(1)


def test_an_xor_split_without_a_word_is_fair() -> None:
    """Without probabilities every flow is as likely as the others, and the report says that it was assumed."""
    specification = net(
        [{"id": "s", "split": "xor"}, {"id": "a", "handler": "h"}, {"id": "b", "handler": "h"}],
        "start s, s a, s b*, a end, b end",
    )

    report = played(specification, cases=5_000)

    assert executions(report)["a"] == pytest.approx(0.5, abs=0.03)
    assert "tasks.s.split: equal probabilities" in report.defaults


@pytest.mark.parametrize(
    ("default", "expected"), [("*", {"a": 0.6, "b": 0.5, "c": 0.2}), ("", {"a": 0.6, "b": 0.5, "c": 0.0})]
)
def test_an_or_split_draws_each_flow(default: str, expected: dict[str, float]) -> None:
    """Flows are drawn independently; the default is taken when none is; without one, at least one flow is taken."""
    specification = net(
        [
            {"id": "s", "split": "or"},
            {"id": "a", "handler": "h"},
            {"id": "b", "handler": "h"},
            {"id": "c", "handler": "h"},
            {"id": "j", "join": "or"},
        ],
        f"start s, s a, s b, s c{default}, a j, b j, c j, j end",
    )
    chances = {"s -> a": 0.6, "s -> b": 0.5} | ({} if default else {"s -> c": 0})

    report = played(specification, {"flows": chances}, cases=5_000)

    scale = 1.0 if default else 1 / 0.8
    for name, share in expected.items():
        assert executions(report)[name] == pytest.approx(share * scale if name != "c" else share, abs=0.03)
    assert report.outcomes["completed"] == 5_000


def test_the_race_of_a_deferred_choice_is_won_by_the_earlier() -> None:
    """Event against timer: the event's time decides, and a lost one leaves nothing behind."""
    specification = net(
        [{"id": "open"}, {"id": "pay", "trigger": "paid"}, {"id": "expire", "timer": "1s"}],
        "start open, open waiting, waiting pay, waiting expire, pay end, expire end",
        conditions=["waiting"],
    )

    report = played(specification, {"tasks": {"pay": {"wait": {"exponential": 1}}}}, cases=20_000)

    assert executions(report)["pay"] == pytest.approx(1 - math.exp(-1), abs=0.02)
    assert report.throughput is not None
    assert report.throughput.maximum == pytest.approx(1)
    assert report.throughput.mean.mean == pytest.approx(1 - math.exp(-1), abs=0.02)


def test_the_clerk_who_is_free_decides_a_deferred_choice() -> None:
    """A task in a queue leaves it when its token is gone; the one whose unit is free has it."""
    specification = net(
        [{"id": "open"}, {"id": "a", "manual": {}}, {"id": "b", "manual": {}}],
        "start open, open c, c a, c b, a end, b end",
        conditions=["c"],
    )
    model = {
        "tasks": {"a": {"duration": "10s", "resource": "few"}, "b": {"duration": "1s", "resource": "many"}},
        "resources": {"few": 1, "many": 1000},
        "arrival": "at once",
    }

    report = played(specification, model, cases=100)

    assert executions(report) == {"a": 0.01, "b": 0.99}
    assert report.resources[0].longest_queue == 1
    assert report.duration == 10


def test_cancelled_work_frees_its_unit() -> None:
    """A task that a cancellation aborts gives its unit to the next in the queue at once, and its rest is dropped."""
    specification = net(
        [
            {"id": "s", "split": "and"},
            {"id": "slow", "handler": "h"},
            {"id": "quick", "handler": "h", "cancels": ["slow"]},
            {"id": "after"},
        ],
        "start s, s slow, s quick, slow after, quick end, after end",
    )
    specification = Specification.from_dict(
        {
            **specification.to_dict(),
            "tasks": [
                each | ({"join": "xor"} if each["id"] == "after" else {}) for each in specification.to_dict()["tasks"]
            ],
        }
    )
    model = {
        "tasks": {"slow": {"duration": "1h", "resource": "clerk"}, "quick": {"duration": "1s"}},
        "resources": {"clerk": 1},
        "arrival": {"every": "1s"},
    }

    report = played(specification, model, cases=50)

    assert report.outcomes["completed"] == 50
    assert report.duration == 50
    assert report.throughput is not None
    assert report.throughput.maximum == 1
    assert report.tasks[0].aborted == 1
    assert report.resources[0].utilisation.mean == 1


@pytest.mark.parametrize(
    ("multiple", "count", "throughput"),
    [
        ({"count": 4}, 4, 2.0),
        ({"count": 4, "threshold": 1}, 4, 1.0),
        ({"count": 4, "threshold": 1, "remaining": "continue"}, 4, 1.0),
        ({"count": 4, "detached": True}, 4, 0.0),
        ({"for_each": "data.x"}, 3, 2.0),
        ({"count": 0}, 1, 0.0),
    ],
    ids=["all", "threshold", "continue", "detached", "drawn", "none"],
)
def test_instances_queue_one_by_one(multiple: dict[str, Any], count: int, throughput: float) -> None:
    """Each instance needs a unit of its own; control passes with the last, the threshold, or at once."""
    specification = line({"id": "each", "handler": "h", "multiple": multiple})
    said: dict[str, Any] = {"duration": "1s", "resource": "r"}
    if "for_each" in multiple:
        said["instances"] = 3

    report = played(specification, {"tasks": {"each": said}, "resources": {"r": 2}}, cases=20)

    begun = min(count, 2) if throughput == 1.0 else count
    assert executions(report)["each"] == (0 if "detached" in multiple else begun)
    assert report.throughput is not None
    assert report.throughput.mean.mean == throughput


def test_with_implicit_termination_the_case_waits_for_all_work() -> None:
    """An implicit net ends when no work is left, detached instances included."""
    specification = line(
        {"id": "each", "handler": "h", "multiple": {"count": 2, "detached": True}}, termination="implicit"
    )

    report = played(specification, {"tasks": {"each": {"duration": "3s"}}}, cases=5)

    assert report.throughput is not None
    assert report.throughput.mean.mean == 3
    assert executions(report)["each"] == 2


def test_a_composite_task_lasts_as_long_as_its_subnet() -> None:
    """Instances of a composite task are nets of their own; their work is named after the subnet."""
    specification = line(
        {"id": "ship", "subnet": "shipping", "multiple": {"count": 2}},
        subnets={
            "shipping": {
                "tasks": [{"id": "pick", "manual": {"roles": ["packer"]}}],
                "flows": [{"from": "start", "to": "pick"}, {"from": "pick", "to": "end"}],
            }
        },
    )
    model = {"subnets": {"shipping": {"tasks": {"pick": {"duration": "1m"}}}}, "resources": {"packer": 1}}

    report = played(specification, model, cases=3)

    assert [(each.name, each.executions, each.service) for each in report.tasks] == [
        ("ship", 2, 90),
        ("shipping/pick", 2, 60),
    ]
    assert "subnets.shipping.tasks.pick.resource: packer, by its role" in report.defaults


def test_a_deadlock_is_counted() -> None:
    """A case that cannot go on is no completed one, and has no throughput time."""
    specification = net(
        [{"id": "s", "split": "xor"}, {"id": "a"}, {"id": "b"}, {"id": "j", "join": "and"}],
        "start s, s a, s b*, a j, b j, j end",
    )

    report = played(specification)

    assert report.outcomes == {"completed": 0, "deadlocked": 200, "waiting": 0, "cut off": 0, "failed": 0}
    assert report.throughput is None
    assert "200 deadlocked" in report.table()


def test_a_case_that_waits_for_ever_is_counted() -> None:
    """An event that never comes leaves its case waiting, also inside a composite task."""
    specification = line(
        {"id": "ship", "subnet": "s"},
        subnets={
            "s": {
                "tasks": [{"id": "x", "trigger": "e"}],
                "flows": [{"from": "start", "to": "x"}, {"from": "x", "to": "end"}],
            }
        },
    )

    report = played(specification, {"subnets": {"s": {"tasks": {"x": {"wait": "never"}}}}})

    assert report.outcomes["waiting"] == 200


def test_a_case_without_end_is_cut_off() -> None:
    """Steps, time and depth are bounded; what is beyond is cut off, counted, and gives its units back."""
    loop = net([{"id": "a", "split": "xor", "join": "xor"}], "start a, a back, a end*, back a", conditions=["back"])
    recursion = line({"id": "r", "subnet": "s"}, subnets={"s": {
        "tasks": [{"id": "x", "subnet": "s"}], "flows": [{"from": "start", "to": "x"}, {"from": "x", "to": "end"}]}})  # fmt: skip
    slow = {"tasks": {"serve": {"duration": "1h", "resource": "r"}}, "resources": {"r": 1}, "max_time": "10s"}

    assert played(loop, {"flows": {"a -> back": 1}, "max_steps": 50}).outcomes["cut off"] == 200
    assert played(recursion, cases=2).outcomes["cut off"] == 2
    assert played(QUEUE, {**slow, "arrival": "at once"}).outcomes["cut off"] == 200
    assert played(QUEUE, slow).duration == 2_000
    manual = line({"id": "a", "manual": {}}, {"id": "b", "manual": {}})
    said = {"resource": "r", "duration": "1s"}
    found = played(
        manual, {"tasks": {"a": said, "b": said}, "resources": {"r": 1}, "max_steps": 1, "arrival": "at once"}
    )
    assert (found.outcomes["cut off"], found.duration) == (200, 200)


def test_the_empty_net_completes_at_once() -> None:
    """A net without tasks takes no time."""
    report = played(Specification.from_dict({"id": "empty", "tasks": [], "conditions": []}))

    assert (report.outcomes["completed"], report.duration, report.tasks) == (200, 0, ())


def twice(task: dict[str, Any], **more: Any) -> Specification:
    """A task that gets two tokens at once; implicit termination waits for both."""
    tree = net([{"id": "open"}, task], "start open, open c, c t, t end", conditions=["c"]).to_dict()
    flows = [each | ({"weight": 2} if each["from"] == "open" else {}) for each in tree["flows"]]
    return Specification.from_dict({**tree, "flows": flows, "termination": "implicit", **more})


@pytest.mark.parametrize(
    ("task", "expected", "count"),
    [
        ({"timer": "2s", "handler": "h"}, 12, 2),
        ({"timer": "7s", "handler": "h"}, 19, 2),
        ({"handler": "h"}, 10, 2),
        ({"manual": {}}, 10, 2),
        ({"manual": {}, "multiple": {"count": 1, "detached": True}}, 5, 2),
        ({"handler": "h", "multiple": {"count": 1, "detached": True}, "cancels": ["t"]}, 5, 2),
        ({"handler": "h", "multiple": {"count": 2, "threshold": 1, "remaining": "continue"}}, 10, 4),
        ({"handler": "h", "multiple": {"count": 2, "threshold": 1, "remaining": "continue"}, "cancels": ["t"]}, 10, 4),
    ],
)
def test_a_task_with_two_tokens_does_its_work_twice(task: dict[str, Any], expected: float, count: int) -> None:
    """One activation at a time, except of a detached task; the next one's timer runs meanwhile."""
    report = played(twice({"id": "t", **task}), {"tasks": {"t": {"duration": "5s"}}}, cases=3)

    assert report.throughput is not None
    assert (report.throughput.mean.mean, executions(report)["t"]) == (expected, count)


# --- asking -----------------------------------------------------------------------------------------------------------


def test_a_simulation_needs_a_case_to_measure() -> None:
    """No cases, or a warm-up that leaves none, are refused."""
    with pytest.raises(ValueError, match="at least 1 case, not 0"):
        simulate(QUEUE, cases=0)
    with pytest.raises(ValueError, match="0 to 9, not 10"):
        simulate(QUEUE, cases=10, warm_up=10)


def test_an_ill_formed_specification_is_refused() -> None:
    """A specification that was not checked is checked before anything runs."""
    with pytest.raises(SpecificationError, match="no path of flows leads"):
        simulate(Specification(id="bad", root=Net(tasks=(Task(id="a"),))))


def test_the_warm_up_is_not_measured() -> None:
    """The first cases count in no figure."""
    specification = line({"id": "a", "handler": "h"})
    model = {"tasks": {"a": {"duration": "1s", "resource": "r"}}, "resources": {"r": 1}, "arrival": "at once"}

    report = played(specification, model, cases=10, warm_up=4)

    assert report.throughput is not None
    assert (report.throughput.minimum, report.throughput.maximum, len(report.times)) == (5, 10, 6)
    assert report.outcomes["completed"] == 6
    assert report.tasks[0].executions == 1


def test_progress_is_told() -> None:
    """The caller hears how many cases have ended, from 0 on, and never of fewer than before."""
    heard: list[int] = []

    for loop in (run, reference):
        heard.clear()
        loop(make_plan(QUEUE, queue(0.5), kernel=_hot.Net), cases=5_000, warm_up=0, seed=1, progress=heard.append)

    assert heard[0] == 0
    assert heard == sorted(heard)
    assert len(heard) > 2


def test_an_error_in_progress_stops_the_simulation() -> None:
    """What the caller raises comes out as it is."""

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(QUEUE, cases=10, progress=stop)
