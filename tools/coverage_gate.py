"""Hold the coverage gate: every branch of the token game and its OR-join, 95 % of everything."""

from __future__ import annotations

import json
import sys
from pathlib import Path

FLOORS = dict.fromkeys(("knhk/_kernel.py", "knhk/_orjoin.py", "knhk/_orjoin_paths.py", "knhk/_orjoin_search.py"), 100.0)
OVERALL = 95.0


def main(path: str) -> int:
    """Read coverage's JSON report; return 0 if the gate holds, else 1 after naming what is missing."""
    report = json.loads(Path(path).read_text(encoding="utf-8"))
    failures = []
    for name, floor in FLOORS.items():
        file = report["files"][name]
        if file["summary"]["percent_covered"] < floor:
            failures.append(f"{name}: lines {file['missing_lines']}, branches {file['missing_branches']} never ran")
    total = report["totals"]["percent_covered"]
    if total < OVERALL:
        failures.append(f"overall {total:.1f} % is below {OVERALL} %")
        worst = sorted(report["files"].items(), key=lambda item: item[1]["summary"]["percent_covered"])[:8]
        failures.extend(f"  {name}: {file['summary']['percent_covered']:.1f} %" for name, file in worst)
    for failure in failures:
        print(failure)
    if not failures:
        print(f"coverage gate holds: {total:.1f} % overall, every branch of the token game")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
