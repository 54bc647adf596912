"""What a newcomer meets first works: the example's whole story, its data, and the README's Python."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "order_to_cash"


def run(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a Python program and keep what it prints."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_orders_survive_a_kill_and_are_charged_once(tmp_path: Path) -> None:
    """The example kills its job between a charge and its commit, resumes it, and no order is lost or charged twice."""
    done = run(EXAMPLE / "run.py", "--orders", "60", "--db", tmp_path / "orders.db")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = dict(re.findall(r"^  (\S.*?) {2,}([\d,.]+)$", done.stdout, re.MULTILINE))
    assert "SIGKILL" in done.stdout
    assert sum(int(rows[each]) for each in ("shipped", "expired", "withdrawn", "rejected")) == 60
    assert rows["orders to be charged"] == rows["charged exactly once"] == rows["shipped"]
    assert int(rows["attempts repeated after kill"]) >= 1
    assert int(rows["repeated without effect"]) >= 1
    assert rows["cases left open"] == "0"


def test_the_orders_are_those_of_their_generator() -> None:
    """The checked-in orders are what the generator prints."""
    assert run(EXAMPLE / "generate.py").stdout == (EXAMPLE / "orders.csv").read_text()


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


@pytest.mark.parametrize("arguments", [("--orders", "5"), ("--orders", "2000")])
def test_the_example_refuses_what_it_cannot_do(arguments: tuple[str, ...]) -> None:
    """A number of orders that is not there is refused with a message."""
    done = run(EXAMPLE / "run.py", *arguments)
    assert (done.returncode, "10 to 1000" in done.stderr) == (2, True)
