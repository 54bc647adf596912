"""``knhk dead-letters``: list, show, replay, discard, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from knhk import Engine, Specification
from knhk.cli.app import knhk


@pytest.fixture
def db(tmp_path: Path) -> str:
    """A file with two cases whose external work failed and one whose handler did."""
    path = str(tmp_path / "cases.db")
    with Engine(path) as engine:
        for spec_id, work in (("parcel", {"external": "labels"}), ("order", {"handler": "charge"})):
            tasks = [{"id": "work", **work, "multiple": {"for_each": "data.lines"}}]
            flows = [{"from": "start", "to": "work"}, {"from": "work", "to": "end"}]
            engine.register(Specification.from_dict({"id": spec_id, "tasks": tasks, "flows": flows}))
        for n in range(2):
            engine.create_case("parcel", {"lines": [n]}).run()
        for claim in engine.claim("labels", worker="w", max=2):
            claim.fail("no paper", error="Dry")
        engine.handler("charge")(lambda _: 1 / 0)
        engine.run_many([], threads=1)
        case = engine.create_case("order", {"lines": ["x"]})
        with pytest.raises(Exception, match="division"):
            case.run()
    return path


def call(*arguments: str) -> Result:
    """Run a command."""
    return CliRunner().invoke(knhk, ["dead-letters", *arguments])


def listed(db: str, *options: str) -> list[dict[str, Any]]:
    """What the list says to programs."""
    result = call("list", "--db", db, "--json", *options)
    assert 0 == result.exit_code, result.output
    return [json.loads(text) for text in result.stdout.splitlines()]


def test_the_list_is_for_people_and_for_programs(db: str) -> None:
    """The table has what to know at a glance; JSON has a document a line; the options narrow it."""
    table = call("list", "--db", db)

    assert 3 == len(listed(db))
    assert (
        2
        == len(listed(db, "--topic", "labels"))
        == len(listed(db, "--error", "Dry"))
        == len(listed(db, "--spec", "parcel"))
    )
    assert ["ZeroDivisionError"] == [each["error"] for each in listed(db, "--handler", "charge")]
    assert 1 == len(listed(db, "--limit", "1"))
    assert 0 == table.exit_code
    assert "no paper" in table.stdout
    assert listed(db)[0]["id"] in table.stdout
    none = call("list", "--db", db, "--spec", "nothing")
    assert (0, "", "no dead letters\n") == (none.exit_code, none.stdout, none.stderr)


def test_one_is_shown_with_its_data(db: str) -> None:
    """`show` has reason, place and data, for a letter named by a part of its case's id."""
    letter = listed(db, "--handler", "charge")[0]["id"]

    shown = call("show", letter[8:], "--db", db)
    document = json.loads(call("show", letter, "--db", db, "--json").stdout)

    assert 0 == shown.exit_code, shown.output
    assert all(text in shown.stdout for text in ("ZeroDivisionError", "order 1", '"x" (instance 1)', "test_dead"))
    assert ({"lines": ["x"]}, "x", 0) == (document["data"], document["item"], document["index"])


def test_letters_are_replayed_one_or_all(db: str) -> None:
    """`replay LETTER` takes one, `--all` what the options leave; together or neither is wrong usage."""
    letter = listed(db, "--topic", "labels")[0]["id"]

    one = call("replay", letter, "--db", db, "--by", "ann", "--json")
    assert (0, {"replayed": 1}) == (one.exit_code, json.loads(one.stdout))
    again = call("replay", letter, "--db", db)
    assert (4, "") == (again.exit_code, again.stdout)
    rest = call("replay", "--all", "--db", db, "--spec", "parcel")
    assert (0, "replayed 1\n") == (rest.exit_code, rest.stdout)
    assert 1 == len(listed(db))
    for wrong in ([], [letter, "--all"], [letter, "--topic", "labels"]):
        assert 2 == call("replay", *wrong, "--db", db).exit_code


def test_a_letter_is_discarded_by_somebody_for_a_reason(db: str) -> None:
    """`discard` needs who and why, and tells what became of the case."""
    one, two = (each["id"] for each in listed(db, "--topic", "labels"))
    assert 2 == call("discard", one, "--db", db).exit_code

    people = call("discard", one, "--db", db, "--by", "ann", "--reason", "spam")
    programs = call("discard", two, "--db", db, "--by", "ann", "--reason", "spam", "--json")

    assert (0, f"discarded {one}; the case is completed\n") == (people.exit_code, people.stdout)
    assert {"discarded": two, "state": "completed"} == json.loads(programs.stdout)
    assert 1 == len(listed(db))
    assert 3 == call("show", one, "--db", db).exit_code
    assert 2 == call("show", "nonsense", "--db", db).exit_code
