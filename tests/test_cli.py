"""The command line: each command for people and for programs, every exit code, and what people type in a hurry."""

from __future__ import annotations

import io
import json
import os
import re
import runpy
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from knhk import Engine, Specification, build
from knhk.cli import main, output
from knhk.cli.app import knhk
from knhk.cli.driving import Trace
from knhk.cli.failures import EXIT_CODES, exit_code
from knhk.cli.session import short
from knhk.errors import (
    ConcurrentUpdate,
    DataError,
    HandlerError,
    InternalError,
    JournalError,
    KnhkError,
    MissingExtra,
    SpecificationError,
    StoreFull,
    UnknownSpecification,
)
from knhk.testing.clock import ManualClock

ORDER: dict[str, Any] = {
    "id": "order",
    "tasks": [
        {"id": "check", "handler": "check", "split": "xor"},
        {"id": "approve", "manual": {"roles": ["approver"]}},
        {"id": "charge", "handler": "charge", "join": "xor"},
    ],
    "flows": [
        {"from": "start", "to": "check"},
        {"from": "check", "to": "approve", "when": "data.amount > 1000"},
        {"from": "check", "to": "charge", "default": True},
        {"from": "approve", "to": "charge"},
        {"from": "charge", "to": "end"},
    ],
}
WAIT: dict[str, Any] = {
    "id": "wait",
    "tasks": [
        {"id": "open"},
        {"id": "pay", "trigger": "payment"},
        {"id": "late", "timer": "3d"},
        {"id": "ship", "join": "xor", "subnet": "shipping"},
        {"id": "each", "manual": {}, "multiple": {"for_each": "data.lines", "creation": "dynamic"}},
    ],
    "conditions": ["waiting"],
    "flows": [
        {"from": "start", "to": "open"},
        {"from": "open", "to": "waiting"},
        {"from": "waiting", "to": "pay"},
        {"from": "waiting", "to": "late"},
        {"from": "pay", "to": "ship"},
        {"from": "late", "to": "ship"},
        {"from": "ship", "to": "each"},
        {"from": "each", "to": "end"},
    ],
    "subnets": {
        "shipping": {
            "tasks": [{"id": "label", "external": {"topic": "labels"}}],
            "flows": [{"from": "start", "to": "label"}, {"from": "label", "to": "end"}],
        }
    },
}
HANDLERS = """
from pathlib import Path

def check(work):
    print("the handler speaks")
    return {"checked": True}

def charge(work):
    if work.data.get("broken") and not Path("mended").exists():
        raise KeyError("card")
    return {"receipt": 1}

HANDLERS = {"check": check, "charge": charge}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the files that the commands name; what handlers change in Python is taken back."""
    for name in ("KNHK_DB", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "order.json").write_text(json.dumps(ORDER))
    (tmp_path / "wait.json").write_text(json.dumps(WAIT))
    (tmp_path / "h.py").write_text(HANDLERS)
    return tmp_path


def call(*arguments: str, code: int = 0, stdin: str | None = None) -> Result:
    """Call a command in this process and hold it to its exit code."""
    result = CliRunner().invoke(knhk, list(arguments), input=stdin)
    assert result.exit_code == code, f"{result.exit_code}: {result.stdout}{result.stderr}{result.exception!r}"
    assert "\x1b" not in result.output
    return result


def answer(*arguments: str, code: int = 0) -> Any:
    """Call a command with --json and return its one document."""
    return json.loads(call(*arguments, "--json", code=code).stdout)


def answers(*arguments: str) -> list[Any]:
    """Call a list command with --json and return its documents, one a line."""
    return [json.loads(line) for line in call(*arguments, "--json").stdout.splitlines()]


def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a process of its own, with pipes."""
    command = [sys.executable, "-m", "knhk", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **environment}
    )


def make(amount: int = 2000, *, db: str = "o.db", code: int = 0, **data: Any) -> str:
    """Run an order on a store; returns the case's id."""
    text = json.dumps({"amount": amount, **data})
    document = answer("run", "order.json", "--data", text, "--db", db, "--handlers", "h.py", code=code)
    return str(document["case"])


def waiting(*, lines: int = 1) -> str:
    """Run a case that waits for an event or a timer; returns its id."""
    text = json.dumps({"lines": [0] * lines})
    return str(answer("run", "wait.json", "--data", text, "--db", "o.db")["case"])


def state_of(case: str) -> str:
    """The state of a case in the store."""
    return str(answer("show", case, "--db", "o.db")["state"])


# --- run ------------------------------------------------------------------------------------------------------------------


def test_run_prints_the_trace_then_state_and_data() -> None:
    """A run names each completed task with the way that it chose, then the state and the data."""
    lines = call("run", "order.json", "--data", '{"amount": 7}', "--handlers", "h.py").stdout.splitlines()

    assert "(order 1; in memory, nothing is kept)" in lines[0]
    assert lines[1:] == [
        "the handler speaks",
        "  check -> charge",
        "  charge",
        "state      completed",
        'data       {"amount": 7, "checked": true, "receipt": 1}',
    ]


def test_run_says_what_is_offered_and_how_to_go_on() -> None:
    """A run that waits for a person shows the work item and a command that can be typed as it stands."""
    text = call("run", "order.json", "--data", '{"amount": 2000}', "--handlers", "h.py", "--db", "o.db").stdout
    command = next(line.split() for line in text.splitlines() if "knhk work complete" in line)

    assert "2     approve  offered      approver" in text
    assert call(*command[1:]).stdout.count("completed") == 1


def test_run_in_memory_says_that_the_case_is_gone() -> None:
    """Without a store, a case that waits cannot go on, and the output says how it could."""
    text = call("run", "order.json", "--data", '{"amount": 2000}', "--handlers", "h.py").stdout

    assert "nothing is kept" in text
    assert "knhk run ... --db PATH" in text


def test_run_gives_programs_one_document() -> None:
    """With --json, a run prints the case and its trace, whatever its handlers print."""
    result = call("run", "order.json", "--data", '{"amount": 7}', "--handlers", "h.py", "--json")
    document = json.loads(result.stdout)

    assert document["state"] == "completed"
    assert [each["task"] for each in document["trace"]] == ["check", "charge"]
    assert document["trace"][0]["chosen"] == ["check>charge"]
    assert document["db"] is None
    assert result.stderr == "the handler speaks\n"


def test_run_takes_data_from_a_file_or_standard_input(here: Path) -> None:
    """``@file`` and ``@-`` are where long data comes from."""
    (here / "d.json").write_text('{"amount": 3}')

    assert answer("run", "order.json", "--data", "@d.json", "--handlers", "h.py")["data"]["amount"] == 3
    result = call("run", "order.json", "--data", "@-", "--handlers", "h.py", stdin='{"amount": 4}')
    assert '"amount": 4' in result.stdout


def test_run_reads_yaml_and_long_data_line_by_line(here: Path) -> None:
    """YAML is read by its suffix, and data that does not fit a line is shown a member a line."""
    (here / "o.yaml").write_text(Specification.from_dict(ORDER).to_yaml())
    data = json.dumps({"amount": 1, "note": "x" * 90})
    text = call("run", "o.yaml", "--data", data, "--handlers", "h.py").stdout

    assert f'data       amount: 1\n           note: "{"x" * 90}"\n' in text


def test_run_without_a_handler_runs_nothing(here: Path) -> None:
    """A missing handler is named with its task before anything happens, and no store is made."""
    result = call("run", "order.json", "--db", "new.db", code=2)

    assert "task check: handler 'check'" in result.stderr
    assert 'HANDLERS = {"check": check, "charge": charge}' in result.stderr
    assert not (here / "new.db").exists()


def test_run_checks_handlers_of_subnets(here: Path) -> None:
    """A missing handler inside a subnet is named with the subnet."""
    document = json.loads(json.dumps(WAIT))
    document["subnets"]["shipping"]["tasks"] = [{"id": "label", "handler": "print-it"}]
    (here / "deep.json").write_text(json.dumps(document))

    assert "task label of subnet shipping: handler 'print-it'" in call("run", "deep.json", code=2).stderr


def test_run_with_a_failing_handler_says_where(here: Path) -> None:
    """A handler that raises is told with its exception and line, after the case that it left."""
    arguments = ("run", "order.json", "--data", '{"amount": 1, "broken": true}', "--handlers", "h.py", "--db", "o.db")
    result = call(*arguments, code=6)

    assert "state      failed" in result.stdout
    assert "--handlers h.py   (another attempt at what failed)" in result.stdout
    assert "charge: handler 'charge' failed: 'card'" in result.stderr
    assert f"KeyError in charge, {here / 'h.py'}:10" in result.stderr
    assert answer(*arguments, code=6)["state"] == "failed"


def test_run_stops_at_ctrl_c_with_the_way_to_go_on(here: Path) -> None:
    """Ctrl-C ends with 130 and leaves a case that can be resumed."""
    (here / "stop.py").write_text(
        "def stop(work):\n    raise KeyboardInterrupt\nHANDLERS = {'check': stop, 'charge': stop}"
    )
    result = call("run", "order.json", "--data", '{"amount": 1}', "--handlers", "stop.py", "--db", "o.db", code=130)
    (case,) = answers("cases", "--db", "o.db")

    assert f"go on with: knhk resume {short(case['case'])} --db o.db" in result.stderr
    assert answer("resume", case["case"], "--db", "o.db", "--handlers", "h.py")["state"] == "completed"


def test_ctrl_c_elsewhere_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C outside a handler ends with 130, without a traceback."""

    def interrupted(*_: object, **__: object) -> Iterator[object]:
        raise KeyboardInterrupt

    make()
    monkeypatch.setattr(Engine, "cases", interrupted)

    assert call("cases", "--db", "o.db", code=130).stderr == "Error: stopped\n"


def test_run_that_deadlocks_exits_with_1(here: Path) -> None:
    """A case that comes to nothing is the answer no."""
    document = {
        "id": "dead",
        "tasks": [{"id": "a", "split": "xor"}, {"id": "b", "join": "and"}],
        "conditions": ["x"],
        "flows": [
            {"from": "start", "to": "a"},
            {"from": "a", "to": "b", "when": "true"},
            {"from": "a", "to": "x", "default": True},
            {"from": "x", "to": "b"},
            {"from": "b", "to": "end"},
        ],
    }
    (here / "dead.json").write_text(json.dumps(document))

    result = call("run", "dead.json", "--db", "o.db", code=1)
    assert "state      deadlocked" in result.stdout
    assert "knhk cancel" in result.stdout
    assert call("resume", "0", "--db", "o.db", code=4)


def test_run_refuses_other_content_under_a_registered_version(here: Path) -> None:
    """Other content under the same id and version is a conflict."""
    make()
    (here / "order.json").write_text(json.dumps({"id": "order"}))

    assert "registered" in call("run", "order.json", "--db", "o.db", code=4).stderr


# --- handlers -------------------------------------------------------------------------------------------------------------


def test_handlers_come_from_modules_and_register_functions(here: Path) -> None:
    """A module on the path, and a function ``register(engine)``, give handlers like a file with HANDLERS."""
    (here / "knhk_test_a.py").write_text("print('loaded')\nHANDLERS = {'check': lambda work: None}")
    (here / "knhk_test_b.py").write_text(
        "def register(engine):\n    print('registers')\n    engine.handler('charge')(lambda work: {'by': 'register'})"
    )
    document = answer(
        *("run", "order.json", "--data", '{"amount": 1}'),
        *("--handlers", "knhk_test_a", "--handlers", "knhk_test_b.py"),
    )

    assert document["data"] == {"amount": 1, "by": "register"}


def test_a_register_function_that_gives_too_little_is_noticed(here: Path) -> None:
    """What ``register(engine)`` leaves out is missing before anything runs."""
    (here / "little.py").write_text("def register(engine): pass")

    assert "handler 'check'" in call("run", "order.json", "--handlers", "little.py", code=2).stderr


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("x = 1", 2, "neither HANDLERS"),
        ("1 / 0", 6, "bad.py:1)"),
        ("import no_such_thing", 6, "no_such_thing"),
        ("def f(:", 6, "SyntaxError"),
        ("def register(engine): raise RuntimeError('no net')", 6, "no net"),
        ("def register(engine): engine.case('x')", 3, "'x'"),
        ("async def f(work): pass\nHANDLERS = {'check': f, 'charge': f}", 2, "asynchronous"),
        ("HANDLERS = {'check': 1, 'charge': 2}", 2, "no function"),
    ],
)
def test_handlers_that_cannot_be_used_are_refused(here: Path, text: str, code: int, message: str) -> None:
    """A file whose handlers cannot be used says why, and nothing runs."""
    (here / "bad.py").write_text(text)

    assert message in call("run", "order.json", "--handlers", "bad.py", code=code).stderr


@pytest.mark.parametrize("name", ["nothing.py", "no_such_module", "no_such.module"])
def test_handlers_that_are_not_there_are_not_found(name: str) -> None:
    """A file or module that does not exist is exit code 3."""
    assert repr(name)[1:-1] in call("run", "order.json", "--handlers", name, code=3).stderr


def test_a_file_without_py_is_no_python_file(here: Path) -> None:
    """A file that Python cannot import is refused."""
    (here / "h.txt").write_text(HANDLERS)

    assert "not a Python file" in call("run", "order.json", "--handlers", "h.txt", code=2).stderr


# --- verify ---------------------------------------------------------------------------------------------------------------


def test_verify_counts_and_names_the_content() -> None:
    """A well-formed specification is counted, subnets included, and its content named."""
    text = call("verify", "wait.json").stdout
    document = answer("verify", "wait.json")

    assert text.startswith("wait.json: well-formed, sound\n")
    assert "6 tasks, 1 condition, 10 flows, 1 subnet" in text
    assert document["soundness"]["verdict"] == "sound"
    assert document["content_hash"] == Specification.from_dict(WAIT).content_hash
    assert (document["tasks"], document["problems"]) == (6, [])


def test_verify_lists_every_problem(here: Path) -> None:
    """Every problem is printed with its place, for each file, and the exit code is 1."""
    (here / "bad.json").write_text(
        json.dumps({"id": "x", "tasks": [{"id": "a", "colour": 1}], "flows": [{"from": "a", "to": "b"}]})
    )
    text = call("verify", "wait.json", "bad.json", code=1).stdout
    document = answer("verify", "bad.json", code=1)

    assert "bad.json: not well-formed, " in text
    assert len(document["problems"]) > 1
    assert all(f"  {each['place']}: {each['message']}" in text for each in document["problems"])


def test_verify_says_what_this_version_cannot_run(here: Path) -> None:
    """What is well-formed and yet refused at registration is told as that."""
    document = json.loads(json.dumps(ORDER))
    document["data"] = {"type": "objekt"}
    (here / "schema.json").write_text(json.dumps(document))

    assert "well-formed, but this version cannot run it, 1 problem" in call("verify", "schema.json", code=1).stdout
    assert answer("verify", "schema.json", code=1)["well_formed"] is True


def test_verify_reports_text_that_is_no_json(here: Path) -> None:
    """A text that cannot be read is not well-formed either, and the line is named."""
    (here / "torn.json").write_text('{"id": ')

    assert "torn.json, line 1" in call("verify", "torn.json", code=1).stdout


# --- patterns -------------------------------------------------------------------------------------------------------------


def test_patterns_lists_all() -> None:
    """All 43 patterns are listed by number."""
    lines = call("patterns").stdout.splitlines()

    assert lines[0].split() == ["number", "name", "category"]
    assert [each["number"] for each in answers("patterns")] == [*range(1, 44)]
    assert len(lines) == 44


def test_patterns_shows_one() -> None:
    """A pattern is shown with its net and its variables, by number or by name."""
    text = call("patterns", "4").stdout
    document = answer("patterns", "exclusive-choice")

    assert "Exclusive Choice" in text
    assert "when data." in text
    assert "variable  meaning" in text
    assert "knhk patterns 4 --execute" in text
    assert document["number"] == 4
    assert document["defaults"].keys() == document["variables"].keys()
    assert "subnet " in "".join(call("patterns", str(number)).stdout for number in range(1, 44))


def test_patterns_executes_one() -> None:
    """An execution shows outcome, trace and variables, with the data that was given."""
    document = answer("patterns", "4", "--execute", "--data", '{"amount": 7}')
    text = call("patterns", "4", "--execute", "--data", '{"amount": 7}').stdout

    assert document["outcome"] == "completed"
    assert document["variables"] == {"amount": 7}
    assert all(each in text for each in document["trace"])
    assert "outcome    completed" in text


def test_a_pattern_that_deadlocks_exits_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """The outcome of an execution decides the exit code as that of a case does."""
    monkeypatch.setattr("knhk.cli.commands_patterns.BAD", frozenset({"completed"}))

    call("patterns", "1", "--execute", code=1)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["99"], 3),
        (["exclusive-chois"], 3),
        (["--execute"], 2),
        (["4", "--data", "{}"], 2),
        (["4", "--execute", "--data", '{"amount": "x"}'], 6),
    ],
)
def test_patterns_refuses(arguments: list[str], code: int) -> None:
    """What is no pattern, or cannot be executed, has its exit code."""
    call("patterns", *arguments, code=code)


# --- cases, show, and names -----------------------------------------------------------------------------------------------


def test_cases_lists_with_filters() -> None:
    """Cases are listed oldest first, by state and by specification."""
    first, second, third = make(2000), make(1), waiting()
    every = answers("cases", "--db", "o.db")

    assert [each["case"] for each in every] == [first, second, third]
    assert [each["case"] for each in answers("cases", "--db", "o.db", "--state", "completed")] == [second]
    assert [each["case"] for each in answers("cases", "--db", "o.db", "--spec", "wait")] == [third]
    text = call("cases", "--db", "o.db").stdout
    assert all(each in text for each in (first, second, third))


def test_cases_of_an_empty_answer_print_nothing() -> None:
    """An empty list is empty on stdout, for people too."""
    make()
    result = call("cases", "--db", "o.db", "--spec", "none")

    assert (result.stdout, result.stderr) == ("", "no cases\n")


def test_a_quarantined_case_is_listed_with_its_reason() -> None:
    """A damaged case is listed as set aside; showing it is a failure of the store, ticking passes it by."""
    case = make()
    call("work", "complete", f"{case}/2", "--db", "o.db")
    with sqlite3.connect("o.db") as connection:
        connection.execute("UPDATE journal SET batch = x'00'")
    connection.close()

    assert "case" in call("tick", "--db", "o.db", "--handlers", "h.py", code=5).stderr
    call("show", case, "--db", "o.db", code=5)
    assert "set aside: " in call("cases", "--db", "o.db").stdout


def test_show_tells_everything() -> None:
    """A case is shown with state, data, what is enabled, tokens, work items and history."""
    case = make()
    text = call("show", case, "--db", "o.db").stdout
    document = answer("show", case, "--db", "o.db")

    assert "enabled    approve" in text
    assert "tokens     check>approve" in text
    assert "case_created" in text
    assert document["enabled"] == ["approve"]
    assert document["marking"] == {"": {"check>approve": 1}}
    assert document["work_items"][0]["roles"] == ["approver"]
    assert document["history"][0]["details"] == {"data": {"amount": 2000}}
    assert document["history"][0]["at"].endswith("Z")
    assert [each["sequence"] for each in document["history"]] == [*range(1, len(document["history"]) + 1)]


def test_show_tells_of_subnets_timers_and_events() -> None:
    """Timers are times, events that are waited for are named, and subnets have their tokens."""
    case = waiting()
    text = call("show", case, "--db", "o.db").stdout
    assert "the next timer is due 2" in text
    assert "(it waits for payment)" in text
    due = next(each for each in answer("show", case, "--db", "o.db")["history"] if each["kind"] == "timer_set")
    assert due["details"]["due"].endswith("Z")

    call("event", case, "payment", "--db", "o.db")
    text = call("show", case, "--db", "o.db").stdout
    assert "tokens     ship: start" in text
    assert "topic labels" in text
    assert "payment)" not in text


def test_show_can_leave_out_the_beginning() -> None:
    """``--last`` keeps the end of the history and says how much is missing."""
    case = make()
    text = call("show", case, "--db", "o.db", "--last", "1").stdout

    assert "earlier events left out" in text
    assert "case_created" not in text
    assert answer("show", case, "--db", "o.db", "--last", "0")["history"] == []


def test_a_case_is_found_by_a_part_of_its_id() -> None:
    """The end, the beginning or a middle of an id names the case that alone has it."""
    engine = Engine("o.db", ids=iter_ids("case-one", "case-two", "other-two-1"))
    with engine:
        engine.register(build("empty").specification())
        for _ in range(3):
            engine.create_case("empty")

    def found(part: str) -> Any:
        return answer("show", part, "--db", "o.db")["case"]

    assert found("one") == "case-one"
    assert found("oth") == "other-two-1"
    assert found("her-") == "other-two-1"
    assert found("two") == "case-two", "an end goes before a middle"
    assert found("case-two") == "case-two"
    result = call("show", "case", "--db", "o.db", code=2)
    assert "2 cases" in result.stderr
    assert "case-one  empty  created" in result.stderr


def test_many_cases_of_one_part_are_not_all_listed() -> None:
    """An ambiguous part shows some of the cases and counts the rest."""
    with Engine("o.db") as engine:
        engine.register(build("empty").specification())
        for _ in range(150):
            engine.create_case("empty")

    assert "and 145 more" in call("show", "0", "--db", "o.db", code=2).stderr
    assert len(call("cases", "--db", "o.db").stdout.splitlines()) == 151


def iter_ids(*names: str) -> Any:
    """A source of given ids."""

    class Given:
        left = list(names)

        def next_id(self) -> str:
            return self.left.pop(0)

    return Given()


# --- commands on cases ----------------------------------------------------------------------------------------------------


def test_cancel_ends_a_case() -> None:
    """A case is cancelled once; what has ended is refused."""
    case = make()

    assert answer("cancel", case[-8:], "--db", "o.db")["state"] == "cancelled"
    call("cancel", case, "--db", "o.db", code=4)


def test_suspend_holds_and_resume_goes_on() -> None:
    """A suspended case refuses work until it is resumed, and its hint says so."""
    case = make()
    assert f"knhk resume {short(case)} --db o.db" in call("suspend", case, "--db", "o.db").stdout
    call("work", "complete", case, "2", "--db", "o.db", code=4)

    assert answer("resume", case, "--db", "o.db")["state"] == "running"
    refused = call("resume", case, "--db", "o.db", code=4)
    assert "nothing in it has failed" in refused.stderr


def test_resume_retries_what_failed(here: Path) -> None:
    """A failed case gets another attempt, at once with handlers and later without."""
    first, second = make(1, broken=True, code=6), make(1, broken=True, code=6)
    (here / "mended").touch()

    assert answer("resume", first, "--db", "o.db", "--handlers", "h.py")["state"] == "completed"
    assert answer("resume", second, "--db", "o.db")["runnable"] is True
    assert "waits for --handlers" in call("resume", second, "--db", "o.db", code=4).stderr
    assert "handler charge" in call("show", second, "--db", "o.db").stdout
    call("resume", second, "--db", "o.db", "--handlers", "h.py")
    assert state_of(second) == "completed"


def test_resume_starts_a_case_that_was_only_created() -> None:
    """A case that a program created and never started is started."""
    with Engine("o.db") as engine:
        engine.register(Specification.from_dict(ORDER))
        case = engine.create_case("order", {"amount": 1}).id

    assert "knhk resume" in call("show", case, "--db", "o.db").stdout
    assert answer("resume", case, "--db", "o.db")["state"] == "running"


def test_event_reaches_the_case() -> None:
    """An event that is waited for moves the case; an unknown one is refused with those that are known."""
    case = waiting()
    refused = call("event", case, "payement", "--db", "o.db", code=4)
    assert "it listens to payment" in refused.stderr
    document = answer("event", case, "payment", "--data", '{"paid": 5}', "--db", "o.db")

    assert document["event"] == "payment"
    assert document["data"]["paid"] == 5
    assert document["enabled"] == ["ship/label"]
    assert "it listens to none" in call("event", make(), "x", "--db", "o.db", code=4).stderr


def test_a_transient_event_that_nobody_waits_for_is_told(here: Path) -> None:
    """An event that is not kept says so on stderr."""
    document = json.loads(json.dumps(WAIT))
    document["tasks"][1]["trigger"] = {"event": "payment", "mode": "transient"}
    (here / "wait.json").write_text(json.dumps(document))
    case = waiting()
    call("event", case, "payment", "--db", "o.db")

    assert "nobody waits for 'payment' now" in call("event", case, "payment", "--db", "o.db").stderr


def test_event_with_handlers_goes_on(here: Path) -> None:
    """With handlers, the automatic work behind an event is done at once; a missing one is refused before."""
    document = json.loads(json.dumps(WAIT))
    document["tasks"][4] = {"id": "each", "handler": "check"}
    (here / "wait.json").write_text(json.dumps(document))
    with Engine("o.db") as engine:
        engine.register(Specification.from_dict(document))
        case = engine.create_case("wait", {})
        case.start()
    (here / "none.py").write_text("HANDLERS = {'other': print}")
    call("event", case.id, "payment", "--db", "o.db", "--handlers", "none.py", code=2)
    call("event", case.id, "payment", "--db", "o.db", "--handlers", "h.py")

    assert answer("work", "complete", case.id, "ship/label", "--db", "o.db", "--handlers", "h.py")["state"] == (
        "completed"
    )


def test_tick_runs_due_timers() -> None:
    """A timer that is due runs; nothing else is touched."""
    with Engine("o.db", clock=ManualClock(1_000)) as engine:
        engine.register(Specification.from_dict(WAIT))
        case = engine.create_case("wait", {"lines": []})
        case.start()

    assert answer("tick", "--db", "o.db") == {"timers": 1, "driven": [], "left": []}
    assert "nothing was due" in call("tick", "--db", "o.db").stdout
    assert answer("show", case.id, "--db", "o.db")["enabled"] == ["ship/label"]


def test_tick_does_the_waiting_work_of_all_cases() -> None:
    """Automatic work is done where every handler is there, and left where one is missing."""
    good, bad = make(), make(broken=True)
    for case in (good, bad):
        call("work", "complete", case, "approve", "--db", "o.db")
    left = call("tick", "--db", "o.db").stdout
    assert f"{short(good)}  left: give --handlers with charge, check" in left
    result = call("tick", "--db", "o.db", "--handlers", "h.py", code=6)

    assert "automatic work done in 2 cases, left in 0" in result.stdout
    assert f"{short(good)}  completed" in result.stdout
    assert f"{short(bad)}  failed" in result.stdout
    assert f"case {bad}: charge: handler 'charge' failed" in result.stderr


def test_tick_tells_of_a_timer_that_cannot_run(here: Path) -> None:
    """A due timer whose split has no true predicate is a data error."""
    document = {
        "id": "t",
        "tasks": [{"id": "late", "timer": "1ms", "split": "xor"}, {"id": "a", "manual": {}}],
        "flows": [
            {"from": "start", "to": "late"},
            {"from": "late", "to": "a", "when": "data.ready"},
            {"from": "late", "to": "end", "default": True},
            {"from": "a", "to": "end"},
        ],
    }
    with Engine("o.db", clock=ManualClock(1_000)) as engine:
        engine.register(Specification.from_dict(document))
        engine.create_case("t", {}).start()

    assert "data.ready" in call("tick", "--db", "o.db", code=6).stderr


# --- work -----------------------------------------------------------------------------------------------------------------


def test_work_is_listed_over_all_cases() -> None:
    """The worklist shows open items, of one case or all, by state and person."""
    first, second = make(), make()
    call("work", "start", f"{first}/approve", "--by", "ann", "--db", "o.db")

    assert [each["case"] for each in answers("work", "list", "--db", "o.db")] == [first, second]
    assert [each["by"] for each in answers("work", "list", "--db", "o.db", "--by", "ann")] == ["ann"]
    assert [each["case"] for each in answers("work", "list", "--db", "o.db", "--state", "offered")] == [second]
    assert [each["case"] for each in answers("work", "list", second[-6:], "--db", "o.db")] == [second]
    assert f"{first}  2     approve  started  ann  approver" in call("work", "list", "--db", "o.db").stdout
    nobody = call("work", "list", "--db", "o.db", "--by", "bob")
    assert (nobody.stdout, nobody.stderr) == ("", "no open work items\n")


def test_the_life_of_a_work_item() -> None:
    """A work item goes through its states, and a command that does not fit is refused with those that do."""
    case = make()

    def do(command: str, *more: str) -> Any:
        (item,) = answer("work", command, f"{case[-8:]}/2", "--db", "o.db", *more)["work_items"]
        return item["state"], item["by"]

    assert do("allocate", "--by", "ann") == ("allocated", "ann")
    assert do("offer") == ("offered", "")
    assert do("start", "--by", "bob") == ("started", "bob")
    assert do("suspend") == ("suspended", "bob")
    assert "knhk work resume" in call("show", case, "--db", "o.db").stdout
    assert do("resume") == ("started", "bob")
    call("work", "fail", case, "2", "--db", "o.db", code=1)
    assert "knhk work retry" in call("show", case, "--db", "o.db").stdout
    assert do("retry") == ("started", "bob")
    assert "allowed: suspend" in call("work", "offer", case, "2", "--db", "o.db", code=4).stderr


def test_complete_brings_data_and_goes_on() -> None:
    """Completed work joins the case's data, and with handlers the case goes on."""
    case = make()
    arguments = ("--data", '{"approved_by": "ann"}', "--by", "ann", "--handlers", "h.py")
    document = answer("work", "complete", case, "approve", "--db", "o.db", *arguments)

    assert document["item"] == 2
    assert document["state"] == "completed"
    assert document["data"]["approved_by"] == "ann"
    assert [each["task"] for each in document["trace"]] == ["approve", "charge"]


def test_instances_are_added_closed_and_forced() -> None:
    """The commands on tasks with several instances take the path of the task."""
    case = waiting(lines=1)
    call("event", case, "payment", "--db", "o.db")
    call("work", "complete", case, "ship/label", "--db", "o.db")
    call("work", "start", f"{case}/each", "--db", "o.db")

    added = answer("work", "add-instance", case, "each", "--element", '{"line": 2}', "--db", "o.db")
    assert added["running"] == ["each#1", "each#2"]
    assert answer("work", "close-instances", case, "each", "--db", "o.db")["task"] == "each"
    call("work", "add-instance", case, "each", "--db", "o.db", code=4)
    call("work", "add-instance", case, "each", "--element", "{", "--db", "o.db", code=6)
    assert "each (forced to complete)" in call("work", "complete-instances", case, "each", "--db", "o.db").stdout
    other = make()
    assert "approve (withdrawn)" in call("work", "cancel-task", other, "approve", "--db", "o.db", code=1).stdout


# --- exit codes and errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["run", "bad.json"], 1),
        (["run", "none.json"], 3),
        (["run", "."], 1),
        (["verify", "none.json"], 3),
        (["verify"], 2),
        (["nonsense"], 2),
        (["cases", "--db", "o.db", "--state", "sleeping"], 2),
        (["cases"], 2),
        (["run", "order.json", "--data", "{"], 6),
        (["run", "order.json", "--data", "[1]"], 6),
        (["run", "order.json", "--data", '{"a": 1, "a": 2}'], 6),
        (["run", "order.json", "--data", "@none.json"], 3),
        (["show", "zzz", "--db", "o.db"], 3),
        (["show", "", "--db", "o.db"], 2),
        (["work", "complete", "0", "--db", "o.db"], 2),
        (["work", "complete", "0/", "--db", "o.db"], 2),
        (["work", "complete", "0", "9", "--db", "o.db"], 3),
        (["work", "complete", "0", "nothing", "--db", "o.db"], 3),
        (["work", "allocate", "0", "2", "--db", "o.db"], 2),
        (["cases", "--db", "h.py"], 5),
        (["cases", "--db", "tape://host"], 5),
        (["run", "order.json", "--handlers", "h.py", "--db", "none/o.db"], 5),
    ],
)
def test_exit_codes(here: Path, arguments: list[str], code: int) -> None:
    """Each kind of failure has its exit code, a message on stderr and no traceback."""
    make()
    (here / "bad.json").write_text('{"id": "x", "tasks": 7}')
    result = call(*arguments, code=code)

    assert "Error: " in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""


@pytest.mark.parametrize(
    "command",
    [
        ["cases"],
        ["show", "1"],
        ["work", "list"],
        ["work", "start", "1", "1"],
        ["cancel", "1"],
        ["suspend", "1"],
        ["resume", "1"],
        ["event", "1", "x"],
        ["tick"],
    ],
)
@pytest.mark.parametrize("db", ["none.db", "sqlite:///none.db", "empty.db", "memory:"])
def test_only_run_makes_a_store(here: Path, command: list[str], db: str) -> None:
    """A store that is not there is not made by any command but run."""
    (here / "empty.db").touch()
    call(*command, "--db", db, code=3)

    assert not (here / "none.db").exists()
    assert not (here / "empty.db").stat().st_size


def test_the_store_may_be_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """KNHK_DB stands for --db."""
    case = make()
    monkeypatch.setenv("KNHK_DB", "o.db")

    assert [each["case"] for each in answers("cases")] == [case]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SpecificationError([]), 1),
        (MissingExtra("yaml", "YAML"), 2),
        (UnknownSpecification("x"), 3),
        (ConcurrentUpdate("x"), 4),
        (StoreFull("x"), 5),
        (JournalError("x"), 5),
        (DataError("x"), 6),
        (HandlerError("x"), 6),
        (InternalError("x"), 70),
        (KnhkError("x"), 70),
    ],
)
def test_every_error_of_the_tree_has_a_code(error: KnhkError, code: int) -> None:
    """Whatever KNHK raises on purpose is told with a documented code."""
    assert exit_code(error) == code
    assert code in EXIT_CODES


def test_help_documents_exit_codes_and_commands() -> None:
    """The help names every command whole, every exit code, and how cases are named."""
    text = call("--help").stdout

    assert text.count("...") == text.count("[ARGS]...") == 1
    assert all(f"{code}  {meaning}" in text for code, meaning in EXIT_CODES.items())
    assert "part of the" in text
    assert text.index("  run ") < text.index("  verify ") < text.index("  cases ") < text.index("  cancel ")


@pytest.mark.parametrize("command", [*knhk.commands, *(f"work {each}" for each in knhk.commands["work"].commands)])
def test_every_command_has_a_help_text(command: str) -> None:
    """Each command explains itself, its options included."""
    text = call(*command.split(), "--help").stdout

    assert len(text.splitlines()) > 5
    # A picture is no JSON, and neither serve nor worker answers anything.
    assert command in ("work", "worker", "dead-letters", "draw", "serve", "token", "audit", "store") or "--json" in text


# --- terminals and processes ----------------------------------------------------------------------------------------------


def test_a_process_runs_and_its_pipe_has_no_escape_codes() -> None:
    """As a process with pipes, tables and errors are plain text, even where colour is asked for; ids are whole."""
    done = process("run", "order.json", "--data", '{"amount": 2000}', "--handlers", "h.py", "--db", "o.db")
    (case,) = answers("cases", "--db", "o.db")
    listed = process("work", "list", "--db", "o.db", FORCE_COLOR="1", COLUMNS="20")
    missing = process("show", "zzz", "--db", "o.db", FORCE_COLOR="1")

    assert done.returncode == 0, done.stderr
    assert listed.stdout.splitlines()[1] == f"{case['case']}  2     approve  offered      approver"
    assert missing.returncode == 3
    assert "\x1b" not in done.stdout + done.stderr + listed.stdout + listed.stderr + missing.stderr


def test_a_process_without_utf8_still_prints(here: Path) -> None:
    """What an encoding cannot show is escaped, and JSON stays JSON."""
    arguments = ("run", "order.json", "--data", '{"amount": 1, "name": "\u00e9"}', "--handlers", "h.py")
    people = process(*arguments, PYTHONIOENCODING="ascii")
    programs = process(*arguments, "--json", PYTHONIOENCODING="ascii")

    assert "\\xe9" in people.stdout
    assert json.loads(programs.stdout)["data"]["name"] == "\u00e9"


def test_a_reader_that_goes_away_gets_no_traceback() -> None:
    """A pipe that is closed early, as by ``head``, ends the command quietly."""
    for _ in range(3):
        make()
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "knhk", "cases", "--db", "o.db", "--json"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    os.close(writing)

    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_its_libraries_the_command_line_says_what_to_install(missing: str) -> None:
    """Without click or rich, there is one line on stderr and exit code 2."""
    code = f"import sys; sys.modules[{missing!r}] = None; from knhk.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 2
    assert done.stderr == "Error: the command line needs an optional dependency: pip install 'knhk[cli]'\n"


def test_main_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`main` tells of a missing library, and lets a missing module of our own be the bug that it is."""
    monkeypatch.delitem(sys.modules, "knhk.cli.app")
    monkeypatch.setitem(sys.modules, "click", None)  # type: ignore[arg-type]
    with pytest.raises(SystemExit) as raised:
        main()
    assert raised.value.code == 2
    assert "knhk[cli]" in capsys.readouterr().err

    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "knhk.cli.app", None)  # type: ignore[arg-type]
    with pytest.raises(ModuleNotFoundError):
        main()


def test_the_module_is_the_command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """``python -m knhk --version`` prints the version."""
    monkeypatch.setattr(sys, "argv", ["knhk", "--version"])
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with pytest.raises(SystemExit) as raised:
        runpy.run_module("knhk", run_name="__main__")

    assert raised.value.code == 0
    assert capsys.readouterr().out.startswith("knhk 1.")


def test_names_cannot_steer_a_terminal() -> None:
    """Control characters in names are shown, not obeyed."""
    case = make()
    call("work", "allocate", case, "2", "--by", "\x1b[31mred\n", "--db", "o.db")

    assert "\\x1b[31mred\\x0a" in call("work", "list", "--db", "o.db").stdout
    assert answers("work", "list", "--db", "o.db")[0]["by"] == "\x1b[31mred\n"


def test_a_table_fits_a_terminal_but_for_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a table is drawn within its width, and an id is never folded."""
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", "60")
    output.say_table(("case", "remarks", "state"), [("0" * 28, "word " * 20, "failed")], whole=("case",))
    lines = re.sub("\x1b\\[[0-9;]*m", "", screen.getvalue()).splitlines()

    assert "\x1b[31mfailed" in screen.getvalue()
    assert any("0" * 28 in line for line in lines)
    assert len(lines) > 3
    assert max(map(len, lines)) <= 60


def test_progress_shows_itself_on_a_terminal_and_goes_away() -> None:
    """What takes long is shown on a terminal, and nothing is left of it; elsewhere there is nothing at all."""
    screen = io.StringIO()
    with output.Slow("waiting", console=Console(file=screen, force_terminal=True, width=60), delay=0) as progress:
        assert progress._timer is not None
        progress._timer.join()
        assert [*progress.count(range(100), "cases")] == [*range(100)]
        progress.stop()
        progress.stop()
    quiet = io.StringIO()
    with output.Slow("waiting", console=Console(file=quiet), delay=0):
        pass

    assert "100 cases" in screen.getvalue()
    assert quiet.getvalue() == ""


def test_the_trace_is_not_looked_at_too_often() -> None:
    """A second look at the history waits until ten times the cost of the first have passed."""
    with Engine("memory:") as engine:
        engine.register(build("empty").specification())
        case = engine.create_case("empty")
        trace = Trace(case, speaks=False)
        trace._not_before = float("inf")
        case.start()
        trace.look_if_cheap()
        seen = trace._seen
        trace.look()

        assert (seen, trace._seen) == (1, len(case.history()))
