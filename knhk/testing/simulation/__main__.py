"""The command line of the simulation."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter
from collections.abc import Sequence

from knhk.testing.simulation import simulate


def main(arguments: Sequence[str] | None = None) -> int:
    """Play seeds; the exit status is 1 where one of them shows a problem."""
    parser = argparse.ArgumentParser(prog="python -m knhk.testing.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds to play")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="play this one alone")
    parser.add_argument("--tell", action="store_true", help="print everything that happens in it")
    asked = parser.parse_args(arguments)
    if not asked.tell:
        # The log of an engine in trouble says nothing that the story does not.
        logging.disable(logging.ERROR)
    seeds = range(asked.first, asked.first + asked.seeds) if asked.seed is None else [asked.seed]
    counts: Counter[str] = Counter()
    failed = 0
    begun = shown = time.monotonic()
    for done, seed in enumerate(seeds, 1):
        story = simulate(seed, tell=print if asked.tell else None)
        counts += story.counts
        failed += bool(story.problems)
        for problem in story.problems:
            print(f"seed {seed}: {problem}")
        if time.monotonic() - shown > 1 and sys.stderr.isatty():
            shown = time.monotonic()
            print(f"\r{done} of {len(seeds)}", end="", file=sys.stderr, flush=True)
    print(", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    print(f"{len(seeds)} seeds in {time.monotonic() - begun:.1f} s, {failed} with problems")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
