"""The nets of the 43 patterns' public scenarios, in this format, are free of problems."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from knhk.spec import Specification, from_document, parse_yaml

CASES = Path(__file__).parent / "data" / "patterns" / "cases_public.json"
ELEMENTS = {"i": "start", "o": "end"}


def predicate(when: list[Any]) -> str:
    """The scenario's `[variable, op, constant]` as an expression; an unset variable is false."""
    variable, operator, constant = when
    if variable in ("completed", "created"):
        return f"{variable} {operator} {json.dumps(constant)}"
    return f"has(data.{variable}) && data.{variable} {operator} {json.dumps(constant)}"


def renamed(identity: str) -> str:
    """An element's id in this format."""
    return ELEMENTS.get(identity, identity)


def multiple(attributes: dict[str, Any]) -> dict[str, Any]:
    """A scenario's multiple-instance attributes in this format."""
    names = {"min": "minimum", "max": "maximum", "create": "creation"}
    document = {names.get(name, name): value for name, value in attributes.items() if name != "sync"}
    if isinstance(document.get("count"), str):
        document["count"] = f"data.{document['count']}"
    if "until" in document:
        document["until"] = predicate(document["until"])
    if not attributes.get("sync", True):
        document["detached"] = True
    return document


def task(identity: str, attributes: dict[str, Any]) -> dict[str, Any]:
    """A scenario's task in this format."""
    document = {name: value for name, value in attributes.items() if name not in ("cancel", "mi", "timer")}
    document["id"] = identity
    if "cancel" in attributes:
        document["cancels"] = [renamed(each) for each in attributes["cancel"]]
    if "mi" in attributes:
        document["multiple"] = multiple(attributes["mi"])
    if "timer" in attributes:
        document["timer"] = f"{attributes['timer']}s"
    elif "subnet" not in attributes:
        document["manual"] = {}
    return document


def flow(source: str, target: str, options: dict[str, Any]) -> dict[str, Any]:
    """A scenario's flow in this format."""
    document: dict[str, Any] = {"from": renamed(source), "to": renamed(target)}
    if "when" in options:
        document["when"] = predicate(options["when"])
    if "default" in options:
        document["default"] = options["default"]
    if "n" in options:
        document["weight"] = options["n"]
    return document


def document(net: dict[str, Any]) -> dict[str, Any]:
    """A scenario's net in this format."""
    translated = {
        "tasks": [task(identity, attributes) for identity, attributes in net["tasks"].items()],
        "conditions": net["conditions"],
        "flows": [flow(each[0], each[1], each[2] if len(each) > 2 else {}) for each in net["flows"]],
        "termination": net.get("termination", "explicit"),
    }
    if "subnets" in net:
        translated["subnets"] = {name: document(each) for name, each in net["subnets"].items()}
    return translated


def scenarios() -> list[Any]:
    """The scenarios, or one that is skipped and says why."""
    if not CASES.exists():
        return [pytest.param({}, marks=pytest.mark.skip(reason=f"{CASES} is absent"))]
    return [pytest.param(each, id=each["id"]) for each in json.loads(CASES.read_text())]


@pytest.mark.parametrize("scenario", scenarios())
def test_scenario_nets_are_well_formed(scenario: dict[str, Any]) -> None:
    """The net of each public pattern scenario has no problem, and survives both texts."""
    specification = from_document({"id": scenario["id"], **document(scenario["net"])})

    assert specification.problems() == ()
    assert Specification.from_json(specification.to_json()) == specification
    assert parse_yaml(specification.to_yaml()) == specification
