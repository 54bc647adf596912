"""Incident response: an alarm from outside, the first who answers, a manager when nobody does, and incidents within incidents."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from showcase import Showcase, World, read_rows  # noqa: E402 - found by the line above

from knhk import Engine, RunningCase, Work  # noqa: E402
from knhk.testing.clock import ManualClock  # noqa: E402


class IncidentResponse(Showcase):
    """A hundred services in which something is wrong: data, handlers, and what the people on call do."""

    title = "Incident response"
    specification = HERE / "incident.yaml"
    rows = read_rows(HERE / "incidents.csv")

    def data(self, row: dict[str, str]) -> dict[str, Any]:
        """Return the service that is watched."""
        return {"id": row["id"], "service": row["service"], "incidents": 0}

    def handlers(self, engine: Engine, world: World) -> None:
        """Register what programs do."""

        @engine.handler("page")
        def page(work: Work) -> dict[str, Any]:
            world.effect("page", work, of=work.data["id"])
            return {"incidents": work.data["incidents"] + 1}

        @engine.handler("stand_down")
        def stand_down(work: Work) -> dict[str, Any]:
            world.effect("stand_down", work, of=work.data["id"])
            return {"outcome": "false alarm"}

        @engine.handler("resolve")
        def resolve(work: Work) -> dict[str, Any]:
            world.effect("resolve", work, of=work.data["id"])
            return {"outcome": f"resolved, incidents: {work.data['incidents']}"}

    def play(self, engine: Engine, clock: ManualClock, rows: list[dict[str, str]]) -> None:
        """The monitoring calls, and whoever is on call answers or does not."""
        for row in rows:
            case = self.case(engine, row).run()
            # A call that is repeated, as the first may not have been heard, has the same key and is one call.
            engine.send_event("alarm", {"service": row["service"]}, idempotency_key=f"alarm {row['id']}")
            case.run()
            responders = row["responders"].split("+")
            for level, responder in enumerate(responders):
                net = "incident/" + "sub_incident/" * level
                last = level == len(responders) - 1
                answer(case, clock, net, responder, finding(row) if last else "elsewhere")
                if f"{net}fix" in case.enabled:
                    fix(case, clock, net, responder)

    def outcome(self, case: RunningCase) -> str:
        """Return what became of an incident that is over."""
        return str(case.data["outcome"]) if case.state == "completed" else case.state

    def expected(self, row: dict[str, str]) -> str:
        """Return what must become of an incident."""
        return "false alarm" if row["finding"] == "nothing" else f"resolved, incidents: {depth(row)}"

    def effects(self, row: dict[str, str]) -> dict[str, int]:
        """Return the calls and messages that must have been made."""
        if row["finding"] == "nothing":
            return {"page": 1, "stand_down": 1}
        return {"page": depth(row), "resolve": depth(row)}


def depth(row: dict[str, str]) -> int:
    """Return how many incidents there are, one within the other."""
    return len(row["responders"].split("+"))


def finding(row: dict[str, str]) -> str:
    """Return what the innermost responder finds."""
    return "nothing" if row["finding"] == "nothing" else "here"


# --- people ---------------------------------------------------------------------------------------------------------------


def answer(case: RunningCase, clock: ManualClock, net: str, responder: str, found: str) -> None:
    """Answer a call that nobody has answered; the manager is called when a quarter of an hour has passed."""
    if f"{net}primary" not in case.enabled:
        return
    if responder == "manager" and f"{net}manager" not in case.enabled:
        let_pass(case, clock)
    case.complete_task(f"{net}{responder}", {"finding": found}, by=responder)
    case.run()
    assert not [each for each in case.enabled if each in (f"{net}primary", f"{net}secondary", f"{net}manager")]


def fix(case: RunningCase, clock: ManualClock, net: str, responder: str) -> None:
    """Mend what is broken, which takes a while: the customers are told once in the meantime."""
    let_pass(case, clock)
    case.complete_task(f"{net}fix", by=responder)
    case.run()


def let_pass(case: RunningCase, clock: ManualClock) -> None:
    """Let the time pass until the next timer of a case is due."""
    due = case.next_due
    assert due is not None
    clock.advance(max(0, due - clock.now()))
    case.tick()
    case.run()


if __name__ == "__main__":
    sys.exit(IncidentResponse().main(__file__))
