"""`knhk replay`: what it prints, what it returns, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from knhk.cli.app import knhk
from tests.test_replay import ORDER

LOG = "case,task\n1,register\n1,check\n1,pack\n1,send\n2,register\n2,pack\n2,send\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a specification and a log."""
    monkeypatch.chdir(tmp_path)
    Path("order.json").write_text(ORDER.to_json())
    Path("log.csv").write_text(LOG)
    return tmp_path


def run(*arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(knhk, ["replay", *arguments])


def test_a_log_that_does_not_fit_is_exit_code_1() -> None:
    """The report is printed all the same."""
    result = run("log.csv", "order.json")

    assert 1 == result.exit_code
    assert "  fitting  1 of 2 traces (50.0%)\n" in result.stdout
    assert "2     0.8000   1        1          send: not enabled (event 3), check: left over\n" in result.stdout
    assert "1       0.8000   register > pack > send\n" in result.stdout


def test_a_log_that_fits_is_exit_code_0() -> None:
    """All traces are runs; there are no deviations to list."""
    Path("log.csv").write_text(LOG.partition("2,")[0])

    result = run("log.csv", "order.json")

    assert (0, "") == (result.exit_code, result.stderr)
    assert "deviation" not in result.stdout


def test_json_has_the_whole_report() -> None:
    """One document, with the exit code of the answer."""
    result = run("log.csv", "order.json", "--json", "--worst", "1")

    report = json.loads(result.stdout)
    assert (1, 2, 1, 0.9) == (result.exit_code, report["traces"], report["fitting"], report["fitness"])
    assert ("2", 1) == (report["worst"][0]["case"], len(report["variants"]))


def test_tasks_that_the_log_never_names_are_told() -> None:
    """What was taken to happen unseen is a remark on stderr; --strict takes nothing so."""
    Path("log.csv").write_text("case,task\n2,register\n2,pack\n2,send\n")

    lenient, strict = run("log.csv", "order.json"), run("log.csv", "order.json", "--strict")

    assert (0, 1) == (lenient.exit_code, strict.exit_code)
    assert "the log never names check: taken to happen unseen; --strict does not\n" == lenient.stderr
    assert "" == strict.stderr


def test_columns_order_and_unfinished_cases_are_options() -> None:
    """Columns may be named, the file's order kept, and cases may still run."""
    Path("log.csv").write_text(
        "id,what,when,how\n1,pack,2026-01-02,complete\n1,register,2026-01-01,\n1,x,2026-01-03,assign\n"
    )
    columns = ("--case", "id", "--task", "what", "--time", "when", "--lifecycle", "how", "--unfinished", "--strict")

    sorted_, kept = run("log.csv", "order.json", *columns), run("log.csv", "order.json", *columns, "--order", "file")

    assert (0, 1) == (sorted_.exit_code, kept.exit_code)
    assert "  skipped  1 transition assign\n" in sorted_.stdout


def test_a_mapping_translates_names() -> None:
    """Names of the log become tasks, or are left out."""
    Path("log.csv").write_text(LOG.partition("2,")[0].replace("send", "Versand") + "1,noise\n")
    Path("map.yaml").write_text("Versand: send\nnoise: null\n")

    assert 1 == run("log.csv", "order.json").exit_code
    assert 0 == run("log.csv", "order.json", "--map", "map.yaml").exit_code


@pytest.mark.parametrize("text", ["[]", '{"a": 1}'])
def test_a_wrong_mapping_is_refused(text: str) -> None:
    """A mapping is an object of names to paths."""
    Path("map.json").write_text(text)

    result = run("log.csv", "order.json", "--map", "map.json")

    assert (6, "") == (result.exit_code, result.stdout)
    assert "map.json must be an object of names in the log to task paths" in result.stderr


def test_a_log_that_cannot_be_read_is_exit_code_6() -> None:
    """A malformed log gives no report and is told apart from one that does not fit."""
    Path("log.csv").write_text(LOG + "3\n")

    result = run("log.csv", "order.json")

    assert (6, "") == (result.exit_code, result.stdout)
    assert "Error: the event log has a problem:\n  - log.csv, line 9: the row has 1 values" in result.stderr


@pytest.mark.parametrize(
    "arguments", [("none.csv", "order.json"), ("log.csv", "none.json"), ("log.csv", "order.json", "--map", "no.json")]
)
def test_a_file_that_is_not_there_is_exit_code_3(arguments: tuple[str, ...]) -> None:
    """Each of the files may be missing."""
    result = run(*arguments)

    assert 3 == result.exit_code
    assert "cannot read no" in result.stderr


def test_undecided_traces_and_long_variants_are_told() -> None:
    """A search that met its budget is a remark; of long variants and long lists of deviations the beginning is shown."""
    Path("log.csv").write_text("case,task\n" + "1,send\n" * 20)

    result = run("log.csv", "order.json", "--budget", "1")

    assert 1 == result.exit_code
    assert "1 trace may fit better: a search met its budget; give a larger --budget\n" in result.stderr
    assert "send > ... 8 more\n" in result.stdout
    assert "and 18 more\n" in result.stdout


def test_an_empty_log_fits() -> None:
    """No trace, no share of fitting ones."""
    Path("log.csv").write_text("case,task\n")

    result = run("log.csv", "order.json", "--strict")

    assert 0 == result.exit_code
    assert "  fitting  0 of 0 traces\n" in result.stdout
