"""Print the payments, always the same: ``python generate.py > payments.csv``."""

from __future__ import annotations

import csv
import random
import sys


def main() -> None:
    """Write a hundred payments."""
    rng = random.Random(20260305)
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["id", "payer", "legs", "sanctions", "fraud", "limits", "first", "second", "network"])
    for number in range(1, 101):
        legs = [rng.randrange(100, 50_000, 25) for _ in range(rng.choice([1, 1, 2, 3]))]
        checks = [rng.choice(["clear", "clear", "clear", "clear", "hit"]) for _ in range(3)]
        officers = [rng.choice(["release", "release", "release", "refuse"]) for _ in range(2)]
        network = rng.choice(["accepted", "accepted", "accepted", "refused"])
        payer = f"P-{rng.randrange(1, 900):03}"
        out.writerow([f"T-{number:04}", payer, "+".join(map(str, legs)), *checks, *officers, network])


if __name__ == "__main__":
    main()
