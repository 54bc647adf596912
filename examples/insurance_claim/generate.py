"""Print the insurance claims, always the same: ``python generate.py > claims.csv``."""

from __future__ import annotations

import csv
import random
import sys


def main() -> None:
    """Write a hundred claims."""
    rng = random.Random(20260303)
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["id", "loss", "damage", "injury", "documents", "asked", "valid", "first", "advance", "reopened"])
    for number in range(1, 101):
        loss = rng.choice(["collision", "hail", "fire", "burglary", "water"])
        documents = rng.sample(["photo", "invoice", "report", "statement"], rng.choice([1, 2, 3]))
        out.writerow(
            [
                f"C-{number:04}",
                loss,
                rng.randrange(300, 20_000, 50),
                rng.choice([0, 0, 500, 2_500, 12_000]),
                "+".join(documents),
                rng.choice(["", "", "police file", "second offer"]),
                rng.choice(["yes", "yes", "yes", "no"]),
                rng.choice(["damage", "injury"]),
                rng.choice(["in time", "too late", "no", "no"]),
                rng.choice(["yes", "no", "no"]),
            ]
        )


if __name__ == "__main__":
    main()
