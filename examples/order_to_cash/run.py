"""Order to cash: a thousand orders on one SQLite file, killed halfway and resumed, and every order charged exactly once."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from showcase import DAY, Showcase, World, read_rows, trace  # noqa: E402 - found by the line above

from knhk import Engine, RunningCase, Work  # noqa: E402
from knhk.testing.clock import ManualClock  # noqa: E402

ORDERS_PER_DAY = 100


class OrderToCash(Showcase):
    """A thousand orders: data, handlers, and what customers, the approver and time do."""

    title = "Order to cash"
    specification = HERE / "order.json"
    rows = read_rows(HERE / "orders.csv")
    killed_in = "charge"

    def data(self, row: dict[str, str]) -> dict[str, Any]:
        """Return the order; what the customer and the approver will do is not part of it."""
        lines = [line.split("*") for line in row["lines"].split(";")]
        return {
            "id": row["id"],
            "customer": row["customer"],
            "amount": float(row["amount"]),
            "credit_rating": row["credit"],
            "lines": [{"article": article, "quantity": int(quantity)} for article, quantity in lines],
            **{each: row[each] == "yes" for each in ("gift", "insured", "express")},
        }

    def handlers(self, engine: Engine, world: World) -> None:
        """Register what programs do; what touches the world outside has its effect there."""
        answers(engine)

        @engine.handler("insure")
        def insure(work: Work) -> None:
            world.effect("insure", work, of=work.data["id"], amount=work.data["amount"])

        @engine.handler("charge")
        def charge(work: Work) -> dict[str, Any]:
            world.effect("charge", work, of=work.data["id"], amount=work.data["amount"])
            return {"charged": work.data["amount"]}

        @engine.handler("ship")
        def ship(work: Work) -> dict[str, Any]:
            world.effect("ship", work, of=work.data["id"])
            return {"outcome": "shipped"}

        @engine.handler("release")
        def release(work: Work) -> dict[str, Any]:
            world.effect("release", work, of=work.data["id"])
            if work.data.get("approved") is False:
                return {"outcome": "rejected"}
            return {"outcome": "withdrawn" if "cancelled_because" in work.data else "expired"}

    def play(self, engine: Engine, clock: ManualClock, rows: list[dict[str, str]]) -> None:
        """Take the orders in, a hundred a day; customers do what they do, and in the evening the approver decides."""
        decisions = {row["id"]: row["approver"] for row in rows}
        over = {header.case_id for header in engine.cases(state="completed")}
        for first in range(0, len(rows), ORDERS_PER_DAY):
            day = rows[first : first + ORDERS_PER_DAY]
            for row in day:
                case = self.case(engine, row)
                if case.id not in over and case.run().state == "running":
                    customer(case, row)
            approver(engine, decisions)
            engine.tick()
            engine.run_pending()
            print(f"  day {first // ORDERS_PER_DAY + 1:2}: {first + len(day):5,} orders", flush=True)
            clock.advance(DAY)
        clock.advance(3 * DAY)
        engine.tick()
        engine.run_pending()

    def expected(self, row: dict[str, str]) -> str:
        """Return what must become of an order."""
        if row["customer_does"] == "cancels":
            return "withdrawn"
        if asks_approver(row) and row["approver"] == "refuses":
            return "rejected"
        return "shipped" if row["customer_does"] == "pays" else "expired"

    def effects(self, row: dict[str, str]) -> dict[str, int]:
        """Return what must have been insured, charged, shipped and given back."""
        # What needs no approver is ready before the customer does anything.
        ready = not asks_approver(row) or (row["approver"] == "approves" and row["customer_does"] != "cancels")
        insured = {"insure": 1} if ready and row["insured"] == "yes" else {}
        return {**insured, **({"charge": 1, "ship": 1} if self.expected(row) == "shipped" else {"release": 1})}

    def figures(
        self, engine: Engine, database: Path, lines: list[dict[str, Any]], seconds: float
    ) -> list[tuple[str, str]]:
        """Return how often was charged, and how much was done how fast."""
        charges = Counter(line["of"] for line in lines if line["action"] == "charge" and line["effect"])
        cases = [engine.case(header.case_id) for header in engine.cases()]
        size = sum(each.stat().st_size for each in (database, Path(f"{database}-wal")) if each.exists())
        steps = sum(len(trace(case)) for case in cases)
        commits = sum(len(engine.store.history(case.id)) for case in cases)
        return [
            ("charged exactly once", f"{sum(times == 1 for times in charges.values()):,}"),
            ("charged more than once", f"{sum(times > 1 for times in charges.values()):,}"),
            ("cases left open", f"{sum(case.state != 'completed' for case in cases):,}"),
            ("tasks completed (steps)", f"{steps:,}"),
            ("commits", f"{commits:,}"),
            ("bytes per case in the file", f"{size / len(cases):,.0f}"),
            ("cases/s", f"{len(cases) / seconds:,.0f}"),
            ("steps/s", f"{steps / seconds:,.0f}"),
        ]


def asks_approver(row: dict[str, str]) -> bool:
    """Whether an order is large, or not small and its customer's credit poor."""
    return float(row["amount"]) >= 1_000 or (float(row["amount"]) >= 100 and row["credit"] == "poor")


def answers(engine: Engine) -> None:
    """Register the handlers that have no effect outside: they are replayable."""

    @engine.handler("check_credit")
    def check_credit(work: Work) -> dict[str, Any]:
        return {"credit": work.data["credit_rating"]}

    @engine.handler("reserve")
    def reserve(work: Work) -> dict[str, Any]:
        # Reserving under the order's id again changes nothing, so it needs no ledger.
        return {"reserved_as": work.data["id"]}

    @engine.handler("screen")
    def screen(work: Work) -> dict[str, Any]:
        return {"screened": len(work.data["customer"]) == 6}

    @engine.handler("pick")
    def pick(work: Work) -> dict[str, Any]:
        return {f"picked_{work.index}": f"{work.item['quantity']} x {work.item['article']}"}

    @engine.handler("wrap")
    def wrap(_: Work) -> dict[str, Any]:
        return {"paper": "red"}

    @engine.handler("express")
    def express(_: Work) -> dict[str, Any]:
        return {"carrier": "express"}

    @engine.handler("pack")
    def pack(work: Work) -> dict[str, Any]:
        return {"parcels": 1 + len(work.data["lines"]) // 4}


# --- people -----------------------------------------------------------------------------------------------------------


def customer(case: RunningCase, row: dict[str, str]) -> None:
    """The customer pays, cancels or does nothing; an event that nobody waits for any more has no effect."""
    if row["customer_does"] == "pays":
        case.send_event("payment", {"paid_with": f"card of {row['customer']}"})
    elif row["customer_does"] == "cancels":
        case.send_event("cancel", {"cancelled_because": "changed my mind"})
    case.run()


def approver(engine: Engine, decisions: dict[str, str]) -> None:
    """Work through the worklist, except what is left lying."""
    for item in list(engine.work_items(state="offered")):
        case = engine.case(item.case_id)
        decision = decisions[case.data["id"]]
        if decision != "absent":
            case.complete_task(item.path, {"approved": decision == "approves"}, by="ann")
            case.run()


if __name__ == "__main__":
    sys.exit(OrderToCash().main(__file__))
