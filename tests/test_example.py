"""What a newcomer meets first works: what `make run` shows, and the README's Python."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "order_to_cash"


def run(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a Python program and keep what it prints."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_orders_survive_a_kill_and_are_charged_once(tmp_path: Path) -> None:
    """The example kills its job between a charge and its commit, resumes it, and no order is lost or charged twice."""
    done = run(EXAMPLE / "run.py", "--rows", "120", "--db", tmp_path / "orders.db")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = dict(re.findall(r"^  (\S.*?) {2,}([\d,.]+)$", done.stdout, re.MULTILINE))
    assert "SIGKILL" in done.stdout
    assert sum(int(rows[each]) for each in ("shipped", "expired", "withdrawn", "rejected")) == 120
    assert rows["charged exactly once"] == rows["shipped"]
    assert rows["charged more than once"] == "0"
    assert int(rows["repeated without effect"]) >= 1
    assert {"cases/s", "steps/s", "bytes per case in the file"} <= rows.keys()
    assert rows["cases left open"] == "0"


def test_the_readmes_python_works(tmp_path: Path) -> None:
    """The README's program does what the README says, and the same again on the same file."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1
    program = tmp_path / "quickstart.py"
    program.write_text(blocks[0])
    first, second = run(program, cwd=tmp_path), run(program, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("completed {'amount': 1200, 'checked': True, 'approved_by': 'ann', 'receipt': ")
    assert second.stdout == first.stdout
