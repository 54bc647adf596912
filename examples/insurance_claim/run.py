"""Insurance claim: documents asked for on the way, one reserve for two estimates, an advance in its time, a file that is reopened."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from showcase import DAY, Showcase, World, read_rows  # noqa: E402 - found by the line above

from knhk import Engine, RunningCase, Work  # noqa: E402
from knhk.testing.clock import ManualClock  # noqa: E402


class InsuranceClaim(Showcase):
    """A hundred claims: data, handlers, and what clerks, adjusters and claimants do."""

    title = "Insurance claim"
    specification = HERE / "claim.yaml"
    rows = read_rows(HERE / "claims.csv")

    def data(self, row: dict[str, str]) -> dict[str, Any]:
        """Return the claim as it is reported."""
        documents = row["documents"].split("+")
        return {"id": row["id"], "loss": row["loss"], "documents": documents, "bad": 0, "reserve": 0, "round": 1}

    def handlers(self, engine: Engine, world: World) -> None:
        """Register what programs do."""

        @engine.handler("book")
        def book(work: Work) -> dict[str, Any]:
            reserve = work.data["reserve"] + work.data["estimate"]
            world.effect("reserve", work, of=work.data["id"], amount=reserve)
            return {"reserve": reserve}

        @engine.handler("refuse")
        def refuse(work: Work) -> dict[str, Any]:
            world.effect("refuse", work, of=work.data["id"])
            return {"outcome": "refused"}

        @engine.handler("advance")
        def advance(work: Work) -> dict[str, Any]:
            world.effect("advance", work, of=work.data["id"], amount=work.data["reserve"] // 2)
            return {}

        @engine.handler("pay")
        def pay(work: Work) -> dict[str, Any]:
            world.effect("pay", work, of=work.data["id"], amount=work.data["reserve"])
            return {"outcome": "paid" if work.data["round"] == 1 else "paid when reopened"}

    def play(self, engine: Engine, clock: ManualClock, rows: list[dict[str, str]]) -> None:
        """Documents come in, adjusters estimate and settle, claimants object, and thirty days pass."""
        for row in rows:
            case = self.case(engine, row).run()
            work_through(case, row)
            if row["reopened"] == "yes" and at(case, "closed") and case.data["round"] == 1:
                case.send_event("reopened", {"documents": ["second opinion"], "bad": 0, "reserve": 0, "round": 2})
                case.run()
            if case.data["round"] == 2:
                work_through(case, row)
        clock.advance(31 * DAY)
        engine.tick()
        engine.run_pending()

    def outcome(self, case: RunningCase) -> str:
        """Return what became of a claim, once its file is archived."""
        return str(case.data["outcome"]) if case.state == "completed" else case.state

    def expected(self, row: dict[str, str]) -> str:
        """Return what must become of a claim."""
        if row["reopened"] == "yes":
            return "paid when reopened"
        return "paid" if row["valid"] == "yes" else "refused"

    def effects(self, row: dict[str, str]) -> dict[str, int]:
        """Return the bookings, letters and payments that must have been made."""
        rounds = 2 if row["reopened"] == "yes" else 1
        valid = row["valid"] == "yes"
        payments = rounds if valid else rounds - 1
        wanted = {
            "reserve": 2 * rounds,
            "refuse": int(not valid),
            "pay": payments,
            "advance": int(valid and row["advance"] == "in time"),
        }
        return {action: count for action, count in wanted.items() if count}


def at(case: RunningCase, condition: str) -> bool:
    """Whether a condition of the net is marked."""
    return condition in case.marking.get("", {})


# --- people ---------------------------------------------------------------------------------------------------------------


def work_through(case: RunningCase, row: dict[str, str]) -> None:
    """Bring a claim from wherever it is to where it is closed."""
    first = case.data["round"] == 1
    if "documents" in case.enabled:
        case.start_task("documents", by="clerk")
    documents(case, row["asked"] if first else "", valid=row["valid"] == "yes" or not first)
    for kind in ("damage", "injury") if row["first"] == "damage" else ("injury", "damage"):
        estimate(case, kind, int(row[kind]))
    if first and row["advance"] == "in time" and at(case, "accepted") and at(case, "advance_open"):
        case.send_event("advance_wanted")
        case.run()
    if "settle" in case.enabled:
        case.complete_task("settle", by="ada")
        case.run()
    if first and row["advance"] == "too late" and at(case, "closed"):
        case.send_event("advance_wanted")
        case.run()


def documents(case: RunningCase, asked: str, *, valid: bool) -> None:
    """Ask for one more document where one is missing, then take them in; the first is the one that may be bad."""
    count = len(case.data["documents"])
    if asked and "documents#1" in case.running and f"documents#{count + 1}" not in case.running:
        case.add_instance("documents", asked)
    for number in range(1, count + 2):
        if f"documents#{number}" in case.running:
            case.complete_task(f"documents#{number}", {"valid": valid or number != 1}, by="clerk")


def estimate(case: RunningCase, kind: str, amount: int) -> None:
    """Estimate and book: until it is booked, the other estimate is not on offer."""
    if f"estimate_{kind}" not in case.enabled:
        return
    case.complete_task(f"estimate_{kind}", {"estimate": amount}, by="ada")
    assert not [each for each in case.enabled if each.startswith("estimate_")]
    case.run()


if __name__ == "__main__":
    sys.exit(InsuranceClaim().main(__file__))
