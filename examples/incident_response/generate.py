"""Print the incidents, always the same: ``python generate.py > incidents.csv``."""

from __future__ import annotations

import csv
import random
import sys


def main() -> None:
    """Write a hundred incidents."""
    rng = random.Random(20260304)
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["id", "service", "responders", "finding"])
    for number in range(1, 101):
        service = rng.choice(["checkout", "search", "login", "billing", "mail"])
        finding = rng.choice(["cause", "cause", "cause", "nothing"])
        # Behind an incident there may be another: who answers in each, where "manager" answers when nobody else has.
        depth = 1 if finding == "nothing" else rng.choice([1, 1, 2, 3])
        responders = [rng.choice(["primary", "primary", "secondary", "manager"]) for _ in range(depth)]
        out.writerow([f"I-{number:04}", f"{service}-{number}", "+".join(responders), finding])


if __name__ == "__main__":
    main()
