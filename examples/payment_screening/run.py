"""Payment screening: the first hit stops a payment, two officers release it, and what the network refuses is undone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from showcase import MINUTE, Showcase, World, read_rows  # noqa: E402 - found by the line above

from knhk import Engine, Forbidden, Organisation, RunningCase, Work  # noqa: E402
from knhk.testing.clock import ManualClock  # noqa: E402

CHECKS = ("sanctions", "fraud", "limits")


class RefusedByNetwork(Exception):
    """The network does not take the payment."""


class PaymentScreening(Showcase):
    """A hundred payments: data, handlers, and what officers and the network do."""

    title = "Payment screening"
    specification = HERE / "payment.yaml"
    rows = read_rows(HERE / "payments.csv")

    def make_engine(self, database: str, clock: ManualClock) -> Engine:
        """Return an engine that knows the two officers."""
        people = {name: {"roles": ["officer"]} for name in ("ann", "ben")}
        bank = Organisation.from_dict({"roles": ["officer"], "participants": people})
        return Engine(database, clock=clock, directory=bank)

    def data(self, row: dict[str, str]) -> dict[str, Any]:
        """Return the payment."""
        return {"id": row["id"], "payer": row["payer"], "legs": [int(each) for each in row["legs"].split("+")]}

    def handlers(self, engine: Engine, world: World) -> None:
        """Register what programs do."""
        payments = {row["id"]: row for row in self.rows}

        @engine.handler("screen")
        def screen(work: Work) -> dict[str, Any]:
            return {"hit": payments[work.data["id"]][work.data["check"]] == "hit"}

        @engine.handler("confirm")
        def confirm(work: Work) -> dict[str, Any]:
            if work.data["network"] == "refused":
                raise RefusedByNetwork(work.data["id"])
            return {}

        def ends(name: str, outcome: str) -> None:
            @engine.handler(name)
            def end(work: Work) -> dict[str, Any]:
                world.effect(name, work, of=work.data["id"])
                return {"outcome": outcome}

        def moves(name: str) -> None:
            @engine.handler(name)
            def move(work: Work) -> dict[str, Any]:
                world.effect(name, work, of=work.data["id"])
                return {}

        for name in ("debit", "credit_back", "leg", "return_leg"):
            moves(name)
        for name, outcome in (("settled", "settled"), ("returned", "returned"), ("reject", "refused by the officers")):
            ends(name, outcome)

    def play(self, engine: Engine, clock: ManualClock, rows: list[dict[str, str]]) -> None:
        """Officers look at what was stopped, and the network answers."""
        for row in rows:
            clock.advance(MINUTE)
            case = self.case(engine, row).run()
            officers(case, row)
            answer = {"payment": row["id"], "network": row["network"]}
            if "settlement" in case.marking or case.state == "compensating":
                engine.send_event("acknowledgement", answer, idempotency_key=f"acknowledgement {row['id']}")
                case.run()

    def outcome(self, case: RunningCase) -> str:
        """Return what became of a payment that is over."""
        return str(case.data["outcome"]) if case.state == "completed" else case.state

    def expected(self, row: dict[str, str]) -> str:
        """Return what must become of a payment."""
        hit = any(row[check] == "hit" for check in CHECKS)
        if hit and "refuse" in (row["first"], row["second"]):
            return "refused by the officers"
        return "settled" if row["network"] == "accepted" else "returned"

    def effects(self, row: dict[str, str]) -> dict[str, int]:
        """Return the movements and letters that must have been made."""
        outcome = self.expected(row)
        if outcome == "refused by the officers":
            return {"reject": 1}
        legs = row["legs"].count("+") + 1
        moved = {"debit": 1, "leg": legs, outcome: 1}
        return moved if outcome == "settled" else {**moved, "credit_back": 1, "return_leg": legs}


# --- people ---------------------------------------------------------------------------------------------------------------


def officers(case: RunningCase, row: dict[str, str]) -> None:
    """Look at a payment twice: whoever looked first is refused the second look."""
    if "first_look" in case.enabled:
        case.complete_task("first_look", {"release": row["first"] == "release"}, by="ann")
    if "second_look" in case.enabled:
        try:
            case.complete_task("second_look", {"release": True}, by="ann")
        except Forbidden:
            case.complete_task("second_look", {"release": row["second"] == "release"}, by="ben")
        else:
            raise AssertionError(f"{row['id']}: one officer looked twice")
    case.run()


if __name__ == "__main__":
    sys.exit(PaymentScreening().main(__file__))
