"""The content hash: what changes it, and what does not."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from knhk.spec import Specification, content_hash, from_document, parse_json, parse_yaml

TREE: dict[str, Any] = {
    "id": "s",
    "tasks": [
        {"id": "a", "split": "xor", "timer": "90m", "cancels": ["b", "c"]},
        {"id": "b", "handler": "h", "retry": {"coefficient": 2}},
    ],
    "conditions": ["c"],
    "flows": [
        {"from": "start", "to": "a"},
        {"from": "a", "to": "b", "when": "data.x"},
        {"from": "a", "to": "c", "when": "data.y"},
        {"from": "b", "to": "end"},
    ],
    "subnets": {"n": {}, "m": {"termination": "implicit"}},
    "data": {"multipleOf": 1, "type": "object"},
}


def edited(edit: Callable[[dict[str, Any]], object]) -> str:
    """The hash of the tree after an edit."""
    tree = copy.deepcopy(TREE)
    edit(tree)
    return from_document(tree).content_hash


SAME: dict[str, Callable[[dict[str, Any]], object]] = {
    "the version is the default": lambda tree: tree.update(version=1),
    "defaults are written": lambda tree: tree["tasks"][0].update(reads=[], name="", replayable=False),
    "tasks have another order": lambda tree: tree["tasks"].reverse(),
    "tasks are a map": lambda tree: tree.update(tasks={"b": tree["tasks"][1], "a": tree["tasks"][0]}),
    "conditions are a map": lambda tree: tree.update(conditions={"c": None}),
    "a duration is spelt otherwise": lambda tree: tree["tasks"][0].update(timer="1.5h"),
    "a number is spelt otherwise": lambda tree: tree["data"].update(multipleOf=1.0),
    "a coefficient is the default": lambda tree: tree["tasks"][1].update(retry={"coefficient": 2.0}),
    "members have another order": lambda tree: tree.update(data=dict(reversed(tree["data"].items()))),
    "subnets have another order": lambda tree: tree.update(subnets=dict(reversed(tree["subnets"].items()))),
}

OTHER: dict[str, Callable[[dict[str, Any]], object]] = {
    "flows have another order": lambda tree: tree["flows"].insert(1, tree["flows"].pop(2)),
    "another id": lambda tree: tree.update(id="t"),
    "another version": lambda tree: tree.update(version="1.0"),
    "a name": lambda tree: tree.update(name="S"),
    "another predicate": lambda tree: tree["flows"][1].update(when="data.z"),
    "a weight": lambda tree: tree["flows"][3].update(weight=2),
    "a subnet is gone": lambda tree: tree["subnets"].pop("n"),
    "no data schema": lambda tree: tree.pop("data"),
    "an empty data schema": lambda tree: tree.update(data={}),
    "a retry with defaults is a retry": lambda tree: tree["tasks"][1].pop("retry"),
}


@pytest.mark.parametrize("edit", SAME.values(), ids=SAME.keys())
def test_layout_does_not_change_the_hash(edit: Callable[[dict[str, Any]], object]) -> None:
    """What is only another spelling has the same hash."""
    assert edited(edit) == edited(lambda _: None)


def test_content_changes_the_hash() -> None:
    """Each other content has another hash, also from one another."""
    hashes = {edited(edit) for edit in OTHER.values()} | {edited(lambda _: None)}

    assert len(hashes) == len(OTHER) + 1


def test_the_hash_is_sha_256_of_the_canonical_form() -> None:
    """The hash is stable over releases and texts: a stored registration keeps its name."""
    specification = Specification(id="s")
    expected = hashlib.sha256(b'{"id":"s"}').hexdigest()

    assert specification.content_hash == expected
    assert content_hash(specification) == expected
    assert parse_json('{"version": "1", "id": "s"}').content_hash == expected
    assert parse_yaml("id: s\nflows: []").content_hash == expected
