"""An office for the tests of people's work: who is there, and engines that know them."""

from __future__ import annotations

from typing import Any

import knhk
from knhk.testing.clock import ManualClock

HOUR = 3_600_000
OFFICE: dict[str, Any] = {
    "roles": {"clerk": None, "senior": {"belongs_to": "clerk"}, "auditor": None},
    "capabilities": ["dutch", "forklift"],
    "positions": {"teller": {"reports_to": "head"}, "head": None},
    "participants": {
        "ann": {"roles": ["clerk"], "capabilities": ["dutch"], "positions": ["teller"]},
        "ben": {"roles": ["clerk"], "capabilities": ["dutch", "forklift"]},
        "cleo": {"roles": ["senior"], "positions": ["head"]},
        "dora": {"roles": ["auditor"]},
        "gone": {"roles": ["clerk"], "active": False},
        "root": {"administrator": True},
    },
}
EVERY_PRIVILEGE = ["suspend", "deallocate", "delegate", "reallocate", "skip", "pile", "chain"]


def office() -> knhk.Organisation:
    """Ann, Ben and Cleo are clerks, Dora audits, Root administers; Ann reports to Cleo."""
    return knhk.Organisation.from_dict(OFFICE)


def work_of(tasks: dict[str, Any], *, parallel: bool = False, name: str = "work") -> knhk.Specification:
    """A specification with these manual tasks, one after the other or all at once."""
    members = {task: {"manual": manual} for task, manual in tasks.items()}
    names = list(tasks)
    if parallel:
        members |= {"fork": {"split": "and"}, "join": {"join": "and"}}
        flows = [("start", "fork"), *(("fork", each) for each in names), *((each, "join") for each in names)]
        flows.append(("join", "end"))
    else:
        flows = list(zip(["start", *names], [*names, "end"], strict=True))
    tree = {"id": name, "tasks": members, "flows": [{"from": source, "to": target} for source, target in flows]}
    return knhk.Specification.from_dict(tree)


def begun(
    tasks: dict[str, Any],
    *,
    parallel: bool = False,
    directory: knhk.Directory | None = None,
    data: dict[str, Any] | None = None,
    target: str = "memory:",
) -> tuple[knhk.Engine, knhk.RunningCase]:
    """An engine that knows the office, and a case of these tasks that waits for people."""
    engine = knhk.Engine(target, directory=directory or office(), clock=ManualClock(0))
    engine.register(work_of(tasks, parallel=parallel))
    return engine, engine.create_case("work", data).run()


def queues(engine: knhk.Engine, participant: str) -> dict[str, list[str]]:
    """The paths of a participant's work by queue; empty queues are left out."""
    found = engine.worklist(participant)
    each = {
        "offered": found.offered(),
        "allocated": found.allocated(),
        "started": found.started(),
        "suspended": found.suspended(),
    }
    paths = {name: [row.path for row in rows] for name, rows in each.items()}
    return {name: listed for name, listed in paths.items() if listed}
