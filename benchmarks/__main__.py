"""Run benchmarks: ``python -m benchmarks [NAME...] [--json]``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys

import attrs

from benchmarks import engine
from benchmarks.measure import loop_nanoseconds


def main() -> int:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"one of {', '.join(engine.BENCHMARKS)}; all without one"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    unknown = set(options.names) - set(engine.BENCHMARKS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    head = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "empty loop turn, ns": round(loop_nanoseconds(), 2),
    }
    print(json.dumps(head) if options.json else "  ".join(f"{key}: {value}" for key, value in head.items()), flush=True)
    for name, benchmark in engine.BENCHMARKS.items():
        if options.names and name not in options.names:
            continue
        if not options.json:
            print(f"\n{name}: {benchmark.__doc__}", flush=True)
        for figure in benchmark():
            print(
                json.dumps({"benchmark": name, **attrs.asdict(figure)}) if options.json else figure.line(), flush=True
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
