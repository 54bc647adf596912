"""Error flows: what follows when the work of a task has failed for good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from orjoin_oracle import WAITING, Game, oracle

from knhk import Engine, EventKind, Specification, Work
from knhk._hot import COMPILED
from knhk._lower import lower
from knhk._tables import XOR
from knhk.errors import HandlerError, SpecificationError
from knhk.testing.clock import ManualClock

KERNELS = ["reference", *(["compiled"] if COMPILED else [])]


class CardDeclined(Exception):  # noqa: N818 - a name as users choose it
    """What the handler of these tests raises."""


class LostCard(CardDeclined):
    """A more exact one."""


def order(**charge: Any) -> dict[str, Any]:
    """A charge that may fail, with the tasks for either way behind it."""
    return {
        "id": "order",
        "tasks": [
            {"id": "charge", "handler": "charge", **charge},
            {"id": "ship", "manual": True},
            {"id": "apologise", "manual": True},
            {"id": "close", "join": "xor"},
        ],
        "flows": [
            {"from": "start", "to": "charge"},
            {"from": "charge", "to": "ship"},
            {"from": "charge", "to": "apologise", "on_error": "CardDeclined"},
            {"from": "ship", "to": "close"},
            {"from": "apologise", "to": "close"},
            {"from": "close", "to": "end"},
        ],
    }


def nested(subnet: dict[str, Any], *flows: dict[str, Any], **task: Any) -> dict[str, Any]:
    """A composite task with further flows out of it, and a task for each target of theirs."""
    targets = [each["to"] for each in flows if each["to"] != "end"]
    return {
        "id": "order",
        "tasks": [{"id": "pay", "subnet": "payment", **task}, *({"id": each, "manual": True} for each in targets)],
        "flows": [
            {"from": "start", "to": "pay"},
            {"from": "pay", "to": "end"},
            *flows,
            *({"from": each, "to": "end"} for each in targets),
        ],
        "subnets": {"payment": subnet},
    }


def alone(**task: Any) -> dict[str, Any]:
    """A net of one task."""
    return {"tasks": [{"id": "A", **task}], "flows": [{"from": "start", "to": "A"}, {"from": "A", "to": "end"}]}


def engine_of(tree: dict[str, Any], error: Exception | None = None, **options: Any) -> Engine:
    """An engine with this specification, whose handler raises the error if there is one."""
    engine = Engine(**options)
    engine.register(Specification.from_dict(tree))

    @engine.handler("charge")
    def charge(_: Work) -> dict[str, Any]:
        if error is not None:
            raise error
        return {"charged": True}

    return engine


def caught(case: Any) -> list[tuple[str, dict[str, Any]]]:
    """Where errors were caught, and what is told of it."""
    return [(each.path, dict(each.details)) for each in case.history() if each.kind is EventKind.ERROR_CAUGHT]


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_matching_error_takes_its_flow_alone(kernel: Any) -> None:
    """The task completes along the error flow, `run` raises nothing, and the data have the error."""
    with engine_of(order(), CardDeclined("no funds"), kernel=kernel) as engine:
        case = engine.create_case("order", {"amount": 3}).run()

        error = {"type": "CardDeclined", "message": "no funds", "task": "charge", "attempts": 1}
        assert ("running", ["apologise"]) == (case.state, case.enabled)
        assert {"amount": 3, "error": error} == case.data
        assert [("charge", {**error, "chosen": ["charge>apologise"]})] == caught(case)
        assert [1] == [each.details["attempt"] for each in case.history() if each.kind is EventKind.ATTEMPT_FAILED]
        case.complete_task("apologise")
        assert "completed" == case.state


@pytest.mark.parametrize("kernel", KERNELS)
def test_normal_completion_never_takes_an_error_flow(kernel: Any) -> None:
    """Without a failure the ordinary output gets the token."""
    with engine_of(order(), kernel=kernel) as engine:
        case = engine.create_case("order").run()

        assert (["ship"], {"charged": True}, []) == (case.enabled, case.data, caught(case))


def test_an_error_matches_by_its_base_classes() -> None:
    """A flow that names a base class takes the error, whose own type the data tell."""
    with engine_of(order(), LostCard()) as engine:
        case = engine.create_case("order").run()

        assert (["apologise"], "LostCard") == (case.enabled, case.data["error"]["type"])


def test_the_first_flow_that_matches_is_taken() -> None:
    """Error flows are looked at in the order of the text."""
    tree = order()
    tree["tasks"].append({"id": "block", "manual": True})
    tree["flows"] += [
        {"from": "charge", "to": "block", "on_error": ["*"]},
        {"from": "block", "to": "close"},
    ]
    for error, enabled in ((LostCard(), "apologise"), (OSError(), "block")):
        with engine_of(tree, error) as engine:
            assert [enabled] == engine.create_case("order").run().enabled


def test_an_error_that_nobody_takes_fails_the_item() -> None:
    """Without a match everything is as without error flows: the item has failed, and can be tried again."""
    with engine_of(order(), OSError("no line")) as engine:
        case = engine.create_case("order")

        with pytest.raises(HandlerError, match="no line"):
            case.run()

        assert ("failed", {}, 1) == (case.state, case.data, case.retry_failed())


def test_retries_come_first() -> None:
    """The flow is taken when the policy gives no further attempt; `attempts` says how many there were."""
    policy = {"max_attempts": 3, "initial": "1s", "jitter": "none", "non_retryable": ["LostCard"]}
    clock = ManualClock()
    with engine_of(order(retry=policy), CardDeclined(), clock=clock) as engine:
        case = engine.create_case("order").run()
        assert ([], ["charge"]) == (caught(case), [each.path for each in case.work_items(state="failed")])
        for wait in (1_000, 2_000):
            clock.advance(wait)
            case.run()
        assert 3 == case.data["error"]["attempts"]
    with engine_of(order(retry=policy), LostCard(), clock=clock) as engine:
        case = engine.create_case("order").run()

        assert 1 == case.data["error"]["attempts"]


def test_an_error_leaves_the_nets_that_do_not_take_it() -> None:
    """The nearest composite task with a matching flow takes it, and what its net was about is withdrawn."""
    inner = {
        "tasks": [
            {"id": "split", "split": "and"},
            {"id": "ask", "manual": True},
            {"id": "deep", "subnet": "deep"},
            {"id": "join", "join": "and"},
        ],
        "flows": [
            {"from": "start", "to": "split"},
            {"from": "split", "to": "ask"},
            {"from": "split", "to": "deep"},
            {"from": "deep", "to": "join"},
            {"from": "ask", "to": "join"},
            {"from": "join", "to": "end"},
        ],
    }
    tree = nested(inner, {"from": "pay", "to": "repair", "on_error": "CardDeclined"})
    tree["subnets"]["deep"] = alone(handler="charge")
    with engine_of(tree, CardDeclined("no")) as engine:
        case = engine.create_case("order").run()

        assert (["repair"], [], "pay/deep/A") == (case.enabled, case.running, case.data["error"]["task"])
        assert ["pay"] == [path for path, _ in caught(case)]
        assert {"": {"pay>repair": 1}} == case.marking


def test_an_error_that_nobody_takes_leaves_its_net_as_it_is() -> None:
    """An error is looked for outwards before anything is withdrawn: with no match the net goes on, and can be repaired."""
    with engine_of(
        nested(alone(handler="charge"), {"from": "pay", "to": "x", "on_error": "Other"}), OSError()
    ) as engine:
        case = engine.create_case("order")
        with pytest.raises(HandlerError):
            case.run()

        assert ["pay/A"] == [each.path for each in case.work_items(state="failed")]


def test_work_of_people_fails_with_a_name() -> None:
    """`fail(error=...)` names the error; without a name it is "Failed"."""
    for said, enabled in (("Absent", "stand_in"), ("", "later")):
        tree = alone(manual=True)
        tree["id"] = "order"
        tree["tasks"] += [{"id": "stand_in", "manual": True}, {"id": "later", "manual": True}]
        tree["flows"] += [
            {"from": "A", "to": "stand_in", "on_error": ["Absent"]},
            {"from": "A", "to": "later", "on_error": ["Failed"]},
            {"from": "stand_in", "to": "end"},
            {"from": "later", "to": "end"},
        ]
        with engine_of(tree) as engine:
            case = engine.create_case("order").run()
            (item,) = case.work_items()
            item.start(by="ann")
            item.fail("is ill", error=said)

            assert ([enabled], "is ill") == (case.enabled, case.data["error"]["message"])


def test_the_last_claim_that_ends_is_an_error() -> None:
    """External work whose attempts are used up by claims that ended fails with TimeoutError."""
    clock = ManualClock()
    tree = order()
    tree["tasks"][0] = {
        "id": "charge",
        "external": {"topic": "t", "timeout": "1s"},
        "retry": {"max_attempts": 1},
    }
    tree["flows"][2]["on_error"] = ["TimeoutError"]
    with engine_of(tree, clock=clock) as engine:
        case = engine.create_case("order").run()
        case.start_task("charge", by="w")
        clock.advance(1_000)

        assert 1 == engine.tick()

        assert ["apologise"] == case.enabled


def test_a_refused_result_is_an_error() -> None:
    """What the case refuses of a result fails with DataError, when no further attempt is made."""
    pytest.importorskip("jsonschema_rs")
    tree = order()
    tree["flows"][2]["on_error"] = ["DataError"]
    tree["data"] = {"properties": {"charged": {"type": "string"}}}
    with engine_of(tree) as engine:
        case = engine.create_case("order").run()

        assert ["apologise"] == case.enabled
        assert "DataError" == case.data["error"]["type"]


def test_data_without_a_place_for_the_error_stay_as_they_are() -> None:
    """Where the schema refuses `error`, the flow is taken all the same and only the history tells of it."""
    pytest.importorskip("jsonschema_rs")
    tree = {**order(), "data": {"properties": {"amount": {}}, "additionalProperties": False}}
    with engine_of(tree, CardDeclined("no")) as engine:
        case = engine.create_case("order", {"amount": 1}).run()

        assert (["apologise"], {"amount": 1}) == (case.enabled, case.data)
        assert "no" == caught(case)[0][1]["message"]


def test_the_cancellation_set_works_on_either_way() -> None:
    """A task that completes along an error flow empties its conditions and aborts its tasks like any completion."""
    tree = order(cancels=["wait", "busy"])
    tree["conditions"] = ["wait"]
    tree["tasks"][0] = {"id": "charge", "manual": True, "cancels": ["wait", "busy"]}
    tree["tasks"] += [{"id": "begin", "split": "and"}, {"id": "other", "manual": True}, {"id": "busy", "manual": True}]
    tree["flows"][0] = {"from": "start", "to": "begin"}
    tree["flows"] += [
        {"from": "begin", "to": "wait"},
        {"from": "begin", "to": "charge"},
        {"from": "begin", "to": "busy"},
        {"from": "wait", "to": "other"},
        {"from": "other", "to": "end"},
        {"from": "busy", "to": "end"},
    ]
    with engine_of(tree) as engine:
        case = engine.create_case("order").run()
        case.start_task("busy")
        case.start_task("charge")
        (charge,) = [each for each in case.work_items() if each.path == "charge"]
        charge.fail("no", error="CardDeclined")

        assert (["apologise"], []) == (case.enabled, case.running)


def banks(**multiple: Any) -> dict[str, Any]:
    """Three instances, with a flow for when the task fails."""
    tree = order()
    tree["tasks"][0] = {"id": "charge", "manual": True, "multiple": {"count": 3, **multiple}}
    tree["flows"][2]["on_error"] = "*"
    return tree


def test_an_instance_that_fails_fails_its_task() -> None:
    """Without a threshold all instances are needed: the others are withdrawn."""
    with engine_of(banks()) as engine:
        case = engine.create_case("order").run()
        case.start_task("charge")
        case.complete_task("charge#1")
        case.work_item(3).fail("no")

        assert (["apologise"], [], "charge#2") == (case.enabled, case.running, case.data["error"]["task"])


def test_a_threshold_that_can_be_reached_is_waited_for() -> None:
    """An instance that fails is a failed item while the others are enough; the one that makes them too few fails the task."""
    with engine_of(banks(threshold=2)) as engine:
        case = engine.create_case("order").run()
        case.start_task("charge")
        first, second, _ = case.work_items()
        first.fail("no")
        assert (["charge#2", "charge#3"], "failed") == (case.running, first.state)

        second.fail("no")

        assert (["apologise"], "charge#2") == (case.enabled, case.data["error"]["task"])
    with engine_of(banks(threshold=2)) as engine:
        case = engine.create_case("order").run()
        case.start_task("charge")
        case.work_items()[0].fail("no")
        case.complete_task("charge#2")
        case.complete_task("charge#3")

        assert (["ship"], []) == (case.enabled, caught(case))


def test_nets_with_failed_work_do_not_count_towards_a_threshold() -> None:
    """Of composite instances, those that hold failed work that nobody took are as good as lost."""
    flow = {"from": "pay", "to": "repair", "on_error": "*"}
    tree = nested(alone(manual=True), flow, multiple={"count": 3, "threshold": 2})
    with engine_of(tree) as engine:
        case = engine.create_case("order").run()
        items = case.work_items()
        for item in items[:2]:
            item.start()
            item.fail("no")

        assert ["repair"] == case.enabled


def test_an_instance_that_runs_on_fails_alone() -> None:
    """After control has passed a failure has no effect on the net: the item has failed."""
    tree = banks(threshold=1, remaining="continue")
    with engine_of(tree) as engine:
        case = engine.create_case("order").run()
        case.start_task("charge")
        case.complete_task("charge#1")
        case.work_items()[0].fail("no")

        assert (["ship"], []) == (case.enabled, caught(case))


def test_an_or_join_waits_for_what_an_error_flow_may_bring() -> None:
    """Behind an error flow an OR-join waits while the task may still fail, as brute force says of the same tables."""
    tree = {
        "id": "order",
        "tasks": [
            {"id": "begin", "split": "and"},
            {"id": "charge", "manual": True},
            {"id": "note", "manual": True},
            {"id": "join", "join": "or"},
            {"id": "done", "manual": True},
        ],
        "conditions": ["side"],
        "flows": [
            {"from": "start", "to": "begin"},
            {"from": "begin", "to": "charge"},
            {"from": "begin", "to": "note"},
            {"from": "charge", "to": "done"},
            {"from": "charge", "to": "side", "on_error": "*"},
            {"from": "note", "to": "join"},
            {"from": "side", "to": "join"},
            {"from": "join", "to": "end"},
            {"from": "done", "to": "end"},
        ],
    }
    plan = lower(Specification.from_dict(tree)).nets[0]
    assert XOR == plan.tables.table[plan.index["charge"]].split
    for kernel in KERNELS:
        with engine_of(tree, kernel=kernel) as engine:
            case = engine.create_case("order").run()
            case.start_task("charge")
            case.complete_task("note")
            assert "running" == case.state
            with engine._cache.hold(case.id) as resident:
                marking = resident.case.state.nets[0].marking
                tokens, status = list(marking.tokens), list(marking.status)
                ready = marking.is_ready(plan.index["join"])
            game = Game(plan.tables, tokens, status, [0] * len(status))
            assert (WAITING, False) == (oracle(game, plan.index["join"]), ready)
            case.work_items(state="started")[0].fail("no")

            assert "completed" == case.state


def test_verification_takes_error_flows_for_free_choices() -> None:
    """A net that cannot go on once a task has failed is unsound; with the way out it is sound."""
    tree = order()
    assert "sound" == Specification.from_dict(tree).verify().verdict
    tree["tasks"][3] = {"id": "close", "join": "and"}

    verdict = Specification.from_dict(tree).verify(data={"amount": 1})

    assert "unsound" == verdict.verdict


@pytest.mark.parametrize("kept", ["memory", "restarted"])
def test_what_was_caught_survives(tmp_path: Path, kept: str) -> None:
    """After a restart the case is where the error led it."""
    path = str(tmp_path / "cases.db")
    engine = engine_of(order(), CardDeclined("no"), target=path)
    case_id = engine.create_case("order").run().id
    if kept == "restarted":
        engine.close()
        engine = Engine(path)
    case = engine.case(case_id)

    assert (["apologise"], "no") == (case.enabled, case.data["error"]["message"])
    assert 1 == len(caught(case))
    engine.close()


def test_a_cut_off_last_attempt_takes_an_error_flow(tmp_path: Path) -> None:
    """Work whose last attempt ended with its process fails with CutOff, and `run` goes on behind the flow."""
    path = str(tmp_path / "cases.db")
    tree = order(retry={"max_attempts": 1})
    tree["flows"][2]["on_error"] = ["CutOff"]
    engine = engine_of(tree, target=path)

    @engine.handler("charge")
    def dies(_: Work) -> None:
        raise SystemExit

    with pytest.raises(SystemExit):
        engine.create_case("order").run()
    engine.close()
    with engine_of(tree, target=path) as again:
        (header,) = again.cases()

        assert ["apologise"] == again.case(header.case_id).run().enabled


FAULTS = [
    ({"on_error": []}, "flows[2].on_error", "names no error"),
    ({"on_error": ["A", "A"]}, "flows[2].on_error[1]", "is in the list twice"),
    ({"on_error": 3}, "flows[2].on_error", "must be a list"),
    ({"on_error": "A", "when": "data.x"}, "flows[2].on_error", "neither predicate nor default"),
    ({"on_error": "A", "default": True}, "flows[2].on_error", "neither predicate nor default"),
    ({"on_error": "A", "from": "close", "to": "ship"}, "flows[2].on_error", "does no work, so it cannot fail"),
    ({"on_error": "A", "from": "start"}, "flows[2].on_error", "is a condition, which does not fail"),
]


@pytest.mark.parametrize(("flow", "place", "message"), FAULTS)
def test_wrong_error_flows_are_refused(flow: dict[str, Any], place: str, message: str) -> None:
    """Every wrong error flow is reported at its place."""
    tree = order()
    tree["flows"][2] = {**tree["flows"][2], **flow}

    with pytest.raises(SpecificationError) as refused:
        Specification.from_dict(tree)

    assert [each.message for each in refused.value.problems if each.place == place and message in each.message]


def test_an_and_split_beside_error_flows_is_refused() -> None:
    """It would have to put several tokens or one; the text says what to do."""
    tree = order(split="and")
    tree["flows"].insert(2, {"from": "charge", "to": "close"})

    with pytest.raises(SpecificationError, match="put a routing task with the AND-split behind it"):
        Specification.from_dict(tree)


def test_a_task_needs_a_way_on_beside_its_error_flows() -> None:
    """Error flows alone are not enough."""
    tree = order()
    del tree["flows"][1]

    with pytest.raises(SpecificationError, match="has error flows alone"):
        Specification.from_dict(tree)


def test_detached_instances_have_no_error_flow() -> None:
    """Their task has passed control when one fails."""
    with pytest.raises(SpecificationError, match="has passed control when its detached instances fail"):
        Specification.from_dict(banks(detached=True))


def test_an_xor_split_chooses_beside_error_flows() -> None:
    """The predicates choose among the ordinary outputs, and failure takes its own."""
    tree = order(split="xor")
    tree["flows"][1]["when"] = "data.amount < 10"
    tree["flows"].insert(2, {"from": "charge", "to": "close", "default": True})
    for amount, state in ((1, "running"), (20, "completed")):
        with engine_of(tree) as engine:
            assert state == engine.create_case("order", {"amount": amount}).run().state
    with engine_of(tree, CardDeclined()) as engine:
        assert ["apologise"] == engine.create_case("order", {"amount": 1}).run().enabled
