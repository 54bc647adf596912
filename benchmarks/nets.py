"""The specifications that benchmarks run, each as small as its purpose allows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from knhk import Specification


def line(name: str, count: int, **task: Any) -> Specification:
    """Tasks one after the other."""
    ids = [f"t{number}" for number in range(count)]
    ends = ["start", *ids, "end"]
    return Specification.from_dict(
        {
            "id": name,
            "tasks": [{"id": each, **task} for each in ids],
            "flows": [{"from": a, "to": b} for a, b in itertools.pairwise(ends)],
        }
    )


def ring(count: int) -> Specification:
    """A net of `count` manual tasks in a ring, so that steps can be made for ever and the net's size is all that differs."""
    ids = [f"t{number}" for number in range(count)]
    flows: list[dict[str, Any]] = [{"from": "start", "to": "enter"}, {"from": "enter", "to": ids[0]}]
    flows += [{"from": a, "to": b} for a, b in itertools.pairwise(ids)]
    flows += [
        {"from": ids[-1], "to": ids[0], "default": True},
        {"from": ids[-1], "to": "end", "when": "has(data.stop)"},
    ]
    tasks: list[dict[str, Any]] = [{"id": each, "manual": {}} for each in ids]
    tasks[0]["join"] = "xor"
    tasks[-1]["split"] = "xor"
    return Specification.from_dict({"id": f"ring{count}", "tasks": [{"id": "enter"}, *tasks], "flows": flows})


def fork(
    name: str, branches: int, kind: str, *, whens: Sequence[str] = (), task: dict[str, Any] | None = None
) -> Specification:
    """
    A split of one kind (and, xor, or), one task a branch, and a join of the same kind.

    Args:
        whens: the predicates of the branches; the last branch is the default where there are any.
        task: what the tasks do besides.
    """
    does = task or {}
    ids = [f"b{number}" for number in range(branches)]
    out: list[dict[str, Any]] = [{"from": "fork", "to": each} for each in ids]
    for flow, when in zip(out, whens, strict=False):
        flow["when"] = when
    if whens:
        del out[-1]["when"]
        out[-1]["default"] = True
    return Specification.from_dict(
        {
            "id": name,
            "tasks": [
                {"id": "fork", "split": kind, **does},
                *({"id": each, **does} for each in ids),
                {"id": "join", "join": kind, **does},
            ],
            "flows": [
                {"from": "start", "to": "fork"},
                *out,
                *({"from": each, "to": "join"} for each in ids),
                {"from": "join", "to": "end"},
            ],
        }
    )


def loop(name: str, turns: int, **task: Any) -> Specification:
    """One task that runs `turns` times: it counts ``data.n``, and its split leads back while that is smaller."""
    return Specification.from_dict(
        {
            "id": name,
            "tasks": [{"id": "turn", "join": "xor", "split": "xor", **task}],
            "flows": [
                {"from": "start", "to": "turn"},
                {"from": "turn", "to": "turn", "when": f"data.n < {turns}"},
                {"from": "turn", "to": "end", "default": True},
            ],
        }
    )


def instances(name: str, count: int, **task: Any) -> Specification:
    """One task with `count` instances that all must complete."""
    return Specification.from_dict(
        {
            "id": name,
            "tasks": [{"id": "each", "multiple": {"count": count, "creation": "static"}, **task}],
            "flows": [{"from": "start", "to": "each"}, {"from": "each", "to": "end"}],
        }
    )


def blocks(name: str) -> Specification:
    """Patterns 1 to 5 in a ring: a sequence, a parallel split and its synchronisation, a choice and its merge."""
    return Specification.from_dict(
        {
            "id": name,
            "tasks": [
                {"id": "enter", "join": "xor", "manual": {}},
                {"id": "split", "split": "and", "manual": {}},
                {"id": "left", "manual": {}},
                {"id": "right", "manual": {}},
                {"id": "meet", "join": "and", "manual": {}},
                {"id": "choose", "split": "xor", "manual": {}},
                {"id": "one", "manual": {}},
                {"id": "other", "manual": {}},
                {"id": "merge", "join": "xor", "split": "xor", "manual": {}},
            ],
            "flows": [
                {"from": "start", "to": "enter"},
                {"from": "enter", "to": "split"},
                {"from": "split", "to": "left"},
                {"from": "split", "to": "right"},
                {"from": "left", "to": "meet"},
                {"from": "right", "to": "meet"},
                {"from": "meet", "to": "choose"},
                {"from": "choose", "to": "one", "when": "data.one"},
                {"from": "choose", "to": "other", "default": True},
                {"from": "one", "to": "merge"},
                {"from": "other", "to": "merge"},
                {"from": "merge", "to": "enter", "default": True},
                {"from": "merge", "to": "end", "when": "has(data.stop)"},
            ],
        }
    )


def chains(name: str, branches: int, *, cancelling: bool = False) -> Specification:
    """
    An OR-split into chains of two tasks, each of which may loop, that meet in an OR-join.

    Args:
        cancelling: the last task of each chain empties what the next chain gave the join.
    """
    tasks: list[dict[str, Any]] = [{"id": "fork", "split": "or", "manual": {}}]
    flows: list[dict[str, Any]] = [{"from": "start", "to": "fork"}]
    for number in range(branches):
        first, last = f"a{number}", f"z{number}"
        tasks.append({"id": first, "join": "xor", "manual": {}})
        tasks.append({"id": last, "split": "xor", "manual": {}})
        if cancelling:
            tasks[-1]["cancels"] = [f"c{(number + 1) % branches}"]
        leave: dict[str, Any] = {"default": True} if number == branches - 1 else {"when": f"data.b{number}"}
        flows += [
            {"from": "fork", "to": first, **leave},
            {"from": first, "to": last},
            {"from": last, "to": first, "when": "has(data.again)"},
            {"from": last, "to": f"c{number}", "default": True},
            {"from": f"c{number}", "to": "join"},
        ]
    tasks.append({"id": "join", "join": "or", "manual": {}})
    flows.append({"from": "join", "to": "end"})
    conditions = [{"id": f"c{number}"} for number in range(branches)]
    return Specification.from_dict({"id": name, "tasks": tasks, "conditions": conditions, "flows": flows})
