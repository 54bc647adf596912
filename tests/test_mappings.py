"""What work is given and what its result changes: input and output mappings, and how large data may be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from knhk import AsyncEngine, DataError, Engine, HandlerError, LimitExceeded, Limits, Specification, SpecificationError
from knhk._plain import MAX_PAYLOAD, plain_data
from knhk.testing.clock import ManualClock


def one(**task: Any) -> Specification:
    """A net of one task, A."""
    flows = [{"from": "start", "to": "A"}, {"from": "A", "to": "end"}]
    return Specification.from_json(json.dumps({"id": "p", "tasks": [{"id": "A", **task}], "flows": flows}))


def engine_of(specification: Specification, **options: Any) -> Engine:
    engine = Engine("memory:", clock=ManualClock(), **options)
    engine.register(specification)
    return engine


# --- input ----------------------------------------------------------------------------------------------------------------


def test_a_handler_is_given_what_its_input_says() -> None:
    """The handler sees the mapped members and nothing else."""
    engine = engine_of(one(handler="h", input={"who": "data.customer.name", "twice": "data.n * 2"}))
    seen: list[Any] = []
    engine.handler("h")(lambda work: seen.append(work.data))
    engine.create_case("p", {"customer": {"name": "Zoë"}, "n": 4, "secret": True}).run()

    assert [{"who": "Zoë", "twice": 8}] == seen


def test_what_a_handler_is_given_is_its_own() -> None:
    """What a handler does to what it was given changes nothing in the case."""
    engine = engine_of(one(handler="h", input={"list": "data.list"}))
    engine.handler("h")(lambda work: work.data["list"].append(9) and None)
    case = engine.create_case("p", {"list": [1]}).run()

    assert {"list": [1]} == case.data


def test_an_input_that_cannot_be_made_fails_the_attempt() -> None:
    """Where the expression fails the handler is not called, its work has failed, and the reason names the place."""
    engine = engine_of(one(handler="h", input={"who": "data.customer.name"}))
    called: list[Any] = []
    engine.handler("h")(called.append)
    case = engine.create_case("p", {})
    with pytest.raises(HandlerError, match=r"A: input\.who"):
        case.run()

    assert ("failed", []) == (case.state, called)
    assert ["A"] == [each.path for each in case.work_items(state="failed")]


def test_an_input_that_cannot_be_made_asynchronously() -> None:
    """The asynchronous engine fails the attempt in the same way."""
    import asyncio

    async def run() -> tuple[str, list[Any]]:
        async with AsyncEngine("memory:") as engine:
            called: list[Any] = []
            engine.handler("h")(called.append)
            await engine.register(one(handler="h", input={"who": "data.none"}))
            case = await engine.create_case("p")
            with pytest.raises(HandlerError):
                await case.run()
            return await case.state(), called

    assert ("failed", []) == asyncio.run(run())


def test_people_are_shown_what_the_input_says() -> None:
    """A work item's data are the mapped ones, or the case's where there is no mapping."""
    mapped = engine_of(one(manual={}, input={"sum": "data.n"})).create_case("p", {"n": 1, "m": 2})
    whole = engine_of(one(manual={})).create_case("p", {"n": 1, "m": 2})
    for case in (mapped, whole):
        case.start()

    assert [{"sum": 1}, {"n": 1, "m": 2}] == [case.work_items()[0].data for case in (mapped, whole)]


def test_instances_see_their_element_and_position() -> None:
    """In a multiple-instance task the mappings know `item` and `index`."""
    engine = engine_of(
        one(
            handler="h",
            multiple={"for_each": "data.lines"},
            input={"price": "item.price", "at": "index"},
            output={"total": "data.total + output.cost", "last": "item.price"},
        )
    )
    engine.handler("h")(lambda work: {"cost": work.data["price"] * (work.data["at"] + 1)})
    case = engine.create_case("p", {"lines": [{"price": 10}, {"price": 1}], "total": 0}).run()

    assert ("completed", 12, 1) == (case.state, case.data["total"], case.data["last"])


# --- output ---------------------------------------------------------------------------------------------------------------


def test_only_what_the_output_says_joins_the_data() -> None:
    """A result goes through the mapping, which may look at the data as they were; a replay does not ask it again."""
    engine = engine_of(one(manual={}, output={"count": "data.count + output.n", "ok": "output.n > 1"}))
    case = engine.create_case("p", {"count": 1})
    case.start()
    case.work_items()[0].complete({"n": 2, "noise": True})

    assert {"count": 3, "ok": True} == case.data
    engine.evict()
    assert {"count": 3, "ok": True} == case.data
    completed = [each for each in case.history() if each.kind.value == "task_completed"]
    assert [{"count": 3, "ok": True}] == [each.details["data"] for each in completed]


def test_a_refused_output_leaves_the_item_started() -> None:
    """Where the mapping fails on a result, the item stays started and the data as they were."""
    case = engine_of(one(manual={}, output={"n": "output.n + 1"})).create_case("p", {"n": 0})
    case.start()
    case.work_items()[0].start(by="ann")
    with pytest.raises(DataError, match=r"A: output\.n"):
        case.work_items()[0].complete({"n": "text"})

    assert (["A"], {"n": 0}) == (case.running, case.data)
    case.work_items()[0].complete({"n": 1})
    assert {"n": 2} == case.data


def test_a_result_that_the_schema_refuses() -> None:
    """The schema looks at the data as they would become, mapped."""
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 9}}}
    tree = {**json.loads(one(manual={}, output={"n": "output.n * 2"}).to_json()), "data": schema}
    case = engine_of(Specification.from_json(json.dumps(tree))).create_case("p", {"n": 0})
    case.start()
    case.work_items()[0].start()
    with pytest.raises(DataError):
        case.complete_task("A", {"n": 5})

    assert (["A"], {"n": 0}) == (case.running, case.data)
    case.complete_task("A", {"n": 4})
    assert {"n": 8} == case.data


def test_an_empty_output_keeps_results_out() -> None:
    """A mapping that names nothing lets nothing of a result into the case."""
    engine = engine_of(one(handler="h", output={}))
    engine.handler("h")(lambda work: {"secret": 1})

    assert {} == engine.create_case("p").run().data


@pytest.mark.parametrize(
    ("task", "place", "message"),
    [
        ({"handler": "h", "input": []}, "tasks.A.input", "must be a map of expressions by name, not a list"),
        ({"handler": "h", "input": {"a": 1}}, "tasks.A.input.a", "must be text, not the number 1"),
        ({"handler": "h", "input": {"": "1"}}, "tasks.A.input", ""),
        ({"handler": "h", "input": {"a": "output.x"}}, "tasks.A.input.a", "output"),
        ({"handler": "h", "output": {"a": "item"}}, "tasks.A.output.a", "item"),
        ({"handler": "h", "output": {"a": "1 +"}}, "tasks.A.output.a", ""),
        (
            {"output": {"a": "1"}},
            "tasks.A.output",
            "only a task with a handler, a request, manual or external work, or a worklet has one",
        ),
        (
            {"handler": "h", "input": {f"n{n}": "1" for n in range(1_001)}},
            "tasks.A.input",
            "1,001 entries; at most 1,000",
        ),
    ],
)
def test_a_mapping_that_cannot_be(task: dict[str, Any], place: str, message: str) -> None:
    """Every problem of a mapping is told with its place."""
    with pytest.raises(SpecificationError) as refused:
        one(**task)

    (problem,) = refused.value.problems
    assert problem.place.startswith(place)
    assert message in problem.message


# --- how large ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("large", ["x" * 1_000, "\x01" * 170, [1.25] * 250, ["é"] * 300, 10**999, {"k" * 999: None}])
def test_data_beyond_the_limit(large: Any) -> None:
    """Data larger than the limit are refused wherever they come from, with its name, and nothing has happened."""
    specification = one(manual={})
    engine = engine_of(specification, limits=Limits(payload=1_000))
    with pytest.raises(LimitExceeded, match=r"payload=1000"):
        engine.create_case("p", {"a": large})
    with pytest.raises(LimitExceeded):
        engine.create_many("p", [{}, {"a": large}])
    assert not list(engine.cases())
    case = engine.create_case("p", {"a": 1})
    case.start()
    for refused in (
        lambda: case.send_event("e", {"a": large}),
        lambda: case.complete_task("A", {"a": large}),
        lambda: case.work_items()[0].complete({"a": large}),
    ):
        with pytest.raises(LimitExceeded):
            refused()

    assert ({"a": 1}, ["A"]) == (case.data, case.enabled)


@pytest.mark.parametrize("size", [988, 989, 1_000])
def test_the_limit_is_exact(size: int) -> None:
    """What has just as many bytes as the limit is allowed, one more is not."""
    data = {"a": "x" * (size - 8)}
    assert size == len(json.dumps(data, separators=(",", ":")))

    assert data == plain_data(data, "it", size)
    with pytest.raises(LimitExceeded):
        plain_data(data, "it", size - 1)


def test_a_result_beyond_the_limit_is_a_failed_attempt() -> None:
    """A handler that gives too much fails, by express or not, and the case keeps its data."""
    for task in ({"handler": "h"}, {"handler": "h", "multiple": {"count": 1}}):
        engine = engine_of(one(**task), limits=Limits(payload=100))
        engine.handler("h")(lambda work: {"a": "x" * 200})
        case = engine.create_case("p", {"n": 1})
        with pytest.raises(HandlerError, match="payload=100"):
            case.run()

        assert ("failed", {"n": 1}) == (case.state, case.data)


def test_a_case_may_grow_beyond_the_limit() -> None:
    """The limit is on each piece of data, not on what they add up to, which can still be read and handed on."""
    tasks = [{"id": f"t{n}", "handler": "h"} for n in range(3)]
    names = ["start", *(each["id"] for each in tasks), "end"]
    flows = [{"from": a, "to": b} for a, b in zip(names, names[1:], strict=False)]
    engine = engine_of(
        Specification.from_json(json.dumps({"id": "p", "tasks": tasks, "flows": flows})), limits=Limits(payload=100)
    )
    engine.handler("h")(lambda work: {work.task: "x" * 80})
    case = engine.create_case("p").run()

    assert ("completed", 3) == (case.state, len(case.data))


def test_the_limit_that_is_stated() -> None:
    """Four mebibytes, where nobody says otherwise."""
    assert 4 * 1024 * 1024 == MAX_PAYLOAD == Limits().payload
