"""Generate a thousand orders, always the same ones: ``python generate.py > orders.csv``."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from random import Random

ORDERS = 1_000
COLUMNS = (
    "id",
    "customer",
    "amount",
    "lines",
    "gift",
    "insured",
    "express",
    "credit",
    "approver",
    "customer_does",
)
CATALOGUE = (
    ("TEA-GREEN-100", 690),
    ("MUG-STONE", 1_450),
    ("KETTLE-1L", 5_900),
    ("LAMP-DESK", 8_990),
    ("CHAIR-OAK", 24_900),
    ("DESK-OAK-160", 64_900),
    ("SHELF-5", 17_500),
    ("MONITOR-27", 32_900),
    ("HEADSET-BT", 9_900),
    ("CABLE-USB-C", 1_190),
)
"""Articles and their prices in cents."""


def orders(count: int = ORDERS) -> Iterator[dict[str, str]]:
    """Make the orders one by one; the first n of them are the same for every count."""
    random = Random(20240229)
    for number in range(1, count + 1):
        basket = random.sample(CATALOGUE, random.choices((1, 2, 3, 4, 5), (40, 28, 17, 10, 5))[0])
        lines = [(article, price, random.choices((1, 2, 3, 6), (70, 18, 8, 4))[0]) for article, price in basket]
        cents = sum(price * quantity for _, price, quantity in lines)
        does = random.choices(("pays", "silent", "cancels"), (84, 9, 7))[0]
        # Who is silent may also wait for an approver who never looks: then the time-out withdraws the approval.
        approver = random.choices(("approves", "refuses"), (85, 15))[0]
        if does == "silent" and random.random() < 0.5:
            approver = "absent"
        yield {
            "id": f"O-{number:05d}",
            "customer": f"C-{int(random.paretovariate(0.8)) % 400 + 1:04d}",
            "amount": f"{cents // 100}.{cents % 100:02d}",
            "lines": ";".join(f"{article}*{quantity}" for article, _, quantity in lines),
            "gift": "yes" if random.random() < 0.15 else "no",
            "insured": "yes" if random.random() < (0.5 if cents > 50_000 else 0.08) else "no",
            "express": "yes" if random.random() < 0.2 else "no",
            "credit": random.choices(("good", "poor"), (92, 8))[0],
            "approver": approver,
            "customer_does": does,
        }


def text(count: int = ORDERS) -> str:
    """Write the orders as CSV."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(orders(count))
    return out.getvalue()


if __name__ == "__main__":
    sys.stdout.write(text())
