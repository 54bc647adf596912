"""
A thousand orders on one SQLite file: killed halfway, resumed, and every order charged exactly once.

The parent starts a child that works through the orders, a hundred a day, on a clock of its own.
Halfway (counted in ledger lines, not in time) the child has just charged an order and not yet told the engine: there the
parent kills it with SIGKILL.
A second child does the same job on the same file from the start: what is done is not done again.
Then the parent reads the ledger and the file and checks what came out; it exits with 1 if anything is not as it should be.

The ledger stands for the world outside, such as a payment provider: one line per attempt, synced to the disk before the
handler returns, and an idempotency key that was seen before has no second effect.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from knhk import Engine, RunningCase, Specification, Work
from knhk.journal import decode_batch
from knhk.stores import open_store
from knhk.testing.clock import ManualClock

HERE = Path(__file__).resolve().parent
SPECIFICATION = HERE / "order.json"
ORDERS = HERE / "orders.csv"
DAY = 86_400_000
FIRST_DAY = 1_709_164_800_000
ORDERS_PER_DAY = 100
COMPLETIONS = (3, 5)
"""The journal's records of a completed task: a routing task fired, a task or one of its instances finished."""


class Ledger:
    """
    The world outside: it remembers every attempt and has an effect once per idempotency key.

    Args:
        path: the file, one JSON object a line.
        pause_after: stop for ever at the first charge from this line on, to be killed there; 0 for never.
    """

    def __init__(self, path: Path, pause_after: int = 0) -> None:
        self._seen = {line["key"] for line in read_ledger(path)}
        self._lines = len(read_ledger(path))
        self._pause_after = pause_after
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def attempt(self, action: str, work: Work, **details: Any) -> None:
        """Note an attempt, and have the effect if this piece of work did not have it yet."""
        effect = work.idempotency_key not in self._seen
        line = {
            "key": work.idempotency_key,
            "attempt": work.attempt,
            "action": action,
            "order": work.data["order_id"],
            "effect": effect,
            **details,
        }
        os.write(self._file, json.dumps(line).encode() + b"\n")
        os.fsync(self._file)
        self._seen.add(work.idempotency_key)
        self._lines += 1
        if action == "charge" and 0 < self._pause_after <= self._lines:
            threading.Event().wait()


def read_ledger(path: Path) -> list[dict[str, Any]]:
    """Read the ledger; an empty list if there is none yet."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def read_orders(count: int) -> list[dict[str, str]]:
    """Read the first orders of the file."""
    with ORDERS.open(newline="") as file:
        return list(csv.DictReader(file))[:count]


def case_data(order: dict[str, str]) -> dict[str, Any]:
    """What the engine is told about an order; what the customer and the approver will do is not part of it."""
    lines = [line.split("*") for line in order["lines"].split(";")]
    return {
        "order_id": order["order_id"],
        "customer": order["customer"],
        "amount": float(order["amount"]),
        "credit_rating": order["credit"],
        "lines": [{"article": article, "quantity": int(quantity)} for article, quantity in lines],
        **{each: order[each] == "yes" for each in ("gift", "insured", "express")},
    }


def expected_outcome(order: dict[str, str]) -> str:
    """What must become of an order, from the order alone."""
    amount = float(order["amount"])
    asks_approver = amount >= 1_000 or (amount >= 100 and order["credit"] == "poor")
    if order["customer_does"] == "cancels":
        return "withdrawn"
    if asks_approver and order["approver"] == "refuses":
        return "rejected"
    return "shipped" if order["customer_does"] == "pays" else "expired"


# --- the job: what a child process does -------------------------------------------------------------------------------


def handlers(engine: Engine, ledger: Ledger) -> None:
    """Register the handlers; those that touch the world outside write to the ledger."""

    @engine.handler("check_credit")
    def check_credit(work: Work) -> dict[str, Any]:
        return {"credit": work.data["credit_rating"]}

    @engine.handler("reserve")
    def reserve(work: Work) -> dict[str, Any]:
        # Reserving under the order's id again changes nothing: it is replayable, and needs no ledger.
        return {"reserved_as": work.data["order_id"]}

    @engine.handler("screen")
    def screen(work: Work) -> dict[str, Any]:
        return {"screened": len(work.data["customer"]) == 6}

    @engine.handler("pick")
    def pick(work: Work) -> dict[str, Any]:
        return {f"picked_{work.index}": f"{work.item['quantity']} x {work.item['article']}"}

    @engine.handler("wrap")
    def wrap(_: Work) -> dict[str, Any]:
        return {"paper": "red"}

    @engine.handler("insure")
    def insure(work: Work) -> None:
        ledger.attempt("insure", work, amount=work.data["amount"])

    @engine.handler("express")
    def express(_: Work) -> dict[str, Any]:
        return {"carrier": "express"}

    @engine.handler("pack")
    def pack(work: Work) -> dict[str, Any]:
        return {"parcels": 1 + len(work.data["lines"]) // 4}

    @engine.handler("charge")
    def charge(work: Work) -> dict[str, Any]:
        ledger.attempt("charge", work, amount=work.data["amount"])
        return {"charged": work.data["amount"]}

    @engine.handler("ship")
    def ship(work: Work) -> dict[str, Any]:
        ledger.attempt("ship", work)
        return {"outcome": "shipped"}

    @engine.handler("release")
    def release(work: Work) -> dict[str, Any]:
        ledger.attempt("release", work)
        if work.data.get("approved") is False:
            return {"outcome": "rejected"}
        return {"outcome": "withdrawn" if "cancelled_because" in work.data else "expired"}


def take_order(engine: Engine, order: dict[str, str]) -> RunningCase:
    """Create the order's case, or find it: the order's id is the idempotency key."""
    return engine.create_case("order-to-cash", case_data(order), idempotency_key=order["order_id"])


def customer(case: RunningCase, order: dict[str, str]) -> None:
    """The customer pays, cancels or does nothing; an event that nobody waits for any more has no effect."""
    if order["customer_does"] == "pays":
        case.send_event("payment", {"paid_with": f"card of {order['customer']}"})
    elif order["customer_does"] == "cancels":
        case.send_event("cancel", {"cancelled_because": "changed my mind"})
    case.run()


def approver(engine: Engine, script: dict[str, str]) -> None:
    """Work through the worklist, except what the script leaves lying."""
    for item in list(engine.work_items(state="offered")):
        case = engine.case(item.case_id)
        decision = script[case.data["order_id"]]
        if decision != "absent":
            case.complete_task(item.path, {"approved": decision == "approves"}, by="ann")
            case.run()


def job(database: Path, ledger_path: Path, count: int, pause_after: int, durability: str) -> None:
    """Work through all orders, day by day; it may be run again at any time and goes on where it stopped."""
    orders = read_orders(count)
    script = {order["order_id"]: order["approver"] for order in orders}
    clock = ManualClock(FIRST_DAY)
    with Engine(str(database), clock=clock, durability=durability) as engine:
        handlers(engine, Ledger(ledger_path, pause_after))
        engine.register(Specification.load(SPECIFICATION))
        resumed = engine.run_pending()
        done = {header.case_id for header in engine.cases(state="completed")}
        if resumed or done:
            print(f"  found {len(done)} finished cases, {resumed} with work that was cut off", flush=True)
        for first in range(0, len(orders), ORDERS_PER_DAY):
            for order in orders[first : first + ORDERS_PER_DAY]:
                case = take_order(engine, order)
                if case.id not in done and case.run().state == "running":
                    customer(case, order)
            approver(engine, script)
            engine.tick()
            engine.run_pending()
            print(f"  day {first // ORDERS_PER_DAY + 1:2}: {min(first + ORDERS_PER_DAY, count):5,} orders", flush=True)
            clock.advance(DAY)
        clock.advance(3 * DAY)
        engine.tick()
        engine.run_pending()


# --- the story: what the parent does ----------------------------------------------------------------------------------


def start_child(
    arguments: argparse.Namespace, database: Path, ledger: Path, pause_after: int
) -> subprocess.Popen[bytes]:
    """Start a process that does the job."""
    command = [sys.executable, str(Path(__file__).resolve()), "--job", "--db", str(database), "--ledger", str(ledger)]
    command += ["--orders", str(arguments.orders), "--durability", arguments.durability]
    return subprocess.Popen([*command, "--pause-after", str(pause_after)])


def kill_halfway(child: subprocess.Popen[bytes], ledger: Path, halfway: int) -> bool:
    """Kill the child at the first charge from the given ledger line on; False if it ended before."""
    while child.poll() is None:
        lines = ledger.read_bytes().splitlines(keepends=True) if ledger.exists() else []
        if any(line.endswith(b"\n") and b'"charge"' in line for line in lines[halfway - 1 :]):
            child.kill()
            child.wait()
            return True
        time.sleep(0.02)
    return False


def completed_tasks(history: tuple[bytes, ...]) -> int:
    """Count the tasks (and instances of multiple instances) that a case's journal says were completed."""
    return sum(record[0] in COMPLETIONS for batch in history for record in decode_batch(batch)[1])


def report(
    orders: list[dict[str, str]], database: Path, ledger_path: Path, before: int, seconds: float, size: int
) -> list[str]:
    """Print what came out; return what is not as it should be."""
    wrong: list[str] = []
    outcomes: dict[str, str] = {}
    steps = commits = open_cases = 0
    ledger = read_ledger(ledger_path)
    store = open_store(str(database))
    with Engine(store) as engine:
        headers = list(engine.cases())
        for header in headers:
            case = engine.case(header.case_id)
            data = case.data
            open_cases += case.state != "completed"
            if data["order_id"] in outcomes:
                wrong.append(f"{data['order_id']} has two cases")
            outcomes[data["order_id"]] = data.get("outcome", case.state)
            history = store.history(header.case_id)
            commits += len(history)
            steps += completed_tasks(history)
        wrong += [f"{item.path} of {item.case_id} is still on the worklist" for item in engine.work_items()]
    charges = Counter(line["order"] for line in ledger if line["action"] == "charge" and line["effect"])
    due = {order["order_id"] for order in orders if expected_outcome(order) == "shipped"}
    repeated = sum(line["attempt"] > 1 for line in ledger[before:])
    without_effect = sum(not line["effect"] for line in ledger)
    if len(headers) != len(orders):
        wrong.append(f"{len(orders)} orders have {len(headers)} cases")
    if open_cases:
        wrong.append(f"{open_cases} cases are open")
    wrong += [f"{each} was not charged" for each in sorted(due - charges.keys())]
    wrong += [f"{each} was charged and should not be" for each in sorted(charges.keys() - due)]
    wrong += [f"{each} was charged {times} times" for each, times in sorted(charges.items()) if times > 1]
    for order in orders:
        found, expected = outcomes.get(order["order_id"], "missing"), expected_outcome(order)
        if found != expected:
            wrong.append(f"{order['order_id']} is {found}, should be {expected}")
    print()
    for outcome, times in Counter(outcomes.values()).most_common():
        print(f"  {outcome:<28}{times:>10,}")
    rows = (
        ("orders to be charged", f"{len(due):,}"),
        ("charged exactly once", f"{sum(charges[each] == 1 for each in due):,}"),
        ("ledger lines (attempts)", f"{len(ledger):,}"),
        ("attempts repeated after kill", f"{repeated:,}"),
        ("repeated without effect", f"{without_effect:,}"),
        ("cases left open", f"{open_cases:,}"),
        ("tasks completed (steps)", f"{steps:,}"),
        ("commits", f"{commits:,}"),
        ("seconds, both children", f"{seconds:.1f}"),
        ("cases/s", f"{len(headers) / seconds:,.0f}"),
        ("steps/s", f"{steps / seconds:,.0f}"),
        ("bytes per case in the file", f"{size / max(1, len(headers)):,.0f}"),
    )
    for name, value in rows:
        print(f"  {name:<28}{value:>10}")
    return wrong


def story(arguments: argparse.Namespace, directory: Path) -> int:
    """Start the job, kill it, resume it, check."""
    database = arguments.db or directory / "orders.db"
    ledger = arguments.ledger or Path(f"{database}.ledger")
    if database.exists() or ledger.exists():
        print(f"{database} or {ledger} exists already: name a new file", file=sys.stderr)
        return 2
    orders = read_orders(arguments.orders)
    if len(orders) < max(10, arguments.orders):
        print("--orders: 10 to 1000, please", file=sys.stderr)
        return 2
    # An order that ships writes two lines or three, another one or two: one line for each order is about half of them.
    halfway = len(orders)
    print(f"{len(orders):,} orders on {database}, durability {arguments.durability}", flush=True)
    began = time.perf_counter()
    child = start_child(arguments, database, ledger, halfway)
    try:
        if not kill_halfway(child, ledger, halfway):
            print(f"the first child ended by itself with {child.returncode}", file=sys.stderr)
            return 1
    finally:
        child.kill()
    before = len(read_ledger(ledger))
    print(f"  SIGKILL after {before:,} ledger lines, between a charge and its commit; resuming", flush=True)
    if start_child(arguments, database, ledger, 0).wait():
        print("the second child failed", file=sys.stderr)
        return 1
    seconds = time.perf_counter() - began
    size = sum(each.stat().st_size for each in (database, Path(f"{database}-wal")) if each.exists())
    wrong = report(orders, database, ledger, before, seconds, size)
    for each in wrong:
        print(f"WRONG: {each}", file=sys.stderr)
    print("\nNOT OK" if wrong else "\nOK: every order that should be charged was charged exactly once, no case is open")
    return 1 if wrong else 0


def main() -> int:
    """Read the command line and do the job or tell the whole story."""
    parser = argparse.ArgumentParser(description="A thousand orders on one SQLite file, killed halfway and resumed.")
    parser.add_argument(
        "--db", type=Path, help="the SQLite file, which must not exist (default: in a temporary directory)"
    )
    parser.add_argument("--orders", type=int, default=1_000, help="how many orders (default: 1000)")
    parser.add_argument("--durability", choices=("full", "normal", "off"), default="full", help="default: full")
    parser.add_argument("--ledger", type=Path, help="the ledger (default: beside the SQLite file)")
    parser.add_argument("--job", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--pause-after", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        job(arguments.db, arguments.ledger, arguments.orders, arguments.pause_after, arguments.durability)
        return 0
    with tempfile.TemporaryDirectory(prefix="knhk-orders-") as directory:
        return story(arguments, Path(directory))


if __name__ == "__main__":
    sys.exit(main())
