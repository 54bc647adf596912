"""What a simulation reports: figures, tables, JSON, a picture, and the command that prints them."""

from __future__ import annotations

import json
import sys
from array import array
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from knhk.analysis import Interval, SimulationModel, SimulationReport, simulate
from knhk.analysis._simulation_report import _percentile, interval, shown_time
from knhk.cli.app import knhk
from knhk.errors import MissingExtra
from knhk.spec import Specification

ORDER = "examples/order_to_cash/order.json"
MODEL = "examples/order_to_cash/simulation.json"


@pytest.fixture(name="report", scope="module")
def _report() -> SimulationReport:
    return simulate(Specification.load(ORDER), SimulationModel.load(MODEL), cases=2_000, seed=1, warm_up=100)


def call(*arguments: str, code: int = 0) -> Result:
    """Run the command line."""
    result = CliRunner().invoke(knhk, ["simulate", *arguments])
    assert result.exit_code == code, result.output
    return result


def test_an_interval_is_students() -> None:
    """The half width is Student's 97.5 % quantile times the standard error of the batch means."""
    found = interval(2.0, [1.0, 2.0, 3.0])

    assert found.mean == 2
    assert found.half_width == pytest.approx(4.303 / 3**0.5)
    assert str(found) == "2 ± 2.5"


@pytest.mark.parametrize(("batches", "half_width"), [([], None), ([1.0], None), ([4.0] * 30, 0.0)])
def test_an_interval_needs_two_batches(batches: list[float], half_width: float | None) -> None:
    """One batch says nothing; equal ones say 0."""
    assert interval(4.0, batches) == Interval(4.0, half_width)
    assert str(Interval(4.0, None)) == "4"


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 2.5), (0.25, 1.75), (1.0, 4)])
def test_a_percentile_is_interpolated(share: float, expected: float) -> None:
    """Between two times, a percentile divides their distance."""
    assert _percentile([1, 2, 3, 4], share) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 s"),
        (0.0123, "12.3 ms"),
        (1, "1 s"),
        (90, "1.5 min"),
        (5400, "1.5 h"),
        (86400 * 3, "3 d"),
        (86400 * 4321, "4,321 d"),
    ],
)
def test_a_time_is_shown_in_a_fitting_unit(seconds: float, expected: str) -> None:
    """Three digits and a unit that a person thinks in."""
    assert shown_time(seconds) == expected


def test_the_same_seed_gives_the_same_report(report: SimulationReport) -> None:
    """Reports are equal, whatever time the simulator took, and their documents are."""
    again = simulate(Specification.load(ORDER), SimulationModel.load(MODEL), cases=2_000, seed=1, warm_up=100)

    assert again == report
    assert again.to_dict() == report.to_dict()
    assert again != simulate(Specification.load(ORDER), SimulationModel.load(MODEL), cases=2_000, seed=2, warm_up=100)


def test_the_document_is_json(report: SimulationReport) -> None:
    """The document survives JSON unchanged, and has neither the single times nor the simulator's speed."""
    document = report.to_dict()

    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert {"times", "seconds"} & set(document) == set()
    assert list(document["throughput"]["percentiles"]) == ["5", "25", "50", "75", "90", "95", "99"]
    assert document["resources"][0]["name"] == "approver"
    assert document["outcomes"]["completed"] == 1_900


def test_the_table_says_everything(report: SimulationReport) -> None:
    """Throughput, tasks, resources, bottleneck and defaults are in the text."""
    text = report.table()

    assert text.startswith("order-to-cash 1: 1,900 cases after a warm-up of 100, seed 1: 1,900 completed\n")
    for part in ("throughput time", "99 %", "goods/approve", "utilisation", "courier", "assumed, as the model"):
        assert part in text
    assert f"bottleneck: {report.bottleneck}, the resource with the highest utilisation" in text
    assert report.cases_per_second > 0


def test_without_resources_nothing_is_a_bottleneck() -> None:
    """Where nothing is limited, no resource is blamed; a single case has no spread and no interval."""
    specification = Specification.from_dict({"id": "empty", "tasks": [], "conditions": []})

    report = simulate(specification, cases=1)

    assert "bottleneck: none, as no resource is limited" in report.table()
    assert report.throughput is not None
    assert report.throughput.deviation == 0
    assert report.throughput.mean == Interval(0.0, None)


@pytest.mark.parametrize(("suffix", "begins"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_the_picture_is_drawn(report: SimulationReport, tmp_path: Path, suffix: str, begins: bytes) -> None:
    """The suffix says the format."""
    pytest.importorskip("matplotlib")
    file = tmp_path / f"picture{suffix}"

    report.plot(file)

    assert file.read_bytes().startswith(begins)
    assert file.stat().st_size > 10_000


def test_a_picture_of_nothing_can_be_drawn(tmp_path: Path) -> None:
    """Without completed cases, tasks or resources there is still a picture, which says so."""
    pytest.importorskip("matplotlib")
    specification = Specification.from_dict(
        {
            "id": "stuck",
            "tasks": [{"id": "a", "trigger": "e"}],
            "flows": [{"from": "start", "to": "a"}, {"from": "a", "to": "end"}],
        }
    )
    file = tmp_path / "picture.svg"

    report = simulate(specification, SimulationModel.from_dict({"tasks": {"a": {"wait": "never"}}}), cases=3)
    report.plot(file)

    assert report.times == array("d")
    assert b"<svg" in file.read_bytes()


def test_a_picture_needs_its_extra(report: SimulationReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without matplotlib the error says how to install it."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    with pytest.raises(MissingExtra, match=r"pip install 'knhk\[plot\]'"):
        report.plot(tmp_path / "picture.png")


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_prints_the_tables() -> None:
    """People get the headline, the tables, the bottleneck, what was assumed, and the simulator's speed on stderr."""
    result = call(ORDER, "--model", MODEL, "--cases", "300", "--seed", "5", "--warm-up", "20")

    assert result.stdout.startswith("order-to-cash 1: 280 cases after a warm-up of 20, seed 5: 280 completed\n")
    for part in ("throughput time", "goods/pick", "warehouse", "bottleneck: ", "approver, by its role"):
        assert part in result.stdout
    assert "cases a second" in result.stderr


def test_the_command_says_that_there_is_no_model() -> None:
    """Without a model it says what that means, and runs."""
    result = call(ORDER, "--cases", "10")

    assert "no --model: work takes no time, branches are equally likely, nothing is limited" in result.stderr
    assert "bottleneck: none" in result.stdout


def test_the_command_prints_json() -> None:
    """With --json there is one document on stdout and no remark."""
    result = call(ORDER, "--json", "--cases", "10")
    document: dict[str, Any] = json.loads(result.stdout)

    assert result.stderr == ""
    assert document["cases"] == 10
    assert document["cases_per_second"] > 0


def test_the_command_draws(tmp_path: Path) -> None:
    """--plot writes the picture."""
    pytest.importorskip("matplotlib")

    call(ORDER, "--cases", "50", "--plot", str(tmp_path / "out.png"))

    assert (tmp_path / "out.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["absent.json"], 3, "cannot read absent.json"),
        ([ORDER, "--model", "absent.json"], 3, "cannot read absent.json"),
        ([ORDER, "--model", ORDER], 1, "the simulation model has"),
        ([ORDER, "--cases", "5", "--warm-up", "5"], 2, "--warm-up 5 leaves none of the 5 cases"),
        ([ORDER, "--cases", "0"], 2, "0 is not in the range"),
        ([ORDER, "--cases", "5", "--plot", "/absent/out.png"], 3, "cannot write /absent/out.png"),
        ([ORDER, "--cases", "5", "--plot", "out.nonsense"], 2, "cannot draw out.nonsense"),
    ],
)
def test_the_command_refuses_what_cannot_be(arguments: list[str], code: int, message: str) -> None:
    """Each failure has its message and its exit code."""
    if "--plot" in arguments:
        pytest.importorskip("matplotlib")
    assert message in call(*arguments, code=code).stderr


def test_the_plain_document_of_a_run_without_a_completed_case() -> None:
    """Where nothing completed, the throughput is null."""
    specification = Specification.from_dict(
        {
            "id": "stuck",
            "tasks": [{"id": "a", "split": "xor"}, {"id": "b"}, {"id": "j", "join": "and"}],
            "flows": [
                {"from": "start", "to": "a"},
                {"from": "a", "to": "b", "when": "data.x"},
                {"from": "a", "to": "j", "default": True},
                {"from": "b", "to": "j"},
                {"from": "j", "to": "end"},
            ],
        }
    )

    assert simulate(specification, cases=5).to_dict()["throughput"] is None
