"""
What the documentation and the README show works: every example runs, prints what its page says, and the pages build without a warning.

The fences of a page, in order, in one namespace and one empty directory:

- ``python``: run; what it prints is what the ``output`` fence behind it shows (``...`` stands for anything).
- ``{code-block}`` with a ``:caption:``: a file of that name.
- ``console``: lines behind ``$`` are run by a shell, and print what stands below them.
- ``sh``: commands that are shown and not run: they install, or take long.
- ``json``, ``yaml``: can be read.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

import knhk
from knhk.events import EventKind
from knhk.spec import _manual, document

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(each for each in DOCS.rglob("*.md") if "_build" not in each.parts)]
SHOWN_ONLY = (
    "pip install ",
    "make ",
    "python -m venv ",
    "cd ",
    "git ",
    ". .venv/",
    "knhk serve",
    "knhk store ",  # run by test_store_commands, on real servers
    "knhk instances",
    "knhk doctor",
    "knhk token",
    "knhk audit",
    "curl ",
    "grpcurl ",  # run by test_rpc_described
    "export ",
    "docker ",  # the pages on compose and Kubernetes are looked at by test_deploy_docs
    "kubectl ",
    "deploy/compose/make-secrets",
    "  ",
)
KNOWN = {
    "python",
    "output",
    "console",
    "sh",
    "json",
    "yaml",
    "text",
    "{code-block}",
    "{toctree}",
    "{eval-rst}",
    "{glossary}",
}


class Fence(NamedTuple):
    """One fenced block: its language, what follows it on the line, its options, its text and where it starts."""

    kind: str
    argument: str
    options: dict[str, str]
    text: str
    line: int


def fences(page: Path) -> Iterator[Fence]:
    """The fenced blocks of a page in order."""
    lines = iter(enumerate(page.read_text(encoding="utf-8").splitlines(), 1))
    for number, line in lines:
        opening = re.match(r"(`{3,})(\S+)\s*(.*)$", line)
        if opening is None:
            assert not line.lstrip().startswith("```"), f"{page}:{number}: an indented or bare fence"
            continue
        body: list[str] = []
        for _, each in lines:
            if each == opening[1]:
                break
            body.append(each)
        else:
            pytest.fail(f"{page}:{number}: the fence does not end")
        options: dict[str, str] = {}
        while opening[2].startswith("{") and body and (option := re.match(r":([\w-]+):\s*(.*)$", body[0])):
            options[option[1]] = option[2]
            del body[0]
        yield Fence(opening[2], opening[3], options, "".join(f"{each}\n" for each in body).lstrip("\n"), number)


def commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a console, each with what is shown below it."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown


def check(want: str, got: str, where: str) -> None:
    """Compare, with an ellipsis for what differs from run to run; blanks at the ends of lines are not shown."""
    got = re.sub(r"[ \t]+$", "", got, flags=re.MULTILINE)
    if not doctest.OutputChecker().check_output(want, got, doctest.ELLIPSIS):
        pytest.fail(f"{where}: the page shows\n{want}\nand it prints\n{got}")


def shell(command: str) -> str:
    """Run a command as a reader would; returns what the terminal shows."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    if command.startswith("knhk ") and shutil.which("knhk", path=path) is None:
        command = f"python -m {command}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "100"}
    done = subprocess.run(
        ["bash", "-c", command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=50,
        check=False,
    )
    return done.stdout + ("Killed\n" if done.returncode in (-9, 137) and "Killed" not in done.stdout else "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_shows_is_so(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples of a page run in order and print what the page shows."""
    monkeypatch.chdir(tmp_path)
    Path("examples").symlink_to(ROOT / "examples")
    monkeypatch.syspath_prepend(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    blocks = list(fences(page))
    for number, fence in enumerate(blocks):
        where = f"{page.relative_to(ROOT)}:{fence.line}"
        assert fence.kind in KNOWN, f"{where}: unknown fence {fence.kind}"
        if fence.kind == "python":
            behind = blocks[number + 1] if number + 1 < len(blocks) else None
            printed = io.StringIO()
            code = compile(fence.text, where, "exec", dont_inherit=True)
            with contextlib.redirect_stdout(printed):
                exec(code, namespace)
            check(behind.text if behind is not None and behind.kind == "output" else "", printed.getvalue(), where)
        elif fence.kind == "output":
            assert number and blocks[number - 1].kind == "python", f"{where}: output of nothing"
        elif fence.kind == "console":
            for command, shown in commands(fence.text):
                check(shown, shell(command), where)
        elif fence.kind == "sh":
            assert all(line.startswith(SHOWN_ONLY) for line in fence.text.splitlines()), where
        elif fence.kind == "{code-block}":
            assert fence.options.get("caption"), f"{where}: a code-block that is no file"
            Path(fence.options["caption"]).write_text(fence.text, encoding="utf-8")
        elif fence.kind == "json":
            json.loads(fence.text)
        elif fence.kind == "yaml":
            yaml.safe_load(fence.text)


def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    """Sphinx, told to be picky and to take warnings as errors, builds every page."""
    if importlib.util.find_spec("sphinx") is None and os.environ.get("CI") != "true":
        pytest.skip("Sphinx is not installed: pip install 'knhk[docs]'")
    # Everything is read and every reference resolved; writing HTML would take longer than both, and warns of nothing.
    command = [sys.executable, "-m", "sphinx", "-b", "dummy", "-W", "--keep-going", "-n", "-q"]
    done = subprocess.run(
        [*command, "-d", str(tmp_path / "doctrees"), str(DOCS), str(tmp_path / "built")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "doctrees" / "index.doctree").is_file()


def test_the_reference_names_everything_public() -> None:
    """Every public name, every member of the format and every kind of event stands in the reference."""
    reference = {each.stem: each.read_text(encoding="utf-8") for each in (DOCS / "reference").glob("*.md")}
    everything = "\n".join(reference.values())
    tables = (document._TASK, document._FLOW, document._CONDITION, document._MULTIPLE, document._RETRY)
    tables += (document._EXTERNAL, document._TRIGGER, document._PARTIAL, document._HTTP)
    tables += (_manual._MANUAL, _manual._ALLOCATION, _manual._ESCALATION, _manual._RECIPIENTS)
    members = {name for table in tables for name in table}

    assert [] == [name for name in knhk.__all__ if not re.search(rf"knhk\.{name}\b", everything)]
    assert set() == {name for name in members if f"`{name}`" not in reference["specification"]}
    assert [] == [kind.value for kind in EventKind if f"`{kind.value}`" not in reference["events"]]
