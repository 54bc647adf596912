"""The schema of the case data: looked at when data comes, with the place and the rule in the refusal; never fetched, never replayed."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from knhk import Engine, MissingExtra, Specification
from knhk._compiled import compile_specification
from knhk._schema import compile_schema, schema_problems
from knhk.case import Case
from knhk.errors import DataError, HandlerError, SpecificationError
from knhk.stores import MemoryStore

AMOUNT = {
    "type": "object",
    "required": ["amount"],
    "properties": {
        "amount": {"type": "integer", "minimum": 0},
        "lines": {"type": "array", "items": {"type": "object", "properties": {"n": {"maximum": 9}}}},
    },
}


def sample(*tasks: dict[str, Any], schema: dict[str, Any] | None = None) -> Specification:
    """Tasks one after the other, over data of a schema."""
    ids = ["start", *(task["id"] for task in tasks), "end"]
    flows = [{"from": a, "to": b} for a, b in zip(ids, ids[1:], strict=False)]
    return Specification.from_dict(
        {"id": "s", "tasks": list(tasks), "flows": flows, "data": AMOUNT if schema is None else schema}
    )


@pytest.mark.parametrize(
    ("data", "place", "text"),
    [
        (None, "data", r'data: "amount" is a required property \(rule required\)'),
        ({"amount": -1}, "data.amount", r"data.amount: -1 is less than .*\(rule properties.amount.minimum\)"),
        ({"amount": 1, "lines": [{}, {"n": 10}]}, "data.lines[1].n", r"data.lines\[1\].n: 10 is greater than"),
    ],
)
def test_a_case_is_not_created_with_data_that_its_schema_refuses(
    data: dict[str, Any] | None, place: str, text: str
) -> None:
    """Creating a case with data against the schema is a DataError with place and rule, and no case is there."""
    with Engine() as engine:
        engine.register(sample({"id": "A", "manual": {}}))

        with pytest.raises(DataError, match=text) as caught:
            engine.create_case("s", data, idempotency_key="k")

        assert place == caught.value.element
        assert [] == list(engine.cases())
        assert "created" == engine.create_case("s", {"amount": 1}, idempotency_key="k").state


def test_every_violation_is_told_and_long_ones_are_cut() -> None:
    """Up to five violations are told with their places, the rest is counted, and no value floods the message."""
    check = compile_schema({"properties": {name: {"type": "integer"} for name in "abcdefg"}})

    with pytest.raises(DataError) as caught:
        check(dict.fromkeys("abcdefg", "x" * 10_000))

    assert str(caught.value).startswith('data.a: "xxx')
    assert str(caught.value).endswith("; and 2 more")
    assert "; data.e: " in str(caught.value)
    assert len(str(caught.value)) < 2_000


@pytest.mark.parametrize("offered", [True, False])
def test_output_that_the_schema_refuses_changes_nothing(offered: bool) -> None:
    """A person's output against the schema is refused; item, data and history are as they were."""
    with Engine() as engine:
        engine.register(sample({"id": "A", "manual": {}}))
        case = engine.create_case("s", {"amount": 1}).run()
        if not offered:
            case.start_task("A", by="ann")
        before = (case.data, case.enabled, case.running, case.marking, case.history())

        with pytest.raises(DataError, match="data.amount"):
            case.complete_task("A", {"amount": "much"}, by="ann")

        assert before == (case.data, case.enabled, case.running, case.marking, case.history())
        case.complete_task("A", {"amount": 2}, by="ann")
        assert ("completed", {"amount": 2}) == (case.state, case.data)


def test_event_data_that_the_schema_refuses_changes_nothing() -> None:
    """An event whose data the schema refuses is a DataError, and the trigger is not held."""
    with Engine() as engine:
        engine.register(sample({"id": "A", "trigger": "paid"}))
        case = engine.create_case("s", {"amount": 1}).run()
        before = case.history()

        with pytest.raises(DataError, match="data.amount"):
            case.send_event("paid", {"amount": None})

        assert (before, {"amount": 1}) == (case.history(), case.data)
        assert 1 == case.send_event("paid", {"amount": 3})
        assert ("completed", {"amount": 3}) == (case.state, case.data)


def test_a_handlers_output_that_the_schema_refuses_fails_its_item() -> None:
    """The item of a handler that returned data against the schema has failed, with the reason in the history."""
    with Engine() as engine:
        engine.register(sample({"id": "A", "handler": "work"}))
        engine.handler("work")(lambda work: {"amount": -work.attempt})
        case = engine.create_case("s", {"amount": 1})

        with pytest.raises(HandlerError, match="data.amount: -1 is less than") as caught:
            case.run()

        assert isinstance(caught.value.__cause__, DataError)
        assert ("failed", {"amount": 1}) == (case.state, case.data)
        (failed,) = [event for event in case.history() if event.kind.value == "attempt_failed"]
        assert "data.amount: -1" in failed.details["error"]


@pytest.mark.parametrize(
    ("schema", "places"),
    [
        ({"type": "objekt", "properties": {"a": {"minimum": "x"}}}, ["data.properties.a.minimum", "data.type"]),
        ({"pattern": "("}, ["data.pattern"]),
        ({"$ref": "#/$defs/none"}, ["data"]),
        ({"$schema": "http://example.com/own"}, ["data.$schema"]),
        ({"$schema": 3}, ["data.$schema"]),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "type": 1}, ["data.type"]),
    ],
)
def test_a_schema_that_is_none_is_refused_at_registration(schema: dict[str, Any], places: list[str]) -> None:
    """What is wrong with a schema is a problem of the specification, with its place, and nothing is registered."""
    with Engine() as engine:
        with pytest.raises(SpecificationError) as caught:
            engine.register(sample({"id": "A", "manual": {}}, schema=schema))

        assert places == sorted(problem.place for problem in caught.value.problems)
        assert [] == list(engine._store.specifications())


@pytest.mark.parametrize("target", ["http://127.0.0.1:1/x", "file:///etc/hostname", "other.json", "https://x#/y"])
def test_a_reference_out_of_the_schema_is_refused(target: str) -> None:
    """Nothing is fetched: a reference that leads out of the schema is a problem at its place."""
    schema = {"properties": {"$ref": {"const": {"$ref": target}}, "b": {"items": [{"$ref": target}]}}}

    (problem,) = schema_problems(schema)

    assert "data.properties.b.items[0].$ref" == problem.place
    assert target in problem.message


def test_a_reference_inside_the_schema_is_followed() -> None:
    """`#/$defs/...` leads to another part of the same schema, recursion included."""
    schema = {
        "$ref": "#/$defs/tree",
        "$defs": {"tree": {"properties": {"x": {"$ref": "#/$defs/tree"}}, "type": "object"}},
    }
    assert () == schema_problems(schema)

    with pytest.raises(DataError, match=r"data\.x\.x: 3 is not of type"):
        compile_schema(schema)({"x": {"x": 3}})


@pytest.mark.parametrize("kind", [dict, list])
def test_data_without_end_is_refused_before_the_library_falls_into_it(kind: type) -> None:
    """Data nested a thousand deep is checked; deeper data is a DataError."""
    schema = {"$ref": "#/$defs/tree", "$defs": {"tree": {"properties": {"x": {"$ref": "#/$defs/tree"}}}}}
    check = compile_schema(schema)
    inner: Any = kind()
    for _ in range(999):
        inner = {"x": inner} if kind is dict else [inner]
    check({"x": inner})

    with pytest.raises(DataError, match="data: is nested more than 1000 deep"):
        check({"x": {"x": {"x": inner}}})
    for _ in range(100_000):
        inner = [inner]
    with pytest.raises(DataError, match="more than 1000 deep"):
        check({"x": inner})


def test_an_unknown_address_is_never_fetched() -> None:
    """Where a schema names its own address, a reference to another one under it is refused as well."""
    schema = {"$id": "http://127.0.0.1:1/a/", "properties": {"x": {"$dynamicRef": "b"}}}

    assert ["data.properties.x.$dynamicRef"] == [problem.place for problem in schema_problems(schema)]


def test_without_the_library_registration_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A specification with a schema needs the extra, and the refusal names it; one without a schema does not."""
    monkeypatch.setitem(sys.modules, "jsonschema_rs", None)
    with Engine() as engine:
        with pytest.raises(MissingExtra, match=r"pip install 'knhk\[schema\]'"):
            engine.register(sample({"id": "A", "manual": {}}))

        assert [] == list(engine._store.specifications())
        plain = Specification.from_dict({"id": "p", "tasks": [], "conditions": []})
        assert engine.register(plain).new


def test_a_case_loaded_without_the_library_is_not_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A case whose schema cannot be looked at for want of the library is refused, and as whole as before."""
    store = MemoryStore()
    engine = Engine(store)
    engine.register(sample({"id": "A", "manual": {}}))
    case = engine.create_case("s", {"amount": 1}).run()
    again = Engine(store)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "jsonschema_rs", None)
        with pytest.raises(MissingExtra):
            again.case(case.id).complete_task("A")

    again.case(case.id).complete_task("A")

    assert "completed" == again.case(case.id).state


def test_a_replay_does_not_look_at_the_schema_again() -> None:
    """A case is loaded with the data that its history holds, and the check is not called."""
    compiled = compile_specification(sample({"id": "A", "manual": {}}))
    live = Case(compiled.program, compiled.kernels, check=compiled.check)
    live.create({"amount": 1})
    live.start(at=0)
    records = live.take_records()

    def refuse(_: dict[str, Any]) -> None:
        raise AssertionError("the check was called")

    other = Case(compiled.program, compiled.kernels, check=refuse)
    other.replay(None, records)

    assert live.state.dump() == other.state.dump()
