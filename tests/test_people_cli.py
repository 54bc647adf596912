"""People at the command line: ``--org``, worklists, and work that goes from hand to hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from knhk.cli.app import knhk
from tests.people import EVERY_PRIVILEGE, OFFICE, work_of


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with an office, its work, and a case of it."""
    for name in ("KNHK_DB", "KNHK_ORG", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KNHK_DB", "w.db")
    monkeypatch.setenv("KNHK_ORG", "org.json")
    Path("org.json").write_text(json.dumps(OFFICE), encoding="utf-8")
    manual = {"roles": ["clerk"], "privileges": EVERY_PRIVILEGE}
    tasks = {"check": manual, "approve": {**manual, "separate_from": ["check"]}}
    Path("work.json").write_text(work_of(tasks).to_json(), encoding="utf-8")
    call("run", "work.json", "--db", "w.db")
    return tmp_path


def call(*arguments: str, code: int = 0) -> Result:
    """Call a command in this process and hold it to its exit code."""
    result = CliRunner().invoke(knhk, list(arguments))
    assert result.exit_code == code, f"{result.exit_code}: {result.stdout}{result.stderr}{result.exception!r}"
    return result


def answers(*arguments: str) -> list[Any]:
    """Call a list command with --json and return its documents, one a line."""
    return [json.loads(line) for line in call(*arguments, "--json").stdout.splitlines()]


def item() -> str:
    """The case and the number of the only open item."""
    (found,) = answers("work", "list")
    return f"{found['case']}/{found['item']}"


def do(command: str, *more: str) -> tuple[str, str]:
    """Do something with the only open item; returns the state and the owner of what is open then."""
    document = json.loads(call("work", command, item(), *more, "--json").stdout)
    (found,) = document["work_items"]
    return found["state"], found["by"]


def test_a_participant_sees_his_queues() -> None:
    """A list of a participant's has what he may take up and what is his, and of others nothing."""
    assert [each["state"] for each in answers("work", "list", "--participant", "ann")] == ["offered"]
    assert answers("work", "list", "--participant", "dora") == []
    call("work", "allocate", item(), "--by", "ann")
    assert [each["by"] for each in answers("work", "list", "--participant", "ann")] == ["ann"]
    assert answers("work", "list", "--participant", "ann", "--state", "offered") == []
    assert answers("work", "list", "--participant", "ben") == []
    assert answers("work", "list", "--participant", "root") == []
    case = item().partition("/")[0]
    assert len(answers("work", "list", case, "--participant", "ann")) == 1
    assert "has no active participant 'zed'" in call("work", "list", "--participant", "zed", code=4).stderr


def test_long_queues_are_listed_whole() -> None:
    """A list goes on behind the first page."""
    Path("many.py").write_text(
        "import knhk\n"
        "org = knhk.Organisation.load('org.json')\n"
        "with knhk.Engine('w.db', durability='off', directory=org) as engine:\n"
        "    engine.run_many(engine.create_many('work', [None] * 120), threads=1)\n",
        encoding="utf-8",
    )
    exec(compile(Path("many.py").read_text(encoding="utf-8"), "many.py", "exec"), {})  # noqa: S102 - our own text

    assert len(answers("work", "list", "--participant", "ann")) == 121


def test_without_an_organisation_the_roles_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody says who works here, a list takes the participant's roles, and a command takes any name."""
    monkeypatch.delenv("KNHK_ORG")

    assert len(answers("work", "list", "--participant", "ann", "--role", "clerk")) == 1
    assert answers("work", "list", "--participant", "ann") == []
    assert "give --participant NAME" in call("work", "list", "--role", "clerk", code=2).stderr
    assert "cannot stand together" in call("work", "list", "--by", "a", "--participant", "a", code=2).stderr
    assert do("start", "--by", "anybody") == ("started", "anybody")


def test_work_goes_from_hand_to_hand() -> None:
    """Work is allocated, delegated, given back, started, saved, reallocated, suspended and skipped, each by who may."""
    assert do("allocate", "--by", "ann") == ("allocated", "ann")
    assert do("delegate", "--to", "ben", "--by", "ann") == ("allocated", "ben")
    assert do("offer", "--by", "ben") == ("offered", "")
    assert do("allocate", "--to", "cleo", "--by", "root") == ("allocated", "cleo")
    assert do("offer", "--to", "role:clerk", "--to", "participant:dora", "--by", "root") == ("offered", "")
    assert "clerk, participant dora" in call("work", "list").stdout
    assert do("start", "--by", "dora") == ("started", "dora")
    assert do("save", "--data", '{"x": 1}', "--by", "dora") == ("started", "dora")
    assert do("reallocate", "--to", "ann", "--anew", "--by", "root") == ("started", "ann")
    assert do("suspend", "--by", "ann") == ("suspended", "ann")
    assert do("resume", "--by", "ann") == ("started", "ann")
    call("work", "fail", item(), "--by", "ann", code=1)
    assert do("retry", "--by", "ann") == ("started", "ann")
    assert do("skip", "--by", "ann") == ("offered", "")
    assert [each["task"] for each in answers("work", "list")] == ["approve"]


def test_refusals_say_why() -> None:
    """What somebody may not do is refused with the reason, and what is said wrongly with what is wanted."""
    refused = call("work", "start", item(), "--by", "dora", code=4)
    assert "'dora' may not start check: it is for role clerk" in refused.stderr
    assert "say who does it" in call("work", "start", item(), code=4).stderr
    assert "say who gets it: --to NAME" in call("work", "allocate", item(), code=2).stderr
    wrong = call("work", "offer", item(), "--to", "clerk", "--by", "root", code=6)
    assert "to: an item is offered to role:NAME or participant:NAME, not to 'clerk'" in wrong.stderr
    call("work", "complete", item(), "--by", "ann")
    assert "'ann' did check in this case" in call("work", "start", item(), "--by", "ann", code=4).stderr


def test_what_is_unoffered_says_how_to_go_on() -> None:
    """A case with work that is offered to nobody shows the command that offers it."""
    Path("nobody.json").write_text(
        work_of({"a": {"participants": ["gone"]}}, name="nobody").to_json(), encoding="utf-8"
    )
    shown = call("run", "nobody.json", "--db", "w.db").stdout

    assert "knhk work offer" in shown
    assert [each["task"] for each in answers("work", "list", "--state", "unoffered")] == ["a"]


def test_piles_and_chains() -> None:
    """A participant has all work of a task, or of a case, from now on, and ends it."""
    assert do("chain", "--by", "ben") == ("offered", "")
    assert do("pile", "--by", "ann") == ("offered", "")
    call("run", "work.json", "--db", "w.db")
    assert [each["by"] for each in answers("work", "list", "--state", "started")] == ["ann"]
    first = answers("work", "list", "--state", "offered")[0]
    call("work", "complete", f"{first['case']}/check", "--by", "cleo")
    assert [each["by"] for each in answers("work", "list", first["case"])] == ["ben"]
    call("work", "pile", f"{answers('work', 'list', '--by', 'ann')[0]['case']}/check", "--end", "--by", "ann")
    call("run", "work.json", "--db", "w.db")
    assert len(answers("work", "list", "--state", "offered")) == 1
    assert do_end_chain(first["case"]) == 0


def do_end_chain(case: str) -> int:
    """End a chain; returns the exit code."""
    return call("work", "chain", f"{case}/approve", "--end", "--by", "ben").exit_code


def test_an_organisation_is_read_before_anything_is_done() -> None:
    """A file of people that cannot be read, or is wrong, is told of with all that is wrong."""
    assert "cannot read nowhere.json" in call("work", "list", "--org", "nowhere.json", code=3).stderr
    Path("bad.json").write_text('{"participants": {"ann": {"roles": ["x"]}}}', encoding="utf-8")
    assert 'participants.ann.roles: there is no role "x"' in call("work", "list", "--org", "bad.json", code=1).stderr
