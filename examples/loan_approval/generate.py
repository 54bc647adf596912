"""Print the loan applications, always the same: ``python generate.py > loans.csv``."""

from __future__ import annotations

import csv
import random
import sys


def main() -> None:
    """Write a hundred applications."""
    rng = random.Random(20260302)
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["id", "person", "amount", "north", "south", "west", "checks", "votes", "customer"])
    for number in range(1, 101):
        base = rng.gauss(620, 120)
        scores = [max(250, min(850, round(rng.gauss(base, 35)))) for _ in range(3)]
        # A bureau that is down answers never; at most one is.
        down = rng.choice([0, 1, 2, None, None, None])
        checks = rng.sample(["identity", "income", "collateral"], 3)
        votes = [rng.choice(["yes", "yes", "no"]) for _ in range(4)]
        customer = rng.choice(["accepts", "accepts", "accepts", "declines", "silent"])
        scores_out = ["down" if place == down else score for place, score in enumerate(scores)]
        amount = rng.choice([5_000, 8_000, 12_000, 18_000, 25_000, 40_000, 90_000])
        out.writerow(
            [
                f"L-{number:04}",
                f"P-{rng.randrange(1, 900):03}",
                amount,
                *scores_out,
                "+".join(checks),
                "+".join(votes),
                customer,
            ]
        )


if __name__ == "__main__":
    main()
