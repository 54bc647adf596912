"""Loan approval: two of three bureaus, checks at one desk, a committee whose vote may be decided early, an offer that runs out."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from showcase import DAY, Showcase, World, read_rows  # noqa: E402 - found by the line above

from knhk import Engine, HandlerError, RunningCase, Work  # noqa: E402
from knhk.testing.clock import ManualClock  # noqa: E402


class LoanApproval(Showcase):
    """A hundred applications: data, handlers, and what clerks, committee and customers do."""

    title = "Loan approval"
    specification = HERE / "loan.yaml"
    rows = read_rows(HERE / "loans.csv")

    def data(self, row: dict[str, str]) -> dict[str, Any]:
        """Return the application; what people will decide is no part of it."""
        members = [f"member-{number}" for number in (1, 2, 3)]
        return {
            "id": row["id"],
            "person": row["person"],
            "amount": int(row["amount"]),
            "committee": members,
            "yes": 0,
            "no": 0,
        }

    def handlers(self, engine: Engine, world: World) -> None:
        """Register what programs do."""
        applications = {row["id"]: row for row in self.rows}

        @engine.handler("bureau")
        def bureau(work: Work) -> dict[str, Any]:
            answer = applications[work.data["application"]][work.data["bureau"]]
            if answer == "down":
                raise ConnectionError(f"bureau {work.data['bureau']} does not answer")
            return {"score": int(answer)}

        @engine.handler("score")
        def score(work: Work) -> dict[str, Any]:
            answers = sorted(work.data[each] for each in ("north", "south", "west") if each in work.data)
            return {"score": answers[0]}

        @engine.handler("offer")
        def offer(work: Work) -> dict[str, Any]:
            world.effect("offer", work, of=work.data["id"], amount=work.data["amount"])
            return {"offered": work.data["amount"]}

        @engine.handler("pay_out")
        def pay_out(work: Work) -> dict[str, Any]:
            world.effect("pay_out", work, of=work.data["id"], amount=work.data["amount"])
            return {"outcome": "paid out"}

        @engine.handler("close")
        def close(work: Work) -> dict[str, Any]:
            data = work.data
            if "outcome" in data:
                return {}
            if "offered" in data:
                return {"outcome": data.get("answer", "expired")}
            return {"outcome": "refused by the committee" if data["no"] >= 2 else "score too low"}

    def play(self, engine: Engine, clock: ManualClock, rows: list[dict[str, str]]) -> None:
        """Clerks check, the committee votes, customers answer or do not, and a fortnight passes."""
        for row in rows:
            case = self.case(engine, row)
            go_on(case)
            for check in row["checks"].split("+"):
                clerk(case, f"check_{check}")
            committee(case, row["votes"].split("+"))
            customer(case, row["customer"])
        clock.advance(15 * DAY)
        engine.tick()
        engine.run_pending()

    def expected(self, row: dict[str, str]) -> str:
        """Return what must become of an application."""
        if score_of(row) < 400:
            return "score too low"
        if needs_committee(row) and not is_for(row["votes"].split("+")):
            return "refused by the committee"
        return {"accepts": "paid out", "declines": "declined by the customer", "silent": "expired"}[row["customer"]]

    def effects(self, row: dict[str, str]) -> dict[str, int]:
        """Return the offers and payments that must have been made."""
        outcome = self.expected(row)
        if outcome in ("score too low", "refused by the committee"):
            return {}
        return {"offer": 1, "pay_out": 1} if outcome == "paid out" else {"offer": 1}


def score_of(row: dict[str, str]) -> int:
    """Return the lowest answer of the bureaus that answer."""
    return min(int(row[each]) for each in ("north", "south", "west") if row[each] != "down")


def needs_committee(row: dict[str, str]) -> bool:
    """Whether the amount or the score asks for a vote."""
    return int(row["amount"]) > 20_000 or score_of(row) < 650


def is_for(votes: list[str]) -> bool:
    """Whether the committee is for it: two of three votes, where the chair breaks a tie of the first two."""
    first, second, _, chair = votes
    return (first if first == second else chair) == "yes"


# --- people ---------------------------------------------------------------------------------------------------------------


def go_on(case: RunningCase) -> None:
    """Do what happens by itself; a bureau that does not answer fails its own work only."""
    with contextlib.suppress(HandlerError):
        case.run()


def clerk(case: RunningCase, check: str) -> None:
    """Do one check: as long as it takes no other is on offer, as there is one desk."""
    if check not in case.enabled:
        return
    case.start_task(check, by="kim")
    assert not [each for each in case.enabled if each.startswith("check_")]
    case.complete_task(check, {f"{check}_by": "kim"}, by="kim")


def committee(case: RunningCase, votes: list[str]) -> None:
    """Vote: the first two; where they differ the chair is called in; whoever is left need not vote any more."""
    if "committee" in case.enabled:
        case.start_task("committee", by="secretary")
    first, second, third, chair = votes
    for member, vote in (("committee#1", first), ("committee#2", second)):
        if member in case.running:
            case.complete_task(member, {"vote": vote == "yes"})
    if "committee#3" in case.running and "committee#4" not in case.running:
        case.add_instance("committee", "the chair")
    if "committee#4" in case.running:
        case.complete_task("committee#4", {"vote": chair == "yes"})
    assert "committee#3" not in case.running, third
    go_on(case)


def customer(case: RunningCase, does: str) -> None:
    """Answer an offer, if there is one that still stands."""
    if case.state != "running" or "offered" not in case.marking.get("", {}):
        return
    if does == "accepts":
        case.send_event("accepted")
    elif does == "declines":
        case.send_event("declined", {"answer": "declined by the customer"})
    go_on(case)


if __name__ == "__main__":
    sys.exit(LoanApproval().main(__file__))
