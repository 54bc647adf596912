"""`knhk draw`: what it draws, where it writes, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import knhk as library
from knhk.cli.app import knhk
from tests.test_picture import choice


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a specification, and a store with a case that waits."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KNHK_DB", raising=False)
    Path("choice.json").write_text(choice().to_json())
    with library.Engine("cases.db") as engine:
        engine.handler("check")(lambda work: {})
        engine.register(choice())
        engine.create_case("choice", {"n": 5000}).run()
    return tmp_path


def case_id() -> str:
    """The id of the one case in the store."""
    with library.Engine("cases.db") as engine:
        return next(iter(engine.cases())).case_id


def run(*arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(knhk, ["draw", *arguments])


def test_a_file_is_drawn_on_stdout() -> None:
    """SVG is what comes without being asked for otherwise."""
    assert (0, choice().draw()) == ((result := run("choice.json")).exit_code, result.stdout)
    assert choice().draw("dot") == run("choice.json", "--format", "dot", "--overlay", "none").stdout


@pytest.mark.parametrize(
    ("name", "language"), [("o.svg", "svg"), ("o.MMD", "mermaid"), ("o.mermaid", "mermaid"), ("o.gv", "dot")]
)
def test_the_suffix_says_the_format(name: str, language: str) -> None:
    """A file is written, and nothing is printed."""
    result = run("choice.json", "--output", name, "--net", "")

    assert (0, "", "") == (result.exit_code, result.stdout, result.stderr)
    assert choice().draw(language).encode() == Path(name).read_bytes()


def test_a_case_is_drawn_with_what_lies_on_it() -> None:
    """Its tokens, its history, or neither; named by a part of its id."""
    name = case_id()
    with library.Engine("cases.db") as engine:
        case = engine.case(name)
        drawn = {each: case.draw("mermaid", overlay=each) for each in ("tokens", "history", "none")}

    assert 3 == len(set(drawn.values()))
    assert drawn["tokens"] == run(case_id()[-8:], "--db", "cases.db", "--format", "mermaid").stdout
    for overlay, picture in drawn.items():
        assert picture == run(case_id(), "--db", "cases.db", "--format", "mermaid", "--overlay", overlay).stdout


def test_a_file_is_drawn_with_how_often_it_happened() -> None:
    """Counted are the cases of its version in the store, and no others."""
    other = library.Specification.from_dict({**choice().to_dict(), "version": "2"})
    with library.Engine("cases.db") as engine:
        engine.handler("check")(lambda work: {})
        engine.register(other)
        engine.create_case("choice", {"n": 1}, version="2").run()
        engine.create_case("choice", {"n": 1}, version="1").run()

    drawn = run("choice.json", "--db", "cases.db", "--format", "mermaid", "--overlay", "frequencies").stdout

    counts = {"check": 2, "check>open": 1, "check>end": 1}
    assert choice().draw("mermaid", frequencies=counts) == drawn
    assert choice().draw("mermaid") != drawn


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ("choice.json", "--overlay", "frequencies"),
            2,
            "--overlay frequencies counts cases of a store: give --db PATH",
        ),
        (("0", "--db", "cases.db", "--overlay", "frequencies"), 2, "--overlay frequencies is for a file"),
        (("choice.json", "--output", "o.png"), 2, "cannot tell from 'o.png' what to draw: give --format, or .svg"),
        (("choice.json", "--output", "nowhere/o.svg"), 3, "cannot write nowhere/o.svg: No such file"),
        (("choice.json", "--net", "x"), 2, "cannot draw choice.json: there is no net 'x'"),
        (("choice.json", "--overlay", "history"), 2, "--overlay history is for a case"),
        (("nothing.json",), 3, "nothing.json"),
        (("first",), 2, "'first' is no .json, .yaml or .yml file; for a case give --db PATH"),
        (("other", "--db", "cases.db"), 3, "no case in cases.db has 'other' in its id"),
        (("0", "--db", "cases.db", "--net", "x"), 2, "cannot draw 0: there is no net 'x'"),
    ],
)
def test_what_cannot_be_drawn_is_told(arguments: tuple[str, ...], code: int, message: str) -> None:
    """The exit code says whose fault it is, the message what to do."""
    result = run(*arguments)

    assert (code, "") == (result.exit_code, result.stdout)
    assert message in result.stderr


def test_a_specification_that_is_not_well_formed_lists_its_problems() -> None:
    """It is refused as `knhk verify` refuses it."""
    Path("bad.json").write_text('{"id": "x", "tasks": [{"id": "a"}], "flows": [{"from": "a", "to": "b"}]}')

    result = run("bad.json")

    assert 1 == result.exit_code
    assert "flows" in result.stderr


def test_without_the_extra_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """SVG is refused with the command that installs the extra."""
    monkeypatch.setitem(__import__("sys").modules, "pygraphviz", None)

    result = run("choice.json")

    assert 2 == result.exit_code
    assert "pip install 'knhk[draw]'" in result.stderr
