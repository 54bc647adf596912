"""Commands that ask a service say the same as those that open its store."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from knhk import Engine, Specification
from knhk.cli import app, places, session
from knhk.server.serving import Application
from tests.dying import messages_die
from tests.listening import Instance
from tests.served import served, token

ORDER: dict[str, Any] = {
    "id": "order",
    "tasks": [
        {"id": "check", "manual": {"roles": ["clerk"]}},
        {"id": "late", "timer": "3d"},
        {"id": "paid", "trigger": "payment"},
        {"id": "ship", "join": "xor", "manual": True},
    ],
    "conditions": ["waiting"],
    "flows": [
        {"from": "start", "to": "check"},
        {"from": "check", "to": "waiting"},
        {"from": "waiting", "to": "late"},
        {"from": "waiting", "to": "paid"},
        {"from": "late", "to": "ship"},
        {"from": "paid", "to": "ship"},
        {"from": "ship", "to": "end"},
    ],
}


LABELS: dict[str, Any] = {
    "id": "labels",
    "tasks": [{"id": "print", "external": {"topic": "labels"}, "retry": {"max_attempts": 1}}],
    "flows": [{"from": "start", "to": "print"}, {"from": "print", "to": "end"}],
}


def dead(engine: Engine, count: int) -> list[str]:
    """Let so much work fail for good, the last of it torn and all other jammed, and one message; returns the ids of the work."""
    engine.register(Specification.from_dict(LABELS))
    engine.webhooks.subscribe("https://93.184.216.34/hook", events=["case_created"], spec_id="order")
    engine.create_case("order")
    messages_die(engine)
    for sheet in range(count):
        engine.create_case("labels", {"sheet": sheet}).run()
    for claim in engine.claim("labels", worker="w", max=count):
        claim.fail("no paper", error="Torn" if claim.data["sheet"] == count - 1 else "Jam")
    return [each.id for each in engine.dead_letters.list(kind="work")]


class Both:
    """A service, its store, and commands that are given to either."""

    def __init__(self, made: Application, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.url = url
        self.engine: Engine = made.tenants.engine("default")
        kept = self.engine.store
        # The store is in this process: a command opens no other.
        monkeypatch.setattr(session, "open_store", lambda *_, **__: _Borrowed(kept))
        monkeypatch.setattr(session, "check_there", lambda _: None)
        monkeypatch.setenv("WORKFLOW_TOKEN", token("ann"))

    def ask(self, *arguments: str, code: int = 0) -> str:
        """Ask the service; returns what is printed, its address as that of the store would be."""
        return self._run([*arguments, "--server", self.url], code).stdout.replace(f"--server {self.url}", "--db store")

    def open(self, *arguments: str, code: int = 0) -> str:
        """Ask the store; a service needs no `knhk tick`, and no word of it."""
        return re.sub(r"  knhk tick .*\n", "", self._run([*arguments, "--db", "store"], code).stdout)

    def refused(self, *arguments: str, code: int = 2) -> str:
        """Ask the service for what it does not do; returns what it says."""
        return self._run([*arguments, "--server", self.url], code).stderr

    def _run(self, arguments: list[str], code: int) -> Result:
        result = CliRunner().invoke(app.knhk, arguments)
        assert code == result.exit_code, result.output
        return result


class _Borrowed:
    """A store that is not closed by whoever opened it."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def close(self) -> None:
        """Leave it open."""


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> Iterator[Both]:
    """A service with a workflow."""
    with served() as made:
        instance = Instance(made.made)
        try:
            found = Both(made.made, instance.url, monkeypatch)
            made.register(ORDER)
            yield found
        finally:
            instance.end()


LOOKS = (
    ("cases",),
    ("cases", "--state", "running", "--spec", "order"),
    ("work", "list"),
    ("work", "list", "--state", "started"),
    ("work", "list", "--by", "ann"),
)


def test_a_case_goes_its_way(both: Both) -> None:
    """At every step the lists and the case look the same from both sides, for people and as JSON."""
    case = both.engine.create_case("order", {"n": 1}, start=True)
    part = case.id[-8:]
    steps: tuple[tuple[str, ...], ...] = (
        ("work", "allocate", f"{part}/check", "--to", "ann"),
        ("work", "offer", part, "check"),
        ("work", "allocate", f"{part}/1", "--to", "bob"),
        ("work", "delegate", part, "1", "--to", "ann"),
        ("work", "start", f"{part}/1"),
        ("work", "suspend", f"{part}/1"),
        ("work", "resume", f"{part}/1"),
        ("suspend", part),
        ("resume", part),
        ("work", "complete", f"{part}/1", "--data", '{"checked": true}'),
        ("event", part, "payment", "--data", '{"paid": 7}'),
        ("work", "skip", f"{part}/ship"),
    )
    for step in steps:
        told, seen = json.loads(both.ask(*step, "--json")), json.loads(both.open("show", part, "--json"))
        assert seen == {**seen, **{name: told[name] for name in told.keys() & seen.keys()}}
        for look in (*LOOKS, ("show", part), ("show", part, "--last", "2")):
            assert both.open(*look) == both.ask(*look)
            assert both.open(*look, "--json") == both.ask(*look, "--json")

    assert ("completed", {"n": 1, "checked": True, "paid": 7}) == (case.state, case.data)


def test_what_a_command_says(both: Both) -> None:
    """A command tells the same of what it did, whichever side it was given to."""
    told: list[list[str]] = []
    for ask in (both.open, both.ask):
        case = both.engine.create_case("order", {}, start=True)
        said = [
            ask("work", "complete", f"{case.id}/check", "--data", '{"a": [1]}'),
            ask("event", case.id, "payment"),
            ask("suspend", case.id),
            ask("resume", case.id),
            ask("cancel", case.id),
            ask("cancel", case.id, code=4),
        ]
        told.append(
            [
                re.sub(r"\d{4}-\d\d-\d\d [\d:.+]+", "TIME", each.replace(case.id, "ID").replace(case.id[-8:], "ID"))
                for each in said
            ]
        )

    assert told[0] == told[1]
    assert "check" in told[1][0] and "state      cancelled" in told[1][4]


def test_failed_work_is_resumed(both: Both) -> None:
    """`resume` starts a case that is only created, gives failed work another attempt, and refuses where there is nothing to resume."""
    case = both.engine.create_case("order")
    both.ask("resume", case.id)
    item = case.work_items()[0]
    item.start(by="ann")
    both.ask("work", "fail", f"{case.id}/{item.number}", code=1)
    assert "failed" == case.state

    both.ask("resume", case.id)

    assert ("running", "started") == (case.state, case.work_items()[0].state)
    assert "nothing in it has failed" in both.refused("resume", case.id, code=4)


def test_dead_letters_go_their_way(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    """Letters of work and messages are listed, shown, replayed and discarded alike, in JSON and for people, however many pages they fill."""
    monkeypatch.setattr("knhk.cli.remote_letters.LONGEST_PAGE", 2)
    letters = dead(both.engine, 5)
    lists = ((), ("--topic", "labels"), ("--error", "Jam"), ("--kind", "message"), ("--spec", "labels", "--limit", "1"))
    for narrowed in lists:
        look = ("dead-letters", "list", *narrowed)
        assert both.open(*look) == both.ask(*look)
        assert both.open(*look, "--json") == both.ask(*look, "--json")
    (message,) = both.engine.dead_letters.list(kind="message")
    for name in (letters[0], letters[0][20:], message.id):
        look = ("dead-letters", "show", name)
        assert both.open(*look) == both.ask(*look)
        assert both.open(*look, "--json") == both.ask(*look, "--json")
    assert json.loads(both.ask("dead-letters", "show", letters[0], "--json"))["data"] == {"sheet": 0}

    assert "replayed 1\n" == both.ask("dead-letters", "replay", letters[0])
    assert {"replayed": 3} == json.loads(both.ask("dead-letters", "replay", "--all", "--error", "Jam", "--json"))
    discarded = both.ask("dead-letters", "discard", letters[4], "--reason", "torn")
    assert f"discarded {letters[4]}; the case is deadlocked\n" == discarded
    history = both.engine.case(letters[4].rpartition(":")[0]).history()
    assert {"by": "ann", "reason": "torn"} == dict(next(e for e in history if e.kind.value == "item_discarded").details)
    assert [message] == both.engine.dead_letters.list()
    assert f"discarded {message.id}\n" == both.ask("dead-letters", "discard", message.id, "--reason", "old")
    assert "no dead letters" in both.refused("dead-letters", "list", code=0)
    assert "it is offered" in both.refused("dead-letters", "replay", letters[0], code=4)


def test_letters_that_others_take(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    """`replay --all` counts what it has replayed: what somebody else took meanwhile is none of it."""
    first, _ = dead(both.engine, 2)
    asked = both.engine.dead_letters.list(kind="work")
    both.engine.dead_letters.replay(first)
    monkeypatch.setattr(both.engine.dead_letters, "list", lambda **_: asked)

    assert "replayed 1\n" == both.ask("dead-letters", "replay", "--all", "--kind", "work")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("dead-letters", "replay", "CASE:1", "--by", "bob"), 2, "takes the name from the token"),
        (("dead-letters", "discard", "CASE:1", "--by", "bob", "--reason", "r"), 2, "takes the name from the token"),
        (("dead-letters", "replay", "--all", "--by", "bob"), 2, "takes the name from the token"),
        (("dead-letters", "show", "CASE:1"), 3, "has not failed for good"),
        (("show", "nobody"), 3, "has 'nobody' in its id"),
        (("work", "start", "CASE/9"), 3, "open now: 1 check"),
        (("work", "start", "CASE/1", "--by", "bob"), 2, "takes the name from the token"),
        (("work", "offer", "CASE/1", "--to", "role:x"), 2, "to all who may do it"),
        (("work", "list", "--participant", "bob"), 2, "a token of bob's"),
        (("cancel", "CASE", "--no-compensation"), 2, "no such command"),
        (("event", "CASE", "nothing"), 4, "it listens to payment"),
        (("resume", "CASE", "--handlers", "json"), 2, "neither HANDLERS"),
        (("cases", "--db", "store"), 2, "cannot stand together"),
        (("show", ""), 2, "names no case"),
    ],
)
def test_what_a_service_does_not_do(both: Both, arguments: tuple[str, ...], code: int, said: str) -> None:
    """What is only a store's is refused with what to do instead, before anything happens."""
    case = both.engine.create_case("order", start=True)
    before = case.history()

    assert said in both.refused(*(each.replace("CASE", case.id) for each in arguments), code=code)
    assert before == case.history()


def test_handlers_and_people_are_of_a_store(both: Both, tmp_path: Path) -> None:
    """A service has handlers and people of its own."""
    (tmp_path / "handlers_of_nobody.py").write_text("HANDLERS = {'a': len}\n")
    (tmp_path / "people.json").write_text("{}")

    assert "does automatic work by itself" in both.refused(
        "resume", "a", "--handlers", str(tmp_path / "handlers_of_nobody.py")
    )
    assert "knows who asks" in both.refused("cases", "--org", str(tmp_path / "people.json"))


def test_the_place_is_what_is_typed(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable stands back behind what is typed; without either the command says what is missing."""

    def run(arguments: list[str]) -> Result:
        return CliRunner().invoke(app.knhk, arguments)

    neither = run(["cases"])
    monkeypatch.setenv("KNHK_DB", "elsewhere")
    typed = run(["cases", "--server", both.url])
    monkeypatch.setenv("KNHK_SERVER", both.url)
    unclear = run(["cases"])
    store = run(["cases", "--db", "store"])
    monkeypatch.delenv("KNHK_DB")
    variable = run(["cases"])

    assert (2, places._NEITHER) == (neither.exit_code, neither.stderr.strip().removeprefix("Error: "))
    assert [0, 2, 0, 0] == [each.exit_code for each in (typed, unclear, store, variable)]


def test_a_page_is_no_end(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists go on to the last page."""
    monkeypatch.setattr("knhk.cli.remote_session.LONGEST_PAGE", 2)
    cases = [both.engine.create_case("order", start=True).id for _ in range(5)]

    assert cases == [json.loads(line)["case"] for line in both.ask("cases", "--json").splitlines()]
    assert cases == [json.loads(line)["case"] for line in both.ask("work", "list", "--json").splitlines()]
    assert both.open("show", cases[0]) == both.ask("show", cases[0])
