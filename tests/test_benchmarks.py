"""The benchmarks: what is measured, judged and told, not how fast anything is."""

from __future__ import annotations

import json
from array import array
import re
import sys
from pathlib import Path

import pytest

from benchmarks import instances, kernel, registry, servers
from benchmarks.__main__ import main
from benchmarks.calibration import calibrate
from benchmarks.machine import commit, machine, processor
from benchmarks.measure import Figure, Scale, Verdict, absent, number, sample, slices, spread
from benchmarks.page import Result, Run, escape, figures_page, table
from benchmarks.peers import driver
from benchmarks.peers.connection import Connection, WorkerFailed
from benchmarks.peers.driver import Comparison, Outcome, Pace, Workload, compare_workers
from benchmarks.peers.environments import KNHK, PEERS, Peer, Unavailable, command_of, python_of
from benchmarks.peers.page import peers_page
from knhk.errors import InternalError
from benchmarks.rest import rest
from benchmarks.registry import GOALS, Goal, benchmarks, judge, measure, method

ROOT = Path(__file__).resolve().parent.parent
FAKE = """
import sys
from benchmarks.peers.protocol import Worker, expect, serve

class Fake(Worker):
    name, version, absent = "fake", "1", {"some": "it cannot"}
    def sequence(self, size, folder):
        print("this is no answer")
        def run():
            sum(range(size * 1000))
        return run
    def loop(self, size, folder):
        def run():
            expect(False)
        return run
    def durable(self, size, folder):
        raise SystemExit("the worker gave up")
    def idle(self, number):
        return bytearray(100_000)
    def leave(self, folder, count):
        open(folder + "/left", "w").write(str(count))
    def restart(self, folder, count):
        expect(open(folder + "/left").read() == str(count))

serve(Fake())
"""
COMMAND = [sys.executable, "-c", FAKE]
PACE = Pace(rounds=2, seconds=0.001, open_cases=4, patience=30.0)


# --- figures and verdicts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.00421, "0.00421"), (0.25, "0.25"), (3.14159, "3.14"), (123.4, "123"), (12_345.6, "12,346")],
)
def test_a_number_is_shown_with_the_digits_that_mean_something(value, text):
    """A figure has three digits or so, whatever its size."""
    assert text == number(value)


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [
        (Figure("a", 1.0, "ns"), Verdict.NONE),
        (Figure("a", 1.0, "ns", "", "<= 2", True), Verdict.REACHED),
        (Figure("a", 3.0, "ns", "", "<= 2", False), Verdict.MISSED),
        (absent("a", "<= 2", "no compiler"), Verdict.NOT_MEASURED),
    ],
)
def test_a_figure_says_whether_its_goal_is_reached(figure, verdict):
    """A figure has a verdict if it has a goal, and a missing one is never taken for reached."""
    assert verdict is figure.verdict


def test_a_figures_line_has_all_that_belongs_to_it():
    """The line tells figure, unit, spread, goal and verdict."""
    line = Figure("step", 3.0, "ns", "median 4.00, n 7", "<= 2", False).line()

    assert ["step", "3.00", "ns", "(median", "4.00,", "n", "7)", "goal", "<=", "2", "MISSED"] == line.split()


def test_an_absent_figures_line_says_why():
    """The line of a figure that is not there names the reason and the goal."""
    line = absent("step", "<= 2", "no compiler").line()

    assert line.split(maxsplit=2) == ["step", "-", "goal <= 2  not measured here: no compiler"]


def test_a_sample_divides_each_slice_by_its_operations():
    """A slice costs its time divided by what it did, and there are as many as asked for."""
    counts = iter([1, 10**9, 10**9])

    costs = sample(lambda: next(counts), seconds=0, at_least=3)

    assert (3, True) == (len(costs), costs[0] > costs[1] * 100)


def test_slices_are_the_best_and_the_middle():
    """The best slice is never dearer than the middle one."""
    best, middle = slices(lambda: 1, seconds=0, at_least=5)

    assert 0 < best <= middle


def test_the_spread_is_in_the_figures_unit():
    """The median is multiplied as the figure is."""
    assert "median 2,000, n 3" == spread([1.0, 2.0, 3.0], factor=1_000)


def test_quick_takes_less():
    """A quick scale shortens time and counts, a full one leaves them."""
    assert (0.1, 0.05, 5, 3.0, 50) == (
        Scale(quick=True).seconds(3),
        Scale(quick=True).seconds(0.05),
        Scale(quick=True).count(50, 5),
        Scale().seconds(3.0),
        Scale().count(50, 5),
    )


# --- calibration and machine ------------------------------------------------------------------------------------------


def test_the_calibration_without_a_compiler_is_the_loop_alone():
    """Without a C compiler there is the empty loop and nothing invented beside it."""
    found = calibrate(compiler=("no-such-compiler",), seconds=0.01)

    assert (True, None, None) == (found.loop > 0, found.addition, found.ticks)


def test_the_calibration_with_a_compiler_that_fails_is_the_loop_alone():
    """A compiler that refuses the source is as good as none."""
    found = calibrate(compiler=("false",), seconds=0.01)

    assert (None, None) == (found.addition, found.ticks)


def test_the_calibration_in_c_is_faster_than_a_loop_in_python():
    """A dependent addition in C is measured where there is a compiler."""
    found = calibrate(seconds=0.01)
    if found.addition is None:
        pytest.skip("no C compiler")

    assert 0 < found.addition < found.loop


def test_the_processor_is_read_from_the_systems_description():
    """Name, family and model come from the first processor of the list."""
    text = "processor : 0\nmodel name\t: Quick One\ncpu family\t: 25\nmodel\t\t: 17\n"

    assert "Quick One (family 25, model 17)" == processor(text)


def test_a_processor_without_a_family_is_named_all_the_same():
    """Other architectures list no family; their name stands alone."""
    assert "Other One" == processor("model name : Other One\n")


def test_the_machine_names_what_a_page_needs():
    """Everything is there, as text, and no name of the machine itself."""
    found = machine()

    assert {"processor", "cores", "Python", "C compiler", "SQLite", "kernel", "commit", "date"} <= set(found)
    assert all(isinstance(each, str) and each for each in found.values())


def test_the_commit_is_known_or_said_to_be_unknown():
    """A checkout has a commit, an archive has none and says so."""
    assert re.fullmatch(r"[0-9a-f]{12}( with changes)?|unknown", commit())


# --- the table of benchmarks and goals --------------------------------------------------------------------------------


def test_every_goal_names_a_benchmark_or_why_there_is_none():
    """A goal is measured by registered benchmarks, but for those whose module is not there yet."""
    known = set(benchmarks())

    unmeasured = {name for goal in GOALS for name in goal.benchmarks} - known
    assert unmeasured <= {"soundness"}


def test_every_benchmark_tells_its_method():
    """A benchmark's docstring is a sentence, on one line."""
    for name, each in benchmarks().items():
        assert re.fullmatch(r"[^\n]+\.", method(each)), name


def test_two_modules_with_the_same_benchmark_are_refused(tmp_path, monkeypatch):
    """A name that two modules give is an error that names both."""
    (tmp_path / "second_module.py").write_text("BENCHMARKS = {'step': None}")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ValueError, match=r"second_module and benchmarks\.engine both have a benchmark 'step'"):
        benchmarks(("benchmarks.engine", "second_module"))


def test_a_benchmark_may_do_without_the_scale():
    """Functions with and without a parameter are both run."""
    one = Figure("one", 1.0, "")

    assert [[one], [one]] == [
        list(measure(lambda: iter([one]), Scale())),
        list(measure(lambda scale: iter([one] if scale.quick else []), Scale(quick=True))),
    ]


REACHED = Figure("a", 1.0, "", "", "<= 2", True)
MISSED = Figure("b", 3.0, "", "", "<= 2", False)


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ({"x": [REACHED], "y": [REACHED, Figure("c", 1.0, "")]}, (Verdict.REACHED, "")),
        ({"x": [REACHED], "y": [MISSED]}, (Verdict.MISSED, "")),
        ({"x": [MISSED]}, (Verdict.MISSED, "")),
        ({"x": [absent("d", "<= 2", "no disk")], "y": [MISSED]}, (Verdict.MISSED, "")),
        ({"x": [REACHED]}, (Verdict.NOT_MEASURED, "benchmark y is not part of this run")),
        ({"x": [REACHED], "y": [absent("d", "<= 2", "no disk")]}, (Verdict.NOT_MEASURED, "d: no disk")),
        ({"x": [Figure("c", 1.0, "")], "y": []}, (Verdict.NOT_MEASURED, "no figure of it has a goal")),
    ],
)
def test_a_goal_is_reached_only_by_all_its_figures(figures, expected):
    """One figure that misses decides; one that is not there leaves the goal open."""
    assert expected == judge(Goal("what", "<= 2", ("x", "y")), figures)


# --- pages ------------------------------------------------------------------------------------------------------------


def canned() -> Run:
    """A run as it might have been."""
    return Run(
        {"processor": "Quick | One", "commit": "abc"},
        {"empty loop turn": "9 ns"},
        (
            Result("x", "Look at it.", (REACHED, MISSED, Figure("plain", 5.0, "us")), (9.0, 10.0)),
            Result("y", "Look again.", (absent("gone", "<= 4", "no compiler"),), (9.0, 9.0)),
        ),
    )


def test_the_page_of_a_run_has_machine_goals_and_figures():
    """The page tells where, what was promised, and each figure with its verdict."""
    page = figures_page(canned(), (Goal("swift", "<= 2", ("x",)), Goal("small", "<= 4", ("y",))))

    assert "| processor | Quick \\| One |" in page
    assert "| swift | \\<= 2 | 1.00; 3.00 | MISSED |" in page
    assert "| small | \\<= 4 | - | not measured here: gone: no compiler |" in page
    assert "### x\n\nLook at it.\nAn empty loop turn took 9.00 ns before and 10.00 ns after." in page
    assert "| b | 3.00 |  | \\<= 2 | MISSED |" in page
    assert "| plain | 5.00 us |  |  |  |" in page
    assert "| gone | - |  | \\<= 4 | not measured here: no compiler |" in page


def test_the_same_run_gives_the_same_page():
    """Nothing but the run is on the page."""
    assert figures_page(canned()) == figures_page(canned())


def test_a_cell_holds_any_text():
    """What Markdown would read as its own is escaped, and a line break is a space."""
    assert "a \\| b \\<c\\> \\*d\\* \\[e\\]" == escape("a |\nb <c> *d* [e]")


def test_a_table_has_a_head_and_rows():
    """A table is a head, a rule and its rows."""
    assert ["| a | b |", "| --- | --- |", "| 1 | 2 |"] == table(("a", "b"), [("1", "2")])


# --- the program ------------------------------------------------------------------------------------------------------


def test_an_unknown_benchmark_is_refused(capsys):
    """A wrong name is told with the right ones, and nothing runs."""
    assert 2 == main(["nonesuch"])
    assert "unknown: nonesuch; there are patterns, batch" in capsys.readouterr().err


@pytest.mark.skipif(kernel.compiled() is None, reason="the compiled kernel is not built")
def test_the_program_writes_a_page(tmp_path, capsys):
    """A quick run of light benchmarks prints its figures and goals, and writes its page."""
    page = tmp_path / "page.md"

    assert 0 == main(["call", "batch", "--quick", "--page", str(page)])
    printed = capsys.readouterr().out
    assert "patterns 1 to 5, on one word" in printed
    assert "one step called from Python: <= 60 ns" in printed
    assert "reopen" not in printed
    assert "### call" in page.read_text()
    assert "benchmark rest is not part of this run" in page.read_text()
    assert "### step" not in page.read_text()


@pytest.mark.skipif(kernel.compiled() is None, reason="the compiled kernel is not built")
def test_the_program_speaks_json(capsys):
    """With --json each line is an object: the machine, the figures, the method."""
    assert 0 == main(["call", "--quick", "--json"])
    head, figure, *_, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert {"machine", "calibration"} == set(head)
    assert ("call", "patterns 1 to 5, on one word", "ns") == (figure["benchmark"], figure["name"], figure["unit"])
    assert figure["verdict"] in ("reached", "MISSED")
    assert {"benchmark", "method", "loop before", "loop after"} == set(last)


def test_light_benchmarks_run(capsys):
    """The step, automatic and OR-join benchmarks run to their ends and give their figures."""
    assert 0 == main(["step", "automatic", "orjoin", "--quick"])
    printed = capsys.readouterr().out
    for each in ("net of 10,000 tasks", "one automatic task routing", "64-way, typical"):
        assert each in printed


def test_idle_cases_are_opened_as_many_as_asked_for(capsys):
    """With a number of cases the idle benchmark opens so many, and says what the process takes."""
    assert 0 == main(["idle", "--quick", "--cases", "2000"])
    printed = capsys.readouterr().out
    assert "2,000 open cases, all in the cache" in printed
    assert "2,000 open cases, cache of 10,000" in printed
    assert "added up, " not in printed


def test_the_steps_in_c_need_the_compiled_kernel(monkeypatch):
    """Without the compiled kernel the lines of steps in C are not measured, and say so."""
    monkeypatch.setattr(kernel, "compiled", lambda: None)

    figures = [*kernel.same_step(Scale(quick=True)), *kernel.patterns(Scale(quick=True))]

    assert [kernel.NEEDS] * 2 == [each.reason for each in figures]


@pytest.mark.skipif(kernel.compiled() is None, reason="the compiled kernel is not built")
def test_the_steps_in_c_are_the_reference_kernels():
    """Each chain is compared with the reference kernel before it is measured, and a disagreement is an error."""
    batch = kernel.compiled()
    tasks, facts = array("B", [0, 1]), array("Q", [0, 0])

    kernel._agree(batch, kernel.SPLIT, tasks, facts)

    with pytest.raises(InternalError):
        kernel._agree(batch, kernel.SPLIT, array("B", [1, 0]), facts)


# --- peers ------------------------------------------------------------------------------------------------------------


def workload(name: str, kind: str, work: str, size: int = 3, threads: int = 1) -> Workload:
    """A workload of a fake worker."""
    return Workload(name, name.title(), kind, work, size, 3, threads)


def test_a_worker_says_who_it_is_and_works():
    """A worker greets, runs cases, and what its engine prints does not disturb the answers."""
    with Connection(COMMAND, ROOT, patience=30) as worker:
        greeting = worker.greeting
        answer = worker.ask(kind="cases", workload="sequence", size=5, repeat=3, threads=1)
        shared = worker.ask(kind="cases", workload="sequence", size=5, repeat=5, threads=2)

    assert {"name": "fake", "version": "1", "absent": {"some": "it cannot"}} == greeting
    assert answer["wall"] > 0
    assert shared["cpu"] > 0


def test_a_worker_goes_on_after_a_failure():
    """A case that does not reach its end is an error that names why, and the next request is answered."""
    with Connection(COMMAND, ROOT, patience=30) as worker:
        with pytest.raises(WorkerFailed, match="RuntimeError: the case did not reach its end"):
            worker.ask(kind="cases", workload="loop", size=1, repeat=1, threads=1)
        with pytest.raises(WorkerFailed, match="there is no request 'nonesuch'"):
            worker.ask(kind="nonesuch")
        answer = worker.ask(kind="idle", count=4)

    assert answer["bytes"] > 0


def test_a_worker_that_ends_is_told_with_its_last_words():
    """When a worker ends, its last line is the reason, for this request and the next."""
    with Connection(COMMAND, ROOT, patience=30) as worker:
        with pytest.raises(WorkerFailed, match="the worker gave up"):
            worker.ask(kind="cases", workload="durable", size=1, repeat=1, threads=1)
        with pytest.raises(WorkerFailed, match="the worker gave up"):
            worker.ask(kind="idle", count=2)


def test_a_worker_that_does_not_start_is_told():
    """A worker that cannot be imported fails with what Python said."""
    with pytest.raises(WorkerFailed, match="No module named 'nonesuch_engine'"):
        Connection([sys.executable, "-c", "import nonesuch_engine"], ROOT, patience=30)


def test_a_worker_that_is_silent_is_ended():
    """Nobody waits for a worker for ever."""
    with pytest.raises(WorkerFailed, match=r"no answer within 0\.2 s"):
        Connection([sys.executable, "-c", "import sys; sys.stdin.read()"], ROOT, patience=0.2)


def test_workers_are_compared_in_turns():
    """All workers get as many slices; blanks and failures keep their reasons."""
    works = (
        workload("sequence", "cases", "sequence"),
        workload("threads", "cases", "sequence", 3, 2),
        workload("some", "cases", "some"),
        workload("loop", "cases", "loop"),
        workload("idle", "idle", "idle", 100),
        workload("restart", "restart", "restart", 100),
    )

    found = compare_workers({"KNHK": COMMAND, "other": COMMAND}, {"third": "no such thing"}, works, PACE)

    assert {"KNHK": "1", "other": "1"} == found.versions
    assert {"third": "no such thing"} == found.unavailable
    for name in ("KNHK", "other"):
        assert [2, 2] == [len(found.outcomes[each][name].wall) for each in ("sequence", "threads")]
        assert "it cannot" == found.outcomes["some"][name].reason
        assert "failed: RuntimeError: the case did not reach its end" == found.outcomes["loop"][name].reason
        assert found.outcomes["idle"][name].resident is not None
        assert 1 == len(found.outcomes["restart"][name].cpu)


def test_a_worker_that_does_not_start_is_left_out_of_a_comparison():
    """The others are measured all the same."""
    commands = {"KNHK": COMMAND, "other": [sys.executable, "-c", "raise SystemExit('not here')"]}

    found = compare_workers(commands, {}, (workload("sequence", "cases", "sequence"),), PACE)

    assert ({"KNHK": "1"}, {"other": "not here"}) == (found.versions, found.unavailable)


def comparison() -> Comparison:
    """A comparison as it might have been."""
    return Comparison(
        {
            "sequence": {
                "KNHK": Outcome((2.0, 3.0, 4.0), (2.0, 2.0, 2.0)),
                "other": Outcome((8.0, 9.0, 9.5), (6.0, 6.0, 6.0)),
            },
            "some": {"KNHK": Outcome((1_500.0,), (1.0,)), "other": Outcome(reason="it cannot")},
            "idle": {"KNHK": Outcome(resident=100.0), "other": Outcome(resident=250.0)},
            "restart": {"KNHK": Outcome((2e6,), (1e6,)), "other": Outcome((4e6,), (1e6,))},
        },
        {"KNHK": "1", "other": "2"},
        {"third": "no wheel"},
    )


TITLES = {"sequence": "a sequence", "some": "some of many", "idle": "idle cases", "restart": "a restart"}


def test_a_comparison_is_told_in_ratios():
    """Each peer's figure stands beside how many times KNHK's it is, with its median."""
    tables = {caption: rows for caption, _, rows in driver.comparison_tables(comparison(), TITLES)}
    wall, cpu, memory, blank = tables.values()

    assert [
        ["a sequence", "2.00 us, median 3.00 us", "8.00 us (4.00x), median 9.00 us"],
        ["some of many", "1.50 ms", ""],
        ["a restart", "2.00 s", "4.00 s (2.00x)"],
    ] == wall
    assert ["a sequence", "2.00 us, median 2.00 us", "6.00 us (3.00x), median 6.00 us"] == cpu[0]
    assert [["idle cases", "100 B", "250 B (2.50x)"]] == memory
    assert [["other", "some of many", "it cannot"], ["third", "all", "no wheel"]] == blank


def test_a_comparison_is_readable_on_a_terminal():
    """The columns stand under one another."""
    lines = list(driver.lines(comparison(), TITLES))

    assert lines[0].startswith("Elapsed time a task")
    assert lines[1].index("other") == lines[2].index("8.00 us (4.00x)")
    assert not [each for each in lines if "median" in each]


def test_the_page_of_a_comparison_has_engines_and_tables():
    """The page names each engine with version and licence, and has every table."""
    peers = [KNHK, Peer("other", "other", ("other==2",), "MIT", "https://example.org"), PEERS[0]]
    tables = driver.comparison_tables(comparison(), TITLES)

    page = peers_page({"cores": "2"}, peers, tables, {"KNHK": "1", "other": "2"})

    assert "| other | 2 | MIT | https://example.org |" in page
    assert "| SpiffWorkflow | not measured (SpiffWorkflow==3.2.0) | LGPL-3.0 |" in page
    assert "## What is blank, and why" in page
    assert page == peers_page({"cores": "2"}, peers, tables, {"KNHK": "1", "other": "2"})


def test_fewer_open_cases_are_said_to_be_fewer():
    """A quick run does not claim ten thousand cases."""
    idle = next(each for each in driver.WORKLOADS if each.name == "idle")

    assert ("4 idle cases", "10,000 idle cases") == (driver.shown_title(idle, PACE), driver.shown_title(idle, Pace()))


def test_knhk_does_every_workload():
    """KNHK has no blank, and each of its workloads runs."""
    works = [
        Workload(each.name, each.title, each.kind, each.work, min(each.size, 4), each.tasks, min(each.threads, 2))
        for each in driver.WORKLOADS
    ]

    found = compare_workers({"KNHK": command_of(KNHK, Path(sys.executable))}, {}, works, PACE)

    assert [] == [each["KNHK"].reason for each in found.outcomes.values() if each["KNHK"].reason]


def test_an_environment_that_is_there_is_not_built_again(tmp_path):
    """An environment with the wanted versions is used as it is."""
    peer = Peer("other", "other", ("other==2",), "MIT", "-")
    python = tmp_path / "other" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    (tmp_path / "other" / "requirements.txt").write_text("other==2\n")

    assert python == python_of(peer, tmp_path)


def test_a_peer_that_cannot_be_installed_says_why(tmp_path):
    """What the installer said is the reason, and nothing is left that looks installed."""
    peer = Peer("other", "other", (f"{tmp_path}/nowhere-1.0-py3-none-any.whl",), "MIT", "-")

    with pytest.raises(Unavailable, match=r"cannot be installed: .*ERROR|cannot be installed: .*nowhere"):
        python_of(peer, tmp_path)
    assert not (tmp_path / "other" / "requirements.txt").exists()


def test_an_unknown_peer_is_refused(capsys):
    """A wrong name is told with the right ones, and nothing is installed."""
    assert 2 == main(["peers", "--only", "nonesuch"])
    assert "unknown: nonesuch; there are DBOS" in capsys.readouterr().err


def test_the_peers_command_tells_and_writes(tmp_path, capsys, monkeypatch):
    """The command prints the tables, writes the page, and fails where there was nobody to compare with."""
    monkeypatch.setattr(driver, "PEERS", (Peer("none", "none", (), "MIT", "-"),))
    page = tmp_path / "page.md"

    assert 1 == main(["peers", "--quick", "--workload", "sequence", "--page", str(page)])
    printed = capsys.readouterr().out
    assert "sequence of 10" in printed
    assert "No module named benchmarks.peers.none" in printed
    assert "| sequence of 10 |" in page.read_text()


def test_the_number_of_open_cases_can_be_chosen(capsys, monkeypatch):
    """Fewer open cases are measured, and said, when asked for; fewer than two cannot be."""
    monkeypatch.setattr(driver, "PEERS", (Peer("again", "knhk", (), "MIT", "-"),))

    assert 0 == main(["peers", "--workload", "idle", "--cases", "6"])
    assert "6 idle cases" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["peers", "--cases", "1"])
    assert "at least 2" in capsys.readouterr().err


def test_the_peers_command_speaks_json(capsys, monkeypatch):
    """With --json there is one object with every slice."""
    monkeypatch.setattr(driver, "PEERS", (Peer("again", "knhk", (), "MIT", "-"),))

    assert 0 == main(["peers", "--quick", "--workload", "sequence", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert 2 == len(found["outcomes"]["sequence"]["again"]["wall"])


def test_every_peer_is_pinned_and_its_worker_names_the_page_it_follows():
    """A peer has one version, and its worker says which documentation it was written after."""
    for peer in PEERS:
        assert all(re.fullmatch(r"[A-Za-z0-9-]+==[0-9.]+", each) for each in peer.requirements), peer.name
        host = re.match(r"https://[^/]+/|the README of .*", peer.documentation)
        assert host is not None
        assert host[0] in (ROOT / "benchmarks" / "peers" / f"{peer.module}.py").read_text(), peer.name


def test_an_engine_is_imported_by_its_worker_alone():
    """Engines under other licences are run, never imported, but by the program that stands for them."""
    engines = {"SpiffWorkflow", "dbos", "sayiir", "pm4py", "transitions", "langgraph"}
    found = {
        (path.stem.lower(), name)
        for folder in ("knhk", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        for name in re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), re.MULTILINE)
        if name in engines
    }

    assert {(name.lower(), name) for name in engines} == found


def test_the_modules_are_a_table_of_names():
    """One line registers a module, whose table is read by name."""
    for module in registry.MODULES:
        assert benchmarks((module,))


def test_the_service_is_measured_beside_the_bare_framework():
    """Reads are compared with the bare framework, durable steps with the engine, and both ratios are judged."""
    figures = {each.name: each for each in rest(Scale(quick=True))}

    judged = {name for name, each in figures.items() if each.goal}
    assert {"authenticated GET against the bare framework", "durable steps over HTTP against the engine"} == judged
    assert all(
        each.value > 0
        for name, each in figures.items()
        if name.endswith(("alone", "service", "callers")) and each.unit == "/s"
    )


def test_several_instances_are_measured_beside_the_stores_own_rate(monkeypatch):
    """Processes that share a store swap and make steps in turns, and the ratio of those by pipelines is judged for each number of clients."""
    monkeypatch.setattr(instances, "INSTANCES", (1, 2))
    monkeypatch.setattr(instances, "CLIENTS", (1, 2))

    figures = list(instances.sqlite_instances(Scale(quick=True)))

    among = ["1 instance, 1 client", "1 instance, 2 clients", "2 instances, 2 clients"]
    judged = [each for each in figures if each.goal]
    assert [f"pipelined steps against raw, SQLite, {each}" for each in among] == [each.name for each in judged]
    assert {f"steps one by one against raw, SQLite, {each}" for each in among} < {each.name for each in figures}
    assert all(each.value > 0 for each in figures)


def test_instances_on_a_server_that_is_not_installed_are_not_measured(monkeypatch):
    """Without the server's program there is one line with the reason."""
    monkeypatch.setitem(servers.COMMANDS, "etcd", ("no-such-program", None))

    figures = list(instances.etcd_instances(Scale(quick=True)))

    assert ["not measured here: no-such-program is not installed"] == [
        f"{each.verdict.value}: {each.reason}" for each in figures
    ]
