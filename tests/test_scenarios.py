"""The executable contract of the 43 patterns, played through Specification, Engine and Case on both stores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from knhk.ports import Store
from knhk._compiled import Kernel
from knhk.stores import open_store
from knhk.testing import scenarios
from knhk.testing.scenarios import Player, ScenarioFailure

CASES = Path(__file__).parent / "data" / "patterns" / "cases_public.json"
SCENARIOS: list[dict[str, Any]] = json.loads(CASES.read_text(encoding="utf-8"))
SEQUENCE: dict[str, Any] = {
    "id": "seq",
    "pattern": 1,
    "title": "a sequence",
    "net": {"tasks": {"A": {}, "B": {}}, "flows": [["i", "A"], ["A", "B"], ["B", "o"]]},
}


@pytest.fixture(scope="module")
def sqlite_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One SQLite file for all scenarios, as the command line has it."""
    store = open_store(str(tmp_path_factory.mktemp("scenarios") / "cases.db"), durability="off")
    yield store
    store.close()


def play(scenario: dict[str, Any], store: Store | None = None, *, evict: bool = False, kernel: Kernel = "auto") -> None:
    """Play a scenario on the store, or on a fresh one in memory."""
    on = open_store("memory:") if store is None else store
    Player(scenario, store=on, evict=evict, trace=False, kernel=kernel).play()


def wrong(**changes: Any) -> dict[str, Any]:
    """The sequence as a scenario, with the parts that a test wants to be wrong."""
    return {**SEQUENCE, "script": [{"expect_enabled": ["A"]}], **changes}


def test_the_public_scenarios_are_all_there() -> None:
    """The contract holds 95 scenarios with different ids, and covers each of the 43 patterns."""
    assert len({each["id"] for each in SCENARIOS}) == len(SCENARIOS) == 95
    assert {each["pattern"] for each in SCENARIOS} == set(range(1, 44))


@pytest.mark.parametrize("kernel", ["reference", "auto"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each["id"])
def test_scenario_in_memory(scenario: dict[str, Any], kernel: Kernel) -> None:
    """The scenario plays as written on the store in memory, with either kernel."""
    play(scenario, kernel=kernel)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each["id"])
def test_scenario_on_sqlite_with_eviction(scenario: dict[str, Any], sqlite_store: Store) -> None:
    """The scenario plays the same when the case is loaded anew from SQLite after every step."""
    play(scenario, sqlite_store, evict=True)


@pytest.mark.parametrize(
    ("scenario", "said"),
    [
        (wrong(script=[{"expect_enabled": ["B"]}]), "step 1 .*expected enabled .*B.*got .*A"),
        (wrong(script=[{"do": "start", "task": "A", "expect_running": []}]), "expected running"),
        (wrong(script=[{"expect_outcome": "completed"}]), "expected outcome completed, got running"),
        (wrong(script=[{"do": "start", "task": "B"}]), "was refused"),
        (wrong(script=[{"do": "start", "task": "A", "refused": True}]), "should be refused and was not"),
        (wrong(accept=[["A"]]), "should be accepted"),
        (wrong(accept=[["B", "A"]]), "should be accepted"),
        (wrong(reject=[["A", {"task": "B", "data": {"x": 1}}]]), "should be rejected"),
        (wrong(language=[["B", "A"]]), "missing .*too many"),
        (wrong(language=[]), "longer than any word"),
    ],
)
def test_a_wrong_scenario_fails_and_says_how(scenario: dict[str, Any], said: str) -> None:
    """A difference between the scenario and the engine is reported with what was expected and what came."""
    with pytest.raises(ScenarioFailure, match=said):
        play(scenario)


def test_the_wrong_scenarios_are_wrong_in_one_place_only() -> None:
    """The sequence that the failing scenarios vary is itself right, language and all."""
    play(wrong(language=[["A", "B"]], accept=[["A", "B"]], reject=[["B"], ["A", "A"]]))


def test_the_language_search_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A language with more states than the bound fails the scenario, saying so."""
    monkeypatch.setattr(scenarios, "_LANGUAGE_BOUND", 2)
    with pytest.raises(ScenarioFailure, match="more than 2 states"):
        play(wrong(language=[["A", "B"]]))


@pytest.mark.parametrize("options", [[], ["--evict"], ["--store", "sqlite", "--evict"], ["--kernel", "reference"]])
def test_the_command_line_counts_what_passed(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With good scenarios the last line counts them and the exit status is 0."""
    file = tmp_path / "good.json"
    file.write_text(json.dumps(SCENARIOS[:5]), encoding="utf-8")
    assert scenarios.main([*options, str(file), str(file)]) == 0
    assert capsys.readouterr().out.splitlines() == ["10 passed, 0 failed"]


def test_the_command_line_reports_what_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a wrong scenario its id and step are named, the last line counts it and the exit status is 1."""
    file = tmp_path / "mixed.json"
    file.write_text(json.dumps([SCENARIOS[0], wrong(script=[{"expect_enabled": ["B"]}])]), encoding="utf-8")
    assert scenarios.main([str(file)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("FAILED seq a sequence: step 1 ")
    assert lines[-1] == "1 passed, 1 failed"


def test_the_command_line_reports_a_net_that_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A scenario whose net is not well-formed counts as failed."""
    file = tmp_path / "bad.json"
    net = {"tasks": {"A": {}}, "flows": [["i", "A"], ["A", "nowhere"]]}
    file.write_text(json.dumps([wrong(net=net)]), encoding="utf-8")
    assert scenarios.main([str(file)]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "0 passed, 1 failed"


def test_the_command_line_prints_each_step_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With ``--json`` each step prints what is enabled, what runs and the outcome."""
    file = tmp_path / "one.json"
    file.write_text(json.dumps([wrong(script=[{"do": "start", "task": "A"}])]), encoding="utf-8")
    assert scenarios.main(["--json", str(file)]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert first == {"scenario": "seq", "step": 1, "enabled": [], "running": ["A"], "outcome": "running"}


@pytest.mark.parametrize("arguments", [[], ["--kernel", "compiled", "x.json"], ["--store", "tape", "x.json"]])
def test_the_command_line_refuses_what_it_cannot_do(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong arguments end with exit status 2 and a message, before anything is played."""
    with pytest.raises(SystemExit) as ended:
        scenarios.main(arguments)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err
