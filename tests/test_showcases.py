"""The showcases: each is sound, tells its story through a kill, goes through what its traces say, and is drawn in its README."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from knhk import Specification

ROOT = Path(__file__).resolve().parent.parent
SHOWCASES = sorted(each.parent for each in (ROOT / "examples").glob("*/traces.json"))
showcases = pytest.mark.parametrize("showcase", SHOWCASES, ids=lambda each: each.name)


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a Python program and keep what it prints."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def specification_of(showcase: Path) -> Path:
    (picture,) = showcase.glob("*.svg")
    (file,) = (each for each in showcase.glob(f"{picture.stem}.*") if each.suffix in (".json", ".yaml"))
    return file


@showcases
def test_a_showcase_is_sound(showcase: Path) -> None:
    """Every case of it can complete, properly."""
    assert "sound" == Specification.load(specification_of(showcase)).verify().verdict


@showcases
def test_a_showcase_survives_a_kill(showcase: Path) -> None:
    """Killed between an effect and the engine's hearing of it, and started again, it comes to what its rows say."""
    done = run(showcase / "run.py", "--rows", "24")

    assert (0, "") == (done.returncode, done.stderr)
    assert "SIGKILL" in done.stdout
    assert done.stdout.rstrip().endswith("OK: every case ended as it must, every effect was had as often as it must")
    assert int(re.findall(r"repeated without effect +(\d+)", done.stdout)[0]) >= 1


@showcases
def test_a_showcase_goes_through_what_its_traces_say(showcase: Path) -> None:
    """The first cases go through the tasks that are written down, in their order."""
    expected = json.loads((showcase / "traces.json").read_text())
    found = json.loads(run(showcase / "run.py", "--rows", "12", "--traces").stdout)

    assert expected == {name: found[name] for name in expected}


@showcases
def test_a_showcase_is_what_its_generator_prints(showcase: Path) -> None:
    """The checked-in rows are what the generator prints."""
    (rows,) = showcase.glob("*.csv")

    assert rows.read_text() == run(showcase / "generate.py").stdout


@showcases
def test_a_showcase_refuses_what_it_cannot_do(showcase: Path) -> None:
    """A number of rows that is not there is refused with a message."""
    done = run(showcase / "run.py", "--rows", "1")

    assert (2, True) == (done.returncode, "--rows: 4 to" in done.stderr)


@showcases
def test_a_readme_shows_the_net(showcase: Path) -> None:
    """The README has the picture of the specification, which is beside it."""
    picture = specification_of(showcase).with_suffix(".svg")

    assert f"]({picture.name})" in (showcase / "README.md").read_text()
    for task in Specification.load(specification_of(showcase)).root.tasks:
        assert f'data-task="{task.id}"' in picture.read_text()
